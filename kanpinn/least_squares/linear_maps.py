"""Matrices by their products, between vectors of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class LinearMap(Protocol):
    """A matrix P by its products, along the last axis of tensors."""

    def prolong(self, theta: Tensor) -> Tensor:
        """P v, `[..., P_coarse]` to `[..., P_fine]`."""
        ...

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """Pᵀ w, `[..., P_fine]` to `[..., P_coarse]`."""
        ...


@dataclass(frozen=True)
class Mask:
    """Diagonal matrix of ones and zeros, which holds some parameters fixed.

    Attributes:
        free: 1 where a parameter may change, else 0, `[P]`.
    """

    free: Tensor

    def prolong(self, theta: Tensor) -> Tensor:
        """The parameters with zeros for fixed ones, `[..., P]`."""
        return theta * self.free

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """The same of gradients, `[..., P]`."""
        return gradient * self.free


@dataclass(frozen=True)
class Chain:
    """Product of two matrices.

    Attributes:
        left: The one applied last.
        right: The one applied first.
    """

    left: LinearMap
    right: LinearMap

    def prolong(self, theta: Tensor) -> Tensor:
        """The product times a vector, along the last axis."""
        return self.left.prolong(self.right.prolong(theta))

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """Its transpose times a vector, along the last axis."""
        return self.right.prolong_transpose(self.left.prolong_transpose(gradient))
