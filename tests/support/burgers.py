"""Burgers' equation on a small network, and an optimiser's steps on it, in this process or in others."""

from __future__ import annotations

import numpy as np
import torch

from kanpinn.backbones import Kan
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.optimizers import Optimizer
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.discovery import load_problem_class


def burgers(count: int = 60) -> tuple[Objective, torch.Tensor]:
    """Burgers' equation with a small network, its points and random parameters."""
    problem = load_problem_class("burgers")()
    embedding = EmbeddingOptions().build(problem.domain, (), np.random.default_rng(0))
    backbone = Kan(width=[3], degree=3, grid=4).build(embedding, 1)
    objective = Objective(Residuals(problem, backbone), Fixed({"interior": 0.7}))
    objective.set_points(SAMPLERS["uniform"](interior=count, boundary=9).draw(problem, 0, np.random.default_rng(1)))
    return objective, backbone.initial(np.random.default_rng(2))


def taken(optimizer: Optimizer, problem, theta: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Parameters after some steps."""
    optimizer.start(len(theta), steps)
    for _ in range(steps):
        theta = optimizer.step(problem, theta).theta
    return theta
