"""Layers other than splines: linear maps, element-wise activations and products of neighbours, on jets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.backbones.layer import Layer, Parameters, Shape
from kanpinn.jets.cotangents import chain_cotangent, product_cotangent
from kanpinn.jets.functions import FUNCTIONS, Derivatives
from kanpinn.jets.jet import Jet, JetSpace


@dataclass(frozen=True)
class Linear(Layer):
    """Linear layer y = W x + b, with W `[out, in]` and b `[out]`; only the value sees the bias.

    Attributes:
        inputs: Width of the input.
        outputs: Width of the output.
        bias: True if b is there.
    """

    inputs: int
    outputs: int
    bias: bool = True

    def shapes(self) -> dict[str, Shape]:
        weight = {"weight": (self.outputs, self.inputs)}
        return {**weight, "bias": (self.outputs,)} if self.bias else dict(weight)

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        # Glorot and Bengio 2010, eq. 16: keeps the variance of values and gradients through tanh layers.
        bound = math.sqrt(6.0 / (self.inputs + self.outputs))
        out = {"weight": generator.uniform(-bound, bound, (self.outputs, self.inputs))}
        if self.bias:
            out["bias"] = np.zeros(self.outputs)
        return out

    def resized(self, inputs: int, outputs: int) -> Linear:
        return replace(self, inputs=inputs, outputs=outputs)

    def raised(self, parameters: Parameters, values: Tensor) -> dict[str, Tensor] | None:
        return {**parameters, "bias": parameters["bias"] + values} if self.bias else None

    @property
    def kept(self) -> int:
        return 4 * self.inputs

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Any]:
        out = data @ parameters["weight"].T
        if self.bias:
            out = torch.cat([out[:1] + parameters["bias"], out[1:]])
        return out, data.detach()

    def jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, out: Tensor) -> None:
        n = features.shape[1]
        count = self.outputs * self.inputs
        # Σ_c λ[c, n, q] x[c, n, p]
        block = torch.bmm(cotangent.permute(1, 2, 0), features.permute(1, 0, 2))
        out[:, :count] = block.reshape(n, count)
        if self.bias:
            out[:, count:] = cotangent[0]

    def jvp(self, parameters: Parameters, features: Any, cotangent: Tensor, tangent: Parameters) -> Tensor:
        total = (cotangent * (features @ tangent["weight"].T)).sum((0, 2))
        return total + cotangent[0] @ tangent["bias"] if self.bias else total

    def vjp(self, parameters: Parameters, features: Any, cotangent: Tensor, weights: Tensor) -> dict[str, Tensor]:
        scaled = cotangent * weights[:, None]
        out = {"weight": scaled.flatten(0, 1).T @ features.flatten(0, 1)}
        return {**out, "bias": scaled[0].sum(0)} if self.bias else out


class Compose(torch.autograd.Function):
    """f∘g on jets with its cotangent in closed form: no graph through the derivatives of f."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, space: JetSpace, function: Derivatives) -> Tensor:
        """Compose jets `[C, ...]` with a function."""
        jet = Jet(space, data.detach())
        derivatives = function(jet.value, space.order + 1)
        ctx.jet, ctx.derivatives = jet, derivatives
        return jet.compose(derivatives).data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        """Pull the cotangent `[C, ...]` back."""
        return chain_cotangent(ctx.jet, lambda a, d: grad_output[a] * ctx.derivatives[d]), None, None


class _Fixed(Layer):
    """A layer without parameters."""

    def shapes(self) -> dict[str, Shape]:
        return {}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return {}

    def jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, out: Tensor) -> None:
        raise AssertionError("a layer without parameters has no Jacobian")


@dataclass(frozen=True)
class Activation(_Fixed):
    """An element-wise function from `kanpinn.jets.functions.FUNCTIONS`, without parameters."""

    name: str

    @property
    def kept(self) -> int:
        return 0  # counted with the layer that follows

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Any]:
        return Compose.apply(data, space, FUNCTIONS[self.name]), None


class _Products(torch.autograd.Function):
    """Products of pairs of jets by the Leibniz rule, with their cotangent in closed form."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, space: JetSpace) -> Tensor:
        """Multiply jets `[C, ...]`."""
        ctx.save_for_backward(left, right)
        ctx.space = space
        return (Jet(space, left) * Jet(space, right)).data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:
        """Pull the cotangent `[C, ...]` back to both factors."""
        left, right = (Jet(ctx.space, data) for data in ctx.saved_tensors)
        return product_cotangent(right, grad_output), product_cotangent(left, grad_output), None


@dataclass(frozen=True)
class Multiply(_Fixed):
    """Multiplication nodes (Liu et al. 2024, KAN 2.0, arXiv:2408.10205, sec. 2): some inputs pass, the rest are paired.

    Inputs x_1 … x_{a + 2m} become x_1, …, x_a, x_{a+1} x_{a+2}, …, x_{a+2m−1} x_{a+2m}. No parameters.

    Attributes:
        additions: Inputs that pass, a.
        products: Pairs that are multiplied, m.
    """

    additions: int
    products: int

    @property
    def kept(self) -> int:
        return 2 * self.products

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Any]:
        passed, left, right = (
            data[..., : self.additions],
            data[..., self.additions :: 2],
            data[..., self.additions + 1 :: 2],
        )
        return torch.cat([passed, _Products.apply(left, right, space)], dim=-1), None
