"""The layer of a Kolmogorov–Arnold network: learned B-splines on its edges, exactly nested under refinement."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.dense_edges import Product, pays
from kanpinn.backbones.edges import (
    Contract,
    SplineFeatures,
    blocks_of_points,
    contracted,
    edge_cotangents,
    spline_features,
    table_gradient,
)
from kanpinn.backbones.layer import Layer, Parameters, Shape, Support
from kanpinn.backbones.layers import Activation
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.jets.jet import JetSpace
from kanpinn.splines import bspline, piecewise
from kanpinn.splines.nesting import Nesting


def nearest(outputs: int, inputs: int) -> np.ndarray:
    """Return the edges between each node and the nearest one, both layers drawn to the same length, bool `[out, in]`.

    Every input and every output has one; for layers of one width it is the identity (pykan's sparse initialisation).
    """
    places = [(np.arange(count) + 0.5) / count for count in (outputs, inputs)]
    distance = np.abs(places[0][:, None] - places[1])
    found = np.zeros(distance.shape, dtype=bool)
    found[np.arange(outputs), distance.argmin(1)] = True
    found[distance.argmin(0), np.arange(inputs)] = True
    return found


@dataclass(frozen=True)
class SplineLayer(Layer):
    """A layer of splines on edges: y_q = Σ_p w_s[q,p] Σ_i W[q,p,i] B_i(x_p) + w_b[q,p] SiLU(x_p) + b_q.

    Southworth et al. 2026, eq. 6; base term and scale as in Liu et al. 2024, eq. 2.10.

    Attributes:
        inputs: Width of the input.
        outputs: Width of the output.
        spec: The splines.
    """

    inputs: int
    outputs: int
    spec: SplineSpec

    def shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"coefficients": (self.outputs, self.inputs, self.spec.width)}
        if self.spec.base:
            shapes["spline_scale"] = (self.outputs, self.inputs)
            shapes["base_weight"] = (self.outputs, self.inputs)
        if self.spec.bias:
            shapes["bias"] = (self.outputs,)
        return shapes

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        shapes, base = self.blocks.shapes, self.spec.base
        # Independent coefficients c_i make an edge's values Σ c_i B_i, whose variance is Σ B_i² ≈ 1/2 of theirs.
        edge = (0.1 if base else self.spec.scale) / (1.0 if base else math.sqrt(self.inputs))
        out = {"coefficients": edge * generator.standard_normal(shapes["coefficients"])}
        if base:
            # Liu et al. 2024, sec. 2.2: w_s = 1/√n_in, spline ≈ 0, w_b Xavier.
            bound = math.sqrt(6.0 / (self.inputs + self.outputs))
            out["spline_scale"] = np.full(shapes["spline_scale"], 1.0 / math.sqrt(self.inputs))
            out["base_weight"] = generator.uniform(-bound, bound, shapes["base_weight"])
        if self.spec.sparse:
            near = nearest(self.outputs, self.inputs)
            out["coefficients"] *= (near * np.sqrt(self.inputs / near.sum(1, keepdims=True)))[..., None]
            if base:
                out["base_weight"] *= near
        if self.spec.bias:
            out["bias"] = np.zeros(self.outputs)
        return out

    def prepare(self, data: Tensor, space: JetSpace) -> SplineFeatures:
        spec = self.spec
        options = {"knots": spec.knots, "outside": spec.outside, "base": spec.base}
        return spline_features(data.detach(), space, spec.intervals, spec.degree, **options)

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: SplineFeatures | None = None
    ) -> tuple[Tensor, SplineFeatures]:
        features = self.prepare(data, space) if prepared is None else prepared
        weights = self.spec.scaled(parameters)
        if not self.spec.periodic and pays(features, self.spec.width, self.spec.degree):
            out = Product.apply(data, weights, features, self.spec.knots, self.spec.degree)
        else:
            out = Contract.apply(data, self.spec.pieces(weights), features)
        if self.spec.base:
            silu, _ = Activation("silu").forward({}, data, space)
            out = out + silu @ parameters["base_weight"].T
        if self.spec.bias:
            out = torch.cat([out[:1] + parameters["bias"], out[1:]])
        return out, features

    def jacobian(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, out: Tensor) -> None:
        points, width = cotangent.shape[1], self.spec.width
        edges = self.outputs * self.inputs
        # ∂r_n/∂(effective coefficients w_s·W): zero but for the k + 1 at work on each edge.
        block = out[:, : edges * width].view(points, self.outputs, self.inputs * width)
        local = self._local_products(features, cotangent.transpose(1, 2).contiguous())
        # The first coefficient at work on interval m of an input is its m-th.
        device = features.rows.device
        inputs = torch.arange(self.inputs, device=device)[:, None]
        at_work = features.cells(self.spec.intervals)[..., None] + torch.arange(self.spec.degree + 1, device=device)
        if self.spec.periodic:
            at_work %= self.spec.intervals
        columns = (at_work + inputs * width).reshape(points, 1, -1)
        block.zero_().scatter_(2, columns.expand_as(local), local)
        if self.spec.base:
            edgewise = block.view(points, self.outputs, self.inputs, width)
            start = edges * width
            out[:, start : start + edges] = (edgewise * parameters["coefficients"]).sum(-1).reshape(points, -1)
            edgewise *= parameters["spline_scale"][..., None]
            assert features.silu is not None
            silu = torch.bmm(cotangent.permute(1, 2, 0), features.silu.permute(1, 0, 2))
            out[:, start + edges : start + 2 * edges] = silu.reshape(points, -1)
        if self.spec.bias:
            out[:, -self.outputs :] = cotangent[0]

    def supports(self, features: SplineFeatures) -> list[Support | int]:
        # With a base term every point sees its weights and the scales of the splines.
        if self.spec.base or self.spec.bias:
            return [self.size]
        n, extended = self.spec.intervals, self.spec.intervals + self.spec.degree
        places = None
        if self.spec.periodic:
            each = torch.arange(extended, device=features.rows.device) % n
            places = (each + torch.arange(self.inputs, device=each.device)[:, None] * n).view(-1)
        return [Support(features.cells(n), self.spec.degree + 1, extended, self.outputs, places)]

    def local_jacobians(
        self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, order: Tensor
    ) -> list[Tensor]:
        if self.spec.base or self.spec.bias:
            return super().local_jacobians(parameters, features, cotangent, order)
        across = piecewise.taken(cotangent.transpose(1, 2), order)
        return [self._local_products(features.at(order), across)]

    def _local_products(self, features: SplineFeatures, across: Tensor) -> Tensor:
        """∂r_n/∂(the effective coefficients at work), `[N, out, in·(k + 1)]`, from cotangents `[C, out, N]`."""
        points, spec = across.shape[2], self.spec
        n, degree = spec.intervals, spec.degree
        out = across.new_empty(self.outputs, self.inputs, degree + 1, points)
        for block in blocks_of_points(features, degree, self.outputs):
            part, here = features.part(block), out[..., block]
            cells = part.rows if spec.knots == "uniform" else part.rows % n
            basis = piecewise.basis_derivatives(cells, part.s, spec.knots, n, degree, features.space.order)
            first, *rest = basis.transpose(1, 2).unbind(0)  # (in, k + 1, n) each
            given = [weight[:, :, None] for weight in edge_cotangents(part, across[..., block])]
            torch.mul(first, given[0], out=here)
            for values, weight in zip(rest, given[1:], strict=True):
                here.addcmul_(values, weight)
        return out.view(self.outputs, self.inputs * (degree + 1), points).permute(2, 0, 1)

    def jvp(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, tangent: Parameters) -> Tensor:
        weights = tangent["coefficients"]
        if self.spec.base:
            weights = weights * parameters["spline_scale"][..., None]
            weights = weights + parameters["coefficients"] * tangent["spline_scale"][..., None]
        out, _ = contracted(features, self.spec.pieces(weights))
        total = (out * cotangent.transpose(1, 2)).sum((0, 1))
        if self.spec.base:
            assert features.silu is not None
            total += (cotangent * (features.silu @ tangent["base_weight"].T)).sum((0, 2))
        if self.spec.bias:
            total += cotangent[0] @ tangent["bias"]
        return total

    def vjp(
        self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        scaled = cotangent * weights[:, None]
        gradient = table_gradient(features, scaled.transpose(1, 2), self.spec.intervals, self.spec.degree)
        effective = self.spec.pieces_transpose(gradient)
        out = {"coefficients": effective}
        if self.spec.base:
            assert features.silu is not None
            out["coefficients"] = effective * parameters["spline_scale"][..., None]
            out["spline_scale"] = (effective * parameters["coefficients"]).sum(-1)
            out["base_weight"] = scaled.flatten(0, 1).T @ features.silu.flatten(0, 1)
        if self.spec.bias:
            out["bias"] = scaled[0].sum(0)
        return out

    def constants(self) -> dict[str, np.ndarray]:
        if self.spec.periodic:  # one period of them
            return {"knots": np.linspace(-1, 1, self.spec.intervals + 1)}
        return {"knots": np.asarray(self.spec.knot_vector())}

    def attributes(self) -> dict[str, Any]:
        spec = self.spec
        spacing = "periodic" if spec.periodic else "unequal" if isinstance(spec.knots, tuple) else spec.knots
        return {"grid": spec.intervals, "degree": spec.degree, "spacing": spacing, "outside": spec.outside}

    @property
    def kept(self) -> int:
        return 2 * self.inputs * (self.spec.degree + 1)

    def cells(self, names: Iterable[str]) -> dict[str, int]:
        return {} if self.spec.knots == "cosine" else dict.fromkeys(names, self.spec.intervals)

    def breaks(self, names: Iterable[str]) -> dict[str, tuple[float, ...]]:
        knots = self.spec.knots
        if not isinstance(knots, tuple):
            return {}
        return dict.fromkeys(names, tuple(bspline.halved(knots, self.spec.intervals).tolist()))

    def refined(self) -> SplineLayer:
        return replace(self, spec=replace(self.spec, intervals=2 * self.spec.intervals))

    def coarsened(self) -> SplineLayer | None:
        half, odd = divmod(self.spec.intervals, 2)
        coarsest = isinstance(self.spec.knots, tuple) and len(self.spec.knots) > self.spec.intervals
        if odd or coarsest or (self.spec.periodic and half <= self.spec.degree):
            return None
        return replace(self, spec=replace(self.spec, intervals=half))

    def nesting(self) -> dict[str, Nesting]:
        return {"coefficients": self.spec.nesting()}

    def resized(self, inputs: int, outputs: int) -> SplineLayer:
        return replace(self, inputs=inputs, outputs=outputs)

    def raised(self, parameters: Parameters, values: Tensor) -> dict[str, Tensor] | None:
        if self.spec.bias:
            return {**parameters, "bias": parameters["bias"] + values}
        # B-splines add up to 1 (de Boor 2001, ch. IX), so that it may go to any edge: that of the largest scale.
        rows, coefficients = torch.arange(self.outputs, device=values.device), parameters["coefficients"].clone()
        edges = torch.zeros_like(rows)
        if self.spec.base:
            edges = parameters["spline_scale"].abs().argmax(1)
            values = values / parameters["spline_scale"][rows, edges]
        coefficients[rows, edges] += values[:, None]
        return {**parameters, "coefficients": coefficients}

    def identity(self) -> dict[str, np.ndarray]:
        out = {name: np.zeros(shape) for name, shape in self.blocks.shapes.items()}
        nodes = np.arange(self.inputs)
        out["coefficients"][nodes, nodes] = self.spec.identity()
        if self.spec.base:
            out["spline_scale"][:] = 1.0
        return out
