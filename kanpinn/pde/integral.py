"""Integral conditions: a mean that fixes a constant, a mass that is conserved, a norm that is 1."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Points, Region
from kanpinn.pde.condition import Condition
from kanpinn.pde.point import Over, Point
from kanpinn.pde.problem import Problem, region_of

TIMES = 24
"""Values of a coordinate at which a condition holds that does not integrate over it, where none are given."""


@final
@dataclass(frozen=True)
class Integral:
    """An integral condition, among the conditions of a problem: `Integral("mass", lambda p: p.u, 1.0)` for ∫u = 1.

    Attributes:
        name: Name of its loss term.
        integrand: Function of a `Point` that is integrated.
        value: Value of the integral: a number, or a function of a `Point` with the coordinates that are not integrated
            over, such as `lambda p: torch.exp(-p.t)`.
        over: Coordinates integrated over, `"x"` or `("x", "y")`, so that the condition holds at every value of the
            others; a region, with the same for coordinates that it does not have; a piece of the boundary, such as
            "x+"; None for the whole domain.
        at: Values of the one coordinate that is left, such as times, at which it holds; None for `TIMES` of them.
        nodes: Gauss–Legendre nodes in each coordinate; 0 chooses them.

    Raises:
        UserError: If it has no name or no integrand.
    """

    name: str
    integrand: Callable[[Point], Any]
    value: float | Callable[[Any], Any] = 0.0
    over: Over = None
    at: Sequence[float] | None = None
    nodes: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not callable(self.integrand):
            raise UserError(f"Integral({self.name!r}, {self.integrand!r}): expected a name and a function of a point")

    def condition(self, problem: Problem) -> Condition:
        """Return it as a condition at points, one for each value of the coordinates left.

        Raises:
            UserError: If values are given of a coordinate although none or several are left.
        """
        domain = problem.domain
        over = (self.over,) if isinstance(self.over, str) else self.over
        over = over.names if isinstance(over, Region) else over or domain.names
        left = [one for one in domain.names if one not in over] if set(over) <= set(domain.names) else []
        if self.at is not None and len(left) != 1:
            what = f"{', '.join(left)} are left" if left else "it integrates over all coordinates"
            raise UserError(f"integral {self.name}: at={list(self.at)}: values of one coordinate, but {what}")
        inner = region_of(problem).chart
        point = inner.all_points()[0] if not inner.dimension else _some(problem)
        many = TIMES if len(left) == 1 else round(TIMES ** (2 / max(len(left), 1)))
        grids = [_spread(*domain.interval(one), many) if self.at is None else np.array(self.at, float) for one in left]
        mesh = np.meshgrid(*grids, indexing="ij") if grids else []
        columns = {one: np.full(mesh[0].size if mesh else 1, point[k]) for k, one in enumerate(domain.names)}
        columns |= {one: axis.ravel() for one, axis in zip(left, mesh, strict=True)}
        gone = {one for one in domain.names if one not in left and one not in problem.parameters}
        return Condition(self.name, Points(**columns), lambda p: self._residual(p, gone), joint=True)

    def _residual(self, p: Point, gone: Collection[str]) -> Tensor:
        found = p.integral(self.integrand, self.over, nodes=self.nodes)
        return found - (self.value(_Left(self.name, p, gone)) if callable(self.value) else self.value)


@final
class _Left:
    """A point without the coordinates that are integrated over."""

    def __init__(self, name: str, p: Point, gone: Collection[str]) -> None:
        self._name, self._p, self._gone = name, p, gone

    def __getattr__(self, name: str) -> Any:
        if name in self._gone:
            raise UserError(f"integral {self._name}: its value depends on p.{name}, but {name} is integrated over")
        return getattr(self._p, name)


def _spread(a: float, b: float, many: int) -> np.ndarray:
    """Return Chebyshev points of [a, b], both ends among them, by which a smooth function is known in between."""
    return np.clip((a + b) / 2 - (b - a) / 2 * np.cos(np.pi * np.arange(many) / max(many - 1, 1)), a, b)


def _some(problem: Problem) -> np.ndarray:
    """Return some point of a problem's domain, `[d]`."""
    chart = region_of(problem).chart
    unit = np.random.default_rng(0).random((4096, chart.dimension))
    points = chart.stretched(np.concatenate([np.full((1, chart.dimension), 0.5), unit]))
    kept = points if chart.part is None else points[chart.part(points)]
    if not len(kept):
        raise UserError("no point of the domain was found for an integral")
    return kept[0]
