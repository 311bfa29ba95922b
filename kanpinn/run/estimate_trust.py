"""Trust in estimates of the error, that by the defect equation and that by levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from kanpinn.estimate.estimate import RESOLVED, ErrorEstimate
from kanpinn.run.flag import Flag, percent
from kanpinn.solver.history import LevelRecord
from kanpinn.solver.solver import Solver

FALLS = 0.5
"""Share of the residual that the last level may leave for its change to be about the error of the level below.

With errors in proportion to residuals, e_L = ρ e_{L−1}, the change is at least (1 − ρ) e_{L−1}, and e_L is at most
1/(1 − ρ) = 2 times the estimate, ρ times the change.
"""

CONTRACTS = 0.35
"""Change by the last level, relative to that by the level before, that shows convergence however the residual falls."""

HALF = 0.5
"""Part of the estimate by the defect equation from which that by levels agrees with it."""

UNSURE = ("conditions", "problem", "coefficients", "jumps")
"""Kinds of flags with which the defect equation may be another one than that of the solution."""

WRONG = 0.1
"""Estimated error above which a solution is called wrong."""


def chosen(
    solver: Solver, flags: Sequence[Flag], defect: ErrorEstimate | None, by_levels: ErrorEstimate | None
) -> tuple[ErrorEstimate | None, list[str]]:
    """Return the estimate by the defect equation, or one by levels if only that is above doubt, with the doubts.

    Splines that do not hold all of the defect give too little rather than too much: that by levels counts where it is
    no smaller than the doubtful estimate, and not above that one's ceiling; both agree where it is at least half of it.
    """
    doubts = [] if defect is None else list(_splines(defect, flags))
    if by_levels is not None and (defect is None or doubts):
        others = list(_doubts(solver, flags))
        if defect is None:
            return by_levels, others
        if not others and all(error <= defect.ceiling for error in by_levels.errors.values()):
            least = min((by_levels.errors[n] / e for n, e in defect.errors.items() if e > 0), default=1.0)
            if least >= 1:
                return by_levels, []
            if least >= HALF and not defect.corners and math.isfinite(defect.ceiling):
                return defect, []
    return defect, doubts


def contraction(levels: Sequence[LevelRecord]) -> float:
    """Return the factor by which the last level has lowered the residual, the root of the loss, of that below."""
    last, below = _ends(levels)
    return min(1.0, math.sqrt(last.loss / below.loss)) if below.loss > 0 else 1.0


def _ends(levels: Sequence[LevelRecord]) -> tuple[LevelRecord, LevelRecord]:
    """Return the last visit of a level and that of the level below it; twice the same without one."""
    refined = max((k for k, record in enumerate(levels) if k and record.entered == "refine"), default=0)
    return levels[-1], levels[refined - 1]


def wrong(estimate: ErrorEstimate, errors: Mapping[str, float] | None, advice: str) -> Iterator[Flag]:
    """Flag unknowns that the defect equation puts far from the solution."""
    for name, error in estimate.errors.items():
        known = (errors or {}).get(name, math.inf)  # NaN where the reference is zero
        if estimate.trusted and estimate.parts and error > WRONG and known > WRONG:
            told = f"the error of {name} is about {percent(error)}, by the defect equation"
            yield Flag("error", f"{told}; try {advice or 'more schedule.steps'}", {"unknown": name, "estimate": error})


def free(estimate: ErrorEstimate | None, known: Sequence[Flag]) -> Iterator[Flag]:
    """Flag unknowns that equations and conditions do not determine, where that is not known by another reason."""
    if estimate is None or not estimate.free or any(flag.kind == "conditions" for flag in known):
        return
    told = f"equations and conditions leave a function of {', '.join(estimate.free)} free"
    text = f"{told}: they hardly change as it is added to the solution, which is one of many"
    yield Flag("conditions", text, {"unknowns": list(estimate.free)})


def _splines(estimate: ErrorEstimate, flags: Sequence[Flag]) -> Iterator[str]:
    """Say why the defect equation may not give the error."""
    if estimate.corners:
        yield "corners of the domain that turn inwards may hold errors that splines do not see"
    elif not estimate.trusted:
        worst = max(estimate.parts, key=lambda part: part.left)
        if estimate.left <= RESOLVED:
            yield f"two thirds as many functions as {worst.space.words} gave another estimate"
        else:
            bound = f", the error is hardly above {estimate.ceiling:.1e}" if estimate.ceiling < 1 else ""
            yield f"{worst.space.words} leave {percent(estimate.left)} of the defect{bound}"
    unsure = dict.fromkeys(flag.kind for flag in flags if flag.kind in UNSURE)
    if unsure:
        yield "see " + ", ".join(unsure)


def _doubts(solver: Solver, flags: Sequence[Flag]) -> Iterator[str]:
    """Say why the last level's change may not be the error of the level below."""
    by_slab = [[record for record in solver.record.levels if record.slab == k] for k in range(len(solver.slabs))]
    changes = [records[-1].change or {} for records in by_slab]
    large = dict.fromkeys(name for change in changes for name, size in change.items() if not size <= 1)
    if large:
        yield f"the last level changed {', '.join(large)} by more than its own size"
    if flags:
        yield "see " + ", ".join(dict.fromkeys(flag.kind for flag in flags))
    for records in by_slab:
        last, below = _ends(records)
        if last is below or last.change is None or last.loss <= FALLS**2 * below.loss:
            continue
        if below.change is None or any(not new <= CONTRACTS * below.change[n] for n, new in last.change.items()):
            yield f"the last level gained little: its loss is {last.loss:.1e}, that of the level below {below.loss:.1e}"
            return
