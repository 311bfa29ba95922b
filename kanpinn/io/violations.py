"""Violations of the schema of an open file: each is a line that names the place and what belongs there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from kanpinn.axes import field_axes, norm
from kanpinn.io import vtkhdf
from kanpinn.io.arrays import is_only_dimension
from kanpinn.io.schema import FIELD_AXES, LEVEL, METRICS, SCHEMA_OF, Item, mismatch

_KINDS = {"float": "f", "integer": "iu", "number": "biufc", "any": "biufSO", "text": "SO"}


@dataclass(frozen=True)
class Names:
    """Names that a file itself defines.

    Attributes:
        coordinates: Names of the coordinates, in the order of a field's axes.
        unknowns: Names of the unknowns.
    """

    coordinates: tuple[str, ...]
    unknowns: tuple[str, ...]

    def pattern(self, path: str) -> re.Pattern[str]:
        """A schema's path as a pattern of paths in this file."""
        known = {"coordinate": self.coordinates, "unknown": self.unknowns}

        def names(match: re.Match[str]) -> str:
            if match[1].endswith("…"):
                return ".+"
            return f"(?:{'|'.join(map(re.escape, known[match[1]])) or '(?!)'})" if match[1] in known else "[^/]+"

        return re.compile(re.sub(r"<(.+?)>", names, path))


def violations(file: h5py.File, *, whole: bool = True) -> list[str]:
    """Hold an open file of ours against its schema, and a solution's numbers against each other.

    Args:
        file: The file.
        whole: False to say nothing of what is missing, or told twice and not the same.

    Returns:
        One line per violation, "place: what is expected; what was found"; none for a file that is right.
    """
    kind = str(file.attrs["schema"])
    datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    scales = field_axes(name for name, item in datasets.items() if item.is_scale)
    unknowns = tuple(n for n in datasets if n not in scales and "_" not in n and n != "residual")
    names = Names(scales, unknowns)
    lines = list(_check_items(file, SCHEMA_OF[kind], names, whole=whole))
    # The values are looked at only where everything is in its place.
    if kind == "kanpinn-solution" and not lines:
        with np.errstate(all="ignore"):  # of forged numbers
            lines += _check_values(file, names, whole=whole)
    return lines


