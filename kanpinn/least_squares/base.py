"""What optimisers see: a least-squares problem over a flat parameter vector, whatever it stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.least_squares.jacobian import DenseProducts, Products

if TYPE_CHECKING:
    from kanpinn.least_squares.residuals import Objective


@dataclass(frozen=True)
class Linearization:
    """An objective near some parameters theta: loss + 2 gᵀδ + ‖J δ‖² to second order in J.

    Attributes:
        jacobian: J = ∂r/∂theta of the weighted residual vector, `[M, P]`.
        gradient: g `[P]`, half the gradient of the loss: Jᵀr + `linear`.
        loss: The loss at theta.
        terms: Each term's part of ‖r‖².
        residual: r `[M]`.
        linear: Half the gradient of what the loss has beside ‖r‖², `[P]`; None where it has nothing.
    """

    jacobian: Tensor
    gradient: Tensor
    loss: float
    terms: dict[str, float]
    residual: Tensor
    linear: Tensor | None = None


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

    def linearizations(self, theta: Tensor, rows: int | None) -> Iterator[Linearization]:  # noqa: ARG002
        """`linearize` in parts: their JᵀJ, gradients, losses and terms add up to the whole ones.

        Args:
            theta: Parameters `[P]`.
            rows: About how many rows of J a part may have, where the problem can be taken apart; None for one part.

        Yields:
            The parts.
        """
        yield self.linearize(theta)

    def loss_by_parts(self, theta: Tensor, rows: int | None) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """`loss`, from the parts that `linearizations` has; equal to it up to rounding."""
        return self.loss(theta)

    def residual_vector(self, theta: Tensor) -> Tensor:
        """The weighted residual vector r `[M]` at theta `[P]`."""
        return self.linearize(theta).residual

    def last_layer(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The columns of J that belong to the network's last layer, `[M, L]`, and r `[M]`, at theta `[P]`."""
        found = self.linearize(theta)
        return found.jacobian[:, self.backbone.last_layer], found.residual

    def sampled(self, share: float, generator: np.random.Generator) -> LeastSquares:  # noqa: ARG002
        """A problem on a random part of the points, whose loss and JᵀJ have this one's as their expectation.

        Args:
            share: Of the points, above 0 and below 1.
            generator: Draws them.

        Returns:
            The problem; itself where its points cannot be taken apart.
        """
        return self

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

    def normal_equations_by_parts(
        self, theta: Tensor, rows: int | None
    ) -> Iterator[tuple[Tensor, Tensor, float, dict[str, float]]]:
        """`normal_equations` of some rows at a time, to be added up.

        Args:
            theta: `[P]`.
            rows: As of `linearizations`.

        Yields:
            At least one part.
        """
        if rows is None:
            yield self.normal_equations(theta)
        else:
            for part in self.linearizations(theta, rows):
                yield gram(part.jacobian), part.gradient, part.loss, part.terms


GRAM_BLOCK = 192
"""Columns per block of `gram`: little more than half the work, and still wide enough for a fast product."""


def gram(matrix: Tensor, total: Tensor | None = None) -> Tensor:
    """JᵀJ of `[M, P]`, block row by block row of the upper triangle, then mirrored; added to `total` `[P, P]` if given.

    A symmetric rank-k product of another BLAS would be as good alone, but its threads and torch's then wait for each
    other's: with two of each, a step of a small network took more than twice as long.
    """
    size = matrix.shape[1]
    product = matrix.new_empty(size, size) if total is None else total
    blocks = [(start, min(start + GRAM_BLOCK, size)) for start in range(0, size, GRAM_BLOCK)]
    for start, end in blocks:
        upper = product[start:end, start:]
        if total is None:
            torch.mm(matrix[:, start:end].T, matrix[:, start:], out=upper)
        else:
            upper.addmm_(matrix[:, start:end].T, matrix[:, start:])
        product[end:, start:end] = product[start:end, end:].T
        square = product[start:end, start:end]
        square.copy_(torch.triu(square) + torch.triu(square, 1).T)
    return product
