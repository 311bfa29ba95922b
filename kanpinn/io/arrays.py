"""Arrays, tables and records in HDF5 as netCDF readers want them: dimension scales, long names and units."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from kanpinn.io.atomic import jsonable
from kanpinn.io.chunks import write_compressed

# netCDF's way of naming a dimension that has no coordinate values; readers of netCDF look for this very text.
_ONLY_A_DIMENSION = "This is a netCDF dimension but not a netCDF variable."
_COMPRESS_FROM_BYTES = 8192
_MOST_LETTERS = 16 * 2**20


def group_of(parent: h5py.Group, name: str) -> h5py.Group:
    """Take a group that must be there; raises KeyError if it is missing or not a group."""
    group = parent.get(name)
    if not isinstance(group, h5py.Group):
        raise KeyError(f"no group '{name}'")
    return group


def dataset_of(parent: h5py.Group, name: str) -> h5py.Dataset:
    """Take a dataset that must be there; raises KeyError if it is missing or not a dataset."""
    dataset = parent.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise KeyError(f"no dataset '{name}'")
    return dataset


def write_array(
    group: h5py.Group,
    name: str,
    values: Any,
    scales: Sequence[h5py.Dataset] = (),
    label: tuple[str, str] | None = None,
) -> h5py.Dataset:
    """Write one array with what netCDF readers need: a scale on each axis, or none, `long_name`, `units`.

    The values are numbers, booleans or strings of any shape; slashes in the name make groups. Raises ValueError if a
    scale's length differs from the axis it is meant for.
    """
    array = np.asarray(values)
    kind: dict[str, Any] = {}
    if array.dtype.kind in "OSUT":
        array, kind = array.astype(object), {"dtype": h5py.string_dtype()}
    is_boolean = array.dtype.kind == "b"
    array = array.astype(np.int8) if is_boolean else array
    if array.nbytes >= _COMPRESS_FROM_BYTES and not kind:
        dataset = write_compressed(group, name, array)
    else:
        dataset = group.create_dataset(name, data=array, **kind)
    if is_boolean:  # netCDF has no booleans; this is how xarray marks them.
        dataset.attrs["dtype"] = "bool"
    if scales and tuple(len(scale) for scale in scales) != array.shape:
        raise ValueError(f"{name}: shape {array.shape}, but its axes have {[len(scale) for scale in scales]} points")
    for axis, scale in enumerate(scales):
        dataset.dims[axis].attach_scale(scale)
    if label is not None:
        dataset.attrs["long_name"], dataset.attrs["units"] = label
    return dataset


def read_array(dataset: h5py.Dataset) -> np.ndarray:
    """Read an array that `write_array` wrote; strings come as an array of str.

    Raises:
        ValueError: If it is a dimension without values, or its texts are longer together than any of ours.
    """
    if is_only_dimension(dataset):
        raise ValueError(f"'{dataset.name}' is a dimension without values")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.array(_texts(dataset), dtype=str).reshape(dataset.shape)
    array = np.asarray(dataset[...])
    return array.astype(bool) if dataset.attrs.get("dtype") == "bool" else array


def _texts(dataset: h5py.Dataset) -> list[str]:
    """The texts of a dataset one by one: all of them may point to the same long text in the file."""
    texts, room = [], _MOST_LETTERS
    for index in np.ndindex(dataset.shape):
        texts.append(str(dataset.asstr()[index]))
        room -= 64 + len(texts[-1])
        # An array of text gives every entry the room of the longest.
        if room < 0 or len(texts[-1]) * int(dataset.size or 0) > _MOST_LETTERS:
            raise ValueError(f"'{dataset.name}' holds more text than a run writes")
    return texts


def dimension(group: h5py.Group, name: str, size: int) -> h5py.Dataset:
    """Add a dimension of a length without coordinate values; the scale takes no room on disk."""
    scale = group.create_dataset(name, shape=(size,), dtype=">f4")
    scale.make_scale(f"{_ONLY_A_DIMENSION}{size:10d}")
    return scale


def is_only_dimension(dataset: h5py.Dataset) -> bool:
    """Say whether a dataset is a dimension without values, as `dimension` writes it."""
    name = dataset.attrs.get("NAME", b"")
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return text.startswith(_ONLY_A_DIMENSION)


def write_record(group: h5py.Group, record: Any) -> None:
    """Keep a JSON record in a group's attributes: whole as `json`, and each plain value under its own name.

    NaN and infinities become null.
    """
    plain = jsonable(record)
    group.attrs["json"] = json.dumps(plain, allow_nan=False, ensure_ascii=False)
    if isinstance(plain, dict):
        for name, value in flatten(plain).items():
            if isinstance(value, str | int | float):
                group.attrs[name] = int(value) if isinstance(value, bool) else value


def read_record(group: h5py.Group) -> Any:
    """Read the record that `write_record` wrote."""
    return json.loads(str(group.attrs["json"]))


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Join the keys of nested mappings by underscores: `{"a": {"b": 1}}` becomes `{"a_b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}_{name}": item for name, item in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def table_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn records such as the levels in metrics.json into columns of plain values, by flattened key.

    None stands where a record lacks a key; a mapping that is null in some records has columns for its keys only.
    """
    rows = [flatten(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    nested = {key for record in records for key, value in record.items() if isinstance(value, Mapping)}
    return {name: [row.get(name) for row in rows] for name in names if name not in nested}
