"""Cost of the linear solves of an estimate, before they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kanpinn.estimate.defect import Space
from kanpinn.estimate.polynomial_space import SAMPLES, PolynomialSpace
from kanpinn.pde.problem import Problem, output_names

LINE = 1e8
"""Most multiplications in one dimension, where they say little: hundreds of thousands of intervals."""

DENSE = 0.1
"""Time of a multiplication of full matrices, relative to banded ones."""

MOST = 2.5e8
"""Most entries of its rows and band."""


def affordable(spaces: Sequence[Space], problem: Problem, most: float, order: int = 3) -> bool:
    """Tell whether linear solves take no more multiplications, and their rows no more memory; `order` points a cell."""
    costs = [_cost(one, problem, order) for one in spaces]
    most = min(most, LINE) if len(problem.domain) == 1 else most
    return sum(work for work, _ in costs) <= most and max(entries for _, entries in costs) <= MOST


def _cost(space: Space, problem: Problem, order: int) -> tuple[float, float]:
    """Multiplications of one linear solve, and entries of its rows and band."""
    dimension, leaves, terms = len(problem.domain), len(output_names(problem)), len(problem.derivatives) + 1
    if isinstance(space, PolynomialSpace):
        size = leaves * math.comb(dimension + space.degree, dimension)
        entries = 2 * SAMPLES * float(size) ** 2
        return DENSE * entries * (size + 3 * terms), 2 * entries
    functions = sorted(n + 5 for n in space.intervals)
    local = 6**dimension * leaves
    size = math.prod(functions) * leaves
    width = min(size, 6 * math.prod(functions[:-1]) * leaves)
    nodes = math.prod(order * n for n in space.intervals)
    work = size * width**2 + leaves * nodes * local * (local + 3 * terms)
    return float(work), float(size * width + leaves * nodes * local)
