"""False flags: status, flags and seconds of default solves over seeds; right solutions must have none.

    python benchmarks/flags.py [--problems poisson burgers] [--seeds 0 1 2] [--set KEY=VALUE …]
    python benchmarks/flags.py --table FILE.csv …

Every packaged problem that has a default solve is run, one process per run, one thread each, one at a time; the table
is printed and written as CSV; `--table` prints tables written before as one, a line per problem. Exit code 1 if a run
is flagged or has failed. Estimates of the error that are marked as
not trusted are counted apart: such a mark is no flag, since it doubts the estimate and not the solution.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from process import measured
from sources import ROOT

CSV = ROOT / "outputs" / "benchmarks" / "flags.csv"
PROBLEMS = sorted(file.stem for file in (ROOT / "conf" / "problem").glob("*.yaml") if file.stem != "table")
"""All but the one that needs a table of the user's."""
COLUMNS = ("problem", "seed", "status", "flags", "trusted", "limited_by", "relative_l2", "error_estimate", "seconds")
COLUMNS += ("cpu_seconds", "examination")
"""The last two are processor seconds of all and of the examination of the problem before it runs."""
TIMED = """
import sys, time
from pathlib import Path
from kanpinn.cli.main import main
from kanpinn.run import preflight

def timed(setup, check=preflight.check):
    begin = time.process_time()
    found = check(setup)
    Path("examination").write_text(str(time.process_time() - begin))
    return found

preflight.check = timed
sys.exit(main(sys.argv[1:]))
"""


def solve(problem: str, seed: int, overrides: list[str], limit: float) -> dict[str, object]:
    """Return one row of the table, by column."""
    with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
        words = [f"problem={problem}", f"seed={seed}", "threads=1", "output.figures=false", "output.progress=false"]
        command = [sys.executable, "-c", TIMED, "solve", *words, *overrides, "hydra.run.dir=run"]
        cost = measured(command, Path(temporary), limit)
        try:
            metrics = json.loads((Path(temporary) / "run" / "metrics.json").read_text(encoding="utf-8"))
        except OSError:
            complaint = cost.complaint.splitlines() or [""]
            row = (problem, seed, "failed", complaint[-1], *[None] * 4, cost.wall_s, cost.cpu_s, None)
            return dict(zip(COLUMNS, row, strict=True))
        examination = float((Path(temporary) / "examination").read_text(encoding="utf-8"))
    flags = ",".join(dict.fromkeys(flag["kind"] for flag in metrics["warnings"]))
    sizes = [max((metrics[key] or {}).values(), default=None) for key in ("relative_l2", "error_estimate")]
    row = (problem, seed, metrics["status"], flags, metrics["error_estimate_trusted"], metrics["limited_by"])
    return dict(zip(COLUMNS, (*row, *sizes, cost.wall_s, cost.cpu_s, examination), strict=True))


def wrong(row: dict[str, object]) -> bool:
    """Return True for a run that has failed or is flagged."""
    return bool(row["status"] == "failed" or row["flags"])


def summary(rows: list[dict[str, object]]) -> str:
    """Return the counts of a table: runs failed or flagged, and estimates marked as not trusted."""
    failed = sum(row["status"] == "failed" for row in rows)
    untrusted = sum(row["trusted"] is False for row in rows)
    flagged = sum(wrong(row) for row in rows) - failed
    return f"{len(rows)} runs: {failed} failed, {flagged} flagged, {untrusted} with an estimate that is not trusted"


def table(files: Sequence[Path]) -> str:
    """Return a table of the rows in some CSV files, a line per problem; of two rows of a run the last one counts."""
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for file in files:
        with file.open(newline="", encoding="utf-8") as stream:
            rows |= {(row["problem"], int(row["seed"])): row for row in csv.DictReader(stream)}
    lines = [
        "| problem | seeds | flagged | estimate not trusted | error, median | worst |",
        "|---|---|---|---|---|---|",
    ]
    for problem in sorted({name for name, _ in rows}):
        own = {seed: row for (name, seed), row in sorted(rows.items()) if name == problem}
        flagged = "; ".join(f"{seed}: {row['flags']}" for seed, row in own.items() if row["flags"]) or "none"
        untrusted = ", ".join(str(seed) for seed, row in own.items() if row["trusted"] == "False")
        errors = [float(row["relative_l2"]) for row in own.values() if row["relative_l2"]] or [math.nan]
        cells = (problem, ", ".join(map(str, own)), flagged, untrusted, f"{median(errors):.1e}", f"{max(errors):.1e}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Solve the built-in problems with defaults; count their flags.")
    add = parser.add_argument
    add("--problems", nargs="+", default=PROBLEMS, choices=PROBLEMS, metavar="P", help="default: all")
    add("--seeds", nargs="+", type=int, default=list(range(5)), metavar="N", help="default: 0 1 2 3 4")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides", help="further overrides")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--limit", type=float, default=900, help="seconds after which a run is killed (default: %(default)s)")
    add("--table", nargs="+", type=Path, metavar="CSV", help="print the table of runs done before, and do none")
    given = parser.parse_args()
    if given.table:
        print(table(given.table))
        return 0
    given.csv.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    with given.csv.open("w", newline="", encoding="utf-8") as file:
        written: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS)
        written.writeheader()
        for problem in given.problems:
            for seed in given.seeds:
                row = solve(problem, seed, given.overrides, given.limit)
                written.writerow(row)
                file.flush()
                rows.append(row)
                print(*(f"{name}={row[name]}" for name in COLUMNS), flush=True)
    print(summary(rows))
    return 1 if any(wrong(row) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
