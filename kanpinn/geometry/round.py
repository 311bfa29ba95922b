"""Disks, ellipses and balls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError
from kanpinn.geometry.chart import ROUNDING, Array, Chart
from kanpinn.geometry.distance import Distance, ellipse, outside_sphere, sphere
from kanpinn.geometry.region import Piece, Region, boundary_name

_TURN = 2 * math.pi


class Ellipse(Region):
    """An ellipse: `Ellipse(center=[0, 0], semiaxes=[2, 1])`, its first semiaxis turned from x by `angle=` radians.

    Its boundary is one piece, with the region's name.

    Attributes:
        name: Name of its boundary.
        center: Its middle.
        semiaxes: Half its length and half its width.
        angle: Angle by which it is turned, rad, anticlockwise.

    Raises:
        UserError: If a number is not finite, or a semiaxis not above 0.
    """

    def __init__(
        self,
        center: Sequence[float],
        semiaxes: Sequence[float],
        angle: float = 0.0,
        *,
        name: str = "ellipse",
        names: Sequence[str] = ("x", "y"),
    ) -> None:
        self.names, self.name = tuple(names), boundary_name(self, name)
        (self.angle,) = _numbers(self, "angle", (angle,), 1)
        self.center = _numbers(self, "center", center, 2)
        self.semiaxes = _numbers(self, "semiaxes", semiaxes, 2, positive=True)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        self._axes = np.array([[cos, sin], [-sin, cos]])  # rows: the directions of the semiaxes
        reach = np.hypot(*(self._axes * np.array(self.semiaxes)[:, None]))
        self.lower = tuple((np.array(self.center) - reach).tolist())
        self.upper = tuple((np.array(self.center) + reach).tolist())

    @property
    def reentrant(self) -> bool:
        """True if a corner turns inwards."""
        return False

    def __repr__(self) -> str:
        turned = f", angle={self.angle}" if self.angle else ""
        return f"Ellipse({list(self.center)}, {list(self.semiaxes)}{turned}, name={self.name!r}, names={self.names})"

    def _points(self, radius: Array | float, angle: Array) -> Array:
        """Map polar coordinates `[N]` of the unit disk to points `[N, 2]`."""
        unit = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.reshape(radius, (-1, 1))
        return self.center + (unit * self.semiaxes) @ self._axes

    @cached_property
    def chart(self) -> Chart:
        """Map of (ab ρ²/2, φ): the area element of the unit disk is ρ dρ dφ."""
        area = math.prod(self.semiaxes)
        return Chart(
            (0.0, 0.0), (area / 2, _TURN), ("", ""), lambda p: self._points(np.sqrt(2 * p[:, 0] / area), p[:, 1])
        )

    @cached_property
    def pieces(self) -> Mapping[str, Piece]:
        """The boundary, by arc length."""
        length, angle_at = _arc(*self.semiaxes)
        chart = Chart((0.0,), (length,), ("",), lambda p: self._points(1.0, angle_at(p[:, 0])))
        return {self.name: Piece(self.name, chart, self._normal)}

    def _normal(self, points: Array) -> Array:
        """Return the gradients of (x/a)² + (y/b)² `[N, 2]`, of unit length."""
        slope = ((points - self.center) @ self._axes.T / np.square(self.semiaxes)) @ self._axes
        return slope / np.linalg.norm(slope, axis=1, keepdims=True)

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, 2]` lie within it or, to rounding, on its boundary; `[N]`."""
        return np.square((points - self.center) @ self._axes.T / self.semiaxes).sum(axis=1) <= 1 + ROUNDING

    def distances(self, name: str, *, outside: bool = False) -> list[Distance]:
        """Return the function of its boundary; none for another name."""
        if name != self.name:
            return []
        if self.semiaxes[0] == self.semiaxes[1]:
            return [Distance((outside_sphere if outside else sphere)(self.center, self.semiaxes[0]))]
        return [Distance(ellipse(self.center, self._axes, self.semiaxes, -1 if outside else 1))]


@final
class Disk(Ellipse):
    """A disk: `Disk(center=[0, 0], radius=1)`. Its boundary is one piece, with the region's name.

    Raises:
        UserError: If a number is not finite, or the radius not above 0.
    """

    def __init__(
        self,
        center: Sequence[float] = (0, 0),
        radius: float = 1.0,
        *,
        name: str = "disk",
        names: Sequence[str] = ("x", "y"),
    ) -> None:
        semiaxes = 2 * _numbers(self, "radius", (radius,), 1, positive=True)
        super().__init__(center, semiaxes, name=name, names=names)

    def __repr__(self) -> str:
        return f"Disk({list(self.center)}, {self.semiaxes[0]}, name={self.name!r}, names={self.names})"


