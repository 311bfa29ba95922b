"""Laws of `feynman.py` looked for in their tables, clean and noisy, each in a process of its own.

    python benchmarks/feynman_run.py [--noise 0 0.01] [--numbers 61 62] [--seconds 100] [--development]
    python benchmarks/feynman_run.py --peers-python PYTHON --numbers 61 62   # pykan 0.2.8 in its own environment

Rows are appended to feynman.csv and not repeated. Ours searches the rows alone (`LawSearch`, no network); seconds are
of one core's processor time. pykan's documented way: L-BFGS 20 steps with λ = 0.01, prune, L-BFGS 50, auto_symbolic,
L-BFGS 50, symbolic_formula.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sympy
from feynman import DEVELOPMENT, EXACT, JUDGED, Law, error_of, recovered
from sources import ROOT
from sympy.parsing.sympy_parser import parse_expr

from kanpinn.symbolic.constants import fitted_constants

TABLE = ROOT / "benchmarks" / "feynman.csv"
COLUMNS = ("number", "solver", "noise", "recovered", "form", "error", "seconds", "expression")
PYKAN = ROOT / "benchmarks" / "peers" / "pykan_symbolic.py"
SLOWEST = 300.0
"""Seconds after which pykan's process is ended, its start included."""


def ours(law: Law, noise: float, seconds: float) -> tuple[Any, float]:
    """Return the law found and the processor time it took."""
    from kanpinn.symbolic.laws import LawSearch

    points, values = law.table(noise)
    start = time.process_time()
    search = LawSearch(points, values, law.names, seconds)
    search.find()
    fit = search.exact()
    return None if fit is None else fit.expression, time.process_time() - start


def pykan(law: Law, noise: float, python: str) -> tuple[Any, float]:
    """Return pykan's formula, None where it ends in an exception, and the seconds of its training and search."""
    points, values = law.table(noise)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "table.npz", x=points, y=values)
        try:
            done = subprocess.run(
                [python, str(PYKAN), "table.npz"], cwd=folder, capture_output=True, text=True, timeout=SLOWEST
            )
        except subprocess.TimeoutExpired:
            return None, SLOWEST
        answer = Path(folder) / "formula.txt"
        if done.returncode or not answer.exists():
            print(done.stderr.strip().splitlines()[-1:] or "no formula", file=sys.stderr)
            return None, float("nan")
        text, seconds = answer.read_text(encoding="utf-8").splitlines()
    names: dict[str, Any] = {f"x_{k + 1}": sympy.Symbol(name, real=True) for k, name in enumerate(law.names)}
    return parse_expr(text, local_dict=names), float(seconds)


def judged(law: Law, expression: Any) -> tuple[bool, bool, float]:
    """Return whether a law is recovered, whether its form is, and its error."""
    if expression is None:
        return False, False, float("inf")
    points, values = law.table(0.0)
    again = fitted_constants(expression, tuple(law.names), points, values)
    same = recovered(law, expression)
    return same, same or (again is not None and error_of(law, again[0]) < EXACT), error_of(law, expression)


def main() -> int:
    """Run what is asked for and has not been run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.01])
    parser.add_argument("--numbers", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--peers-python", default="")
    parser.add_argument("--table", type=Path, default=TABLE)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    laws = DEVELOPMENT if arguments.development else JUDGED
    solver = "pykan" if arguments.peers_python else "kanpinn"
    done = set()
    if arguments.table.exists():
        with arguments.table.open(encoding="utf-8") as file:
            done = {(row["number"], row["solver"], float(row["noise"])) for row in csv.DictReader(file)}
    for noise in arguments.noise:
        for law in laws:
            if (arguments.numbers and law.number not in arguments.numbers) or (str(law.number), solver, noise) in done:
                continue
            if arguments.peers_python:
                expression, seconds = pykan(law, noise, arguments.peers_python)
            else:
                expression, seconds = ours(law, noise, arguments.seconds)
            same, form, error = judged(law, expression)
            row = (law.number, solver, noise, int(same), int(form), f"{error:.2e}", f"{seconds:.1f}", expression)
            new = not arguments.table.exists()
            with arguments.table.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([COLUMNS, row] if new else [row])
            print(*row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
