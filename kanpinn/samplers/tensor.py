"""Points on tensor grids: equispaced cell midpoints, and Gauss-Legendre points in every spline interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, final

import numpy as np

from kanpinn.errors import invalid, unknown_choice
from kanpinn.geometry.chart import Array, Chart
from kanpinn.options import option
from kanpinn.pde import Problem
from kanpinn.samplers.base import MOST_POINTS, Sampler
from kanpinn.samplers.placing import Request


def tensor_product(points: Sequence[Array], weights: Sequence[Array]) -> tuple[Array, Array]:
    """Combine rules per coordinate, points and weights `[N_k]`, into one for a box, the last coordinate fastest."""
    mesh = np.meshgrid(*points, indexing="ij")
    return np.stack([axis.ravel() for axis in mesh], axis=1), reduce(np.multiply.outer, weights).ravel()


def grid_shape(lengths: Sequence[float], count: int) -> tuple[int, ...]:
    """The tensor grid of nearly square cells, on a box of d interval lengths, whose size is nearest to a given number.

    Cells per coordinate: each one of the two whole numbers around its share in a grid of exactly square cells (1 where
    the box is thinner than such a cell).
    """
    shares = [1.0] * len(lengths)
    wide = list(range(len(lengths)))
    while wide:
        spacing = math.exp((sum(math.log(lengths[k]) for k in wide) - math.log(count)) / len(wide))
        for k in wide:
            shares[k] = max(1.0, lengths[k] / spacing)
        kept = [k for k in wide if lengths[k] > spacing]
        if len(kept) == len(wide):
            break
        wide = kept
    # The small shift keeps a share that is whole but for rounding, such as 63.999…, from offering 63.
    choices = [sorted({max(1, math.floor(share + 1e-9)), math.ceil(share - 1e-9)}) for share in shares]

    def misfit(shape: tuple[int, ...]) -> tuple[int, float]:
        sides = [length / cells for length, cells in zip(lengths, shape, strict=True)]
        return abs(math.prod(shape) - count), max(sides) / min(sides)

    return min(itertools.product(*choices), key=misfit)


def gauss_legendre_rule(
    lower: float, upper: float, intervals: int, order: int, breaks: Array | None = None
) -> tuple[Array, Array]:
    """Composite Gauss-Legendre quadrature, exact for piecewise polynomials of degree 2·order − 1.

    Points `[intervals · order]`, ascending, and weights `[intervals · order]` that sum to the length. Intervals are
    equal, or the parts between lower and upper of those with these ends.
    """
    nodes, weights = np.polynomial.legendre.leggauss(order)
    if breaks is not None:
        ends = np.unique(np.clip([lower, *breaks, upper], lower, upper))
        halves = np.diff(ends)[:, None] / 2
        return ((ends[1:] + ends[:-1])[:, None] / 2 + halves * nodes).ravel(), (halves * weights).ravel()
    half = (upper - lower) / (2 * intervals)
    middles = lower + half * (2 * np.arange(intervals) + 1)
    return (middles[:, None] + half * nodes).ravel(), np.tile(half * weights, intervals)


@final
@dataclass
class Grid(Sampler):
    """Equispaced midpoints of a tensor grid of cells; nothing random.

    Midpoints rather than cell corners: the weights are equal (the midpoint rule), and no interior point falls on a
    face, where the conditions have their own.
    """

    resample_every: int = option(0, "steps between two draws, which are all the same", at_least=0, at_most=MOST_POINTS)
    aspect: str = option(
        "box", "box: as many points in every coordinate; equal: nearly square cells", one_of=("box", "equal")
    )

    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        lengths = chart.lengths if self.aspect == "equal" else (1.0,) * chart.dimension
        points, weights = [], []
        for a, b, cells in zip(chart.lower, chart.upper, grid_shape(lengths, count), strict=True):
            spacing = (b - a) / cells
            points.append(a + spacing * (np.arange(cells) + 0.5))
            weights.append(np.full(cells, spacing))
        return chart.kept(*tensor_product(points, weights))


@final
@dataclass
class GaussLegendre(Sampler):
    """Gauss-Legendre points with quadrature weights in every spline interval; nothing random.

    The number of points is `order` times the spline's intervals in each coordinate, inside and on pieces; `interior`
    and `boundary` count only in coordinates without a spline grid, which get ceil(n^(1/d) / order) intervals each.
    """

    resample_every: int = option(0, "steps between two draws, which are all the same", at_least=0, at_most=MOST_POINTS)
    order: int = option(3, "points per spline interval and coordinate", at_least=1, at_most=64)
    orders: dict[str, int] = option({}, "the same of coordinates that have others, by name", at_least=1, at_most=64)

    follows_knots: ClassVar[bool] = True

    def check_problem(self, problem: Problem) -> None:
        super().check_problem(problem)
        for name in self.orders:
            if name not in problem.domain.names:
                raise unknown_choice("sampler.orders", name, problem.domain.names)

    def sizes(self, level: int, names: Sequence[str], cells: Mapping[str, int]) -> tuple[int, int]:
        interior, boundary = self.counts(level)
        faces = [[name for name in names if name != left_out] for left_out in names]
        inside, *sides = (
            math.prod(order * many for order, many in self._rule(chosen, cells, asked))
            for chosen, asked in [(names, interior), *((face, boundary) for face in faces)]
        )
        return inside, max(sides)

    def _rule(self, names: Sequence[str], cells: Mapping[str, int], count: int) -> list[tuple[int, int]]:
        """Points per interval and intervals of every coordinate; without a spline grid those that `count` asks for."""
        orders = [self.orders.get(name, self.order) for name in names]
        # The shift keeps the root of 64³, 63.999… or 64.000…1, from asking for one interval more.
        return [
            (order, cells.get(name) or math.ceil(count ** (1 / len(names)) / order - 1e-9))
            for name, order in zip(names, orders, strict=True)
        ]

    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        rule = self._rule(chart.axes, request.cells, count)
        if math.prod(order * many for order, many in rule) > MOST_POINTS:
            intervals = [many for _, many in rule]
            raise invalid("sampler.order", self.order, f"at most {MOST_POINTS} points in all on {intervals} intervals")
        rules = [
            gauss_legendre_rule(a, b, many, order, request.breaks.get(name))
            for name, a, b, (order, many) in zip(chart.axes, chart.lower, chart.upper, rule, strict=True)
        ]
        return chart.kept(*tensor_product([points for points, _ in rules], [weights for _, weights in rules]))
