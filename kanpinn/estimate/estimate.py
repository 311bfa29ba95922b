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

import numpy as np
import torch
from scipy.stats import qmc

from kanpinn.estimate.cost import affordable
from kanpinn.estimate.defect import NODES, Correction, Space, Trained, corrections
from kanpinn.estimate.least_seen import GRAY, fall
from kanpinn.estimate.polynomial_space import PolynomialSpace
from kanpinn.estimate.refinement import refined
from kanpinn.estimate.slab_shares import shares
from kanpinn.estimate.spline_space import SplineSpace
from kanpinn.geometry.chart import Array
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import Problem, inside, region_of
from kanpinn.pde.time_slab import TimeSlab

FIRST = {1: 64, 2: 8}
"""Number of intervals of each coordinate to begin with, by dimension; polynomials beyond."""

ROUNDS = 12
"""Most spline spaces that are tried."""

SHARES = (0.02, 0.5, 2.0)
"""Shares of the mean defect left over from which intervals are halved; the first that is affordable."""

RESOLVED = 0.1
"""Share of the defect left over up to which splines represent it; in one dimension they go on to a fifth of that."""

DOUBTFUL = 0.3
"""Share left over beyond which the estimate is not trusted.

Between both it has to have settled. In any case the estimate by two thirds as many functions must have agreed."""

SETTLED = 1 / 3, 0.25
"""Change of the correction by half as many functions again up to which it has settled, and what may be left of it.

The last functions have taken a part d of the defect and have moved the correction by Δ. If what is left over, r, moves
it in that proportion, the error is hypot(e, Δ r/d), which is to be near e. Fronts that no function has seen yet move it
by more each time; what is rough elsewhere moves it ever less.
"""

STAYS = 0.6
"""The same however little is left over: of a defect that oscillates the error is so small that what is left over may be
most of a correction, on every space another one."""

CEILING = 3.0
"""Factor of hypot(e, Δ r/d) in the ceiling of an error that is not trusted."""

PLACES = 10
"""Logarithm to base 2 of the number of points at which two corrections are compared."""

AGREE = 1.5
"""Factor within which estimates on two spline spaces agree."""

FEWER = 1.5
"""Factor by which the coarser of both has fewer functions at least."""

WORK = 1e7, 2e10
"""Multiplications of the linear solves up to which splines are refined, the fewest and the most."""

BEGIN = 3e8
"""Multiplications that the estimate may take in any case in three dimensions and more, and the first solve always."""

MINOR = 0.1
"""Share left over relative to the worst time slab's up to which a slab's splines stay as they are."""

FREE = 1e-9
"""Residual of a function, relative to it, up to which equations and conditions leave it free."""

NEARLY = 1e-6, 3.0
"""The same where it falls by this factor each time, and by its square in all: finer spaces represent it ever better."""

SMOOTH = {1: 14, 2: 18}
"""Degree of polynomials, by dimension, in which free functions are sought that splines do not show."""

SHARE = 0.1
"""Multiplications relative to those of training."""


@final
@dataclass(frozen=True)
class ErrorEstimate:
    """Estimated errors of a solution.

    Attributes:
        errors: Relative L2 error by unknown; NaN where the unknown is zero.
        left: Share of the defect that no spline represents, in the time slab where that matters most.
        trusted: Whether the estimate may be relied on.
        corners: Whether corners that turn inwards are why it may not be.
        parts: Corrections by time slab; none for an estimate by levels, the change by the last one.
        free: Unknowns of which equations and conditions leave a function free.
        ceiling: What the largest of the errors is hardly above, trusted or not; infinite where nothing tells.
        rounds: The estimates on ever more splines that led to it, for one that goes on from there.
        nodes: Points of a spline's cell per coordinate.
    """

    errors: Mapping[str, float]
    left: float = math.nan
    trusted: bool = True
    corners: bool = False
    parts: tuple[Correction, ...] = ()
    free: tuple[str, ...] = ()
    ceiling: float = math.inf
    rounds: tuple[ErrorEstimate, ...] = ()
    nodes: int = NODES[0]

    @property
    def size(self) -> int:
        """Number of functions that corrections are made of."""
        return sum(part.space.size for part in self.parts)

    @property
    def method(self) -> str:
        """`defect` or `levels`."""
        return "defect" if self.parts else "levels"


