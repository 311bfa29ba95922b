"""Judgement of a piece of work without any reference: its estimated error, and whether that may be believed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kanpinn.auto.work import Outcome
from kanpinn.run.context import Estimates
from kanpinn.run.flag import Flag
from kanpinn.run.results import estimates
from kanpinn.run.rough import knots_wanted
from kanpinn.run.verdict import Verdict, verdict
from kanpinn.solver.history import StageEnd
from kanpinn.solver.solver import Solver

VETOES = ("conditions", "problem", "coefficients", "jumps", "points")
"""Kinds of flags beside which no estimate is believed."""

LARGE = ("loss", "term")
"""Kinds beside which one is believed that is a tenth of what is asked for: residuals of terms that are all tiny."""

EFFORTS = 0.2, 1.0, 5.0
"""Costs of an estimate relative to that of a finished run: more where it is below what is asked for, or not sure."""

NONE: Estimates = (None, None)
"""No estimates."""


def judged(
    solver: Solver, end: StageEnd, accuracy: float | None, doubts: Sequence[Flag], left: float
) -> tuple[Outcome, Estimates]:
    """Judge the end of some work.

    Args:
        solver: Its solve.
        end: How that has ended.
        accuracy: What is asked for.
        doubts: Flags known before.
        left: Seconds left; an estimate that would take more is not made, but for the first.

    Returns:
        The outcome, its seconds not set, and the estimates it is made by.
    """
    parts: dict[str, Any] = {"parameters": solver.network()[0].size, "reason": end.reason}
    parts["work"] = sum(record.work * record.parameters for record in solver.record.levels)
    if end.reason == "diverged":
        return Outcome(**parts, doubt=end.message), NONE
    begun, made = time.perf_counter(), NONE
    for effort, more in zip(EFFORTS, (*EFFORTS[1:], math.inf), strict=True):
        before = time.perf_counter()
        made = estimates(solver, effort, made[0])
        found = verdict(solver, end, None, *made, doubts)
        ceiling = math.inf if found.estimate is None else found.estimate.ceiling
        near, sure = (accuracy is not None and size <= accuracy for size in (largest(found), ceiling))
        if not near or (effort >= 1 and (found.trusted or sure)):
            break
        now = time.perf_counter()
        if now - begun + more / effort * (now - before) > left:
            break
    parts["rough"] = knots_wanted(solver, made[0])
    outcome = replace(outcome_of(found, accuracy), **parts, effort=effort, judging=time.perf_counter() - begun)
    return outcome, made


def outcome_of(found: Verdict, accuracy: float | None) -> Outcome:
    """Return what a verdict says of a solve beside the accuracy that is asked for."""
    ceiling = math.inf if found.estimate is None else found.estimate.ceiling
    small = accuracy is not None and 10 * largest(found) <= accuracy
    vetoes = dict.fromkeys(flag.kind for flag in found.flags if flag.kind in (VETOES if small else (*VETOES, *LARGE)))
    sure = accuracy is not None and ceiling <= accuracy
    told = [flag.message for flag in found.flags if flag.kind == "estimate" and not sure]
    if vetoes:
        told = [next(flag.message for flag in found.flags if flag.kind == kind) for kind in vetoes]
    return Outcome(
        found.status,
        estimate=largest(found),
        trusted=bool(found.trusted),
        ceiling=ceiling,
        doubt="; ".join(told),
        share=found.share,
        limit=found.limited_by or "",
    )


def estimated_again(solver: Solver, effort: float) -> Estimates:
    """Return the estimates by which a solve was judged with an effort, step by step as then."""
    made = NONE
    for one in EFFORTS:
        made = estimates(solver, one, made[0]) if one <= effort else made
    return made


def largest(found: Verdict) -> float:
    """The largest estimated error of an unknown; NaN without an estimate."""
    if found.estimate is None:
        return math.nan
    return max((value for value in found.estimate.errors.values() if not math.isnan(value)), default=math.nan)
