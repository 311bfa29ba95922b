"""Boxes: products of intervals, whose faces are "x-", "x+", "t-" and so on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import copy
from functools import reduce
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError
from kanpinn.geometry.chart import Array, Chart
from kanpinn.geometry.distance import Distance, Function, both, line, trimmed
from kanpinn.geometry.region import Piece, Region, axis_normal, boundary_name

FEWEST_NUMBERS = 2**20
"""Floating-point numbers that an interval must hold: points on it have to be told apart."""


@final
class Box(Region):
    """A product of intervals, one per named coordinate: `Box(x=(-1, 1), t=(0, 1))`.

    Its faces are "x-", "x+" and so on; those of a box with a name, `Box(x=…, name="slot")`, "slot.x-", together "slot".

    Attributes:
        names: Coordinate names, in the order of the columns of every points array.
        lower: Lower ends, one per coordinate.
        upper: Upper ends, one per coordinate.
        name: Its name, before those of its faces; "" for none.

    Raises:
        UserError: If an interval is empty, not finite or too narrow for its distance from 0, or a name is not a word
            without underscores, or a chain of the others.
    """

    def __init__(self, **intervals: Any) -> None:
        name = intervals.pop("name", "")  # no argument of its own: Box(**dictionary) could be taken to name it
        self.name = boundary_name(self, name) if name else ""
        ends = [_ends(name, interval) for name, interval in intervals.items()]
        self.names = tuple(intervals)
        self.lower = tuple(a for a, _ in ends)
        self.upper = tuple(b for _, b in ends)
        for one in intervals:
            others = sorted(set(intervals) - {one})
            if re.fullmatch(f"(?:{'|'.join(others)})+", one):
                raise UserError(f"Box: {one} reads like a derivative by {', '.join(others)}; take another name")

    @property
    def reentrant(self) -> bool:
        """True if a corner turns inwards."""
        return False

    def __repr__(self) -> str:
        named = [f"name={self.name!r}"] if self.name else []
        return f"Box({', '.join([f'{name}={self.interval(name)}' for name in self.names] + named)})"

    def __mul__(self, other: Region) -> Region:
        """Return the product with another region, such as an interval of time; of two boxes it is a box."""
        if not isinstance(other, Box) or self.name or other.name:
            return super().__mul__(other)
        if shared := set(self.names) & set(other.names):
            raise UserError(f"{self} * {other}: both have {', '.join(sorted(shared))}")
        return Box(**{name: box.interval(name) for box in (self, other) for name in box.names})

    def between(self, name: str, lower: float, upper: float) -> Box:
        """Return the part of it with one coordinate between two values."""
        found, column = copy(self), self.names.index(name)
        found.lower = (*self.lower[:column], lower, *self.lower[column + 1 :])
        found.upper = (*self.upper[:column], upper, *self.upper[column + 1 :])
        return found

    @property
    def frame(self) -> Chart:
        """The box itself."""
        return Chart(self.lower, self.upper, self.names, lambda parameters: parameters)

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """The faces, two per coordinate."""
        ends = [(column, end) for column in range(len(self)) for end in ("-", "+")]
        faces = [self._face(column, end) for column, end in ends]
        return {face.name: face for face in faces}

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` lie between all ends, the ends included; `[N]`."""
        return np.logical_and.reduce((points >= self.lower) & (points <= self.upper), axis=1)

    def distances(self, name: str, *, outside: bool = False) -> list[Distance]:
        """Return the distance to a face's plane or, from outside, to the face; none there in four coordinates."""
        faces = list(self.pieces)
        if name not in faces or (outside and len(self) > 3):
            return []
        column, upper = divmod(faces.index(name), 2)
        sign = -1 if upper else 1
        inward = [float(sign * (k == column)) for k in range(len(self))]
        plane = line(self.upper if upper else self.lower, [-n if outside else n for n in inward])
        others = [self._between(k) for k in range(len(self)) if k != column]
        if not outside or not others:
            return [Distance(plane)]

        def on_face(p: Sequence[Any]) -> Any:
            return reduce(both, (within(p) for within in others))

        return [trimmed(plane, on_face, max(b - a for a, b in zip(self.lower, self.upper, strict=True)))]

    def _between(self, column: int) -> Function:
        """Return (x − a)(b − x)/(b − a) for one of its intervals."""
        a, b = self.lower[column], self.upper[column]
        return lambda p: (p[column] - a) * (b - p[column]) / (b - a)

    def _face(self, column: int, end: str) -> Piece:
        here, there = self.lower[column], self.upper[column]
        if end == "+":
            here, there = there, here

        def across(points: Array) -> Array:
            moved = points.copy()
            moved[:, column] = there
            return moved

        normal = axis_normal(column, -1 if end == "-" else 1)
        name = ".".join([self.name] * bool(self.name) + [self.names[column] + end])
        return Piece(name, self.chart.section(column, here), normal, across)


def _ends(name: str, interval: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of one interval as numbers; raises UserError where they make none."""
    try:
        a, b = (float(end) for end in interval)
    except (TypeError, ValueError):
        raise UserError(f"Box({name}={interval!r}): expected two numbers, such as {name}=(0, 1)") from None
    if not name.isalnum() or name[0].isdigit():
        raise UserError(f"Box({name}=({a:g}, {b:g})): expected a name of letters and digits, a letter first")
    if not (math.isfinite(b - a) and a < b):
        raise UserError(f"Box({name}=({a:g}, {b:g})): expected finite ends, the lower one first")
    if b - a < FEWEST_NUMBERS * math.ulp(max(abs(a), abs(b))):
        raise UserError(
            f"Box({name}=({a}, {b})): too narrow so far from 0, its numbers lie {math.ulp(max(abs(a), abs(b))):.2g} "
            f"apart; shift or scale {name}"
        )
    return a, b
