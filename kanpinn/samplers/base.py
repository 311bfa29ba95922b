"""Samplers: rules that place weighted points inside a problem's domain and on the supports of its conditions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError, invalid, unknown_choice
from kanpinn.geometry.chart import Array, Chart
from kanpinn.options import Options, option
from kanpinn.pde import Problem
from kanpinn.pde.condition import pieces_of
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import region_of
from kanpinn.samplers.placing import (
    CollocationSample,
    PointSet,
    Request,
    check_precision,
    finite_residual,
    joined,
    on_piece,
    relative_measure,
    share,
)

MOST_POINTS = 10**8


def _per_level(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


@dataclass
class Sampler(Options, ABC):
    """A rule that places points; subclasses are final and say how one region or piece is filled."""

    key: ClassVar[str] = "sampler"

    interior: int | list[int] = option(
        2048, "points inside the domain: one number, or one per level", at_least=1, at_most=MOST_POINTS
    )
    boundary: int | list[int] | dict[str, int | list[int]] = option(
        256,
        "points per condition: one number, or one per level; or these by condition",
        at_least=1,
        at_most=MOST_POINTS,
    )
    resample_every: int = option(
        5, "optimiser steps after which new points are drawn; 0: never", at_least=0, at_most=MOST_POINTS
    )
    growth: float = option(1.0, "factor per level by which a single number of points grows", at_least=0.01, at_most=100)

    follows_knots: ClassVar[bool] = False
    """True if the points depend on the spline's intervals."""

    def check(self) -> None:
        """Refuse empty lists; raises UserError."""
        for key, value in self._numbers():
            if _per_level(value) and not value:
                raise invalid(f"sampler.{key}", value, "one number of points per level")

    def _numbers(self) -> list[tuple[str, Any]]:
        """Every number of points, or list of them, with its key."""
        if isinstance(self.boundary, Mapping):
            return [("interior", self.interior), *((f"boundary.{name}", v) for name, v in self.boundary.items())]
        return [("interior", self.interior), ("boundary", self.boundary)]

    def check_levels(self, levels: int) -> None:
        """Refuse lists of points that do not fit the number of levels, before any work starts; raises UserError."""
        for key, value in self._numbers():
            if _per_level(value) and len(value) != levels:
                raise invalid(f"sampler.{key}", list(value), f"one number of points per level, {levels} in all")
        for level in range(levels):
            self.counts(level)

    def counts(self, level: int) -> tuple[int, int]:
        """Return interior points and points per condition at a level, the most of any where they differ.

        Raises:
            UserError: If a list has no entry for the level, or growth asks for too many points.
        """
        found = [self._count(key, value, level) for key, value in self._numbers()]
        return found[0], max(found[1:], default=1)

    def sizes(self, level: int, names: Sequence[str], cells: Mapping[str, int]) -> tuple[int, int]:
        """About how many points a level gets: `counts`, unless the rule follows the spline's intervals."""
        return self.counts(level)

    def _count(self, key: str, value: Any, level: int) -> int:
        """One number of points at a level."""
        if not _per_level(value):
            count = value * float(self.growth) ** level
            if count > MOST_POINTS:
                raise invalid("sampler.growth", self.growth, f"at most {MOST_POINTS} points at level {level}")
            return max(1, round(count))
        if level < len(value):
            return value[level]
        raise invalid(f"sampler.{key}", list(value), f"one number of points per level, also for level {level}")

    def condition_counts(self, names: Sequence[str], level: int) -> dict[str, int]:
        """Return the number of points on each condition at a level.

        Raises:
            UserError: If `boundary` goes by name and does not name exactly these conditions, or see `counts`.
        """
        if not isinstance(self.boundary, Mapping):
            return dict.fromkeys(names, self._count("boundary", self.boundary, level))
        for name in self.boundary:
            if name not in names:
                raise unknown_choice("sampler.boundary", name, names)
        for name in names:
            if name not in self.boundary:
                raise invalid("sampler.boundary", dict(self.boundary), f"a number of points for '{name}' too")
        return {name: self._count(f"boundary.{name}", value, level) for name, value in self.boundary.items()}

    def check_problem(self, problem: Problem) -> None:
        """Refuse a problem whose domain or conditions the rule does not fit, before any work; raises UserError."""
        self.condition_counts([condition.name for condition in conditions_of(problem)], 0)

    def moved(self, problem: Problem, points: Array, weights: Array) -> tuple[Array, Array]:
        """Interior points `[N, d]` and weights `[N]` once a rule has shifted points after placing them evenly."""
        return points, weights

    @abstractmethod
    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        """Return points `[N, d]` of a chart and their weights `[N]`; a tensor rule takes the nearest number it can."""

    def draw(
        self,
        problem: Problem,
        level: int,
        generator: np.random.Generator,
        *,
        cells: Mapping[str, int] | None = None,
        breaks: Mapping[str, tuple[float, ...]] | None = None,
        residual: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> CollocationSample:
        """Draw every point a problem needs at one level, 0 the coarsest: inside, on conditions, paired ones to compare.

        Each draw moves the generator on, so that the next gives new points. Rules that follow the spline see its
        intervals per coordinate, with their ends on [−1, 1] where they are unequal; those that follow the residual the
        network's |residual| `[M]` at points `[M, d]`.

        Raises:
            DivergedError: If a rule looks at a residual that is not finite.
            UserError: If the level or a condition has no number of points, a condition holds nowhere in the domain, or
                points cannot be told apart.
        """
        region, posed = region_of(problem), conditions_of(problem)
        if region.measure == 0:
            raise UserError(f"problem={type(problem).__name__}: no point of the box lies inside the domain.")
        check_precision(region, dtype)
        box = zip(region.names, region.lower, region.upper, strict=True)
        ends = {n: a + (b - a) / 2 * (np.asarray(breaks[n]) + 1) for n, a, b in box if breaks and n in breaks}
        interior, _ = self.counts(level)
        counts = self.condition_counts([condition.name for condition in posed], level)

        def to_tensor(values: Array) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        if problem.has_equations:
            follows = None if residual is None else finite_residual(residual, region.names, to_tensor)
            points, weights = self._filled(region.chart, interior, Request(generator, cells or {}, follows, ends))
            points, weights = self.moved(problem, points, weights)
        else:  # no term asks for points inside
            points, weights = np.add(region.lower, region.upper)[None] / 2, np.ones(1)
        request, conditions, paired = Request(generator, cells or {}, breaks=ends), {}, {}
        for condition in posed:
            pieces, periodic = pieces_of(condition, region), condition.periodic is not None
            pieces = [piece for piece in pieces if piece.chart.measure]
            measures = [relative_measure(piece.chart, region) for piece in pieces]
            placed = [
                on_piece(piece, *self._filled(piece.chart, many, request), to_tensor, periodic=periodic)
                for piece, many in zip(pieces, share(counts[condition.name], measures), strict=True)
            ]
            conditions[condition.name], pairs = joined(placed, measures)
            if pairs is not None:
                paired[condition.name] = pairs
        return CollocationSample(PointSet(to_tensor(points), to_tensor(weights)), conditions, paired)

    def _filled(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        """Points `[N, d]` and weights `[N]` of any set; of a finite one always all its points."""
        if chart.dimension:
            return self.place(chart, count, request)
        points = chart.all_points()
        return points, np.ones(len(points))
