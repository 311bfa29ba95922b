"""Splines on the edges of a layer: evaluated with all derivatives, summed over inputs, and their cotangents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.jets.cotangents import chain_cotangent
from kanpinn.jets.functions import silu_derivatives
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.splines import bspline, piecewise


class SplineFeatures(NamedTuple):
    """Places of inputs among the knots, and their jets in the local coordinate s, points last.

    Attributes:
        space: The derivatives carried.
        rows: Number of the input p and the interval m, p·n + m, int64 `[in, N]`.
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

    def cells(self, n: int) -> Tensor:
        """Interval of every input among n, `[N, in]`."""
        return self.rows.T - torch.arange(0, len(self.rows) * n, n, device=self.rows.device)

    def at(self, points: Tensor) -> SplineFeatures:
        """Those at some points, int64 `[n]`, without what only backward passes and base terms need."""
        return self._each(lambda values: piecewise.taken(values, points))

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
    data: Tensor, space: JetSpace, n: int, degree: int, *, knots: bspline.Spacing, outside: str, base: bool
) -> SplineFeatures:
    """Find the intervals of input jets `[C, N, in]`, detached, and the factors of Faà di Bruno's formula.

    There are n intervals on [−1, 1] for splines of a degree; `base` asks for the jets of SiLU too.
    """
    across = data.transpose(1, 2).contiguous()
    if knots == "uniform":
        cell, s, slope = bspline.locate(across[0], n, outside=outside)
    else:
        cell, s, slope = bspline.locate_on(across[0], bspline.knot_vector(knots, n, degree), degree, outside=outside)
    rows = cell.add_(torch.arange(0, data.shape[2] * n, n, device=cell.device)[:, None])
    jet = Jet(space, across * slope)
    jet.data[0] = s
    monomials = tuple(tuple(jet.monomial(terms) for terms in by_order) for by_order in space.chain)
    silu = Jet(space, data).compose(silu_derivatives(data[0], space.order)).data if base else None
    return SplineFeatures(space, rows, jet.data, slope, monomials, silu)


BLOCK_BYTES = {"cpu": 2**23, "cuda": 2**28}
"""Memory for the coefficients at work at some points: bounded, but large enough that few calls do much.

On a CPU, time hardly depends on it from 2²¹ bytes up; smaller blocks are slower."""


