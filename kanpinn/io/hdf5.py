"""HDF5 files of ours: put in place whole; opened only after their schema is checked."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import io
import json
import mmap
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kanpinn.errors import UserError
from kanpinn.io import hdf5_limits
from kanpinn.io.atomic import atomic_path, jsonable
from kanpinn.io.chunks import write_compressed

SCHEMA_VERSION = 1
SCHEMAS = ("kanpinn-solution", "kanpinn-checkpoint", "kanpinn-sweep")
# netCDF's way of naming a dimension that has no coordinate values; readers of netCDF look for this very text.
_ONLY_A_DIMENSION = "This is a netCDF dimension but not a netCDF variable."
_COMPRESS_FROM_BYTES = 8192
_MOST_LETTERS = 16 * 2**20
# The attribute `file_checksum` as it lies in the file; found by its bytes, before the HDF5 library reads any of them.
_SEAL = re.compile(rb"kanpinn-sha256:([0-9a-f]{64})")
_UNSEALED = b"kanpinn-sha256:" + b"0" * 64


@functools.cache
def _version(package: str) -> str:
    """The installed version of a package, without importing it (torch alone takes seconds)."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, str]:
    """The versions of what numbers in a file depend on, by package."""
    packages = ("kanpinn", "torch", "numpy", "scipy", "h5py")
    return {**{name: _version(name) for name in packages}, "python": platform.python_version()}


@contextmanager
def new_file(path: str | os.PathLike[str], schema: str) -> Iterator[h5py.File]:
    """Give an HDF5 file that appears at `path`, in one atomic step, when the block ends without an exception.

    The HDF5 library never learns of a failed write: after one (a full disk) it may abort the process when its handle is
    closed. It writes through `_Unfailing`, which keeps the exception until the file is closed.

    Args:
        path: Where the file shall appear.
        schema: The file's schema, one of `SCHEMAS`.

    Yields:
        The open file, with schema, versions and creation time already in its attributes.

    Raises:
        OSError: If the file could not be written.
    """
    with atomic_path(path) as temporary, temporary.open("rb+", buffering=0) as raw:
        below = _Unfailing(raw)
        try:
            with h5py.File(below, "w") as file:
                file.attrs["schema"] = schema
                file.attrs["schema_version"] = SCHEMA_VERSION
                file.attrs["file_checksum"] = _UNSEALED.decode()
                for package in ("kanpinn", "torch", "numpy", "h5py"):
                    file.attrs[f"{package}_version"] = _version(package)
                file.attrs["python_version"] = platform.python_version()
                file.attrs["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                yield file
        finally:
            if below.failure is not None:
                raise below.failure
        seal(temporary)


class _Unfailing:
    """A file that, to the HDF5 library, never fails: what goes wrong is kept, and nothing is written after it.

    Attributes:
        failure: The first exception, None while there was none.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._at = 0
        self.failure: BaseException | None = None

    def _attempt(self, action: Callable[[], Any]) -> None:
        if self.failure is None:
            try:
                action()
            except BaseException as error:  # HDF5 cannot pass on a KeyboardInterrupt either
                self.failure = error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may lie behind the end."""
        self._at = offset if whence == os.SEEK_SET else os.fstat(self._raw.fileno()).st_size + offset
        return self._at

    def tell(self) -> int:
        """The place reached."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer, with zeros behind the end of the file."""
        found = bytearray()

        def read() -> None:
            self._raw.seek(self._at)
            while len(found) < len(buffer) and (more := self._raw.read(len(buffer) - len(found))):
                found.extend(more)

        self._attempt(read)
        buffer[:] = bytes(found).ljust(len(buffer), b"\0")
        self._at += len(buffer)
        return len(buffer)

    def read(self, size: int) -> bytes:
        """As many bytes, zeros behind the end of the file."""
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def write(self, content: memoryview) -> int:
        """Write all of the content, or keep why that failed."""

        def write() -> None:
            self._raw.seek(self._at)
            done = 0
            while done < len(content):
                done += self._raw.write(content[done:]) or 0

        self._attempt(write)
        self._at += len(content)
        return len(content)

    def truncate(self, size: int) -> int:
        """Cut or extend the file."""
        self._attempt(lambda: self._raw.truncate(size))
        return size

    def flush(self) -> None:
        """Nothing to do: nothing is held back."""


def seal(path: Path) -> None:
    """Write its checksum into a file of ours: SHA-256 of all its bytes, those of the checksum's digits taken as zeros.

    Args:
        path: The file, with a checksum in it or with the zeros where it shall be.

    Raises:
        ValueError: If there is no place for it.
    """
    with path.open("rb+", buffering=0) as stream:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place, _, digest = _checksums(content)
        if place is None:
            raise ValueError("no place for a checksum")
        stream.seek(place)
        stream.write(digest.encode())


def _checksums(content: mmap.mmap) -> tuple[int | None, str, str]:
    """Where in a file the digits of its checksum are (None: there are none), what they say and what they should."""
    found = _SEAL.search(content)
    if found is None:
        return None, "", ""
    (start, end), stored = found.span(1), found.group(1).decode()
    del found  # it holds the map open
    with memoryview(content) as view, view[:start] as head, view[end:] as tail:
        digest = hashlib.sha256(head)
        digest.update(b"0" * (end - start))
        digest.update(tail)
    return start, stored, digest.hexdigest()


def _verify(path: Path) -> bool:
    """Compare a file's bytes with its checksum.

    Returns:
        Whether there is a checksum in it.

    Raises:
        UserError: If it does not agree.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, stored, digest = _checksums(content)
    if place is not None and stored != digest:
        raise UserError(f"{path}: is truncated, damaged or changed since kanpinn wrote it (its checksum differs).")
    return place is not None


def _open(path: Path, changed: bool) -> tuple[h5py.File, bool]:
    """Open an HDF5 file for reading; raises a UserError that says why that cannot be done.

    Returns:
        The file, and whether its checksum has been compared with its bytes.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file.")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected an HDF5 file.")
    if not path.is_file():
        raise UserError(f"{path}: is not a plain file; expected an HDF5 file.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: cannot be read (permission denied).")
    if not h5py.is_hdf5(path):
        raise UserError(f"{path}: is not an HDF5 file.")
    try:
        verified = changed or _verify(path)
        # Our files are never changed in place, so that no lock is needed; another program's lock shall not stop us.
        return h5py.File(path, "r", locking=False), verified
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())[:160]
        what = "is truncated" if "truncated" in reason else f"cannot be opened as HDF5 ({reason})"
        raise UserError(f"{path}: {what}.") from error


