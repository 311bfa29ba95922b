"""Kolmogorov–Arnold networks in the power-ReLU basis, and maps between the two bases for whole parameter vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.edges import SplineFeatures
from kanpinn.backbones.kan import Kan
from kanpinn.backbones.layer import Layer, Parameters, Shape
from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.errors import invalid
from kanpinn.jets.jet import JetSpace
from kanpinn.splines.nesting import Nesting
from kanpinn.splines.power_relu import power_relu_nesting, relu_coefficients, relu_gradient, spline_coefficients


@dataclass(frozen=True)
class ReluLayer(Layer):
    """The functions of a spline layer, with coefficients of ψ_j(x) = ReLU(x − t_j)^k (Southworth et al. 2026, eq. 7).

    y_q = Σ_p w_s[q,p] Σ_j V[q,p,j] ψ_j(x_p) + w_b[q,p] SiLU(x_p) + b_q: a multichannel perceptron with fixed biases.
    The powers themselves are never summed: for k = 3 in float32 they cancel to two digits at n = 32 and to none at
    n = 128. V becomes W = V A^{-1} by sums, which lose no more than V's own rounding, and the local pieces of W are
    evaluated; outside [−1, 1] they continue as those of the spline layer do.

    Attributes:
        spline: The same layer in the B-spline basis, on uniform knots.
    """

    spline: SplineLayer

    def shapes(self) -> dict[str, Shape]:
        first, *rest = self.spline.shapes().items()
        return {"relu_coefficients": first[1], **dict(rest)}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return self._relu(self.spline.initial(generator))

    def prepare(self, data: Tensor, space: JetSpace) -> SplineFeatures:
        return self.spline.prepare(data, space)

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: SplineFeatures | None = None
    ) -> tuple[Tensor, SplineFeatures]:
        return self.spline.forward(self._splines(parameters), data, space, prepared)

    def jacobian(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, out: Tensor) -> None:
        self.spline.jacobian(self._splines(parameters), features, cotangent, out)
        edges, spec = self.spline.outputs * self.spline.inputs, self.spline.spec
        block = out[:, : edges * spec.width].view(len(out), edges, spec.width)  # the coefficients come first
        block.copy_(relu_gradient(block, spec.intervals, spec.degree))

    def constants(self) -> dict[str, np.ndarray]:
        return self.spline.constants()

    def attributes(self) -> dict[str, Any]:
        return self.spline.attributes()

    @property
    def kept(self) -> int:
        return self.spline.kept

    def jvp(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, tangent: Parameters) -> Tensor:
        return self.spline.jvp(self._splines(parameters), features, cotangent, self._splines(tangent))

    def vjp(
        self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        found = self.spline.vjp(self._splines(parameters), features, cotangent, weights)
        spec = self.spline.spec
        return {"relu_coefficients": relu_gradient(found.pop("coefficients"), spec.intervals, spec.degree), **found}

    def cells(self, names: Iterable[str]) -> dict[str, int]:
        return self.spline.cells(names)

    def refined(self) -> ReluLayer:
        return ReluLayer(self.spline.refined())

    def coarsened(self) -> ReluLayer | None:
        coarser = self.spline.coarsened()
        return None if coarser is None else ReluLayer(coarser)

    def nesting(self) -> dict[str, Nesting]:
        return {"relu_coefficients": power_relu_nesting(self.spline.spec.intervals, self.spline.spec.degree)}

    def resized(self, inputs: int, outputs: int) -> ReluLayer:
        return ReluLayer(self.spline.resized(inputs, outputs))

    def raised(self, parameters: Parameters, values: Tensor) -> dict[str, Tensor] | None:
        found, spec = dict(self.spline.raised(self._splines(parameters), values) or {}), self.spline.spec
        return {"relu_coefficients": relu_coefficients(found.pop("coefficients"), spec.intervals, spec.degree), **found}

    def identity(self) -> dict[str, np.ndarray]:
        return self._relu(self.spline.identity())

    def _relu(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of the spline layer in the power-ReLU basis."""
        spec, coefficients = self.spline.spec, torch.from_numpy(arrays.pop("coefficients"))
        return {"relu_coefficients": relu_coefficients(coefficients, spec.intervals, spec.degree).numpy(), **arrays}

    def _splines(self, parameters: Parameters) -> dict[str, Tensor]:
        """The spline layer's blocks."""
        rest = {name: values for name, values in parameters.items() if name != "relu_coefficients"}
        spec, given = self.spline.spec, parameters["relu_coefficients"]
        return {"coefficients": spline_coefficients(given, spec.intervals, spec.degree), **rest}


@dataclass
class ReluKan(Kan):
    """The functions of `kan` in the power-ReLU basis of multichannel perceptrons, on uniform knots."""

    def check(self) -> None:
        """Refuse knots that are not uniform; raises UserError."""
        super().check()
        if self.knots != "uniform":
            raise invalid("backbone.knots", self.knots, "uniform (backbone=relu_kan has equal intervals only)")

    def layer(self, inputs: int, outputs: int) -> ReluLayer:
        """One layer of power-ReLU functions on the coarsest level; its random start is that of the B-splines."""
        return ReluLayer(self.splines(inputs, outputs))


def maps_splines(backbone: Backbone) -> bool:
    """True if the network has layers in the B-spline basis, all of them on uniform knots."""
    spacings = {spec.knots for spec, _ in _splines(backbone, torch.empty(backbone.size))}
    return spacings == {"uniform"}


def map_splines(backbone: Backbone, vector: Tensor, function: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    """Apply a change of basis to the spline coefficients in a flat vector `[P]` and copy everything else.

    It maps coefficients `[..., n + k]`, n and k to `[..., n + k]`, as in `kanpinn.splines.power_relu`.
    """
    out = vector.clone()
    for spec, own in _splines(backbone, out):
        # A view into `out`. With base terms W alone changes its basis, not the effective w_s W.
        own.copy_(function(own, spec.intervals, spec.degree))
    return out


def _splines(backbone: Backbone, vector: Tensor) -> Iterator[tuple[SplineSpec, Tensor]]:
    """The B-splines of every layer of such, with their coefficients, views of a flat vector `[P]`."""
    sides: list[tuple[Layer, Parameters]] = list(zip(backbone.layers, backbone.arrays(vector), strict=True))
    while sides:
        layer, arrays = sides.pop(0)
        if isinstance(layer, Parallel):
            sides = [*layer.own(arrays), *sides]
        elif isinstance(layer, SplineLayer):
            yield layer.spec, arrays["coefficients"]
