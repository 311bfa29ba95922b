"""Integrals in formulas as text: `integral(exp(x - s)*u(s), s, 0, x)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from kanpinn.pde.formula_values import value
from kanpinn.pde.point import Over, Point

THERE = "@"
"""Ends the names of unknowns that are taken at the variable of integration, not at the point itself."""


@final
@dataclass(frozen=True)
class IntegralTerm:
    """An integral in a formula.

    Attributes:
        integrand: SymPy's expression.
        over: Coordinates integrated over; None for all.
        variable: Name of the variable of integration where it is none of the coordinates, else "".
        limits: SymPy's expressions of the limits; None for those of the domain.
    """

    integrand: Any
    over: tuple[str, ...] | None
    variable: str
    limits: tuple[Any, Any]

    def __call__(self, p: Point, coefficients: Mapping[str, float]) -> Tensor:
        """Return its value `[N]` at points."""

        def integrand(q: Point) -> Any:
            at = q if not self.variable else _Between(p, q, self.variable, (self.over or ("",))[0])
            return value(self.integrand, at, coefficients, {})

        lower, upper = (None if one is None else value(one, p, coefficients, {}) for one in self.limits)
        over: Over = self.over
        return p.integral(integrand, over, lower=lower, upper=upper)


@final
class _Between:
    """Names of an integrand that holds a point p and a variable of integration, by which q differs from it."""

    def __init__(self, p: Point, q: Point, variable: str, coordinate: str) -> None:
        self._p, self._q, self._variable, self._coordinate = p, q, variable, coordinate

    def __getattr__(self, name: str) -> Tensor:
        if name == self._variable:
            return getattr(self._q, self._coordinate)
        there = name.endswith(THERE)
        return getattr(self._q if there else self._p, name.removesuffix(THERE))