@contextmanager
def existing_file(
    path: str | os.PathLike[str], schema: str | None = None, *, changed: bool = False
) -> Iterator[h5py.File]:
    """Open a file of ours for reading.

    Args:
        path: The file.
        schema: The schema it must have; None for any of ours.
        changed: Whether it may have been changed since it was written, for those who ask what is wrong with it.

    Yields:
        The open file.

    Raises:
        UserError: If the file is missing, not HDF5, not ours, newer than this program, truncated, damaged or changed
            since it was written, or declares what no file of ours does.
    """
    path = Path(path)
    handle, verified = _open(path, changed)
    with handle as file:
        try:
            hdf5_limits.check(file, path.stat().st_size, is_only_dimension)
            found, version = file.attrs.get("schema"), file.attrs.get("schema_version", 0)
            expected = (schema,) if schema else SCHEMAS
            if not isinstance(found, str) or found not in expected:
                has = f"schema '{found}'" if isinstance(found, str) else "no kanpinn schema"
                raise UserError(f"{path}: HDF5 file with {has}; expected {' or '.join(expected)}.")
            if int(version) > SCHEMA_VERSION:
                raise UserError(
                    f"{path}: schema_version {version} is newer than this kanpinn reads ({SCHEMA_VERSION}); update it."
                )
            if not verified:
                raise UserError(f"{path}: has no checksum; it is damaged, or kanpinn did not write it.")
            yield file
        except UserError:
            raise
        except (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path}: is a damaged {schema or 'kanpinn'} file ({reason}).") from error


def group_of(parent: h5py.Group, name: str) -> h5py.Group:
    """Take a group that must be there.

    Args:
        parent: Where it lies.
        name: Its name.

    Returns:
        The group.

    Raises:
        KeyError: If it is missing or not a group.
    """
    group = parent.get(name)
    if not isinstance(group, h5py.Group):
        raise KeyError(f"no group '{name}'")
    return group


def write_array(
    group: h5py.Group,
    name: str,
    values: Any,
    scales: Sequence[h5py.Dataset] = (),
    label: tuple[str, str] | None = None,
) -> h5py.Dataset:
    """Write one array with what netCDF readers need: scales on its axes, `long_name`, `units`.

    Args:
        group: Where to write it.
        name: Its name; slashes make groups.
        values: Numbers, booleans or strings, any shape.
        scales: One dimension scale per axis, or none.
        label: Long name and units.

    Returns:
        The dataset.

    Raises:
        ValueError: If a scale's length differs from the axis it is meant for.
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
    """Read what `write_array` wrote; strings come as an array of str.

    Args:
        dataset: The dataset.

    Returns:
        Its values.

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
    """Add a dimension without coordinate values; it takes no room on disk.

    Args:
        group: Where to add it.
        name: Its name.
        size: Its length.

    Returns:
        The dimension scale.
    """
    scale = group.create_dataset(name, shape=(size,), dtype=">f4")
    scale.make_scale(f"{_ONLY_A_DIMENSION}{size:10d}")
    return scale


def is_only_dimension(dataset: h5py.Dataset) -> bool:
    """Say whether a dataset is a dimension without values, as `dimension` writes it.

    Args:
        dataset: The dataset.

    Returns:
        True if it holds nothing to read.
    """
    name = dataset.attrs.get("NAME", b"")
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return text.startswith(_ONLY_A_DIMENSION)


def write_record(group: h5py.Group, record: Any) -> None:
    """Keep a JSON record in a group's attributes: whole as `json`, and each plain value under its own name.

    Args:
        group: Where to keep it.
        record: Nested mappings, sequences and scalars; NaN and infinities become null.
    """
    plain = jsonable(record)
    group.attrs["json"] = json.dumps(plain, allow_nan=False, ensure_ascii=False)
    if isinstance(plain, dict):
        for name, value in flatten(plain).items():
            if isinstance(value, str | int | float):
                group.attrs[name] = int(value) if isinstance(value, bool) else value


def read_record(group: h5py.Group) -> Any:
    """Read what `write_record` wrote.

    Args:
        group: The group.

    Returns:
        The record, as the json module gives it.
    """
    return json.loads(str(group.attrs["json"]))


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Join the keys of nested mappings by underscores: `{"a": {"b": 1}}` becomes `{"a_b": 1}`.

    Args:
        record: Nested mappings.

    Returns:
        One flat mapping.
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}_{name}": item for name, item in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def table_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn records into columns of plain values.

    Args:
        records: Nested mappings, such as the levels in metrics.json.

    Returns:
        One value per record under each of their flattened keys, None where a record lacks it; a mapping that is null in
        some records has columns for its keys only.
    """
    rows = [flatten(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    nested = {key for record in records for key, value in record.items() if isinstance(value, Mapping)}
    return {name: [row.get(name) for row in rows] for name in names if name not in nested}