def blocks_of_points(features: SplineFeatures, degree: int, outputs: int) -> list[slice]:
    """The points in slices whose coefficients at work, k + 1 on every edge, fit into `BLOCK_BYTES`."""
    inputs, points = features.rows.shape
    each = inputs * (degree + 1) * outputs * features.jets.element_size()
    size = max(32, BLOCK_BYTES.get(features.jets.device.type, 2**23) // each)
    return [slice(start, min(start + size, points)) for start in range(0, points, size)]


def edge_derivatives(features: SplineFeatures, table: Tensor, order: int) -> Tensor:
    """Every edge's function with its derivatives by s, `[order + 1, out, in, N]`."""
    return piecewise.derivatives(piecewise.gather(table, features.rows), features.s, order)


def sum_over_inputs(features: SplineFeatures, edges: Tensor, out: Tensor) -> None:
    """Carry the jets of s through edges `[order + 1, out, in, N]`, add up over inputs, write `[C, out, N]`."""
    by_order = edges.unbind(0)
    torch.sum(by_order[0], 1, out=out[0])
    if out.shape[0] > 1:
        terms = by_order[1] * features.jets[1:, None]
        for term, monomials in zip(terms.unbind(0), features.monomials[1:], strict=True):
            for values, monomial in zip(by_order[2:], monomials[1:], strict=False):
                term.addcmul_(values, monomial)
        torch.sum(terms, 2, out=out[1:])


def edge_cotangents(features: SplineFeatures, cotangent: Tensor) -> list[Tensor]:
    """Σ over derivatives carried of λ_a M_{a,d}, the cotangents of every edge's derivatives d = 0 … by s.

    λ is the cotangent `[C, out, N]`. Gives `[out, 1, N]` for d = 0, `[out, in, N]` for each of the others.
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


def contracted(features: SplineFeatures, table: Tensor, *, keep: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Return Σ over inputs of the edges' splines, jets `[C, out, N]`, and what is kept, one per block of points.

    The edges' polynomials by interval are the table `[k + 1, out, in·n]`. With `keep` the edges' derivatives are kept
    for a backward pass, one order more than carried.
    """
    out = features.jets.new_empty(len(features.space), table.shape[1], features.rows.shape[1])
    kept = []
    for block in blocks_of_points(features, table.shape[0] - 1, table.shape[1]):
        part = features.part(block)
        edges = edge_derivatives(part, table, features.space.order + keep)
        sum_over_inputs(part, edges, out[..., block])
        if keep:
            kept.append(edges)
    return out, kept


class Contract(torch.autograd.Function):
    """Σ over inputs of the edges' splines, with the closed-form cotangent of the input jets."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, table: Tensor, features: SplineFeatures) -> Tensor:  # noqa: ARG004
        """Evaluate edges, whose polynomials by interval are `table` `[k + 1, out, in·n]`; returns jets `[C, N, out]`.

        Of the input jets `data` `[C, N, in]` only the place in the graph is used.
        """
        # Derivatives of an edge take the room of its out values where its k + 1 coefficients would do as well.
        keep = ctx.needs_input_grad[0] and table.shape[1] <= 2 * table.shape[0]
        out, ctx.kept = contracted(features, table, keep=keep)
        ctx.save_for_backward(table)
        ctx.features = features
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Pull cotangents `[C, N, out]` back to the input jets and the polynomials."""
        (table,) = ctx.saved_tensors
        features: SplineFeatures = ctx.features
        space = features.space
        cotangent = grad_output.transpose(1, 2).contiguous()
        grad_data = None
        if ctx.needs_input_grad[0]:
            # λ_a f⁽ᵈ⁾, d = 1 … |a| + 1, for every derivative a
            scaled = [cotangent.new_empty(len(name) + 1, *features.rows.shape) for name in space.indices]
            for k, block in enumerate(blocks_of_points(features, table.shape[0] - 1, table.shape[1])):
                edges = ctx.kept[k] if ctx.kept else edge_derivatives(features.part(block), table, space.order + 1)
                for given, found in zip(cotangent[:, :, None, block].unbind(0), scaled, strict=True):
                    torch.sum(edges[1 : found.shape[0] + 1] * given, 1, out=found[..., block])
            by_order = [found.unbind(0) for found in scaled]
            pulled = chain_cotangent(Jet(space, features.jets), lambda a, d: by_order[a][d - 1], features.monomials)
            grad_data = pulled.mul_(features.slope).transpose(1, 2)
        grad_table = None
        if ctx.needs_input_grad[1]:
            n = table.shape[2] // features.rows.shape[0]
            grad_table = table_gradient(features, cotangent, n, table.shape[0] - 1)
        return grad_data, grad_table, None


def table_gradient(features: SplineFeatures, cotangent: Tensor, n: int, degree: int) -> Tensor:
    """Σ over points and derivatives carried of λ ∂(output)/∂(the edges' polynomials), `[k + 1, out, in·n]`.

    λ is the cotangent `[C, out, N]`, n the number of spline intervals, k the degree.
    """
    outputs, inputs = cotangent.shape[1], features.rows.shape[0]
    out = cotangent.new_zeros(degree + 1, outputs, inputs * n)
    for block in blocks_of_points(features, degree, outputs):
        part = features.part(block)
        given = edge_cotangents(part, cotangent[..., block])
        powers = piecewise.power_derivatives(part.s, degree, len(given) - 1)  # (order + 1, k + 1, in, n)
        values = (powers[0][:, None] * given[0]).contiguous()
        for d in range(1, min(len(given), degree + 1)):
            values[d:].addcmul_(powers[d, d:, None], given[d])
        piecewise.scatter_add(out, part.rows, values)
    return out
