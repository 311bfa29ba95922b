"""Polynomials of a total degree on a box, as a space for a least-squares problem in three and more dimensions.

Tensor grids are too many there: (n + k)^d functions, of which polynomials of degree p are (d + p)!/(d! p!), all of them
on one cell. They represent smooth errors of any dimension (Trefethen, SIAM Rev. 59, 2017, on total degree in
hypercubes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import final

import numpy as np
from numpy.polynomial import chebyshev
from scipy.stats import qmc

from kanpinn.estimate.spline_space import Numbers
from kanpinn.geometry.chart import Array

SAMPLES = 3
"""Points for each function."""


@final
@dataclass(frozen=True, eq=False)
class PolynomialSpace:
    """Products of Chebyshev polynomials on a box whose degrees sum up to at most one number.

    Attributes:
        breaks: Both ends of each coordinate, `[2]`.
        degree: That number.
    """

    breaks: tuple[Array, ...]
    degree: int = 2

    @property
    def periodic(self) -> tuple[bool, ...]:
        """False for each coordinate: none is periodic."""
        return (False,) * len(self.breaks)

    @property
    def words(self) -> str:
        """The space in words."""
        return f"polynomials of degree {self.degree}"

    @cached_property
    def _degrees(self) -> Numbers:
        """Degrees in each coordinate, `[M, d]`."""
        every = product(range(self.degree + 1), repeat=len(self.breaks))
        return np.array([one for one in every if sum(one) <= self.degree])

    @cached_property
    def size(self) -> int:
        """Number M of functions."""
        return len(self._degrees)

    cells = 1

    @cached_property
    def local(self) -> Numbers:
        """Numbers of the functions, `[1, M]`."""
        return np.arange(self.size)[None]

    def located(self, points: Array) -> tuple[Numbers, Array]:
        """Return the only cell, zeros `[N, d]`, and the places of points `[N, d]` in [−1, 1]^d."""
        lower, upper = np.array(self.breaks).T
        return np.zeros(points.shape, np.int64), (2 * points - lower - upper) / (upper - lower)

    def numbered(self, cell: Numbers) -> Numbers:
        """Return the number of the only cell, zeros `[N]`."""
        return cell[:, 0]

    def values(self, cell: Numbers, places: Array, orders: Sequence[int]) -> Array:
        """Derivatives of the functions at places, by the order in each coordinate; `[N, M]`."""
        found = np.ones((len(cell), self.size))
        for k, order in enumerate(orders):
            scale = (2 / (self.breaks[k][1] - self.breaks[k][0])) ** order
            slopes = chebyshev.chebder(np.eye(self.degree + 1), order)  # (degrees less, functions)
            found *= scale * chebyshev.chebval(places[:, k], slopes)[self._degrees[:, k]].T
        return found

    def nodes(self, _: int) -> tuple[Array, Array]:
        """Points of Sobol's sequence, `[1, m, d]`, and equal weights `[1, m]` that sum to 1."""
        lower, upper = np.array(self.breaks).T
        many = int(np.ceil(np.log2(SAMPLES * self.size)))
        places = qmc.Sobol(len(self.breaks), rng=0).random_base2(many)
        return (lower + (upper - lower) * places)[None], np.full((1, len(places)), 1 / len(places))
