"""What a run folder or an HDF5 file of ours holds: as data for programs, as text for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kanpinn.errors import UserError
from kanpinn.io.atomic import jsonable
from kanpinn.io.checkpoint import META, read_meta
from kanpinn.io.hdf5 import existing_file, group_of, is_only_dimension, read_record
from kanpinn.io.render import render

__all__ = ["inspect", "is_run", "render"]

_RUN_FILES = ("solution.h5", "metrics.json", "config.yaml", "checkpoints")
_HIDDEN_ATTRIBUTES = ("json", "DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "long_name", "units")


def inspect(path: Path) -> dict[str, Any]:
    """Describe a run folder, or one HDF5 file of ours.

    Args:
        path: The folder or file.

    Returns:
        A mapping that json can write: `kind` ("run", "solution" or "checkpoint"), `path`, `bytes`, for a run its
        `files`, `metrics` and `solution`, for a file its `attributes`, `metrics`, `record` (a checkpoint's) and `tree`.

    Raises:
        UserError: If the path is missing, a folder that is not a run, or a file that is not ours or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    return _inspect_run(path) if path.is_dir() else _inspect_file(path)


def is_run(folder: Path) -> bool:
    """Say whether a folder looks like a run folder.

    Args:
        folder: The folder.

    Returns:
        True if it holds any file that only runs have.
    """
    return any((folder / name).exists() for name in _RUN_FILES)


def _inspect_run(folder: Path) -> dict[str, Any]:
    """Describe a run folder."""
    if not is_run(folder):
        runs = sorted(str(child) for child in folder.iterdir() if child.is_dir() and is_run(child))
        hint = f" It holds {len(runs)} runs; give one of them, such as {runs[0]}." if runs else ""
        raise UserError(f"{folder}: is not a run folder (none of {', '.join(_RUN_FILES)} in it).{hint}")
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    sizes = [{"name": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size} for file in files]
    description: dict[str, Any] = {
        "kind": "run",
        "path": str(folder),
        "bytes": sum(size["bytes"] for size in sizes),
        "files": sizes,
        "metrics": _read_metrics(folder / "metrics.json"),
        "solution": None,
    }
    if (folder / "solution.h5").exists():
        description["solution"] = _inspect_file(folder / "solution.h5")
    if description["metrics"] is None and description["solution"] is not None:
        description["metrics"] = description["solution"]["metrics"]
    return description


def _read_metrics(path: Path) -> dict[str, Any] | None:
    """Read metrics.json, if it is there."""
    if not path.exists():
        return None
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())}).") from None
    if not isinstance(metrics, dict):
        raise UserError(f"{path}: holds a {type(metrics).__name__}; expected a JSON object.")
    return metrics


def _inspect_file(path: Path) -> dict[str, Any]:
    """Describe one HDF5 file of ours."""
    with existing_file(path) as file:
        kind = str(file.attrs["schema"]).removeprefix("kanpinn-")
        description = {
            "kind": kind,
            "path": str(path),
            "bytes": path.stat().st_size,
            "attributes": _attributes(file),
            "metrics": read_record(group_of(file, "metrics")) if "metrics" in file else None,
            "record": _record(file) if META in file else None,
            "tree": [child for child in _children(file) if child["name"] != META],
        }
        return jsonable(description)


def _record(file: h5py.File) -> dict[str, Any]:
    """A checkpoint's record without the state to resume from, whose arrays the tree shows."""
    return {key: value for key, value in read_meta(file).items() if key != "state"}


def _attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """The attributes that mean something to a reader, as plain values."""
    plain = {name: value.decode() if isinstance(value, bytes) else value for name, value in item.attrs.items()}
    return {name: jsonable(value) for name, value in plain.items() if name not in _HIDDEN_ATTRIBUTES}


def _children(group: h5py.Group) -> Iterator[dict[str, Any]]:
    """Describe what a group holds: coordinates first, other datasets next, groups last."""

    def order(name: str) -> tuple[int, str]:
        item = group[name]
        return (2 if not isinstance(item, h5py.Dataset) else 0 if item.is_scale else 1), name

    for name in sorted(map(str, group), key=order):
        item = group[name]
        if isinstance(item, h5py.Group):
            yield {"name": name, "kind": "group", "attributes": _attributes(item), "children": list(_children(item))}
        elif isinstance(item, h5py.Dataset) and not is_only_dimension(item):
            yield {"name": name, "kind": "coordinate" if item.is_scale else "array", **_describe(item)}


def _describe(dataset: h5py.Dataset) -> dict[str, Any]:
    """Shape, axes, type, label and size of a dataset."""
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    axes = [str(axis[0].name).rpartition("/")[2] if len(axis) else None for axis in dataset.dims]
    return {
        "shape": list(dataset.shape),
        "axes": axes if any(axes) and not dataset.is_scale else None,
        "dtype": "text" if is_text else str(dataset.attrs.get("dtype", dataset.dtype)),
        "units": dataset.attrs.get("units"),
        "long_name": dataset.attrs.get("long_name"),
        "range": None if is_text else _range(dataset),
        "bytes": int(dataset.id.get_storage_size()),
    }


def _range(dataset: h5py.Dataset) -> list[float] | None:
    """Smallest and largest finite value, or None where there is none."""
    if dataset.dtype.kind not in "biuf" or not dataset.size:
        return None
    values = np.asarray(dataset[...], dtype=float)
    values = values[np.isfinite(values)]
    return [float(values.min()), float(values.max())] if values.size else None
