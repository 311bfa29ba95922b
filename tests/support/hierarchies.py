"""Hierarchies of levels for a nonlinear problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import BACKBONES
from kanpinn.geometry import Box
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.multilevel.hierarchy import Hierarchy
from kanpinn.pde import Condition, Point, Problem
from kanpinn.samplers import SAMPLERS


@dataclass(frozen=True)
class Nonlinear(Problem):
    """u_t + u u_x = sin 3x, u(x, 0) = x²: nothing but nonlinear."""

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("x", "t")

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u * p.u_x - torch.sin(3 * p.x)

    def conditions(self) -> list[Condition]:
        return [Condition("initial", "t-", lambda p: p.u - p.x**2)]


def hierarchy(level: int = 1, seed: int = 0, backbone: str = "kan") -> Hierarchy:
    problem = Nonlinear()
    options = BACKBONES[backbone](width=[3], degree=3, grid=3)
    embedding = options.embedding.build(problem.domain, (), np.random.default_rng(0))
    generator = np.random.default_rng(seed)
    sampler = SAMPLERS["sobol"](interior=60, boundary=20)

    def draw(objective: Objective, theta: Tensor) -> None:
        objective.set_points(sampler.draw(problem, 0, generator, dtype=theta.dtype, device=theta.device))

    levels = Hierarchy(options.build(embedding, 1), lambda b: Objective(Residuals(problem, b), Fixed()), draw)
    levels.begin(level, lambda b: b.initial(np.random.default_rng(seed)))
    draw(*levels.problem.network(levels.theta))
    return levels
