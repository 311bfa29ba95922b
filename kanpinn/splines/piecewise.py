"""Splines as polynomial pieces: coefficients by interval, all derivatives by Horner's scheme, inner products, fits.

Everywhere the last axis runs over points: elementwise work on small networks is then on long contiguous rows.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.splines import bspline


@lru_cache(maxsize=256)
def _basis_pieces(spacing: bspline.Spacing, n: int, degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The pieces of the basis in powers of s = (x − middle)/width: `[j, power]`; `[m, j, power]` on unequal knots."""
    if spacing == "uniform":
        pieces = np.array([[float(c) for c in row] for row in bspline.piece_polynomials(degree)])
    else:
        pieces = bspline.interval_polynomials(bspline.knot_vector(spacing, n, degree), degree)
    return torch.from_numpy(pieces).to(device=device, dtype=dtype)


def to_pieces(coefficients: Tensor, spacing: bspline.Spacing, n: int, degree: int) -> Tensor:
    """Coefficients of the polynomial on every interval from B-spline coefficients `[out, in, n + k]`.

    Gives `[k + 1, out, in·n]`, in powers of s = (x − middle)/width, constant term first.
    """
    pieces = _basis_pieces(spacing, n, degree, coefficients.dtype, coefficients.device)
    windows = coefficients.unfold(-1, degree + 1, 1)  # (out, in, n, k+1)
    if pieces.dim() == 2:
        table = (windows.reshape(-1, degree + 1) @ pieces).view(*windows.shape)
    else:
        table = torch.einsum("qpmj,mji->qpmi", windows, pieces)
    return table.permute(3, 0, 1, 2).flatten(2).contiguous()


def from_pieces(gradient: Tensor, spacing: bspline.Spacing, n: int, degree: int) -> Tensor:
    """Gradient by B-spline coefficients `[out, in, n + k]` from one by their table: the transpose of `to_pieces`."""
    pieces = _basis_pieces(spacing, n, degree, gradient.dtype, gradient.device)
    by_interval = gradient.view(*gradient.shape[:2], -1, n)
    windows = torch.einsum("iqpm,ji->jqpm" if pieces.dim() == 2 else "iqpm,mji->jqpm", by_interval, pieces)
    out = gradient.new_zeros(*windows.shape[1:3], n + degree)
    for j, window in enumerate(windows):
        out[..., j : j + n] += window
    return out


def gather(table: Tensor, rows: Tensor) -> Tensor:
    """Coefficients at work at each input, `[k + 1, out, in, N]`: interval m of input p for rows p·n + m, `[in, N]`."""
    flat = table.view(-1, table.shape[2])
    index = rows.reshape(1, -1).expand(flat.shape[0], -1)
    return torch.gather(flat, 1, index).view(*table.shape[:2], *rows.shape)


def taken(values: Tensor, points: Tensor) -> Tensor:
    """Of values `[..., N]` those at some points, int64 `[n]`: `[..., n]`."""
    flat = values.reshape(-1, values.shape[-1])
    return torch.gather(flat, 1, points.expand(flat.shape[0], -1)).view(*values.shape[:-1], -1)


def scatter_add(table: Tensor, rows: Tensor, values: Tensor) -> None:
    """Add values `[k + 1, out, in, N]` to the places `gather` takes them from."""
    flat = table.view(-1, table.shape[2])
    flat.scatter_add_(1, rows.reshape(1, -1).expand(flat.shape[0], -1), values.view(flat.shape[0], -1))


def derivatives(coefficients: Tensor, s: Tensor, order: int) -> Tensor:
    """A polynomial with its derivatives 0 … order by s, `[order + 1, ...]`, by repeated synthetic division (Horner).

    Its coefficients are `[k + 1, ...]`, constant term first; s has a shape that broadcasts to `[...]`.
    """
    powers = coefficients.unbind(0)
    degree, highest = len(powers) - 1, powers[-1]
    out = torch.empty(order + 1, *highest.shape, dtype=highest.dtype, device=highest.device)
    places = out.unbind(0)
    taylor = [highest]  # f⁽ᵈ⁾/d! of the leading coefficients so far
    for step in range(1, degree + 1):
        if step <= order:
            taylor.append(highest)
        for d in range(min(step - 1, order), 0, -1):
            taylor[d] = torch.addcmul(taylor[d - 1], taylor[d], s, out=places[d])
        taylor[0] = torch.addcmul(powers[degree - step], taylor[0], s, out=places[0])
    for d, place in enumerate(places):
        if d > degree:
            place.zero_()
        elif d == degree:
            torch.mul(highest, float(math.factorial(d)), out=place)
        elif d > 1:
            place.mul_(float(math.factorial(d)))
    return out


