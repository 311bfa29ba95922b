"""Splines nearest to given functions: mass matrices, Greville abscissae and least-squares fits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.splines.bspline import Knots, basis, interval_polynomials


@lru_cache(maxsize=256)
def mass_matrix(knots: Knots, degree: int) -> np.ndarray:
    """The B-splines' inner products ∫ B_i B_j over [t_k, t_{n+k}], exactly.

    Args:
        knots: n + 2k + 1 knots.
        degree: Spline degree k.

    Returns:
        `[k + 1, n + k]` float64, the diagonals of the symmetric matrix from the main one down: entry [d, j] is
        ∫ B_{j+d} B_j (LAPACK's lower band storage). By Gauss–Legendre with k + 1 nodes on each interval.
    """
    pieces = interval_polynomials(knots, degree)
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    values = pieces @ (nodes / 2) ** np.arange(degree + 1)[:, None]  # (n, k+1, node)
    widths = np.diff(np.asarray(knots[degree : len(knots) - degree]))
    local = (values * weights) @ values.transpose(0, 2, 1) * (widths / 2)[:, None, None]
    bands = np.zeros((degree + 1, len(pieces) + degree))
    for j in range(degree + 1):
        for d in range(degree + 1 - j):
            bands[d, j : j + len(pieces)] += local[:, j + d, j]
    return bands


def greville(knots: Knots, degree: int) -> np.ndarray:
    """Greville abscissae `[n + k]`, the means of k consecutive knots (coefficients of the identity); k at least 1."""
    return np.lib.stride_tricks.sliding_window_view(np.asarray(knots)[1:-1], degree).mean(1)


def fit(x: Tensor, values: Tensor, n: int, degree: int, *, lower: float = -1.0, upper: float = 1.0) -> Tensor:
    """Spline coefficients that fit given values best in the least-squares sense.

    Args:
        x: Points `[N]` of the values.
        values: Values to fit, `[N, ...]`.
        n: Number of intervals.
        degree: Spline degree k.
        lower: Left end a.
        upper: Right end b.

    Returns:
        Coefficients `[n + k, ...]`; the minimum-norm ones where the data leave some undetermined.

    Raises:
        UserError: If there are no data or a value is not finite.
    """
    if len(x) == 0 or not bool(torch.isfinite(values).all()):
        raise UserError("spline fit: expected at least one data point and finite values")
    matrix = basis(x, n, degree, lower=lower, upper=upper)
    right = values.reshape(len(x), -1)
    # gelsd (SVD): sparse data leave some basis functions without a point and the matrix rank-deficient.
    solution = torch.linalg.lstsq(matrix.cpu(), right.cpu(), driver="gelsd").solution
    return solution.to(values.device).reshape(n + degree, *values.shape[1:])
