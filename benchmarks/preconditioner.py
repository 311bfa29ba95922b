"""Iterations of conjugate gradients on JᵀJ δ = −g, with and without preconditioners, as the grid is refined.

    python benchmarks/preconditioner.py [--degrees 3 5] [--intervals 8 16 32 64 128]

Linear model problems: one spline layer on [-1, 1] with Gauss-Legendre points, a right-hand side that reaches every
wave number, relative residual 1e-8. Networks: a KAN trained a little on its coarsest level, taken up to each grid, and
the damped system there, relative residual 0.01. Nothing but the preconditioner differs between columns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import machine
import numpy as np
import torch
from torch import Tensor
from two_grid import PROBLEMS as DERIVATIVES

from kanpinn.backbones import Backbone
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.geometry import Box
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.multilevel.correction import Transfer
from kanpinn.optimizers.gauss_newton_cg import Identity, Multilevel, Preconditioner, conjugate_gradient
from kanpinn.pde import Condition, Point, Problem
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train

INTERVALS = (8, 16, 32, 64, 128)
FINEST_NETWORK = 32
MOST = 3000
DAMPINGS = (1e-3, 1e-6)


@dataclass(frozen=True)
class Fit(Problem):
    """u = 0: least squares make JᵀJ the mass matrix ∫ B_i B_j."""

    domain = Box(x=(-1, 1))
    derivatives = ()

    def residual(self, p: Point) -> Tensor:
        return p.u

    def conditions(self) -> list[Condition]:
        return []


PROBLEMS = {"u = f": Fit(), **DERIVATIVES}
PRECONDITIONERS: dict[str, Callable[[Backbone], Preconditioner]] = {
    "none": lambda _: Identity(),
    "jacobi": lambda _: Multilevel(None),
    "bpx": Multilevel,
}


def iterations(objective: Objective, theta: Tensor, name: str, *, damping: float, tolerance: float) -> int:
    """Iterations on the damped Gauss-Newton system at parameters `[P]`; `MOST` where that many did not do."""
    products = objective.linearize(theta)
    preconditioner = PRECONDITIONERS[name](objective.backbone)
    shift = damping * preconditioner.measure(products)

    def apply(v: Tensor) -> Tensor:
        return products.vjp(products.jvp(v)) + shift * v

    found = conjugate_gradient(apply, -products.gradient, preconditioner.shifted(shift), tolerance, MOST)
    return found.iterations if found.converged else MOST


def linear(problem: Problem, degree: int, intervals: int) -> tuple[Objective, Tensor]:
    """A one-layer network at random parameters, whose residual is a random function of the spline space."""
    layer = SplineLayer(1, 1, SplineSpec(intervals, degree))
    backbone = Backbone(Embedding({"x": problem.domain.interval("x")}), (layer,), grid=intervals)
    objective = Objective(Residuals(problem, backbone), Fixed())
    sampler = SAMPLERS["gauss_legendre"](order=degree + 1)
    objective.set_points(sampler.draw(problem, 0, np.random.default_rng(0), cells={"x": intervals}))
    return objective, objective.backbone.initial(np.random.default_rng(1))


def networks(problem: str, intervals: list[int]) -> list[tuple[Objective, Tensor]]:
    """A small KAN, trained for 30 steps on 4 intervals and prolonged to each grid."""
    words = [
        f"problem={problem}",
        "backbone=kan",
        "backbone.width=[4,4]",
        "backbone.degree=4",
        "backbone.grid=4",
        "schedule=single",
    ]
    words += ["schedule.levels=1", "schedule.steps=30", "sampler=sobol", "sampler.interior=1000"]
    configuration = validate(compose(words)[0])
    training = SlabSolve(replace(configuration.setup, points=21))
    (stage,) = configuration.setup.plan()
    enter(training, stage)
    training.settle(train(training, stage))
    coarse, theta = training.backbone, training.theta
    draw = configuration.setup.sampler.draw(configuration.setup.problem, 0, np.random.default_rng(0))
    out, fine = [], coarse
    for n in intervals:
        while (fine.grid or n) < n:
            fine = fine.refined()
        objective = Objective(Residuals(configuration.setup.problem, fine), configuration.setup.weighting)
        objective.set_points(draw)
        out.append((objective, Transfer(coarse, fine).prolong(theta)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degrees", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--intervals", type=int, nargs="+", default=list(INTERVALS))
    arguments = parser.parse_args()
    began = time.perf_counter()
    sizes = arguments.intervals
    print("| problem | degree | preconditioner | " + " | ".join(f"n = {n}" for n in sizes) + " |")
    print("|---|--:|---|" + "--:|" * len(sizes))
    for name, problem in PROBLEMS.items():
        for degree in arguments.degrees:
            for label in PRECONDITIONERS:
                counts = [iterations(*linear(problem, degree, n), label, damping=1e-14, tolerance=1e-8) for n in sizes]
                row = " | ".join(str(c) if c < MOST else f"> {MOST}" for c in counts)
                print(f"| {name} | {degree} | {label} | {row} |", flush=True)
    for name in ("poisson", "burgers"):
        cases = networks(name, [n for n in sizes if n <= FINEST_NETWORK])
        for damping in DAMPINGS:
            for label in PRECONDITIONERS:
                counts = [iterations(*case, label, damping=damping, tolerance=1e-2) for case in cases]
                row = " | ".join(str(c) if c < MOST else f"> {MOST}" for c in counts)
                blank = " | " * (len(sizes) - len(cases))
                print(f"| {name}, network, λ = {damping:g} | 4 | {label} | {row}{blank} |", flush=True)
    print(f"\n{machine.cpu_model()}, torch {torch.__version__}, {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
