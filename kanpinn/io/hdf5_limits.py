"""Declarations of an HDF5 file, checked before any of it is read: links, types, filters and sizes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

FREE_BYTES = 64 * 2**20
"""Bytes that a file's datasets may declare together whatever the file's size: a small file of zeros is no attack."""
RATIO = 16
"""Bytes that they may declare beyond that, per byte of the file. Fields of a solve compress less than 5 to 1."""
MAX_OBJECTS, MAX_DEPTH, MAX_ATTRIBUTES, MAX_CHUNKS = 20_000, 32, 1_000, 1_000_000
MAX_CHUNK_BYTES = 2**24
MAX_ATTRIBUTE_BYTES = 2**20
SMALL_CHUNK = 2**16
"""Deflate expands at most 1032 to 1, so that a stored chunk up to this size cannot take more than 65 MiB."""
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
_OF_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")


def check(file: h5py.File, size: int, never_read: Callable[[h5py.Dataset], bool]) -> None:
    """Check everything that a file of so many bytes declares; reads structure only, no values.

    Datasets without stored values that are never read may declare any size.

    Raises:     ValueError: If the file leads out of itself (external or soft links, external or virtual storage),
    nests without         end, holds objects that are not numbers or text, needs filters that HDF5 does not bring
    along, or declares         sizes out of all proportion to its own.
    """
    room = FREE_BYTES + RATIO * size
    for name, item in _objects(file):
        _check_attributes(name, item)
        if isinstance(item, h5py.Dataset):
            declared = _check_dataset(name, item)
            room -= 0 if item.id.get_storage_size() == 0 and never_read(item) else declared
            if room < 0:
                raise ValueError(f"'{name}' declares {declared:,} bytes in a file of {size:,}")


def _objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every group and dataset by its path, each once; raises ValueError for a link that is none of ours."""
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    groups, datasets = {_place(file)}, set()
    yield "/", file
    while waiting:
        path, group = waiting.pop()
        for raw in group.id:
            name = f"{path}/{raw.decode(errors='replace')}"
            if not isinstance(group.get(raw, getlink=True), h5py.HardLink):
                raise ValueError(f"'{name}' is a link by name; only hard links are read")
            item = group[raw]
            if not isinstance(item, h5py.Group | h5py.Dataset):
                raise ValueError(f"'{name}' is neither a group nor a dataset")
            place = _place(item)
            if isinstance(item, h5py.Group):
                if place in groups or name.count("/") > MAX_DEPTH:
                    raise ValueError(f"'{name}' is a group within itself, or in more than {MAX_DEPTH} others")
                groups.add(place)
                waiting.append((name, item))
            elif place in datasets:
                continue  # one dataset under two names
            datasets.add(place)
            if len(groups) + len(datasets) > MAX_OBJECTS:
                raise ValueError(f"more than {MAX_OBJECTS} groups and datasets")
            yield name, item


def _place(item: h5py.Group | h5py.Dataset) -> tuple[int, int]:
    """The address of an object in its file, the same under all its names."""
    return h5py.h5g.get_objinfo(item.id).objno


def _check_attributes(name: str, item: h5py.Group | h5py.Dataset) -> None:
    """Check the type and size of every attribute of an object."""
    count = h5py.h5a.get_num_attrs(item.id)
    if count > MAX_ATTRIBUTES:
        raise ValueError(f"'{name}' has {count} attributes")
    for k in range(count):
        attribute = h5py.h5a.open(item.id, index=k)
        label = attribute.name.decode(errors="replace")
        if attribute.get_storage_size() > MAX_ATTRIBUTE_BYTES:
            raise ValueError(f"attribute '{label}' of '{name}' declares {attribute.get_storage_size():,} bytes")
        if label not in _OF_SCALES and not _plain(attribute.dtype):
            raise ValueError(f"attribute '{label}' of '{name}' is neither numbers nor text")
        if (
            h5py.check_string_dtype(attribute.dtype) is not None
            and attribute.get_space().get_simple_extent_npoints() > 1
        ):
            raise ValueError(f"attribute '{label}' of '{name}' is more than one text")


def _plain(dtype: np.dtype) -> bool:
    """Say whether a type is numbers, booleans or text: no references, pointers to sequences, records or raw bytes."""
    return dtype.kind in "biufcS" or h5py.check_string_dtype(dtype) is not None


def _check_dataset(name: str, dataset: h5py.Dataset) -> int:
    """Check the type, storage and filters of a dataset; returns the bytes it takes when read."""
    if not _plain(dataset.dtype):
        raise ValueError(f"'{name}' has type {dataset.dtype}; only numbers and text are read")
    if dataset.id.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        return 0
    layout = dataset.id.get_create_plist()
    if layout.get_external_count():
        raise ValueError(f"'{name}' takes its values from another file")
    if layout.get_layout() == h5py.h5d.VIRTUAL:
        _check_sources(name, dataset, layout)
    pipeline = [layout.get_filter(k)[0] for k in range(layout.get_nfilters())]
    if not set(pipeline) <= set(FILTERS) or len(set(pipeline)) < len(pipeline):
        raise ValueError(f"'{name}' is packed in a way that kanpinn does not write (filters {pipeline})")
    declared = math.prod(map(int, dataset.shape)) * dataset.dtype.itemsize
    if dataset.chunks is not None and dataset.id.get_storage_size():
        _check_chunks(name, dataset, pipeline)
    return declared


def _check_sources(name: str, dataset: h5py.Dataset, layout: Any) -> None:
    """Check that a view of other datasets is one of plain datasets in the same file."""
    for k in range(layout.get_virtual_count()):
        source = layout.get_virtual_dsetname(k)
        # A name with % stands for many; a view of a view may be one of itself.
        found = dataset.file.get(source) if layout.get_virtual_filename(k) == "." and "%" not in source else None
        if not isinstance(found, h5py.Dataset) or found.is_virtual:
            raise ValueError(f"'{name}' takes its values from '{source}', which is no dataset of this file")


def _check_chunks(name: str, dataset: h5py.Dataset, pipeline: list[int]) -> None:
    """Check that every chunk has a bounded size, packed as well as unpacked."""
    nominal = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    count = dataset.id.get_num_chunks()
    if nominal > MAX_CHUNK_BYTES or count > MAX_CHUNKS:
        raise ValueError(f"'{name}' is stored in {count} chunks of {nominal:,} bytes")
    large: list[tuple[int, ...]] = []

    def collect(info: h5py.h5d.StoreInfo) -> None:
        if info.size > SMALL_CHUNK:
            large.append(info.chunk_offset)

    dataset.id.chunk_iter(collect)
    if h5py.h5z.FILTER_DEFLATE not in pipeline:
        return
    for offset in large:
        # HDF5 would unpack the chunk to whatever length it has before comparing it with the one declared.
        mask, packed = dataset.id.read_direct_chunk(offset)
        if mask >> pipeline.index(h5py.h5z.FILTER_DEFLATE) & 1:
            continue  # this chunk is stored as it is
        try:
            length = len(zlib.decompressobj().decompress(packed, nominal + 5))
        except zlib.error as error:
            raise ValueError(f"a chunk of '{name}' cannot be unpacked: {error}") from None
        if length > nominal + 4:
            raise ValueError(f"a chunk of '{name}' unpacks to more than the {nominal:,} bytes declared")
