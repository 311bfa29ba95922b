"""Kolmogorov–Arnold networks: layers of learned B-splines on the edges, exactly nested under refinement."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn import splines
from kanpinn.backbones.base import Backbone, Layer, Parameters, Support
from kanpinn.backbones.basis import basis_jets, input_cotangent
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.layers import Activation, Linear, Multiply
from kanpinn.errors import invalid, unknown_choice
from kanpinn.functions import silu_derivatives
from kanpinn.jets import Jet, JetSpace
from kanpinn.nesting import Nesting, dyadic_nesting, knot_insertion

SQUASHES = ("tanh", "sin", "none")
FIRST = ("spline", "linear")


class SplineFeatures(NamedTuple):
    """The jets of the k + 1 basis functions at work at each input, and what their derivative needs.

    Attributes:
        rows: Which interval of which input, p·n + m, int64 `[N·in]`.
        jets: `[N, C, in·(k + 1)]`.
        derivatives: Plain derivatives 0 … order + 1 of the basis, `[N, in, order + 2, k + 1]`.
        data: The input jets, `[C, N, in]`.
        silu: Jets of SiLU at the inputs, `[C, N, in]`, or None.
    """

    rows: Tensor
    jets: Tensor
    derivatives: Tensor
    data: Tensor
    silu: Tensor | None


def spline_features(
    data: Tensor, space: JetSpace, n: int, degree: int, *, knots: str, outside: str, base: bool
) -> SplineFeatures:
    """Evaluate the local basis and carry the input jets through it (Faà di Bruno).

    Args:
        data: Input jets `[C, N, in]`, detached.
        space: The derivatives the first axis runs over.
        n: Spline intervals on [−1, 1].
        degree: Spline degree k.
        knots: Spacing of the knots.
        outside: Policy for inputs outside [−1, 1].
        base: Whether SiLU jets are wanted too.

    Returns:
        The features.
    """
    inputs = data.shape[2]
    if knots == "uniform":
        cell, b = splines.local_basis(data[0], n, degree, space.order + 1, outside=outside)
    else:
        t = splines.knot_vector(knots, n, degree)
        cell, b = splines.local_basis_on(data[0], t, degree, space.order + 1, outside=outside)
    rows = (cell + torch.arange(inputs, device=cell.device) * n).reshape(-1)
    silu = Jet(space, data).compose(silu_derivatives(data[0], space.order)).data if base else None
    return SplineFeatures(rows, basis_jets(data, space, b), b, data, silu)


class _Contract(torch.autograd.Function):
    """Σ over inputs and local basis functions, with the closed-form cotangent of the input jets."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, windows: Tensor, features: SplineFeatures, space: JetSpace) -> Tensor:
        """Contract features with coefficients.

        Args:
            ctx: Autograd's own.
            data: Input jets `[C, N, in]` (only their place in the graph is used).
            windows: The k + 1 coefficients at work on each interval, `[in·n, (k + 1), out]`.
            features: From `spline_features`.
            space: The derivatives carried.

        Returns:
            Output jets `[C, N, out]`.
        """
        points, channels, _ = features.jets.shape
        out = data.new_empty(points, channels, windows.shape[2])
        for part in _parts(features, windows):
            torch.bmm(features.jets[part], _local(features, windows, part), out=out[part])
        ctx.save_for_backward(windows)
        ctx.features, ctx.space = features, space
        return out.permute(1, 0, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        """Pull cotangents `[C, N, out]` back to the input jets and the coefficients."""
        (windows,) = ctx.saved_tensors
        features: SplineFeatures = ctx.features
        to_data, to_windows = ctx.needs_input_grad[:2]
        cotangent = grad_output.permute(1, 0, 2).contiguous()
        basis = torch.empty_like(features.jets) if to_data else None
        flat = windows.new_zeros(windows.shape[0], windows.shape[1] * windows.shape[2]) if to_windows else None
        inputs = features.data.shape[2]
        for part in _parts(features, windows):
            if basis is not None:
                torch.bmm(cotangent[part], _local(features, windows, part).transpose(1, 2), out=basis[part])
            if flat is not None:
                rows = features.rows[part.start * inputs : part.stop * inputs]
                products = torch.bmm(features.jets[part].transpose(1, 2), cotangent[part])
                flat.index_add_(0, rows, products.view(len(rows), -1))
        grad_data = None if basis is None else input_cotangent(basis, features.derivatives, features.data, ctx.space)
        return grad_data, None if flat is None else flat.view(windows.shape), None, None


LOCAL_BYTES = {"cpu": 2**20, "cuda": 2**28}
"""Memory for the coefficients at work at some points: on a CPU what its cache holds, else products wait for memory.

For 4096 points and a layer of 20 × 20 cubic edges: 45 ms forward and backward instead of 130 to 430 ms at once."""


def _parts(features: SplineFeatures, windows: Tensor) -> list[slice]:
    """The points in slices whose coefficients at work fit into `LOCAL_BYTES`."""
    points, _, width = features.jets.shape
    each = width * windows.shape[2] * windows.element_size()
    size = max(32, LOCAL_BYTES.get(windows.device.type, 2**20) // each)
    return [slice(start, min(start + size, points)) for start in range(0, points, size)]


def _local(features: SplineFeatures, windows: Tensor, part: slice) -> Tensor:
    """The coefficients at work at some points, `[points, in·(k + 1), out]`."""
    inputs = features.data.shape[2]
    rows = features.rows[part.start * inputs : part.stop * inputs]
    local = windows.reshape(windows.shape[0], -1).index_select(0, rows)
    return local.view(part.stop - part.start, -1, windows.shape[2])


def _local_products(features: SplineFeatures, cotangent: Tensor) -> Tensor:
    """∂r_n/∂(the effective coefficients at work), `[N, out, in·(k + 1)]`, from cotangents `[C, N, out]`."""
    return torch.bmm(cotangent.permute(1, 2, 0), features.jets)


class SplineLayer(Layer):
    """A layer of splines on edges: y_q = Σ_p w_s[q,p] Σ_i W[q,p,i] B_i(x_p) + w_b[q,p] SiLU(x_p) + b_q.

    Southworth et al. 2026, eq. 6; base term and scale as in Liu et al. 2024, eq. 2.10.

    Attributes:
        inputs: Width of the input.
        outputs: Width of the output.
        n: Spline intervals on [−1, 1].
        degree: Spline degree k.
        knots: Spacing of the knots, one of `splines.KNOTS`.
        base: Whether the SiLU term w_b and the spline scale w_s are there.
        bias: Whether b is there.
        outside: Policy for inputs outside [−1, 1].
        scale: Standard deviation of an edge's values at the start.
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
    ) -> None:
        self.inputs, self.outputs, self.n, self.degree, self.knots = inputs, outputs, n, degree, knots
        self.base, self.bias, self.outside, self.scale = base, bias, outside, scale

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"coefficients": (self.outputs, self.inputs, self.n + self.degree)}
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

    def forward(self, parameters: Parameters, data: Tensor, space: JetSpace) -> tuple[Tensor, SplineFeatures]:
        features = spline_features(
            data.detach(), space, self.n, self.degree, knots=self.knots, outside=self.outside, base=self.base
        )
        weights = parameters["coefficients"]
        if self.base:
            weights = weights * parameters["spline_scale"][..., None]
        out = _Contract.apply(data, self._windows(weights), features, space)
        if self.base:
            silu = Jet(space, data).compose(silu_derivatives(data[0], space.order)).data
            out = out + silu @ parameters["base_weight"].T
        if self.bias:
            out = torch.cat([out[:1] + parameters["bias"], out[1:]])
        return out, features

    def jacobian(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, out: Tensor) -> None:
        points = cotangent.shape[1]
        width = self.n + self.degree
        edges = self.outputs * self.inputs
        # ∂r_n/∂(effective coefficients w_s·W): zero but for the k + 1 at work on each edge.
        block = out[:, : edges * width].view(points, self.outputs, self.inputs * width)
        local = _local_products(features, cotangent)
        block.zero_().scatter_(2, self._columns(features).expand_as(local), local)
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
        cells = features.rows.view(-1, self.inputs) - torch.arange(self.inputs, device=features.rows.device) * self.n
        return Support(cells, self.degree + 1, self.n + self.degree, self.outputs)

    def local_jacobian(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor) -> Tensor:
        if self.base or self.bias:
            return super().local_jacobian(parameters, features, cotangent)
        return _local_products(features, cotangent)

    def jvp(self, parameters: Parameters, features: SplineFeatures, cotangent: Tensor, tangent: Parameters) -> Tensor:
        weights = tangent["coefficients"]
        if self.base:
            weights = weights * parameters["spline_scale"][..., None]
            weights = weights + parameters["coefficients"] * tangent["spline_scale"][..., None]
        windows, by_point = self._windows(weights), cotangent.permute(1, 0, 2)
        total = cotangent.new_empty(cotangent.shape[1])
        for part in _parts(features, windows):
            total[part] = (torch.bmm(features.jets[part], _local(features, windows, part)) * by_point[part]).sum((1, 2))
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
        by_point = scaled.permute(1, 0, 2).contiguous()
        windows = scaled.new_zeros(self.inputs * self.n, self.degree + 1, self.outputs)
        flat = windows.view(len(windows), -1)
        for part in _parts(features, windows):
            rows = features.rows[part.start * self.inputs : part.stop * self.inputs]
            products = torch.bmm(features.jets[part].transpose(1, 2), by_point[part])
            flat.index_add_(0, rows, products.view(len(rows), -1))
        by_edge = windows.view(self.inputs, self.n, self.degree + 1, self.outputs).permute(3, 0, 1, 2)
        effective = scaled.new_zeros(self.outputs, self.inputs, self.n + self.degree)
        for r in range(self.degree + 1):
            effective[..., r : r + self.n] += by_edge[..., r]
        out = {"coefficients": effective}
        if self.base:
            assert features.silu is not None
            out["coefficients"] = effective * parameters["spline_scale"][..., None]
            out["spline_scale"] = (effective * parameters["coefficients"]).sum(-1)
            out["base_weight"] = scaled.flatten(0, 1).T @ features.silu.flatten(0, 1)
        if self.bias:
            out["bias"] = scaled[0].sum(0)
        return out

    def _windows(self, weights: Tensor) -> Tensor:
        """The k + 1 effective coefficients at work on each interval, `[in·n, k + 1, out]`."""
        windows = weights.unfold(-1, self.degree + 1, 1).permute(1, 2, 3, 0)  # (in, n, k+1, out)
        return windows.reshape(self.inputs * self.n, self.degree + 1, self.outputs)

    def _columns(self, features: SplineFeatures) -> Tensor:
        """Where the coefficients at work stand among the in·(n + k) of one output, `[N, 1, in·(k + 1)]`."""
        device = features.rows.device
        # Rows are p·n + m; the first coefficient at work on interval m of input p stands at p·(n + k) + m.
        first = features.rows.view(-1, self.inputs) + torch.arange(self.inputs, device=device) * self.degree
        return (first[..., None] + torch.arange(self.degree + 1, device=device)).view(len(first), 1, -1)

    def constants(self) -> dict[str, np.ndarray]:
        return {"knots": np.asarray(splines.knot_vector(self.knots, self.n, self.degree))}

    def attributes(self) -> dict[str, Any]:
        return {"grid": self.n, "degree": self.degree, "spacing": self.knots, "outside": self.outside}

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
        if self.n % 2:
            return None
        coarser = copy(self)
        coarser.n = self.n // 2
        return coarser

    def nesting(self) -> dict[str, Nesting]:
        if self.knots == "uniform":
            return {"coefficients": dyadic_nesting(self.n, self.degree)}
        coarse, fine = (splines.knot_vector(self.knots, n, self.degree) for n in (self.n, 2 * self.n))
        return {"coefficients": knot_insertion(coarse, fine, self.degree)}


@dataclass
class SplineOptions(ABC):
    """A network of spline activations on every edge, on exactly nested grids, in whatever basis its layers use.

    Attributes:
        width: Hidden widths, one per hidden layer.
        degree: Spline degree k, 1 … 7; at least one above the highest derivative order a problem uses.
        grid: Spline intervals per edge on the coarsest level.
        first: What the first layer is: spline, or linear (a matrix without bias, as Southworth et al. 2026, sec. 5).
        knots: Spacing of the knots: uniform or cosine (closer towards both ends).
        base: Add SiLU base terms and spline scales as Liu et al. 2024.
        bias: Add a bias to each spline layer (splines already contain the constants).
        squash: What keeps hidden values inside the knots: tanh, sin or none.
        outside: What happens to inputs outside the knots: extrapolate, clamp or error.
        scale: Size of the random splines at the start.
        embedding: How coordinates enter.
    """

    width: list[int] = field(default_factory=lambda: [5, 5])
    degree: int = 5
    grid: int = 4
    first: str = "spline"
    knots: str = "uniform"
    base: bool = False
    bias: bool = False
    squash: str = "tanh"
    outside: str = "extrapolate"
    scale: float = 0.5
    embedding: EmbeddingOptions = field(default_factory=EmbeddingOptions)

    def __post_init__(self) -> None:
        check_width(self.width)
        splines.check_options("backbone", self.grid, self.degree, self.outside)
        if self.squash not in SQUASHES:
            raise unknown_choice("backbone.squash", self.squash, SQUASHES)
        if self.first not in FIRST:
            raise unknown_choice("backbone.first", self.first, FIRST)
        if self.first == "linear" and not self.width:
            raise invalid("backbone.width", self.width, "at least one hidden width with backbone.first=linear")
        if self.knots not in splines.KNOTS:
            raise unknown_choice("backbone.knots", self.knots, splines.KNOTS)
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise invalid("backbone.scale", self.scale, "a number above 0")

    @abstractmethod
    def layer(self, inputs: int, outputs: int) -> Layer:
        """One layer of splines on the coarsest level."""

    @abstractmethod
    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level.

        Args:
            embedding: From `EmbeddingOptions.build`.
            outputs: Number of unknowns.

        Returns:
            The backbone, without parameters.
        """

    def check_order(self, order: int) -> None:
        """Refuse a degree too low for a problem's derivatives.

        Args:
            order: The highest derivative order the problem uses.

        Raises:
            UserError: If the spline's derivative of that order would jump at the knots.
        """
        if self.degree < order + 1:
            raise invalid(
                "backbone.degree",
                self.degree,
                f"at least {order + 1} (the problem uses derivatives of order {order}, which must be continuous)",
            )

    def splines(self, inputs: int, outputs: int) -> SplineLayer:
        """A layer of B-splines on the coarsest level, with these options."""
        return SplineLayer(
            inputs,
            outputs,
            self.grid,
            self.degree,
            knots=self.knots,
            base=self.base,
            bias=self.bias,
            outside=self.outside,
            scale=self.scale,
        )

    def stack(self, embedding: Embedding, outputs: int, products: Sequence[int] = ()) -> Backbone:
        """Layers of splines on top of each other, on the coarsest level.

        Args:
            embedding: What the first layer sees.
            outputs: Width of the output.
            products: Multiplication nodes beside the `width` in each hidden layer; none if empty.

        Returns:
            The backbone, without parameters.
        """
        layers: list[Layer] = []
        inputs = embedding.width
        for k, (width, many) in enumerate(zip(self.width, products or [0] * len(self.width), strict=True)):
            layers.append(self._layer(k, inputs, width + 2 * many))
            if many:
                layers.append(Multiply(width, many))
            if self.squash != "none":
                layers.append(Activation(self.squash))
            inputs = width + many
        layers.append(self._layer(len(self.width), inputs, outputs))
        return Backbone(embedding, layers, grid=self.grid)

    def _layer(self, k: int, inputs: int, outputs: int) -> Layer:
        """Layer k of the network."""
        if k == 0 and self.first == "linear":
            return Linear(inputs, outputs, bias=False)
        return self.layer(inputs, outputs)


@dataclass
class Kan(SplineOptions):
    """Kolmogorov–Arnold network: B-splines on every edge, on exactly nested grids."""

    def layer(self, inputs: int, outputs: int) -> SplineLayer:
        """One layer of B-splines on the coarsest level."""
        return self.splines(inputs, outputs)

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level; see `SplineOptions.build`."""
        return self.stack(embedding, outputs)


def check_width(width: list[int]) -> None:
    """Refuse hidden widths that are not positive; raises UserError."""
    if any(w < 1 for w in width):
        raise invalid("backbone.width", list(width), "hidden widths of at least 1, such as [5,5]")
