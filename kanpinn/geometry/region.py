"""Regions: sets of points with named coordinates, whose boundary comes in named pieces; parts of them; finite sets."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import UserError, invalid, unknown_choice
from kanpinn.geometry.chart import Array, Chart, Part
from kanpinn.geometry.distance import Distance
from kanpinn.options import decimal


@final
class Coordinates:
    """Coordinates (or network outputs) by name, `p.x`: jets `[C, N]` in `Problem.exact`, tensors `[N]` elsewhere."""

    def __init__(self, names: tuple[str, ...], values: Sequence[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise UserError(f"p.{name}: no such name; known are {', '.join(vars(self))}")


@final
@dataclass(frozen=True)
class Piece:
    """A set of points that a condition holds on: a piece of a boundary, a plane inside, or a region.

    Attributes:
        name: Its name in messages.
        chart: The map that places points on it.
        normal: Gives the outward unit normals `[N, d]` at points `[N, d]` on it, on an inner plane those of the side
            below; None where there is none.
        across: Moves points `[N, d]` to the opposite piece, for periodic conditions; None where there is none.
        beside: Moves points `[N, d]` just off an inner plane or an interface, to the side below or inside (−1) or the
            other one (1); None elsewhere.
    """

    name: str
    chart: Chart
    normal: Callable[[Array], Array] | None = None
    across: Callable[[Array], Array] | None = None
    beside: Callable[[Tensor, int], Tensor] | None = None

    def restricted(self, part: Part) -> Piece:
        """Return the part of it where the rule `part` holds."""
        return replace(self, chart=self.chart.restricted(part))


def boundary_name(region: Region, name: Any) -> str:
    """Return the name of a region's boundary; raises UserError for one that stands for something else."""
    if not isinstance(name, str) or not name or "=" in name or name in ("boundary", "domain"):
        told = "expected a text without '=', and none of boundary, domain, which have a meaning"
        raise UserError(f"{type(region).__name__}: name={name!r}: {told}")
    return name


OPERATIONS: dict[str, Callable[[Region, Region], Region]] = {}
"""Differences, intersections, unions and products, by their signs; `combined` puts them here."""


class Region(ABC):
    """A set of points with named coordinates.

    Attributes:
        names: Coordinate names, in the order of the columns of every points array.
        lower: Lower ends of a box around it, one per coordinate.
        upper: Upper ends of that box.
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @property
    def frame(self) -> Chart:
        """The box around it, points outside rejected: its coordinates are the parameters."""
        return Chart(self.lower, self.upper, self.names, lambda points: points, self.contains)

    @property
    def chart(self) -> Chart:
        """The map that places points in it."""
        return self.frame

    @property
    def reentrant(self) -> bool:
        """True unless it is known that no corner turns inwards."""
        return True

    @property
    @abstractmethod
    def pieces(self) -> Mapping[str, Piece]:
        """The pieces of its boundary, by name."""

    @abstractmethod
    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` belong to it, its boundary included; `[N]`."""

    def inside(self, p: Any) -> Tensor:
        """Tell which points lie in it, by their coordinates as numbers or jets, `p.x`; booleans `[N]`."""
        columns = (getattr(p, name) for name in self.names)
        points = torch.stack([x if isinstance(x, Tensor) else x.value for x in columns], dim=1)
        return torch.from_numpy(self.contains(points.detach().double().cpu().numpy())).to(points.device)

    @property
    def measure(self) -> float:
        """Length, area or volume; of a finite set the number of its points."""
        return self.chart.measure

    def __len__(self) -> int:
        return len(self.names)

    def interval(self, name: str) -> tuple[float, float]:
        """Return the ends of the box around it in one coordinate; raises ValueError for an unknown name."""
        k = self.names.index(name)
        return self.lower[k], self.upper[k]

    def __sub__(self, other: Region) -> Region:
        """Return the part of it that is not in another one, such as a plate without a hole."""
        return OPERATIONS["-"](self, other)

    def __and__(self, other: Region) -> Region:
        """Return the part of it that is in another one too."""
        return OPERATIONS["&"](self, other)

    def __or__(self, other: Region) -> Region:
        """Return the union with another one."""
        return OPERATIONS["|"](self, other)

    def __mul__(self, other: Region) -> Region:
        """Return the product with another one, such as an interval of time."""
        return OPERATIONS["*"](self, other)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def components(self) -> list[Region]:
        """Regions whose product it is, in the order of their coordinates: itself alone, where it is none."""
        return [self]

    def distances(self, name: str, *, outside: bool = False) -> list[Distance]:  # noqa: ARG002
        """Return the distance functions of the parts of a piece of its boundary; none where there are none.

        They are positive within the region, or outside, and zero there nowhere but on the piece.
        """
        return []

    def between(self, name: str, lower: float, upper: float) -> Region:  # noqa: ARG002
        """Return the part of it with one coordinate between two values; raises UserError where that is no interval."""
        raise UserError(f"{self}: {name} is no interval of its own; write the domain as region * Box({name}=…)")

    def support(self, name: str) -> list[Piece]:
        """Return the pieces of the boundary that a name stands for, or the inner plane.

        "boundary" stands for all pieces, the name of a box for all its faces, "domain" for the region itself.

        Raises:
            UserError: As `piece` does.
        """
        if name == "domain" and name not in self.pieces:
            return [Piece(name, self.chart)]
        whole = [one for one in self.pieces if name == "boundary" or one.startswith(f"{name}.")]
        return [self.piece(one) for one in whole if name not in self.pieces] or [self.piece(name)]

    def piece(self, name: str) -> Piece:
        """Return a piece of the boundary, or the inner plane that a name such as "x=0.5" stands for.

        Raises:
            UserError: If there is no such piece, listing those there are, or the plane does not meet the region.
        """
        if "=" in name:
            return _plane(self, name)
        if name not in self.pieces:
            raise unknown_choice("on", name, self.pieces)
        return self.pieces[name]


