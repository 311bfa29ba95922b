"""Normal equations of Jacobians that factor into cotangents, incidence matrices and tables of distinct values.

A separable network (Cho et al. 2023, SPINN, arXiv:2306.15969; Jacob et al. 2024, SPIKAN, arXiv:2411.06286) sees a
point (a, b, …) by its factor networks' values at a, b, … alone. The part of the row of J that belongs to the parameters
of factor network i is therefore s_i · T_i[a], with the cotangent s_i `[m_i]` of its values and their derivatives at the
point, and the table T_i[a] = ∂(these)/∂θ_i `[m_i, P_i]`, one for each distinct a: J_i is a row-wise Khatri–Rao product
of s_i and an incidence matrix, times T_i. With the mixed-product rules (Kolda and Bader 2009, SIAM Rev. 51, sec. 2.6)

    J_iᵀ r   = Σ_a T_i[a]ᵀ Σ_{n at a} s_i r
    J_iᵀ J_i = Σ_a T_i[a]ᵀ (Σ_{n at a} s_i s_iᵀ) T_i[a]
    J_iᵀ J_j = Σ_a T_i[a]ᵀ M_a,   M_a = Σ_{n at (a, b)} s_i (s_jᵀ T_j[b]) = Σ_b (Σ_{n at (a, b)} s_i s_jᵀ) T_j[b]

whose sums over N points cost N m² and N (m_i + m_j) P_j instead of N P², or N m² alone where many points share both a
and b. Cotangents that are zero at all points, those of derivatives which the equation lacks, are left out. A table's
columns are taken where some neighbouring values see them: few, for splines. Parts of J that do not factor (a factor
network at points that do not share values, a linear layer behind the product) are formed some rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.backbones.separable.product import Piece, SharedValues


@dataclass(frozen=True)
class CostTable:
    """Seconds per operation, in units of half a multiplication of a large product; the defaults are those of a CPU.

    As measured on one core (EPYC, AVX-512). A symmetric product JᵀJ of `[N, P]` is N P² such units.

    Attributes:
        large: One multiplication of a large product.
        small: One of batched small products.
        moved: One number gathered or scattered.
        entry: One entry of J or of a table.
        call: One piece and cut of a table.
        part_product: One unit of a part's own product.
        part_places: Points whose product costs as much as a part's scattering to its places.
        part_entry: One entry of a part's rows.
        part_call: One part.
    """

    large: float = 2.0
    small: float = 7.5
    moved: float = 60.0
    entry: float = 230.0
    call: float = 3e6
    part_product: float = 1.3
    part_places: float = 100.0
    part_entry: float = 360.0
    part_call: float = 1.6e7

    def dense_work(self, points: int, columns: int) -> float:
        """The work of a dense Jacobian `[N, P]` and its product."""
        return points * columns * (columns + self.entry)

    def part_work(self, points: int, columns: int) -> float:
        """The work of one part of the points, that see so many parameters: product, places, entries, calls."""
        product = self.part_product * (points + self.part_places) * columns**2
        return product + self.part_entry * points * columns + self.part_call


SLICE_BYTES = 2**23
"""Memory for rows of J at a time."""


@dataclass(frozen=True)
class Cut:
    """The table at some neighbouring values.

    Attributes:
        start: The first of them.
        stop: One after the last.
        columns: Numbers of the parameters they see, `[p]`.
        rows: `[stop − start, m, p]`.
    """

    start: int
    stop: int
    columns: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Table:
    """Part of J, at some points, that belongs to one factor network.

    Attributes:
        coordinate: Number of the factor network.
        columns: Its columns of J, `[P_i]`.
        seeds: s, `[N, m]`.
        kind: Number of each point's distinct value, `[N]`.
        cuts: T.
    """

    coordinate: int
    columns: Tensor
    seeds: Tensor
    kind: Tensor
    cuts: list[Cut]

    @property
    def values(self) -> int:
        """Number of distinct values."""
        return self.cuts[-1].stop

    @property
    def seen(self) -> float:
        """Mean number of parameters that a value sees, with its neighbours."""
        return sum(len(cut.columns) * (cut.stop - cut.start) for cut in self.cuts) / self.values


@dataclass(frozen=True)
class Rest:
    """The columns of J that are formed row by row.

    Attributes:
        columns: Which, `[P_r]`.
        rows: Gives them at points `[n]`.
    """

    columns: Tensor
    rows: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """One equation's rows of J at one term's points.

    Attributes:
        shared: The points' shared values.
        tables: Parts of J that factor.
        rest: The others.
        loose: True if some factor network is among these.
        costs: Of the device.
    """

    shared: SharedValues
    tables: list[Table]
    rest: Rest
    loose: bool
    costs: CostTable

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
                _add_both(*self._ordered(one, other), matrix, self.costs)
        if len(self.rest.columns):
            self._add_rest(matrix, gradient, residual)

    def _pieces(self, one: Table, other: Table) -> list[Piece]:
        found = self.shared.pieces(one.coordinate, other.coordinate)
        assert found is not None
        return found

    def _ordered(self, one: Table, other: Table) -> tuple[Table, Table, list[Piece]]:
        """Two tables, that first whose values it is cheaper to group by, and their points."""
        orders = [(a, b, self._pieces(a, b)) for a, b in ((one, other), (other, one))]
        return min(orders, key=lambda order: _both_work(*order, self.costs))

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
        """Work of `add`."""
        points, rest, costs = len(self.shared.points), len(self.rest.columns), self.costs
        total = points * rest * (2 * rest + costs.entry)
        for k, one in enumerate(self.tables):
            m, seen = one.seeds.shape[1], one.seen
            squares = one.values * m * seen * (costs.small * m + costs.large * seen)
            total += points * m * (costs.small * m + costs.moved) + squares
            total += one.values * m * len(one.columns) * costs.entry
            total += len(one.cuts) * costs.call + points * m * rest * costs.moved
            total += sum(_both_work(*self._ordered(one, other), costs) for other in self.tables[k + 1 :])
        return total

    def dense_work(self) -> float:
        """Work of the rows of J and their product."""
        size = len(self.rest.columns) + sum(len(one.columns) for one in self.tables)
        return len(self.shared.points) * size * (size + self.costs.entry)


def _place(matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    """Add `[r, c]` to some rows and columns of `[P, P]`."""
    matrix.view(-1).index_add_(0, (rows[:, None] * len(matrix) + columns).view(-1), values.reshape(-1))


def _place_both(matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    """Likewise, and the transpose to the mirror image."""
    _place(matrix, rows, columns, values)
    _place(matrix, columns, rows, values.T)


def _within(kinds: Tensor, cut: Cut) -> slice:
    """Return which of ascending kinds `[g]` a cut holds."""
    ends = torch.searchsorted(kinds, torch.tensor([cut.start, cut.stop], device=kinds.device)).tolist()
    return slice(*ends)


def _add_own(one: Table, found: Sequence[Piece], matrix: Tensor) -> None:
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


def pairwise_is_less(one: int, other: int, often: int, seen: float, costs: CostTable) -> bool:
    """Return whether to sum s_i s_jᵀ over a pair of values first: for m_i, m_j, ρ and the columns seen."""
    by_rows = often * seen * (one + other) * costs.small
    return often * one * other * costs.small + one * other * (costs.moved + costs.large * seen) < by_rows


def _both_work(one: Table, other: Table, found: Sequence[Piece], costs: CostTable) -> float:
    """Work of J_iᵀJ_j."""
    m, n, seen = one.seeds.shape[1], other.seeds.shape[1], other.seen
    total = one.values * m * one.seen * len(other.columns) * costs.large
    for piece in found:
        points, often = piece.points.numel(), piece.points.shape[2]
        if pairwise_is_less(m, n, often, seen, costs):
            total += points * m * n * costs.small + points // often * m * n * (costs.moved + costs.large * seen)
        else:
            total += points * seen * (m + n) * costs.small
        total += len(one.cuts) * len(other.cuts) * costs.call + points * (m + n) * costs.moved
    return total


def _add_both(one: Table, other: Table, found: Sequence[Piece], matrix: Tensor, costs: CostTable) -> None:
    """Add J_iᵀJ_j and its transpose: M_a for some values a at a time, from one cut of T_j after the other."""
    m, n, width = one.seeds.shape[1], other.seeds.shape[1], len(other.columns)
    out = matrix.new_zeros(len(one.columns), width)
    for piece in found:
        by_pairs = pairwise_is_less(m, n, piece.points.shape[2], other.seen, costs)
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
                    combine = sums_by_pairs if by_pairs else sums_by_rows
                    sums.index_add_(2, cut.columns, combine(one.seeds[points], other.seeds[points], rows))
                found_here = own.rows[kinds - own.start].flatten(0, 1).T @ sums.flatten(0, 1)
                out.index_add_(0, own.columns, found_here)
    _place_both(matrix, one.columns, other.columns, out)


def sums_by_pairs(first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
    """Σ over b and ρ of s_i (s_jᵀ T[b]) from the sums of s_i s_jᵀ over ρ, `[g, m_i, p]`.

    s_i is `[g, h, ρ, m_i]`, s_j `[g, h, ρ, m_j]` and T `[h, m_j, p]`.
    """
    g, h, _, m = first.shape
    products = torch.matmul(first.transpose(2, 3), second)  # (g, h, m_i, m_j)
    return (products.transpose(1, 2).reshape(g * m, -1) @ rows.reshape(h * rows.shape[1], -1)).view(g, m, -1)


def sums_by_rows(first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
    """The same from the rows of J_j; arguments and result as of `sums_by_pairs`."""
    g, h, often, m = first.shape
    found = torch.bmm(second.transpose(0, 1).reshape(h, g * often, -1), rows)
    found = found.view(h, g, often, -1).transpose(0, 1)
    found = found[:, :, 0] if often == 1 else found.reshape(g, h * often, -1)
    return torch.bmm(first.view(g, h * often, m).transpose(1, 2), found)
