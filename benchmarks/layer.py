"""Seconds of the parts of a Levenberg–Marquardt step of a default network, beside its bare matrix products.

    python benchmarks/layer.py [--problem burgers] [--rounds 7]      # a minute, one thread

The network is the problem's `kan` on each level of its schedule, after a few steps. Bare products are the batched
products of forward pass, backward pass and Jacobian of every spline layer, by their shapes, with operands ready.
Times are CPU times of one thread, the least of several rounds by turns: other processes disturb those least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import machine
import torch

from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.least_squares.linearization import gram
from kanpinn.least_squares.objective import Objective
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train

STEPS = 3
"""Steps on every level before it is timed."""


def bare_products(objective: Objective) -> Callable[[], None]:
    """All batched products of forward pass, backward pass and Jacobian of the spline layers, and nothing else."""
    points, channels = len(objective.points), len(objective.residuals.space)
    triples = []
    for k, layer in enumerate(layer for layer in objective.backbone.layers if isinstance(layer, SplineLayer)):
        width = layer.inputs * (layer.spec.degree + 1)
        jets, local, out = ((channels, width), (width, layer.outputs), (channels, layer.outputs))
        triples.append((k, *(torch.rand(points, *shape, dtype=torch.float64) for shape in (jets, local, out))))

    def run() -> None:
        for k, jets, local, cotangent in triples:
            torch.bmm(jets, local)
            if k:  # nothing is pulled back to the coordinates
                torch.bmm(cotangent, local.transpose(1, 2))
            torch.bmm(cotangent.transpose(1, 2), jets)

    return run


def parts_of_a_step(training: SlabSolve) -> dict[str, Callable[[], object]]:
    """Return the parts that are timed, by name."""
    problem, theta = training.objective, training.theta
    jacobian = problem.linearize(theta).dense().jacobian
    matrix = gram(jacobian)
    matrix.diagonal().add_(1e-3 * matrix.diagonal().mean())
    order = torch.randperm(len(problem.points))

    def local() -> object:
        record = problem.forward_pass(theta)
        return problem.backbone.local_jacobian(theta, record.tape, record.scalar(record.passes[0]), order)

    return {
        "bare products": bare_products(problem),
        "forward, backward, Jacobian at work": local,
        "the same with J written out": lambda: problem.linearize(theta).dense(),
        "JᵀJ of the whole J": lambda: gram(jacobian),
        "normal equations": lambda: problem.linearize(theta).gram(),
        "Cholesky": lambda: torch.linalg.cholesky_ex(matrix),
        "new loss": lambda: problem.loss(theta),
        "new points (every 5 steps)": lambda: training.resample(theta),
    }


def least(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least CPU time of each call, in ms; the calls take turns."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name] = min(found[name], 1e3 * (time.process_time() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the parts of a Levenberg–Marquardt step.")
    parser.add_argument("--problem", default="burgers", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    configuration = validate(
        compose([f"problem={arguments.problem}", "backbone=kan", "sampler=adaptive", "schedule.slabs=1"])[0]
    )
    training = SlabSolve(configuration.setup)
    columns: dict[str, dict[str, float]] = {}
    for stage in configuration.setup.plan():
        if stage.trial is None:
            enter(training, replace(stage, steps=STEPS))
            training.settle(train(training, replace(stage, steps=STEPS)))
            title = f"P = {training.least_squares.size}, N = {len(training.least_squares.points)}"
            columns[title] = least(parts_of_a_step(training), arguments.rounds)
    print(f"{machine.cpu_model()}, one thread, load {machine.load()}, torch {torch.__version__}; {arguments.problem}\n")
    print("| ms | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns), sep="\n")
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(f"{column[name]:.1f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
