"""Sensitivity of a function to its inputs, whatever network computes it: total Sobol indices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kanpinn.explain.structure import Array
from kanpinn.pde import Problem
from kanpinn.pde.problem import inside


def total_indices(value: Callable[[Array], Array], problem: Problem, points: Array) -> dict[str, float]:
    """Return the share of a function's variance that is left if all coordinates but one are known, by coordinate.

    Jansen's estimator (1999, Comput. Phys. Commun. 117, 35; Saltelli et al. 2010, ibid. 181, 259, table 2 f):
    S_i = ½ mean (f(x) − f(x with x_i of another point))² / Var f. The shares of coordinates that act together count
    for each of them, so that they may add up to more than 1. Points moved out of the domain are left out. NaN for a
    constant.

    Args:
        value: The function, values `[N]` of points `[N, d]`.
        problem: The problem with its domain.
        points: Points of the domain `[N, d]`, or rows of a table.
    """
    values = value(points)
    order = np.random.default_rng(5).permutation(len(points))
    variance, found = float(values.var()), {}
    for k, name in enumerate(problem.domain.names):
        moved = points.copy()
        moved[:, k] = points[order, k]
        part = inside(problem, torch.from_numpy(moved))
        kept = np.ones(len(points), bool) if part is None else part.cpu().numpy()
        change = value(moved[kept]) - values[kept]
        found[name] = float(np.mean(change**2)) / (2 * variance) if variance and kept.any() else float("nan")
    return found
