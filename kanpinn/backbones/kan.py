"""Kolmogorov–Arnold networks: layers of learned B-splines on the edges, exactly nested under refinement."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn import pieces, splines
from kanpinn.backbones.base import Backbone, Layer, Parameters, Support
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.layers import Activation, Linear, Multiply
from kanpinn.errors import invalid, unknown_choice
from kanpinn.functions import silu_derivatives
from kanpinn.jets import Jet, JetSpace, chain_cotangent
from kanpinn.nesting import Nesting, dyadic_nesting, folded, knot_insertion, periodic_nesting, wrapped

SQUASHES = ("tanh", "sin", "none")
FIRST = ("spline", "linear")


class SplineFeatures(NamedTuple):
    """Where inputs lie among the knots, and their jets in the local coordinate s, points last.

    Attributes:
        space: The derivatives carried.
        rows: Which interval of which input, p·n + m, int64 `[in, N]`.
        jets: The place there, s = (x − middle)/width, and its derivatives, `[C, in, N]`.
        slope: ds/dx, `[in, N]` or a number.
        monomials: Of `JetSpace.chain` at s, by derivative carried and then by order, `[in, N]` each.
        silu: Jets of SiLU at the inputs, `[C, N, in]`, or None.
    """

    space: JetSpace
    rows: Tensor
    jets: Tensor
    slope: Tensor | float
    monomials: tuple[tuple[Tensor, ...], ...]
    silu: Tensor | None

    @property
    def s(self) -> Tensor:
        """The places of the inputs in their intervals, `[in, N]`."""
        return self.jets[0]

    def at(self, points: Tensor) -> SplineFeatures:
        """Those at some points, int64 `[n]`, without what only backward passes and base terms need."""
        return self._each(lambda values: pieces.taken(values, points))

    def part(self, block: slice) -> SplineFeatures:
        """Those at the points of a block, likewise."""
        whole = block.start == 0 and block.stop == self.rows.shape[1]
        return self if whole else self._each(lambda values: values[..., block])

    def _each(self, select: Callable[[Tensor], Tensor]) -> SplineFeatures:
        jets = select(self.jets)
        # A derivative's first monomial is the jets' own entry.
        monomials = tuple(
            (first, *map(select, by_order[1:])) if a else ()
            for a, (first, by_order) in enumerate(zip(jets.unbind(0), self.monomials, strict=True))
        )
        return SplineFeatures(self.space, select(self.rows), jets, math.nan, monomials, None)


def spline_features(
    data: Tensor, space: JetSpace, n: int, degree: int, *, knots: str, outside: str, base: bool
) -> SplineFeatures:
    """Find the intervals of the inputs and the factors of Faà di Bruno's formula.

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
    across = data.transpose(1, 2).contiguous()
    if knots == "uniform":
        cell, s, slope = splines.locate(across[0], n, outside=outside)
    else:
        cell, s, slope = splines.locate_on(across[0], splines.knot_vector(knots, n, degree), degree, outside=outside)
    rows = cell.add_(torch.arange(0, data.shape[2] * n, n, device=cell.device)[:, None])
    jet = Jet(space, across * slope)
    jet.data[0] = s
    monomials = tuple(tuple(jet.monomial(terms) for terms in by_order) for by_order in space.chain)
    silu = Jet(space, data).compose(silu_derivatives(data[0], space.order)).data if base else None
    return SplineFeatures(space, rows, jet.data, slope, monomials, silu)


BLOCK_BYTES = {"cpu": 2**23, "cuda": 2**28}
"""Memory for the coefficients at work at some points: bounded, but large enough that few calls do much.

On a CPU, time hardly depends on it from 2²¹ bytes up; smaller blocks are slower."""


