"""Networks of every kind that several tests go through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone, ChebyKan, Kan, Mlp, MultKan, ReluKan, Separable
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.geometry import Box
from support.naive_network import Options

DOMAIN = Box(x=(-1.0, 1.0), t=(0.5, 2.0))


WIDE = Kan(width=[3, 2], degree=4, grid=3, scale=1.0)


MULTIPLYING = MultKan(width=[2, 1], mult=[1, 2], degree=4, grid=3, scale=1.0)


CHEBYSHEV = ChebyKan(width=[3, 2], degree=5, scale=1.0)


SEPARABLE = Separable(width=[3], degree=4, grid=3, scale=1.0, rank=3)


NETWORKS: dict[str, Options] = {
    "kan": WIDE,
    "kan, one layer": replace(WIDE, width=[]),
    "kan, degree 7, bias": replace(WIDE, degree=7, width=[2], bias=True),
    "kan, base": replace(WIDE, base=True),
    "kan, base and bias, no squash": replace(WIDE, base=True, bias=True, squash="none", width=[2]),
    "kan, sin": replace(WIDE, squash="sin", grid=2),
    "kan, no squash, extrapolated": replace(WIDE, squash="none", width=[2], scale=3.0),
    "kan, no squash, clamped": replace(WIDE, squash="none", outside="clamp", scale=3.0),
    "kan, periodic": replace(WIDE, embedding=EmbeddingOptions("periodic")),
    "kan, cosine knots": replace(WIDE, knots="cosine", grid=4),
    "kan, cosine knots, base, clamped": replace(
        WIDE, knots="cosine", squash="none", base=True, outside="clamp", scale=3.0
    ),
    "kan, first layer linear": replace(WIDE, first="linear"),
    # Clamped, because polynomials continued beyond narrow intervals at the ends amplify rounding.
    "kan, first layer linear, no squash, cosine knots, bias, clamped": replace(
        WIDE, first="linear", squash="none", width=[2], knots="cosine", bias=True, outside="clamp"
    ),
    "kan, fourier": replace(WIDE, embedding=EmbeddingOptions("fourier", features=2), width=[2]),
    "relu_kan": ReluKan(width=[3, 2], degree=4, grid=3, scale=1.0),
    "relu_kan, base and bias, linear first": ReluKan(
        width=[2], degree=3, grid=4, base=True, bias=True, first="linear", scale=1.0
    ),
    "relu_kan, no squash, clamped": ReluKan(width=[2], degree=4, grid=3, squash="none", outside="clamp", scale=3.0),
    "multkan": MULTIPLYING,
    "multkan, linear first, cosine knots, one layer without products": replace(
        MULTIPLYING, first="linear", knots="cosine", mult=[0, 1]
    ),
    "multkan, base and bias, no squash": replace(MULTIPLYING, width=[2], mult=2, squash="none", base=True, bias=True),
    "chebykan": CHEBYSHEV,
    "chebykan, sin, periodic": replace(CHEBYSHEV, squash="sin", embedding=EmbeddingOptions("periodic")),
    "chebykan, fourier, one layer of degree 1": replace(
        CHEBYSHEV, width=[], degree=1, embedding=EmbeddingOptions("fourier", features=2)
    ),
    "chebykan, degree 12": replace(CHEBYSHEV, width=[2], degree=12),
    "separable": SEPARABLE,
    "separable, single layers, linear last": replace(SEPARABLE, width=[], last="linear"),
    "separable, periodic, cosine knots, bias, base": replace(
        SEPARABLE, embedding=EmbeddingOptions("periodic"), knots="cosine", grid=4, bias=True, base=True
    ),
    "mlp, tanh": Mlp(width=[4, 3], activation="tanh"),
    "mlp, silu": Mlp(width=[4, 3], activation="silu"),
    "mlp, sin, periodic": Mlp(width=[4], activation="sin", embedding=EmbeddingOptions("periodic")),
    "mlp, tanh, fourier": Mlp(width=[4], embedding=EmbeddingOptions("fourier", features=3)),
    "mlp, linear": Mlp(width=[]),
}


def build(options: Options, outputs: int = 2, domain: Box = DOMAIN, seed: int = 0) -> tuple[Backbone, Tensor]:
    """A network with random parameters, all of them away from special values such as zero biases."""
    embedding = options.embedding.build(domain, (), np.random.default_rng(seed))
    backbone = options.build(embedding, outputs)
    generator = np.random.default_rng(seed + 1)
    theta = backbone.initial(generator)
    return backbone, theta + 0.1 * torch.from_numpy(generator.standard_normal(len(theta)))
