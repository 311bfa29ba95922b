"""Schema of our files, declared once: writers' tests, `kanpinn inspect --check` and docs/solution-file.md follow it.

Names in angle brackets stand for what the file itself defines: `<coordinate>`, `<unknown>`, or any name.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kanpinn.io.config_text import read_config

STATUSES = ("converged", "step_limit", "time_limit", "interrupted", "diverged")
FIELD_AXES = ("t, z, y, x",)
"""Stands for the axes of a field: the file's coordinates, time first, x last."""
NO_AXES: tuple[str, ...] = ()
NUMBER_OR_NULL = "number or null"


@dataclass(frozen=True)
class Item:
    """One place in a file.

    Attributes:
        path: Its path, with names in angle brackets for those that differ between files.
        what: Its content, in a few words.
        kind: "group", or the type of an array: "float", "integer", "number" (either, or a flag), "text" or "any".
        axes: The dimension scales on an array's axes; None where they have none, its own name for a scale itself.
        attributes: Its attributes with their type ("text", "integer", "time", "json", "yaml") or their valid values.
        required: True if every file has it.
    """

    path: str
    what: str
    kind: str = "group"
    axes: tuple[str, ...] | None = None
    attributes: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    required: bool = False


_LABEL = {"long_name": "text", "units": "text"}
_COMMON = {
    "schema_version": "integer",
    "created": "time",
    "kanpinn_version": "text",
    "torch_version": "text",
    "numpy_version": "text",
    "h5py_version": "text",
    "python_version": "text",
}

SOLUTION = (
    Item(
        "/",
        "the run: problem, equation, config, how it ended, what made it",
        attributes={
            "schema": ("kanpinn-solution",),
            **_COMMON,
            "problem": "text",
            "equation": "text",
            "config": "yaml",
            "seed": "integer",
            "dtype": "text",
            "status": STATUSES,
            "slabs": "integer",
            "slabs_begun": "integer",
            "parameters": "text",
        },
        required=True,
    ),
    Item("/<coordinate>", "values of a coordinate, rising", "float", ("<coordinate>",), _LABEL),
    Item("/<unknown>", "an unknown on the grid, NaN outside the domain", "float", FIELD_AXES, _LABEL),
    Item("/<unknown>_ref", "its reference", "float", FIELD_AXES, _LABEL),
    Item("/<unknown>_error", "its error, unknown − reference", "float", FIELD_AXES, _LABEL),
    Item(
        "/<unknown>_error_estimate",
        "an estimate of unknown − solution, without a reference",
        "float",
        FIELD_AXES,
        _LABEL,
    ),
    Item("/residual", "residual of the equation", "float", FIELD_AXES, _LABEL),
    Item("/residual_<equation>", "residual of one of several equations", "float", FIELD_AXES, _LABEL),
    Item("/history", "one row per step of the optimiser", required=True),
    Item("/history/step", "number of the step, from 1", "integer", ("step",), _LABEL),
    Item("/history/level", "the level it was made on", "integer", ("step",), _LABEL),
    Item("/history/slab", "the time slab, in runs that have several", "integer", ("step",), _LABEL),
    Item("/history/wall_time", "seconds since training began", "float", ("step",), _LABEL),
    Item("/history/loss", "the loss", "float", ("step",), _LABEL),
    Item("/history/work", "points × parameters, summed over the steps so far", "float", ("step",), _LABEL),
    Item("/history/term_<term>", "one term of the loss", "float", ("step",), _LABEL),
    Item("/history/weight_<term>", "its weight", "float", ("step",), _LABEL),
    Item("/history/coefficient_<coefficient>", "a coefficient that is found", "float", ("step",), _LABEL),
    Item("/history/relative_l2_<unknown>", "error at 2000 grid points", "float", ("step",), _LABEL),
    Item("/history/<column>", "what else is known of a step", "any", ("step",), _LABEL),
    Item("/levels", "one row per visit of a level", attributes={"json": "json"}, required=True),
    Item("/levels/entry", "a dimension without values", "float", ("entry",)),
    Item("/levels/<column>", "a column of the table, as in metrics.json", "any", ("entry",), _LABEL),
    Item(
        "/spectrum",
        "power of the relative error by wave number at the end of each visit, where there is a reference on a box",
    ),
    Item("/spectrum/entry", "a dimension without values: the rows of /levels", "float", ("entry",)),
    Item(
        "/spectrum/wave_number_<coordinate>",
        "wave numbers along a coordinate, cycles per unit",
        "float",
        ("wave_number_<coordinate>",),
        _LABEL,
    ),
    Item(
        "/spectrum/<unknown>_<coordinate>",
        "share of each in the mean square error over that of the reference, (entry, wave_number_<coordinate>)",
        "float",
        attributes=_LABEL,
    ),
    Item("/points", "the last collocation points, by condition", required=True),
    Item("/points/<condition>", "those of a condition, or of the interior"),
    Item("/points/<condition>/point", "a dimension without values", "float", ("point",)),
    Item("/points/<condition>/<coordinate>", "a coordinate of the points", "float", ("point",), _LABEL),
    Item("/points/<condition>/residual", "size of the residual there", "float", ("point",), _LABEL),
    Item("/data", "the measured data, where there are any"),
    Item("/data/<term>", "those of a term: its columns as given"),
    Item("/data/<term>/point", "a dimension without values", "float", ("point",)),
    Item("/data/<term>/solution_<unknown>", "an unknown as computed there", "float", ("point",), _LABEL),
    Item(
        "/data/<term>/<column>", "a coordinate, a measured value or its standard deviation", "float", ("point",), _LABEL
    ),
    Item("/metrics", "metrics.json, whole and value by value", attributes={"json": "json"}, required=True),
    Item("/model", "what rebuilds the network", attributes={"json": "json"}, required=True),
    Item("/model/<array…>", "knots and coefficients, by layer; of periodic splines those of one period", "number"),
    Item(
        "/VTKHDF",
        "what VTK needs to show the fields; not with more than three axes of space",
        attributes={"Version": "integer", "Type": ("ImageData", "UnstructuredGrid")},
    ),
    Item("/VTKHDF/PointData", "the root fields: hard links, or views (virtual datasets) on an UnstructuredGrid"),
    Item("/VTKHDF/PointData/<field>", "a root field", "float"),
    Item("/VTKHDF/Steps", "the time steps", attributes={"NSteps": "integer"}),
    Item("/VTKHDF/Steps/Values", "their times", "float", NO_AXES),
    Item("/VTKHDF/Steps/PointDataOffsets", "where each step begins in a field"),
    Item("/VTKHDF/Steps/PointDataOffsets/<field>", "of one field", "integer", NO_AXES),
    Item("/VTKHDF/Steps/<offsets>", "which cells belong to a step", "integer", NO_AXES),
    Item("/VTKHDF/Points", "grid points of an UnstructuredGrid (x, y, z)", "float", NO_AXES),
    Item("/VTKHDF/<cells>", "its cells: Connectivity, Offsets, Types and their numbers", "integer", NO_AXES),
)

