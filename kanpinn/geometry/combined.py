"""Regions made of two: differences, intersections and unions, and products with an interval of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError
from kanpinn.geometry.chart import Array, Chart, Part
from kanpinn.geometry.distance import Distance
from kanpinn.geometry.region import OPERATIONS, Piece, Region
from kanpinn.geometry.round import Ball, Ellipse

_STEP = 1e-7
"""Share of a region's size by which one steps off a boundary to see which side is inside."""


@final
class Combined(Region):
    """A difference, an intersection or a union of two regions; pieces of its boundary are what is left of theirs.

    A point of a part's boundary is on the boundary of the whole where one side of it lies inside and the other does
    not; where both parts have it, it counts once. Normals of a region taken away point into it.

    Raises:
        UserError: If the two have other coordinates, boundary pieces of one name, or nothing is left.
    """

    def __init__(self, left: Region, right: Region, kind: Literal["-", "&", "|"]) -> None:
        self.names = left.names
        if set(left.names) != set(right.names):
            raise UserError(f"{left} {kind} {right}: coordinates {', '.join(left.names)} and {', '.join(right.names)}")
        order = [right.names.index(name) for name in left.names]
        if order != sorted(order):
            raise UserError(f"{left} {kind} {right}: name their coordinates in the same order")
        if shared := sorted(set(left.pieces) & set(right.pieces)):
            raise UserError(f"{left} {kind} {right}: both have a piece {shared[0]!r}; give one another name=…")
        self._left, self._right, self._kind = left, right, kind
        ends = {"-": (left.lower, left.upper), "&": _inner(left, right), "|": _outer(left, right)}
        self.lower, self.upper = ends[kind]
        if any(a >= b for a, b in zip(self.lower, self.upper, strict=True)) or not self.chart.share:
            raise UserError(f"{self}: nothing is left")

    @property
    def reentrant(self) -> bool:
        """False for what both have of two regions without such corners, and for round holes."""
        if self._kind == "&":
            return self._left.reentrant or self._right.reentrant
        return self._kind == "|" or self._left.reentrant or not isinstance(self._right, Ellipse | Ball)

    def __repr__(self) -> str:
        return f"({self._left} {self._kind} {self._right})"

    @cached_property
    def chart(self) -> Chart:
        """The map of the region from which some is taken away, else of the box around; the rest is rejected."""
        return self._left.chart.restricted(self.contains) if self._kind == "-" else self.frame

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` belong to it, the boundary but for that of a part taken away; `[N]`."""
        left, right = self._left.contains(points), self._right.contains(points)
        return left & ~right if self._kind == "-" else left & right if self._kind == "&" else left | right

    @cached_property
    def pieces(self) -> Mapping[str, Piece]:
        """Those of both, cut to the boundary of the whole."""
        first = {name: self._cut(piece) for name, piece in self._left.pieces.items()}
        return first | {name: self._cut(piece, after=self._left) for name, piece in self._right.pieces.items()}

    def piece(self, name: str) -> Piece:
        """Return a piece of the boundary, an edge of a polygon among them, or an inner plane; raises UserError."""
        if "=" not in name and name not in self.pieces:
            for part, after in ((self._left, None), (self._right, self._left)):
                if name.partition(".")[0] in part.pieces:
                    return self._cut(part.piece(name), after)
        return super().piece(name)

    def distances(self, name: str, *, outside: bool = False) -> list[Distance]:
        """Return those of the part to which a piece belongs, where they are zero nowhere else in the region.

        So it is within differences and intersections, and outside unions; none elsewhere and for other names.
        """
        if outside == (self._kind != "|"):
            return []
        left = self._left.distances(name, outside=outside)
        return left or self._right.distances(name, outside=outside or self._kind == "-")

    def _cut(self, piece: Piece, after: Region | None = None) -> Piece:
        """Return the part of a piece that bounds the whole and does not bound the region `after`."""
        given = piece.normal
        if given is None:
            raise UserError(f"{self}: {piece.name} has no normal")
        step = _STEP * max(b - a for a, b in zip(self.lower, self.upper, strict=True))
        taken = self._kind == "-" and after is not None
        normal: Callable[[Array], Array] = (lambda points: -given(points)) if taken else given

        def bounds(region: Region, points: Array, out: Array) -> NDArray[np.bool_]:
            return region.contains(points - step * out) & ~region.contains(points + step * out)

        def part(points: Array) -> NDArray[np.bool_]:
            out = normal(points)
            kept = bounds(self, points, out)
            return kept if after is None else kept & ~bounds(after, points, out)

        across = None if taken or self._kind == "|" else piece.across
        return replace(piece, chart=piece.chart.restricted(part), normal=normal, across=across)


@final
class Product(Region):
    """The product of two regions, such as a disk and an interval of time.

    Its boundary pieces are those of one times the other.

    Raises:
        UserError: If the two share a coordinate or the name of a boundary piece.
    """

    def __init__(self, left: Region, right: Region) -> None:
        if shared := sorted(set(left.names) & set(right.names) or set(left.pieces) & set(right.pieces)):
            raise UserError(f"{left} * {right}: both have {', '.join(shared)}")
        self._left, self._right = left, right
        self.names = left.names + right.names
        self.lower, self.upper = left.lower + right.lower, left.upper + right.upper

    @property
    def reentrant(self) -> bool:
        """True if a corner turns inwards."""
        return self._left.reentrant or self._right.reentrant

    def __repr__(self) -> str:
        return f"({self._left} * {self._right})"

    @property
    def factors(self) -> tuple[Region, Region]:
        """The two regions."""
        return self._left, self._right

    @property
    def components(self) -> list[Region]:
        """Those of both."""
        return [*self._left.components, *self._right.components]

    @cached_property
    def chart(self) -> Chart:
        """The maps of both."""
        return self._joined(self._left.chart, self._right.chart)

    def _joined(self, left: Chart, right: Chart) -> Chart:
        left, right = _numbered(left), _numbered(right)
        count, split = left.dimension, len(self._left.names)

        def points(parameters: Array) -> Array:
            return np.concatenate([left.points(parameters[:, :count]), right.points(parameters[:, count:])], axis=1)

        parts: list[Part] = []
        for own, columns in ((left.part, slice(None, split)), (right.part, slice(split, None))):
            if own is not None:
                parts.append(lambda points, own=own, columns=columns: own(points[:, columns]))
        both = Chart(left.lower + right.lower, left.upper + right.upper, left.axes + right.axes, points)
        for part in parts:
            both = both.restricted(part)
        return both

    @cached_property
    def pieces(self) -> Mapping[str, Piece]:
        """The pieces of the first one times the second, then the other way round."""
        names = [*self._left.pieces, *self._right.pieces]
        return {name: self.piece(name) for name in names}

    def piece(self, name: str) -> Piece:
        """Return a piece of the boundary or an inner plane; raises UserError."""
        whole, split = {name, name.partition(".")[0]}, len(self._left.names)  # an edge of a polygon has its name
        first = not whole.isdisjoint(self._left.pieces)
        if "=" in name or (not first and whole.isdisjoint(self._right.pieces)):
            return super().piece(name)
        piece = (self._left if first else self._right).piece(name)
        columns = slice(None, split) if first else slice(split, None)
        charts = (piece.chart, self._right.chart) if first else (self._left.chart, piece.chart)
        normal, across = (
            _padded(rule, columns, moves) for rule, moves in ((piece.normal, False), (piece.across, True))
        )
        return Piece(name, self._joined(*charts), normal, across)

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` have both parts in the two regions; `[N]`."""
        split = len(self._left.names)
        return self._left.contains(points[:, :split]) & self._right.contains(points[:, split:])

    def between(self, name: str, lower: float, upper: float) -> Region:
        """Return the part of it with one coordinate between two values; raises UserError."""
        if name in self._right.names:
            return Product(self._left, self._right.between(name, lower, upper))
        return Product(self._left.between(name, lower, upper), self._right)


def _numbered(chart: Chart) -> Chart:
    """Return the chart of a finite set of M points by a parameter from 0 to M, whose whole part numbers them."""
    if chart.dimension:
        return chart
    points = chart.all_points()

    def numbered(parameters: Array) -> Array:
        return points[np.clip(parameters[:, 0].astype(int), 0, len(points) - 1)]

    return Chart((0.0,), (float(len(points)),), ("",), numbered)


def _padded(rule: Callable[[Array], Array] | None, columns: slice, moves: bool) -> Callable[[Array], Array] | None:
    """Apply a rule for some columns to points `[N, d]`; the others stay, or are 0."""
    if rule is None:
        return None

    def padded(points: Array) -> Array:
        out = points.copy() if moves else np.zeros_like(points)
        out[:, columns] = rule(points[:, columns])
        return out

    return padded


def _inner(left: Region, right: Region) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the ends of the box in which two boxes overlap."""
    return (
        tuple(max(pair) for pair in zip(left.lower, right.lower, strict=True)),
        tuple(min(pair) for pair in zip(left.upper, right.upper, strict=True)),
    )


def _outer(left: Region, right: Region) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the ends of the box around two boxes."""
    return (
        tuple(min(pair) for pair in zip(left.lower, right.lower, strict=True)),
        tuple(max(pair) for pair in zip(left.upper, right.upper, strict=True)),
    )


OPERATIONS["-"] = lambda left, right: Combined(left, right, "-")
OPERATIONS["&"] = lambda left, right: Combined(left, right, "&")
OPERATIONS["|"] = lambda left, right: Combined(left, right, "|")
OPERATIONS["*"] = Product
