"""Laws of `feynman.py` looked for in their tables, clean and noisy, one after the other.

    python benchmarks/feynman_run.py [--noise 0 0.01] [--numbers 61 62] [--seconds 100] [--set second]
    python benchmarks/feynman_run.py --noise 0 --peers-python .venv-peers/bin/python

Rows are appended to feynman.csv and not repeated. The rows alone are searched (`LawSearch`, no network); seconds are of
one core's processor time. With --peers-python pykan does the same (`peers/pykan_feynman.py`).
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import sympy
from feynman import DEVELOPMENT, EXACT, JUDGED, SECOND, Law, error_of, recovered
from sources import ROOT
from sympy.parsing.sympy_parser import parse_expr

from kanpinn.symbolic.constants import fitted_constants

SETS = {"first": JUDGED, "second": SECOND, "development": DEVELOPMENT}
TABLE = ROOT / "benchmarks" / "feynman.csv"
COLUMNS = ("number", "solver", "noise", "recovered", "form", "error", "seconds", "expression")


def ours(law: Law, noise: float, seconds: float) -> tuple[Any, float]:
    """Return the law found and the processor time it took."""
    from kanpinn.symbolic.laws import LawSearch

    points, values = law.table(noise)
    start = time.process_time()
    search = LawSearch(points, values, law.names, seconds)
    search.find()
    fit = search.exact()
    return None if fit is None else fit.expression, time.process_time() - start


def pykan(law: Law, noise: float, seconds: float, python: Path) -> tuple[Any, float]:
    """Return the last formula that pykan gives in so many seconds, None for none, and the processor time it took."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))

    script = ROOT / "benchmarks" / "peers" / "pykan_feynman.py"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [python, str(script), str(law.number), str(noise)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    texts = [line[2:] for line in done.stdout.splitlines() if line.startswith("@@")]
    if not texts:
        print(f"pykan: {law.number}: {done.stderr.strip().splitlines()[-1:] or done.returncode}", flush=True)
        return None, spent
    names = {name: sympy.Symbol(name, real=True) for name in law.names}
    found = parse_expr(texts[-1], names)
    return (None if found.has(sympy.nan, sympy.zoo) else found), spent


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
    parser.add_argument("--set", default="first", choices=SETS)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--peers-python", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    solver = "pykan" if arguments.peers_python else "kanpinn"
    laws = SETS[arguments.set]
    done = set()
    if arguments.table.exists():
        with arguments.table.open(encoding="utf-8") as file:
            done = {(row["number"], row["solver"], float(row["noise"])) for row in csv.DictReader(file)}
    for noise in arguments.noise:
        for law in laws:
            if (arguments.numbers and law.number not in arguments.numbers) or (
                str(law.number),
                solver,
                noise,
            ) in done:
                continue
            if arguments.peers_python:
                expression, seconds = pykan(law, noise, arguments.seconds, arguments.peers_python)
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
