"""Continuation: a solve that goes on from one with an easier coefficient (`start=`), beside the same from scratch.

    python benchmarks/continuation.py [--problems burgers heat helmholtz] [--seed 0] [overrides …]

Per problem: errors and seconds of the solve with the easier value, of one with the harder value from scratch, and of
one that goes on from the first; and after how many steps that one is as good as scratch at its end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import kanpinn as kp

STEPS = {
    "burgers": ("nu", 0.022, 0.02, ("schedule.levels=2", "schedule.steps=60", "sampler.interior=1500")),
    "wave": ("c", 1.95, 2.0, ("schedule.levels=2", "schedule.steps=60", "sampler.interior=1000")),
    "heat": ("alpha", 0.39, 0.4, ("schedule.levels=2", "schedule.steps=40", "sampler.interior=800")),
}
"""Coefficient, easier and harder value, settings."""


def solved(folder: Path, *given: str) -> tuple[kp.Solution, float]:
    """Solve and measure the seconds."""
    began = time.perf_counter()
    fixed = ("threads=1", "output.figures=false", "output.progress=false", f"hydra.run.dir={folder}")
    return kp.solve([*given, *fixed]), time.perf_counter() - began


def main() -> None:
    """Run every problem and print a line for each solve."""
    parser = argparse.ArgumentParser(description="Continuation against scratch.")
    parser.add_argument("--problems", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--seed", type=int, default=0)
    given, more = parser.parse_known_args()
    for problem in given.problems:
        name, easy, hard, settings = STEPS[problem]
        common = (f"problem={problem}", f"seed={given.seed}", *settings, *more)
        with tempfile.TemporaryDirectory() as place:
            first, seconds = solved(Path(place, "easy"), *common, f"problem.{name}={easy}")
            scratch, alone = solved(Path(place, "scratch"), *common, f"problem.{name}={hard}")
            more_of_it = (*common, f"problem.{name}={hard}", f"start={Path(place, 'easy')}")
            after, further = solved(Path(place, "after"), *more_of_it)
            end, course = (one.data.history["relative_l2_u"] for one in (scratch, after))
        reached = np.flatnonzero(course <= end[-1])
        steps = f"as good after {reached[0] + 1} steps" if len(reached) else "never as good"
        print(f"{problem}, {name} = {easy}: {first.metrics['relative_l2']['u']:.1e}, {seconds:.0f} s", flush=True)
        print(f"  {name} = {hard} alone: {scratch.metrics['relative_l2']['u']:.1e}, {len(end)} steps, {alone:.0f} s")
        print(
            f"  going on: {after.metrics['relative_l2']['u']:.1e}, {len(course)} steps, {further:.0f} s; {steps}",
            flush=True,
        )


if __name__ == "__main__":
    main()
