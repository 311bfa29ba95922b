"""Uniform B-splines: bases with derivatives, exact dyadic refinement and least-squares fits, as pure functions.

n intervals of width h = (b − a)/n on [a, b] carry n + k basis functions of degree k. The knots t_i = a + (i − k) h,
i = 0 … n + 2k, are strictly increasing and extend k knots past each end (Southworth et al. 2026, sec. 2). Bases are
evaluated piece by piece: on interval m only B_m … B_{m+k} differ from zero, and each is a polynomial in the local
coordinate s ∈ [−1/2, 1/2]. This needs no recursion and, unlike truncated powers, does not cancel as n grows.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache, lru_cache

import torch
from torch import Tensor

from kanpinn.errors import UserError, invalid, unknown_choice

OUTSIDE = ("extrapolate", "clamp", "error")
"""What may happen to inputs outside [a, b]: continue the last polynomial piece; hold the end value; refuse."""

MAX_DEGREE = 7


def knots(n: int, degree: int, lower: float = -1.0, upper: float = 1.0) -> Tensor:
    """The extended uniform knots, `[n + 2·degree + 1]` float64.

    Args:
        n: Number of intervals on [lower, upper].
        degree: Spline degree k.
        lower: Left end a.
        upper: Right end b.

    Returns:
        t_i = a + (i − k) h.
    """
    h = (upper - lower) / n
    return lower + h * (torch.arange(n + 2 * degree + 1, dtype=torch.float64) - degree)


@cache
def piece_polynomials(degree: int) -> tuple[tuple[Fraction, ...], ...]:
    """The polynomial pieces of the cardinal B-spline, exactly.

    Row j holds the coefficients in powers of s = u − 1/2 (u ∈ [0, 1] inside the interval) of the j-th of the k + 1
    basis functions that live on an interval, from the left one (about to end) to the right one (just begun). Built by
    the Cox–de Boor recursion for unit knot spacing (de Boor, A Practical Guide to Splines, ch. IX, eq. 14) in rational
    arithmetic.

    Args:
        degree: Spline degree k, 0 … 7.

    Returns:
        k + 1 rows of k + 1 coefficients, constant term first.
    """
    if degree == 0:
        return ((Fraction(1),),)
    lower = piece_polynomials(degree - 1)
    k = Fraction(degree)
    half = Fraction(1, 2)
    rows = []
    for j in range(degree + 1):
        row = [Fraction(0)] * (degree + 1)
        # The j-th function on the interval begins at u = j − k: rising factor (u + k − j)/k times the lower-degree
        # function that begins there too, falling factor (1 + j − u)/k times the one that begins one knot later.
        if j >= 1:
            for m, c in enumerate(lower[j - 1]):
                row[m] += c * (half + k - j) / k
                row[m + 1] += c / k
        if j <= degree - 1:
            for m, c in enumerate(lower[j]):
                row[m] += c * (1 + j - half) / k
                row[m + 1] -= c / k
        rows.append(tuple(row))
    return tuple(rows)


@lru_cache(maxsize=256)
def _piece_matrix(degree: int, order: int, inverse_h: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Derivatives 0 … order of all pieces as one matrix `[k + 1, (order + 1)·(k + 1)]` acting on powers of s."""
    pieces = piece_polynomials(degree)
    blocks = torch.zeros(degree + 1, order + 1, degree + 1, dtype=torch.float64)
    for d in range(order + 1):
        for j, row in enumerate(pieces):
            for m in range(d, degree + 1):
                blocks[m - d, d, j] = float(row[m] * math.perm(m, d)) * inverse_h**d
    return blocks.reshape(degree + 1, -1).to(device=device, dtype=dtype)


