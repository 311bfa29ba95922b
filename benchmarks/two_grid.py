"""The two-grid method on linear model problems, through the same classes that train networks.

A network of one spline layer on [-1, 1] is linear in its parameters, so that a Gauss-Newton step is a linear solve and
a V(1,1)-cycle with the Galerkin coarse problem, solved exactly, is the textbook two-grid method. The factor of a cycle
is measured as multigrid texts do: zero data, a random start, the last of many cycles, the error in the energy norm
(whose square is the loss here).
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.geometry import Box
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.multilevel.hierarchy import Hierarchy
from kanpinn.optimizers import LevenbergMarquardt, Optimizer, Relaxation
from kanpinn.pde import Condition, Point, Problem
from kanpinn.samplers import SAMPLERS

SIZES = (16, 32, 64, 128, 256)
SMOOTHERS = {
    "jacobi": Relaxation(smoother="jacobi"),
    "gauss_seidel": Relaxation(smoother="gauss_seidel"),
    "schwarz, blocks of 4": Relaxation(smoother="schwarz", block=4),
    "schwarz, blocks of 8": Relaxation(smoother="schwarz", block=8),
}


@dataclass(frozen=True)
class FirstOrder(Problem):
    """u' = 0, u(-1) = 0: least squares make JᵀJ the stiffness matrix ∫ B_i' B_j', the textbook's -u''."""

    domain = Box(x=(-1, 1))
    derivatives = ("x",)

    def residual(self, p: Point) -> Tensor:
        return p.u_x

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", "x-", lambda p: p.u)]


@dataclass(frozen=True)
class SecondOrder(Problem):
    """u'' = 0, u(±1) = 0: least squares make JᵀJ a fourth-order operator, the beam's."""

    domain = Box(x=(-1, 1))
    derivatives = ("xx",)

    def residual(self, p: Point) -> Tensor:
        return p.u_xx

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", ("x-", "x+"), lambda p: p.u)]


PROBLEMS = {"u' = f": FirstOrder(), "u'' = f": SecondOrder()}


def hierarchy(problem: Problem, degree: int, intervals: int, seed: int = 0) -> Hierarchy:
    """A one-layer network of two levels, `intervals` on the finer one, at random parameters there."""
    sampler = SAMPLERS["gauss_legendre"](order=degree + 1)

    def draw(objective: Objective, theta: Tensor) -> None:
        generator = np.random.default_rng(0)  # quadrature: nothing random is drawn
        cells = {"x": objective.backbone.grid or 1}
        objective.set_points(sampler.draw(problem, 0, generator, cells=cells, dtype=theta.dtype, device=theta.device))

    layer = SplineLayer(1, 1, SplineSpec(intervals // 2, degree))
    coarsest = Backbone(Embedding({"x": problem.domain.interval("x")}), (layer,), grid=intervals // 2)
    levels = Hierarchy(coarsest, lambda backbone: Objective(Residuals(problem, backbone), Fixed()), draw)
    levels.begin(1, lambda backbone: backbone.initial(np.random.default_rng(seed)))
    draw(*levels.problem.network(levels.theta))
    return levels


def relax(levels: Hierarchy, optimizer: Optimizer, steps: int) -> None:
    """Some steps of an optimiser on the level under work."""
    optimizer.start(levels.problem.size, steps)
    for _ in range(steps):
        levels.theta = optimizer.step(levels.problem, levels.theta).theta


def cycle(levels: Hierarchy, smoother: Relaxation, coarse: str = "galerkin") -> float:
    """One V(1,1)-cycle with an exact coarse solution; returns the factor by which the energy norm of the error fell."""
    # The loss is homogeneous, so the error may be scaled back to 1 before it reaches rounding.
    levels.theta = levels.theta / levels.theta.norm()
    before = levels.problem.loss(levels.theta)[0]
    relax(levels, smoother, 1)
    levels.descend(coarse)
    relax(levels, LevenbergMarquardt(damping=1e-14), 1)
    levels.ascend()
    relax(levels, replace(smoother, direction="backward"), 1)  # so that the cycle is symmetric in the energy product
    return math.sqrt(levels.problem.loss(levels.theta)[0] / before)


def factor(problem: Problem, degree: int, intervals: int, smoother: Relaxation, cycles: int = 30) -> float:
    """The asymptotic convergence factor: that of the last of many cycles."""
    levels = hierarchy(problem, degree, intervals)
    return [cycle(levels, smoother) for _ in range(cycles)][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degrees", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    began = time.perf_counter()
    print("Factor per V(1,1)-cycle, intervals on the finer level:\n")
    print("| problem | degree | smoother | " + " | ".join(f"n = {n}" for n in SIZES) + " | spread |")
    print("|---|--:|---|" + "--:|" * (len(SIZES) + 1))
    for name, problem in PROBLEMS.items():
        for degree in arguments.degrees:
            if degree < len(problem.derivatives[0]):
                continue  # the derivative would not be square integrable
            for label, smoother in SMOOTHERS.items():
                factors = [factor(problem, degree, n, smoother) for n in SIZES]
                spread = max(factors) / min(factors) - 1
                row = " | ".join(f"{f:.3f}" for f in factors)
                print(f"| {name} | {degree} | {label} | {row} | {spread:.0%} |", flush=True)
    print(f"\ntorch {torch.__version__}, {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
