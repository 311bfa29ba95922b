"""Conditions built in against conditions in the loss, all else equal: the table of `benchmarks/exact.md`.

    python benchmarks/exact.py [--problems disk ring] [--seeds 0 1 2]

Each problem with the same network, points, levels and steps. Runs already in the CSV file are not repeated.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from dataclasses import dataclass
from pathlib import Path

import rows
from exact_problems import Suite
from sources import ROOT

import kanpinn
from kanpinn.errors import UserError
from kanpinn.io.atomic import write_text

SETTINGS = (
    *("backbone=kan", "backbone.width=[8]", "backbone.degree=5", "backbone.grid=4"),
    *("schedule.levels=3", "schedule.steps=[60,40,40]", "sampler.interior=1000", "sampler.boundary=150"),
    *("output.points=61", "output.figures=false", "output.progress=false", "threads=1", "time_limit_s=60"),
)


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        problem: Name of the problem.
        conditions: How its conditions were met.
        seed: The seed.
        error: Relative L2 error of the worst unknown.
        seconds: Wall time of the solve.
    """

    problem: str
    conditions: str
    seed: int
    error: float
    seconds: float


def solve(name: str, conditions: str, seed: int) -> Measured:
    """Return what one solve reaches; NaN where nothing can be built in."""
    problem = {**Suite.development, **Suite.control, **Suite.steady, **Suite.boxes}[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            solution = kanpinn.solve(problem, *SETTINGS, f"problem.conditions={conditions}", f"seed={seed}")
        except UserError as error:
            print(error)
            return Measured(name, conditions, seed, math.nan, math.nan)
    found = solution.metrics
    return Measured(name, conditions, seed, max(found["relative_l2"].values()), found["wall_time_s"])


def table(runs: list[Measured]) -> str:
    """Return medians over seeds, the better one of each problem in bold."""
    lines = ["| problem | half | soft | exact | gain | s, soft | s, exact |", "|---|---|---|---|---|---|---|"]
    for half in ("development", "control", "steady", "boxes"):
        for name in getattr(Suite, half):
            arms = [[r for r in runs if (r.problem, r.conditions) == (name, way)] for way in ("soft", "exact")]
            if not all(arms):
                continue
            errors = [statistics.median(r.error for r in arm) for arm in arms]
            seconds = [statistics.median(r.seconds for r in arm) for arm in arms]
            if math.isnan(errors[1]):
                lines.append(f"| {name} | {half} | {errors[0]:.1e} | cannot | – | {seconds[0]:.0f} | – |")
                continue
            cells = [f"**{e:.1e}**" if e == min(errors) else f"{e:.1e}" for e in errors]
            gain = f"{errors[0] / errors[1]:.2g}"
            lines.append(f"| {name} | {half} | {' | '.join(cells)} | {gain} | {seconds[0]:.0f} | {seconds[1]:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Conditions built in against conditions in the loss.")
    names = [*Suite.development, *Suite.control, *Suite.steady, *Suite.boxes]
    parser.add_argument("--problems", nargs="+", default=names, choices=names, metavar="P", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--csv", type=Path, default=ROOT / "outputs" / "benchmarks" / "exact.csv")
    given = parser.parse_args()
    done = {(run.problem, run.conditions, run.seed) for run in rows.read(given.csv, Measured)}
    for seed in given.seeds:
        for name in given.problems:
            for conditions in ("soft", "exact"):
                if (name, conditions, seed) not in done:
                    rows.append(given.csv, run := solve(name, conditions, seed))
                    print(run, flush=True)
    text = table(rows.read(given.csv, Measured))
    write_text(given.csv.with_suffix(".md"), text)
    print(text, end="")


if __name__ == "__main__":
    main()
