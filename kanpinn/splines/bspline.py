"""B-splines on uniform and other knots: bases with their derivatives, as pure functions.

n intervals of width h = (b − a)/n on [a, b] carry n + k basis functions of degree k. The knots t_i = a + (i − k) h,
i = 0 … n + 2k, are strictly increasing and extend k knots past each end (Southworth et al. 2026, sec. 2). Bases are
evaluated piece by piece: on interval m only B_m … B_{m+k} differ from zero, and each is a polynomial in the local
coordinate s ∈ [−1/2, 1/2]. This needs no recursion and, unlike truncated powers, does not cancel as n grows. On knots
that are not uniform every interval has pieces of its own, computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError, unknown_choice

OUTSIDE = ("extrapolate", "clamp", "error")
"""Policies for inputs outside [a, b]: continue the last polynomial piece; hold the end value; refuse."""

KNOTS = ("uniform", "cosine")
"""Spacings of breakpoints: equally; as −cos(πj/n), closer towards both ends for boundary layers."""

MAX_DEGREE = 7

Spacing = str | tuple[float, ...]
"""One of `KNOTS`, or the ends of unequal intervals from −1 to 1, which finer levels halve."""

Knots = tuple[float, ...]
"""Strictly increasing knots t_0 … t_{n+2k}, k of them beyond each end of [a, b] = [t_k, t_{n+k}]; hashable."""


@cache
def piece_polynomials(degree: int) -> tuple[tuple[Fraction, ...], ...]:
    """The polynomial pieces of the cardinal B-spline of degree k, exactly: k + 1 rows of k + 1 coefficients.

    Row j holds the coefficients in powers of s = u − 1/2 (u ∈ [0, 1] inside the interval), constant term first, of the
    j-th of the k + 1 basis functions that live on an interval, from the left one (about to end) to the right one (just
    begun). Built by the Cox–de Boor recursion for unit knot spacing (de Boor, A Practical Guide to Splines, ch. IX,
    eq. 14) in rational arithmetic.
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


def _refuse_outside(x: Tensor, lower: float, upper: float) -> None:
    """Raise UserError for the input farthest from the middle of [a, b] if it lies outside."""
    if bool(((x < lower) | (x > upper)).any()):
        worst = x.flatten()[(x - (lower + upper) / 2).abs().argmax()].item()
        raise UserError(f"spline input {worst:.6g} lies outside the knots [{lower:g}, {upper:g}]; outside=error")


def locate(x: Tensor, n: int, *, outside: str = "extrapolate") -> tuple[Tensor, Tensor, Tensor | float]:
    """Find the interval of each input `[...]` among n equal ones of [−1, 1], and its place there.

    Gives the interval, int64 `[...]`; its place there, s = (x − middle)/width, `[...]`; and ds/dx, by which
    derivatives by s become those by x: 0 where an input beyond the ends is held there, and a number otherwise. At an
    interior knot the interval to the right is taken. Raises UserError if `outside="error"` and an input lies outside
    [−1, 1].
    """
    inverse_h = n / 2.0
    if outside == "error":
        _refuse_outside(x, -1.0, 1.0)
    position = (x + 1.0) * inverse_h
    cell = position.floor().clamp_(0, n - 1)
    s = (position - cell).sub_(0.5)
    slope: Tensor | float = inverse_h
    if outside == "clamp":
        s = s.clamp(-0.5, 0.5)
        slope = ((position >= 0) & (position <= n)).to(x.dtype) * inverse_h
    # NaN in, NaN out: the place says so, but an index has to stay within the knots.
    return cell.nan_to_num_(0.0).long(), s, slope


