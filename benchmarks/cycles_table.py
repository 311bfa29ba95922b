"""The tables of `cycles.py`: one per optimiser, a line per schedule, a column per problem."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cycles_plan import TOLERANCE
from cycles_run import Result
from sources import fingerprint


def badness(result: Result) -> float:
    """The error; infinite where there is none, or the run diverged."""
    return result.relative_l2 if math.isfinite(result.relative_l2) and result.status != "diverged" else math.inf


@dataclass(frozen=True)
class Cell:
    """Results of all seeds of one problem, optimiser and schedule.

    Attributes:
        errors: One per seed.
        seconds: Their median.
        work: Their median.
        corrections: Coarse corrections taken, all seeds together.
        refused: Coarse corrections refused.
    """

    errors: list[float]
    seconds: float
    work: float
    corrections: int
    refused: int

    @property
    def median(self) -> float:
        """The median error."""
        return statistics.median(self.errors)


def cells(results: Sequence[Result]) -> dict[tuple[str, str, str], Cell]:
    """Results by problem, optimiser and schedule."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.problem, result.optimizer, result.schedule), []).append(result)
    return {
        key: Cell(
            [badness(r) for r in mine],
            statistics.median(r.seconds for r in mine),
            statistics.median(r.work for r in mine),
            sum(r.corrections for r in mine),
            sum(r.refused for r in mine),
        )
        for key, mine in groups.items()
    }


def _ratio(cell: Cell, nested: Cell | None) -> float:
    """Median error over that of nested iteration; NaN where either is missing."""
    if nested is None or not (0 < nested.median < math.inf and math.isfinite(cell.median)):
        return math.nan
    return cell.median / nested.median


def markdown(results: Sequence[Result]) -> str:
    """One table per optimiser: a line per schedule, a column per problem.

    Args:
        results: The newest run of each problem, optimiser, schedule and seed.

    Returns:
        Markdown text.
    """
    found = cells(results)
    problems, optimizers, schedules = (list(dict.fromkeys(key[k] for key in found)) for k in range(3))
    seeds = sorted({result.seed for result in results})
    lines = [f"Relative L2 error, median (worst) of seeds {' '.join(map(str, seeds))}; ×: median over that of nested."]
    for optimizer in optimizers:
        lines += ["", f"**{optimizer}**", "", f"| schedule | {' | '.join(problems)} | × nested | corrections taken |"]
        lines.append("|---|" + "---|" * len(problems) + "--:|--:|")
        for schedule in schedules:
            row, ratios = [schedule], []
            mine = {p: found[p, optimizer, schedule] for p in problems if (p, optimizer, schedule) in found}
            for problem in problems:
                if problem not in mine:
                    row.append("–")
                    continue
                cell, nested = mine[problem], found.get((problem, optimizer, "nested"))
                least = min(c.median for (p, o, _), c in found.items() if (p, o) == (problem, optimizer))
                bold = "**" if cell.median == least else ""
                ratio = _ratio(cell, nested)
                ratios.append(ratio)
                text = f"{bold}{cell.median:.1e}{bold} ({max(cell.errors):.0e}), ×{ratio:.2f}, {cell.seconds:.1f} s"
                row.append(text + f", {cell.work / nested.work - 1:+.0%} work" * _differs(cell, nested))
            known = [math.log(r) for r in ratios if r > 0]
            row.append(f"{math.exp(statistics.fmean(known)):.2f}" if known and len(known) == len(problems) else "–")
            taken, refused = sum(c.corrections for c in mine.values()), sum(c.refused for c in mine.values())
            row.append(f"{taken} of {taken + refused}" if taken + refused else "–")
            lines.append(f"| {' | '.join(row)} |")
        works = [f"{p} {found[p, optimizer, 'nested'].work:.1e}" for p in problems if (p, optimizer, "nested") in found]
        lines += ["", f"Work: {', '.join(works)}." if works else "Work: nested iteration was not run."]
    cpus, loads = sorted({r.cpu for r in results}), [r.load for r in results if r.load is not None]
    busy = f"; load when a run began up to {max(loads):.1f}" if loads else ""
    lines += ["", f"The last but one column is the geometric mean over the problems. {', '.join(cpus)}{busy}."]
    if any(result.sources != fingerprint(result.problem) for result in results):
        lines += ["", "**Code or configs have changed since some of these runs: repeat them with --again.**"]
    return "\n".join(lines) + "\n"


def _differs(cell: Cell, nested: Cell | None) -> bool:
    """Return whether the work done differs from that of nested iteration, as where a run ended early."""
    return nested is not None and abs(cell.work / nested.work - 1) > 2 * TOLERANCE
