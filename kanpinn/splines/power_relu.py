"""The power-ReLU basis of uniform splines: the exact change of basis as pure functions, and transfer between levels.

ψ_j(x) = ReLU(x − t_j)^k on the knots t_j = −1 + (j − k) h, h = 2/n, j = 0 … n + k − 1, span on [−1, 1] the same
functions as the B-splines: B = A ψ with A[i, j] = (−1)^(j−i) C(r, j−i) / (k! h^k), r = k + 1, i ≤ j ≤ i + r, a banded
upper-triangular Toeplitz matrix (Southworth et al. 2026, eqs. 4–7 and Lemma 3; ψ_j with t_j ≥ 1 vanish on [−1, 1]).
A spline layer W_spline is thus a layer W_relu = W_spline A of a multichannel perceptron with fixed biases. A is
1/(k! h^k) times the r-th power of the first difference: r differences apply it, r cumulative sums invert it, and
A^{-1}[i, j] = k! h^k C(j − i + k, k) is positive throughout.

The condition number of A in the maximum norm is 2^r C(n + 2k, r), of the order n^r. Random coefficients to ψ and back
in float64 come with these errors, relative to the largest of them (float32: 5e8 times as much):

    degree    1      2      3      4      5      6      7
    n = 32    8e-15  3e-13  5e-12  2e-10  9e-10  2e-8   3e-7
    n = 128   7e-14  5e-12  6e-10  3e-8   1e-6   1e-4   4e-3

They are the price of writing W_relu down at all: one rounding of W_relu changes the function that much, whatever
evaluates it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from kanpinn.splines.nesting import Nesting, dyadic_nesting


def _scale(n: int, degree: int) -> float:
    """The factor k! h^k."""
    return math.factorial(degree) * (2.0 / n) ** degree


def power_relu(x: Tensor, n: int, degree: int) -> Tensor:
    """All ψ_j = ReLU(x − t_j)^k at inputs `[...]`, unscaled, `[..., n + k]`.

    A ψ and W_relu ψ cancel: benchmarks/bases.py measures it.
    """
    t = -1.0 + (2.0 / n) * (torch.arange(n + degree, dtype=x.dtype, device=x.device) - degree)
    return (x[..., None] - t).relu() ** degree


def _difference(values: Tensor, times: int) -> Tensor:
    for _ in range(times):
        values = torch.diff(values, prepend=torch.zeros_like(values[..., :1]))
    return values


def _sum(values: Tensor, times: int) -> Tensor:
    # In float64 whatever the input: every sum rounds, and the next ones multiply that by up to n each.
    total = values.double()
    for _ in range(times):
        total = total.cumsum(-1)
    return total.to(values.dtype)


def relu_coefficients(coefficients: Tensor, n: int, degree: int) -> Tensor:
    """Coefficients W_relu = W_spline A of the same function on [−1, 1], `[..., n + k]`: r backward differences.

    Differentiable, as the three below are.
    """
    return _difference(coefficients, degree + 1) / _scale(n, degree)


def spline_coefficients(coefficients: Tensor, n: int, degree: int) -> Tensor:
    """Spline coefficients W_spline = W_relu A^{-1}, `[..., n + k]`: r sums; the inverse of `relu_coefficients`."""
    return _sum(coefficients, degree + 1) * _scale(n, degree)


def spline_gradient(gradient: Tensor, n: int, degree: int) -> Tensor:
    """Gradient by W_spline from that by W_relu `[..., n + k]`: g_spline = g_relu Aᵀ, r forward differences."""
    return relu_coefficients(gradient.flip(-1), n, degree).flip(-1)


def relu_gradient(gradient: Tensor, n: int, degree: int) -> Tensor:
    """Gradient by W_relu from that by W_spline `[..., n + k]`: g_relu = g_spline A^{-T}, r sums from the right."""
    return spline_coefficients(gradient.flip(-1), n, degree).flip(-1)


class PowerReluNesting(Nesting):
    """Every interval of uniform knots on [−1, 1] halved, in the power-ReLU basis.

    In matrices that act on columns, P_relu A_cᵀ = A_fᵀ P_spline with the change of basis A of the coarse and the fine
    level. Coarse knots that are fine ones, j ≥ k/2, keep their coefficient: ψ^c_j = ψ^f_{2j−k}. The knots of the first
    ⌈k/2⌉ functions lie left of all fine knots; on [−1, 1] those functions are the polynomials (x − t_j)^k, and in the
    fine ψ_0 … ψ_k, which are polynomials there too, they have as weights the Lagrange polynomials of 0 … k at 2j − k,
    whole numbers. The restrictions go through the spline basis and are as ill-conditioned as the change of basis.

    Attributes:
        n: Number of coarse intervals.
        degree: Power k.
        spline: The same levels in the B-spline basis.
    """

    def __init__(self, n: int, degree: int) -> None:
        self.n, self.degree = n, degree
        self.coarse, self.fine = n + degree, 2 * n + degree
        self.spline = dyadic_nesting(n, degree)
        self._first = (degree + 1) // 2
        self._weights = torch.tensor([lagrange(2 * j - degree, degree) for j in range(self._first)]).double()
        start = 2 * self._first - degree
        self._injected = slice(start, start + 2 * (self.coarse - self._first), 2)

    def prolong(self, c: Tensor) -> Tensor:
        out = c.new_zeros(*c.shape[:-1], self.fine)
        out[..., self._injected] = c[..., self._first :]
        out[..., : self.degree + 1] += c[..., : self._first] @ self._weights.to(c)
        return out

    def prolong_transpose(self, g: Tensor) -> Tensor:
        first = g[..., : self.degree + 1] @ self._weights.to(g).T
        return torch.cat([first, g[..., self._injected]], dim=-1)

    def restrict(self, c: Tensor) -> Tensor:
        fine = spline_coefficients(c.double(), 2 * self.n, self.degree)
        return relu_coefficients(self.spline.restrict(fine), self.n, self.degree).to(c)

    def restrict_transpose(self, g: Tensor) -> Tensor:
        coarse = spline_gradient(g.double(), self.n, self.degree)
        return relu_gradient(self.spline.restrict_transpose(coarse), 2 * self.n, self.degree).to(g)


def lagrange(t: int, degree: int) -> list[int]:
    """Weights w_0 … w_k with (x − t)^k = Σ_m w_m (x − m)^k for all x, k the degree.

    Comparing powers of x, Σ_m w_m m^p = t^p for p ≤ k: the Lagrange polynomials of the nodes 0 … k at t.
    """
    weights = []
    for m in range(degree + 1):
        product = Fraction(1)
        for other in range(degree + 1):
            if other != m:
                product *= Fraction(t - other, m - other)
        assert product.denominator == 1
        weights.append(int(product))
    return weights


power_relu_nesting = cache(PowerReluNesting)
"""`PowerReluNesting(n, degree)`, kept with its factorisations."""