@lru_cache(maxsize=256)
def knot_vector(spacing: Spacing, n: int, degree: int) -> Knots:
    """The n + 2k + 1 extended knots on [−1, 1] of a spacing; those of 2n intervals contain those of n.

    Beyond the ends the intervals are mirrored, as often as k knots need. Raises UserError if there is no such spacing.
    """
    if isinstance(spacing, str) and spacing not in KNOTS:
        raise unknown_choice("backbone.knots", spacing, KNOTS)
    if spacing == "uniform":
        return tuple((-1.0 + 2.0 / n * (np.arange(n + 2 * degree + 1) - degree)).tolist())
    if isinstance(spacing, tuple):
        breakpoints = halved(spacing, n)
    else:  # −cos(πj/n), written so that it is odd and nested to the last bit
        breakpoints = np.sin(np.pi * (2 * np.arange(n + 1) - n) / (2 * n))
    widths = np.pad(np.diff(breakpoints), degree, mode="symmetric")
    below = breakpoints[0] - np.cumsum(widths[:degree][::-1])[::-1]
    above = breakpoints[-1] + np.cumsum(widths[n + degree :])
    return tuple(np.concatenate([below, breakpoints, above]).tolist())


def halved(breaks: Sequence[float], n: int) -> np.ndarray:
    """Return the ends `[n + 1]` of intervals, all halved until there are n; raises ValueError if there never are."""
    found = np.asarray(breaks)
    while len(found) - 1 < n:
        found = np.sort(np.append(found, (found[1:] + found[:-1]) / 2))
    if len(found) != n + 1:
        raise ValueError(f"{n} is not {len(breaks) - 1} times a power of 2")
    return found


@lru_cache(maxsize=256)
def interval_polynomials(knots: Knots, degree: int) -> np.ndarray:
    """The polynomial pieces of the B-splines on any n + 2k + 1 strictly increasing knots, `[n, k + 1, k + 1]` float64.

    On interval m, entry j, the coefficients of B_{m+j} in powers of s = (x − c)/h, where c is the interval's middle
    and h its width, by the Cox–de Boor recursion (de Boor 2001, ch. IX, eq. 14).
    """
    t = np.asarray(knots)
    n = len(t) - 2 * degree - 1
    interval = np.arange(n) + degree
    middle, width = (t[interval] + t[interval + 1]) / 2, t[interval + 1] - t[interval]
    lower = np.zeros((n, 1, degree + 1))
    lower[:, 0, 0] = 1.0
    for p in range(1, degree + 1):
        pieces = np.zeros((n, p + 1, degree + 1))
        for j in range(p + 1):
            i = interval - p + j  # the function of degree p that begins at t_i
            if j >= 1:
                support = t[i + p] - t[i]
                pieces[:, j] += ((middle - t[i]) / support)[:, None] * lower[:, j - 1]
                pieces[:, j, 1:] += (width / support)[:, None] * lower[:, j - 1, :-1]
            if j < p:
                support = t[i + p + 1] - t[i + 1]
                pieces[:, j] += ((t[i + p + 1] - middle) / support)[:, None] * lower[:, j]
                pieces[:, j, 1:] -= (width / support)[:, None] * lower[:, j, :-1]
        lower = pieces
    return lower


@lru_cache(maxsize=256)
def _intervals(knots: Knots, degree: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Inner breakpoints, middles and 1/widths of the intervals."""
    breakpoints = np.asarray(knots[degree : len(knots) - degree])
    arrays = (breakpoints[1:-1], (breakpoints[1:] + breakpoints[:-1]) / 2, 1.0 / np.diff(breakpoints))
    inner, middle, inverse_h = (torch.from_numpy(a).to(device=device, dtype=dtype) for a in arrays)
    return inner, middle, inverse_h


def locate_on(x: Tensor, knots: Knots, degree: int, *, outside: str = "extrapolate") -> tuple[Tensor, Tensor, Tensor]:
    """`locate` among the intervals of any n + 2k + 1 strictly increasing knots; ds/dx is `[...]`."""
    inner, middle, inverse_h = _intervals(knots, degree, x.dtype, x.device)
    lower, upper = knots[degree], knots[-degree - 1]
    if outside == "error":
        _refuse_outside(x, lower, upper)
    cell = torch.bucketize(x.contiguous(), inner, right=True)
    slope = inverse_h[cell]
    s = (x - middle[cell]) * slope
    if outside == "clamp":
        s, slope = s.clamp(-0.5, 0.5), slope * ~((x < lower) | (x > upper))
    return cell, s, slope
