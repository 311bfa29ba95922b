"""Exactly nested levels against the finest level alone: the same network, optimiser, points rule and seconds.

    python benchmarks/levels.py [--problems allen_cahn burgers] [--seeds 0 1 2 3 4] [--threads 1] [--jobs 2]

`kanpinn solve problem=P` with all defaults, then `schedule=single` for as many seconds of training as that took. Prints
a Markdown table; finished runs are kept in outputs/benchmarks/levels.csv and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import machine
import rows

ROOT = Path(__file__).resolve().parents[1]
CSV = ROOT / "outputs" / "benchmarks" / "levels.csv"
_writing = threading.Lock()
MANY = 10**6
"""Steps that no time limit here lets a run use up."""


@dataclass(frozen=True)
class Row:
    """One finished run.

    Attributes:
        problem: The problem.
        schedule: nested or single.
        seed: The seed.
        relative_l2: Error over the output grid.
        loss: Training loss at the end.
        seconds: Seconds of training.
        steps: Optimiser steps on all levels.
        threads: Threads of the process.
    """

    problem: str
    schedule: str
    seed: int
    relative_l2: float
    loss: float
    seconds: float
    steps: int
    threads: int


def keep(row: Row) -> None:
    """Add a run to the CSV file."""
    with _writing:
        rows.append(CSV, row)


def solve(problem: str, schedule: str, seed: int, threads: int, *words: str) -> Row:
    """One real run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        chosen = [f"problem={problem}", f"schedule={schedule}", f"seed={seed}", f"threads={threads}", *words]
        quiet = ["output.figures=false", "output.progress=false", f"hydra.run.dir={run}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "kanpinn", "solve", *chosen, *quiet]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment)
        m = json.loads((run / "metrics.json").read_text())
    steps = sum(level["steps"] for level in m["levels"])
    error = next(iter(m["relative_l2"].values()))
    return Row(problem, schedule, seed, error, m["loss"], m["wall_time_s"], steps, threads)


def compare(problem: str, seed: int, threads: int) -> None:
    """Both schedules of one problem and seed, unless they are there."""
    done = {(row.problem, row.schedule, row.seed): row for row in rows.read(CSV, Row) if row.threads == threads}
    nested = done.get((problem, "nested", seed))
    if nested is None:
        nested = solve(problem, "nested", seed, threads)
        keep(nested)
    if (problem, "single", seed) not in done:
        keep(solve(problem, "single", seed, threads, f"schedule.steps={MANY}", f"time_limit_s={nested.seconds:.3f}"))
    print(f"{problem} seed {seed} done", file=sys.stderr, flush=True)


def table(problems: list[str], seeds: list[int]) -> str:
    """The Markdown table of the runs there are."""
    lines = [
        "| problem | schedule | median error | worst | best | median loss | median s | steps | ratio of errors |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    runs = rows.read(CSV, Row)
    for problem in problems:
        medians: dict[str, float] = {}
        for schedule in ("nested", "single"):
            mine = [r for r in runs if (r.problem, r.schedule) == (problem, schedule) and r.seed in seeds]
            if not mine:
                continue
            errors = [r.relative_l2 for r in mine]
            medians[schedule] = statistics.median(errors)
            ratio = f"{medians['single'] / medians['nested']:.0f}" if len(medians) == 2 else ""
            loss, seconds = (statistics.median(getattr(r, key) for r in mine) for key in ("loss", "seconds"))
            steps = statistics.median(r.steps for r in mine)
            cells = [problem, f"{schedule} ({len(mine)} seeds)", f"{medians[schedule]:.1e}", f"{max(errors):.1e}"]
            cells += [f"{min(errors):.1e}", f"{loss:.1e}", f"{seconds:.0f}", f"{steps:.0f}", ratio]
            lines.append(f"| {' | '.join(cells)} |")
    threads = sorted({run.threads for run in runs})
    lines += ["", f"Ran on {machine.cpu_model()}, {machine.cores()} cores, {threads} thread(s) a run."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=["allen_cahn", "burgers"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="no runs: the table of those already there")
    arguments = parser.parse_args()
    if not arguments.table:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            pairs = [(problem, seed) for seed in arguments.seeds for problem in arguments.problems]
            for future in [pool.submit(compare, *pair, arguments.threads) for pair in pairs]:
                future.result()
    print(table(arguments.problems, arguments.seeds))


if __name__ == "__main__":
    main()
