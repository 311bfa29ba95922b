"""The floors a default solve must meet, and the Markdown table that holds runs to them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from default_run import Run

SPREAD = 10.0
MEMORY_MIB = 2048.0
TRANSFER_GAP = 1e-12


@dataclass(frozen=True)
class Floor:
    """Error and time that the median over seeds must reach on two cores.

    Attributes:
        error: Relative L2 error.
        seconds: Wall time of the whole command.
    """

    error: float
    seconds: float


PROBLEMS = {
    "poisson": Floor(1e-8, 65),
    "helmholtz": Floor(1e-6, 65),
    "burgers": Floor(1e-5, 65),
    "allen_cahn": Floor(1e-4, 65),
    "heat": Floor(1e-6, 65),
    "wave": Floor(1e-6, 65),
    "advection": Floor(1e-6, 65),
    "kdv": Floor(1e-6, 65),
    "poisson_nd": Floor(1e-3, 65),
    "poisson_lshape": Floor(1e-3, 65),
    "poisson_interface": Floor(1e-4, 65),
    "regression": Floor(5e-3, 65),
    "lotka_volterra": Floor(1e-6, 65),
    "van_der_pol": Floor(1e-6, 65),
    "klein_gordon": Floor(1e-5, 65),
    "sine_gordon": Floor(1e-5, 65),
    "membrane": Floor(1e-6, 65),
    "schrodinger": Floor(1e-4, 125),
    "fisher": Floor(1e-3, 125),
    "kuramoto_sivashinsky": Floor(1e-4, 125),
    "gray_scott": Floor(1e-4, 125),
    "cahn_hilliard": Floor(1e-4, 125),
    "burgers_inverse": Floor(1e-2, 65),
    "darcy_inverse": Floor(5e-2, 65),
    "heat_inverse": Floor(5e-2, 65),
}
"""A minute of solving, or two, and 5 s for imports and figures."""
HEAD = (
    "| problem | parameters | median error | worst error | error floor | worst/median | median s | worst s | limit s "
    "| peak MiB | transfer gap | result |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
)


def markdown(
    runs: Sequence[Run],
    problems: Sequence[str],
    backbone: str,
    seeds: Sequence[int],
    overrides: str = "",
    stale: Sequence[str] = (),
) -> tuple[str, bool]:
    """The table, and whether every floor is met.

    Args:
        runs: The newest run of each problem and seed.
        problems: The problems that were asked for.
        backbone: The network; an error floor binds the problem's own choice only.
        seeds: The seeds that were asked for.
        overrides: Further overrides of all runs, "" for none.
        stale: Problems with runs on other sources than the present ones.

    Returns:
        Markdown text and the verdict.
    """
    lines: list[str] = [*HEAD]
    passed = True
    for problem in problems:
        mine = [run for run in runs if run.problem == problem]
        line, missed = row(problem, mine, bind_error=backbone == "default")
        absent = len(seeds) - len(mine)
        missed += [f"{absent} of {len(seeds)} seeds not run"] if absent else []
        passed &= not missed
        lines.append(f"{line} {'pass' if not missed else 'MISSED: ' + ', '.join(missed)} |")
    choice = (f" backbone={backbone}" if backbone != "default" else "") + (f" {overrides}" if overrides else "")
    lines.insert(0, f"`kanpinn solve problem=…{choice}`, seeds {' '.join(map(str, seeds))}:\n")
    lines += ["", *_footer(runs, bind_error=backbone == "default")]
    if stale:
        which = ", ".join(stale)
        lines.append(f"\n**Code or configs have changed since some runs of {which}: repeat them with --again.**")
    return "\n".join(lines) + "\n", passed


def row(problem: str, runs: Sequence[Run], *, bind_error: bool) -> tuple[str, list[str]]:
    """One table line but for its last cell, and the floors missed.

    The time is judged by its median, as the error is; the worst of both are shown, and of the error bounded.
    """
    floor = PROBLEMS[problem]
    limit = f"{floor.error:.0e}" if bind_error else "–"
    if not runs:
        return f"| {problem} | – | – | – | {limit} | – | – | – | {floor.seconds:.0f} | – | – |", []
    # A run that failed, or has no error to show, is worse than any that has.
    errors = [run.relative_l2 if math.isfinite(run.relative_l2) else math.inf for run in runs]
    seconds = [run.wall_s for run in runs]
    error, time = statistics.median(errors), statistics.median(seconds)
    ratio = max(errors) / error if error not in (0.0, math.inf) else math.nan
    memory = max(run.peak_mib for run in runs)
    parameters = sorted({run.parameters for run in runs if run.parameters})
    gaps = [run.transfer_gap for run in runs]
    gap = math.nan if any(math.isnan(g) for g in gaps) else max(gaps)
    failed = sum(run.exit_code != 0 for run in runs)
    checks = {
        f"{failed} failed": failed == 0,
        "error": not bind_error or error <= floor.error,
        "spread": not bind_error or not ratio > SPREAD,
        "seconds": time <= floor.seconds,
        "memory": memory <= MEMORY_MIB,
        # A network without levels has no transfer.
        "transfer gap": not bind_error or gap <= TRANSFER_GAP,
    }
    cells = [
        problem,
        "–".join(map(str, dict.fromkeys([*parameters[:1], *parameters[-1:]]))) or "–",
        f"{error:.1e}",
        f"{max(errors):.1e}",
        limit,
        "–" if math.isnan(ratio) else f"{ratio:.1f}",
        f"{time:.1f}",
        f"{max(seconds):.1f}",
        f"{floor.seconds:.0f}",
        f"{memory:.0f}",
        "–" if math.isnan(gap) else f"{gap:.0e}",
    ]
    return f"| {' | '.join(cells)} |", [name for name, held in checks.items() if not held]


def _footer(runs: Sequence[Run], *, bind_error: bool) -> list[str]:
    """On what, and when, the runs were made."""
    if not runs:
        return ["No runs."]
    machines = sorted({f"{r.cpu}, {r.cores} cores, {r.threads} threads, torch {r.torch}" for r in runs if r.threads})
    dates = sorted(run.date[:10] for run in runs)
    loads = [run.load for run in runs if run.load is not None]
    busy = f", load when a run began up to {max(loads):.1f}" if loads else ""
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    errors = f"median error as shown, worst error within {SPREAD:.0f} × the median, transfer gap {TRANSFER_GAP:.0e}, "
    costs = f"median seconds as shown, memory {MEMORY_MIB:.0f} MiB"
    return [
        f"Ran on {'; '.join(machines) or 'an unknown machine'}; {when}{busy}.",
        f"Floors: {errors if bind_error else ''}{costs}.",
    ]
