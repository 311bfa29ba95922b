"""JᵀJ of networks whose parameters act locally, from points near each other, which see the same few parameters.

A point's row of J is zero but for the k + 1 coefficients at work on each edge of a spline network. Points near each
other in the domain have almost the same ones, on all layers, so that their rows are a dense matrix with few columns.
The domain is therefore bisected until smaller parts save no more work, and every part adds a small dense product to its
places in JᵀJ; J itself never stands in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.layer import Support
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.least_squares.linearization import GRAM_BLOCK, mirror
from kanpinn.least_squares.points import ForwardPass

LARGEST = 512
"""Points above which a part is bisected even if that alone saves nothing."""

SEEN = 128
"""About how many of a part's points are looked at to find where to cut it."""


@dataclass(frozen=True)
class _Runs:
    """The supports of all layers together.

    Attributes:
        first: First column at work in every group, `[N, K]`.
        length: Number of columns of a group, `[K]`.
        copies: Number of copies of a group, `[K]`.
        rest: Columns that every point sees.
    """

    first: np.ndarray
    length: np.ndarray
    copies: np.ndarray
    rest: int

    @classmethod
    def of(cls, supports: Sequence[Support | int]) -> _Runs:
        """From each layer's support, or its number of columns where every point sees them all."""
        local = [s for s in supports if isinstance(s, Support)]
        groups = [s.first.shape[1] for s in local]
        return cls(
            torch.cat([s.first for s in local], dim=1).cpu().numpy().astype(np.int32),
            np.repeat([s.length for s in local], groups),
            np.repeat([s.copies for s in local], groups),
            sum(s for s in supports if not isinstance(s, Support)),
        )

    @property
    def fewest(self) -> int:
        """Columns that one point sees."""
        return self.rest + int((self.length * self.copies).sum())

    def columns(self, points: np.ndarray) -> int:
        """The number of columns that points see together, from some of them."""
        first = self.first[points[:: max(1, len(points) // SEEN)]]
        return self.rest + int(((first.max(0) - first.min(0) + self.length) * self.copies).sum())


def parts(points: Tensor, supports: Sequence[Support | int], size: int, costs: CostTable) -> list[Tensor] | None:
    """Points `[N, d]` in parts that see few parameters each, by their indices; None where the whole J is less work.

    The supports are those of every layer with parameters; its number of parameters where every point sees them all.
    """
    if not any(isinstance(s, Support) for s in supports):
        return None
    runs, dense = _Runs.of(supports), costs.dense_work(len(points), size)
    if costs.part_work(len(points), runs.fewest) > dense:
        return None
    found: list[np.ndarray] = []
    if _bisect(points.cpu().numpy(), runs, costs, np.arange(len(points)), found) > dense:
        return None
    return [torch.from_numpy(np.sort(part)).to(points.device) for part in found]


def _bisect(
    coordinates: np.ndarray, runs: _Runs, costs: CostTable, points: np.ndarray, found: list[np.ndarray]
) -> float:
    """Append the parts of some points and return their work: cut at the median of whichever coordinate saves most."""

    def work(chosen: np.ndarray) -> float:
        return costs.part_work(len(chosen), runs.columns(chosen))

    whole, half = work(points), len(points) // 2
    best, sides = math.inf, (points, points)
    for column in range(coordinates.shape[1] if half else 0):
        order = points[np.argpartition(coordinates[points, column], half)]
        both = work(order[:half]) + work(order[half:])
        if both < best:
            best, sides = both, (order[:half], order[half:])
    if best >= whole and len(points) <= LARGEST:
        found.append(points)
        return whole
    return sum(_bisect(coordinates, runs, costs, side, found) for side in sides)


def compact(
    values: Sequence[Tensor], supports: Sequence[Support | int], part: slice, columns: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The rows of J at some points without the columns that no one of them sees.

    Takes of every layer its Jacobian at the columns at work, `[N, copies, K·length]`, or the whole `[N, size]`, the
    supports as `parts` does, in the same order, and the columns from `columns_of`. Gives the columns seen, ascending,
    `[a]`, and the rows there, `[n, a]`, points last in memory.
    """
    places, blocks = [], []
    many = part.stop - part.start
    for local, support, numbers in zip(values, supports, columns, strict=True):
        chosen = local[part].movedim(0, -1)
        if not isinstance(support, Support):
            places.append(numbers)
            blocks.append(chosen)
            continue
        first = support.first[part].T
        low = first.amin(1)
        spans = (first.amax(1) - low + support.length).tolist()
        starts = np.cumsum([0, *spans])
        shift = torch.from_numpy(starts[:-1]).to(first) - low
        begin = (first + shift[:, None]) * many + torch.arange(many, device=first.device)
        run = torch.arange(0, support.length * many, many, device=first.device)
        index = (begin[:, None] + run[:, None]).reshape(1, -1)
        block = chosen.new_zeros(support.copies, int(starts[-1]) * many)
        block.scatter_(1, index.expand(support.copies, -1), chosen.reshape(support.copies, -1))
        blocks.append(block.view(-1, many))
        at = [
            np.arange(begin, begin + span) + group * support.width
            for group, (begin, span) in enumerate(zip(low.tolist(), spans, strict=True))
        ]
        within = torch.from_numpy(np.concatenate(at)).to(first.device)
        places.append(numbers.view(support.copies, -1)[:, within].reshape(-1))
    place, rows = torch.cat(places), torch.cat(blocks)
    if bool((place[1:] <= place[:-1]).any()):  # a run goes on at the other end of its group
        place, which = torch.unique(place, return_inverse=True)
        rows = rows.new_zeros(len(place), many).index_add_(0, which, rows)
    return place, rows.T


def add_product(total: Tensor, columns: Tensor, rows: Tensor) -> None:
    """Add rowsᵀ rows, rows `[n, a]`, to the upper triangle of `total` `[P, P]` at ascending columns `[a]`.

    What stands below the diagonal stays undefined.
    """
    flat, size = total.view(-1), total.shape[1]
    for start in range(0, len(columns), GRAM_BLOCK):
        end = start + GRAM_BLOCK
        product = torch.mm(rows[:, start:end].T, rows[:, start:])
        places = (columns[start:end, None] * size + columns[start:]).view(-1)
        flat.scatter_add_(0, places, product.view(-1))


def products(
    backbone: Backbone, theta: Tensor, known: ForwardPass, points: Tensor, costs: CostTable
) -> tuple[Tensor, Tensor] | None:
    """JᵀJ `[P, P]` and Jᵀr `[P]`, part by part; None where the whole J is less work.

    No term of the forward pass may compare two points.
    """
    supports, size = backbone.supports(known.tape), len(theta)
    chosen = parts(points, supports, size, costs)
    if chosen is None:
        return None
    columns = columns_of(supports, theta.device)
    order = torch.cat(chosen)
    ends = np.cumsum([0, *(len(part) for part in chosen)]).tolist()
    supports = [s.at(order) if isinstance(s, Support) else s for s in supports]
    matrix, gradient = theta.new_zeros(size, size), torch.zeros_like(theta)
    for k, members in enumerate(known.passes):
        values = backbone.local_jacobian(theta, known.tape, known.scalar(members), order, retain=known.retained(k))
        residual = theta.new_zeros(len(points))
        for m in members:
            term, row = known.rows[m]
            residual[term.points] = row.detach()
        residual = residual[order]
        for start, end in pairwise(ends):
            places, rows = compact(values, supports, slice(start, end), columns)
            add_product(matrix, places, rows)
            gradient.index_add_(0, places, residual[start:end] @ rows)
    mirror(matrix)
    return matrix, gradient


def columns_of(supports: Sequence[Support | int], device: torch.device) -> list[Tensor]:
    """Of every part of the parameters, which of them each place that its support knows is, `[size]` each."""
    found, start = [], 0
    for s in supports:
        if isinstance(s, Support):
            own = torch.arange(s.first.shape[1] * s.width, device=device) if s.places is None else s.places
            many = int(own.max()) + 1
            found.append((start + torch.arange(s.copies, device=device)[:, None] * many + own).view(-1))
            start += s.copies * many
        else:
            found.append(torch.arange(start, start + s, device=device))
            start += s
    return found
