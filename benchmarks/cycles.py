"""Schedules against each other at equal work, over problems, optimisers and seeds: does cycling pay?

    python benchmarks/cycles.py [--jobs 2] [--problems poisson] [--optimizers adam] [--seeds 0]

Work is Σ steps × points × parameters of the network evaluated, as metrics.json counts it; a coarse problem of the
Galerkin kind evaluates the fine network. Nested iteration sets the budget, and the steps and cycles of every other
schedule are chosen to use it up. Every finished run is appended to a CSV file at once; runs already there are not
repeated. Writes a Markdown table beside the CSV file, and a figure.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import rows
from cycles_figure import draw
from cycles_plan import OPTIMIZERS, PROBLEMS, STUDY, TRANSFER, overrides_of
from cycles_run import Result, solve
from cycles_table import markdown
from sources import ROOT

from kanpinn.io.atomic import write_text

CSV = ROOT / "outputs" / "benchmarks" / "cycles.csv"
FIGURE = ROOT / "benchmarks" / "cycles.png"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare schedules at equal work.")
    add = parser.add_argument
    add("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS, metavar="P", help="default: all")
    add("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS, metavar="O", help="default: all")
    known = sorted({*STUDY, *(name + TRANSFER for name in STUDY if TRANSFER not in name)})
    add("--schedules", nargs="+", default=list(STUDY), choices=known, metavar="S", help=f"of {', '.join(known)}")
    add("--seeds", nargs="+", type=int, default=list(range(5)), metavar="N", help="default: 0 1 2 3 4")
    add("--scale", type=float, default=1.0, help="multiplies the work of every run (default: %(default)s)")
    add("--jobs", type=int, default=2, help="runs at a time, one thread each (default: %(default)s)")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--figure", type=Path, default=FIGURE, help="default: %(default)s")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--table", action="store_true", help="run nothing: only the table and the figure of what is in the file")
    return parser.parse_args()


def run_all(wanted: Sequence[tuple[str, str, str, int, str]], path: Path, jobs: int) -> None:
    """Do some runs, a process per job, adding each to the CSV file as it ends."""
    results, began = rows.read(path, Result), time.perf_counter()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        pending = [pool.submit(solve, *key) for key in wanted]
        try:
            for done, future in enumerate(as_completed(pending), start=1):
                result = future.result()
                results.append(result)
                rows.write(path, Result, results)
                left = (time.perf_counter() - began) / done * (len(wanted) - done)
                print(
                    f"{done}/{len(wanted)} {result.problem} {result.optimizer} {result.schedule} seed {result.seed}: "
                    f"relative L2 {result.relative_l2:.2e}, {result.seconds:.1f} s; {left / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main() -> int:
    given = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through run_all, which leaves no worker behind
    runs = {
        key: " ".join(overrides_of(*key, given.scale))
        for key in itertools.product(given.problems, given.optimizers, given.schedules)
    }
    wanted = [(*key, seed, overrides) for seed in given.seeds for key, overrides in runs.items()]
    done = set() if given.again else {result.key for result in rows.read(given.csv, Result)}
    if not given.table:
        run_all([key for key in wanted if key not in done], given.csv, given.jobs)
    newest = {result.key: result for result in rows.read(given.csv, Result)}
    results = [newest[key] for key in wanted if key in newest]
    if not results:
        print("no runs", file=sys.stderr)
        return 1
    text = markdown(results)
    write_text(given.csv.with_suffix(".md"), text)
    draw(results, given.figure)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
