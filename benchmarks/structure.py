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
    values = (number, known.name, noise, seed, known.form, found, rounded(found) == known.form)
    return dict(
        zip(
            COLUMNS,
            (*values, f"{error:.1e}", f"{estimate:.1e}", width, round(time.perf_counter() - start)),
            strict=True,
        )
    )


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table of what was found without and with noise, by seed."""
    kinds = sorted({(float(row["noise"]), int(row["seed"])) for row in rows})
    heads = [f"{'clean' if not noise else f'{noise:.0%} noise'}, seed {seed}" for noise, seed in kinds]
    lines = [f"| function | structure | {' | '.join(heads)} |", "|---|---|" + "---|" * len(kinds)]
    for number, known in enumerate(KNOWN, start=1):
        cells = []
        for kind in kinds:
            own = [r for r in rows if int(r["number"]) == number and (float(r["noise"]), int(r["seed"])) == kind]
            cells.append("–" if not own else "right" if own[-1]["right"] == "True" else f"`{own[-1]['found']}`")
        lines.append(f"| {known.name} | `{known.form}` | {' | '.join(cells)} |")
    counts = [sum(r["right"] == "True" for r in rows if (float(r["noise"]), int(r["seed"])) == kind) for kind in kinds]
    return "\n".join([*lines, f"| right of {len(KNOWN)} | | {' | '.join(map(str, counts))} |"])


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
