"""Multilayer perceptrons, the rival every result is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.kan import check_width
from kanpinn.backbones.layer import Layer
from kanpinn.backbones.layers import Activation, Linear
from kanpinn.errors import unknown_choice

ACTIVATIONS = ("tanh", "silu", "sin")


@dataclass
class Mlp:
    """Multilayer perceptron with tanh, SiLU or sin activations.

    Attributes:
        width: Hidden widths, one per hidden layer.
        activation: tanh, silu or sin.
        embedding: How coordinates enter.
    """

    width: list[int] = field(default_factory=lambda: [20, 20, 20])
    activation: str = "tanh"
    embedding: EmbeddingOptions = field(default_factory=EmbeddingOptions)

    def __post_init__(self) -> None:
        check_width(self.width)
        if self.activation not in ACTIVATIONS:
            raise unknown_choice("backbone.activation", self.activation, ACTIVATIONS)

    def check_order(self, order: int) -> None:
        """Nothing to refuse: the activations are smooth."""

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network, without parameters; see `Kan.build`."""
        embedding.refuse_splines()
        widths = [embedding.width, *self.width, outputs]
        layers: list[Layer] = []
        for k, (inputs, out) in enumerate(pairwise(widths)):
            if k:
                layers.append(Activation(self.activation))
            layers.append(Linear(inputs, out))
        return Backbone(embedding, tuple(layers))
