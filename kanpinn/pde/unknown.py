"""Coefficients to be found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from typing import Any, Self, final

from kanpinn.errors import UserError
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
            raise UserError(f"Unknown({start:g}, lower={lower}, upper={upper}): expected lower < start < upper, finite")
        return found


def free_coefficients(problem: Problem) -> dict[str, Unknown]:
    """Return the coefficients of a problem that are to be found, by name."""
    values = ((field.name, getattr(problem, field.name)) for field in fields(problem))
    return {name: value for name, value in values if isinstance(value, Unknown)}


def posed(problem: Problem, values: Mapping[str, Any]) -> Problem:
    """Return the same problem with other values of coefficients, tensors `[N]` among them, unchecked."""
    if not values:
        return problem
    other = copy(problem)
    vars(other).update(values)
    return other
