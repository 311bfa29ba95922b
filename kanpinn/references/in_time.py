"""Functions of time as Legendre series on equal pieces, from steps or from an integrator of ordinary equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import UserError

Array = NDArray[np.float64]
MOST_CALLS = 200_000
"""Evaluations of the rate before an integration is given up."""


@dataclass(frozen=True)
class LegendrePieces:
    """Functions of time, each a polynomial on every piece.

    Attributes:
        start: First time.
        end: Last time.
        coefficients: Legendre coefficients `[pieces, degree+1, functions]`.
    """

    start: float
    end: float
    coefficients: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        """Evaluate the functions `[N, functions]` at t `[N]`, float64; differentiable."""
        coefficients = self.coefficients.to(t)
        pieces, count = coefficients.shape[:2]
        unit = (t - self.start) * (pieces / (self.end - self.start))
        piece = unit.detach().long().clamp(0, pieces - 1)
        z = 2 * (unit - piece) - 1
        in_t = [torch.ones_like(z), z]
        for k in range(1, count - 1):
            in_t.append(((2 * k + 1) * z * in_t[k] - k * in_t[k - 1]) / (k + 1))
        basis = torch.stack(in_t, dim=1)
        out = t.new_zeros(len(t), coefficients.shape[2])
        for k in torch.unique(piece):
            here = (piece == k).nonzero()[:, 0]
            out = out.index_put((here,), basis[here] @ coefficients[k])
        return out


def pieces_of_steps(values: Array, degree: int, tail: float) -> Array | None:
    """Fit polynomials to values at equal steps on the steps nearest to Chebyshev points of each piece.

    Args:
        values: Values `[steps+1, functions]`, steps a power of two.
        degree: Degree of the polynomials.
        tail: Largest sum of the last coefficients of a piece.

    Returns:
        Coefficients `[pieces, degree+1, functions]` on the fewest pieces that reach it, 4 and more; None where steps
        are too few.
    """
    pieces = 4
    while True:
        steps = (len(values) - 1) // pieces
        chosen = np.rint(steps * (1 - np.cos(np.pi * np.arange(degree + 1) / degree)) / 2).astype(int)
        if len(np.unique(chosen)) <= degree:
            return None
        to_legendre = np.linalg.inv(legendre.legvander(2 * chosen / steps - 1, degree))
        found = np.einsum("lk,skm->slm", to_legendre, values[np.arange(pieces)[:, None] * steps + chosen])
        if np.abs(found[:, -1]).sum(1).max() <= tail:
            return found
        pieces *= 2


def ordinary(rate: Callable[[float, Array], Any], start: Any, end: float) -> LegendrePieces:
    """Solve y' = rate(t, y), y(0) = start, by DOP853 at a tolerance of 1e-12, its solution fitted by polynomials in t.

    Their degree is 15, on pieces that are halved until their series end below 1e-11 of the largest value.

    Raises:
        UserError: If that takes too many evaluations of the rate, as for stiff equations, or too many pieces.
    """
    from scipy.integrate import solve_ivp  # slow to import

    calls = count()

    def counted(t: float, y: Array) -> Any:
        if next(calls) > MOST_CALLS:
            raise UserError(f"the reference of an ordinary equation takes more than {MOST_CALLS:,} evaluations")
        return rate(t, y)

    found = solve_ivp(counted, (0, end), start, method="DOP853", rtol=1e-12, atol=1e-12, dense_output=True)
    z = legendre.leggauss(16)[0]
    to_legendre = np.linalg.inv(legendre.legvander(z, 15))
    pieces = 8
    while found.success and pieces < 5000:
        times = end / pieces * (np.arange(pieces)[:, None] + (z + 1) / 2)
        values = found.sol(times.ravel()).reshape(-1, pieces, 16)
        coefficients = np.einsum("lk,msk->slm", to_legendre, values)
        if np.abs(coefficients[:, -1]).max() <= 1e-11 * np.abs(values).max():
            return LegendrePieces(0.0, end, torch.from_numpy(coefficients))
        pieces *= 2
    why = "it has parts that are too short" if found.success else found.message
    raise UserError(f"the reference of an ordinary equation is not found: {why}")
