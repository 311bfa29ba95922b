"""Refinement of a tensor grid where, and along which coordinates, splines leave a defect over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from kanpinn.estimate.spline_space import SplineSpace
from kanpinn.geometry.chart import Array

ROUGH = 0.1
"""Roughness along a coordinate, relative to the largest one, from which its intervals are halved."""

WIDER = 4.0
"""Most that an interval is wider than its neighbour."""


@final
@dataclass(frozen=True)
class Leftover:
    """Squares of the part of a defect that no spline represents.

    Attributes:
        energies: Their sums by interval of each coordinate.
        rough: Their part that varies within cells along each coordinate.
    """

    energies: tuple[Array, ...]
    rough: tuple[float, ...]


def leftover(space: SplineSpace, inner: Sequence[Array], outer: Sequence[tuple[Array, Array]], order: int) -> Leftover:
    """Sum up the defect left over at the nodes of cells, `[cells, order^d]` each, and at other points.

    Those are pairs of points `[n, d]` and values `[n]`; they count along the coordinates in which they differ.
    """
    dimension = len(space.intervals)
    squares = np.zeros(space.intervals)
    rough = np.zeros(dimension)
    for values in inner:
        nodes = values.reshape(-1, *[order] * dimension)
        squares += np.square(values).sum(1).reshape(space.intervals)
        rough += [float(nodes.var(k + 1).sum()) for k in range(dimension)]
    energies = [squares.sum(tuple(j for j in range(dimension) if j != k)) for k in range(dimension)]
    for points, values in outer:
        cell, _ = space.located(points)
        for k in np.flatnonzero(np.ptp(points, axis=0) > 0):
            energies[k] += np.bincount(cell[:, k], np.square(values), space.intervals[k])
    return Leftover(tuple(energies), tuple(rough.tolist()))


def refined(space: SplineSpace, found: Leftover, share: float) -> tuple[Array, ...]:
    """Halve the intervals with this share and more of the mean energy, of coordinates along which it is rough."""
    most = max(found.rough)
    breaks = []
    for own, energies, rough in zip(space.breaks, found.energies, found.rough, strict=True):
        marked = energies >= share * energies.mean() if rough >= ROUGH * most else np.zeros(len(energies), bool)
        while True:
            widths = np.diff(own) / np.where(marked, 2, 1)
            beside = np.minimum(np.append(widths[1:], math.inf), np.append(math.inf, widths[:-1]))
            late = (widths > WIDER * beside * (1 + 1e-9)) & ~marked
            if not late.any():
                break
            marked |= late
        middle = (own[:-1] + own[1:]) / 2
        breaks.append(np.sort(np.append(own, middle[marked])))
    return tuple(breaks)
