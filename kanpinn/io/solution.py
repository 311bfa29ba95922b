"""The solution file: fields on a grid with coordinates, history, levels, points, metrics and model in one HDF5 file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np

from kanpinn.axes import field_axes
from kanpinn.io import vtkhdf
from kanpinn.io.arrays import (
    dimension,
    group_of,
    is_only_dimension,
    read_array,
    read_record,
    table_columns,
    write_array,
    write_record,
)
from kanpinn.io.hdf5 import existing_file, new_file
from kanpinn.io.metrics import check_metrics
from kanpinn.io.solution_checks import check_columns, check_grid, check_model, check_slabs, check_spectra
from kanpinn.io.violations import violations

SCHEMA = "kanpinn-solution"
_TEXT_ATTRIBUTES = ("problem", "equation", "config", "dtype", "status")
_NUMBER_ATTRIBUTES = ("seed", "slabs", "slabs_begun")
_HISTORY_LABELS = {
    "step": ("optimiser step", "1"),
    "level": ("level", "1"),
    "wall_time": ("time since start", "s"),
    "loss": ("loss", "1"),
    "stage": ("stage", "1"),
}


@dataclass
class SolutionFile:
    """Content of a solution file; all arrays are numpy.

    Attributes:
        problem: The problem's name.
        equation: The equation as one line of text.
        config: The resolved config as YAML text.
        seed: The seed of the run.
        dtype: The number type the network was trained in.
        status: The end of the solve, as in metrics.json.
        coordinates: Values `[n_k]` of each coordinate.
        labels: Long name and units of coordinates and fields; after reading, every one of them has an entry.
        fields: Each unknown, `<unknown>_ref`, `<unknown>_error`, `residual` or `residual_<equation>`; axes as
            `field_axes` orders them.
        history: Columns over the optimiser's steps `[n_steps]`.
        levels: One record per level, as in metrics.json.
        spectra: Power of the error by wave number at the end of each of these visits: `<unknown>_<coordinate>`
            `[n_visits, K]`, NaN where it is not known, and `wave_number_<coordinate>` `[K]`.
        points: Per condition, and "interior": columns `[N]` of coordinates and residuals.
        measured: Per data term, columns `[N]`: coordinates, values and deviations as given, `solution_<unknown>`.
        metrics: The content of metrics.json.
        model: Knots and coefficients by slash paths, such as "layer_0/coefficients".
        model_attributes: Other facts of the model; plain values.
        slabs: Time slabs of the run, 1 without any.
        slabs_begun: Number of them begun; at later times every unknown is NaN.
        parameters: Names of the coordinates that are coefficients.
    """

    problem: str
    equation: str
    config: str
    seed: int
    dtype: str
    status: str
    coordinates: dict[str, np.ndarray]
    labels: Mapping[str, tuple[str, str]]
    fields: dict[str, np.ndarray]
    history: dict[str, np.ndarray] = field(default_factory=dict)
    levels: list[dict[str, Any]] = field(default_factory=list)
    spectra: dict[str, np.ndarray] = field(default_factory=dict)
    points: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    measured: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    model: dict[str, np.ndarray] = field(default_factory=dict)
    model_attributes: dict[str, Any] = field(default_factory=dict)
    slabs: int = 1
    slabs_begun: int = 1
    parameters: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the fields' axes, slowest first."""
        return field_axes(self.coordinates)

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Names of the unknown functions."""
        return tuple(name for name in self.fields if "_" not in name and name != "residual")

    @property
    def residuals(self) -> tuple[str, ...]:
        """Names of the residual fields."""
        return tuple(name for name in self.fields if name.partition("_")[0] == "residual")

    @property
    def begun(self) -> np.ndarray:
        """Mask of the times within time slabs that were begun, `[n_t]`; one True without time."""
        if "t" not in self.coordinates:
            return np.ones(1, dtype=bool)
        times = self.coordinates["t"]
        span = np.ptp(times)
        if self.slabs_begun >= self.slabs or not span:
            return np.ones(len(times), dtype=bool)
        return times < times[0] + span * (self.slabs_begun / self.slabs - 1e-9)  # a joint belongs to the later slab

    @property
    def outside(self) -> np.ndarray:
        """Mask of the grid points outside the domain, shaped as the fields: every field there is NaN.

        In time slabs that were not begun, they are those outside at the last time before. A grid that is NaN everywhere
        is that of a failed solve.
        """
        missing = np.ones([len(self.coordinates[name]) for name in self.axes], dtype=bool)
        for values in self.fields.values():
            missing &= np.isnan(values)
            if not missing.any():
                break
        begun = self.begun
        if not begun.all():  # time is the first axis
            missing[~begun] = missing[begun][-1]
        return missing & ~missing.all()

    def at(self, places: Mapping[str, int]) -> SolutionFile:
        """Return the fields at single values of some coordinates, by their numbers on the grid; points are left out."""
        index = tuple(places.get(name, slice(None)) for name in self.axes)
        rest = {name: values for name, values in self.coordinates.items() if name not in places}
        fields = {name: values[index] for name, values in self.fields.items()}
        parameters = tuple(name for name in self.parameters if name in rest)
        return replace(self, coordinates=rest, fields=fields, parameters=parameters, points={})

    def label(self, name: str) -> tuple[str, str]:
        """Long name and units ("1" for a number) of a coordinate or field; a reference or error has its unknown's."""
        if name in self.labels:
            long_name, units = self.labels[name]
            return long_name, units
        base, _, kind = name.partition("_")
        if base == "residual":
            return f"residual of {kind or 'the equation'}", "1"
        if kind in ("ref", "error") and base in self.fields:
            long_name, units = self.label(base)
            return {"ref": f"reference {long_name}", "error": f"error of {long_name}"}[kind], units
        return name, "1"