def axis_normal(column: int, sign: int) -> Callable[[Array], Array]:
    """Return the normals `[N, d]` at points `[N, d]` that are ± the unit vector of one coordinate."""

    def normal(points: Array) -> Array:
        found = np.zeros_like(points)
        found[:, column] = sign
        return found

    return normal


def next_number(values: Tensor, side: int) -> Tensor:
    """Return the next floating-point numbers `[N]` below (side −1) or above (1), for limits from one side.

    None is subnormal: a processor that flushes those to zero would lose the side.
    """
    found = torch.nextafter(values, torch.full_like(values, side * math.inf))
    tiny = torch.finfo(values.dtype).tiny
    return torch.where(found.abs() < tiny, torch.full_like(values, side * tiny), found)


def _plane(region: Region, name: str) -> Piece:
    coordinate, _, text = name.partition("=")
    if coordinate not in region.names:
        raise unknown_choice(f"plane {name}: coordinate", coordinate, region.names)
    lower, upper = region.interval(coordinate)
    value = decimal(text.strip())
    if not lower < value < upper:
        raise invalid(f"plane {coordinate}", text, f"a number between {lower:g} and {upper:g}")
    column = region.names.index(coordinate)

    def beside(points: Tensor, side: int) -> Tensor:
        moved = points.clone()
        moved[:, column] = next_number(points[:, column], side)
        return moved

    return Piece(name, region.frame.section(column, value), axis_normal(column, 1), beside=beside)


@final
class Restricted(Region):
    """The part of a region where a rule holds, such as an L-shaped part of a box.

    Its boundary pieces are what is left of the region's; edges within the region are inner planes.
    """

    def __init__(self, whole: Region, part: Part) -> None:
        self.names, self.lower, self.upper = whole.names, whole.lower, whole.upper
        self._whole, self._part = whole, part
        self._chart = whole.chart.restricted(part)

    def __repr__(self) -> str:
        return f"Restricted({self._whole}, {self._part!r})"

    @property
    def frame(self) -> Chart:
        """The box around it, points outside rejected."""
        return self._whole.frame.restricted(self._part)

    @property
    def chart(self) -> Chart:
        """The region's map, points outside rejected."""
        return self._chart

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """The region's pieces, cut to where the rule holds."""
        return {name: piece.restricted(self._part) for name, piece in self._whole.pieces.items()}

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` belong to the region and meet the rule; `[N]`."""
        return self._whole.contains(points) & self._part(points)


@final
class Points(Region):
    """A finite set of given points: `Points(x=[0.2, 0.7], t=[0.5, 0.5])`, for conditions at a few places.

    Attributes:
        values: The points `[N, d]`.

    Raises:
        UserError: If a column is no list of finite numbers, columns are not of one length, or there is no point.
    """

    def __init__(self, **columns: float | Sequence[float] | Array) -> None:
        try:
            found = {name: np.atleast_1d(np.asarray(column, dtype=np.float64)) for name, column in columns.items()}
        except (TypeError, ValueError):
            raise UserError("Points: expected numbers, such as Points(x=[0.2, 0.7], t=[0.5, 0.5])") from None
        sizes = {column.shape for column in found.values()}
        if len(sizes) != 1 or any(len(shape) != 1 or not shape[0] for shape in sizes):
            shown = ", ".join(f"{name}: {'×'.join(map(str, column.shape))}" for name, column in found.items())
            raise UserError(f"Points({shown}): expected as many numbers, at least one, in every coordinate")
        self.names = tuple(found)
        self.values = np.stack(list(found.values()), axis=1)
        if not np.isfinite(self.values).all():
            raise UserError("Points: a coordinate is not finite")
        self.lower = tuple(self.values.min(axis=0).tolist())
        self.upper = tuple(self.values.max(axis=0).tolist())

    def __repr__(self) -> str:
        columns = (f"{name}={self.values[:, k].tolist()}" for k, name in enumerate(self.names))
        return f"Points({', '.join(columns)})"

    @property
    def chart(self) -> Chart:
        """The points themselves."""
        return Chart((), (), (), lambda _: self.values)

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """None: points have no boundary."""
        return {}

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` are among them, to the last bit; `[N]`."""
        return (points[:, None] == self.values).all(axis=2).any(axis=1)
