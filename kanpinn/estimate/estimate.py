"""Estimate of the relative L2 error of each unknown without a reference, from the defect equation.

Splines are refined until they represent the defect; the share left over and the change by the last refinement tell
whether the estimate may be relied on. Where corners of the domain turn inwards it may not: errors are singular there,
and least squares of second derivatives of splines converge to another function (Grisvard, Elliptic Problems in
Nonsmooth Domains, 1985, ch. 4: the Laplacian maps H² onto a closed part of L², not onto all of it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from kanpinn.estimate.defect import Correction, Trained, corrections
from kanpinn.pde.problem import region_of

FIRST = {1: (32, 128, 512, 2048), 2: (8, 16, 32, 64, 128), 3: (3, 5, 8, 12), 4: (2, 3)}
"""Numbers of intervals of each coordinate that are tried in turn, by dimension."""

RESOLVED = 0.1
"""Share of the defect left over up to which splines represent it."""

DOUBTFUL = 0.3
"""Share left over beyond which the estimate is not trusted; below it, the last refinement must have agreed."""

AGREE = 1.5
"""Factor within which estimates on two spline spaces agree."""

WORK = 1e7, 1e10
"""Multiplications of the linear solves up to which splines are refined, the fewest and the most."""

SHARE = 0.1
"""Multiplications relative to those of training."""

MOST = 2.5e8
"""Most entries of its rows and band."""


@final
@dataclass(frozen=True)
class ErrorEstimate:
    """Estimated errors of a solution.

    Attributes:
        errors: Relative L2 error by unknown; NaN where the unknown is zero.
        left: Share of the defect that no spline represents, that of the worst time slab.
        trusted: Whether the estimate may be relied on.
        corners: Whether corners that turn inwards are why it may not be.
        parts: Corrections by time slab; none for an estimate by levels, the change by the last one.
    """

    errors: Mapping[str, float]
    left: float = math.nan
    trusted: bool = True
    corners: bool = False
    parts: tuple[Correction, ...] = ()

    @property
    def method(self) -> str:
        """`defect` or `levels`."""
        return "defect" if self.parts else "levels"


def estimated(
    trained: Sequence[Trained], weights: Mapping[str, float] | None = None, training: float = math.inf
) -> ErrorEstimate | None:
    """Estimate the errors of the networks of all time slabs by splines as fine as needed and affordable.

    Args:
        trained: Each slab's problem and network with its parameters.
        weights: Weights of the loss terms.
        training: Multiplications of training; the estimate takes a share of them.

    Returns:
        The estimate; None for residuals with integrals, more than four dimensions, or where linear solves break down.
    """
    problem = trained[0][0].problem
    dimension, unknowns = len(problem.domain), len(problem.unknowns)
    last: ErrorEstimate | None = None
    most = min(max(SHARE * training, WORK[0]), WORK[1])
    for intervals in FIRST.get(dimension, ()):
        work, entries = _cost(intervals, dimension, unknowns, len(problem.derivatives) + 1)
        if len(trained) * work > most or entries > MOST:
            break
        parts = corrections(trained, [intervals] * dimension, weights)
        if parts is None:
            break
        own = _joined(parts, last)
        if own is None:
            break
        last = own
        if own.left <= RESOLVED:
            break
    if last is not None and region_of(problem).reentrant:
        return replace(last, trusted=False, corners=True)
    return last


def _joined(parts: Sequence[Correction], before: ErrorEstimate | None) -> ErrorEstimate | None:
    """Join the corrections of all slabs; `before` is the estimate on coarser splines. None where it is not finite."""
    errors = {}
    for name in parts[0].names:
        error, size = (math.hypot(*(part.norms[name][k] for part in parts)) for k in (0, 1))
        if not math.isfinite(error):
            return None
        errors[name] = error / size if size else math.nan
    left = max(part.left for part in parts)
    agree = before is not None and all(
        math.isnan(value) or value <= AGREE * before.errors[name] <= AGREE**2 * value for name, value in errors.items()
    )
    return ErrorEstimate(errors, left, left <= RESOLVED or (left <= DOUBTFUL and agree), parts=tuple(parts))


def _cost(intervals: int, dimension: int, unknowns: int, terms: int) -> tuple[float, float]:
    """Multiplications of one linear solve, and entries of its rows and band."""
    functions, local = intervals + 5, 6**dimension * unknowns
    size = functions**dimension * unknowns
    width = min(size, 6 * functions ** (dimension - 1) * unknowns)
    nodes = (3 * intervals) ** dimension
    work = size * width**2 + unknowns * nodes * local * (local + 3 * terms)
    return float(work), float(size * width + unknowns * nodes * local)
