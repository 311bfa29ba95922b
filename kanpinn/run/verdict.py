"""Verdict on a solve: its status, what limits it, and flags for what a reader of its numbers must know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from kanpinn.estimate.estimate import ErrorEstimate
from kanpinn.evaluate.residual_check import MOST, ResidualCheck, check_residuals
from kanpinn.least_squares.points import INTERIOR
from kanpinn.pde.time_slab import START
from kanpinn.pde.unknown import free_coefficients
from kanpinn.run.estimate_trust import chosen, free, wrong
from kanpinn.run.flag import Flag, percent
from kanpinn.solver.history import StageEnd
from kanpinn.solver.setup import name_of
from kanpinn.solver.solver import Solver

STATUSES = {
    "steps": "step_limit",
    "stalled": "step_limit",
    "refused": "step_limit",
    "tolerance": "converged",
    "minimum": "converged",
    "time_limit": "time_limit",
    "interrupted": "interrupted",
    "diverged": "diverged",
}

GAP = 30.0
"""A residual this many times as large at other points as at the collocation points is met at those only.

Right solutions of fifteen problems have ratios up to 18, two wrong ones that it must find 400 and 4600.
"""

SEEN = 1e-3
"""Share of the size of an equation's terms below which its residual is not looked at twice."""

LARGE = 0.02
"""Share of the size of an equation's terms above which its residual has stayed large."""

MISSED = 0.3
"""The same of data, above which more than their noise is left."""


NOISY = 0.9
"""Part of the data in the loss from which nothing but their noise is left."""

STILL = 0.9
"""A loss that keeps this share of itself over the last quarter of a level's steps no longer falls."""

UNDETERMINED = "problem: equations and conditions do not determine the solution"
CHANGED = "problem: its equations have changed during the run"

FEW = 20
"""Steps of a level below which more of them are the first thing to try."""


@dataclass(frozen=True)
class Verdict:
    """Judgement of a solve.

    Attributes:
        status: As in metrics.json.
        limited_by: What keeps the error from falling, a word and an explanation; None where the solve has converged.
        advice: What may help against that; "" where the status says it.
        flags: Reasons for doubt.
        estimate: Estimate of the error; None without one.
        doubt: Why it may not be relied on, "" where it may; None without one.
        share: Largest residual relative to the size of its terms.
    """

    status: str
    limited_by: str | None
    advice: str
    flags: tuple[Flag, ...]
    estimate: ErrorEstimate | None
    doubt: str | None
    share: float

    @property
    def trusted(self) -> bool | None:
        """True where the estimate may be relied on; None without one."""
        return None if self.doubt is None else not self.doubt


def verdict(
    solver: Solver,
    end: StageEnd,
    errors: Mapping[str, float] | None,
    defect: ErrorEstimate | None,
    by_levels: ErrorEstimate | None,
    known: Sequence[Flag] = (),
) -> Verdict:
    """Judge what a solve has reached.

    Args:
        solver: The solve.
        end: How it ended.
        errors: Relative L2 error by unknown, NaN for a reference that is zero; None without a reference.
        defect: Estimate of the error by the defect equation; None without one.
        by_levels: Estimate by the last level's change; None without one.
        known: Reasons for doubt known before.
    """
    known = [*known, *free(defect, known)]
    by_slab = _checks(solver)
    checks = [check for found in by_slab for check in found]
    gaps = list(_gaps(solver, checks))
    status = STATUSES[end.reason]
    noisy = _measured(solver)
    large = sorted(
        (c for c in _worst(checks, _left) if not _left(c) <= (MISSED if c.term in noisy else LARGE)),
        key=lambda check: -_left(check),
    )
    fit = not solver.setup.problem.has_equations
    large = [] if fit else large  # how much of a table is noise, its errors at other rows tell
    # At other points nothing has converged, there is no one solution, or weights have made a loss small.
    kinds = [flag.kind for flag in known]
    missing = CHANGED if "problem" in kinds else UNDETERMINED if "conditions" in kinds else ""
    told = not missing and all("undetermined" not in flag.values for flag in known)
    posed = told and any(check.scale for check in checks)
    if status == "converged" and (gaps or not posed or (large and end.reason == "minimum")):
        status = "step_limit"
    missed = [check.term for check in large if check.term in noisy]
    limit = None if status == "converged" else _limit(solver, end, gaps, missed, missing=missing, posed=posed)
    advice = "methods that keep no state" if limit == CHANGED else _advice(solver, (limit or "").partition(":")[0])
    flags = [*known, *gaps, *_rows(solver, by_slab), *_large(solver, checks, large, missed, advice)]
    if end.reason in ("stalled", "refused") and not fit:
        flags.append(Flag("stalled", f"{limit}; try {advice}", {"loss": end.loss}))
    if defect is not None:
        flags += wrong(defect, errors, advice)
    estimate, doubts = chosen(solver, flags, defect, by_levels)
    if estimate and doubts and not errors:
        text = f"the estimate of the error cannot be trusted: {'; '.join(doubts)}"
        flags.append(Flag("estimate", text, {"estimate": dict(estimate.errors)}))
    flags += _references(solver, errors, estimate)
    share = max((check.share for check in checks), default=math.inf)
    doubt = None if estimate is None else "; ".join(doubts)
    return Verdict(status, limit, advice, tuple(flags), estimate, doubt, share)


