"""The blind suite beside other libraries, each in settings of its own, for the same seconds of training on one thread.

    python benchmarks/untuned_peers.py --peers-python .venv-peers/bin/python [--problems shell …] [--solvers deepxde …]
    python benchmarks/untuned_peers.py --table  # no runs: the table of what is in the file

DeepXDE and jaxKAN get a problem's formulas and points as plain data (`untuned_statement.py`), one process a run; their
scripts in `peers/` say which example or tutorial their settings are from. kanpinn and an SSBroyden perceptron run by
`untuned.py`. The clock of the peers is that of their processor time, so that other processes beside them do not count,
and starts after imports, set-up and compilation; kanpinn's is the clock on the wall, and starts with its set-up. Every
run is appended to a CSV file at once; runs already there are not repeated. Errors are those of `untuned.py`:
relative L2 at the same points, of the worst unknown.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import rows
import torch
from peers_suite import MLP
from process import measured
from sources import ROOT
from untuned import error_points, part_of, solved, texts, truth
from untuned_statement import Counts, statement

CSV = ROOT / "benchmarks" / "untuned_peers.csv"
SCRIPTS = ROOT / "benchmarks" / "peers"
GRACE_S = 600.0
"""Seconds beyond those of training after which a process is killed: imports, set-up, compilation."""


@dataclass(frozen=True)
class Solver:
    """One competitor.

    Attributes:
        title: As it stands in the table.
        script: Its script in `peers/`; "" for kanpinn itself.
        counts: Numbers of points that it gets.
        words: Further words of its command line.
    """

    title: str
    script: str = ""
    counts: Counts | None = None
    words: tuple[str, ...] = ()


_EXAMPLE = Counts(2540, 80, 160)  # Burgers.py
_TUTORIAL = Counts(2**12, 2**6, 2**6, by_piece=True)  # Tutorial 6

SOLVERS = {
    "kanpinn": Solver("kanpinn"),
    "deepxde": Solver("DeepXDE", "deepxde_untuned.py", _EXAMPLE),
    "jaxkan": Solver("jaxKAN", "jaxkan_untuned.py", _TUTORIAL),
    "ssbroyden": Solver("SSBroyden MLP", words=(*MLP, "optimizer=ssbroyden")),
    "deepxde_third": Solver("DeepXDE, Adam a third", "deepxde_untuned.py", _EXAMPLE, ("--third",)),
    "deepxde_scaled": Solver("DeepXDE, scaled", "deepxde_untuned.py", _EXAMPLE, ("--scaled",)),
    "jaxkan_scaled": Solver("jaxKAN, scaled", "jaxkan_untuned.py", _TUTORIAL, ("--scaled",)),
}
"""The competitors by key; the last three are settings that no example has, and run where they are named."""

DEFAULT = ("kanpinn", "deepxde", "jaxkan", "ssbroyden")


@dataclass(frozen=True)
class Run:
    """One line of the CSV file.

    Attributes:
        problem: The problem.
        solver: Key of the solver.
        seed: The seed.
        limit: Seconds asked for.
        status: "time_limit", "ended" if training ended by itself before, "failed", or kanpinn's own.
        error: Relative L2 error of the worst unknown; NaN if the run failed.
        unknown: The worst unknown.
        seconds: Of training, processor time; of kanpinn's whole process, on the wall.
        cpu_s: Processor time of the whole process.
        steps: Optimiser steps.
        version: Of the solver; why it failed.
    """

    problem: str
    solver: str
    seed: int
    limit: float
    status: str
    error: float
    unknown: str
    seconds: float
    cpu_s: float
    steps: int
    version: str

    @property
    def key(self) -> tuple[str, str, int, float]:
        """Identity of a run; of several equal ones the newest counts."""
        return self.problem, self.solver, self.seed, self.limit


def own_run(problem: str, solver: str, seed: int, seconds: float) -> Run:
    """Run kanpinn, by its recommendations or with the words of a solver."""
    words, before = [*SOLVERS[solver].words, f"time_limit_s={seconds:g}"], resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as place:
        row = solved(problem, seed, words, seconds + GRACE_S, Path(place))
        told = Path(place).resolve() / f"{problem}-{seed}" / "run" / "metrics.json"
        levels = json.loads(told.read_text(encoding="utf-8"))["levels"] if told.exists() else []
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)
    failed = not isinstance(row["error"], float)
    text = str(row["limited_by"]) if failed else f"kanpinn {version('kanpinn')}"
    error = math.nan if failed else row["error"]
    steps = sum(level["steps"] for level in levels)
    return Run(problem, solver, seed, seconds, row["status"], error, row["unknown"], row["seconds"], cpu, steps, text)


def peer_run(problem: str, solver: str, seed: int, seconds: float, python: Path) -> Run:
    """Run a peer in its own environment."""
    chosen = SOLVERS[solver]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        assert chosen.counts is not None
        told = statement(problem, chosen.counts, seed)
        folder.joinpath("statement.json").write_text(json.dumps(told), encoding="utf-8")
        points = error_points(problem)
        known = truth(problem, torch.from_numpy(points))
        values = np.stack([known[one].numpy() for one in told["unknowns"]], axis=1)
        np.savez(folder / "reference.npz", points=points, values=values)
        files = ["--statement", "statement.json", "--reference", "reference.npz", "--out", "result.json"]
        words = [*files, "--seed", str(seed), "--seconds", str(seconds), *chosen.words]
        cost = measured([str(python), str(SCRIPTS / chosen.script), *words], folder, seconds + GRACE_S, env)
        out = folder / "result.json"
        found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else None
    if found is None:
        why = "killed" if cost.timeout else (cost.complaint.splitlines() or [""])[-1][:200]
        return Run(problem, solver, seed, seconds, "failed", math.nan, "", cost.wall_s, cost.cpu_s, 0, why)
    errors = dict(zip(told["unknowns"], found["errors"], strict=True))
    worst = max(errors, key=lambda key: errors[key] if math.isfinite(errors[key]) else math.inf)
    status, spent = "ended" if found["ended"] else "time_limit", round(found["seconds"], 2)
    return Run(
        *(problem, solver, seed, seconds, status, errors[worst], worst),
        *(spent, cost.cpu_s, found["steps"], found["version"]),
    )


def table(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the lines of a table: a line per problem, a column per solver, medians over seeds; then the medians."""
    solvers = [key for key in SOLVERS if any(run.solver == key for run in runs)]
    yield f"| problem | {' | '.join(SOLVERS[key].title for key in solvers)} |"
    yield f"|---|{'--:|' * len(solvers)}"
    columns: Mapping[str, list[float]] = {key: [] for key in solvers}
    for problem in sorted({run.problem for run in runs}):
        cells = []
        for key in solvers:
            errors = [run.error for run in runs if (run.problem, run.solver) == (problem, key)]
            columns[key].extend([_median(errors)] if errors else [])
            cells.append(_shown(_median(errors)) if errors else "")
        yield f"| {problem} | {' | '.join(cells)} |"
    yield f"| median | {' | '.join(_shown(_median(columns[key])) for key in solvers)} |"


