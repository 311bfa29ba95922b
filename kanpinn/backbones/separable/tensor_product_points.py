"""Coordinate values that points share: tensor grids, their faces, and what is made of such."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

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
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(2**62, (height,), generator=generator).to(first.device)
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
