"""Chebyshev polynomials with their derivatives, and transfer between polynomials of two degrees: pure functions."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from kanpinn.splines.nesting import Nesting


def chebyshev_basis(x: Tensor, degree: int, order: int) -> Tensor:
    """T_0 … T_K and their derivatives 0 … order at x `[...]`, `[..., order + 1, K + 1]`.

    By the recursion T_{i+1} = 2x T_i − T_{i−1}, differentiated: T_{i+1}⁽ᵈ⁾ = 2x T_i⁽ᵈ⁾ + 2d T_i⁽ᵈ⁻¹⁾ − T_{i−1}⁽ᵈ⁾. On
    [−1, 1] its errors stay small beside the largest value of each derivative.
    """
    table = x.new_zeros(degree + 1, order + 1, *x.shape)
    table[0, 0] = 1.0
    table[1, 0] = x
    table[1, 1:2] = 1.0
    orders = 2.0 * torch.arange(1, order + 1, dtype=x.dtype, device=x.device).reshape(-1, *[1] * x.dim())
    for i in range(1, degree):
        torch.mul(table[i], 2 * x, out=table[i + 1])
        table[i + 1] -= table[i - 1]
        table[i + 1, 1:].addcmul_(table[i, :-1], orders)
    return table.movedim((1, 0), (-2, -1)).contiguous()


class ChebyshevNesting(Nesting):
    """Chebyshev coefficients of polynomials of a degree, and of a higher one.

    Prolongation pads with zeros and is exact without rounding. Nearest is meant in L2 with the weight 1/√(1 − x²), in
    which the T_i are orthogonal: the projection cuts the series off.
    """

    def __init__(self, coarse_degree: int, fine_degree: int) -> None:
        """Degrees of both spaces; raises ValueError unless 0 ≤ coarse ≤ fine."""
        if not 0 <= coarse_degree <= fine_degree:
            raise ValueError(f"polynomials of degree {fine_degree} do not contain those of degree {coarse_degree}")
        self.coarse, self.fine = coarse_degree + 1, fine_degree + 1

    def prolong(self, c: Tensor) -> Tensor:
        return torch.nn.functional.pad(c, (0, self.fine - self.coarse))

    def prolong_transpose(self, g: Tensor) -> Tensor:
        return g[..., : self.coarse].clone()

    def restrict(self, c: Tensor) -> Tensor:
        return c.detach()[..., : self.coarse].clone()

    def restrict_transpose(self, g: Tensor) -> Tensor:
        return self.prolong(g.detach())


chebyshev_nesting = lru_cache(maxsize=256)(ChebyshevNesting)
"""`ChebyshevNesting(coarse_degree, fine_degree)`, kept."""