@final
class Ball(Region):
    """A ball: `Ball(center=[0, 0, 0], radius=1)`. Its boundary is one piece, with the region's name.

    Attributes:
        name: Name of its boundary.
        center: Its middle.
        radius: Its radius.

    Raises:
        UserError: If a number is not finite, or the radius not above 0.
    """

    def __init__(
        self,
        center: Sequence[float] = (0, 0, 0),
        radius: float = 1.0,
        *,
        name: str = "ball",
        names: Sequence[str] = ("x", "y", "z"),
    ) -> None:
        self.names, self.name = tuple(names), boundary_name(self, name)
        self.center = _numbers(self, "center", center, 3)
        (self.radius,) = _numbers(self, "radius", (radius,), 1, positive=True)
        self.lower = tuple(c - self.radius for c in self.center)
        self.upper = tuple(c + self.radius for c in self.center)

    @property
    def reentrant(self) -> bool:
        """True if a corner turns inwards."""
        return False

    def __repr__(self) -> str:
        return f"Ball({list(self.center)}, {self.radius}, name={self.name!r}, names={self.names})"

    def _points(self, radius: Array | float, height: Array, angle: Array) -> Array:
        """Map a radius, the cosine of the polar angle and the azimuth `[N]` to points `[N, 3]`."""
        across = np.sqrt(np.maximum(1 - height**2, 0))
        unit = np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)
        return self.center + unit * np.reshape(radius, (-1, 1))

    @cached_property
    def chart(self) -> Chart:
        """Map of (r³/3, cos θ, φ): the volume element is r² dr d(cos θ) dφ."""
        upper = (self.radius**3 / 3, 1.0, _TURN)
        return Chart((0.0, -1.0, 0.0), upper, ("",) * 3, lambda p: self._points(np.cbrt(3 * p[:, 0]), p[:, 1], p[:, 2]))

    @cached_property
    def pieces(self) -> Mapping[str, Piece]:
        """The sphere, by R² cos θ and φ (Archimedes: the area element is R² d(cos θ) dφ)."""
        most = self.radius**2
        chart = Chart(
            (-most, 0.0), (most, _TURN), ("",) * 2, lambda p: self._points(self.radius, p[:, 0] / most, p[:, 1])
        )
        return {self.name: Piece(self.name, chart, lambda points: (points - self.center) / self.radius)}

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, 3]` lie within it or, to rounding, on its boundary; `[N]`."""
        return np.square((points - self.center) / self.radius).sum(axis=1) <= 1 + ROUNDING

    def distances(self, name: str, *, outside: bool = False) -> list[Distance]:
        """Return the function of the sphere; none for another name."""
        make = outside_sphere if outside else sphere
        return [Distance(make(self.center, self.radius))] if name == self.name else []


def _numbers(
    region: Region, key: str, given: Sequence[float], count: int, *, positive: bool = False
) -> tuple[float, ...]:
    """Return numbers of a region, once they are finite and as many as they must be; raises UserError."""
    who = type(region).__name__
    try:
        found = tuple(float(value) for value in given)
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not all(math.isfinite(v) and (v > 0 or not positive) for v in found):
        kind = "positive" if positive else "finite"
        told = f"{given!r}: expected {count} {kind} numbers" if count > 1 else f"{given[0]!r}: expected a {kind} number"
        raise UserError(f"{who}: {key}={told}")
    if key == "center" and len(region.names) != count:
        raise UserError(f"{who}: names={region.names}: expected {count} coordinates")
    return found


def _arc(a: float, b: float):
    """Return an ellipse's length, and its angle φ, (a cos φ, b sin φ), as a function of the arc length `[N]`.

    The length from φ = 0 is b E(φ | 1 − a²/b²), E the incomplete elliptic integral of the second kind (DLMF 19.30.2);
    its inverse is interpolated, then corrected by Newton steps.
    """
    from scipy.special import ellipeinc

    if a == b:
        return _TURN * a, lambda s: s / a

    def length(angle: Array) -> Array:
        return b * ellipeinc(angle, 1 - (a / b) ** 2)

    table = np.linspace(0, _TURN, 4097)
    lengths = length(table)

    def angle_at(s: Array) -> Array:
        angle = np.interp(s, lengths, table)
        for _ in range(3):
            angle = angle - (length(angle) - s) / np.hypot(a * np.sin(angle), b * np.cos(angle))
        return angle

    return float(lengths[-1]), angle_at
