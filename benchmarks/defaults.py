"""Default solves over seeds: error, time and memory of `kanpinn solve problem=P`, held to the floors.

    python benchmarks/defaults.py [--backbone mlp] [--problems poisson burgers] [--seeds 0 1 2]

One process per run, one at a time, timed from start to exit. Every finished run is appended to a CSV file at once; runs
already there are not repeated. Exit code 0 if every floor is met, 1 if one is missed, 2 if the input is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import rows
from default_run import Run, solve
from sources import ROOT, fingerprint
from table import PROBLEMS, markdown

from kanpinn.io.atomic import write_text

CSV = ROOT / "outputs" / "benchmarks" / "defaults.csv"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Solve the built-in problems with defaults; hold them to the floors.")
    add = parser.add_argument
    add("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS, metavar="P", help="default: all")
    add("--seeds", nargs="+", type=int, default=list(range(5)), metavar="N", help="default: 0 1 2 3 4")
    add("--backbone", default="default", help="by default what the problem itself chooses")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides", help="further overrides")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--keep", type=Path, help="keep the run folders, inside this folder")
    add("--limit", type=float, default=600, help="seconds after which a run is killed (default: %(default)s)")
    add("--table", action="store_true", help="run nothing: only the table of what is in the file")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    overrides = " ".join(given.overrides)
    wanted = [(p, given.backbone, seed, overrides) for p in given.problems for seed in given.seeds]
    done = set() if given.again else {run.key for run in rows.read(given.csv, Run)}
    for key in [] if given.table else [key for key in wanted if key not in done]:
        problem, backbone, seed, _ = key
        with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
            stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S_%f")
            folder = (given.keep or Path(temporary)).absolute() / f"{problem}-{backbone}-{seed}-{stamp}"
            run = solve(problem, backbone, seed, given.overrides, folder, given.limit)
        rows.append(given.csv, run)
        print(
            f"{problem} {backbone} seed {seed}: {run.status}, relative L2 {run.relative_l2:.2e}, "
            f"{run.wall_s:.1f} s, {run.peak_mib:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )
    newest = {run.key: run for run in rows.read(given.csv, Run)}
    runs = [newest[key] for key in wanted if key in newest]
    stale = sorted({run.problem for run in runs if run.sources != fingerprint(run.problem)})
    text, passed = markdown(runs, given.problems, given.backbone, given.seeds, overrides, stale)
    write_text(given.csv.with_name(f"{given.csv.stem}-{given.backbone}.md"), text)
    print(text, end="")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
