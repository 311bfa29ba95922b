"""metrics.json: read from anyone, checked before anything is made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kanpinn.errors import UserError
from kanpinn.io.schema import FURTHER_LEVEL, FURTHER_METRICS, LEVEL, METRICS, mismatch

_MOST_BYTES = 64 * 2**20
_MOST_LETTERS = 10_000
MOST_LEVELS = 64
_COUNTS = {"level": MOST_LEVELS, "slab": 10**6, "steps": 10**12, "grid": 10**12}
"""Whole numbers in the records of levels, and the largest: rows, columns and ticks are made by them."""

_UNMET = {"loss", "term", "points", "parameters", "stalled"}
"""Kinds of warnings of equations, conditions or data that are not met, or at too few points."""


def read_metrics(path: Path) -> dict[str, Any] | None:
    """Read metrics.json, None where there is none; raises UserError if it is no JSON of the kind that a run writes."""
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise ValueError("not a plain file")
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are more than any run writes")
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())[:120]}).") from None
    if not isinstance(metrics, dict):
        raise UserError(f"{path}: holds a {type(metrics).__name__}; expected a JSON object.")
    try:
        check_metrics(metrics)
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}).") from None
    return metrics


def metrics_of(folder: Path) -> dict[str, Any]:
    """The content of a run folder's metrics.json; empty where it is missing or damaged."""
    try:
        return read_metrics(folder / "metrics.json") or {}
    except UserError:
        return {}


def not_told(names: Sequence[str]) -> str:
    """Say that data do not tell some coefficients."""
    return f"the data do not determine {', '.join(names)}: other values fit them as well; give data that depend on it"


def undetermined(metrics: Mapping[str, Any]) -> str | None:
    """Return the line that a run ends with whose data do not determine a coefficient; None where they do.

    None too where that need not be the data's fault: the run was stopped, or equations or data are not met.
    """
    kinds = {flag["kind"] for flag in metrics.get("warnings") or []}
    names = [str(name) for name, one in (metrics.get("coefficients") or {}).items() if one.get("determined") is False]
    if not names or kinds & _UNMET or metrics.get("status") not in ("converged", "step_limit"):
        return None
    return f"unknown={{{', '.join(f'{name}: …' for name in names)}}}: {not_told(names)}"


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Check the types of what everyone relies on in metrics; keys that are not known may hold anything finite.

    Raises:
        ValueError: Naming the first key whose value is not of the type documented.
    """
    _check_kinds(metrics, {**METRICS, **FURTHER_METRICS}, "")
    warnings = metrics.get("warnings") or []
    if not isinstance(warnings, list) or not all(
        isinstance(flag, Mapping) and isinstance(flag.get("kind"), str) and isinstance(flag.get("message"), str)
        for flag in warnings
    ):
        raise ValueError("warnings is not a list of objects with kind and message")
    found = metrics.get("coefficients") or {}
    if not isinstance(found, Mapping) or not all(isinstance(one, Mapping) for one in found.values()):
        raise ValueError("coefficients is not an object of objects")
    for one in found.values():
        interval = one.get("interval_95") or [None, None]
        if not (isinstance(interval, list) and len(interval) == 2 and all(map(_is_number, interval))):
            raise ValueError("interval_95 of a coefficient is no pair of numbers")
        if not (_is_number(one.get("value")) and _is_number(one.get("std"))):
            raise ValueError("a coefficient is not a number")
    if not all(isinstance(one, Mapping) for one in metrics.get("path", [])):
        raise ValueError("path is not a list of objects")
    levels = metrics.get("levels") or []
    if not isinstance(levels, list) or not all(isinstance(level, Mapping) for level in levels):
        raise ValueError("levels is not a list of objects")
    for level in levels:
        _check_kinds(level, {**LEVEL, **FURTHER_LEVEL}, " of a level")
        for key, most in _COUNTS.items():
            value = level.get(key)
            whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
            if not (whole or (value is None and key != "level")):
                raise ValueError(f"{key} of a level is not a whole number up to {most}")
    _check_values(metrics, "metrics", 0)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _check_kinds(values: Mapping[str, Any], kinds: Mapping[str, str | tuple[str, ...]], of: str) -> None:
    """Refuse a value of another kind than that declared, of keys that are there."""
    for key, kind in kinds.items():
        if key in values and (wrong := mismatch(values[key], kind)) is not None:
            raise ValueError(f"{key}{of}: expected {wrong}")


def _check_values(value: Any, key: str, depth: int) -> None:
    """Refuse what strict JSON from a run never holds: numbers that are not finite, endless nesting or text."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} is not a finite number")
    if isinstance(value, int) and abs(value) >= 2**64:
        raise ValueError(f"{key} is an absurd number")
    if isinstance(value, str) and len(value) > _MOST_LETTERS:
        raise ValueError(f"{key} is a text of {len(value)} letters")
    if isinstance(value, Mapping | list):
        if depth > 8:
            raise ValueError("nested without end")
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            _check_values(name, "a key", 9)
            _check_values(item, str(name)[:40], depth + 1)