def _blocks(features: SplineFeatures, degree: int, outputs: int) -> list[slice]:
    """The points in slices whose coefficients at work, k + 1 on every edge, fit into `BLOCK_BYTES`."""
    inputs, points = features.rows.shape
    each = inputs * (degree + 1) * outputs * features.jets.element_size()
    size = max(32, BLOCK_BYTES.get(features.jets.device.type, 2**23) // each)
    return [slice(start, min(start + size, points)) for start in range(0, points, size)]


def _edges(features: SplineFeatures, table: Tensor, order: int) -> Tensor:
    """Every edge's function with its derivatives by s, `[order + 1, out, in, N]`."""
    return pieces.derivatives(pieces.gather(table, features.rows), features.s, order)


def _summed(features: SplineFeatures, edges: Tensor, out: Tensor) -> None:
    """Carry the jets of s through edges `[order + 1, out, in, N]`, add up over inputs, write `[C, out, N]`."""
    by_order = edges.unbind(0)
    torch.sum(by_order[0], 1, out=out[0])
    if out.shape[0] > 1:
        terms = by_order[1] * features.jets[1:, None]
        for term, monomials in zip(terms.unbind(0), features.monomials[1:], strict=True):
            for values, monomial in zip(by_order[2:], monomials[1:], strict=False):
                term.addcmul_(values, monomial)
        torch.sum(terms, 2, out=out[1:])


def _edge_cotangents(features: SplineFeatures, cotangent: Tensor) -> list[Tensor]:
    """Σ over derivatives carried of λ_a M_{a,d}, the cotangents of every edge's derivatives d = 0 … by s.

    Args:
        features: From `spline_features`.
        cotangent: λ, `[C, out, N]`.

    Returns:
        `[out, 1, N]` for d = 0, `[out, in, N]` for each of the others.
    """
    value, *rest = cotangent[:, :, None].unbind(0)
    totals: list[Tensor] = [value]
    for given, monomials in zip(rest, features.monomials[1:], strict=True):
        for d, monomial in enumerate(monomials, start=1):
            if d == len(totals):
                totals.append(given * monomial)
            else:
                totals[d].addcmul_(given, monomial)
    return totals


class _Contract(torch.autograd.Function):
    """Σ over inputs of the edges' splines, with the closed-form cotangent of the input jets."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, table: Tensor, features: SplineFeatures) -> Tensor:
        """Evaluate edges.

        Args:
            ctx: Autograd's own.
            data: Input jets `[C, N, in]` (only their place in the graph is used).
            table: The edges' polynomials by interval, `[k + 1, out, in·n]`.
            features: From `spline_features`.

        Returns:
            Output jets `[C, N, out]`.
        """
        order = features.space.order
        out = data.new_empty(len(features.space), table.shape[1], features.rows.shape[1])
        # Derivatives of an edge take the room of its out values where its k + 1 coefficients would do as well.
        keep = ctx.needs_input_grad[0] and table.shape[1] <= 2 * table.shape[0]
        blocks, kept = _blocks(features, table.shape[0] - 1, table.shape[1]), []
        for block in blocks:
            part = features.part(block)
            edges = _edges(part, table, order + keep)
            _summed(part, edges, out[..., block])
            if keep:
                kept.append(edges)
        ctx.save_for_backward(table)
        ctx.features, ctx.blocks, ctx.kept = features, blocks, kept
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        """Pull cotangents `[C, N, out]` back to the input jets and the polynomials."""
        (table,) = ctx.saved_tensors
        features: SplineFeatures = ctx.features
        space = features.space
        cotangent = grad_output.transpose(1, 2).contiguous()
        grad_data = None
        if ctx.needs_input_grad[0]:
            # λ_a f⁽ᵈ⁾, d = 1 … |a| + 1, for every derivative a
            scaled = [cotangent.new_empty(len(name) + 1, *features.rows.shape) for name in space.indices]
            for k, block in enumerate(ctx.blocks):
                edges = ctx.kept[k] if ctx.kept else _edges(features.part(block), table, space.order + 1)
                for given, found in zip(cotangent[:, :, None, block].unbind(0), scaled, strict=True):
                    torch.sum(edges[1 : found.shape[0] + 1] * given, 1, out=found[..., block])
            by_order = [found.unbind(0) for found in scaled]
            pulled = chain_cotangent(Jet(space, features.jets), lambda a, d: by_order[a][d - 1], features.monomials)
            grad_data = pulled.mul_(features.slope).transpose(1, 2)
        grad_table = None
        if ctx.needs_input_grad[1]:
            n = table.shape[2] // features.rows.shape[0]
            grad_table = _table_gradient(features, cotangent, n, table.shape[0] - 1)
        return grad_data, grad_table, None


def _table_gradient(features: SplineFeatures, cotangent: Tensor, n: int, degree: int) -> Tensor:
    """Σ over points and derivatives carried of λ ∂(output)/∂(the edges' polynomials).

    Args:
        features: From `spline_features`.
        cotangent: λ, `[C, out, N]`.
        n: Spline intervals.
        degree: Spline degree k.

    Returns:
        `[k + 1, out, in·n]`.
    """
    outputs, inputs = cotangent.shape[1], features.rows.shape[0]
    out = cotangent.new_zeros(degree + 1, outputs, inputs * n)
    for block in _blocks(features, degree, outputs):
        part = features.part(block)
        given = _edge_cotangents(part, cotangent[..., block])
        powers = pieces.power_derivatives(part.s, degree, len(given) - 1)  # (order + 1, k + 1, in, n)
        values = (powers[0][:, None] * given[0]).contiguous()
        for d in range(1, min(len(given), degree + 1)):
            values[d:].addcmul_(powers[d, d:, None], given[d])
        pieces.scatter_add(out, part.rows, values)
    return out


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
        out = _Contract.apply(data, self._table(parameters), features)
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
        across = pieces.taken(cotangent.transpose(1, 2), order)
        return self._local_products(features.at(order), across)

    def _local_products(self, features: SplineFeatures, across: Tensor) -> Tensor:
        """∂r_n/∂(the effective coefficients at work), `[N, out, in·(k + 1)]`, from cotangents `[C, out, N]`."""
        points = across.shape[2]
        out = across.new_empty(self.outputs, self.inputs, self.degree + 1, points)
        for block in _blocks(features, self.degree, self.outputs):
            part, here = features.part(block), out[..., block]
            cells = part.rows if self.knots == "uniform" else part.rows % self.n
            basis = pieces.basis_derivatives(cells, part.s, self.knots, self.n, self.degree, features.space.order)
            first, *rest = basis.transpose(1, 2).unbind(0)  # (in, k + 1, n) each
            given = [weight[:, :, None] for weight in _edge_cotangents(part, across[..., block])]
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
        for block in _blocks(features, self.degree, self.outputs):
            part = features.part(block)
            _summed(part, _edges(part, table, features.space.order), out[..., block])
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
        gradient = _table_gradient(features, scaled.transpose(1, 2), self.n, self.degree)
        effective = pieces.from_pieces(gradient, self.knots, self.n, self.degree)
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
        return pieces.to_pieces(extended, self.knots, self.n, self.degree)

    def constants(self) -> dict[str, np.ndarray]:
        if self.periodic:  # one period of them
            return {"knots": np.linspace(-1, 1, self.n + 1)}
        return {"knots": np.asarray(splines.knot_vector(self.knots, self.n, self.degree))}

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

    one_coordinate: ClassVar[bool] = False
    """Whether first layers see one coordinate each."""

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

    def splines(self, inputs: int, outputs: int, *, periodic: bool = False) -> SplineLayer:
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
            periodic=periodic,
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
        periodic = any(embedding.around(name) for name in embedding.domain.names)
        if not self.one_coordinate:
            embedding.refuse_splines()
        layers: list[Layer] = []
        inputs = embedding.width
        for k, (width, many) in enumerate(zip(self.width, products or [0] * len(self.width), strict=True)):
            layers.append(self._layer(k, inputs, width + 2 * many, periodic=k == 0 and periodic))
            if many:
                layers.append(Multiply(width, many))
            if self.squash != "none":
                layers.append(Activation(self.squash))
            inputs = width + many
        layers.append(self._layer(len(self.width), inputs, outputs, periodic=not self.width and periodic))
        return Backbone(embedding, layers, grid=self.grid)

    def _layer(self, k: int, inputs: int, outputs: int, *, periodic: bool) -> Layer:
        """Layer k of the network."""
        if periodic:
            return self.splines(inputs, outputs, periodic=True)
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
