"""Table of `feynman.md` from feynman.csv.

python benchmarks/feynman_table.py
"""

from __future__ import annotations

import csv
import sys

from feynman import JUDGED
from feynman_run import TABLE

Row = dict[str, str]


def rows_of(solver: str, noise: float) -> dict[int, Row]:
    """Return the rows of one solver at one noise, by the law's number."""
    with TABLE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {int(row["number"]): row for row in rows if row["solver"] == solver and float(row["noise"]) == noise}


def cells(row: Row | None) -> str:
    """Return what became of a law, and the seconds."""
    if row is None:
        return "– | –"
    found = "yes" if row["recovered"] == "1" else "form" if row["form"] == "1" else "no"
    return f"{found} | {float(row['seconds']):.1f}"


def main() -> int:
    """Print the table."""
    columns = [rows_of("kanpinn", 0.0), rows_of("kanpinn", 0.01), rows_of("pykan", 0.0)]
    print("| number | law | clean | s | 1 % noise | s | pykan, clean | s |")
    print("|--:|---|---|--:|---|--:|---|--:|")
    for law in JUDGED:
        print(f"| {law.number} | `{law.text}` |", " | ".join(cells(one.get(law.number)) for one in columns), "|")
    told = [f"{sum(row['recovered'] == '1' for row in one.values())} of {len(one)}" for one in columns]
    print("| recovered | |", " | | ".join(told), "| |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
