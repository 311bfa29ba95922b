"""Effects of training aids on three functions: grid updates, sparsity, entropy, a sparse start, modules as masks.

    python benchmarks/aids.py [--seeds 0 1 2 3 4]      # five minutes, one thread; rows that are there are not repeated

KANs without a squash, 1000 random points, Adam for 1000 steps or 40 steps of Levenberg–Marquardt. Errors are root mean
squares at 4000 fresh points over the function's standard deviation there, medians over seeds; edges are those with
more than a hundredth of the largest score (KAN 2.0's attribution).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import rows
from sources import ROOT

import kanpinn
from kanpinn.explain.attribution import attribution


@dataclass(frozen=True)
class Task:
    """A function on [−1, 1]ᵈ and the network that it is fitted by.

    Attributes:
        function: Of points `[N, d]`.
        inputs: d.
        width: Hidden widths.
        modules: Its structure, as `backbone.modules`.
    """

    function: Callable[[np.ndarray], np.ndarray]
    inputs: int
    width: tuple[int, ...]
    modules: str


TASKS = {
    "xy": Task(lambda x: x[:, 0] * x[:, 1], 2, (5,), ""),
    "exp(sin πx + y²)": Task(lambda x: np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2), 2, (5,), ""),
    "sin πx₁ + exp(x₂x₃)": Task(lambda x: np.sin(np.pi * x[:, 0]) + np.exp(x[:, 1] * x[:, 2]), 3, (6,), "0,[0]->[0,1]"),
    "tanh(3x₁x₂) + x₃²": Task(lambda x: np.tanh(3 * x[:, 0] * x[:, 1]) + x[:, 2] ** 2, 3, (6,), "0,[0,1]->[0,1,2,3]"),
    "x₂ sin πx₁ + x₄ cos πx₃": Task(
        lambda x: x[:, 1] * np.sin(np.pi * x[:, 0]) + x[:, 3] * np.cos(np.pi * x[:, 2]),
        4,
        (8,),
        "0,[0,1]->[0,1,2,3]",
    ),
}
AIDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "grid updates": ("backbone.grid_updates=3", "backbone.grid_updates_until=25"),
    "sparsity 1e-4": ("weighting.sparsity=1e-4",),
    "sparsity 1e-4, entropy 2": ("weighting.sparsity=1e-4", "weighting.entropy=2"),
    "sparsity 1e-3": ("weighting.sparsity=1e-3",),
    "sparsity 1e-3, entropy 2": ("weighting.sparsity=1e-3", "weighting.entropy=2"),
    "sparse start": ("backbone.sparse=true",),
    "modules": (),
}
METHODS = {
    "Adam": ("optimizer=adam", "schedule.steps=1000"),
    "Levenberg–Marquardt": ("optimizer=levenberg_marquardt", "schedule.steps=40"),
}


@dataclass(frozen=True)
class Run:
    """One fit.

    Attributes:
        task: Name of the function.
        method: Name of the optimiser.
        aid: Name of the aid.
        seed: Seed of points and network.
        error: Relative root mean square error at fresh points.
        edges: Number of edges that matter.
        all: Number of edges.
    """

    task: str
    method: str
    aid: str
    seed: int
    error: float
    edges: int
    all: int


def fitted(name: str, method: str, aid: str, seed: int) -> Run:
    """Fit a task."""
    task, rng = TASKS[name], np.random.default_rng(seed)
    points, fresh = rng.uniform(-1, 1, (1000, task.inputs)), rng.uniform(-0.99, 0.99, (4000, task.inputs))
    words = [f"backbone.width={list(task.width)}", "backbone.grid=5", "backbone.degree=3", "backbone.squash=none"]
    words += ["schedule=single", "schedule.levels=1", f"seed={seed}", "threads=1", *METHODS[method], *AIDS[aid]]
    words += [f"backbone.modules=['{task.modules}']"] if aid == "modules" else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = ("output.figures=false", "output.progress=false")
        solution = kanpinn.fit(points, task.function(points), *words, *quiet, split=[1], folder=None)
    wanted = task.function(fresh)
    found = solution(fresh)["y"]
    edges = np.concatenate([layer.edges.ravel() for layer in attribution(solution, points).layers])
    alive = int((edges > 0.01 * edges.max()).sum())
    return Run(name, method, aid, seed, float(np.std(found - wanted) / np.std(wanted)), alive, edges.size)


def plan() -> list[tuple[str, str, str]]:
    """Return task, method and aid of all runs of a seed: masks where a structure is known, the others without one."""
    found = []
    for name, task in TASKS.items():
        aids = ("none", "modules") if task.inputs > 2 else ()
        if task.inputs < 4 and "tanh" not in name:
            aids = (*(aid for aid in AIDS if aid != "modules"), *aids[1:])
        found += [(name, method, aid) for method in METHODS for aid in aids]
    return found


def table(runs: list[Run]) -> str:
    """Return medians (worst) of the errors, and the median number of edges."""
    lines = ["| function | method | aid | seeds | relative error | edges |", "|---|---|---|--:|--:|--:|"]
    for name, method, aid in plan():
        own = [run for run in runs if (run.task, run.method, run.aid) == (name, method, aid)]
        if own:
            error = f"{median(run.error for run in own):.2g} ({max(run.error for run in own):.2g})"
            edges = f"{median(run.edges for run in own):.0f} of {own[0].all}"
            lines.append(f"| {name} | {method} | {aid} | {len(own)} | {error} | {edges} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Effects of training aids.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="N", help="default: 0 to 4")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="M", help="default: both"
    )
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "aids.csv")
    given = parser.parse_args()
    known = {(run.task, run.method, run.aid, run.seed) for run in rows.read(given.csv, Run)}
    for seed in given.seeds:
        for name, method, aid in plan():
            if method in given.methods and (name, method, aid, seed) not in known:
                rows.append(given.csv, run := fitted(name, method, aid, seed))
                print(run, file=sys.stderr, flush=True)
    print(table(rows.read(given.csv, Run)), end="")


if __name__ == "__main__":
    main()
