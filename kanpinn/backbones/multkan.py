"""Kolmogorov–Arnold networks with multiplication nodes."""

from __future__ import annotations

from dataclasses import dataclass

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.kan import SplineOptions
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.errors import invalid
from kanpinn.options import option


@dataclass
class MultKan(SplineOptions):
    """A `kan` whose hidden layers also multiply (Liu et al. 2024, KAN 2.0, arXiv:2408.10205, sec. 2).

    A hidden layer of `width` additions and `mult` multiplications has width + 2 mult spline sums, the last 2 mult of
    which are multiplied in pairs; what follows sees width + mult values, squashed after the product.
    """

    mult: int | list[int] = option(
        2, "multiplication nodes in every hidden layer, or a list with one number per hidden layer", at_least=0
    )

    def check(self) -> None:
        """Refuse a network without hidden layers, and numbers that are not one per hidden layer; raises UserError."""
        super().check()
        if not self.width:
            raise invalid("backbone.width", self.width, "at least one hidden width (multiplications are hidden nodes)")
        if isinstance(self.mult, list) and len(self.mult) != len(self.width):
            raise invalid(
                "backbone.mult", self.mult, f"one number, or one for each of the {len(self.width)} hidden layers"
            )

    @property
    def _products(self) -> list[int]:
        """Multiplication nodes of each hidden layer."""
        return self.mult if isinstance(self.mult, list) else [self.mult] * len(self.width)

    def layer(self, inputs: int, outputs: int) -> SplineLayer:
        """One layer of B-splines on the coarsest level."""
        return self.splines(inputs, outputs)

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level; see `SplineOptions.build`."""
        return self.stack(embedding, outputs, self._products)
