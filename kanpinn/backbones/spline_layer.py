"""The layer of a Kolmogorov–Arnold network: learned B-splines on its edges, exactly nested under refinement."""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Layer, Parameters, Support
from kanpinn.backbones.edges import (
    Contract,
    SplineFeatures,
    blocks_of_points,
    edge_cotangents,
    edge_derivatives,
    spline_features,
    sum_over_inputs,
    table_gradient,
)
from kanpinn.backbones.layers import Activation
from kanpinn.jets.jet import JetSpace
from kanpinn.splines import bspline, piecewise
from kanpinn.splines.nesting import Nesting, dyadic_nesting, knot_insertion
from kanpinn.splines.periodic import folded, periodic_nesting, wrapped


class SplineLayer(Layer):
    """A layer of splines on edges: y_q = Σ_p w_s[q,p] Σ_i W[q,p,i] B_i(x_p) + w_b[q,p] SiLU(x_p) + b_q.

    Southworth et al. 2026, eq. 6; base term and scale as in Liu et al. 2024, eq. 2.10.

    Attributes:
        inputs: Width of the input.
        outputs: Width of the output.
        n: Spline intervals on [−1, 1].
        degree: Spline degree k.
        knots: Spacing of the knots, one of `bspline.KNOTS`.
        base: Whether the SiLU term w_b and the spline scale w_s are there.
        bias: Whether b is there.
        outside: Policy for inputs outside [−1, 1].
        scale: Standard deviation of an edge's values at the start.
        periodic: Whether the functions have the period 2 of [−1, 1]: uniform knots, and coefficients B_i, B_{i+n} that
            are one, so that there are n of them per edge.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        n: int,
        degree: int,
        *,
        knots: str,
        base: bool,
        bias: bool,
        outside: str,
        scale: float,
        periodic: bool = False,
    ) -> None:
        self.inputs, self.outputs, self.n, self.degree, self.knots = inputs, outputs, n, degree, knots
        self.base, self.bias, self.outside, self.scale, self.periodic = base, bias, outside, scale, periodic

    @property
    def width(self) -> int:
        """Coefficients per edge."""
        return self.n if self.periodic else self.n + self.degree

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"coefficients": (self.outputs, self.inputs, self.width)}
        if self.base:
            shapes["spline_scale"] = (self.outputs, self.inputs)
            shapes["base_weight"] = (self.outputs, self.inputs)
        if self.bias:
            shapes["bias"] = (self.outputs,)
        return shapes

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        shapes = self.shapes()
        # Independent coefficients c_i make an edge's values Σ c_i B_i, whose variance is Σ B_i² ≈ 1/2 of theirs.
        edge = (0.1 if self.base else self.scale) / (1.0 if self.base else math.sqrt(self.inputs))
        out = {"coefficients": edge * generator.standard_normal(shapes["coefficients"])}
        if self.base:
            # Liu et al. 2024, sec. 2.2: w_s = 1/√n_in, spline ≈ 0, w_b Xavier.
            bound = math.sqrt(6.0 / (self.inputs + self.outputs))
            out["spline_scale"] = np.full(shapes["spline_scale"], 1.0 / math.sqrt(self.inputs))
            out["base_weight"] = generator.uniform(-bound, bound, shapes["base_weight"])
        if self.bias:
            out["bias"] = np.zeros(self.outputs)
        return out

    def prepare(self, data: Tensor, space: JetSpace) -> SplineFeatures:
        return spline_features(
            data.detach(), space, self.n, self.degree, knots=self.knots, outside=self.outside, base=self.base
        )

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: SplineFeatures | None = None
    ) -> tuple[Tensor, SplineFeatures]:
        features = self.prepare(data, space) if prepared is None else prepared
        out = Contract.apply(data, self._table(parameters), features)
        if self.base:
            silu, _ = Activation("silu").forward({}, data, space)
            out = out + silu @ parameters["base_weight"].T
        if self.bias:
            out = torch.cat([out[:1] + parameters["bias"], out[1:]])
        return out, features

    def jacobian(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, out: Tensor) -> None:
        points, width = cotangent.shape[1], self.width
        edges = self.outputs * self.inputs
        # ∂r_n/∂(effective coefficients w_s·W): zero but for the k + 1 at work on each edge.
        block = out[:, : edges * width].view(points, self.outputs, self.inputs * width)
        local = self._local_products(features, cotangent.transpose(1, 2).contiguous())
        # Rows are p·n + m; the first coefficient at work on interval m of input p is its m-th.
        device = features.rows.device
        inputs = torch.arange(self.inputs, device=device)[:, None]
        at_work = self._cells(features)[..., None] + torch.arange(self.degree + 1, device=device)
        if self.periodic:
            at_work %= self.n
        columns = (at_work + inputs * width).reshape(points, 1, -1)
        block.zero_().scatter_(2, columns.expand_as(local), local)
        if self.base:
            edgewise = block.view(points, self.outputs, self.inputs, width)
            start = edges * width
            out[:, start : start + edges] = (edgewise * parameters["coefficients"]).sum(-1).reshape(points, -1)
            edgewise *= parameters["spline_scale"][..., None]
            assert features.silu is not None
            silu = torch.bmm(cotangent.permute(1, 2, 0), features.silu.permute(1, 0, 2))
            out[:, start + edges : start + 2 * edges] = silu.reshape(points, -1)
        if self.bias:
            out[:, -self.outputs :] = cotangent[0]

    def support(self, features: SplineFeatures) -> Support | None:
        # With a base term every point sees its weights and the scales of the splines.
        if self.base or self.bias:
            return None
        extended = self.n + self.degree
        places = None
        if self.periodic:
            each = torch.arange(extended, device=features.rows.device) % self.n
            places = (each + torch.arange(self.inputs, device=each.device)[:, None] * self.n).view(-1)
        return Support(self._cells(features), self.degree + 1, extended, self.outputs, places)

    def _cells(self, features: SplineFeatures) -> Tensor:
        """The interval of every input, `[N, in]`."""
        rows = features.rows
        return rows.T - torch.arange(0, self.inputs * self.n, self.n, device=rows.device)

    def local_jacobian(
        self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, order: Tensor
    ) -> Tensor:
        if self.base or self.bias:
            return super().local_jacobian(parameters, features, cotangent, order)
        across = piecewise.taken(cotangent.transpose(1, 2), order)
        return self._local_products(features.at(order), across)

    def _local_products(self, features: SplineFeatures, across: Tensor) -> Tensor:
        """∂r_n/∂(the effective coefficients at work), `[N, out, in·(k + 1)]`, from cotangents `[C, out, N]`."""
        points = across.shape[2]
        out = across.new_empty(self.outputs, self.inputs, self.degree + 1, points)
        for block in blocks_of_points(features, self.degree, self.outputs):
            part, here = features.part(block), out[..., block]
            cells = part.rows if self.knots == "uniform" else part.rows % self.n
            basis = piecewise.basis_derivatives(cells, part.s, self.knots, self.n, self.degree, features.space.order)
            first, *rest = basis.transpose(1, 2).unbind(0)  # (in, k + 1, n) each
            given = [weight[:, :, None] for weight in edge_cotangents(part, across[..., block])]
            torch.mul(first, given[0], out=here)
            for values, weight in zip(rest, given[1:], strict=True):
                here.addcmul_(values, weight)
        return out.view(self.outputs, self.inputs * (self.degree + 1), points).permute(2, 0, 1)

    def jvp(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, tangent: Parameters) -> Tensor:
        weights = tangent["coefficients"]
        if self.base:
            weights = weights * parameters["spline_scale"][..., None]
            weights = weights + parameters["coefficients"] * tangent["spline_scale"][..., None]
        table = self._pieces(weights)
        out = cotangent.new_empty(len(features.space), self.outputs, cotangent.shape[1])
        for block in blocks_of_points(features, self.degree, self.outputs):
            part = features.part(block)
            sum_over_inputs(part, edge_derivatives(part, table, features.space.order), out[..., block])
        total = (out * cotangent.transpose(1, 2)).sum((0, 1))
        if self.base:
            assert features.silu is not None
            total += (cotangent * (features.silu @ tangent["base_weight"].T)).sum((0, 2))
        if self.bias:
            total += cotangent[0] @ tangent["bias"]
        return total

    def vjp(
        self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        scaled = cotangent * weights[:, None]
        gradient = table_gradient(features, scaled.transpose(1, 2), self.n, self.degree)
        effective = piecewise.from_pieces(gradient, self.knots, self.n, self.degree)
        effective = folded(effective, self.n) if self.periodic else effective
        out = {"coefficients": effective}
        if self.base:
            assert features.silu is not None
            out["coefficients"] = effective * parameters["spline_scale"][..., None]
            out["spline_scale"] = (effective * parameters["coefficients"]).sum(-1)
            out["base_weight"] = scaled.flatten(0, 1).T @ features.silu.flatten(0, 1)
        if self.bias:
            out["bias"] = scaled[0].sum(0)
        return out

    def _table(self, parameters: Parameters) -> Tensor:
        """The edges' polynomials by interval, `[k + 1, out, in·n]`."""
        weights = parameters["coefficients"]
        if self.base:
            weights = weights * parameters["spline_scale"][..., None]
        return self._pieces(weights)

    def _pieces(self, weights: Tensor) -> Tensor:
        """The polynomials of splines with coefficients `[out, in, width]`, `[k + 1, out, in·n]`."""
        extended = wrapped(weights, self.degree) if self.periodic else weights
        return piecewise.to_pieces(extended, self.knots, self.n, self.degree)

    def constants(self) -> dict[str, np.ndarray]:
        if self.periodic:  # one period of them
            return {"knots": np.linspace(-1, 1, self.n + 1)}
        return {"knots": np.asarray(bspline.knot_vector(self.knots, self.n, self.degree))}

    def attributes(self) -> dict[str, Any]:
        spacing = "periodic" if self.periodic else self.knots
        return {"grid": self.n, "degree": self.degree, "spacing": spacing, "outside": self.outside}

    @property
    def kept(self) -> int:
        return 2 * self.inputs * (self.degree + 1)

    @property
    def intervals(self) -> int | None:
        return self.n if self.knots == "uniform" else None

    def refined(self) -> SplineLayer:
        finer = copy(self)
        finer.n = 2 * self.n
        return finer

    def coarsened(self) -> SplineLayer | None:
        if self.n % 2 or (self.periodic and self.n // 2 <= self.degree):
            return None
        coarser = copy(self)
        coarser.n = self.n // 2
        return coarser

    def nesting(self) -> dict[str, Nesting]:
        if self.periodic:
            return {"coefficients": periodic_nesting(self.n, self.degree)}
        if self.knots == "uniform":
            return {"coefficients": dyadic_nesting(self.n, self.degree)}
        coarse, fine = (bspline.knot_vector(self.knots, n, self.degree) for n in (self.n, 2 * self.n))
        return {"coefficients": knot_insertion(coarse, fine, self.degree)}
