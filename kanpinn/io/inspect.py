"""Description of a run folder or an HDF5 file of ours: as data for programs, as text for people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kanpinn.axes import field_axes, norm
from kanpinn.errors import UserError
from kanpinn.io import vtkhdf
from kanpinn.io.arrays import group_of, is_only_dimension, read_record
from kanpinn.io.atomic import jsonable
from kanpinn.io.checkpoint import META, read_meta
from kanpinn.io.config_text import read_config
from kanpinn.io.hdf5 import existing_file
from kanpinn.io.metrics import check_metrics, read_metrics
from kanpinn.io.render import render
from kanpinn.io.same_run import disagreements
from kanpinn.io.unfinished import unfinished

__all__ = ["inspect", "is_run", "render"]

_RUN_FILES = ("solution.h5", "metrics.json", "config.yaml", "checkpoints")
_AT_ONCE = 2**20
_HIDDEN = ("json", "meta", "checksum", "DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "long_name", "units")
LAYOUT = 1
"""Version of the layout of what `inspect` returns; new keys may appear without a new version."""


def inspect(path: Path) -> dict[str, Any]:
    """Describe a run folder, or one HDF5 file of ours.

    Args:
        path: The folder or file.

    Returns:
        A mapping that json can write, NaN as None, laid out as docs/solution-file.md says: `layout`, `kind` ("run",
        "solution", "checkpoint" or "sweep"), `path`, `bytes`, `metrics`; for a run its `files`, `solution`,
        `unfinished` (how far one without results has come) and `warnings` (lines about what does not agree); for a file
        its `attributes`, `provenance`, `tree`, a checkpoint's `record` and a solution's `slabs`, `errors_by_time`,
        `residuals` and `vtk`.

    Raises:
        UserError: If the path is missing, a folder that is not a run, or a file that is not ours or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    return _inspect_run(path) if path.is_dir() else _inspect_file(path)


def is_run(folder: Path) -> bool:
    """Say whether a folder holds any file that only runs have."""
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
        "layout": LAYOUT,
        "kind": "run",
        "path": str(folder),
        "bytes": sum(size["bytes"] for size in sizes),
        "files": sizes,
        "metrics": read_metrics(folder / "metrics.json"),
        "solution": None,
        "unfinished": None,
        "warnings": [],
    }
    if (folder / "solution.h5").exists():
        description["solution"] = _inspect_file(folder / "solution.h5")
    if description["solution"] is not None:
        sure = description["solution"]["metrics"]  # solution.h5 has a checksum, metrics.json has none
        description["metrics"] = sure
    description["warnings"] += disagreements(folder)
    if description["metrics"] is None:
        description["unfinished"] = unfinished(folder)
    return description


def _inspect_file(path: Path) -> dict[str, Any]:
    """Describe one HDF5 file of ours."""
    with existing_file(path) as file:
        kind = str(file.attrs["schema"]).removeprefix("kanpinn-")
        description: dict[str, Any] = {
            "layout": LAYOUT,
            "kind": kind,
            "path": str(path),
            "bytes": path.stat().st_size,
            "attributes": _attributes(file),
            "metrics": read_record(group_of(file, "metrics")) if "metrics" in file else None,
            "record": _record(file) if META in file else None,
            "provenance": _provenance(file),
            "tree": [child for child in _children(file) if child["name"] != META],
        }
        metrics = description["metrics"]
        if metrics is not None:
            check_metrics(metrics)
        elif kind == "solution":
            raise KeyError("no metrics")
        if not isinstance(description["record"], dict | None):
            raise ValueError("its record is no JSON object")
        if kind == "solution":
            with np.errstate(all="ignore"):  # of forged numbers
                description |= _solution_summary(file)
        return jsonable(description)


def _record(file: h5py.File) -> dict[str, Any]:
    """A checkpoint's record without the state to resume from, whose arrays the tree shows."""
    return {key: value for key, value in read_meta(file).items() if key != "state"}


def _provenance(file: h5py.File) -> dict[str, Any]:
    """Origin of a file: its time, versions, seed and config."""
    config: Any = None
    if "config" in file.attrs:
        try:
            config = read_config(str(file.attrs["config"]))
        except ValueError:
            config = None  # --check says so
    elif META in file:
        config = read_meta(file).get("config")
    names = [str(name) for name in file.attrs if str(name).endswith("_version") and name != "schema_version"]
    return {
        "created": file.attrs.get("created"),
        "versions": {name.removesuffix("_version"): file.attrs[name] for name in names},
        "seed": file.attrs.get("seed", config.get("seed") if isinstance(config, dict) else None),
        "config": config if isinstance(config, dict) else None,
    }


