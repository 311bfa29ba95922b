"""Tables of `feynman.md` from feynman.csv.

python benchmarks/feynman_table.py [--set second]
"""

from __future__ import annotations

import argparse
import csv
import sys

from feynman_run import SETS, TABLE

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
    """Print the table of a set; pykan has a column where it was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="first", choices=SETS)
    laws = SETS[parser.parse_args().set]
    numbers = {law.number for law in laws}
    ways = {"clean": ("kanpinn", 0.0), "1 % noise": ("kanpinn", 0.01), "pykan, clean": ("pykan", 0.0)}
    columns = {name: {k: row for k, row in rows_of(*way).items() if k in numbers} for name, way in ways.items()}
    columns = {name: rows for name, rows in columns.items() if rows}
    print("| number | law |", " | ".join(f"{name} | s" for name in columns), "|")
    print("|--:|---|" + "---|--:|" * len(columns))
    for law in laws:
        print(
            f"| {law.number} | `{law.text}` |", " | ".join(cells(one.get(law.number)) for one in columns.values()), "|"
        )
    told = [f"{sum(row['recovered'] == '1' for row in one.values())} of {len(one)}" for one in columns.values()]
    print("| recovered | |", " | | ".join(told), "| |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