def estimated(
    trained: Sequence[Trained],
    weights: Mapping[str, float] | None = None,
    training: float = math.inf,
    before: ErrorEstimate | None = None,
    *,
    holds: bool = True,
) -> ErrorEstimate | None:
    """Estimate the errors of the networks of all time slabs by splines as fine as needed and affordable.

    Args:
        trained: Each slab's problem and network with its parameters.
        weights: Weights of the loss terms.
        training: Multiplications of training; the estimate takes a share of them.
        before: An estimate of the same networks that took less, to go on from; None to begin.
        holds: Whether splines by which an estimate may be trusted are tried at more points, until these agree.

    Returns None where linear solves break down or take too much.
    """
    problem = trained[0][0].problem
    found: list[ErrorEstimate] = [] if before is None else list(before.rounds)
    fewest = WORK[0] if len(problem.domain) in FIRST else BEGIN
    most = min(max(SHARE * training, fewest), WORK[1])
    nodes = found[-1].nodes if found else NODES[0]
    differs = False
    again = holds and nodes == NODES[0] and len(problem.domain) in FIRST and len(trained) == 1  # slabs take long
    for _ in range(ROUNDS):
        spaces = _next(found[-1], problem, most) if found else [_first(residuals) for residuals, _ in trained]
        known = found
        if spaces is None or not affordable(spaces, problem, most if found else max(most, BEGIN)):
            more = next((many for many in NODES if many > nodes), None)
            if more is None or not again or not found or not found[-1].trusted:
                break
            nodes, known, spaces = more, found[:-1], [part.space for part in found[-1].parts]
            differs = True
            if not affordable(spaces, problem, math.inf, nodes):  # their memory
                break
        parts = corrections(trained, spaces, weights, look=not _clear(found), nodes=nodes)
        if parts is None or (own := _joined(parts, known)) is None:
            break
        differs = known is not found and not _agree(own.errors, found[-1].errors)
        again = again and (known is found or differs)
        found = [*known, replace(own, nodes=nodes)]
    if not found:
        return None
    if differs:  # at more points there is another estimate, or none
        found[-1] = replace(found[-1], trusted=False)
    last = replace(found[-1], free=_free(found, trained, weights, max(most, BEGIN)), rounds=tuple(found))
    return replace(last, trusted=False, corners=True, ceiling=math.inf) if region_of(problem).reentrant else last


def _next(own: ErrorEstimate, problem: Problem, most: float) -> list[Space] | None:
    """Return more functions than an estimate's; None where that is exact enough, or they take too much."""
    if own.trusted and own.left <= (RESOLVED / 5 if len(problem.domain) == 1 else DOUBTFUL):
        return None
    lefts = _left(own.parts)
    poor = lefts > MINOR * max(lefts)
    pairs = list(zip(own.parts, poor, strict=True))
    finer = ([_finer(part, share) if many else part.space for part, many in pairs] for share in SHARES)
    finer = (one for one in finer if sum(space.size for space in one) > own.size)
    return next((one for one in finer if affordable(one, problem, most)), None)


def valued(parts: Sequence[Correction], points: Array) -> Array:
    """Return the estimated error u* − u `[unknowns, N]` at points `[N, d]`, each of the time slab it lies in."""
    found = np.empty((len(parts[0].norms), len(points)))
    left = np.ones(len(points), bool)
    for k, part in enumerate(parts):
        lower, upper = (np.array([own[end] for own in part.space.breaks]) for end in (0, -1))
        within = ((points >= lower) & (points <= upper)).all(1)
        which = left & (within if k < len(parts) - 1 else True)
        if which.any():
            found[:, which] = list(part.values(points[which]).values())
        left &= ~which
    return found


def _free(
    found: Sequence[ErrorEstimate], trained: Sequence[Trained], weights: Mapping[str, float] | None, most: float
) -> tuple[str, ...]:
    """Return the unknowns of which a function is free, by the spaces tried, by polynomials, and by more in doubt."""
    free = _free_in(min((one.parts for one in found), key=_unseen), trained, weights, most)
    spaces = [] if free else _smooth([part.space for part in found[0].parts], trained)
    if not spaces or not affordable(spaces, trained[0][0].problem, most):
        return free
    parts = corrections(trained, spaces, weights)
    return _free_in(parts, trained, weights, most) if parts else ()


def _free_in(
    parts: Sequence[Correction], trained: Sequence[Trained], weights: Mapping[str, float] | None, most: float
) -> tuple[str, ...]:
    """Return the unknowns of which a function is free; in doubt by spaces halved throughout, or of higher degree."""
    begun = _unseen(parts)
    while FREE < _unseen(parts) <= GRAY:
        halved = [_halved(part.space) for part in parts]
        finer = corrections(trained, halved, weights) if affordable(halved, trained[0][0].problem, most) else None
        if finer is None or NEARLY[1] * _unseen(finer) > _unseen(parts):
            return ()
        parts = finer
        if NEARLY[1] ** 2 * _unseen(parts) <= begun and _unseen(parts) <= NEARLY[0]:
            break
    if not _unseen(parts) <= GRAY:
        return ()
    worst = min(parts, key=lambda part: part.unseen.rate)
    return tuple(name for name, size in worst.unseen.moves.items() if size > 0.01 * max(worst.unseen.moves.values()))


def _clear(found: Sequence[ErrorEstimate]) -> bool:
    """Tell whether two spaces have shown that no function is free: they see each, the finer one hardly less."""
    first = [_unseen(one.parts) for one in found[:2]]
    return len(first) == 2 and NEARLY[1] * first[1] > first[0] and first[1] > 100 * GRAY


