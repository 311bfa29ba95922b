"""Structure of twenty functions with known answers, found in networks fitted to tables of their values.

    python benchmarks/structure.py [--noise 0 0.01] [--seeds 0] [--only N …]

Per function, noise and seed: 4000 rows at random, the noise with a standard deviation relative to that of the values;
two networks are fitted, with one and two hidden layers of five nodes, and the one with the smaller error at the rows of
validation is asked. Rows already in benchmarks/structure.csv are not repeated; --table prints the table.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import time
import warnings

import numpy as np
from sources import ROOT
from structure_functions import KNOWN, Known

import kanpinn
from kanpinn.explain.function_error import fit_errors
from kanpinn.explain.structure import Field
from kanpinn.explain.tree import tree
from kanpinn.solution import Solution

CSV = ROOT / "benchmarks" / "structure.csv"
ROWS = 4000
WIDTHS = ("[5]", "[5,5]")
COLUMNS = ("number", "function", "noise", "seed", "wanted", "found", "right", "error", "estimate", "width", "seconds")


def sample(known: Known, noise: float, seed: int) -> dict[str, np.ndarray]:
    """Draw a table of a function, with noise relative to its standard deviation."""
    generator = np.random.default_rng([seed, 17])
    columns = {name: generator.uniform(*ends, ROWS) for name, ends in known.box.items()}
    values = known.value(*columns.values())
    return {**columns, "f": values + noise * values.std() * generator.standard_normal(ROWS)}


def fitted(known: Known, noise: float, seed: int) -> tuple[Solution, str]:
    """Fit both networks, on one level where there is noise; return the better one at the rows of validation."""
    levels = ("schedule.levels=1", "schedule.steps=[30]") if noise else ("schedule.levels=2", "schedule.steps=[30,15]")
    found = []
    for width in WIDTHS:
        solution = kanpinn.fit(
            sample(known, noise, seed), "f", f"backbone.width={width}", *levels, f"seed={seed}", "threads=1"
        )
        found.append((solution.metrics["data"]["validation"]["rmse"]["f"], solution, width))
    _, solution, width = min(found, key=lambda one: one[0])
    return solution, width


def rounded(form: str) -> str:
    """A form with numbers within 5 % of a multiple of 0.5 put there, and factors and exponents of 1 left out."""

    def near(match: re.Match[str]) -> str:
        value = float(match[0])
        half = round(2 * value) / 2
        return f"{half:g}" if abs(value - half) <= 0.05 * abs(value) else match[0]

    form = re.sub(r"(?<![a-z])\d+\.?\d*", near, form)
    return re.sub(r"\^1(?![\d.])", "", re.sub(r"(?<![\d.^])1 (?=[a-z])", "", form))


def ordered(form: str) -> str:
    """A form with the parts of sums, products and generalised sums in alphabetical order: they may change places."""
    opened = re.search(r"(sum|product|general)\(", form)
    if not opened:
        return form
    parts, depth, start = [], 0, opened.end()
    for k in range(opened.end(), len(form)):
        depth += (form[k] in "([") - (form[k] in ")]")
        if depth < 0 or (depth == 0 and form[k] == ","):
            parts.append(ordered(form[start:k].strip()))
            start = k + 1
        if depth < 0:
            return f"{form[: opened.end()]}{', '.join(sorted(parts))}){ordered(form[k + 1 :])}"
    return form


def measured(known: Known, number: int, noise: float, seed: int) -> dict[str, object]:
    """Fit, ask and compare; one row of the file."""
    start = time.perf_counter()
    solution, width = fitted(known, noise, seed)
    estimate, domain = fit_errors(solution.residuals, solution.theta)["f"], solution.problem.domain
    ends = np.array(domain.lower), np.array(domain.upper)
    field = Field(lambda points: solution(points)["f"], tuple(known.box), *ends, estimate)
    points = field.points(4000, 99)
    true = known.value(*points.T)
    error = float(np.linalg.norm(field.value(points) - true) / np.linalg.norm(true))
    found = tree(field).form
    values = (number, known.name, noise, seed, known.form, found, ordered(rounded(found)) == ordered(known.form))
    return dict(
        zip(
            COLUMNS,
            (*values, f"{error:.1e}", f"{estimate:.1e}", width, round(time.perf_counter() - start)),
            strict=True,
        )
    )


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table: seeds with the right structure, what was found otherwise, and the median error, by noise."""
    noises = sorted({float(row["noise"]) for row in rows})
    heads = [f"{f'{noise:.0%} noise' if noise else 'clean'} | error" for noise in noises]
    lines = [f"| function | structure | {' | '.join(heads)} |", "|---|---|" + "---|--:|" * len(noises)]
    for number, known in enumerate(KNOWN, start=1):
        cells = []
        for noise in noises:
            own = [row for row in rows if int(row["number"]) == number and float(row["noise"]) == noise]
            wrong = sorted({f"`{row['found']}`" for row in own if row["right"] != "True"})
            right = sum(row["right"] == "True" for row in own)
            error = statistics.median(float(row["error"]) for row in own)
            cells.append(f"{', '.join([f'{right} of {len(own)}', *wrong])} | {error:.1e}")
        lines.append(f"| {known.name} | `{known.form}` | {' | '.join(cells)} |")
    counts = []
    for noise in noises:
        by_seed: dict[str, int] = {}
        for row in rows:
            if float(row["noise"]) == noise:
                by_seed[row["seed"]] = by_seed.get(row["seed"], 0) + (row["right"] == "True")
        counts.append(f"{', '.join(str(count) for _, count in sorted(by_seed.items()))} | ")
    return "\n".join([*lines, f"| right of {len(KNOWN)}, by seed | | {' | '.join(counts)} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.01])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", type=int, nargs="+", help="numbers of functions, from 1")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    done = list(csv.DictReader(CSV.open())) if CSV.is_file() else []
    if arguments.table:
        print(table(done))
        return
    known_rows = {(int(row["number"]), float(row["noise"]), int(row["seed"])) for row in done}
    for seed in arguments.seeds:
        for number, known in enumerate(KNOWN, start=1):
            for noise in arguments.noise:
                if (number, noise, seed) in known_rows or (arguments.only and number not in arguments.only):
                    continue
                row = measured(known, number, noise, seed)
                print(" ".join(map(str, row.values())), flush=True)
                with CSV.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    if not file.tell():
                        writer.writeheader()
                    writer.writerow(row)


if __name__ == "__main__":
    main()