def write_solution(path: str | os.PathLike[str], data: SolutionFile) -> None:
    """Write a solution file in one atomic step; raises ValueError where shapes do not match coordinates or columns."""
    with new_file(path, SCHEMA) as file:
        for name in _TEXT_ATTRIBUTES:
            file.attrs[name] = str(getattr(data, name))
        for name in _NUMBER_ATTRIBUTES:
            file.attrs[name] = int(getattr(data, name))
        file.attrs["parameters"] = ",".join(data.parameters)
        _write_fields(file, data)
        vtkhdf.write(file, data.axes, ~data.outside)
        _write_table(file.create_group("history"), data.history, "step", _HISTORY_LABELS)
        _write_levels(file.create_group("levels"), data.levels)
        _write_spectra(file, data)
        points = file.create_group("points")
        for condition, columns in data.points.items():
            labels = {name: data.label(name) for name in columns}
            labels["residual"] = (f"size of the residual of '{condition}'", "1")
            _write_table(points.create_group(condition), columns, "point", labels)
        for term, columns in data.measured.items():
            labels = {name: data.label(name.removeprefix("solution_")) for name in columns}
            _write_table(file.require_group("data").create_group(term), columns, "point", labels)
        metrics = file.create_group("metrics")
        write_record(metrics, data.metrics)
        for k, flag in enumerate(data.metrics.get("warnings") or []):
            metrics.attrs[f"warning_{k}"] = f"{flag['kind']}: {flag['message']}"
        model = file.create_group("model")
        for name, values in data.model.items():
            write_array(model, name, values)
        write_record(model, data.model_attributes)


def _write_fields(file: h5py.File, data: SolutionFile) -> None:
    """Write coordinates as dimension scales and the fields that stand on them."""
    scales: dict[str, h5py.Dataset] = {}
    for name in data.axes:
        scales[name] = write_array(file, name, data.coordinates[name], label=data.label(name))
        scales[name].make_scale(name)
    for name, values in data.fields.items():
        write_array(file, name, values, [scales[axis] for axis in data.axes], data.label(name))


def _write_table(
    group: h5py.Group, columns: Mapping[str, Any], axis: str, labels: Mapping[str, tuple[str, str]]
) -> None:
    """Write columns of one length; the column named `axis` is their coordinate, else a bare dimension of that name."""
    if not columns:
        return
    if axis in columns:
        scale = write_array(group, axis, columns[axis], label=labels.get(axis))
        scale.make_scale(axis)
    else:
        scale = dimension(group, axis, len(next(iter(columns.values()))))
    for name, values in columns.items():
        if name != axis:
            text = name.replace("_", " ")
            if name.startswith("relative_l2_"):
                text = f"relative L2 error of {name[12:]} at no more than 2000 of the output grid's points"
            write_array(group, name, values, [scale], labels.get(name, (text, "1")))


def _write_levels(group: h5py.Group, levels: list[dict[str, Any]]) -> None:
    """Write the level table column by column for readers, and whole (with its nulls) for ourselves."""
    write_record(group, levels)
    columns = {name: _column(values) for name, values in table_columns(levels).items()}
    _write_table(group, columns, "entry", {"wall_time_s": ("wall time", "s")})


def _write_spectra(file: h5py.File, data: SolutionFile) -> None:
    """Write the error's spectra, if any; their rows are those of the level table."""
    if not data.spectra:
        return
    group = file.create_group("spectrum")
    entries = dimension(group, "entry", len(data.levels))
    scales: dict[str, h5py.Dataset] = {}
    for name in sorted(data.spectra, key=lambda name: not name.startswith("wave_number_")):
        first, _, axis = name.rpartition("_")
        if first == "wave_number":
            unit = data.label(axis)[1]
            label = (f"wave number along {axis}, cycles per unit", "1" if unit in ("", "1") else f"1/({unit})")
            scales[axis] = write_array(group, name, data.spectra[name], label=label)
            scales[axis].make_scale(name)
        else:
            unit = data.label(first)[1]
            text = f"share of the mean square error of {first} by wave number along {axis}, at the end of each visit"
            label = (text, "1" if unit in ("", "1") else f"({unit})^2")
            write_array(group, name, data.spectra[name], [entries, scales[axis]], label)