def _advice(solver: Solver, cause: str) -> str:
    """Say what may help against what limits a solve."""
    setup, network = solver.setup, solver.slab.backbone
    separable = name_of(setup.backbone) == "separable"
    larger = "more products (backbone.rank)" if separable else "a wider network (backbone.width)"
    conditions = solver.slab.objective.residuals.conditions.values()
    free = free_coefficients(setup.problem)
    if not free and setup.schedule.slabs == 1 and any(condition.supports == START for condition in conditions):
        larger = f"time slabs (schedule.slabs=5), {larger}"
    return {
        "points": "fresh points every few steps (sampler.resample_every=5), or more of them (sampler.interior)",
        "steps": "more schedule.steps",
        "weights": "larger weights of what is not met (weighting.terms)",
        "rows": "more rows, or a smaller network (backbone.width, backbone.grid, schedule.levels)",
        "capacity": f"{larger}, or one level more (schedule.levels)" if network.refinable else larger,
        "stalled": f"another optimizer or seed, schedule.starts, or {larger}",
        "noise": "more data, or more exact ones",
        "problem": "the conditions that are missing",
        "start": f"another start ({', '.join(f'unknown.{name}' for name in free)})",
    }.get(cause, "")


def _checks(solver: Solver) -> list[list[ResidualCheck]]:
    """Residuals of every slab begun that has points, at those and at others."""
    most = max(1000, 4 * MOST // len(solver.slabs)) if len(solver.slabs) > 1 else MOST
    found = []
    for slab in solver.slabs:
        if len(slab.objective.points):
            checks = check_residuals(slab.objective, slab.theta, slab.setup.random("check", slab.number), most)
            # What the user does not ask for need not be met.
            found.append([check for check in checks if slab.setup.weighting.term(check.term)])
    return found


def _left(check: ResidualCheck) -> float:
    """Share of the size of its terms that is left of a residual, at its points or, if more, at others.

    Where it is many times as large there, that is told by itself.
    """
    return check.fitted_share if check.gap > GAP else max(check.fitted_share, check.share)


def _worst(checks: Sequence[ResidualCheck], size: Callable[[ResidualCheck], float]) -> list[ResidualCheck]:
    """The worst slab of every equation, by one of the sizes of a check."""
    found: dict[str, ResidualCheck] = {}
    for check in checks:
        known = found.get(check.name)
        if known is None or not size(check) <= size(known):
            found[check.name] = check
    return list(found.values())


def _gaps(solver: Solver, checks: Sequence[ResidualCheck]) -> Iterator[Flag]:
    """Flag equations and conditions that are met at their collocation points only."""
    every = solver.slab.setup.sampler.resample_every
    for check in _worst([c for c in checks if not c.share <= SEEN], lambda check: check.gap):
        if check.gap <= GAP:
            continue
        key = "sampler.interior" if check.term == INTERIOR else "sampler.boundary"
        advice = f"more points than {check.points} ({key})"
        if not 0 < every <= 10:
            advice = f"fresh points every few steps (sampler.resample_every=5), or {advice}"
        times = f"{check.gap:.3g} times as large" if math.isfinite(check.gap) else "of another order"
        yield Flag(
            "points",
            f"{check.name} is met at its points only: between them the residual is {times} "
            f"({check.fresh:.2e} against {check.fitted:.2e}); try {advice}",
            {"term": check.term, "equation": check.equation, "ratio": check.gap, "points": check.points},
        )


def _rows(solver: Solver, by_slab: Sequence[Sequence[ResidualCheck]]) -> Iterator[Flag]:
    """Flag a network with more parameters than the equations at its points can determine, on the worst time slab."""
    size = solver.slab.objective.size
    rows = min((sum(check.points for check in checks) for checks in by_slab), default=size)
    if rows < size:
        where = " of a time slab" if len(by_slab) > 1 else ""
        if not solver.setup.problem.has_equations:
            text = f"{rows} values in the training rows for {size} parameters; try a smaller network, or fewer levels"
            yield Flag("parameters", text, {"rows": rows, "parameters": size})
            return
        text = f"{rows} equations at the collocation points{where} for {size} parameters: they can be met there and "
        advice = "more points (sampler.interior), or a smaller network"
        yield Flag("parameters", f"{text}nowhere else; try {advice}", {"rows": rows, "parameters": size})


def _large(
    solver: Solver, checks: Sequence[ResidualCheck], large: Sequence[ResidualCheck], missed: Sequence[str], advice: str
) -> Iterator[Flag]:
    """Flag the equations and conditions among the checks whose residual has stayed large, the worst first."""
    if not large:
        return
    worst, total = large[0], sum(check.loss for check in checks) or math.nan
    part = sum(check.loss for check in checks if check.name == worst.name) / total
    others = f" (also large: {', '.join(check.name for check in large[1:])})" if large[1:] else ""
    share, between = _left(worst), worst.fitted_share <= LARGE
    where = f" between its points ({percent(worst.fitted_share)} at these)" if between else ""
    told = f"the residual of {worst.name} is still {percent(share)} of the terms it is made of{where}{others}"
    values = {"term": worst.term, "equation": worst.equation, "share": share, "part_of_loss": part}
    inside = max((_left(check) for check in checks if check.term == INTERIOR), default=0.0)
    if worst.term != INTERIOR and worst.term not in missed and inside < share / 10:
        weight = f"weighting.terms.{worst.term}={100 * solver.slab.setup.weighting.term(worst.term):g}"
        yield Flag("term", f"{told}, that of the equations {percent(inside)}; try {weight}", values)
        return
    advice = advice or "more schedule.steps"
    if between:
        key = "sampler.interior" if worst.term == INTERIOR else "sampler.boundary"
        advice = f"more points than {worst.points} ({key}), {advice}"
    # Beside data that tell coefficients the equations are made constraints, whatever the weight of the data.
    apart = (INTERIOR, *(_measured(solver) if free_coefficients(solver.setup.problem) else ()))
    held = max((check for check in checks if check.term not in apart), key=lambda check: check.loss, default=None)
    if held and inside > LARGE:  # they may hold each other: a condition at the end of a thin layer, for one
        weight = solver.slab.setup.weighting.term(held.term) / 10
        advice = (
            f"{advice}, or less weight of '{held.term}' beside the equations (weighting.terms.{held.term}={weight:g})"
        )
    yield Flag("loss", f"{told}, and makes up {percent(part)} of the loss; try {advice}", values)


def _references(solver: Solver, errors: Mapping[str, float] | None, estimate: ErrorEstimate | None) -> Iterator[Flag]:
    """Flag unknowns of whose error nothing is told."""
    for name, error in (errors or {}).items():
        if math.isnan(error) and len(solver.slabs) == solver.setup.schedule.slabs:
            yield Flag(
                "reference",
                f"the reference of {name} is zero: there is no relative error, only the largest error (linf)",
                {"unknown": name},
            )
    if not errors and estimate is None and solver.setup.problem.has_equations:
        text = "no reference, and no estimate of the error either: that takes levels (schedule.levels=2 or more)"
        yield Flag("reference", text)


def _measured(solver: Solver) -> list[str]:
    """Return the names of the terms of data."""
    conditions = solver.slab.objective.residuals.conditions.values()
    return [condition.name for condition in conditions if condition.given is not None]


def _still(losses: Sequence[float]) -> bool:
    """Tell whether losses no longer fall over the last quarter of the steps."""
    quarter = len(losses) // 4
    return len(losses) >= FEW and not median(losses[-quarter:]) < STILL * median(losses[-2 * quarter : -quarter])


def _limit(
    solver: Solver, end: StageEnd, gaps: Sequence[Flag], missed: Sequence[str], *, missing: str, posed: bool
) -> str:
    """Return the cause that keeps the error from falling: a word, and an explanation."""
    if end.reason == "time_limit":
        return "time: time_limit_s was reached"
    if end.reason == "interrupted":
        return "time: stopped by a signal"
    if end.reason == "diverged":
        return f"diverged: {end.message}"
    if missing:
        return missing
    if gaps:
        return "points: the equations are met at the collocation points only"
    if missed and (free := free_coefficients(solver.setup.problem)):
        text = f"with this {', '.join(free)} no solution comes near {', '.join(dict.fromkeys(missed))}"
        return f"start: {text}; there may be another minimum"
    if solver.slab.monitor.validates and (best := solver.record.best_step) is not None:
        return f"rows: those of validation were fitted best at step {best}, later steps fitted the training rows alone"
    if end.reason in ("stalled", "refused"):
        return f"stalled: {end.message}"
    if end.reason in ("tolerance", "minimum"):
        if not posed:
            return UNDETERMINED
        return "weights: the loss is as small as rounding allows, and yet not every condition is met"
    losses = solver.record.last_losses
    if free_coefficients(solver.setup.problem):
        terms = [f"term_{name}" for name in _measured(solver)]
        left = [sum(row[term] for term in terms) for row in solver.record.history[-len(losses) :]]
        if _still(left) and left[-1] > NOISY * losses[-1]:
            return "noise: what is left of the loss is in the data: their noise, or what the equations leave out"
    if _still(losses):
        return "capacity: the loss no longer fell when all steps were used"
    return "steps: the loss was still falling when all steps were used"
