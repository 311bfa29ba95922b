"""Techniques one by one: the error after 60 s of training with it and without, over five seeds.

    python benchmarks/techniques.py [--only momentum slabs] [--seeds 0 1 2 3 4] [--seconds 60] [--threads 1] [--jobs 1]

`kanpinn solve problem=P` with defaults but for one thing; what is the default stands in bold in the table. A run that
ends by itself is not given the seconds left. Every finished run is a line of outputs/benchmarks/techniques.csv and not
repeated; the table is written beside it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import machine
import rows
from default_run import Run, solve
from sources import ROOT

from kanpinn.io.atomic import write_text

CSV = ROOT / "outputs" / "benchmarks" / "techniques.csv"
_writing = threading.Lock()


@dataclass(frozen=True)
class Technique:
    """One thing that can be done or left.

    Attributes:
        name: What it is.
        problem: Where it is tried.
        without: Overrides that leave it; none where leaving it is the default.
        used: Overrides that do it; none where it is the default.
        common: Overrides of both.
    """

    name: str
    problem: str
    without: str = ""
    used: str = ""
    common: str = ""

    def settings(self, with_it: bool) -> str:
        """The overrides of one side, separated by blanks."""
        return " ".join(filter(None, (self.common, self.used if with_it else self.without)))


SINGLE = "schedule=single schedule.steps=1000000"
LBFGS = "optimizer=lbfgs schedule.steps=[1600,800,400,400,1000000]"
ADAM = "optimizer=adam schedule.steps=[4000,2000,1000,1000,1000000]"
PERIODIC = "backbone.embedding.kind=periodic"
KDV_KAN = "backbone=kan sampler=adaptive"
KDV_SLABS = "schedule.slabs=8"
KDV_COARSE = "backbone.grid=256"

TECHNIQUES = (
    Technique("nested levels, for the finest level alone", "burgers", without=SINGLE),
    Technique("nested levels, for the finest level alone", "allen_cahn", without=SINGLE),
    Technique("Levenberg–Marquardt, for L-BFGS", "burgers", without=LBFGS),
    Technique("Levenberg–Marquardt, for Adam", "burgers", without=ADAM),
    Technique("momentum μ = 0.5", "poisson", "optimizer.momentum=0", common="backbone=kan"),
    Technique("momentum μ = 0.5", "burgers", "optimizer.momentum=0"),
    Technique("target ratio 0.25, for Nielsen's rule", "burgers", used="optimizer.damping_rule=target_ratio"),
    Technique("variable projection", "helmholtz", used="optimizer=variable_projection", common="backbone=kan"),
    Technique("conditions built in", "allen_cahn", without="problem.conditions=soft"),
    Technique("conditions built in", "burgers", used="problem.conditions=exact"),
    Technique("residuals weighted by exp(−3t)", "allen_cahn", without="weighting.growth=0"),
    Technique("causal weights, ε = 100", "allen_cahn", used="weighting=causal weighting.epsilon=100"),
    Technique("a fifth of the points early", "allen_cahn", without="sampler.early=0"),
    Technique("new points every 5 steps", "burgers", without="sampler.resample_every=0"),
    Technique("points by the residual, for Sobol points", "burgers", without="sampler=sobol"),
    Technique("Sobol points, for points by the residual", "allen_cahn", without="sampler=adaptive"),
    Technique("periodicity built in", "allen_cahn", without="backbone.embedding.kind=none", used=PERIODIC),
    Technique("symmetry built in too", "allen_cahn", without=PERIODIC),
    Technique("symmetry built in", "burgers", without=PERIODIC),
    Technique("best of 3 starts", "burgers", used="schedule.starts=3"),
    Technique("8 time slabs", "kdv", without="schedule.slabs=1 schedule.steps=[200,120,1000000]", used=KDV_SLABS,
              common=KDV_KAN),
    Technique("slabs started warm", "kdv", without=f"{KDV_SLABS} schedule.warm=false", used=KDV_SLABS, common=KDV_KAN),
    Technique("separable network, for a general one", "kdv", without=f"{KDV_KAN} {KDV_SLABS}"),
    Technique("20 time slabs, for 10 with more terms", "kdv", common=KDV_COARSE,
              without="schedule.slabs=10 backbone.grids={t:6} backbone.rank=13 schedule.steps=[5]",
              used="schedule.slabs=20"),
    Technique("slabs started from the last state", "kdv", common=f"{KDV_COARSE} schedule.slabs=20",
              without="schedule.warm=false schedule.steps=[6]"),
    Technique("Legendre polynomials in time at the start", "kdv", common=f"{KDV_COARSE} schedule.slabs=20",
              without="backbone.start=random schedule.steps=[6]"),
    Technique("separable network, for a general one", "poisson", without="backbone=kan"),
    Technique("separable network, for a general one", "helmholtz", without="backbone=kan"),
    Technique("separable network, for a general one", "advection", without="backbone=kan"),
    Technique("multiplication nodes", "allen_cahn", used="backbone=multkan"),
    Technique("Chebyshev polynomials on edges, for splines", "burgers", used="backbone=chebykan"),
    Technique("spline network, for a tanh perceptron", "burgers", without="backbone=mlp"),
    Technique("curriculum ν = 0.01, 0.003", "burgers", used="schedule.curriculum={nu:[0.01,0.003]}",
              common="problem.nu=0.001"),
)  # fmt: skip
"""Techniques tried, in the order of the table."""


def errors_of(runs: list[Run]) -> list[float]:
    """Their errors; one that is not finite, as of a run without its last time slabs, counts as infinite."""
    return [run.relative_l2 if math.isfinite(run.relative_l2) else math.inf for run in runs]


def cell(runs: list[Run], bold: bool) -> str:
    """Median and worst error of some runs."""
    if not runs:
        return "–"
    errors = errors_of(runs)
    text = f"{statistics.median(errors):.1e} ({max(errors):.1e})"
    return f"**{text}**" if bold else text


def table(runs: dict[tuple[str, str, int, str], Run], fixed: str, seeds: list[int], chosen: list[Technique]) -> str:
    """The table in Markdown.

    Args:
        runs: By their keys.
        fixed: Overrides of all runs.
        seeds: Which to show.
        chosen: Its rows.
    """
    lines = [
        "| technique | problem | without: median (worst) | with | factor | s without, with |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for technique in chosen:
        sides = []
        for with_it in (False, True):
            overrides = " ".join(filter(None, (fixed, technique.settings(with_it))))
            keys = [(technique.problem, "default", seed, overrides) for seed in seeds]
            sides.append([runs[key] for key in keys if key in runs])
        factor, seconds = "–", "–"
        if all(sides):
            medians = [statistics.median(errors_of(side)) for side in sides]
            factor = f"{medians[0] / medians[1]:.2g}" if all(map(math.isfinite, medians)) else "–"
            seconds = ", ".join(f"{statistics.median(run.cpu_s for run in side):.0f}" for side in sides)
        name = f"{technique.name} ({technique.common})" if technique.common else technique.name
        cells = [cell(sides[0], not technique.without), cell(sides[1], not technique.used)]
        lines.append(f"| {name} | {technique.problem} | {cells[0]} | {cells[1]} | {factor} | {seconds} |")
    shown = ", ".join(map(str, seeds))
    return "\n".join(lines) + f"\n\nSeeds {shown}; s: median CPU time of whole processes.\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What each technique buys, over seeds.")
    add = parser.add_argument
    add("--only", nargs="+", default=[], metavar="WORD", help="techniques with one of these words in name or problem")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="N", help="default: 0 1 2 3 4")
    add("--seconds", type=int, default=60, help="of training (default: %(default)s)")
    add("--threads", type=int, default=1, help="of each run (default: %(default)s)")
    add("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--table", action="store_true", help="run nothing: only the table of what is in the file")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    fixed = f"time_limit_s={given.seconds} threads={given.threads} output.figures=false"
    chosen = [t for t in TECHNIQUES if not given.only or any(word in f"{t.name} {t.problem}" for word in given.only)]
    wanted = dict.fromkeys(
        (t.problem, "default", seed, " ".join(filter(None, (fixed, t.settings(with_it)))))
        for seed in given.seeds for t in chosen for with_it in (True, False)
    )  # fmt: skip
    done = {run.key for run in rows.read(given.csv, Run)}

    def run_one(key: tuple[str, str, int, str]) -> None:
        problem, backbone, seed, overrides = key
        with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
            found = solve(problem, backbone, seed, overrides.split(), Path(temporary) / "run", 10.0 * given.seconds)
        with _writing:
            rows.append(given.csv, found)
        own = overrides.removeprefix(fixed).strip() or "defaults"
        print(f"{problem} seed {seed}, {own}: {found.status}, {found.relative_l2:.2e}", file=sys.stderr, flush=True)

    if not given.table:
        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(run_one, [key for key in wanted if key not in done]))
    text = table({run.key: run for run in rows.read(given.csv, Run)}, fixed, given.seeds, chosen)
    write_text(given.csv.with_suffix(".md"), f"{text}{machine.cpu_model()}, {machine.cores()} cores.\n")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
