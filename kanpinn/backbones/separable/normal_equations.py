"""JᵀJ of separable networks at points that share coordinate values, such as tensor grids and their faces, without J.

A separable network (Cho et al. 2023, SPINN, arXiv:2306.15969; Jacob et al. 2024, SPIKAN, arXiv:2411.06286) sees a
point (a, b, …) by its bodies' values at a, b, … alone. The part of the row of J that belongs to body i's parameters is
therefore s_i · T_i[a], with the cotangent s_i `[m_i]` of the body's values and their derivatives at the point, and the
table T_i[a] = ∂(these)/∂θ_i `[m_i, P_i]`, one for each distinct a: J_i is a row-wise Khatri–Rao product of s_i and an
incidence matrix, times T_i. With the mixed-product rules (Kolda and Bader 2009, SIAM Rev. 51, sec. 2.6)

    J_iᵀ r   = Σ_a T_i[a]ᵀ Σ_{n at a} s_i r
    J_iᵀ J_i = Σ_a T_i[a]ᵀ (Σ_{n at a} s_i s_iᵀ) T_i[a]
    J_iᵀ J_j = Σ_a T_i[a]ᵀ M_a,   M_a = Σ_{n at (a, b)} s_i (s_jᵀ T_j[b]) = Σ_b (Σ_{n at (a, b)} s_i s_jᵀ) T_j[b]

whose sums over N points cost N m² and N (m_i + m_j) P_j instead of N P², or N m² alone where many points share both a
and b. Cotangents that are zero at all points, those of derivatives which the equation lacks, are left out. A table's
columns are taken where some neighbouring values see them: few, for splines. Parts of J that do not factor (a body at
points that do not share values, a linear layer behind the product) are formed some rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.layers import Linear
from kanpinn.backbones.separable.network import Factors, body_rows, pulled_back, table
from kanpinn.backbones.separable.tensor_product_points import Piece, SharedValues

SLICE_BYTES = 2**23
"""Memory for rows of J at a time."""

FEWEST = 8
"""Distinct values that are worth a cut of a table."""

MOST_CUTS = 8

# Work in halves of a multiplication of a large product, as in `sparse_gram`, as measured on one core (EPYC, AVX-512).
_LARGE, _SMALL, _MOVED, _ENTRY, _CALL = 2.0, 7.5, 60.0, 230.0, 3e6
"""Per multiplication of large and of batched small products, number moved, entry of J or of a table, piece and cut."""


@dataclass(frozen=True)
class Equation:
    """One equation's weighted residuals at one term's points.

    Attributes:
        points: The term's points among all.
        residual: `[n]`, with the graph that leads to the network's outputs.
        shared: Which of the points share values, in the order of the factor networks.
        declined: Numbers of the term's equations for which shared values were found to save no work; added to.
        number: The equation's own number.
    """

    points: slice
    residual: Tensor
    shared: SharedValues
    declined: set[int]
    number: int


@dataclass(frozen=True)
class _Cut:
    """The table at some neighbouring values.

    Attributes:
        start: The first of them.
        stop: One after the last.
        columns: Which parameters they see, `[p]`.
        rows: `[stop − start, m, p]`.
    """

    start: int
    stop: int
    columns: Tensor
    rows: Tensor


@dataclass(frozen=True)
class _Table:
    """A body's part of J at some points.

    Attributes:
        coordinate: Which body.
        columns: Its columns of J, `[P_i]`.
        seeds: s, `[N, m]`.
        kind: Which distinct value each point has, `[N]`.
        cuts: T.
    """

    coordinate: int
    columns: Tensor
    seeds: Tensor
    kind: Tensor
    cuts: list[_Cut]

    @property
    def values(self) -> int:
        """How many distinct values there are."""
        return self.cuts[-1].stop

    @property
    def seen(self) -> float:
        """How many parameters a value sees, with its neighbours."""
        return sum(len(cut.columns) * (cut.stop - cut.start) for cut in self.cuts) / self.values


@dataclass(frozen=True)
class _Rest:
    """The columns of J that are formed row by row.

    Attributes:
        columns: Which, `[P_r]`.
        rows: Gives them at points `[n]`.
    """

    columns: Tensor
    rows: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Block:
    """One equation's rows of J at one term's points.

    Attributes:
        shared: Which of the points share values.
        tables: The bodies' parts of J that factor.
        rest: The others.
        loose: Whether some body is among these.
    """

    shared: SharedValues
    tables: list[_Table]
    rest: _Rest
    loose: bool

    def add(self, matrix: Tensor, gradient: Tensor, residual: Tensor) -> None:
        """Add its JᵀJ to `[P, P]` and its Jᵀr, with r `[N]`, to `[P]`."""
        for k, one in enumerate(self.tables):
            _add_own(one, self._pieces(one, one), matrix)
            sums = one.seeds.new_zeros(one.values, one.seeds.shape[1])
            sums.index_add_(0, one.kind, one.seeds * residual[:, None])
            for cut in one.cuts:
                found = cut.rows.flatten(0, 1).T @ sums[cut.start : cut.stop].flatten()
                gradient.index_add_(0, one.columns[cut.columns], found)
            for other in self.tables[k + 1 :]:
                _add_both(*self._ordered(one, other), matrix)
        if len(self.rest.columns):
            self._add_rest(matrix, gradient, residual)

    def _pieces(self, one: _Table, other: _Table) -> list[Piece]:
        found = self.shared.pieces(one.coordinate, other.coordinate)
        assert found is not None
        return found

    def _ordered(self, one: _Table, other: _Table) -> tuple[_Table, _Table, list[Piece]]:
        """Two tables, that first whose values it is cheaper to group by, and their points."""
        orders = [(a, b, self._pieces(a, b)) for a, b in ((one, other), (other, one))]
        return min(orders, key=lambda order: _both_work(*order))

    def _add_rest(self, matrix: Tensor, gradient: Tensor, residual: Tensor) -> None:
        columns, points = self.rest.columns, torch.arange(len(residual), device=residual.device)
        own = matrix.new_zeros(len(columns), len(columns))
        right = gradient.new_zeros(len(columns))
        sums = [
            matrix.new_zeros(one.values, one.seeds.shape[1], len(columns)) for one in self.tables
        ]  # M_a of every table
        for part in points.split(max(32, SLICE_BYTES // (8 * len(columns)))):
            rows = self.rest.rows(part)
            own.addmm_(rows.T, rows)
            right.addmv_(rows.T, residual[part])
            for one, total in zip(self.tables, sums, strict=True):
                for m in range(total.shape[1]):
                    total[:, m].index_add_(0, one.kind[part], rows * one.seeds[part, m : m + 1])
        _place(matrix, columns, columns, (own + own.T) / 2)
        gradient.index_add_(0, columns, right)
        for one, total in zip(self.tables, sums, strict=True):
            for cut in one.cuts:
                found = cut.rows.flatten(0, 1).T @ total[cut.start : cut.stop].flatten(0, 1)
                _place_both(matrix, one.columns[cut.columns], columns, found)

    def work(self) -> float:
        """How much work `add` is."""
        points, rest = len(self.shared.points), len(self.rest.columns)
        total = points * rest * (2 * rest + _ENTRY)
        for k, one in enumerate(self.tables):
            m, seen = one.seeds.shape[1], one.seen
            total += points * m * (_SMALL * m + _MOVED) + one.values * m * seen * (_SMALL * m + _LARGE * seen)
            total += one.values * m * len(one.columns) * _ENTRY
            total += len(one.cuts) * _CALL + points * m * rest * _MOVED
            total += sum(_both_work(*self._ordered(one, other)) for other in self.tables[k + 1 :])
        return total

    def dense_work(self) -> float:
        """How much work the rows of J and their product are."""
        size = len(self.rest.columns) + sum(len(one.columns) for one in self.tables)
        return len(self.shared.points) * size * (size + _ENTRY)


def _place(matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    """Add `[r, c]` to some rows and columns of `[P, P]`."""
    matrix.view(-1).index_add_(0, (rows[:, None] * len(matrix) + columns).view(-1), values.reshape(-1))


def _place_both(matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    """Likewise, and the transpose to the mirror image."""
    _place(matrix, rows, columns, values)
    _place(matrix, columns, rows, values.T)


def _within(kinds: Tensor, cut: _Cut) -> slice:
    """Which of ascending kinds `[g]` a cut holds."""
    ends = torch.searchsorted(kinds, torch.tensor([cut.start, cut.stop], device=kinds.device)).tolist()
    return slice(*ends)


def _add_own(one: _Table, found: Sequence[Piece], matrix: Tensor) -> None:
    """Add J_iᵀJ_i."""
    many = one.seeds.shape[1]
    squares = one.seeds.new_zeros(one.values, many, many)
    for piece in found:
        step = max(1, SLICE_BYTES // (8 * many * piece.points[0].numel()))
        for kinds, points in zip(piece.first.split(step), piece.points.split(step), strict=True):
            seeds = one.seeds[points.flatten(1)]
            squares[kinds] = torch.bmm(seeds.transpose(1, 2), seeds)
    for cut in one.cuts:
        half = torch.bmm(squares[cut.start : cut.stop], cut.rows)
        own = cut.rows.flatten(0, 1).T @ half.flatten(0, 1)
        places = one.columns[cut.columns]
        _place(matrix, places, places, (own + own.T) / 2)


def _pairwise(one: int, other: int, often: int, seen: float) -> bool:
    """Whether to sum s_i s_jᵀ over the points of a pair of values first: for m_i, m_j, ρ and the columns seen."""
    by_rows = often * seen * (one + other) * _SMALL
    return often * one * other * _SMALL + one * other * (_MOVED + _LARGE * seen) < by_rows


def _both_work(one: _Table, other: _Table, found: Sequence[Piece]) -> float:
    """How much work J_iᵀJ_j is."""
    m, n, seen = one.seeds.shape[1], other.seeds.shape[1], other.seen
    total = one.values * m * one.seen * len(other.columns) * _LARGE
    for piece in found:
        points, often = piece.points.numel(), piece.points.shape[2]
        if _pairwise(m, n, often, seen):
            total += points * m * n * _SMALL + points // often * m * n * (_MOVED + _LARGE * seen)
        else:
            total += points * seen * (m + n) * _SMALL
        total += len(one.cuts) * len(other.cuts) * _CALL + points * (m + n) * _MOVED
    return total


def _add_both(one: _Table, other: _Table, found: Sequence[Piece], matrix: Tensor) -> None:
    """Add J_iᵀJ_j and its transpose: M_a for some values a at a time, from one cut of T_j after the other."""
    m, n, width = one.seeds.shape[1], other.seeds.shape[1], len(other.columns)
    out = matrix.new_zeros(len(one.columns), width)
    for piece in found:
        by_pairs = _pairwise(m, n, piece.points.shape[2], other.seen)
        sides = [(cut, side) for cut in other.cuts if (side := _within(piece.second, cut)).stop > side.start]
        widest = max((side.stop - side.start) * len(cut.columns) for cut, side in sides) * piece.points.shape[2]
        each = max(widest, m * width, max(side.stop - side.start for _, side in sides) * m * n if by_pairs else 0)
        for own in one.cuts:
            inside = _within(piece.first, own)
            step = max(1, SLICE_BYTES // (8 * each))
            for start in range(inside.start, inside.stop, step):
                part = slice(start, min(start + step, inside.stop))
                kinds = piece.first[part]
                sums = matrix.new_zeros(len(kinds), m, width)
                for cut, side in sides:
                    points = piece.points[part, side]
                    rows = cut.rows[piece.second[side] - cut.start]
                    combine = _by_pairs if by_pairs else _by_rows
                    sums.index_add_(2, cut.columns, combine(one.seeds[points], other.seeds[points], rows))
                found_here = own.rows[kinds - own.start].flatten(0, 1).T @ sums.flatten(0, 1)
                out.index_add_(0, own.columns, found_here)
    _place_both(matrix, one.columns, other.columns, out)


def _by_pairs(first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
    """Σ over b and ρ of s_i (s_jᵀ T[b]) from the sums of s_i s_jᵀ over ρ.

    Args:
        first: s_i, `[g, h, ρ, m_i]`.
        second: s_j, `[g, h, ρ, m_j]`.
        rows: T, `[h, m_j, p]`.

    Returns:
        `[g, m_i, p]`.
    """
    g, h, _, m = first.shape
    products = torch.matmul(first.transpose(2, 3), second)  # (g, h, m_i, m_j)
    return (products.transpose(1, 2).reshape(g * m, -1) @ rows.reshape(h * rows.shape[1], -1)).view(g, m, -1)


def _by_rows(first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
    """The same from the rows of J_j; arguments and result as of `_by_pairs`."""
    g, h, often, m = first.shape
    found = torch.bmm(second.transpose(0, 1).reshape(h, g * often, -1), rows)
    found = found.view(h, g, often, -1).transpose(0, 1)
    found = found[:, :, 0] if often == 1 else found.reshape(g, h * often, -1)
    return torch.bmm(first.view(g, h * often, m).transpose(1, 2), found)


def is_separable(backbone: Backbone) -> bool:
    """Whether a network is a sum of products, perhaps with linear layers behind."""
    factors, *behind = backbone.layers
    return isinstance(factors, Factors) and all(isinstance(layer, Linear) for layer in behind)


def products(
    backbone: Backbone, theta: Tensor, tape: Tape, passes: Sequence[Sequence[Equation]]
) -> tuple[Tensor, Tensor] | None:
    """JᵀJ and Jᵀr of a separable network, a term and an equation at a time.

    Args:
        backbone: The network.
        theta: Parameters `[P]`.
        tape: Of its forward pass.
        passes: Equations, none of which compares two points, by the backward pass that serves them: those of different
            points.

    Returns:
        JᵀJ `[P, P]` and Jᵀr `[P]`; None where the whole J is less work.
    """
    factors = backbone.layers[0]
    assert isinstance(factors, Factors)
    equations = [equation for members in passes for equation in members]
    if _too_many([e for e in equations if e.number in e.declined], equations, factors):
        return None
    grids = {id(e.shared): e.shared for e in equations}.values()
    promising = [len(grid.points) for grid in grids if _promises(grid, factors)]
    if 4 * sum(promising) < sum(len(grid.points) for grid in grids):
        return None
    pulled = [backbone.cotangents(tape, sum_of(members), retain=True) for members in passes]
    blocks = []
    for members, cotangents in zip(passes, pulled, strict=True):
        for e in members:
            place = _Place(backbone, theta, tape.features, [c[:, e.points] for c in cotangents], e.points)
            blocks.append((e, place.block(e)))
    if _too_many([e for e, block in blocks if not block.tables or (factors.local and block.loose)], equations, factors):
        for e, block in blocks:
            if block.loose:
                e.declined.add(e.number)
        return None
    matrix, gradient = theta.new_zeros(len(theta), len(theta)), torch.zeros_like(theta)
    for e, block in blocks:
        block.add(matrix, gradient, e.residual.detach())
    return matrix, gradient


def sum_of(equations: Sequence[Equation]) -> Tensor:
    """Σ_n r_n over equations of different points."""
    return sum((e.residual.sum() for e in equations), start=equations[0].residual.new_zeros(()))


def _too_many(plain: Sequence[Equation], equations: Sequence[Equation], factors: Factors) -> bool:
    """Whether equations without tables of all factor networks are better left to another way.

    If no equation has any, the whole J is as good. Where all factor networks act locally, `gram_local` does better,
    which is worth a quarter of the points.
    """
    if len(plain) == len(equations):
        return True
    return factors.local and 4 * sum(len(e.residual) for e in plain) > sum(len(e.residual) for e in equations)


def _promises(grid: SharedValues, factors: Factors) -> bool:
    """Whether the tables of some body could be smaller than its rows of J."""
    return any(n * factors.width <= len(grid.points) for n in grid.counts())


class _Place:
    """One equation at one term's points: what the parts of J there are made from."""

    def __init__(
        self, backbone: Backbone, theta: Tensor, features: Sequence[Any], cotangents: Sequence[Tensor], where: slice
    ) -> None:
        """Pull the cotangents back to the values of every body.

        Args:
            backbone: A separable network.
            theta: `[P]`.
            features: Of its layers with parameters, at all points.
            cotangents: At the outputs of these, at the term's points, `[C, N, out]`.
            where: The term's points.
        """
        factors, *self.behind = backbone.layers
        assert isinstance(factors, Factors)
        arrays = backbone.arrays(theta)
        self.parameters = arrays[1:]
        lines, values, product = features[0]
        product = product._replace(indices=tuple(index[where] for index in product.indices))
        self.bodies, self.lines, self.indices = factors.bodies, lines, product.indices
        self.thetas = factors.thetas(arrays[0])
        self.seeds = pulled_back(product, values, cotangents[0])
        self.inner = [(x[:, where], c) for x, c in zip(features[1:], cotangents[1:], strict=True)]
        ends = list(accumulate(body.size for body in self.bodies))
        numbers = torch.arange(len(theta), device=theta.device)
        self.columns = [numbers[end - body.size : end] for body, end in zip(self.bodies, ends, strict=True)]
        self.last = numbers[ends[-1] :]

    def block(self, equation: Equation) -> _Block:
        """Its part of J, in tables of as many factor networks as can have them, if these are less work than rows alone.

        Args:
            equation: The equation; remembers where tables are more work.

        Returns:
            The part.
        """
        shared = equation.shared
        if equation.number in equation.declined:
            return _Block(shared, [], self._rest(range(len(self.bodies))), loose=True)
        tables: list[_Table] = []
        loose: list[int] = []
        for k, seed in enumerate(self.seeds):
            alive = [c for c in range(len(seed)) if bool(seed[c].any())]
            many, count = len(alive) * seed.shape[2], shared.counts()[k]
            others = [one.coordinate for one in tables]
            if not alive:  # nothing the body does changes these residuals
                continue
            if count * many <= len(shared.points) and all(
                shared.pieces(i, k) and shared.pieces(k, i) for i in [*others, k]
            ):
                tables.append(self._table(k, alive, *shared.kinds[k]))
            else:
                loose.append(k)
        found = _Block(shared, tables, self._rest(loose), loose=bool(loose))
        if found.work() < found.dense_work():
            return found
        equation.declined.add(equation.number)
        return self.block(equation)

    def _table(self, k: int, alive: list[int], first: Tensor, kind: Tensor) -> _Table:
        """The table of body k, of the derivatives that the equation sees."""
        body, line, seed = self.bodies[k], self.lines[k], self.seeds[k]
        width, count = seed.shape[2], len(first)
        units = torch.arange(seed.shape[0] * width, device=first.device).view(-1, width)[alive].flatten()
        inputs = line.data[:, self.indices[k][first]]
        size = max(FEWEST, math.ceil(count / MOST_CUTS))
        step = size * max(1, SLICE_BYTES // (8 * size * len(units) * body.size))
        cuts = []
        for start in range(0, count, step):
            rows = table(body, self.thetas[k], inputs[:, start : start + step], line.space, units)
            for part in rows.split(size):
                columns = torch.nonzero(part.flatten(0, 1).any(0))[:, 0]
                begin = cuts[-1].stop if cuts else 0
                cuts.append(_Cut(begin, begin + len(part), columns, part[:, :, columns]))
        seeds = seed[alive].permute(1, 0, 2).reshape(len(kind), -1)
        return _Table(k, self.columns[k], seeds, kind, cuts)

    def _rest(self, loose: Sequence[int]) -> _Rest:
        """Rows of some bodies and of the layers behind them."""
        columns = torch.cat([*(self.columns[k] for k in loose), self.last])

        def rows(points: Tensor) -> Tensor:
            out = self.seeds[0].new_empty(len(points), len(columns))
            start = 0
            for k in loose:
                body, line = self.bodies[k], self.lines[k]
                inputs, here = line.data[:, self.indices[k][points]], out[:, start : start + body.size]
                body_rows(body, self.thetas[k], inputs, line.space, self.seeds[k][:, points], here)
                start += body.size
            for layer, own, (x, cotangent) in zip(self.behind, self.parameters, self.inner, strict=True):
                layer.jacobian(own, x[:, points], cotangent[:, points], out[:, start : start + layer.size])
                start += layer.size
            return out

        return _Rest(columns, rows)
