"""The table of `benchmarks/tuned.md`: what leaving out a part of a problem's `tuned` section costs, and what is gone.

python benchmarks/tuned_table.py [--csv FILE]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import rows
import yaml
from tuned import CSV, ERROR, SECONDS, Run, at, text_of


def table(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the table's lines: each part of each problem beside the default with the same seeds."""
    known = {run.key: run for run in runs}
    yield "| problem | left out | seeds | error | its ratio | seconds | their ratio | |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for problem, words, part in sorted({run.key[:3] for run in runs if run.part}):
        pairs = [(run, known[problem, words, "", run.seed]) for run in runs if run.key[:3] == (problem, words, part)]
        errors = [run.error / default.error for run, default in pairs]
        seconds = [run.cpu_s / default.cpu_s for run, default in pairs if math.isfinite(default.cpu_s)]
        more = {flag for run, default in pairs for flag in set(run.flags.split()) - set(default.flags.split())}
        told = {
            "killed": any(run.status == "killed" for run, _ in pairs),
            "error": ERROR < max(errors) < math.inf,
            "seconds": statistics.median(seconds) > SECONDS,
            f"flagged: {', '.join(sorted(more))}": bool(more),
        }
        section = text_of(problem).get("tuned", {})
        gone = all(at(section, place) is None for place in yaml.safe_load(pairs[0][0].value))
        cells = [
            f"{problem}, {words}" if words else problem,
            part if part in ("all", "auto") else f"`{pairs[0][0].value[1:-1]}`",
            f"{len(pairs)}",
            f"{statistics.median(run.error for run, _ in pairs):.1e}",
            *(_both(errors), f"{statistics.median(run.cpu_s for run, _ in pairs):.0f}", _both(seconds)),
            "; ".join(["gone" if gone else "stays", *(name for name, held in told.items() if held)]),
        ]
        yield f"| {' | '.join(cells)} |"


def _both(ratios: Sequence[float]) -> str:
    """Median, and the worst of several in brackets."""
    more = f" ({max(ratios):.2g})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2g}{more}" if math.isfinite(max(ratios)) else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of what was left out.")
    parser.add_argument("--csv", type=Path, default=CSV, help="default: %(default)s")
    print("\n".join(table(rows.read(parser.parse_args().csv, Run))))


if __name__ == "__main__":
    main()
