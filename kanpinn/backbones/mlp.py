"""Multilayer perceptrons, the rival every result is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.layer import Layer
from kanpinn.backbones.layers import Activation, Linear
from kanpinn.backbones.parallel import NETWORKS
from kanpinn.options import Options, option

ACTIVATIONS = ("tanh", "silu", "sin")


@dataclass
class Mlp(Options):
    """Multilayer perceptron with tanh, SiLU or sin activations."""

    key: ClassVar[str] = "backbone"

    width: list[int] = option([20, 20, 20], "hidden widths, one per hidden layer", at_least=1)
    activation: str = option("tanh", "function after each hidden layer", one_of=ACTIVATIONS)
    networks: str = option(
        "shared", "one network for all unknowns (shared), or one for each (separate)", one_of=NETWORKS
    )
    embedding: EmbeddingOptions = option(factory=EmbeddingOptions)

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
