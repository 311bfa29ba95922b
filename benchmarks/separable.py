"""Factoring JᵀJ of separable networks by dimension: what it saves, and which points their problems want.

    python benchmarks/separable.py steps [--cases "problem=poisson sampler=grid" …] [--dense]
    python benchmarks/separable.py samplers [--problems poisson …] [--samplers adaptive grid …] [--seeds 0 1 2]

steps: CPU ms of a Levenberg–Marquardt step on the finest level (one thread, median of three) and the peak memory beside
the imports; with --dense from the whole Jacobian. Each case wants a process of its own for its peak. samplers: relative
L2 errors and CPU seconds of whole trainings, network and schedule as the problem's defaults say.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from dataclasses import replace

import machine
import numpy as np
import torch

from kanpinn.backbones.separable import normal_equations
from kanpinn.geometry import Coordinates
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver import solve
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve

PROBLEMS = ("poisson", "helmholtz", "heat", "wave", "advection", "poisson_nd")
MANY = "sampler.interior=100000 sampler.growth=1 schedule.levels=1 schedule.steps=[9] backbone.grid=64"
CASES = (*(f"problem={name}" for name in PROBLEMS), f"problem=poisson sampler=grid {MANY}")


def training_of(overrides: list[str]) -> SlabSolve:
    """A training from a command line."""
    configuration = validate(compose(overrides)[0])
    return SlabSolve(replace(configuration.setup, points=3))


def train(training: SlabSolve, steps: int | None = None) -> None:
    """Go through every stage."""
    for stage in training.setup.plan():
        if stage.trial is None:
            part = stage if steps is None else replace(stage, steps=steps)
            enter(training, part)
            training.settle(solve.train(training, part))


def steps(cases: list[str]) -> None:
    """Print a row per case."""
    print("| case | parameters | points | ms per step | peak MiB beside imports |\n|---|--:|--:|--:|--:|--:|")
    for case in cases:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        training = training_of(case.split())
        train(training, 2)
        objective, theta = training.objective, training.theta
        optimizer = LevenbergMarquardt()
        optimizer.start(len(theta), 4)
        seconds: list[float] = []
        for _ in range(4):
            start = time.process_time()
            theta = optimizer.step(objective, theta).theta
            seconds.append(time.process_time() - start)
        numbers = f"{len(theta)} | {len(objective.points)} | {1e3 * statistics.median(seconds[1:]):.0f}"
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"| {case} | {numbers} | {memory:.0f} |", flush=True)


def error(training: SlabSolve) -> float:
    """Relative L2 error at random points."""
    problem = training.setup.problem
    unit = np.random.default_rng(0).random((20000, len(problem.domain)))
    lower, upper = np.array(problem.domain.lower), np.array(problem.domain.upper)
    points = torch.from_numpy(lower + unit * (upper - lower))
    expected = problem.reference(Coordinates(problem.domain.names, points.unbind(1)))
    assert isinstance(expected, torch.Tensor)
    with torch.no_grad():
        found = training.objective.residuals.fields(training.theta, points)[problem.unknowns[0]].value
    return float((found - expected).norm() / expected.norm())


def samplers(problems: list[str], names: list[str], seeds: list[int], extra: list[str]) -> None:
    """Print a row per run."""
    print("| problem | sampler | seed | points | relative L2 | CPU s |\n|---|---|--:|--:|--:|--:|")
    for problem in problems:
        for seed in seeds:
            for name in names:
                start = time.process_time()
                training = training_of([f"problem={problem}", f"sampler={name}", f"seed={seed}", *extra])
                train(training)
                seconds = time.process_time() - start
                points = len(training.objective.points)
                print(f"| {problem} | {name} | {seed} | {points} | {error(training):.1e} | {seconds:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Separable networks: seconds, memory, points.")
    parser.add_argument("part", choices=("steps", "samplers"))
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--dense", action="store_true", help="form the whole Jacobian")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--samplers", nargs="+", default=["adaptive", "grid"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--overrides", nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.dense:
        normal_equations.products = lambda *_: None
    print(f"{machine.cpu_model()}, one thread, torch {torch.__version__}\n")
    if arguments.part == "steps":
        return steps(arguments.cases)
    return samplers(arguments.problems, arguments.samplers, arguments.seeds, arguments.overrides)


if __name__ == "__main__":
    main()