def _column(values: list[Any]) -> np.ndarray:
    """Make an array of a column that may hold nulls: NaN among numbers, the empty string among texts."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, int | float | np.number) for value in present):
        return np.array(values) if len(present) == len(values) else np.array(values, dtype=float)
    return np.array(["" if value is None else str(value) for value in values])


def solution_status(path: str | os.PathLike[str]) -> str:
    """The status of the run whose solution a file holds; raises UserError as `read_solution` does."""
    with existing_file(path, SCHEMA) as file:
        return str(file.attrs["status"])


def read_solution(path: str | os.PathLike[str]) -> SolutionFile:
    """Read a solution file; raises UserError if it is missing, not HDF5, not a solution file, truncated or damaged."""
    with existing_file(path, SCHEMA) as file:
        if lines := violations(file, whole=False):  # older runs may lack something
            raise ValueError(lines[0])
        return solution_of(file)


def solution_of(file: h5py.File) -> SolutionFile:
    """Return the content of an open solution file; raises one of `FAULTS` where it does not fit together."""
    datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    labels = {name: (str(item.attrs["long_name"]), str(item.attrs["units"])) for name, item in datasets.items()}
    arrays = {name: read_array(item) for name, item in datasets.items()}
    coordinates = {name: arrays.pop(name) for name in field_axes(n for n in datasets if datasets[n].is_scale)}
    points = group_of(file, "points")
    model: dict[str, np.ndarray] = {}
    group_of(file, "model").visititems(lambda name, item: _collect(model, name, item))
    known: dict[str, Any] = {name: str(file.attrs[name]) for name in _TEXT_ATTRIBUTES}
    known |= {name: int(str(file.attrs[name])) for name in _NUMBER_ATTRIBUTES if name in file.attrs}
    data = SolutionFile(
        **known,
        parameters=tuple(filter(None, str(file.attrs.get("parameters", "")).split(","))),
        coordinates=coordinates,
        labels=labels,
        fields=dict(sorted(arrays.items(), key=_field_order)),
        history=_read_table(group_of(file, "history")),
        levels=read_record(group_of(file, "levels")),
        spectra=_read_table(group_of(file, "spectrum")) if "spectrum" in file else {},
        points={name: _read_table(group_of(points, name)) for name in map(str, points)},
        measured={name: _read_table(item) for name, item in _tables(file, "data")},
        metrics=read_record(group_of(file, "metrics")),
        model=model,
        model_attributes=read_record(group_of(file, "model")),
    )
    _check(data)
    return data


def _tables(file: h5py.File, name: str) -> Iterator[tuple[str, h5py.Group]]:
    """Yield the groups of a group that a file may have."""
    if name in file:
        group = group_of(file, name)
        yield from ((one, group_of(group, one)) for one in map(str, group))


def _check(data: SolutionFile) -> None:
    """Raise ValueError for arrays and records that do not fit together as those of a solution do."""
    check_grid(data.coordinates, data.axes, data.fields)
    check_columns("history", data.history)
    for title, columns in data.points.items():
        check_columns(f"points/{title}", columns, ("residual", *(data.coordinates if title == "interior" else ())))
    for title, columns in data.measured.items():
        given = [name for name in columns if name != "point"]
        check_columns(f"data/{title}", columns, [*data.coordinates, *given])
    check_slabs(data.slabs, data.slabs_begun)
    if not set(data.parameters) <= set(data.coordinates):
        raise ValueError(f"parameters {', '.join(data.parameters)} that are no coordinates")
    for title, wanted, record in (("metrics", dict, data.metrics), ("levels", list, data.levels)):
        if not isinstance(record, wanted):
            raise ValueError(f"{title} is a {type(record).__name__}")
    for metrics in (data.metrics, {"levels": data.levels}):
        check_metrics(metrics)
    check_spectra(data.spectra, len(data.levels))
    check_model(data.model, data.model_attributes, data.slabs_begun)


def _field_order(item: tuple[str, np.ndarray]) -> tuple[bool, str, int]:
    """Sort fields as u, u_ref, u_error, v, …, residuals (HDF5 gives them by the alphabet)."""
    base, _, kind = item[0].partition("_")
    return base == "residual", base, ("", "ref", "error").index(kind) if kind in ("", "ref", "error") else 3


def _collect(arrays: dict[str, np.ndarray], name: str, item: h5py.Dataset | h5py.Group) -> None:
    """Add a visited dataset to a mapping by its path."""
    if isinstance(item, h5py.Dataset):
        arrays[name] = read_array(item)


def _read_table(group: h5py.Group) -> dict[str, np.ndarray]:
    """Read the columns of a group."""
    return {name: read_array(item) for name, item in group.items() if not is_only_dimension(item)}
