"""Arrays, tables and records in HDF5 as netCDF readers want them: dimension scales, long names and units."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import h5py
import numpy as np

from kanpinn.io.atomic import jsonable

CHUNK_BYTES = 1 << 20
"""Largest size of a chunk: the size of the chunk cache that HDF5 1.x gives a dataset."""

_SAMPLE = 1024
_WORTH = 0.9
_HEADER = b"\x78\x01"  # deflate, window of 32 KiB, fastest level


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Choose chunks of at most `CHUNK_BYTES`: whole last axes, as many as fit, and equal parts of the one before."""
    room = CHUNK_BYTES // itemsize
    chunk: list[int] = []
    for length in reversed(shape):
        parts = math.ceil(length / max(room, 1))
        chunk.append(math.ceil(length / parts))
        room //= length
    return tuple(reversed(chunk))


def deflated(values: np.ndarray) -> bytes:
    """Shuffle and compress C-contiguous numbers as HDF5's shuffle and gzip filters would, in a fraction of the time.

    HDF5 would run zlib over everything. Of a float64 field only the first two or three bytes of each number compress;
    the others are noise. Here the byte planes that HDF5's shuffle filter lays out are looked at one by one, and those
    that do not shrink are stored. The result is an ordinary zlib stream (RFC 1950, with blocks of both kinds, RFC 1951
    §3.2): every HDF5 reads it, and checks its checksum.
    """
    planes = np.ascontiguousarray(values.reshape(-1).view(np.uint8).reshape(-1, values.itemsize).T)
    parts = [_HEADER]
    for k, plane in enumerate(planes):
        last = k + 1 == len(planes)
        deflate = _compressor(plane)
        # A full flush ends at a whole byte and forgets what came before: the next stream can follow.
        parts += [deflate.compress(plane), deflate.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)]
    return b"".join([*parts, struct.pack(">I", zlib.adler32(planes.data))])


def _compressor(plane: np.ndarray) -> Any:
    """Compressor of a raw deflate stream, chosen by samples of the bytes: stored, by run lengths, or by matches."""
    starts = np.linspace(0, max(len(plane) - _SAMPLE, 0), 4).astype(int)
    sample = np.concatenate([plane[start : start + _SAMPLE] for start in starts])

    def start(strategy: int, level: int = 1) -> Any:
        return zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=strategy)

    def size(strategy: int) -> int:
        deflate = start(strategy)
        return len(deflate.compress(sample)) + len(deflate.flush())

    best = min((zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY), key=size)
    return start(best) if size(best) < _WORTH * len(sample) else start(best, level=0)


def write_compressed(group: h5py.Group, name: str, array: np.ndarray) -> h5py.Dataset:
    """Write an array with values in compressed chunks; beside it in memory there is never more than a few of them."""
    chunk = chunk_shape(array.shape, array.itemsize)
    dataset = group.create_dataset(
        name, array.shape, array.dtype, chunks=chunk, compression="gzip", compression_opts=1, shuffle=True
    )
    starts = (range(0, length, step) for length, step in zip(array.shape, chunk, strict=True))
    for start in product(*starts):
        part = array[tuple(slice(a, a + step) for a, step in zip(start, chunk, strict=True))]
        if part.shape != chunk:  # the last one along an axis is stored whole, too
            whole = np.zeros(chunk, array.dtype)
            whole[tuple(slice(length) for length in part.shape)] = part
            part = whole
        dataset.id.write_direct_chunk(start, deflated(np.ascontiguousarray(part)))
    return dataset


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
    array, name = np.asarray(values), _without_nul(name)
    kind: dict[str, Any] = {}
    if array.dtype.kind in "OSUT":
        array = np.array([_without_nul(x) for x in array.flat], object).reshape(array.shape)
        kind = {"dtype": h5py.string_dtype()}
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
        dataset.attrs["long_name"], dataset.attrs["units"] = map(_without_nul, label)
    return dataset


def _without_nul(text: Any) -> Any:
    """A text without NUL, at which HDF5 would end it, and which h5py refuses; any other value as it is."""
    return text.replace("\0", "\ufffd") if isinstance(text, str) else text


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
                group.attrs[_without_nul(name)] = int(value) if isinstance(value, bool) else _without_nul(value)


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
