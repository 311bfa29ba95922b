"""Tensor-product B-splines on the box around a domain, as a space for a least-squares problem by collocation.

On [a, b] n equal intervals carry n + k B-splines of degree k, or n where the coordinate is periodic: those that differ
by n are then one. On each cell of the tensor grid (k + 1)^d products differ from zero; the coefficients of the products
are numbered so that the normal equations are a band: the coordinate with the most functions is the slowest, and a
periodic coordinate runs 0, n − 1, 1, n − 2, … (folded), so that its first and last functions are neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.geometry.chart import Array
from kanpinn.geometry.quadrature import unit_rule
from kanpinn.splines.bspline import piece_polynomials
from kanpinn.splines.piecewise import derivatives

Numbers = NDArray[np.int64]


@final
@dataclass(frozen=True)
class SplineSpace:
    """Tensor-product B-splines of one degree on a box.

    Attributes:
        lower: First value of each coordinate, `[d]`.
        upper: Last value of each coordinate, `[d]`.
        intervals: Number of intervals of each coordinate.
        periodic: Whether each coordinate is periodic.
        degree: Degree k.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    intervals: tuple[int, ...]
    periodic: tuple[bool, ...]
    degree: int = 5

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
        """Return the cell `[N]` of points `[N, d]` and their places s ∈ [−1/2, 1/2] there `[N, d]`."""
        cell, places = np.zeros(len(points), np.int64), np.empty_like(points)
        for k, (a, b, n) in enumerate(zip(self.lower, self.upper, self.intervals, strict=True)):
            position = (points[:, k] - a) * (n / (b - a))
            own = np.clip(np.floor(position).astype(np.int64), 0, n - 1)
            places[:, k] = position - own - 0.5
            cell = cell * n + own
        return cell, places

    def values(self, places: Array, orders: Sequence[int]) -> Array:
        """Derivatives of the products of a cell at places `[N, d]` in it, by the order in each coordinate; `[N, L]`."""
        found = np.ones((len(places), 1))
        for k, order in enumerate(orders):
            scale = (self.intervals[k] / (self.upper[k] - self.lower[k])) ** order
            powers = _pieces(self.degree)[:, :, None].expand(-1, -1, len(places))
            one = scale * derivatives(powers, torch.from_numpy(places[:, k]), order)[order].numpy().T
            found = (found[:, :, None] * one[:, None, :]).reshape(len(places), -1)
        return found

    def nodes(self, order: int) -> tuple[Array, Array]:
        """Gauss–Legendre points of every cell, `[cells, order^d, d]`, and weights `[cells, order^d]` that sum to 1."""
        own, weights = unit_rule(order)
        dimension = len(self.intervals)
        places = np.stack(np.meshgrid(*[own - 0.5] * dimension, indexing="ij"), -1).reshape(-1, dimension)
        shares = reduce(np.multiply.outer, [weights] * dimension).ravel()
        corners = np.stack(np.unravel_index(np.arange(self.cells), self.intervals), 1)  # (cells, d)
        widths = (np.array(self.upper) - np.array(self.lower)) / np.array(self.intervals)
        points = np.array(self.lower) + widths * (corners[:, None, :] + 0.5 + places)
        return points, np.broadcast_to(shares / self.cells, points.shape[:2])


def _pieces(degree: int) -> Tensor:
    """Coefficients `[k + 1, k + 1]` in powers of s, constants first, of the B-splines of an interval."""
    return torch.tensor([[float(c) for c in row] for row in piece_polynomials(degree)], dtype=torch.float64).T
