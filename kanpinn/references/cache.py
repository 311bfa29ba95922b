"""Computed references kept on disk between runs, in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanpinn.io.atomic import atomic_path

Arrays = dict[str, NDArray[np.float64]]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/kanpinn`, or `~/.cache/kanpinn`; raises RuntimeError where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kanpinn"


def cached(name: str, key: str, compute: Callable[[], Arrays]) -> Arrays:
    """Read arrays by name from the cache, or compute and store them, all of them finite.

    A missing or damaged file is computed again; a folder that cannot be written is no error. The key tells everything
    the arrays depend on (method, version, coefficients) as text; its hash ends the file's name.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        path = cache_folder() / f"{name}-{digest}.npz"
    except RuntimeError:
        return compute()
    stored = _read(path, key)
    if stored is not None:
        return stored
    arrays = compute()
    with contextlib.suppress(OSError), atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{"key": np.array(key), **arrays})
    return arrays


def _read(path: Path, key: str) -> Arrays | None:
    """The arrays in a cache file, or None if it is missing, damaged (zip checksums tell) or of another key."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays.pop("key")) != key or not all(np.isfinite(array).all() for array in arrays.values()):
            return None
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zipfile.LargeZipFile):
        return None
    return arrays
