"""Checkpoints: arrays bit for bit and a JSON record beside them, in HDF5; reading one never runs code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from kanpinn.io.atomic import jsonable
from kanpinn.io.hdf5 import existing_file, group_of, is_only_dimension, new_file

SCHEMA = "kanpinn-checkpoint"


def write_checkpoint(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint in one atomic step.

    Args:
        path: The file.
        arrays: Numbers or booleans of any shape, by slash paths such as "optimizer/damping".
        meta: Whatever else restores the run; anything JSON can hold, and NaN and infinities, which stay as they are.

    Raises:
        TypeError: If an array is not of numbers or booleans, or something in `meta` has no JSON form.
    """
    with new_file(path, SCHEMA) as file:
        file.attrs["meta"] = json.dumps(jsonable(meta, finite=False), ensure_ascii=False)
        group = file.create_group("arrays")
        for name, values in arrays.items():
            array = np.asarray(values)
            if array.dtype.kind not in "biufc":
                raise TypeError(f"checkpoint array '{name}' has dtype {array.dtype}: expected numbers or booleans")
            group.create_dataset(name, data=array)


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a checkpoint.

    Args:
        path: The file.

    Returns:
        The arrays by name, with the dtype and shape they were written with, and the record.

    Raises:
        UserError: If the file is missing, not HDF5, not a checkpoint, truncated or damaged.
    """
    arrays: dict[str, np.ndarray] = {}

    def collect(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind not in "biufc" or is_only_dimension(item):
                raise ValueError(f"'{name}' has dtype {item.dtype}, or no values")
            values = np.empty(item.shape, item.dtype)
            if item.size:
                item.read_direct(values)
            arrays[name] = values

    with existing_file(path, SCHEMA) as file:
        group_of(file, "arrays").visititems(collect)
        return arrays, json.loads(str(file.attrs["meta"]))
