"""Charts: maps of a box of parameters onto a set of points, by which samplers fill it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError

Array = NDArray[np.float64]
Part = Callable[[Array], NDArray[np.bool_]]
"""Tells which of some points `[N, d]` count, `[N]`."""
ROUNDING = 1e-12
"""Relative distance outside a curved or oblique boundary at which a point still counts as on it."""

PROBE = 2**16
"""Points of the midpoint rule by which the share of a chart that counts is measured."""


@final
@dataclass(frozen=True)
class Chart:
    """A map of a box of k parameters onto a set of points that keeps measures, and the part of the set that counts.

    A region has d parameters, a piece of its boundary d − 1. A finite set of points has none: its map takes `[1, 0]` to
    all its points, and its measure is their number.

    Attributes:
        lower: Lower ends of the parameters, k of them.
        upper: Upper ends.
        axes: Names of the coordinates that the parameters are; empty for a parameter that is none.
        points: The map, from parameters `[N, k]` to points `[N, d]`.
        part: The rule by which points are rejected; None keeps all.
        corners: Parameters at which a curve has corners.
        known: The share of the set that counts, where it is known.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    axes: tuple[str, ...]
    points: Callable[[Array], Array]
    part: Part | None = None
    corners: tuple[float, ...] = ()
    known: float | None = None

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return len(self.lower)

    @property
    def lengths(self) -> tuple[float, ...]:
        """Lengths of the parameters' intervals."""
        return tuple(b - a for a, b in zip(self.lower, self.upper, strict=True))

    @cached_property
    def share(self) -> float:
        """Share of the set that counts, by a midpoint rule: exact where its edges fall on 2^k cells."""
        if self.known is not None or self.part is None:
            return 1.0 if self.known is None else self.known
        if not self.dimension:
            return float(self.part(self.points(np.empty((1, 0)))).mean())
        count = 2 ** (PROBE.bit_length() // self.dimension)
        middles = (np.arange(count) + 0.5) / count
        mesh = np.meshgrid(*[middles] * self.dimension, indexing="ij")
        return float(self.part(self.stretched(np.stack([axis.ravel() for axis in mesh], axis=1))).mean())

    @property
    def measure(self) -> float:
        """Number of points, length, area or volume."""
        if not self.dimension:
            return float(len(self.all_points()))
        return math.prod(self.lengths) * self.share

    def all_points(self) -> Array:
        """Return the points `[N, d]` of a finite set that count."""
        points = self.points(np.empty((1, 0)))
        return points if self.part is None else points[self.part(points)]

    def stretched(self, unit: Array) -> Array:
        """Map points of the unit cube `[N, k]` onto the set `[N, d]`, never past the parameters' ends by rounding."""
        lower, upper = np.asarray(self.lower), np.asarray(self.upper)
        return self.points(np.clip(lower + unit * (upper - lower), lower, upper))

    def kept(self, parameters: Array, weights: Array) -> tuple[Array, Array]:
        """Map the nodes `[N, k]` of a quadrature rule, without those that the part rejects.

        Gives the points left `[M, d]` and their weights `[M]`, scaled to sum to the measure; raises UserError if none
        is left.
        """
        points = self.points(parameters)
        if self.part is None:
            return points, weights
        kept = self.part(points)
        if not kept.any():
            raise UserError(f"none of the {len(points)} points of a grid lie inside the domain; ask for more points.")
        return points[kept], weights[kept] * (self.measure / weights[kept].sum())

    def restricted(self, part: Part) -> Chart:
        """Return the chart of those points that a further part keeps too."""
        own = self.part
        both = part if own is None else lambda points: own(points) & part(points)
        return replace(self, part=both, known=None)

    def section(self, column: int, value: float) -> Chart:
        """Return the chart of those points whose coordinate `column` is `value`; the parameters are the coordinates."""
        return replace(
            self,
            lower=self.lower[:column] + self.lower[column + 1 :],
            upper=self.upper[:column] + self.upper[column + 1 :],
            axes=self.axes[:column] + self.axes[column + 1 :],
            points=lambda parameters: self.points(np.insert(parameters, column, value, axis=1)),
            known=None,
        )