def _smooth(spaces: Sequence[Space], trained: Sequence[Trained]) -> list[Space]:
    """Return polynomials of a high degree, whose rounding is less and which see resonances in two coordinates too.

    None where functions are periodic, or are weighted as they may grow from conditions at one end.
    """
    degree, found = SMOOTH.get(len(spaces[0].breaks)), list[Space]()
    for space, (residuals, _) in zip(spaces, trained, strict=True):
        posed = conditions_of(residuals.problem)  # those that are built in too
        if degree is None or any(space.periodic) or fall(space, residuals.problem, posed) is not None:
            return []
        found.append(PolynomialSpace(tuple(own[[0, -1]] for own in space.breaks), degree))
    return found


def _unseen(parts: Sequence[Correction]) -> float:
    return min(part.unseen.rate for part in parts)


def _halved(space: Space) -> Space:
    if isinstance(space, PolynomialSpace):
        return PolynomialSpace(space.breaks, space.degree + 2)
    breaks = tuple(np.sort(np.append(own, (own[1:] + own[:-1]) / 2)) for own in space.breaks)
    return SplineSpace(breaks, space.periodic, space.degree)


def _first(residuals: Residuals) -> Space:
    """Return the functions to begin with."""
    domain = residuals.problem.domain
    many = FIRST.get(len(domain))
    unit = np.linspace(0, 1, (many or 1) + 1)
    wraps = tuple(name in residuals.backbone.embedding.periodic for name in domain.names)
    if many == FIRST[1] and not wraps[0]:
        unit = (1 - np.cos(np.pi * unit)) / 2  # closer towards both ends, so as to see layers there
    breaks = tuple(a + (b - a) * unit for a, b in zip(domain.lower, domain.upper, strict=True))
    return PolynomialSpace(breaks) if many is None else SplineSpace(breaks, wraps)


def _finer(part: Correction, share: float) -> Space:
    """Return more functions, splines where this share and more of the mean defect is left over."""
    if part.rest is None or not isinstance(part.space, SplineSpace):
        return PolynomialSpace(part.space.breaks, part.space.degree + 1 + part.space.degree // 4)
    return SplineSpace(refined(part.space, part.rest, share), part.space.periodic)


def _joined(parts: Sequence[Correction], found: Sequence[ErrorEstimate]) -> ErrorEstimate | None:
    """Join the corrections of all slabs; beside those on coarser splines. None where it is not finite."""
    errors = {}
    for name in parts[0].norms:
        error, size = (math.hypot(*(part.norms[name][k] for part in parts)) for k in (0, 1))
        if not math.isfinite(error):
            return None
        errors[name] = error / size if size else math.nan
    left = float(max(_left(parts)))
    own = ErrorEstimate(errors, left, left <= RESOLVED, parts=tuple(parts))
    if not found:
        return replace(own, trusted=own.trusted and len(parts[0].space.breaks) == 1)
    before = next((one for one in reversed(found) if FEWER * one.size <= own.size), None)
    if before is None:
        return replace(own, trusted=False)
    moved = _moved(parts, before.parts)
    gone = math.sqrt(max(before.left**2 - left**2, 0.0))
    further = {n: error * math.hypot(1.0, moved[n] * left / gone) if gone else math.inf for n, error in errors.items()}
    ceiling = CEILING * max((one for one in further.values() if not math.isnan(one)), default=math.inf)
    settled = left <= DOUBTFUL and all(
        math.isnan(error) or (moved[n] <= SETTLED[0] and further[n] <= (1 + SETTLED[1]) * error)
        for n, error in errors.items()
    )
    stays = all(math.isnan(error) or moved[n] <= STAYS for n, error in errors.items())
    trusted = (own.trusted or settled) and stays and _agree(errors, before.errors)
    return replace(own, trusted=trusted, ceiling=ceiling)


def _left(parts: Sequence[Correction]) -> Array:
    """Shares of the defect left over, `[slabs]`, each as far as it matters to the whole."""
    return np.array([part.left for part in parts]) * shares(parts, RESOLVED)


def _moved(parts: Sequence[Correction], before: Sequence[Correction]) -> dict[str, float]:
    """Root mean squares of the difference of two corrections, relative to the first of them, by unknown."""
    problem = parts[0].about.problem
    lower, upper = ([one[end] for one in part.space.breaks] for part, end in ((parts[0], 0), (parts[-1], -1)))
    points = np.array(lower) + np.subtract(upper, lower) * qmc.Sobol(len(lower), rng=0).random_base2(PLACES)
    mask = inside(problem.whole if isinstance(problem, TimeSlab) else problem, torch.from_numpy(points))
    points = points if mask is None else points[mask.cpu().numpy()]
    own, other = (valued(one, points) for one in (parts, before))
    units = np.abs(own).max(1, keepdims=True, initial=0.0)  # of squares that a float holds
    own, other = (one / np.where(units, units, 1.0) for one in (own, other))
    sizes = np.linalg.norm(own, axis=1)
    shares = np.linalg.norm(own - other, axis=1) / np.where(sizes, sizes, 1.0)
    return dict(zip(parts[0].norms, shares.tolist(), strict=True))


def _agree(errors: Mapping[str, float], before: Mapping[str, float]) -> bool:
    """Tell whether estimates on two spline spaces agree."""
    return all(math.isnan(own) or own <= AGREE * before[name] <= AGREE**2 * own for name, own in errors.items())
