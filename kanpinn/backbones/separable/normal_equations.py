"""Normal equations of separable networks at points that share coordinate values, such as tensor grids, without J.

The algebra is that of `khatri_rao`; here is what its factors are and where they save work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.layers import Linear
from kanpinn.backbones.separable.factors import Factors, factor_rows, table
from kanpinn.backbones.separable.khatri_rao import SLICE_BYTES, Block, CostTable, Cut, Rest, Table
from kanpinn.backbones.separable.product import SharedValues, pulled_back

FEWEST = 8
"""Distinct values that are worth a cut of a table."""

MOST_CUTS = 8


@dataclass(frozen=True)
class Equation:
    """One equation's weighted residuals at one term's points.

    Attributes:
        points: The term's points among all.
        residual: `[n]`, with the graph that leads to the network's outputs.
        shared: The points' shared values, in the order of the factor networks.
        declined: Numbers of the term's equations for which shared values were found to save no work; added to.
        number: The equation's own number.
    """

    points: slice
    residual: Tensor
    shared: SharedValues
    declined: set[int]
    number: int


def is_separable(backbone: Backbone) -> bool:
    """Return whether a network is a sum of products, perhaps with linear layers behind."""
    factors, *behind = backbone.layers
    return isinstance(factors, Factors) and all(isinstance(layer, Linear) for layer in behind)


def products(
    backbone: Backbone, theta: Tensor, tape: Tape, passes: Sequence[Sequence[Equation]], costs: CostTable
) -> tuple[Tensor, Tensor] | None:
    """JᵀJ `[P, P]` and Jᵀr `[P]` of a separable network, a term and an equation at a time; None where J is less work.

    Takes θ `[P]`, the tape of its forward pass, the costs of the device, and equations, none of which compares two
    points, by the backward pass that serves them: those of different points.
    """
    factors = backbone.layers[0]
    assert isinstance(factors, Factors)
    equations = [equation for members in passes for equation in members]
    if _too_many([e for e in equations if e.number in e.declined], equations, factors):
        return None
    if not promises(backbone, list({id(e.shared): e.shared for e in equations}.values())):
        return None
    sums = [sum((e.residual.sum() for e in members), start=theta.new_zeros(())) for members in passes]
    pulled = [backbone.cotangents(tape, total, retain=True) for total in sums]
    blocks = []
    for members, cotangents in zip(passes, pulled, strict=True):
        for e in members:
            place = _Place(backbone, theta, tape.features, [c[:, e.points] for c in cotangents], e.points)
            blocks.append((e, place.block(e, costs)))
    if _too_many([e for e, block in blocks if not block.tables or (factors.local and block.loose)], equations, factors):
        for e, block in blocks:
            if block.loose:
                e.declined.add(e.number)
        return None
    matrix, gradient = theta.new_zeros(len(theta), len(theta)), torch.zeros_like(theta)
    for e, block in blocks:
        block.add(matrix, gradient, e.residual.detach())
    return matrix, gradient


def _too_many(plain: Sequence[Equation], equations: Sequence[Equation], factors: Factors) -> bool:
    """Return whether equations without tables of all factor networks are better left to another way.

    If no equation has any, the whole J is as good. Where all factor networks act locally, `gram_local` does better,
    which is worth a quarter of the points.
    """
    if len(plain) == len(equations):
        return True
    return factors.local and 4 * sum(len(e.residual) for e in plain) > sum(len(e.residual) for e in equations)


def promises(backbone: Backbone, grids: Sequence[SharedValues]) -> bool:
    """Return whether, at a quarter of the points, tables of some factor network could be smaller than its rows of J."""
    factors = backbone.layers[0]
    assert isinstance(factors, Factors)
    promising = [
        len(grid.points) for grid in grids if any(n * factors.width <= len(grid.points) for n in grid.counts())
    ]
    return 4 * sum(promising) >= sum(len(grid.points) for grid in grids)


class _Place:
    """Cotangents of one equation at one term's points, from which the parts of J there are made."""

    def __init__(
        self, backbone: Backbone, theta: Tensor, features: Sequence[Any], cotangents: Sequence[Tensor], where: slice
    ) -> None:
        """Pull the cotangents back to the values of every factor network.

        Takes θ `[P]`, the features of the layers with parameters at all points, the cotangents at their outputs at the
        term's points, `[C, N, out]`, and these points.
        """
        factors, *self.behind = backbone.layers
        assert isinstance(factors, Factors)
        arrays = backbone.arrays(theta)
        self.parameters = arrays[1:]
        lines, values, product = features[0]
        product = product._replace(indices=tuple(index[where] for index in product.indices))
        self.networks, self.lines, self.indices = factors.networks, lines, product.indices
        self.thetas = factors.thetas(arrays[0])
        self.seeds = pulled_back(product, values, cotangents[0])
        self.inner = [(x[:, where], c) for x, c in zip(features[1:], cotangents[1:], strict=True)]
        ends = list(accumulate(network.size for network in self.networks))
        numbers = torch.arange(len(theta), device=theta.device)
        self.columns = [numbers[end - network.size : end] for network, end in zip(self.networks, ends, strict=True)]
        self.last = numbers[ends[-1] :]

    def block(self, equation: Equation, costs: CostTable) -> Block:
        """Its part of J, in tables of as many factor networks as can have them, if these are less work than rows alone.

        The equation remembers where tables are more work.
        """
        shared = equation.shared
        if equation.number in equation.declined:
            return Block(shared, [], self._rest(range(len(self.networks))), True, costs)
        tables: list[Table] = []
        loose: list[int] = []
        for k, seed in enumerate(self.seeds):
            alive = [c for c in range(len(seed)) if bool(seed[c].any())]
            many, count = len(alive) * seed.shape[2], shared.counts()[k]
            others = [one.coordinate for one in tables]
            if not alive:  # nothing the factor network does changes these residuals
                continue
            if count * many <= len(shared.points) and all(
                shared.pieces(i, k) and shared.pieces(k, i) for i in [*others, k]
            ):
                tables.append(self._table(k, alive, *shared.kinds[k]))
            else:
                loose.append(k)
        found = Block(shared, tables, self._rest(loose), bool(loose), costs)
        if found.work() < found.dense_work():
            return found
        equation.declined.add(equation.number)
        return self.block(equation, costs)

    def _table(self, k: int, alive: list[int], first: Tensor, kind: Tensor) -> Table:
        """The table of factor network k, of the derivatives that the equation sees."""
        network, line, seed = self.networks[k], self.lines[k], self.seeds[k]
        width, count = seed.shape[2], len(first)
        units = torch.arange(seed.shape[0] * width, device=first.device).view(-1, width)[alive].flatten()
        inputs = line.data[:, self.indices[k][first]]
        size = max(FEWEST, math.ceil(count / MOST_CUTS))
        step = size * max(1, SLICE_BYTES // (8 * size * len(units) * network.size))
        cuts = []
        for start in range(0, count, step):
            rows = table(network, self.thetas[k], inputs[:, start : start + step], line.space, units)
            for part in rows.split(size):
                columns = torch.nonzero(part.flatten(0, 1).any(0))[:, 0]
                begin = cuts[-1].stop if cuts else 0
                cuts.append(Cut(begin, begin + len(part), columns, part[:, :, columns]))
        seeds = seed[alive].permute(1, 0, 2).reshape(len(kind), -1)
        return Table(k, self.columns[k], seeds, kind, cuts)

    def _rest(self, loose: Sequence[int]) -> Rest:
        """Rows of some factor networks and of the layers behind them."""
        columns = torch.cat([*(self.columns[k] for k in loose), self.last])

        def rows(points: Tensor) -> Tensor:
            out = self.seeds[0].new_empty(len(points), len(columns))
            start = 0
            for k in loose:
                network, line = self.networks[k], self.lines[k]
                inputs, here = line.data[:, self.indices[k][points]], out[:, start : start + network.size]
                factor_rows(network, self.thetas[k], inputs, line.space, self.seeds[k][:, points], here)
                start += network.size
            for layer, own, (x, cotangent) in zip(self.behind, self.parameters, self.inner, strict=True):
                layer.jacobian(own, x[:, points], cotangent[:, points], out[:, start : start + layer.size])
                start += layer.size
            return out

        return Rest(columns, rows)
