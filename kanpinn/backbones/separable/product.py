"""Sums of products over coordinates: values of one-dimensional networks to jets, and cotangents back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.jets.jet import JetSpace


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
