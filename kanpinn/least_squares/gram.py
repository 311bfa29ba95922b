"""Gram matrix JᵀJ of a stored Jacobian."""

from __future__ import annotations

import torch
from torch import Tensor

GRAM_BLOCK = 192
"""Columns per block of `gram`: little more than half the work, and still wide enough for a fast product."""


def gram(matrix: Tensor) -> Tensor:
    """JᵀJ of `[M, P]`, block row by block row of the upper triangle, then mirrored.

    A symmetric rank-k product of another BLAS would be as good alone, but its threads and torch's then wait for each
    other's: with two of each, a step of a small network took more than twice as long.
    """
    size = matrix.shape[1]
    product = matrix.new_empty(size, size)
    for start in range(0, size, GRAM_BLOCK):
        end = min(start + GRAM_BLOCK, size)
        torch.mm(matrix[:, start:end].T, matrix[:, start:], out=product[start:end, start:])
    mirror(product)
    return product


def mirror(total: Tensor) -> None:
    """Copy the upper triangle of `[P, P]` to the lower one."""
    size = len(total)
    for start in range(0, size, GRAM_BLOCK):
        end = min(start + GRAM_BLOCK, size)
        total[end:, start:end] = total[start:end, end:].T
        square = total[start:end, start:end]
        square.copy_(torch.triu(square) + torch.triu(square, 1).T)
