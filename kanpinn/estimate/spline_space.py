"""Tensor-product B-splines on the box around a domain, as a space for a least-squares problem by collocation.

On [a, b] n intervals, of any widths, carry n + k B-splines of degree k, or n where the coordinate is periodic: those
that differ by n are then one. On each cell of the tensor grid (k + 1)^d products differ from zero; the coefficients of
the products are numbered so that the normal equations are a band: the coordinate with the most functions is the
slowest, and a periodic coordinate runs 0, n − 1, 1, n − 2, … (folded), so that its first and last functions are
neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.geometry.chart import Array
from kanpinn.geometry.quadrature import unit_rule
from kanpinn.splines.bspline import interval_polynomials

Numbers = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class SplineSpace:
    """Tensor-product B-splines of one degree on a box.

    Attributes:
        breaks: Ends of the intervals of each coordinate, ascending, `[n + 1]` each.
        periodic: Whether each coordinate is periodic.
        degree: Degree k.
    """

    breaks: tuple[Array, ...]
    periodic: tuple[bool, ...]
    degree: int = 5

    @cached_property
    def intervals(self) -> tuple[int, ...]:
        """Number of intervals of each coordinate."""
        return tuple(len(one) - 1 for one in self.breaks)

    @property
    def words(self) -> str:
        """The space in words."""
        return f"splines of {' × '.join(map(str, self.intervals))} intervals"

    @cached_property
    def _pieces(self) -> list[Array]:
        """Polynomials of each coordinate's B-splines by interval, function and power of s, `[n, k + 1, k + 1]`."""
        return [_pieces(one, wraps, self.degree) for one, wraps in zip(self.breaks, self.periodic, strict=True)]

    @cached_property
    def functions(self) -> tuple[int, ...]:
        """Number of B-splines of each coordinate."""
        pairs = zip(self.intervals, self.periodic, strict=True)
        return tuple(n if wraps else n + self.degree for n, wraps in pairs)

    @cached_property
    def size(self) -> int:
        """Number M of products."""
        return int(np.prod(self.functions))

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        """Step of each coordinate in the numbering of products: the more functions, the slower."""
        strides, step = [0] * len(self.functions), 1
        for k in sorted(range(len(self.functions)), key=lambda k: self._width(k)):
            strides[k] = step
            step *= self.functions[k]
        return tuple(strides)

    def _width(self, k: int) -> int:
        return self.functions[k] * (2 if self.periodic[k] else 1)

    @cached_property
    def _numbers(self) -> list[Numbers]:
        """Number of the B-splines 0 … n + k − 1 of each coordinate in its own order."""
        found = []
        for n, wraps in zip(self.intervals, self.periodic, strict=True):
            every = np.arange(n + self.degree)
            if wraps:
                every = every % n
                every = np.where(2 * every < n, 2 * every, 2 * (n - 1 - every) + 1)
            found.append(every)
        return found

    @cached_property
    def cells(self) -> int:
        """Number of cells."""
        return int(np.prod(self.intervals))

    @cached_property
    def local(self) -> Numbers:
        """Numbers of the products that differ from zero on each cell, `[cells, L]` with L = (k + 1)^d."""
        ahead = np.arange(self.degree + 1)
        parts = [
            stride * own[np.arange(n)[:, None] + ahead]
            for stride, own, n in zip(self._strides, self._numbers, self.intervals, strict=True)
        ]  # (n_k, k + 1) each

        def joined(left: Numbers, right: Numbers) -> Numbers:
            both = left[:, None, :, None] + right[None, :, None, :]
            return both.reshape(len(left) * len(right), -1)

        return reduce(joined, parts)

    def located(self, points: Array) -> tuple[Numbers, Array]:
        """Return the interval `[N, d]` of points `[N, d]` and their places s ∈ [−1/2, 1/2] there `[N, d]`."""
        cell, places = np.empty(points.shape, np.int64), np.empty_like(points)
        for k, (breaks, n) in enumerate(zip(self.breaks, self.intervals, strict=True)):
            own = cell[:, k] = np.clip(np.searchsorted(breaks, points[:, k], "right") - 1, 0, n - 1)
            places[:, k] = (points[:, k] - breaks[own]) / np.diff(breaks)[own] - 0.5
        return cell, places

    def numbered(self, cell: Numbers) -> Numbers:
        """Return the number `[N]` of cells from their intervals `[N, d]`."""
        found = np.zeros(len(cell), np.int64)
        for k, n in enumerate(self.intervals):
            found = found * n + cell[:, k]
        return found

    def values(self, cell: Numbers, places: Array, orders: Sequence[int]) -> Array:
        """Derivatives of the products of cells `[N, d]` at places there, by the order in each coordinate; `[N, L]`."""
        found = np.ones((len(places), 1))
        for k, order in enumerate(orders):
            one = self._along(k, order, cell[:, k], places[:, k])
            found = (found[:, :, None] * one[:, None, :]).reshape(len(places), -1)
        return found

    def _along(self, k: int, order: int, cell: Numbers, places: Array) -> Array:
        """Derivatives of the B-splines of one coordinate at places in intervals, `[N, k + 1]`."""
        powers = np.zeros((len(places), self.degree + 1))
        for power in range(order, self.degree + 1):
            powers[:, power] = math.perm(power, order) * places ** (power - order)
        found = np.matmul(self._pieces[k][cell], powers[:, :, None])[:, :, 0]
        return found / np.diff(self.breaks[k])[cell, None] ** order

    def nodes(self, order: int) -> tuple[Array, Array]:
        """Gauss–Legendre points of every cell, `[cells, order^d, d]`, and weights `[cells, order^d]` that sum to 1."""
        own, weights = unit_rule(order)
        dimension = len(self.intervals)
        places = np.stack(np.meshgrid(*[own] * dimension, indexing="ij"), -1).reshape(-1, dimension)
        shares = reduce(np.multiply.outer, [weights] * dimension).ravel()
        widths = [np.diff(one) for one in self.breaks]
        corners = np.stack(np.meshgrid(*(one[:-1] for one in self.breaks), indexing="ij"), -1).reshape(-1, dimension)
        sizes = np.stack(np.meshgrid(*widths, indexing="ij"), -1).reshape(-1, dimension)
        volumes = sizes.prod(1) / np.prod([one[-1] - one[0] for one in self.breaks])
        return corners[:, None, :] + sizes[:, None, :] * places, volumes[:, None] * shares


def _pieces(breaks: Array, wraps: bool, degree: int) -> Array:
    """Polynomials of B-splines; beyond the ends intervals go on as in a circle, or as wide as the last one."""
    widths = np.diff(breaks)
    n = len(widths)
    beyond = np.arange(1, degree + 1)
    ahead = widths[(beyond - 1) % n] if wraps else np.full(degree, widths[-1])
    behind = widths[-beyond % n] if wraps else np.full(degree, widths[0])
    left, right = breaks[0] - np.cumsum(behind)[::-1], breaks[-1] + np.cumsum(ahead)
    return interval_polynomials(tuple(np.concatenate([left, breaks, right]).tolist()), degree)