def _median(errors: Sequence[float]) -> float:
    """Return the median, a run without a result being the worst."""
    return statistics.median(math.inf if math.isnan(error) else error for error in errors)


def _shown(error: float) -> str:
    return f"{error:.1e}" if math.isfinite(error) else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description="The blind suite beside other libraries.")
    add = parser.add_argument
    add("--peers-python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python", help="default: %(default)s")
    add("--problems", nargs="+", choices=sorted(texts()), metavar="P", help="default: the development part")
    add("--solvers", nargs="+", choices=SOLVERS, default=list(DEFAULT), metavar="S", help="default: %(default)s")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    add("--seconds", type=float, default=60, help="of training (default: %(default)s)")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--table", action="store_true", help="run nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.problems or [name for name in sorted(texts()) if part_of(name) == "dev"]
    for seed in given.seeds if not given.table else []:
        for name in names:
            for key in given.solvers:
                there = {run.key for run in rows.read(given.csv, Run)} if not given.again else set()
                if (name, key, seed, given.seconds) in there:
                    continue
                if SOLVERS[key].script:
                    run = peer_run(name, key, seed, given.seconds, given.peers_python.absolute())
                else:
                    run = own_run(name, key, seed, given.seconds)
                rows.append(given.csv, run)
                print(f"{run.problem} {run.solver} {run.status} {run.error:.2e} {run.steps} steps", file=sys.stderr)
    newest = {run.key: run for run in rows.read(given.csv, Run)}
    print("\n".join(table([run for run in newest.values() if run.limit == given.seconds])))


if __name__ == "__main__":
    main()
