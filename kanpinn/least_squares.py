"""What optimisers see: a least-squares problem over a flat parameter vector, whatever it stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.products import DenseProducts, Products

if TYPE_CHECKING:
    from kanpinn.objective import Objective


@dataclass(frozen=True)
class Linearization:
    """An objective near some parameters theta: loss + 2 gᵀδ + ‖J δ‖² to second order in J.

    Attributes:
        jacobian: J = ∂r/∂theta of the weighted residual vector, `[M, P]`.
        gradient: g `[P]`, half the gradient of the loss; Jᵀr for a plain sum of squares.
        loss: The loss at theta.
        terms: Each term's part of ‖r‖².
    """

    jacobian: Tensor
    gradient: Tensor
    loss: float
    terms: dict[str, float]


class LeastSquares(ABC):
    """What optimisers minimise: ‖r(theta)‖², perhaps with a linear term, over a flat parameter vector.

    Attributes:
        backbone: The network whose parameters theta is shaped like.
        points: Collocation points of all terms, `[N, d]`.
        version: Counts changes that make the loss another function of theta.
        is_correction: Whether it is a coarse problem, posed to correct a finer level.
    """

    backbone: Backbone
    points: Tensor
    version: int
    is_correction: ClassVar[bool] = False

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return self.backbone.size

    @abstractmethod
    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        """The network that parameters `[P]` of this objective stand for: its own objective and parameters."""

    @abstractmethod
    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        """The loss at theta `[P]` and each term's part of ‖r‖²."""

    @abstractmethod
    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """The loss at theta `[P]`, its gradient `[P]` and each term's part of ‖r‖²."""

    @abstractmethod
    def linearize(self, theta: Tensor) -> Linearization:
        """The residual's Jacobian and half the gradient at theta `[P]`."""

    def products(self, theta: Tensor) -> Products:
        """The residual's Jacobian at theta `[P]` by its products; from the stored one where nothing better is known."""
        found = self.linearize(theta)
        return DenseProducts(found.jacobian, found.gradient, found.loss, found.terms)

    def normal_equations(self, theta: Tensor) -> tuple[Tensor, Tensor, float, dict[str, float]]:
        """The Gauss–Newton system JᵀJ δ = −g at theta.

        Args:
            theta: Parameters `[P]`.

        Returns:
            JᵀJ `[P, P]`, half the gradient g `[P]`, the loss and each term's part of ‖r‖².
        """
        found = self.linearize(theta)
        return gram(found.jacobian), found.gradient, found.loss, found.terms


GRAM_BLOCK = 192
"""Columns per block of `gram`: little more than half the work, and still wide enough for a fast product."""


def gram(matrix: Tensor) -> Tensor:
    """JᵀJ of `[M, P]`, block row by block row of the upper triangle, then mirrored.

    A symmetric rank-k product of another BLAS would be as good alone, but its threads and torch's then wait for each
    other's: with two of each, a step of a small network took more than twice as long.
    """
    size = matrix.shape[1]
    product = matrix.new_empty(size, size)
    blocks = [(start, min(start + GRAM_BLOCK, size)) for start in range(0, size, GRAM_BLOCK)]
    for start, end in blocks:
        torch.mm(matrix[:, start:end].T, matrix[:, start:], out=product[start:end, start:])
        product[end:, start:end] = product[start:end, end:].T
        square = product[start:end, start:end]
        square.copy_(torch.triu(square) + torch.triu(square, 1).T)
    return product
