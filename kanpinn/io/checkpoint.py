"""Checkpoints: arrays bit for bit and a JSON record beside them, in HDF5; reading one never runs code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from kanpinn.io.arrays import group_of
from kanpinn.io.atomic import jsonable
from kanpinn.io.hdf5 import existing_file, new_file

SCHEMA = "kanpinn-checkpoint"
META = "meta"
LARGEST_META = 64 * 2**20
"""Bytes of JSON that are read; a solve of ten thousand visits of levels needs a tenth."""


def write_checkpoint(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint in one atomic step, with a checksum over all it holds.

    The arrays are numbers or booleans of any shape, by slash paths such as "optimizer/damping"; the rest is anything
    JSON can hold, and NaN and infinities, which stay as they are. Raises TypeError for anything else, ValueError if
    the JSON is larger than is read again.
    """
    text = json.dumps(jsonable(meta, finite=False), ensure_ascii=False).encode()
    if len(text) > LARGEST_META:
        raise ValueError(f"the record has {len(text)} bytes of JSON; at most {LARGEST_META} are read again")
    stored = {name: np.asarray(values) for name, values in arrays.items()}
    for name, array in stored.items():
        if array.dtype.kind not in "biufc":
            raise TypeError(f"checkpoint array '{name}' has dtype {array.dtype}: expected numbers or booleans")
    with new_file(path, SCHEMA) as file:
        file.attrs["checksum"] = _checksum(text, stored)
        file.create_dataset(META, data=np.frombuffer(text, dtype=np.uint8))
        group = file.create_group("arrays")
        for name, array in stored.items():
            group.create_dataset(name, data=array)


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return a checkpoint's arrays by name and its record; no more memory than the file's size is asked for.

    Raises:
        UserError: If the file is missing, not HDF5, not a checkpoint, truncated or damaged.
    """
    with existing_file(path, SCHEMA) as file:
        return checkpoint_of(file)


def checkpoint_of(file: h5py.File) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the same of an open file; raises one of `FAULTS` where it is damaged."""
    arrays: dict[str, np.ndarray] = {}
    left = os.path.getsize(file.filename)

    def collect(name: str, item: h5py.Dataset | h5py.Group) -> None:
        nonlocal left
        if isinstance(item, h5py.Dataset):
            left -= _plain_size(item)
            if left < 0:
                raise ValueError("its arrays are larger than the file")
            values = np.empty(item.shape, item.dtype)
            if item.size:
                item.read_direct(values)
            arrays[name] = values

    text = _meta_text(file)
    group_of(file, "arrays").visititems(collect)
    if file.attrs.get("checksum") != _checksum(text, arrays):
        raise ValueError("its checksum does not fit what it holds")
    return arrays, _parsed(text)


def read_meta(file: h5py.File) -> dict[str, Any]:
    """The record of an open checkpoint alone; raises ValueError if it is damaged."""
    return _parsed(_meta_text(file))


def _plain_size(item: h5py.Dataset) -> int:
    """Bytes of an array that lies in the file as it is; raises ValueError for any other."""
    shape = item.shape
    plain = item.dtype.kind in "biufc" and item.chunks is None and not item.is_virtual and not item.external
    if shape is None or not plain:
        raise ValueError(f"'{item.name}' is not a plain array")
    size = item.dtype.itemsize
    for length in shape:  # in whole numbers of Python, which do not overflow
        size *= int(length)
    if item.id.get_storage_size() != size:
        raise ValueError(f"'{item.name}' is not all there")
    return size


def _meta_text(file: h5py.File) -> bytes:
    item = file[META]
    if not isinstance(item, h5py.Dataset) or item.dtype != np.uint8 or item.ndim != 1:
        raise ValueError(f"'{META}' is not a text")
    if not _plain_size(item) <= LARGEST_META:
        raise ValueError(f"'{META}' is too long")
    return item[...].tobytes()


def _parsed(text: bytes) -> dict[str, Any]:
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError(f"'{META}' is not a JSON object")
    return record


def _checksum(text: bytes, arrays: Mapping[str, np.ndarray]) -> str:
    """BLAKE2b of the record and of every array with its name, dtype and shape."""
    digest = hashlib.blake2b(text, digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
