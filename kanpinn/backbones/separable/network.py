"""Separable networks: sums of products of one-dimensional Kolmogorov–Arnold networks, one body per coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.backbones.base import Backbone, Layer, Parameters, Support, Tape
from kanpinn.backbones.composite import Composite
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.kan import SplineOptions
from kanpinn.backbones.layers import Linear
from kanpinn.backbones.separable.tensor_product_points import distinct
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.errors import invalid, unknown_choice
from kanpinn.jets.jet import JetSpace
from kanpinn.splines.fit import fit

LAST = ("sum", "linear")
STARTS = ("random", "legendre")

LEGENDRE = 10.0
"""Size of the time's functions that begin as Legendre polynomials: least-squares steps that are kept short then change
the functions of space, in which the network is linear, by a hundred times as much as those of time."""


class Line(NamedTuple):
    """One coordinate's distinct values among some points.

    Attributes:
        space: The derivatives by that coordinate alone.
        data: The body's inputs at the distinct values, `[C_i, n_i, width]`.
        index: Which of them each point has, int64 `[N]`.
        prepared: What the body's first layer's `Layer.prepare` says about them.
    """

    space: JetSpace
    data: Tensor
    index: Tensor
    prepared: Any


class Product(NamedTuple):
    """How the bodies' values make the outputs: y_k = Σ_r Π_i f_i[k·terms + r].

    Attributes:
        orders: Per derivative carried, how often it differentiates by each coordinate.
        indices: `Line.index` per coordinate.
        outputs: Number of outputs.
        terms: Terms per output.
    """

    orders: tuple[tuple[int, ...], ...]
    indices: tuple[Tensor, ...]
    outputs: int
    terms: int


class Features(NamedTuple):
    """What `Factors.jacobian` needs: each coordinate's line and its body's values `[C_i, n_i, outputs·terms]`."""

    lines: list[Line]
    values: list[Tensor]
    product: Product


PART_BYTES = 2**20
"""Memory for the factors at some points, which a CPU's cache holds."""


