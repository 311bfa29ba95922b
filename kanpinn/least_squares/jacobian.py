"""An objective near some parameters by products with its Jacobian, which need never be stored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Tape

BLOCK_BYTES = 2**25
"""Memory of one block of rows of the Jacobian."""

SMALLEST_BLOCK = 32
"""Rows of a block, however long they are."""


def block_rows(size: int) -> int:
    """How many rows of `size` float64 numbers make a block."""
    return max(SMALLEST_BLOCK, BLOCK_BYTES // (8 * size))


class Products(ABC):
    """loss + 2 gᵀδ + ‖J δ‖² near parameters `[P]`, with J `[M, P]` by its products only.

    Attributes:
        gradient: g `[P]`, half the gradient of the loss.
        loss: The loss at the parameters.
        terms: Each term's part of ‖r‖².
    """

    gradient: Tensor
    loss: float
    terms: dict[str, float]

    @abstractmethod
    def jvp(self, tangent: Tensor) -> Tensor:
        """J v `[M]` for v `[P]`."""

    @abstractmethod
    def vjp(self, weights: Tensor) -> Tensor:
        """Jᵀw `[P]` for w `[M]`."""

    @abstractmethod
    def blocks(self) -> Iterator[Tensor]:
        """The rows of J in any order, some `[B, P]` at a time; for sums over rows, such as the diagonal of JᵀJ."""


class DenseProducts(Products):
    """Products with a stored Jacobian."""

    def __init__(self, jacobian: Tensor, gradient: Tensor, loss: float, terms: dict[str, float]) -> None:
        self.jacobian, self.gradient, self.loss, self.terms = jacobian, gradient, loss, terms

    def jvp(self, tangent: Tensor) -> Tensor:
        """J v `[M]` for v `[P]`."""
        return self.jacobian @ tangent

    def vjp(self, weights: Tensor) -> Tensor:
        """Jᵀw `[P]` for w `[M]`."""
        return self.jacobian.T @ weights

    def blocks(self) -> Iterator[Tensor]:
        """J in blocks of rows."""
        yield from self.jacobian.split(block_rows(self.jacobian.shape[1]))


@dataclass(frozen=True)
class Equations:
    """Equations whose points are disjoint, so that one backward pass served them all.

    Attributes:
        cotangents: Of every layer with parameters, `[C, N, out]`.
        places: For each equation its points, their partners (or None) and its rows in the residual vector.
    """

    cotangents: tuple[Tensor, ...]
    places: list[tuple[slice, slice | None, slice]]


class TapedProducts(Products):
    """Products with the Jacobian of a network's residuals.

    Points do not interact and every layer is linear in its effective weights, so that
    (J v)_n = Σ over layers of ⟨λ_l[n], (layer l with parameters v_l)(its input at n)⟩ with the cotangents λ of r_n at
    the layers' outputs, found once by a backward pass per equation; Jᵀw likewise.
    """

    def __init__(
        self,
        backbone: Backbone,
        theta: Tensor,
        tape: Tape,
        passes: Sequence[Equations],
        residual: Tensor,
        terms: dict[str, float],
        blocks: Callable[[], Iterator[Tensor]],
    ) -> None:
        """Keep what one forward pass and the backward passes have left.

        Args:
            backbone: The network.
            theta: Its parameters `[P]`.
            tape: Filled by `backbone.forward`.
            passes: Every equation of the residual vector.
            residual: r `[M]`.
            terms: Each term's part of ‖r‖².
            blocks: Gives the rows of J.
        """
        self._backbone, self._theta, self._tape, self._passes = backbone, theta, tape, passes
        self._rows, self._blocks = len(residual), blocks
        self.loss, self.terms = float(residual.square().sum()), terms
        self.gradient = self.vjp(residual)

    def jvp(self, tangent: Tensor) -> Tensor:
        """J v `[M]` for v `[P]`."""
        out = tangent.new_empty(self._rows)
        for equations in self._passes:
            by_point = self._backbone.jvp(self._theta, self._tape, equations.cotangents, tangent)
            for points, partner, rows in equations.places:
                out[rows] = by_point[points] if partner is None else by_point[points] + by_point[partner]
        return out

    def vjp(self, weights: Tensor) -> Tensor:
        """Jᵀw `[P]` for w `[M]`."""
        out = torch.zeros_like(self._theta)
        for equations in self._passes:
            by_point = weights.new_zeros(self._tape.outputs[0].shape[1])
            for points, partner, rows in equations.places:
                by_point[points] = weights[rows]
                if partner is not None:
                    by_point[partner] = weights[rows]
            out += self._backbone.vjp(self._theta, self._tape, equations.cotangents, by_point)
        return out

    def blocks(self) -> Iterator[Tensor]:
        """J term by term, in blocks of points, each from passes of its own."""
        return self._blocks()


class ShiftedProducts(Products):
    """J with rows √μ I below it where μ is not 0, and a gradient and loss of one's own."""

    def __init__(self, inner: Products, gradient: Tensor, mu: float, loss: float) -> None:
        self._inner, self._root = inner, math.sqrt(mu)
        self.gradient, self.loss, self.terms = gradient, loss, inner.terms

    def jvp(self, tangent: Tensor) -> Tensor:
        """(J v, √μ v) `[M + P]` for v `[P]`."""
        product = self._inner.jvp(tangent)
        return torch.cat([product, self._root * tangent]) if self._root else product

    def vjp(self, weights: Tensor) -> Tensor:
        """Jᵀw₁ + √μ w₂ `[P]` for w `[M + P]`."""
        if not self._root:
            return self._inner.vjp(weights)
        split = len(weights) - len(self.gradient)
        return self._inner.vjp(weights[:split]) + self._root * weights[split:]

    def blocks(self) -> Iterator[Tensor]:
        """The rows of J, then those of √μ I."""
        yield from self._inner.blocks()
        if self._root:
            yield torch.diag(torch.full_like(self.gradient, self._root))


class RestrictedProducts(Products):
    """J P on a coarse space, from products with J."""

    def __init__(
        self, inner: Products, prolong: Callable[[Tensor], Tensor], restrict: Callable[[Tensor], Tensor]
    ) -> None:
        """Compose.

        Args:
            inner: Products with J.
            prolong: P.
            restrict: Pᵀ, along the last axis.
        """
        self._inner, self._prolong, self._restrict = inner, prolong, restrict
        self.gradient, self.loss, self.terms = restrict(inner.gradient), inner.loss, inner.terms

    def jvp(self, tangent: Tensor) -> Tensor:
        """J P v `[M]`."""
        return self._inner.jvp(self._prolong(tangent))

    def vjp(self, weights: Tensor) -> Tensor:
        """PᵀJᵀw."""
        return self._restrict(self._inner.vjp(weights))

    def blocks(self) -> Iterator[Tensor]:
        """The rows of J P."""
        return (self._restrict(block) for block in self._inner.blocks())