CHECKPOINT = (
    Item(
        "/",
        "a state of the run, with a checksum over all of it",
        attributes={"schema": ("kanpinn-checkpoint",), **_COMMON, "checksum": "text"},
        required=True,
    ),
    Item("/meta", "the bytes of a JSON record of the run", "integer", required=True),
    Item("/arrays", "parameters and whatever else restores the run", required=True),
    Item("/arrays/<array…>", "numbers of any shape", "number"),
)

SWEEP = (
    Item("/", "the jobs of a sweep", attributes={"schema": ("kanpinn-sweep",), **_COMMON}, required=True),
    Item("/job", "number of the job", "integer", ("job",), required=True),
    Item("/<column>", "a column of summary.csv", "any", ("job",)),
)

METRICS: Mapping[str, str | tuple[str, ...]] = {
    "schema_version": "integer",
    "status": STATUSES,
    "problem": "text",
    "backbone": "text",
    "schedule": "text",
    "optimizer": "text",
    "seed": "integer",
    "parameters": "integer",
    "wall_time_s": "number",
    "loss": NUMBER_OR_NULL,
    "relative_l2": "numbers by unknown, or null",
    "linf": "numbers by unknown, or null",
    "error_estimate": "numbers by unknown, or null",
    "levels": "list",
}
"""Keys of metrics.json that are always there; there may be more."""

FURTHER_METRICS: Mapping[str, str | tuple[str, ...]] = {
    "limited_by": "text or null",
    "error_estimate_trusted": "true, false or null",
    "error_estimate_by": "text or null",
    "error_estimate_doubt": "text or null",
    "work": NUMBER_OR_NULL,
    "accuracy": NUMBER_OR_NULL,
    "path": "list",
}
"""Some of those."""

LEVEL: Mapping[str, str | tuple[str, ...]] = {
    "level": "integer",
    "grid": "integer or null",
    "parameters": "integer",
    "optimizer": "text",
    "steps": "integer",
    "loss": NUMBER_OR_NULL,
    "relative_l2": "numbers by unknown, or null",
    "wall_time_s": "number",
    "transfer_gap": NUMBER_OR_NULL,
}
"""Keys of each entry of `levels`."""

FURTHER_LEVEL: Mapping[str, str | tuple[str, ...]] = {
    "slab": "integer or null",
    "work": NUMBER_OR_NULL,
    "entered": "text",
}
"""Some that newer runs have."""

SCHEMA_OF = {"kanpinn-solution": SOLUTION, "kanpinn-checkpoint": CHECKPOINT, "kanpinn-sweep": SWEEP}


def mismatch(value: Any, kind: str | tuple[str, ...]) -> str | None:
    """Name what is expected instead of a value; None where it is right."""
    shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:39]}…"
    if isinstance(kind, tuple):
        return None if value in kind else f"one of {', '.join(kind)}; found {shown}"
    right: dict[str, Callable[[], bool]] = {
        "text": lambda: isinstance(value, str),
        "text or null": lambda: value is None or isinstance(value, str),
        "true, false or null": lambda: value is None or isinstance(value, bool),
        "integer": lambda: not isinstance(value, list) and np.asarray(value).dtype.kind in "iu",
        "integer or null": lambda: value is None or right["integer"](),
        "number": lambda: isinstance(value, int | float) and not isinstance(value, bool),
        "number or null": lambda: value is None or right["number"](),
        "numbers by unknown, or null": lambda: (
            value is None
            or (isinstance(value, Mapping) and all(mismatch(v, NUMBER_OR_NULL) is None for v in value.values()))
        ),
        "list": lambda: isinstance(value, list),
        "time": lambda: isinstance(value, str) and datetime.datetime.fromisoformat(value).tzinfo is not None,
        "json": lambda: isinstance(value, str) and json.loads(value) is not NotImplemented,
        "yaml": lambda: isinstance(value, str) and read_config(value) is not None,
    }
    try:
        good = right[kind]()
    except ValueError:
        good = False
    return None if good else f"{kind}; found {'nothing' if value is None else shown}"