def _parts(product: Product, values: Sequence[Tensor]) -> list[slice]:
    """The points in slices whose factors fit into `PART_BYTES`."""
    points = len(product.indices[0])
    each = sum(v.shape[0] * v.shape[2] * v.element_size() for v in values)
    size = max(32, PART_BYTES // each)
    return [slice(start, min(start + size, points)) for start in range(0, points, size)]


def _factors(product: Product, values: Sequence[Tensor], part: slice) -> list[Tensor]:
    """Each coordinate's values at some points, `[C_i, n, outputs·terms]`."""
    return [v.index_select(1, index[part]) for v, index in zip(values, product.indices, strict=True)]


def _cotangents(product: Product, factors: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    """Pull cotangents `[C, n, outputs]` back to each coordinate's values `[C_i, n, outputs·terms]`."""
    out = [torch.zeros_like(factor) for factor in factors]
    for orders, here in zip(product.orders, cotangent.repeat_interleave(product.terms, dim=-1), strict=True):
        for i, d in enumerate(orders):
            rest = here
            for j, e in enumerate(orders):
                if j != i:
                    rest = rest * factors[j][e]
            out[i][d] += rest
    return out


def pulled_back(product: Product, values: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    """Pull cotangents of the outputs back to every coordinate's values at every point.

    Args:
        product: How values make outputs.
        values: By coordinate, `[C_i, n_i, outputs·terms]`.
        cotangent: `[C, N, outputs]`.

    Returns:
        By coordinate, `[C_i, N, outputs·terms]`.
    """
    seeds = [v.new_empty(v.shape[0], cotangent.shape[1], v.shape[2]) for v in values]
    for part in _parts(product, values):
        found = _cotangents(product, _factors(product, values, part), cotangent[:, part])
        for seed, here in zip(seeds, found, strict=True):
            seed[:, part] = here
    return seeds


class _SumOfProducts(torch.autograd.Function):
    """Products over coordinates, summed over terms; each factor knows one coordinate, so derivatives factorise."""

    @staticmethod
    def forward(ctx: Any, product: Product, *values: Tensor) -> Tensor:
        """Values `[C_i, n_i, outputs·terms]` per coordinate to jets `[C, N, outputs]`."""
        ctx.product = product
        ctx.save_for_backward(*values)
        points = len(product.indices[0])
        out = values[0].new_empty(len(product.orders), points, product.outputs)
        for part in _parts(product, values):
            factors = _factors(product, values, part)
            for a, orders in enumerate(product.orders):
                total = factors[0][orders[0]]
                for factor, d in zip(factors[1:], orders[1:], strict=True):
                    total = total * factor[d]
                torch.sum(total.view(len(total), product.outputs, product.terms), dim=-1, out=out[a, part])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Pull the cotangent `[C, N, outputs]` back to the values of every coordinate."""
        product, values = ctx.product, ctx.saved_tensors
        out = [torch.zeros_like(v) for v in values]
        for part in _parts(product, values):
            found = _cotangents(product, _factors(product, values, part), grad_output[:, part])
            for total, index, here in zip(out, product.indices, found, strict=True):
                total.index_add_(1, index[part], here)
        return None, *out


class Factors(Composite):
    """Σ_r Π_i f_r⁽ⁱ⁾(x_i), each coordinate's functions f⁽ⁱ⁾ by a network of its own.

    The separated form of Cho et al. 2023 (SPINN, arXiv:2306.15969, eq. 4) and Jacob et al. 2024 (SPIKAN,
    arXiv:2411.06286), which is the canonical polyadic form of a tensor. A body is evaluated at the distinct values of
    its coordinate only: at the n^d points of a tensor grid it works on n of them.

    Attributes:
        bodies: One network per coordinate, which it embeds as the whole network does.
        outputs: Width of the output.
        terms: Number of products that are added, per output.
        start: What the bodies begin as, one of `STARTS`.
    """

    def __init__(self, bodies: tuple[Backbone, ...], outputs: int, terms: int, start: str = "random") -> None:
        self.bodies = bodies
        self.outputs = outputs
        self.terms = terms
        self.start = start

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        if self.start == "random":
            return super().initial(generator)
        space, time = self.shapes()
        return {space: np.zeros(self.shapes()[space]), time: self._legendre()}

    def _legendre(self) -> np.ndarray:
        """The time's coefficients at the start, `[outputs·terms, 1, n + k]`."""
        layer = _only(self.bodies[1])
        assert layer is not None
        x = torch.linspace(-1, 1, 8 * layer.width + 1, dtype=torch.float64)
        values = np.polynomial.legendre.legvander(x.numpy(), self.terms - 1)
        found = fit(x, torch.from_numpy(values), layer.n, layer.degree).T.numpy()
        return np.ascontiguousarray(np.tile(LEGENDRE * found, (self.outputs, 1))[:, None])

    def resumed(self, parameters: Parameters) -> dict[str, Tensor]:
        """The network that holds, at all times, what this one has at its last time; itself where it cannot be held."""
        if self.start == "random":
            return dict(parameters)
        space, time = self.shapes()
        last = torch.ones(1, 1, 1).to(parameters[time])
        end = self.bodies[1].carry(parameters[time].reshape(-1), last, JetSpace(("t",), ()))  # (1, 1, outputs·terms)
        held = (parameters[space] * end.view(-1, 1, 1)).view(self.outputs, self.terms, -1).sum(1) / LEGENDRE
        first = torch.zeros_like(parameters[space]).view(self.outputs, self.terms, -1)
        first[:, 0] = held
        return {space: first.view_as(parameters[space]), time: torch.from_numpy(self._legendre()).to(last)}

    @property
    def local(self) -> bool:
        """Whether every body is one layer of splines, of whose parameters a point sees few."""
        return all((layer := _only(body)) and not layer.base and not layer.bias for body in self.bodies)

    @property
    def names(self) -> tuple[str, ...]:
        """The coordinates: each has a network."""
        return tuple(body.embedding.domain.names[0] for body in self.bodies)

    def attributes(self) -> dict[str, Any]:
        return {**self.described(), "coordinates": ",".join(self.names), "terms": self.terms}

    @property
    def kept(self) -> int:
        # As if no two points shared a value.
        return sum(layer.kept for body in self.bodies for layer in body.layers) + 3 * len(self.bodies) * self.width

    @property
    def width(self) -> int:
        """Width of every body's output."""
        return self.outputs * self.terms

    def _lines(self, data: Tensor, space: JetSpace) -> list[Line]:
        """Every coordinate's distinct values among points whose embedding is `[C, N, width]`."""
        lines, start = [], 0
        for name, body in zip(self.names, self.bodies, strict=True):
            columns = slice(start, start + body.embedding.width)
            start = columns.stop
            order = max(index.count(name) for index in space.indices)
            channels = [space.position(name * d) for d in range(order + 1)]
            # Mirrored points share their folded input, but not its slope.
            telling = channels[:2] if body.embedding.symmetry else channels[:1]
            first, index = distinct(data[telling][..., columns].detach().movedim(0, 1).flatten(1))
            own = data[channels][:, first, columns]
            alone = JetSpace((name,), (name * order,) if order else ())
            lines.append(Line(alone, own, index, body.layers[0].prepare(own, alone)))
        return lines

    def prepare(self, data: Tensor, space: JetSpace) -> list[Line]:
        return self._lines(data.detach(), space)

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Features]:
        lines = self._lines(data, space) if prepared is None else prepared
        values = [
            body.carry(theta, line.data, line.space, prepared=line.prepared)
            for body, theta, line in zip(self.bodies, self.thetas(parameters), lines, strict=True)
        ]
        orders = tuple(tuple(index.count(name) for name in self.names) for index in space.indices)
        product = Product(orders, tuple(line.index for line in lines), self.outputs, self.terms)
        lines = [line._replace(data=line.data.detach()) for line in lines]
        return _SumOfProducts.apply(product, *values), Features(lines, [v.detach() for v in values], product)

    def jacobian(self, parameters: Parameters, features: Features, cotangent: Tensor, out: Tensor) -> None:
        lines, values, product = features
        seeds = pulled_back(product, values, cotangent)
        start = 0
        for body, theta, line, seed in zip(self.bodies, self.thetas(parameters), lines, seeds, strict=True):
            _body_jacobian(body, theta, line, seed, out[:, start : start + body.size])
            start += body.size

    def supports(self, features: Features) -> list[Support | int]:
        found: list[Support | int] = []
        for body, line in zip(self.bodies, features.lines, strict=True):
            layer = _only(body)
            alone = layer and layer.support(line.prepared)
            found.append(alone.at(line.index) if alone else body.size)
        return found

    def local_jacobians(
        self, parameters: Parameters, features: Features, cotangent: Tensor, order: Tensor
    ) -> list[Tensor]:
        lines, values, product = features
        seeds = pulled_back(product, values, cotangent)
        found = []
        for body, theta, line, seed in zip(self.bodies, self.thetas(parameters), lines, seeds, strict=True):
            layer = _only(body)
            if layer and layer.support(line.prepared):
                (own,) = body.arrays(theta)
                found.append(layer.local_jacobian(own, line.prepared.at(line.index), seed, order))
                continue
            block = seed.new_empty(len(order), body.size)
            _body_jacobian(body, theta, line, seed, block)
            found.append(block[order])
        return found

    def jvp(self, parameters: Parameters, features: Features, cotangent: Tensor, tangent: Parameters) -> Tensor:
        lines, values, product = features
        seeds = pulled_back(product, values, cotangent)
        total = cotangent.new_zeros(cotangent.shape[1])
        for body, theta, change, line, seed in zip(
            self.bodies, self.thetas(parameters), self.thetas(tangent), lines, seeds, strict=True
        ):
            channels, points, width = seed.shape
            count, many = line.data.shape[1], channels * width
            if count * many > points:
                data = line.data[:, line.index]
                total += body.jvp(theta, *_pulled(body, theta, data, line.space, seed), change)
                continue
            # Every value's own change, once per distinct input.
            data, units = _every_unit(line.data, torch.arange(many, device=seed.device), width)
            changes = body.jvp(theta, *_pulled(body, theta, data, line.space, units), change)
            by_value = changes.view(count, channels, width).transpose(0, 1)
            total += (seed * by_value[:, line.index]).sum((0, 2))
        return total

    def vjp(self, parameters: Parameters, features: Features, cotangent: Tensor, weights: Tensor) -> dict[str, Tensor]:
        lines, values, product = features
        found = []
        for body, theta, line, seed in zip(
            self.bodies, self.thetas(parameters), lines, pulled_back(product, values, cotangent), strict=True
        ):
            count = line.data.shape[1]
            sums = seed.new_zeros(seed.shape[0], count, seed.shape[2]).index_add_(
                1, line.index, seed * weights[:, None]
            )
            pulled = _pulled(body, theta, line.data, line.space, sums)
            found.append(body.vjp(theta, *pulled, weights.new_ones(count)))
        shapes = self.shapes()
        parts = torch.cat(found).split([prod(shape) for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def cells(self, embedding: Embedding) -> dict[str, int]:
        return {name: count for body in self.bodies for name, count in body.cells.items()}


def _only(body: Backbone) -> SplineLayer | None:
    """The layer of splines that a network consists of; None for others."""
    layer = body.layers[0]
    return layer if len(body.layers) == 1 and isinstance(layer, SplineLayer) else None


def _body_jacobian(body: Backbone, theta: Tensor, line: Line, seed: Tensor, out: Tensor) -> None:
    """Write Σ_s λ_s ∂f_s/∂θ of one body at every point.

    Args:
        body: The network of one coordinate.
        theta: Its parameters `[P_i]`.
        line: Its distinct inputs.
        seed: λ, the cotangent of its values at every point, `[C_i, N, width]`.
        out: `[N, P_i]`, overwritten.
    """
    channels, points, width = seed.shape
    count, many = line.data.shape[1], channels * width
    if count * many > points:
        body_rows(body, theta, line.data[:, line.index], line.space, seed, out)
        return
    # Every value's own Jacobian, once per distinct input; points with the same input share it.
    known = table(body, theta, line.data, line.space, torch.arange(many, device=seed.device))
    rows = seed.transpose(0, 1).reshape(points, many)
    order = torch.argsort(line.index)
    groups = torch.split(order, torch.bincount(line.index, minlength=count).tolist())
    for block, group in zip(known, groups, strict=True):
        out[group] = rows[group] @ block


def table(body: Backbone, theta: Tensor, data: Tensor, space: JetSpace, units: Tensor) -> Tensor:
    """The Jacobian of some of a body's values by its parameters, value by value.

    Args:
        body: The network of one coordinate.
        theta: Its parameters `[P_i]`.
        data: Its inputs, `[C_i, n, in]`.
        space: The derivatives carried.
        units: Which of the C_i·width values, the derivative's number times width plus the output's, `[m]`.

    Returns:
        `[n, m, P_i]`.
    """
    width = body.carry(theta, data[:, :1], space).shape[2]
    inputs, seed = _every_unit(data, units, width)
    out = data.new_empty(inputs.shape[1], body.size)
    body_rows(body, theta, inputs, space, seed, out)
    return out.view(data.shape[1], len(units), body.size)


def _every_unit(data: Tensor, units: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Every input `[C_i, n, in]` once per unit `[m]`, `[C_i, n·m, in]`, with the seeds that pick it."""
    channels, count, _ = data.shape
    seed = torch.eye(channels * width, dtype=data.dtype, device=data.device)[units]
    seed = seed.view(len(units), channels, width).transpose(0, 1)
    return data.repeat_interleave(len(units), dim=1), seed.repeat(1, count, 1)


def body_rows(body: Backbone, theta: Tensor, data: Tensor, space: JetSpace, seed: Tensor, out: Tensor) -> None:
    """Write the Jacobian of Σ seed·values by a body's parameters, row by row.

    Args:
        body: The network of one coordinate.
        theta: Its parameters `[P_i]`.
        data: Its inputs, `[C_i, n, in]`.
        space: The derivatives carried.
        seed: `[C_i, n, width]`.
        out: `[n, P_i]`, overwritten.
    """
    tape = Tape()
    with torch.enable_grad():
        values = body.carry(theta, data.detach(), space, tape)
        body.jacobian(theta, tape, (values * seed).sum(), out)


def _pulled(
    body: Backbone, theta: Tensor, data: Tensor, space: JetSpace, seed: Tensor
) -> tuple[Tape, tuple[Tensor, ...]]:
    """The tape of a body and the cotangents of Σ seed·values at its layers; arguments as of `body_rows`."""
    tape = Tape()
    with torch.enable_grad():
        values = body.carry(theta, data.detach(), space, tape)
        return tape, body.cotangents(tape, (values * seed).sum())


@dataclass
class Separable(SplineOptions):
    """A sum of products of one-dimensional spline networks (SPIKAN, Jacob et al. 2024, arXiv:2411.06286).

    The remaining options describe each coordinate's body, a `kan` of one input (or two: cos and sin, where periodic
    without symmetry).

    Attributes:
        width: Hidden widths of each body; none for a single layer of splines.
        rank: Number of products that are added.
        last: sum: every unknown has its own products and adds them; linear: all unknowns share them, with weights.
        grids: Spline intervals on the coarsest level of coordinates that have others than `grid`, by name.
        start: What the bodies begin as: "random"; or "legendre" (one space dimension and time, no hidden layers): the
            time's functions are the Legendre polynomials of degrees 0 … rank − 1, or what splines are nearest to them,
            times `LEGENDRE`, and those of space are zero.
    """

    one_coordinate: ClassVar[bool] = True

    width: list[int] = field(default_factory=lambda: [5])
    rank: int = 8
    last: str = "sum"
    grids: dict[str, int] = field(default_factory=dict)
    start: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in STARTS:
            raise unknown_choice("backbone.start", self.start, STARTS)
        if self.start == "legendre" and (self.width or self.base or self.bias or self.knots != "uniform"):
            raise invalid(
                "backbone.start",
                self.start,
                "random, unless backbone.width=[], without base and bias, on uniform knots",
            )
        for name, grid in self.grids.items():
            if isinstance(grid, bool) or not isinstance(grid, int) or grid < 1:
                raise invalid(f"backbone.grids.{name}", grid, "an integer of at least 1")
        if self.rank < 1:
            raise invalid("backbone.rank", self.rank, "an integer of at least 1")
        if self.last not in LAST:
            raise unknown_choice("backbone.last", self.last, LAST)
        if self.embedding.kind == "fourier":
            raise invalid(
                "backbone.embedding.kind", "fourier", "auto, none or periodic (backbone=separable sees one coordinate)"
            )

    def layer(self, inputs: int, outputs: int) -> SplineLayer:
        """One layer of B-splines of a body, on the coarsest level."""
        return self.splines(inputs, outputs)

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level; see `SplineOptions.build`.

        Args:
            embedding: From `EmbeddingOptions.build`.
            outputs: Number of unknowns.

        Returns:
            The backbone, without parameters.

        Raises:
            UserError: If the problem offers further inputs, which belong to no coordinate.
        """
        single = [embedding.alone(name) for name in embedding.domain.names]
        if embedding.width != sum(one.width for one in single):
            raise invalid(
                "backbone.embedding.inputs", "true", "false (backbone=separable has no body for the further inputs)"
            )
        shared = self.last == "linear"
        width = self.rank if shared else self.rank * outputs
        bodies = tuple(self._body(one, width) for one in single)
        self._check(embedding, bodies)
        factors = Factors(bodies, self.rank if shared else outputs, 1 if shared else self.rank, self.start)
        layers: list[Layer] = [factors, Linear(self.rank, outputs, bias=False)] if shared else [factors]
        return Backbone(embedding, layers, grid=self.grid)

    def _body(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network of one coordinate."""
        return replace(self, grid=self.grids.get(embedding.domain.names[0], self.grid)).stack(embedding, outputs)

    def _check(self, embedding: Embedding, bodies: tuple[Backbone, ...]) -> None:
        """Refuse options that do not suit the problem's coordinates."""
        names = embedding.domain.names
        for name in self.grids:
            if name not in names:
                raise unknown_choice("backbone.grids", name, names)
        evolution = len(names) == 2 and names[1] == "t" and "t" not in embedding.periodic
        if self.start == "legendre" and not (evolution and self.last == "sum"):
            raise invalid(
                "backbone.start", self.start, "random, unless coordinates are one of space and t, with last=sum"
            )
        around = [(name, body) for name, body in zip(names, bodies, strict=True) if embedding.around(name)]
        for name, body in around:
            if (body.grid or 0) <= self.degree:
                key = f"backbone.grids.{name}" if name in self.grids else "backbone.grid"
                raise invalid(key, body.grid, f"at least {self.degree + 1} for periodic splines in {name}")
        if around:
            for key, suitable in (("knots", "uniform"), ("first", "spline"), ("base", False)):
                if getattr(self, key) != suitable:
                    value, text = (str(v).lower() for v in (getattr(self, key), suitable))
                    raise invalid(f"backbone.{key}", value, f"{text} with backbone.embedding.periodic=spline")
