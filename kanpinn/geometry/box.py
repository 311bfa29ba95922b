"""Boxes: products of intervals, whose faces are "x-", "x+", "t-" and so on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError
from kanpinn.geometry.chart import Array, Chart
from kanpinn.geometry.region import Piece, Region, axis_normal

FEWEST_NUMBERS = 2**20
"""Floating-point numbers that an interval must hold: points on it have to be told apart."""


@final
class Box(Region):
    """A product of intervals, one per named coordinate: `Box(x=(-1, 1), t=(0, 1))`.

    Attributes:
        names: Coordinate names, in the order of the columns of every points array.
        lower: Lower ends, one per coordinate.
        upper: Upper ends, one per coordinate.

    Raises:
        UserError: If an interval is empty, not finite or too narrow for its distance from 0, or a name is not a word
            without underscores, or a chain of the others.
    """

    def __init__(self, **intervals: tuple[float, float]) -> None:
        ends = [_ends(name, interval) for name, interval in intervals.items()]
        self.names = tuple(intervals)
        self.lower = tuple(a for a, _ in ends)
        self.upper = tuple(b for _, b in ends)
        for name in intervals:
            others = sorted(set(intervals) - {name})
            if re.fullmatch(f"(?:{'|'.join(others)})+", name):
                raise UserError(f"Box: {name} reads like a derivative by {', '.join(others)}; take another name")

    def __repr__(self) -> str:
        return f"Box({', '.join(f'{name}={self.interval(name)}' for name in self.names)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.names, self.lower, self.upper))

    def __mul__(self, other: Box) -> Box:
        """Return the product of two boxes, such as a box in space and an interval of time."""
        if shared := set(self.names) & set(other.names):
            raise UserError(f"{self} * {other}: both have {', '.join(sorted(shared))}")
        return Box(**{name: box.interval(name) for box in (self, other) for name in box.names})

    @property
    def chart(self) -> Chart:
        """The box itself."""
        return Chart(self.lower, self.upper, self.names, lambda parameters: parameters)

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """The faces, two per coordinate."""
        return {name + end: self._face(column, end) for column, name in enumerate(self.names) for end in ("-", "+")}

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` lie between all ends, the ends included; `[N]`."""
        return np.logical_and.reduce((points >= self.lower) & (points <= self.upper), axis=1)

    def _face(self, column: int, end: str) -> Piece:
        here, there = self.lower[column], self.upper[column]
        if end == "+":
            here, there = there, here

        def across(points: Array) -> Array:
            moved = points.copy()
            moved[:, column] = there
            return moved

        normal = axis_normal(column, -1 if end == "-" else 1)
        return Piece(self.names[column] + end, self.chart.section(column, here), normal, across)


def _ends(name: str, interval: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of one interval as numbers; raises UserError where they make none."""
    try:
        a, b = (float(end) for end in interval)
    except (TypeError, ValueError):
        raise UserError(f"Box({name}={interval!r}): expected two numbers, such as {name}=(0, 1)") from None
    if not name.isalnum() or name[0].isdigit() or not (math.isfinite(b - a) and a < b):
        raise UserError(
            f"Box({name}=({a}, {b})): expected a name of letters and digits and finite ends with lower < upper"
        )
    if b - a < FEWEST_NUMBERS * math.ulp(max(abs(a), abs(b))):
        raise UserError(
            f"Box({name}=({a}, {b})): too narrow so far from 0, its numbers lie {math.ulp(max(abs(a), abs(b))):.2g} "
            f"apart; shift or scale {name}"
        )
    return a, b
