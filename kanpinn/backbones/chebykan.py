"""Kolmogorov–Arnold networks of Chebyshev polynomials, nested by degree."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.layer import Layer, Parameters, Shape
from kanpinn.backbones.layers import Activation
from kanpinn.backbones.masks import Edges, with_edges
from kanpinn.backbones.parallel import NETWORKS
from kanpinn.jets.cotangents import chain_cotangent
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.options import Options, option
from kanpinn.splines.chebyshev import chebyshev_basis, chebyshev_nesting
from kanpinn.splines.nesting import Nesting


def basis_jets(data: Tensor, space: JetSpace, derivatives: Tensor) -> Tensor:
    """Carry input jets `[C, N, in]` through m basis functions (Faà di Bruno), `[N, C, in·m]`.

    `derivatives` are the plain ones 0 … order (or more) of the basis at the values, `[N, in, order + 1, m]`.
    """
    points, inputs, _, width = derivatives.shape
    jet = Jet(space, data)
    jets = data.new_empty(points, len(space), inputs, width)
    jets[:, 0] = derivatives[:, :, 0]
    for a, by_order in enumerate(space.chain[1:], start=1):
        torch.mul(jet.monomial(by_order[0])[..., None], derivatives[:, :, 1], out=jets[:, a])
        for d, terms in enumerate(by_order[1:], start=2):
            jets[:, a].addcmul_(jet.monomial(terms)[..., None], derivatives[:, :, d])
    return jets.view(points, len(space), inputs * width)


def input_cotangent(cotangent: Tensor, derivatives: Tensor, data: Tensor, space: JetSpace) -> Tensor:
    """Cotangent `[C, N, in]` of the input jets `data` from that of the basis jets, `[N, C, in·m]`.

    `derivatives` are the plain ones 0 … order + 1 of the basis, `[N, in, order + 2, m]`.
    """
    points, inputs = data.shape[1:]
    basis = cotangent.view(points, len(space), inputs, -1)
    s = torch.einsum("ncpj,npdj->cdnp", basis, derivatives).contiguous()  # (C, order + 2, N, in)
    return chain_cotangent(Jet(space, data), lambda a, d: s[a, d])


SQUASHES = ("tanh", "sin")


class ChebyshevFeatures(NamedTuple):
    """The jets of the polynomials at each input, and what their derivative needs.

    Attributes:
        jets: `[N, C, in·(K + 1)]`.
        derivatives: Plain derivatives 0 … order + 1, `[N, in, order + 2, K + 1]`.
        data: The input jets, `[C, N, in]`.
    """

    jets: Tensor
    derivatives: Tensor
    data: Tensor


class _Expand(torch.autograd.Function):
    """Σ over inputs and polynomials, with the closed-form cotangent of the input jets."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, weights: Tensor, features: ChebyshevFeatures, space: JetSpace) -> Tensor:
        """Input jets `[C, N, in]` (only their place in the graph) and weights `[in·(K + 1), out]` to `[C, N, out]`."""
        ctx.save_for_backward(weights)
        ctx.features, ctx.space = features, space
        out = data.new_empty(*features.jets.shape[:2], weights.shape[1])
        return torch.matmul(features.jets, weights, out=out).permute(1, 0, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Pull cotangents `[C, N, out]` back to the input jets and the coefficients."""
        (weights,) = ctx.saved_tensors
        features: ChebyshevFeatures = ctx.features
        cotangent = grad_output.permute(1, 0, 2).contiguous()
        grad_data = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_data = input_cotangent(cotangent @ weights.T, features.derivatives, features.data, ctx.space)
        if ctx.needs_input_grad[1]:
            grad_weights = features.jets.flatten(0, 1).T @ cotangent.flatten(0, 1)
        return grad_data, grad_weights, None, None


@dataclass(frozen=True)
class ChebyshevLayer(Layer):
    """A layer of polynomials on edges: y_q = Σ_p Σ_i C[q,p,i] T_i(x_p), i = 0 … K (SS et al. 2024, arXiv:2405.07200).

    Attributes:
        inputs: Width of the input.
        outputs: Width of the output.
        degree: Polynomial degree K.
        scale: Standard deviation of an output's values at the start.
    """

    inputs: int
    outputs: int
    degree: int
    scale: float

    def shapes(self) -> dict[str, Shape]:
        return {"chebyshev_coefficients": (self.outputs, self.inputs, self.degree + 1)}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        # Coefficients that fall like 1/(i + 1): the i-th polynomial's slopes grow like i². T_i² has the mean 1/2.
        sizes = 1.0 / np.arange(1, self.degree + 2)
        sizes *= self.scale / math.sqrt(self.inputs * (sizes**2 @ np.r_[1.0, np.full(self.degree, 0.5)]))
        shape = (self.outputs, self.inputs, self.degree + 1)
        return {"chebyshev_coefficients": sizes * generator.standard_normal(shape)}

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, ChebyshevFeatures]:
        inner = data.detach()
        derivatives = chebyshev_basis(inner[0], self.degree, space.order + 1)
        features = ChebyshevFeatures(basis_jets(inner, space, derivatives), derivatives, inner)
        weights = parameters["chebyshev_coefficients"].permute(1, 2, 0).reshape(-1, self.outputs)
        return _Expand.apply(data, weights, features, space), features

    def jacobian(self, parameters: Parameters, features: ChebyshevFeatures, cotangent: Tensor, out: Tensor) -> None:
        out.unflatten(1, (self.outputs, -1)).copy_(torch.bmm(cotangent.permute(1, 2, 0), features.jets))

    def attributes(self) -> dict[str, Any]:
        return {"degree": self.degree, "polynomials": "chebyshev"}

    @property
    def kept(self) -> int:
        return 2 * self.inputs * (self.degree + 1)

    def refined(self) -> ChebyshevLayer:
        return replace(self, degree=2 * self.degree)

    def coarsened(self) -> ChebyshevLayer | None:
        return None if self.degree % 2 else replace(self, degree=self.degree // 2)

    def resized(self, inputs: int, outputs: int) -> ChebyshevLayer:
        return replace(self, inputs=inputs, outputs=outputs)

    def raised(self, parameters: Parameters, values: Tensor) -> dict[str, Tensor]:
        coefficients = parameters["chebyshev_coefficients"].clone()
        coefficients[:, 0, 0] += values
        return {"chebyshev_coefficients": coefficients}

    def identity(self) -> dict[str, np.ndarray]:
        out = {name: np.zeros(shape) for name, shape in self.blocks.shapes.items()}
        np.fill_diagonal(out["chebyshev_coefficients"][:, :, 1], 1.0)  # T_1(x) = x
        return out

    def nesting(self) -> dict[str, Nesting]:
        return {"chebyshev_coefficients": chebyshev_nesting(self.degree, 2 * self.degree)}


@dataclass
class ChebyKan(Options):
    """Kolmogorov–Arnold network of Chebyshev polynomials (SS et al. 2024, arXiv:2405.07200), nested by degree."""

    key: ClassVar[str] = "backbone"

    width: list[int] = option([5, 5], "hidden widths, one per hidden layer", at_least=1)
    degree: int = option(4, "polynomial degree on the coarsest level; every finer level doubles it", at_least=1)
    squash: str = option("tanh", "what keeps hidden values within [−1, 1]", one_of=SQUASHES)
    scale: float = option(0.5, "size of the random polynomials at the start", above=0)
    networks: str = option(
        "shared", "one network for all unknowns (shared), or one for each (separate)", one_of=NETWORKS
    )
    edges: Edges = option([], "per layer and output the inputs that it sees, numbered from 0; []: all")
    modules: list[str] = option([], 'edges by modules: "0,[0,1]->[0,1]->[0,1]->[0]", nodes before and behind layers')
    embedding: EmbeddingOptions = option(factory=EmbeddingOptions)

    def check_order(self, order: int) -> None:
        """Nothing to refuse: polynomials are smooth."""

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level, without parameters; see `Kan.build`."""
        embedding.refuse_splines()
        layers: list[Layer] = []
        for k, (inputs, out) in enumerate(pairwise([embedding.width, *self.width, outputs])):
            if k:
                layers.append(Activation(self.squash))
            layers.append(ChebyshevLayer(inputs, out, self.degree, self.scale))
        return Backbone(embedding, with_edges(layers, self.edges, self.modules, embedding.names), grid=self.degree)
