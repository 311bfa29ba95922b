"""Layers other than splines: linear maps and element-wise activations, on jets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.backbones.base import Layer, Parameters
from kanpinn.functions import FUNCTIONS
from kanpinn.jets import Jet, JetSpace, chain_cotangent


class Linear(Layer):
    """y = W x + b, with W `[out, in]` and b `[out]`; only the value sees the bias.

    Attributes:
        inputs: Width of the input.
        outputs: Width of the output.
        bias: Whether b is there.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.bias = bias

    def shapes(self) -> dict[str, tuple[int, ...]]:
        weight = {"weight": (self.outputs, self.inputs)}
        return {**weight, "bias": (self.outputs,)} if self.bias else dict(weight)

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        # Glorot and Bengio 2010, eq. 16: keeps the variance of values and gradients through tanh layers.
        bound = math.sqrt(6.0 / (self.inputs + self.outputs))
        out = {"weight": generator.uniform(-bound, bound, (self.outputs, self.inputs))}
        if self.bias:
            out["bias"] = np.zeros(self.outputs)
        return out

    def forward(self, parameters: Parameters, data: Tensor, space: JetSpace) -> tuple[Tensor, Any]:
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


class _Compose(torch.autograd.Function):
    """f∘g on jets with its cotangent in closed form: no graph through the derivatives of f."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, space: JetSpace, name: str) -> Tensor:
        """Compose jets `[C, ...]` with the function `name`."""
        jet = Jet(space, data.detach())
        derivatives = FUNCTIONS[name](jet.value, space.order + 1)
        ctx.jet, ctx.derivatives = jet, derivatives
        return jet.compose(derivatives).data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        """Pull the cotangent `[C, ...]` back."""
        return chain_cotangent(ctx.jet, lambda a, d: grad_output[a] * ctx.derivatives[d]), None, None


class Activation(Layer):
    """An element-wise function from `kanpinn.jets.FUNCTIONS`, without parameters."""

    def __init__(self, name: str) -> None:
        self.name = name

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return {}

    def forward(self, parameters: Parameters, data: Tensor, space: JetSpace) -> tuple[Tensor, Any]:
        return _Compose.apply(data, space, self.name), None

    def jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, out: Tensor) -> None:
        raise AssertionError("an activation has no parameters")
