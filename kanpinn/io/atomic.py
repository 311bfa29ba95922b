"""Files that appear whole or not at all: written beside their place, flushed to disk, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kanpinn.errors import UserError


def _flush_folder(folder: Path) -> None:
    """Make a rename inside a folder survive a power cut, where the system lets folders be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_replaceable(key: str, file: Path | None, *suffixes: str) -> None:
    """Refuse a file given by the user that would take the place of one of another kind; raises UserError."""
    if file is not None and file.is_file() and file.suffix.lower() not in suffixes:
        kinds = " or ".join(suffixes)
        raise UserError(f"{key} {file}: would replace a file of another kind; expected a new one, or one in {kinds}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path whose file takes the place of `path` when the block ends without an exception.

    Args:
        path: Place of the file; its folder is created where missing.

    Yields:
        The path of an empty file in the same folder, to be written and closed inside the block.

    Raises:
        BaseException: Whatever the block raised, after the temporary file is removed; `path` is then untouched. An
            OSError names `path`, also where the system (a full disk) names no file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if path.exists() and not path.is_file():  # the rename would put a file in the place of /dev/null
        raise OSError(errno.EINVAL, "is not a plain file", os.fspath(path))
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        # Created here, not by tempfile: that makes files which only their owner may read, and the rename keeps it so.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        # If even that fails (the folder is gone, or read-only by now), the first error is the one to tell.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    _flush_folder(path.parent)


def remove_leftovers(folder: str | os.PathLike[str], names: Sequence[str], age_s: float) -> None:
    """Remove what `atomic_path` was writing in a folder, or below it, when its process was killed.

    The names are patterns of files that no process is writing now; a file of another name goes so many seconds after
    its last change.
    """
    for file in Path(folder).rglob(".*.tmp"):
        written = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.tmp", file.name)
        if written is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # by now its process has finished it
            known = any(fnmatch.fnmatchcase(written[1], name) for name in names)
            if known or time.time() - file.stat().st_mtime > age_s:
                file.unlink()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes to a file in one atomic step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text to a file in one atomic step."""
    write_bytes(path, text.encode())


def jsonable(value: Any, finite: bool = True) -> Any:
    """Turn a value into what the json module writes, numpy scalars and arrays, paths and tuples included.

    NaN and infinities become None, as strict JSON demands, or stay. Raises TypeError if a value has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist(), finite)
    if isinstance(value, float):
        return value if math.isfinite(value) or not finite else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, finite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item, finite) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form: {value!r}")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write strict JSON (NaN and infinities as null, numpy's values too) to a file in one atomic step."""
    write_text(path, json.dumps(jsonable(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