@lru_cache(maxsize=256)
def _power_matrix(degree: int, order: int, basis: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Derivatives 0 … order of all powers, or of all pieces of the uniform basis, `[(order + 1)·(k + 1), k + 1]`."""
    matrix = torch.from_numpy(np.zeros((order + 1, degree + 1, degree + 1)))
    for d in range(order + 1):
        for power in range(d, degree + 1):
            matrix[d, power, power - d] = math.perm(power, d)
    if basis:
        matrix = _basis_pieces("uniform", 1, degree, torch.float64, torch.device("cpu")) @ matrix
    return matrix.view(-1, degree + 1).to(device=device, dtype=dtype)


def _times_powers(matrix: Tensor, s: Tensor, degree: int) -> Tensor:
    """A matrix `[(order + 1)·(k + 1), k + 1]` times the powers of s `[...]`, as `[order + 1, k + 1, ...]`."""
    powers = s.new_empty(degree + 1, *s.shape)
    powers[0] = 1.0
    for power in range(1, degree + 1):
        torch.mul(powers[power - 1], s, out=powers[power])
    return (matrix @ powers.view(degree + 1, -1)).view(-1, degree + 1, *s.shape)


def power_derivatives(s: Tensor, degree: int, order: int) -> Tensor:
    """Derivatives 0 … order of s⁰ … sᵏ at `[...]`, `[order + 1, k + 1, ...]`."""
    return _times_powers(_power_matrix(degree, order, False, s.dtype, s.device), s, degree)


def basis_derivatives(cell: Tensor, s: Tensor, spacing: bspline.Spacing, n: int, degree: int, order: int) -> Tensor:
    """The basis functions at work, B_m … B_{m+k}, with derivatives 0 … order by s, `[order + 1, k + 1, ...]`.

    Takes the interval m of each input, int64 `[...]`, and its place there, s = (x − middle)/width, `[...]`.
    """
    if spacing == "uniform":
        return _times_powers(_power_matrix(degree, order, True, s.dtype, s.device), s, degree)
    pieces = _basis_pieces(spacing, n, degree, s.dtype, s.device)
    table = pieces.permute(2, 1, 0).reshape(-1, n)
    found = torch.gather(table, 1, cell.reshape(1, -1).expand(len(table), -1))
    return derivatives(found.view(degree + 1, degree + 1, *s.shape), s, order)


@lru_cache(maxsize=256)
def mass_matrix(knots: bspline.Knots, degree: int) -> np.ndarray:
    """The B-splines' inner products ∫ B_i B_j over [t_k, t_{n+k}], exactly, `[k + 1, n + k]` float64.

    The diagonals of the symmetric matrix from the main one down: entry [d, j] is ∫ B_{j+d} B_j (LAPACK's lower band
    storage). By Gauss–Legendre with k + 1 nodes on each interval.
    """
    pieces = bspline.interval_polynomials(knots, degree)
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    values = pieces @ (nodes / 2) ** np.arange(degree + 1)[:, None]  # (n, k+1, node)
    widths = np.diff(np.asarray(knots[degree : len(knots) - degree]))
    local = (values * weights) @ values.transpose(0, 2, 1) * (widths / 2)[:, None, None]
    bands = np.zeros((degree + 1, len(pieces) + degree))
    for j in range(degree + 1):
        for d in range(degree + 1 - j):
            bands[d, j : j + len(pieces)] += local[:, j + d, j]
    return bands


def greville(knots: bspline.Knots, degree: int) -> np.ndarray:
    """Greville abscissae `[n + k]`, the means of k consecutive knots (coefficients of the identity); k at least 1."""
    return np.lib.stride_tricks.sliding_window_view(np.asarray(knots)[1:-1], degree).mean(1)


def fit(x: Tensor, values: Tensor, n: int, degree: int) -> Tensor:
    """Spline coefficients `[n + k, ...]` that fit values `[N, ...]` at points `[N]` in [−1, 1] best, on uniform knots.

    In the least-squares sense; the minimum-norm ones where the data leave some undetermined. Raises UserError if there
    are no data or a value is not finite.
    """
    if len(x) == 0 or not bool(torch.isfinite(values).all()):
        raise UserError("spline fit: expected at least one data point and finite values")
    cell, s, _ = bspline.locate(x, n)
    pieces = _basis_pieces("uniform", n, degree, x.dtype, x.device)
    local = torch.vander(s, degree + 1, increasing=True) @ pieces.T.contiguous()
    matrix = x.new_zeros(len(x), n + degree).scatter_(
        1, cell[:, None] + torch.arange(degree + 1, device=x.device), local
    )
    # gelsd (SVD): sparse data leave some basis functions without a point and the matrix rank-deficient.
    solution = torch.linalg.lstsq(matrix.cpu(), values.reshape(len(x), -1).cpu(), driver="gelsd").solution
    return solution.to(values.device).reshape(n + degree, *values.shape[1:])
