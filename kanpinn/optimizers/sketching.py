"""Fewer rows for the Gauss–Newton matrix: a random part of the points, or all rows added up in a few with random signs.

The gradient and the loss stay those of all rows, so that every step descends and is judged by what is minimised: only
the curvature is a sketch (iterative Hessian sketch, Pilanci and Wainwright 2016, J. Mach. Learn. Res. 17, sec. 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from kanpinn.least_squares.linearization import Dense
from kanpinn.least_squares.objective import LeastSquares

SKETCHES = ("none", "points", "countsketch")


def sample_points(objective: LeastSquares, theta: Tensor, rows: int, generator: np.random.Generator) -> Dense | None:
    """Linearise on a random part of the points, with the gradient and loss of all of them.

    The Jacobian at the other points is never computed. The expectation of JᵀJ is the whole one's. None where the
    problem has no more points than `rows` or cannot be taken apart.
    """
    if len(objective.points) <= rows:
        return None
    part = objective.sampled(rows / len(objective.points), generator)
    if part is objective:
        return None
    found = part.linearize(theta).dense()
    loss, gradient, terms = objective.loss_and_gradient(theta)
    half = gradient / 2
    return Dense(found.jacobian, half, loss, terms, found.residual, half - found.gradient)


def count_sketch(parts: Iterable[Dense], rows: int, generator: np.random.Generator) -> Dense:
    """Add every row, with a random sign, to one of m random rows (Clarkson and Woodruff 2013, sec. 2).

    Gives S J, `[m, P]`, and S r, with E[SᵀS] = I; gradient and loss are those of all rows.
    """
    sketch: Tensor | None = None
    gradient, loss, terms = None, 0.0, {}
    for part in parts:
        count = len(part.residual)
        where = torch.from_numpy(generator.integers(0, rows, count)).to(part.residual.device)
        signs = torch.from_numpy(2.0 * generator.integers(0, 2, count) - 1.0).to(part.residual)
        if sketch is None:
            sketch = part.jacobian.new_zeros(rows, part.jacobian.shape[1] + 1)
        sketch[:, :-1].index_add_(0, where, part.jacobian * signs[:, None])
        sketch[:, -1].index_add_(0, where, part.residual * signs)
        gradient = part.gradient if gradient is None else gradient + part.gradient
        loss += part.loss
        for name, value in part.terms.items():
            terms[name] = terms.get(name, 0.0) + value
    assert sketch is not None and gradient is not None
    jacobian, residual = sketch[:, :-1], sketch[:, -1]
    return Dense(jacobian, gradient, loss, terms, residual, gradient - jacobian.T @ residual)
