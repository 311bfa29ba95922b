"""Dense change of basis between B-splines and power-ReLUs, entry by entry from its formula."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def change_of_basis(n: int, degree: int) -> Tensor:
    """The matrix A with B = A ψ on [−1, 1], dense, `[n + k, n + k]` float64.

    A[i, j] = (−1)^(j−i) C(k + 1, j − i) / (k! h^k) (Southworth et al. 2026, Lemma 3).
    """
    width = n + degree
    matrix = torch.zeros(width, width, dtype=torch.float64)
    for s in range(min(degree + 2, width)):
        matrix.diagonal(s).fill_((-1) ** s * math.comb(degree + 1, s) / (math.factorial(degree) * (2 / n) ** degree))
    return matrix
