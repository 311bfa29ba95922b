"""Solving on refined grids: the error falls at the order of the splines, down to the optimiser's floor.

A single-layer KAN represents sums of univariate splines and its equations are linear, so Levenberg-Marquardt solves
each level to the least-squares optimum and what remains is the approximation error, of order degree + 1. Measured here:
4.1, 5.2, 6.2 and 7.3 for degrees 3 to 6 between 16 and 32 intervals, 4.0, 5.0, 6.1 and 7.1 between 32 and 64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from torch import Tensor, cos, sin

from kanpinn.backbones import Kan
from kanpinn.backbones.edits import refinement
from kanpinn.evaluate.grid_evaluation import OutputGrid, evaluate
from kanpinn.geometry import Box, Coordinates
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.multilevel.schedules import Nested
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.pde import Condition, Point, Problem
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.discovery import load_problem_class


@dataclass(frozen=True)
class Line(Problem):
    """u″ = f on [-1, 1] with u = sin(4x + 1)."""

    domain = Box(x=(-1.0, 1.0))
    derivatives = ("xx",)

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + 16 * self.reference(p)

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", ("x-", "x+"), lambda p: p.u - self.reference(p))]

    def reference(self, p: Coordinates | Point) -> Tensor:
        return sin(4 * p.x + 1)


@dataclass(frozen=True)
class Square(Problem):
    """Poisson's equation on a square whose solution is a sum of a function of x and one of y."""

    domain = Box(x=(-1.0, 1.0), y=(0.0, 2.0))
    derivatives = ("xx", "yy")

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy + 16 * sin(4 * p.x + 1) + 9 * cos(3 * p.y)

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", ("x-", "x+", "y-", "y+"), lambda p: p.u - self.reference(p))]

    def reference(self, p: Coordinates | Point) -> Tensor:
        return sin(4 * p.x + 1) + cos(3 * p.y)


def errors_by_level(
    problem: Problem, options: Kan, levels: int, steps: int, *, exact: bool = False
) -> tuple[list[float], list[float]]:
    """Relative L2 errors and losses after each level, from the package's own parts and no config."""
    backbone = options.build(options.embedding.build(problem.domain, (), np.random.default_rng(0)), 1)
    theta = backbone.initial(np.random.default_rng(0))
    grid = OutputGrid(problem, 1001 if len(problem.domain) == 1 else 101)
    errors, losses = [], []
    for stage in Nested(levels=levels, steps=steps).plan():
        while backbone.level < stage.level:
            theta, backbone = refinement(backbone)(theta), backbone.refined()
        objective = Objective(Residuals(problem, backbone, exact=exact), Fixed({"boundary": 100.0}))
        n, order = backbone.grid or 1, options.degree
        sampler = SAMPLERS["gauss_legendre"](
            interior=(order * n) ** len(problem.domain), boundary=4 * order * n, order=order
        )
        cells = dict.fromkeys(problem.domain.names, n)
        objective.set_points(sampler.draw(problem, 0, np.random.default_rng(0), cells=cells))
        optimizer = LevenbergMarquardt()
        optimizer.start(backbone.size, stage.steps)
        for _ in range(stage.steps):
            step = optimizer.step(objective, theta)
            theta = step.theta
            if step.stop:
                break
        values = {name: v.reshape(grid.shape) for name, v in evaluate(objective.residuals, theta, grid.points).items()}
        l2, _ = grid.errors(values)
        assert l2 is not None
        errors.append(l2["u"])
        losses.append(step.loss)
    return errors, losses


def slopes(errors: list[float]) -> np.ndarray:
    return -np.diff(np.log2(errors))


@pytest.mark.parametrize("degree", [3, 4, 5, 6])
def test_solving_on_refined_grids_converges_at_order_degree_plus_one(degree: int) -> None:
    errors, losses = errors_by_level(Line(), Kan(width=[], degree=degree, grid=16), levels=3, steps=40)
    measured = slopes(errors)
    assert np.all(np.diff(losses) < 0)
    assert abs(measured[-1] - (degree + 1)) < 0.2, (errors, measured)


def test_in_two_dimensions_too() -> None:
    errors, _ = errors_by_level(Square(), Kan(width=[], degree=4, grid=6), levels=3, steps=30)
    measured = slopes(errors)
    assert np.all(measured > 4.8), (errors, measured)
    assert abs(measured[-1] - 5) < 0.4, (errors, measured)


def test_the_error_stops_falling_at_the_optimisers_floor_and_does_not_rise() -> None:
    errors, _ = errors_by_level(Line(), Kan(width=[], degree=7, grid=16), levels=3, steps=20)
    # Normal equations in float64 lose half the digits: no error below 1e-14, and no blow-up either.
    assert errors[1] < 1e-9
    assert errors[2] < 1e-10


@pytest.mark.slow
def test_a_deep_kan_gains_at_every_level() -> None:
    poisson = load_problem_class("poisson")()
    errors, losses = errors_by_level(poisson, Kan(width=[4], degree=4, grid=2), levels=3, steps=25, exact=True)
    # Composition is nonlinear: the optimiser, not the spline, sets the pace; each level still gains a factor.
    assert np.all(slopes(errors) > 1.0), errors
    assert np.all(np.diff(losses) < 0)