def _walk(group: h5py.Group, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every object below a group with its path, by every link that leads to it."""
    for name, item in group.items():
        yield f"{path}/{name}", item
        if isinstance(item, h5py.Group):
            yield from _walk(item, f"{path}/{name}")


def _check_items(file: h5py.File, items: Sequence[Item], names: Names, *, whole: bool) -> Iterator[str]:
    """Check that everything is in its place, of the right type, with its axes and attributes."""
    patterns = [(names.pattern(item.path), item) for item in items]
    top = {item.path.split("/")[1] for item in items}
    found: set[str] = set()
    for path, item in [("/", file), *_walk(file)]:
        declared = next((entry for pattern, entry in patterns if pattern.fullmatch(path)), None)
        if declared is not None:
            found.add(declared.path)
            yield from (f"{path}: {line}" for line in _check_item(item, declared, names, whole=whole))
        elif path.split("/")[1] in top or (isinstance(item, h5py.Dataset) and path.count("/") == 1):
            yield f"{path}: expected nothing of that name"
    yield from (
        f"{item.path}: expected {item.what}; it is missing"
        for item in items
        if whole and item.required and item.path not in found
    )


def _check_item(item: Any, declared: Item, names: Names, *, whole: bool) -> Iterator[str]:
    """Check one object against the schema."""
    is_group = isinstance(item, h5py.Group)
    if is_group and declared.path.endswith("…>"):
        return
    if is_group != (declared.kind == "group"):
        yield f"expected {'a group' if declared.kind == 'group' else 'an array'} ({declared.what})"
        return
    for name, kind in declared.attributes.items():
        value = item.attrs.get(name)
        value = value.decode() if isinstance(value, bytes) else value
        if value is None and not whole:
            continue
        if (wrong := mismatch(value, kind)) is not None:
            yield f"expected attribute '{name}': {wrong}"
    if isinstance(item, h5py.Group):
        return
    if item.dtype.kind not in _KINDS[declared.kind]:
        yield f"expected {declared.kind} values ({declared.what}); found {item.dtype}"
    found = tuple(str(axis[0].name).rpartition("/")[2] if len(axis) else "none" for axis in item.dims)
    if declared.axes == FIELD_AXES:
        expected = names.coordinates
    elif declared.axes:
        expected = (item.name.rpartition("/")[2],) if item.is_scale else declared.axes
        if item.is_scale:
            found = expected if item.ndim == 1 else found
    else:
        return
    if found != expected:
        yield f"expected the axes ({', '.join(expected)}); found ({', '.join(found)})"


def metrics_violations(metrics: Any, *, whole: bool = True) -> Iterator[str]:
    """Yield violations of what metrics.json must hold, one line each, the key first."""
    if not isinstance(metrics, dict):
        yield f": expected an object; found a {type(metrics).__name__}"
        return
    entries = metrics.get("levels")
    rows = enumerate(entries if isinstance(entries, list) else [])
    for where, values, keys in [("", metrics, METRICS), *((f"levels[{k}].", row, LEVEL) for k, row in rows)]:
        for key, kind in keys.items():
            if isinstance(values, dict) and key not in values and not whole:
                continue
            if not isinstance(values, dict) or key not in values:
                expected = kind if isinstance(kind, str) else f"one of {', '.join(kind)}"
                yield f"{where}{key}: expected {expected}; it is missing"
            elif (wrong := mismatch(values[key], kind)) is not None:
                yield f"{where}{key}: expected {wrong}"


def _check_values(file: Any, names: Names, *, whole: bool) -> Iterator[str]:
    """Check that the numbers of a solution file agree with each other."""
    values = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    if not names.coordinates:
        yield "/<coordinate>: expected at least one coordinate"
        return
    if not names.unknowns:
        yield "/<unknown>: expected at least one unknown"
    fit = "data/train" in file  # of a table, without equations
    if whole and not fit and not any(name.partition("_")[0] == "residual" for name in values):
        yield "/residual: expected the residual of at least one equation"
    for name in names.coordinates:
        if not (np.isfinite(values[name][...]).all() and (np.diff(values[name][...]) > 0).all()):
            yield f"/{name}: expected finite, rising values"
    metrics: dict[str, Any] = json.loads(str(file["metrics"].attrs["json"]))
    yield from (f"/metrics: {line}" for line in metrics_violations(metrics, whole=whole))
    for u in names.unknowns:
        if (f"{u}_ref" in values) != (f"{u}_error" in values):
            yield f"/{u}_error: expected with /{u}_ref, and neither without the other"
        elif whole and f"{u}_ref" in values:
            yield from _check_error(u, values, metrics)
    yield from _check_tables(file, whole=whole)
    yield from _check_vtk(file, names)


def _check_error(u: str, values: Mapping[str, h5py.Dataset], metrics: Mapping[str, Any]) -> Iterator[str]:
    """Check that an error is unknown minus reference, and the metrics are its norms."""
    error, reference = values[f"{u}_error"][...], values[f"{u}_ref"][...]
    if not np.array_equal(error, values[u][...] - reference, equal_nan=True):
        yield f"/{u}_error: expected {u} − {u}_ref"
    stated = (metrics.get("relative_l2") or {}).get(u)
    inside = np.isfinite(reference)
    size = norm(reference[inside])
    if stated is not None and size:
        found = norm(error[inside]) / size
        if not np.isclose(found, stated, rtol=1e-9, atol=0):
            yield f"/metrics: expected relative_l2.{u} = {found:.6g}, that of /{u}_error; found {stated:.6g}"


def _check_tables(file: Any, *, whole: bool) -> Iterator[str]:
    """Check that steps are numbered and the level table says what the metrics say."""
    step = file.get("history/step")
    if isinstance(step, h5py.Dataset) and not (np.diff(step[...]) > 0).all():
        yield "/history/step: expected rising numbers"
    levels = json.loads(str(file["levels"].attrs["json"]))
    if whole and levels != json.loads(str(file["metrics"].attrs["json"])).get("levels"):
        yield "/levels: expected the same table as in /metrics"
    for name, column in file["levels"].items():
        if not is_only_dimension(column) and len(column) != len(levels):
            yield f"/levels/{name}: expected {len(levels)} rows; found {len(column)}"


def _check_vtk(file: Any, names: Names) -> Iterator[str]:
    """Check that VTK sees the root fields themselves, at their times."""
    group = file.get(vtkhdf.GROUP)
    if group is None or not vtkhdf.fits(names.coordinates):
        if (group is None) == vtkhdf.fits(names.coordinates):
            yield f"/{vtkhdf.GROUP}: expected where, and only where, there are at most three axes of space"
        return
    fields = [name for name, item in file.items() if isinstance(item, h5py.Dataset) and not item.is_scale]
    points = group["PointData"]
    if sorted(points) != sorted(fields):
        yield f"/{vtkhdf.GROUP}/PointData: expected {', '.join(sorted(fields))}; found {', '.join(sorted(points))}"
        return
    for name in fields:
        views = [source.dset_name for source in points[name].virtual_sources()] if points[name].is_virtual else []
        if points[name] != file[name] and views != [f"/{name}"]:
            yield f"/{vtkhdf.GROUP}/PointData/{name}: expected a hard link to, or a view of, /{name}"
    if "t" in names.coordinates and names.coordinates != ("t",):
        steps = group.get("Steps")
        if steps is None or not np.array_equal(steps["Values"], file["t"]) or steps.attrs["NSteps"] != len(file["t"]):
            yield f"/{vtkhdf.GROUP}/Steps: expected the times of /t"