def _solution_summary(file: Any) -> dict[str, Any]:
    """Progress of a run, its errors over time, its conditions' residuals, and its VTK data."""
    axes = field_axes(name for name, item in file.items() if isinstance(item, h5py.Dataset) and item.is_scale)
    planned, begun = (int(file.attrs.get(name, 1)) for name in ("slabs", "slabs_begun"))
    end = None
    if begun < planned and "t" in axes:
        first, last = float(file["t"][0]), float(file["t"][-1])
        end = first + (last - first) * begun / planned
    vtk = None
    if vtkhdf.GROUP in file:
        kind, steps = file[vtkhdf.GROUP].attrs["Type"], file.get(f"{vtkhdf.GROUP}/Steps")
        vtk = {
            "type": kind.decode() if isinstance(kind, bytes) else str(kind),
            "steps": 1 if steps is None else int(steps.attrs["NSteps"]),
        }
    return {
        "slabs": {"planned": planned, "begun": begun, "known_until": end},
        "errors_by_time": _errors_by_time(file) if "t" in axes else None,
        "residuals": {name: _size(group["residual"][...]) for name, group in file["points"].items()},
        "vtk": vtk,
    }


def _errors_by_time(file: Any) -> dict[str, dict[str, list[float]]]:
    """Relative L2 and largest error of each unknown at each time, NaN where it is not known or the reference is 0."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in map(str, file):
        unknown, _, kind = name.rpartition("_")
        if kind != "error" or f"{unknown}_ref" not in file:
            continue
        columns: dict[str, list[float]] = {"t": file["t"][...].tolist(), "relative_l2": [], "linf": []}
        for k in range(len(columns["t"])):  # one time step in memory at a time
            error, reference = file[name][k], file[f"{unknown}_ref"][k]
            inside = np.isfinite(reference)
            size = norm(reference[inside])
            columns["relative_l2"].append(norm(error[inside]) / size if size else math.nan)
            columns["linf"].append(float(np.abs(error[inside]).max()) if inside.any() else math.nan)
        found[unknown] = columns
    return found


def _size(residual: np.ndarray) -> dict[str, float]:
    """Number of points, root mean square and largest value of a residual."""
    if not residual.size:
        return {"points": 0, "rms": math.nan, "max": math.nan}
    return {
        "points": residual.size,
        "rms": norm(residual) / math.sqrt(residual.size),
        "max": float(np.abs(residual).max()),
    }


def _attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """The attributes that mean something to a reader, as plain values."""
    told = {name: item.attrs[name] for name in item.attrs if name not in _HIDDEN}
    return {name: jsonable(value.decode() if isinstance(value, bytes) else value) for name, value in told.items()}


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
            linked = _linked(item, name)
            if linked is None:
                yield {"name": name, "kind": "coordinate" if item.is_scale else "array", **_describe(item)}
            else:
                kind, plain = (
                    "view" if item.is_virtual else "link",
                    {"shape": list(item.shape), "dtype": str(item.dtype)},
                )
                yield {"name": name, "kind": kind, "target": linked, **plain}


def _linked(item: h5py.Dataset, name: str) -> str | None:
    """The root field that a dataset elsewhere is, or is a view of; None for one with values of its own."""
    if item.is_virtual:
        return str(item.virtual_sources()[0].dset_name)
    above = item.parent.name != "/" and name in item.file and item.file[name] == item
    return f"/{name}" if above else None


def _describe(dataset: h5py.Dataset) -> dict[str, Any]:
    """Shape, axes, type, label and size of a dataset."""
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    return {
        "shape": list(dataset.shape),
        "axes": None if dataset.is_scale else _axes(dataset),
        "dtype": "text" if is_text else str(dataset.attrs.get("dtype", dataset.dtype)),
        "units": _label(dataset, "units"),
        "long_name": _label(dataset, "long_name"),
        "range": None if is_text else _range(dataset),
        "bytes": int(dataset.id.get_storage_size()),
    }


def _label(dataset: h5py.Dataset, name: str) -> str | None:
    """An attribute as text, whatever a forged file has put there; None if it is missing."""
    found = dataset.attrs.get(name)
    return found if found is None else str(found)


def _axes(dataset: h5py.Dataset) -> list[str] | None:
    """The coordinates or dimensions that a field or a column stands on, None for any other array.

    Taken from the layout that the schema prescribes: HDF5 crashes on the references in a forged DIMENSION_LIST.
    """
    home = str(dataset.name).rpartition("/")[0]
    place = group_of(dataset.file, "/" if home.startswith("/VTKHDF") else home or "/")
    scales = {name: item for name, item in place.items() if isinstance(item, h5py.Dataset) and item.is_scale}
    names = field_axes(scales) if place.name == "/" else tuple(scales)
    return list(names) if names and tuple(len(scales[name]) for name in names) == dataset.shape else None


def _range(dataset: h5py.Dataset) -> list[float] | None:
    """Smallest and largest finite value, or None where there is none."""
    if dataset.dtype.kind not in "biuf" or not dataset.size:
        return None
    low, high = np.inf, -np.inf
    # In parts: as float64 a dataset of bytes would take eight times the room that it declares.
    rows = max(1, _AT_ONCE // max(1, dataset.size // max(1, len(dataset)))) if dataset.ndim else 0
    for part in (dataset[start : start + rows] for start in range(0, len(dataset), rows)) if rows else [dataset[()]]:
        values = np.asarray(part, dtype=float)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return [low, high] if low <= high else None
