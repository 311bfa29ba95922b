"""Large arrays in HDF5: chunks for reading one time step at a time, compressed quickly for HDF5's own filters.

HDF5 would run zlib over everything. Of a float64 field only the first two or three bytes of each number compress; the
others are noise. Here the byte planes that HDF5's shuffle filter lays out are looked at one by one, and those that do
not shrink are stored. What comes out is an ordinary zlib stream (RFC 1950, with blocks of both kinds, RFC 1951 §3.2):
every HDF5 reads it, and checks its checksum.
"""

from __future__ import annotations

import math
import struct
import zlib
from itertools import product
from typing import Any

import h5py
import numpy as np

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
    """Shuffle and compress C-contiguous numbers as HDF5's shuffle and gzip filters would, in a fraction of the time."""
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
