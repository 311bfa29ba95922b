"""Function that a network has learned, on the box where it is asked for its properties."""

from __future__ import annotations

import numpy as np
import torch

from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.explain.structure import Array, Field
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde import Problem
from kanpinn.pde.problem import inside

LATTICE = 9
"""Points along each edge of a box that have to lie inside the domain."""

BOXES = 2000
"""Random boxes of which the largest inside the domain is taken."""


def learned(residuals: Residuals, theta: torch.Tensor, unknown: str, tolerance: float) -> Field:
    """Return an unknown as a function on a box inside the domain.

    Args:
        residuals: The problem and its network.
        theta: The network's parameters `[P]`.
        unknown: Name of the unknown.
        tolerance: Error of the function, relative to its rms.

    Raises:
        UserError: If no box inside the domain is found.
    """

    def value(points: Array) -> Array:
        return evaluate(residuals, theta, torch.from_numpy(np.ascontiguousarray(points)))[unknown]

    return Field(value, residuals.problem.domain.names, *inner_box(residuals.problem), tolerance)


def inner_box(problem: Problem) -> tuple[Array, Array]:
    """Return the lower and upper corner `[d]` of a box within the domain, the whole or the largest of some at random.

    Raises:
        UserError: If none is found.
    """
    lower, upper = (np.array(ends, dtype=float) for ends in (problem.domain.lower, problem.domain.upper))
    if _holds(problem, lower, upper):
        return lower, upper
    generator, largest, best = np.random.default_rng(2), 0.0, None
    for _ in range(BOXES):
        ends = np.sort(generator.uniform(lower, upper, (2, len(lower))), 0)
        volume = float(np.prod(ends[1] - ends[0]))
        if volume > largest and _holds(problem, ends[0], ends[1]):
            largest, best = volume, (ends[0], ends[1])
    if best is None:
        raise UserError("no box was found inside the domain")
    return best


def _holds(problem: Problem, lower: Array, upper: Array) -> bool:
    """Tell whether a box lies inside the domain, as far as its corners and points between them tell."""
    dimensions = len(lower)
    if dimensions < 5:
        line = np.linspace(0, 1, LATTICE)
        lattice = np.stack(np.meshgrid(*[line] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    else:
        lattice = np.random.default_rng(0).choice([0.0, 0.5, 1.0], (LATTICE**4, dimensions))
    found = inside(problem, torch.from_numpy(lower + lattice * (upper - lower)))
    return found is None or bool(found.all())