def local_basis(
    x: Tensor,
    n: int,
    degree: int,
    order: int = 0,
    *,
    lower: float = -1.0,
    upper: float = 1.0,
    outside: str = "extrapolate",
) -> tuple[Tensor, Tensor]:
    """The k + 1 basis functions that do not vanish at each input, with derivatives.

    Args:
        x: Inputs `[...]`.
        n: Number of intervals.
        degree: Spline degree k.
        order: Highest derivative wanted.
        lower: Left end a.
        upper: Right end b.
        outside: One of `OUTSIDE`: the policy for inputs outside [a, b].

    Returns:
        The interval index m of each input, int64 `[...]`, and the derivatives 0 … order of B_m … B_{m+k} there,
        `[..., order + 1, k + 1]`. At an interior knot the piece to the right is taken.

    Raises:
        UserError: If `outside="error"` and an input lies outside [a, b].
    """
    inverse_h = n / (upper - lower)
    position = (x - lower) * inverse_h
    if outside == "error" and bool(((position < 0) | (position > n)).any()):
        worst = x.flatten()[(position - n / 2).abs().argmax()].item()
        raise UserError(f"spline input {worst:.6g} lies outside the knots [{lower:g}, {upper:g}]; outside=error")
    cell = position.floor().clamp_(0, n - 1)
    s = position - cell - 0.5
    if outside == "clamp":
        s = s.clamp(-0.5, 0.5)
    powers = s.new_empty(*s.shape, degree + 1)
    powers[..., 0] = 1.0
    for m in range(1, degree + 1):
        torch.mul(powers[..., m - 1], s, out=powers[..., m])
    matrix = _piece_matrix(degree, order, inverse_h, x.dtype, x.device)
    values = (powers.reshape(-1, degree + 1) @ matrix).reshape(*x.shape, order + 1, degree + 1)
    if outside == "clamp" and order:
        values[..., 1:, :] *= ((position >= 0) & (position <= n)).to(x.dtype)[..., None, None]
    # NaN in, NaN out: the values say so, but an index has to stay within the knots.
    return cell.nan_to_num_(0.0).long(), values


def basis(
    x: Tensor,
    n: int,
    degree: int,
    order: int = 0,
    *,
    lower: float = -1.0,
    upper: float = 1.0,
    outside: str = "extrapolate",
) -> Tensor:
    """All n + k basis functions at each input, as a dense array; one derivative.

    Args:
        x: Inputs `[...]`.
        n: Number of intervals.
        degree: Spline degree k.
        order: Which derivative.
        lower: Left end a.
        upper: Right end b.
        outside: One of `OUTSIDE`.

    Returns:
        `[..., n + k]`.
    """
    cell, values = local_basis(x, n, degree, order, lower=lower, upper=upper, outside=outside)
    dense = x.new_zeros(*x.shape, n + degree)
    columns = cell[..., None] + torch.arange(degree + 1, device=x.device)
    return dense.scatter_(-1, columns, values[..., order, :])


@lru_cache(maxsize=256)
def refinement_matrix(n: int, degree: int) -> Tensor:
    """The dyadic prolongation P `[2n + k, n + k]`, float64: coefficients on n intervals to the same spline on 2n.

    P[j, i] = 2^(−k) C(k+1, s) with j = 2i + s − k, s = 0 … k + 1, rows outside the fine range dropped. This is the
    two-scale relation of the cardinal B-spline (de Boor 2001, ch. XI; Southworth et al. 2026, eq. 21, whose printed
    factor 2^(−r), r = k + 1, halves the function). The shift by k counts both index ranges from their own first knot.

    Args:
        n: Number of coarse intervals.
        degree: Spline degree k.

    Returns:
        P with g_coarse(x; c) = g_fine(x; P c) for all x in [a, b], and outside under every policy of `OUTSIDE`.
    """
    matrix = torch.zeros(2 * n + degree, n + degree, dtype=torch.float64)
    for i in range(n + degree):
        for s in range(degree + 2):
            j = 2 * i + s - degree
            if 0 <= j < 2 * n + degree:
                matrix[j, i] = math.comb(degree + 1, s) / 2**degree
    return matrix


def greville(n: int, degree: int, lower: float = -1.0, upper: float = 1.0) -> Tensor:
    """The Greville abscissae `[n + k]` float64, the means of k consecutive knots (coefficients of the identity)."""
    h = (upper - lower) / n
    return lower + h * (torch.arange(n + degree, dtype=torch.float64) - (degree - 1) / 2)


def fit(x: Tensor, values: Tensor, n: int, degree: int, *, lower: float = -1.0, upper: float = 1.0) -> Tensor:
    """Spline coefficients that fit given values best in the least-squares sense.

    Args:
        x: Where the values are given, `[N]`.
        values: What to fit, `[N, ...]`.
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


def check_options(key: str, n: int, degree: int, outside: str) -> None:
    """Refuse spline options that make no sense.

    Args:
        key: Prefix of the config keys, such as "backbone".
        n: Number of intervals.
        degree: Spline degree.
        outside: Policy for inputs outside the knots.

    Raises:
        UserError: Naming the key, the value and what is valid.
    """
    if n < 1:
        raise invalid(f"{key}.grid", n, "an integer of at least 1")
    if not 1 <= degree <= MAX_DEGREE:
        raise invalid(f"{key}.degree", degree, f"an integer from 1 to {MAX_DEGREE}")
    if outside not in OUTSIDE:
        raise unknown_choice(f"{key}.outside", outside, OUTSIDE)
