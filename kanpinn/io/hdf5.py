"""HDF5 files of ours: put in place whole; opened only after their schema is checked."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kanpinn.errors import UserError
from kanpinn.io.atomic import atomic_path, jsonable
from kanpinn.io.chunks import write_compressed

SCHEMA_VERSION = 1
SCHEMAS = ("kanpinn-solution", "kanpinn-checkpoint", "kanpinn-sweep")
# netCDF's way of naming a dimension that has no coordinate values; readers of netCDF look for this very text.
_ONLY_A_DIMENSION = "This is a netCDF dimension but not a netCDF variable."
_COMPRESS_FROM_BYTES = 8192


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
                for package in ("kanpinn", "torch", "numpy", "h5py"):
                    file.attrs[f"{package}_version"] = _version(package)
                file.attrs["python_version"] = platform.python_version()
                file.attrs["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                yield file
        finally:
            if below.failure is not None:
                raise below.failure


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


def _open(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, or raise a UserError that says why that cannot be done."""
    if not path.exists():
        raise UserError(f"{path}: no such file.")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected an HDF5 file.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: cannot be read (permission denied).")
    if not h5py.is_hdf5(path):
        raise UserError(f"{path}: is not an HDF5 file.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = " ".join(str(error).split())[:160]
        what = "is truncated" if "truncated" in reason else f"cannot be opened as HDF5 ({reason})"
        raise UserError(f"{path}: {what}.") from error


@contextmanager
def existing_file(path: str | os.PathLike[str], schema: str | None = None) -> Iterator[h5py.File]:
    """Open a file of ours for reading.

    Args:
        path: The file.
        schema: The schema it must have; None for any of ours.

    Yields:
        The open file.

    Raises:
        UserError: If the file is missing, not HDF5, not ours, newer than this program, truncated or damaged.
    """
    path = Path(path)
    with _open(path) as file:
        try:
            found, version = file.attrs.get("schema"), file.attrs.get("schema_version", 0)
            expected = (schema,) if schema else SCHEMAS
            if not isinstance(found, str) or found not in expected:
                has = f"schema '{found}'" if isinstance(found, str) else "no kanpinn schema"
                raise UserError(f"{path}: HDF5 file with {has}; expected {' or '.join(expected)}.")
            if int(version) > SCHEMA_VERSION:
                raise UserError(
                    f"{path}: schema_version {version} is newer than this kanpinn reads ({SCHEMA_VERSION}); update it."
                )
            yield file
        except UserError:
            raise
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
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
    """
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.array(dataset.asstr()[...], dtype=str)
    array = np.asarray(dataset[...])
    return array.astype(bool) if dataset.attrs.get("dtype") == "bool" else array


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
