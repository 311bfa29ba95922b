"""Coefficients to be found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from typing import Any, Self, final

from kanpinn.errors import UserError, invalid, unknown_key
from kanpinn.pde.problem import Problem


@final
class Unknown(float):
    """A coefficient to be found, such as `nu: float = Unknown(0.02, lower=0)`; as a number it is its starting value.

    Attributes:
        lower: Bound that it stays above; None for none.
        upper: Bound that it stays below.

    Raises:
        UserError: If a number is not finite, or the start is not between the bounds.
    """

    lower: float | None
    upper: float | None

    def __new__(cls, start: float, *, lower: float | None = None, upper: float | None = None) -> Self:
        """Return the number, with its bounds."""
        found = super().__new__(cls, start)
        found.lower, found.upper = lower, upper
        ends = -math.inf if lower is None else lower, math.inf if upper is None else upper
        if not (math.isfinite(start) and ends[0] < start < ends[1]):
            given = {"lower": lower, "upper": upper}
            told = "".join(f", {key}={value:g}" for key, value in given.items() if value is not None)
            raise UserError(f"Unknown({start:g}{told}): expected a finite start{_between(lower, upper)}")
        return found


def _between(lower: float | None, upper: float | None) -> str:
    """Say between which bounds a number lies, "" where there are none."""
    if lower is not None and upper is not None:
        return f" between a lower bound {lower:g} and a higher upper one, {upper:g}"
    return f" above {lower:g}" if lower is not None else "" if upper is None else f" below {upper:g}"


def free_coefficients(problem: Problem) -> dict[str, Unknown]:
    """Return the coefficients of a problem that are to be found, by name."""
    values = ((field.name, getattr(problem, field.name)) for field in fields(problem))
    return {name: value for name, value in values if isinstance(value, Unknown)}


def check_real(problem: Problem, name: str, key: str, given: Any) -> None:
    """Refuse a name that is not that of a coefficient, as a real number; raises UserError.

    Args:
        problem: The problem.
        name: The name.
        key: Key it is given under, for the message.
        given: Value of that key.
    """
    values = {field.name: getattr(problem, field.name) for field in fields(problem)}
    real = [one.name for one in fields(problem) if isinstance(values[one.name], float) or one.type in (float, "float")]
    if name in real:
        return
    if name not in values and real:
        raise unknown_key(key, given, real)
    expected = f"one of {', '.join(real)}" if real else "none: the problem has no coefficient that is a real number"
    if type(values.get(name)) is int:
        expected += f"{';' if not real else ', real numbers;'} {name} is a whole number"
    elif name in values:
        expected += f"; {name} is not a real number"
    raise invalid(key, given, expected)


def posed(problem: Problem, values: Mapping[str, Any]) -> Problem:
    """Return the same problem with other values of coefficients, tensors `[N]` among them, unchecked."""
    if not values:
        return problem
    other = copy(problem)
    vars(other).update(values)
    return other
