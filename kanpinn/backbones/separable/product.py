"""Products over coordinates: values that points share in each, one-dimensional values to jets, cotangents back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.jets.jet import JetSpace

MOST_PIECES = 64
"""Pieces above which points count as scattered."""


def distinct(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Find equal rows of `[N, width]`: the position of one row of each kind, `[n]`, and which kind each row is, `[N]`.

    All rows count as different where fewer than half of them could be spared.
    """
    every = torch.arange(len(columns), device=columns.device)
    values, kind = torch.unique(columns[:, 0], return_inverse=True)
    for column in columns.T[1:]:
        others, other = torch.unique(column, return_inverse=True)
        values, kind = torch.unique(kind * len(others) + other, return_inverse=True)
    if 2 * len(values) > len(columns):
        return every, every
    return every.new_empty(len(values)).scatter_(0, kind, every), kind


@dataclass(frozen=True)
class Piece:
    """Points that combine each of some kinds of value in one coordinate with each of some in another, equally often.

    Attributes:
        first: Kinds in the one coordinate, ascending, `[g]`.
        second: Kinds in the other, ascending, `[h]`.
        points: The points that have both, `[g, h, ρ]`.
    """

    first: Tensor
    second: Tensor
    points: Tensor


def pieces(first: Tensor, second: Tensor) -> list[Piece] | None:
    """Take points apart into products of values, by the kind of each in two coordinates, int64 `[N]`.

    The kinds of the one coordinate that occur with the same kinds of the other, each as often, make a piece: a tensor
    grid is one piece, the four sides of a rectangle are two. Pieces hold every point once; None for more than
    `MOST_PIECES`.
    """
    height = int(second.max()) + 1
    key, order = torch.sort(first * height + second, stable=True)
    pairs, often = torch.unique_consecutive(key, return_counts=True)
    starts = torch.cumsum(often, 0) - often
    # Runs of pairs with one first kind and one multiplicity; within them the second kind ascends.
    pairs, by = torch.sort((often * (int(first.max()) + 1) + pairs // height) * height + pairs % height)
    often, starts = often[by], starts[by]
    other = pairs % height
    runs, inverse, length = torch.unique_consecutive(pairs // height, return_inverse=True, return_counts=True)
    ends = torch.cumsum(length, 0)
    generator = torch.Generator("cpu").manual_seed(0)
    codes = torch.randint(2**62, (height,), generator=generator, device="cpu").to(first.device)
    signature = torch.zeros_like(runs).index_add_(0, inverse, codes[other])  # integers may overflow
    alike, group = torch.unique(torch.stack([often[ends - 1], length, signature], 1), dim=0, return_inverse=True)
    if len(alike) > MOST_PIECES:
        return None
    found = []
    for k, (many, count, _) in enumerate(alike.tolist()):
        members = torch.nonzero(group == k)[:, 0]
        index = (ends - length)[members, None] + torch.arange(count, device=first.device)
        seconds = other[index]
        if not torch.equal(seconds, seconds[:1].expand_as(seconds)):  # two signatures alike by chance
            return None
        points = order[starts[index][..., None] + torch.arange(many, device=first.device)]
        found.append(Piece(runs[members] % (int(first.max()) + 1), seconds[0], points))
    return found


@dataclass
class SharedValues:
    """Points that share values, coordinate by coordinate.

    Attributes:
        points: `[N, d]`.
        kinds: Per coordinate, the position of one point of each kind `[n]` and which kind each point is `[N]`; see
            `distinct`.
    """

    points: Tensor
    kinds: list[tuple[Tensor, Tensor]] = field(init=False)
    _known: dict[tuple[int, int], list[Piece] | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.kinds = [distinct(column[:, None]) for column in self.points.T]

    def counts(self) -> list[int]:
        """The number of kinds per coordinate, as many as points where these hardly share any."""
        return [len(first) for first, _ in self.kinds]

    def pieces(self, i: int, j: int) -> list[Piece] | None:
        """`pieces` of coordinates i and j, remembered; of coordinate i alone, h = 1, where they are the same."""
        if (i, j) not in self._known:
            kind = self.kinds[i][1]
            self._known[i, j] = pieces(kind, torch.zeros_like(kind) if i == j else self.kinds[j][1])
        return self._known[i, j]


class Line(NamedTuple):
    """One coordinate's distinct values among some points.

    Attributes:
        space: The derivatives by that coordinate alone.
        data: The factor network's inputs at the distinct values, `[C_i, n_i, width]`.
        index: Number of each point's value, int64 `[N]`.
        prepared: `Layer.prepare` of the network's first layer at them.
    """

    space: JetSpace
    data: Tensor
    index: Tensor
    prepared: Any


class Product(NamedTuple):
    """Sum of products of the factor networks' values: y_k = Σ_r Π_i f_i[k·terms + r].

    Attributes:
        orders: Per derivative carried, its order in each coordinate.
        indices: `Line.index` per coordinate.
        outputs: Number of outputs.
        terms: Terms per output.
    """

    orders: tuple[tuple[int, ...], ...]
    indices: tuple[Tensor, ...]
    outputs: int
    terms: int


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
    """Pull cotangents `[C, N, outputs]` back to every coordinate's values at every point.

    Values are `[C_i, n_i, outputs·terms]` by coordinate, the result `[C_i, N, outputs·terms]`.
    """
    seeds = [v.new_empty(v.shape[0], cotangent.shape[1], v.shape[2]) for v in values]
    for part in _parts(product, values):
        found = _cotangents(product, _factors(product, values, part), cotangent[:, part])
        for seed, here in zip(seeds, found, strict=True):
            seed[:, part] = here
    return seeds


class SumOfProducts(torch.autograd.Function):
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
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Pull the cotangent `[C, N, outputs]` back to the values of every coordinate."""
        product, values = ctx.product, ctx.saved_tensors
        out = [torch.zeros_like(v) for v in values]
        for part in _parts(product, values):
            found = _cotangents(product, _factors(product, values, part), grad_output[:, part])
            for total, index, here in zip(out, product.indices, found, strict=True):
                total.index_add_(1, index[part], here)
        return None, *out
