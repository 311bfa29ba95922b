"""Checks of a solution file's arrays and records against each other: a forged or damaged file is refused in a line.

Every function raises ValueError that names the first part that cannot be right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kanpinn.io.metrics import MOST_LEVELS

_LAYER = re.compile(r"(.*layer_\d+(?:/\w+)?)/(relu_|chebyshev_)?coefficients")
_SLAB = re.compile(r"layer_0/slab_(\d+)/")
_MOST_DEGREE = 7
_LARGEST = 1e100
"""Numbers beyond it are no coordinates, knots, coefficients or powers: figures of them would overflow."""


def _rising(values: np.ndarray) -> bool:
    """Say whether an array is numbers of a sane size, each above the one before."""
    if values.dtype.kind != "f" or values.ndim != 1:
        return False
    numbers = values.astype(np.float64)
    return bool((np.abs(numbers) < _LARGEST).all() and (np.diff(numbers) > 0).all())


_HUGE = 1e300
"""Numbers beyond it, though finite, are in no field and no history: axes and colours of figures would overflow."""


def _huge(values: np.ndarray) -> bool:
    """Say whether an array holds finite numbers that are absurd."""
    if values.dtype.kind != "f":
        return False
    return bool((np.isfinite(values) & (np.abs(values.astype(np.float64)) > _HUGE)).any())


def check_grid(coordinates: Mapping[str, np.ndarray], axes: Sequence[str], fields: Mapping[str, np.ndarray]) -> None:
    """Check that coordinates rise and every field is numbers on their grid."""
    for name, values in coordinates.items():
        if not _rising(values):
            raise ValueError(f"coordinate '{name}' is not a rising sequence of numbers")
    shape = tuple(len(coordinates[name]) for name in axes)
    if not coordinates or 0 in shape or not fields:
        raise ValueError("no coordinates or no fields")
    for name, values in fields.items():
        if values.dtype.kind != "f" or values.shape != shape:
            raise ValueError(
                f"field '{name}' of type {values.dtype} and shape {values.shape} is not numbers on the grid"
            )
        if _huge(values):
            raise ValueError(f"field '{name}' holds numbers above {_HUGE:g}")


def check_columns(title: str, columns: Mapping[str, np.ndarray], needed: Sequence[str] = ()) -> None:
    """Check that all columns of a table are as long, and those needed are there unless it is empty."""
    if len({values.shape for values in columns.values()}) > 1 or any(values.ndim != 1 for values in columns.values()):
        raise ValueError(f"columns of '{title}' differ in length")
    for name, values in columns.items():
        if _huge(values):
            raise ValueError(f"column '{name}' of '{title}' holds numbers above {_HUGE:g}")
    levels = columns.get("level", np.zeros(0, int))
    if ((levels < 0) | (levels > MOST_LEVELS)).any():
        raise ValueError(f"column 'level' of '{title}' is not levels")
    missing = [name for name in needed if columns and name not in columns]
    if missing:
        raise ValueError(f"'{title}' has no column '{missing[0]}'")


def check_slabs(slabs: int, begun: int) -> None:
    """Check that at least one time slab was planned, and no more were begun."""
    if not (1 <= slabs <= 10**6 and 0 <= begun <= slabs):
        raise ValueError(f"{begun} time slabs of {slabs} are begun")


def check_spectra(spectra: Mapping[str, np.ndarray], visits: int) -> None:
    """Check that wave numbers rise from 0, and every spectrum has a row per visit and a column per wave number."""
    for name, values in spectra.items():
        kind, _, axis = name.rpartition("_")
        if kind == "wave_number":
            right = _rising(values) and len(values) > 0 and values[0] == 0
        else:
            known = spectra.get(f"wave_number_{axis}")
            right = known is not None and values.shape == (visits, known.size) and values.dtype.kind == "f"
            # A row is known as a whole or not at all.
            right = right and bool((np.isnan(values).all(1) | ((values >= 0) & (values < _LARGEST)).all(1)).all())
        if values.dtype.kind != "f" or not right:
            raise ValueError(f"spectrum '{name}' of shape {values.shape} does not fit its wave numbers")


def check_model(model: Mapping[str, np.ndarray], attributes: Any, begun: int = 1) -> None:
    """Check that every layer of splines has coefficients `[out, in, n]` and rising knots of some degree for them.

    Arrays of time slabs beyond those begun may be NaN as a whole.
    """
    if not isinstance(attributes, Mapping) or not isinstance(attributes.get("degree", 1), int):
        raise ValueError("the model's degree is not a whole number")
    for name, values in model.items():
        slab = _SLAB.match(name)
        missing = slab is not None and int(slab[1]) >= begun and values.dtype.kind == "f" and np.isnan(values).all()
        sane = values.dtype.kind in "biuf" and (np.abs(values.astype(np.float64)) < _LARGEST).all()
        if not (sane or missing):
            raise ValueError(f"'{name}' of the model is not finite numbers of a sane size")
        found = _LAYER.fullmatch(name)
        if found is None:
            continue
        if values.dtype.kind != "f" or values.ndim != 3 or not values.size:
            raise ValueError(f"'{name}' of shape {values.shape} is not coefficients of edges")
        if found[2] != "chebyshev_":
            _check_knots(f"{found[1]}/knots", model.get(f"{found[1]}/knots"), values.shape[2], attributes.get("degree"))
        for part in ("base_weight", "spline_scale"):
            if model.get(f"{found[1]}/{part}", values[..., 0]).shape != values.shape[:2]:
                raise ValueError(f"'{found[1]}/{part}' does not fit its coefficients")


def _check_knots(name: str, knots: np.ndarray | None, count: int, known: int | None) -> None:
    """Check the knots of so many basis functions; periodic ones, of one period, have the model's degree."""
    if knots is None or not _rising(knots):
        raise ValueError(f"'{name}' is not a rising sequence of numbers")
    degree = len(knots) - count - 1
    if not degree:
        degree, count = known or 0, 2 * (known or 0) + count  # n coefficients of a periodic spline stand for n + k
    if not (1 <= degree <= _MOST_DEGREE and count > degree):
        raise ValueError(f"{len(knots)} knots in '{name}' do not fit their {count} coefficients")
