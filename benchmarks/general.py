"""General networks beside the defaults: what a problem's network is told in advance, and the error without it.

    python benchmarks/general.py [--cases poisson burgers] [--networks general grown] [--seeds 0 1 2]
    python benchmarks/general.py --table

One `kanpinn solve` per case, network and seed, each in a process of its own on one thread, with the problem's own
numbers of steps and points; "grown" is the general network with an accuracy asked for, 300 s at most. Every finished
run is appended to a CSV file at once; runs already there are not repeated. Errors do not depend on what else the
machine does, seconds do; the load when a run began stands in its row.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rows
from default_run import Run, solve
from sources import ROOT, fingerprint

from kanpinn.io.atomic import write_text

CSV = ROOT / "benchmarks" / "general.csv"
FIXED = ("threads=1", "output.figures=false")
NETWORKS = ("default", "general", "grown")


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        problem: Name of the problem.
        truth: Origin of the reference; "manufactured" where source or boundary values are made from it.
        told: Knowledge of the solution built into the default network, its steps or its points.
        kept: Part of it that the general network has too.
        general: Overrides that take the rest away.
        base: Overrides of all networks.
        aim: Accuracy that is asked of the grown network; none where it is not run.
    """

    problem: str
    truth: str
    told: str
    kept: str
    general: tuple[str, ...]
    base: tuple[str, ...] = ()
    aim: str = ""

    def words(self, network: str) -> list[str]:
        """All overrides of a run by one of `NETWORKS`, but problem and seed."""
        grown = (f"accuracy={self.aim}", "time_limit_s=300") if network == "grown" else ()
        return [*self.base, *(() if network == "default" else self.general), *grown, *FIXED]


KAN = ("backbone=kan",)
CASES = {
    "poisson": Case("poisson", "manufactured", "separable form, exact conditions", "exact conditions", KAN),
    "poisson_4": Case(
        "poisson", "manufactured", "separable form, exact conditions", "exact conditions", KAN,
        ("problem.kx=4", "problem.ky=4"), aim="1e-7",
    ),
    "poisson_nd": Case("poisson_nd", "manufactured", "separable form, exact conditions", "exact conditions", KAN),
    "helmholtz": Case(
        "helmholtz", "manufactured", "separable form, exact conditions", "exact conditions", KAN, aim="1e-9"
    ),
    "poisson_lshape": Case(
        "poisson_lshape", "manufactured", "singular function", "–", ("problem.enrichment=false",),
        aim="1e-6",
    ),
    "poisson_interface": Case(
        "poisson_interface", "manufactured", "further input abs(x), exact boundary values",
        "exact boundary values", ("backbone.embedding.inputs=false",),
    ),
    "regression": Case(
        "regression", "the function itself", "linear first layer", "–", ("backbone.first=spline",)
    ),
    "heat": Case("heat", "exact solution", "separable form, exact conditions", "exact conditions", KAN, aim="1e-11"),
    "wave": Case("wave", "exact solution", "separable form", "–", KAN, aim="1e-8"),
    "advection": Case(
        "advection", "exact solution", "separable form, periodicity", "periodicity", KAN
    ),
    "advection_40": Case(
        "advection", "exact solution", "separable form, periodicity", "periodicity", KAN,
        ("problem.c=40",), aim="1e-7",
    ),
    "burgers": Case(
        "burgers", "Cole–Hopf", "oddness and periodicity", "–", ("backbone.embedding.kind=none",)
    ),
    "allen_cahn": Case(
        "allen_cahn", "spectral",
        "evenness, periodicity, exact conditions with the kink's heat kernel, early points, weights exp(−3t)",
        "the same without evenness", ("backbone.embedding.kind=periodic",),
    ),
    "kdv": Case(
        "kdv", "spectral", "separable form, Gauss points and Legendre start on 24 time slabs, periodicity, weights",
        "8 time slabs, periodicity, weights", ("backbone=kan", "sampler=adaptive"),
    ),
}  # fmt: skip
"""The twelve problems, and two with a harder coefficient."""


def spread(runs: Sequence[Run]) -> str:
    """Median and worst error of runs, and their number; "–" without any."""
    if not runs:
        return "–"
    errors = [run.relative_l2 if math.isfinite(run.relative_l2) else math.inf for run in runs]
    return f"{statistics.median(errors):.1e} ({max(errors):.1e}, {len(errors)})"


def markdown(runs: Sequence[Run]) -> str:
    """The table: a row per case, both networks with the knowledge they have.

    Args:
        runs: The newest run of each case, network and seed.

    Returns:
        Markdown text.
    """
    lines = [
        "Relative L2 error: median (worst, number of seeds); processor seconds of the whole process, median.",
        "",
        "| problem | reference | default is told | default | s | general is told | general | s | aim | grown | s |",
        "|---|---|---|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for name, case in CASES.items():
        cells = [name, case.truth]
        for network, told in zip(NETWORKS, (case.told, case.kept, case.aim or "–"), strict=True):
            words = " ".join(case.words(network))
            mine = [run for run in runs if run.problem == case.problem and run.overrides == words]
            seconds = f"{statistics.median(run.cpu_s for run in mine):.0f}" if mine else "–"
            cells += [told, spread(mine), seconds]
        lines.append(f"| {' | '.join(cells)} |")
    loads = [run.load for run in runs if run.load is not None]
    machines = sorted({f"{run.cpu}, {run.cores} cores, torch {run.torch}" for run in runs})
    dates = sorted(run.date[:10] for run in runs)
    if runs:
        busy = f"; load when a run began up to {max(loads):.1f}" if loads else ""
        lines += ["", f"One thread a run; {'; '.join(machines)}; {dates[0]} to {dates[-1]}{busy}."]
    if any(run.sources != fingerprint(run.problem) for run in runs):
        lines += ["", "Some rows are older than the present code or configs: repeat them with --again."]
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="General networks beside the defaults, on all problems.")
    add = parser.add_argument
    add("--cases", nargs="+", default=list(CASES), choices=CASES, metavar="C", help=f"of {', '.join(CASES)}")
    add("--networks", nargs="+", default=["general", "default"], choices=NETWORKS, metavar="N", help="of grown too")
    add("--seeds", nargs="+", type=int, default=list(range(5)), metavar="N", help="default: 0 1 2 3 4")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--limit", type=float, default=5400, help="seconds after which a run is killed (default: %(default)s)")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--table", action="store_true", help="run nothing: only the table of what is in the file")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    done = set() if given.again else {run.key for run in rows.read(given.csv, Run)}
    plan = [(network, seed, CASES[name]) for network in given.networks for seed in given.seeds for name in given.cases]
    for network, seed, case in [] if given.table else plan:
        if network == "grown" and not case.aim:
            continue
        words = case.words(network)
        if (case.problem, "default", seed, " ".join(words)) in done:
            continue
        with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
            run = solve(case.problem, "default", seed, words, Path(temporary) / "run", given.limit)
        rows.append(given.csv, run)
        print(f"{case.problem} {network} seed {seed}: relative L2 {run.relative_l2:.2e}", file=sys.stderr, flush=True)
    newest = {run.key: run for run in rows.read(given.csv, Run)}
    text = markdown(list(newest.values()))
    write_text(ROOT / "outputs" / "benchmarks" / "general.md", text) if not given.table else None
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
