"""Boxes and their faces: where points may lie, and how a condition's points are shared among its faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError, invalid, unknown_choice
from kanpinn.pde.problem import Box, Condition

Array = NDArray[np.float64]
Part = Callable[[Array], NDArray[np.bool_]]
"""Tells which of some points `[N, d]` count, `[N]`."""
PROBE = 2**16
"""Points of the midpoint rule by which the share of a box that lies inside is measured."""


@dataclass(frozen=True)
class Region:
    """A box, or part of one, to be filled with points: the domain or, with one coordinate less, one of its faces.

    Attributes:
        lower: Lower ends, one per coordinate; empty for the end point of a 1-D domain.
        upper: Upper ends.
        names: The coordinates.
        cells: Spline intervals per coordinate, None where no spline says.
        part: Tells which points of the box belong to the region; None for all.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    names: tuple[str, ...]
    cells: tuple[int | None, ...]
    part: Part | None = None

    @classmethod
    def of(cls, domain: Box, cells: Mapping[str, int] | None, part: Part | None = None) -> Region:
        """A domain, with the spline intervals of the coordinates that have them, and what of its box belongs to it."""
        names = domain.names
        return cls(domain.lower, domain.upper, names, tuple((cells or {}).get(name) for name in names), part)

    @property
    def dimension(self) -> int:
        """The number of coordinates."""
        return len(self.lower)

    @property
    def lengths(self) -> tuple[float, ...]:
        """The interval lengths."""
        return tuple(b - a for a, b in zip(self.lower, self.upper, strict=True))

    @cached_property
    def share(self) -> float:
        """How much of the box belongs to the region, by a midpoint rule: exact where its edges fall on 2^k cells."""
        if self.part is None:
            return 1.0
        if not self.dimension:
            return float(self.part(np.empty((1, 0)))[0])
        count = 2 ** (PROBE.bit_length() // self.dimension)
        middles = (np.arange(count) + 0.5) / count
        mesh = np.meshgrid(*[middles] * self.dimension, indexing="ij")
        return float(self.part(self.stretch(np.stack([axis.ravel() for axis in mesh], axis=1))).mean())

    @property
    def measure(self) -> float:
        """Length, area or volume; 1 for a single point."""
        return math.prod(self.lengths) * self.share

    def without(self, face: Face, where: Part | None = None) -> Region:
        """What a face looks like from inside: the region at one value of a coordinate, with that one left out.

        Args:
            face: The face or plane.
            where: Which of its points count, of points `[N, d]` of the domain; None for all.

        Returns:
            The region, of d - 1 coordinates.
        """
        column, parts = face.column, [part for part in (self.part, where) if part is not None]

        def part(points: Array) -> NDArray[np.bool_]:
            whole = np.insert(points, column, face.value, axis=1)
            return np.logical_and.reduce([inside(whole) for inside in parts])

        return Region(
            self.lower[:column] + self.lower[column + 1 :],
            self.upper[:column] + self.upper[column + 1 :],
            self.names[:column] + self.names[column + 1 :],
            self.cells[:column] + self.cells[column + 1 :],
            part if parts else None,
        )

    def keep(self, points: Array, weights: Array) -> tuple[Array, Array]:
        """Drop the points of a rule for the box that do not belong to the region.

        Args:
            points: Points of the box `[N, d]`.
            weights: Their weights `[N]`.

        Returns:
            The points left and their weights, scaled to sum to the region's measure.
        """
        if self.part is None:
            return points, weights
        kept = self.part(points)
        if not kept.any():
            raise UserError(f"none of the {len(points)} points of a grid lie inside the domain; ask for more points.")
        return points[kept], weights[kept] * (self.measure / weights[kept].sum())

    def stretch(self, unit: Array) -> Array:
        """Map points of the unit cube `[N, d]` into the region, never past its ends by rounding."""
        lower, upper = np.asarray(self.lower), np.asarray(self.upper)
        return np.clip(lower + unit * (upper - lower), lower, upper)


@dataclass(frozen=True)
class Face:
    """One face of a domain: the points whose coordinate `column` is `value`.

    Attributes:
        column: The coordinate that does not vary on it.
        value: Its value.
        opposite: Its value on the face across; None for a plane inside the domain.
    """

    column: int
    value: float
    opposite: float | None


def faces_of(condition: Condition, domain: Box) -> list[Face]:
    """Read a condition's faces: "x-" is the lower end in x, "x+" the upper one, "x=0.5" a plane between them.

    Args:
        condition: The condition, on at least one face.
        domain: The box whose faces are meant.

    Returns:
        The faces, in the condition's order.

    Raises:
        UserError: If a name is no face of the domain, there is none, faces and inner planes are mixed, or a periodic
            condition is not on its lower face.
    """
    valid = [name + end for name in domain.names for end in "-+"]
    faces = []
    for face in condition.faces:
        if "=" in face:
            faces.append(_plane(condition.name, face, domain))
            continue
        if face not in valid:
            raise unknown_choice(f"condition {condition.name}: face", face, valid)
        column = domain.names.index(face[0])
        ends = (domain.lower[column], domain.upper[column])
        faces.append(Face(column, *(ends if face[1] == "-" else ends[::-1])))
    if not faces:
        raise UserError(f"condition {condition.name}: has no faces. Valid choices: {', '.join(valid)}.")
    if condition.periodic is not None and tuple(condition.faces) != (f"{condition.periodic}-",):
        raise UserError(
            f"condition {condition.name}: periodic in {condition.periodic} needs faces ('{condition.periodic}-',),"
            f" not {tuple(condition.faces)}."
        )
    if len({face.opposite is None for face in faces}) > 1:
        raise UserError(
            f"condition {condition.name}: faces {tuple(condition.faces)}: ends and inner planes need conditions of "
            "their own; the one's residual takes one point, the other's two."
        )
    return faces


def _plane(condition: str, face: str, domain: Box) -> Face:
    """Read the name of an inner plane, "x=0.5"; raises UserError unless it lies inside the domain."""
    name, _, text = face.partition("=")
    if name not in domain.names:
        raise unknown_choice(f"condition {condition}: face {face}: coordinate", name, domain.names)
    lower, upper = domain.interval(name)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not lower < value < upper:
        raise invalid(f"condition {condition}: face {name}", text, f"a number between {lower:g} and {upper:g}")
    return Face(domain.names.index(name), value, None)


def share(count: int, measures: list[float]) -> list[int]:
    """Split a number of points in proportion to measures, at least one each.

    Args:
        count: Points in all.
        measures: The measures of the parts.

    Returns:
        Whole numbers at most one off their exact shares, and at least 1; they add up to `count` unless
        parts that would have had none get their one.
    """
    ends = np.rint(count * np.cumsum(measures) / math.fsum(measures)).astype(int)
    return [max(1, int(part)) for part in np.diff(ends, prepend=0)]
