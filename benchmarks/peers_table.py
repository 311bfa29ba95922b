"""The Markdown tables of `make bench`: median and worst error per problem, solver and time, and kanpinn's lead."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from peers_run import Run
from peers_suite import CASES, END, SOLVERS

OURS = "kanpinn"
JUDGED_S = 60
SPREAD = 10.0


@dataclass(frozen=True)
class Mark:
    """A floor that must be met and a goal beyond it."""

    floor: float
    goal: float


ERRORS = {
    "poisson": Mark(1e-8, 1e-11),
    "poisson_4": Mark(1e-4, 1e-8),
    "helmholtz": Mark(1e-6, 1e-10),
    "heat": Mark(1e-6, 1e-9),
    "wave": Mark(1e-6, 1e-9),
    "advection": Mark(1e-6, 1e-9),
    "advection_40": Mark(1e-6, 1e-9),
    "burgers": Mark(1e-5, 1e-7),
    "allen_cahn": Mark(1e-4, 1e-6),
    "kdv": Mark(1e-3, 1e-6),
    "poisson_5d": Mark(1e-3, 1e-6),
    "poisson_lshape": Mark(1e-3, 1e-5),
}
"""Relative L2 error of kanpinn at 60 s, median over seeds."""

LEADS = {"ssbroyden": Mark(3, 10), "deepxde": Mark(100, 1000), "jaxkan": Mark(100, 1000)}
"""Factor by which the median error is to be lower than a rival's, at every time from `LEAD_FROM_S` on."""

LEAD_FROM_S = {"ssbroyden": 0, "deepxde": 30, "jaxkan": 30}


@dataclass(frozen=True)
class Cell:
    """The seeds of one problem, solver and time limit.

    Attributes:
        errors: One per seed; infinite for a run that failed.
    """

    errors: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median error."""
        return statistics.median(self.errors)

    @property
    def worst(self) -> float:
        """The largest error."""
        return max(self.errors)


def cells(runs: Sequence[Run]) -> dict[tuple[str, str, int], Cell]:
    """Runs by problem, solver and time limit."""
    groups: dict[tuple[str, str, int], list[float]] = {}
    for run in runs:
        error = run.error if math.isfinite(run.error) else math.inf
        groups.setdefault((run.problem, run.solver, run.limit), []).append(error)
    return {key: Cell(tuple(errors)) for key, errors in groups.items()}


def ratio(rival: Cell, ours: Cell | None) -> float:
    """The rival's median error over ours; NaN where that says nothing."""
    if ours is None or not 0 < ours.median < math.inf:
        return math.nan
    return rival.median / ours.median


def markdown(runs: Sequence[Run], stale: Sequence[str] = ()) -> str:
    """All tables.

    Args:
        runs: The newest run of each problem, solver, seed and time limit.
        stale: Problems with runs on other sources than the present ones.

    Returns:
        Markdown text.
    """
    found = cells(runs)
    problems = [case for case in CASES if any(key[0] == case for key in found)]
    solvers = [solver for solver in SOLVERS if any(key[1] == solver for key in found)]
    limits = sorted({key[2] for key in found})
    seeds = sorted({run.seed for run in runs})
    lines = [
        f"Relative L2 error, median (worst) of seeds {' '.join(map(str, seeds))}; ×: median over kanpinn's. "
        "The least is bold.",
    ]
    for limit in limits:
        lines += [
            "",
            "**To their own ends**" if limit == END else f"**{limit} s**",
            "",
            f"| problem | {' | '.join(SOLVERS[s].name for s in solvers)} |",
        ]
        lines.append("|---|" + "--:|" * len(solvers))
        for problem in problems:
            row = [_cell(found, problem, solver, limit, solvers) for solver in solvers]
            lines.append(f"| {problem} | {' | '.join(row)} |")
    if any(key[1] == OURS and key[2] == JUDGED_S for key in found):
        lines += ["", *_judged(found, problems)]
    timed = [limit for limit in limits if limit != END]
    lines += ["", *_leads(found, problems, timed)]
    for limit in [*timed[-1:], *(limit for limit in limits if limit == END)]:
        lines += [*_iterations(runs, problems, solvers, limit), ""]
    lines += _footer(runs, solvers)
    if stale:
        lines += [
            "",
            f"**Code or configs have changed since some runs of {', '.join(stale)}: repeat them with --again.**",
        ]
    return "\n".join(lines) + "\n"


def _cell(
    found: dict[tuple[str, str, int], Cell], problem: str, solver: str, limit: int, solvers: Sequence[str]
) -> str:
    cell = found.get((problem, solver, limit))
    if cell is None:
        return "–"
    least = min(found[problem, s, limit].median for s in solvers if (problem, s, limit) in found)
    bold = "**" if cell.median == least < math.inf else ""
    lead = ratio(cell, found.get((problem, OURS, limit)))
    times = "" if solver == OURS or math.isnan(lead) else f" ×{lead:.2g}" if lead < 100 else f" ×{lead:.0e}"
    return f"{bold}{cell.median:.1e}{bold} ({cell.worst:.0e}){times}"


