"""Estimates of the error against true errors: solves of all kinds, good and bad ones, over seeds.

    python benchmarks/estimates.py [--problems poisson burgers] [--ways short kan default] [--seeds 0 1 2]

`short` stops the default network after ten steps of one level; `kan` takes a small general network, two levels of
twenty steps; `default` is the solve as shipped. One process per run, one thread each. The table of
ratios estimate/error is printed and written as CSV; the last lines count them.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from process import measured
from sources import ROOT
from table import PROBLEMS

CSV = ROOT / "outputs" / "benchmarks" / "estimates.csv"
COLUMNS = ("problem", "way", "seed", "unknown", "error", "estimate", "ratio", "by", "trusted", "flags", "seconds")
WAYS = {
    "short": ["schedule.levels=1", "schedule.steps=[10]"],
    "kan": ["backbone=kan", "backbone.width=[5]", "schedule.levels=2", "schedule.steps=[20,20]"],
    "default": [],
}
ROUNDING = 1e-12
"""Error below which rounding decides, and no ratio is judged."""


def rows(problem: str, way: str, seed: int, limit: float) -> Iterator[dict[str, object]]:
    """Yield one row for each unknown with a reference."""
    with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
        words = [f"problem={problem}", f"seed={seed}", "threads=1", "output.figures=false", "output.progress=false"]
        command = [sys.executable, "-m", "kanpinn", "solve", *words, *WAYS[way], "hydra.run.dir=run"]
        cost = measured(command, Path(temporary), limit)
        try:
            m = json.loads((Path(temporary) / "run" / "metrics.json").read_text(encoding="utf-8"))
        except OSError:
            yield dict.fromkeys(COLUMNS) | {"problem": problem, "way": way, "seed": seed, "flags": cost.complaint[-80:]}
            return
    flags = ",".join(dict.fromkeys(flag["kind"] for flag in m["warnings"]))
    for unknown, error in (m["relative_l2"] or {}).items():
        estimate = (m["error_estimate"] or {}).get(unknown)
        ratio = estimate / error if estimate is not None and error else None
        told = (m["error_estimate_by"], m["error_estimate_trusted"], flags, cost.wall_s)
        yield dict(zip(COLUMNS, (problem, way, seed, unknown, error, estimate, ratio, *told), strict=True))


def summary(table: list[dict[str, object]]) -> Iterator[str]:
    """Count how good estimates are where they can be judged."""
    judged = [row for row in table if isinstance(row["error"], float) and row["error"] > ROUNDING]
    known = [(row["error"], row["ratio"], row) for row in judged if isinstance(row["ratio"], float)]
    small = [(ratio, row) for error, ratio, row in known if isinstance(error, float) and error <= 0.1]
    trusted = [(ratio, row) for ratio, row in small if row["trusted"]]
    for name, some in (("errors below 10 %", small), ("of these trusted", trusted)):
        within = sum(0.5 <= ratio <= 2 for ratio, _ in some if isinstance(ratio, float))
        low = sum(ratio < 1 / 3 for ratio, _ in some if isinstance(ratio, float))
        yield f"{name}: {len(some)}, within a factor of 2: {within}, more than 3 times too small: {low}"
    wrong = [row for row in judged if isinstance(row["error"], float) and row["error"] > 0.1]
    yield f"errors above 10 %: {len(wrong)}, without a flag: {sum(not row['flags'] for row in wrong)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold estimates of the error against true errors.")
    add = parser.add_argument
    add("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS, metavar="P", help="default: all")
    add("--ways", nargs="+", default=list(WAYS), choices=WAYS, metavar="W", help="default: short kan default")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--limit", type=float, default=900, help="seconds after which a run is killed (default: %(default)s)")
    given = parser.parse_args()
    given.csv.parent.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, object]] = []
    with given.csv.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for way in given.ways:
            for problem in given.problems:
                for seed in given.seeds:
                    for row in rows(problem, way, seed, given.limit):
                        found.append(row)
                        table.writerow(row)
                        file.flush()
                        print(*(f"{name}={row[name]}" for name in COLUMNS), flush=True)
    print("\n".join(summary(found)))


if __name__ == "__main__":
    main()
