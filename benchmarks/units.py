"""Units: default solves of the shipped problems in other units; relative error and steps of each must be the same.

    python benchmarks/units.py [--problems poisson burgers] [--units given micrometres] [--set KEY=VALUE …]

One thread, one solve after the other in this process; each row of the table is printed when it is done. Exit code 1 if
steps differ, or errors by more than 10 %. Where the first error is below `ROUNDING`, they are told and not judged: what
is left is rounding, which is another one in every system of units.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings

from sources import ROOT
from table import PROBLEMS

from kanpinn.errors import KanpinnWarning
from kanpinn.run import run as runs

sys.path.append(str(ROOT / "tests"))
posed = importlib.import_module("support.units")  # the tests', as pyright cannot know

ROUNDING = 1e-8
"""Errors below which rounding may decide, by what double precision leaves of a second derivative."""


def solved(problem: str, units: str, overrides: list[str]) -> tuple[float, int, str]:
    """Return the largest relative error over the unknowns, the steps taken and the status of one solve."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KanpinnWarning)
        metrics = runs.run(posed.configured(problem, units, *overrides), None, spoken=False).metrics
    steps = sum(level["steps"] for level in metrics["levels"])
    return max(metrics["relative_l2"].values()), steps, metrics["status"]


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--units", nargs="+", default=list(posed.UNITS), choices=posed.UNITS)
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    print(f"| problem | {' | '.join(chosen.units)} | alike |\n|---|{'--:|' * len(chosen.units)}---|", flush=True)
    failed = False
    for problem in chosen.problems:
        found = [solved(problem, units, chosen.overrides) for units in chosen.units]
        error, steps, _ = found[0]
        alike = all(taken == steps and abs(other - error) <= 0.1 * error for other, taken, _ in found)
        verdict = "yes" if alike else "rounding" if error < ROUNDING else "no"
        failed |= verdict == "no"
        cells = " | ".join(f"{other:.3g}, {taken} steps" for other, taken, _ in found)
        print(f"| {problem} | {cells} | {verdict} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