def _judged(found: dict[tuple[str, str, int], Cell], problems: Sequence[str]) -> list[str]:
    """The errors of kanpinn against floors and goals."""
    lines = [
        f"kanpinn at {JUDGED_S} s:",
        "",
        "| problem | median | worst | worst/median | floor | goal | result |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for problem in problems:
        cell, mark = found.get((problem, OURS, JUDGED_S)), ERRORS[problem]
        if cell is None:
            continue
        spread = cell.worst / cell.median if 0 < cell.median < math.inf else math.nan
        verdict = "goal" if cell.median <= mark.goal else "floor" if cell.median <= mark.floor else "MISSED"
        if not spread <= SPREAD:
            verdict += ", spread MISSED"
        cellwords = [problem, f"{cell.median:.1e}", f"{cell.worst:.1e}", f"{spread:.1f}", f"{mark.floor:.0e}"]
        lines.append(f"| {' | '.join([*cellwords, f'{mark.goal:.0e}', verdict])} |")
    return lines


def _leads(found: dict[tuple[str, str, int], Cell], problems: Sequence[str], limits: Sequence[int]) -> list[str]:
    """One line per rival: its least ratio, where, and on how much of the suite floor and goal hold."""
    lines = []
    for rival, mark in LEADS.items():
        counted = [limit for limit in limits if limit >= LEAD_FROM_S[rival]]
        ratios = {
            (problem, limit): ratio(found[problem, rival, limit], found.get((problem, OURS, limit)))
            for problem in problems
            for limit in counted
            if (problem, rival, limit) in found
        }
        ratios = {key: value for key, value in ratios.items() if not math.isnan(value)}
        if not ratios:
            continue
        (problem, limit), least = min(ratios.items(), key=lambda item: item[1])
        held = [sum(value >= bound for value in ratios.values()) for bound in (mark.floor, mark.goal)]
        lines.append(
            f"- {SOLVERS[rival].name}: ×{mark.floor:g} on {held[0]} and ×{mark.goal:g} on {held[1]} of {len(ratios)} "
            f"problems and times ({', '.join(map(str, counted))} s); least ×{least:.2g}, {problem} at {limit} s."
        )
    return [*lines, ""] if lines else []


def _iterations(runs: Sequence[Run], problems: Sequence[str], solvers: Sequence[str], limit: int) -> list[str]:
    """A table of the optimiser steps of the runs that went on to the longest time limit, or to their own ends."""
    when = "to the solver's own end" if limit == END else f"in {limit} s"
    lines = [
        f"Iterations {when}, median over seeds:",
        "",
        f"| problem | {' | '.join(SOLVERS[s].name for s in solvers)} |",
    ]
    lines.append("|---|" + "--:|" * len(solvers))
    for problem in problems:
        row = []
        for solver in solvers:
            mine = [run.steps for run in runs if (run.problem, run.solver, run.limit) == (problem, solver, limit)]
            row.append(f"{statistics.median(mine):.0f}" if mine else "–")
        lines.append(f"| {problem} | {' | '.join(row)} |")
    return lines


def _footer(runs: Sequence[Run], solvers: Sequence[str]) -> list[str]:
    """A table of delays, of seconds that were not counted, of memory and versions, and a line on the machine."""
    lines = [
        "| solver | setup s | compilation s | measured late by up to s | peak MiB | version |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for solver in solvers:
        mine = [run for run in runs if run.solver == solver]
        late = max((run.seconds - run.limit for run in mine if run.status == "time_limit"), default=0.0)
        setup = statistics.median(run.setup_s for run in mine)
        compiled = statistics.median(run.compile_s for run in mine)
        versions = "; ".join(sorted({run.version for run in mine if run.version}))
        memory = max(run.peak_mib for run in mine)
        lines.append(
            f"| {SOLVERS[solver].name} | {setup:.1f} | {compiled:.1f} | {late:.1f} | {memory:.0f} | {versions} |"
        )
    failed = sum(run.status == "failed" for run in runs)
    loads = [run.load for run in runs if run.load is not None]
    busy = f"; load when a run began up to {max(loads):.1f}" if loads else ""
    machines = "; ".join(sorted({f"{run.cpu}, {run.threads} of {run.cores} cores" for run in runs}))
    dates = sorted(run.date[:10] for run in runs)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    lines += ["", f"Set-up counts for kanpinn and the SSBroyden MLP and for no other. {machines}; {when}{busy}."]
    return [*lines, f"**{failed} runs failed.**"] if failed else lines
