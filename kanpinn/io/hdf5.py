"""HDF5 files of ours: put in place whole; opened only after their schema is checked."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import io
import mmap
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from kanpinn.errors import UserError
from kanpinn.io import hdf5_limits
from kanpinn.io.arrays import is_only_dimension
from kanpinn.io.atomic import atomic_path

SCHEMA_VERSION = 1
SCHEMAS = ("kanpinn-solution", "kanpinn-checkpoint", "kanpinn-sweep")
FAULTS = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError)
"""Errors that a damaged file may raise where its content is used."""

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
    """Versions of what numbers in a file depend on, by package."""
    packages = ("kanpinn", "torch", "numpy", "scipy", "h5py")
    return {**{name: _version(name) for name in packages}, "python": platform.python_version()}


@contextmanager
def new_file(path: str | os.PathLike[str], schema: str) -> Iterator[h5py.File]:
    """Give an HDF5 file that appears at `path`, in one atomic step, when the block ends without an exception.

    The HDF5 library never learns of a failed write: after one (a full disk) it may abort the process when its handle
    is closed. It writes through `_Unfailing`, which keeps the exception until the file is closed.

    The open file has its schema, one of `SCHEMAS`, versions and creation time already in its attributes. Raises
    OSError if it could not be written.
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
    """Write its checksum into a file of ours: SHA-256 of all its bytes, with the checksum's digits taken as zeros."""
    with path.open("rb+", buffering=0) as stream:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place, _, digest = _checksums(content)
        if place is None:
            raise ValueError("no place for a checksum")
        stream.seek(place)
        stream.write(digest.encode())


def _checksums(content: mmap.mmap) -> tuple[int | None, str, str]:
    """Place of the checksum's digits in a file (None if it has none), the checksum stored there, and the right one."""
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


def unchanged(path: Path) -> bool | None:
    """Compare a file's bytes with the checksum in it; None if there is none."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, stored, digest = _checksums(content)
    return None if place is None else stored == digest


def _open(path: Path, changed: bool) -> tuple[h5py.File, bool]:
    """Open an HDF5 file for reading, and say whether its checksum is right; raises UserError where it cannot be."""
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
        verified = True if changed else unchanged(path)
        if verified is False:
            raise UserError(f"{path}: is truncated, damaged or changed since kanpinn wrote it (its checksum differs).")
        # Our files are never changed in place, so that no lock is needed; another program's lock shall not stop us.
        return h5py.File(path, "r", locking=False), bool(verified)
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
    """Open a file of ours for reading, of a schema or any for None.

    With `changed` a file is admitted that was changed since it was written, to say what is wrong with it.

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
        except FAULTS as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path}: is a damaged {schema or 'kanpinn'} file ({reason}).") from error
