"""Limits of the error of a default run: the network, the points, or the way to the minimum.

    python benchmarks/limits.py [--problems burgers allen_cahn] [--seeds 0 1 2] [-- schedule.levels=5 …]

On every level of a default run, beside the error it reaches:

- *fitted*: the same network on the same schedule, optimiser and points, but with u − u_ref as its residual: what the
  network can be brought to represent (approximation);
- *fresh*: the loss at new Sobol points over the loss at those the level was trained on (sampling);
- *loss of the fit*: the equation's loss of the fitted network over that of the solved one. Above 1 the residual prefers
  the solved network although it is further off; below 1 the optimiser has missed a better minimum (optimisation);
- *from the fit*, on the finest level: the error after its steps of the equation again, begun at the fitted network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from copy import copy
from dataclasses import fields, replace
from typing import Any

import machine
import numpy as np
import torch
from torch import Tensor

from kanpinn.evaluate.grid_evaluation import grid_values
from kanpinn.geometry import Coordinates
from kanpinn.least_squares.objective import plain_loss
from kanpinn.pde import Problem
from kanpinn.samplers.quasi import Sobol
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.collocation import Collocation
from kanpinn.solver.level_changes import enter
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train


def fitting(problem: Problem) -> Problem:
    """The problem whose residual is u − u_ref, with the same domain, periodicity, symmetry and built-in conditions."""
    kept: dict[tuple[float, ...], Tensor] = {}

    def residual(self: Problem, p: Any) -> Tensor:
        columns = [getattr(p, name) for name in self.domain.names]
        key = (float(len(columns[0])), *(float(column.sum()) for column in columns))
        if key not in kept:  # several losses are asked for at the same points
            kept.clear()
            kept[key] = torch.as_tensor(problem.reference(Coordinates(self.domain.names, columns)))
        return p.u - kept[key]

    body = {"residual": residual, "conditions": lambda _: [], "derivatives": ()}
    return type("Fit", (type(problem),), body)(**{f.name: getattr(problem, f.name) for f in fields(problem)})


def each_level(training: SlabSolve, seen: Callable[[int], None]) -> None:
    """Train all stages; `seen` is told of the level after each."""
    for stage in training.setup.plan():
        enter(training, stage)
        training.settle(train(training, stage))
        seen(stage.level)


def error(training: SlabSolve) -> float:
    """The largest relative L2 error over the output grid."""
    values = grid_values(training.objective.residuals, training.theta, training.grid)
    found = training.grid.errors(values)[0]
    assert found is not None
    return max(found.values())


def resample(training: SlabSolve) -> None:
    """Give the network under work new Sobol points, whatever points the run draws."""
    options = vars(training.setup.sampler)
    sampler = Sobol(**{f.name: options[f.name] for f in fields(Sobol) if f.name in options})
    drawn = Collocation(replace(training.setup, sampler=sampler), np.random.default_rng(0))
    drawn.draw(training.objective, training.theta, training.backbone.level)


def study(setup: Setup) -> list[str]:
    """The rows of one run: cells joined by bars."""
    # The fit's errors count alike at all times, and it has no conditions to weigh.
    weighting = replace(setup.weighting, growth=0.0, base={}, terms={})
    fit = replace(setup, problem=fitting(setup.problem), weighting=weighting)
    fitted: list[tuple[float, Tensor]] = []
    training = SlabSolve(fit)
    each_level(training, lambda _: fitted.append((error(training), training.theta.clone())))

    rows, solved = [], SlabSolve(setup)

    def see(level: int) -> None:
        off, loss = error(solved), plain_loss(solved.objective, solved.theta)
        resample(solved)
        fresh = plain_loss(solved.objective, solved.theta)
        there = plain_loss(solved.objective, fitted[level][1]) / fresh
        rows.append([str(level), str(solved.backbone.size), f"{off:.1e}", f"{fitted[level][0]:.1e}",
                     f"{fresh / loss:.2f}", f"{there:.1e}", ""])  # fmt: skip

    each_level(solved, see)
    again = SlabSolve(setup)
    stages = setup.plan()
    for stage in stages:
        enter(again, stage)
    again.hierarchy.theta = fitted[-1][1].clone()
    again.settle(train(again, copy(stages[-1])))
    rows[-1][-1] = f"{error(again):.1e}"
    return [" | ".join(row) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=["burgers", "allen_cahn"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("overrides", nargs="*", help="further ones of kanpinn solve, after --")
    given = parser.parse_args()
    began = time.perf_counter()
    columns = "level", "parameters", "solved", "fitted", "fresh", "loss of the fit", "from the fit"
    print("| problem | seed | " + " | ".join(columns) + " |\n|---|" + "--:|" * (1 + len(columns)))
    for problem in given.problems:
        for seed in given.seeds:
            setup = validate(compose([f"problem={problem}", f"seed={seed}", *given.overrides])[0]).setup
            for row in study(setup):
                print(f"| {problem} | {seed} | {row} |", flush=True)
    print(f"\n{machine.cpu_model()}, torch {torch.__version__}, {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
