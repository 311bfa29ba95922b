"""What a PDE problem is: a box, unknowns, residuals, conditions and, where one is known, a reference solution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from kanpinn.errors import UserError, invalid
from kanpinn.jets.jet import Jet

Terms = Tensor | Mapping[str, Tensor]


class Box:
    """A product of intervals, one per named coordinate: `Box(x=(-1, 1), t=(0, 1))`.

    Attributes:
        names: Coordinate names, in the order of the columns of every points array.
        lower: Lower ends, one per coordinate.
        upper: Upper ends, one per coordinate.

    Raises:
        ValueError: If an interval is empty or not finite, or a name is not one letter.
    """

    def __init__(self, **intervals: tuple[float, float]) -> None:
        self.names = tuple(intervals)
        self.lower = tuple(float(a) for a, _ in intervals.values())
        self.upper = tuple(float(b) for _, b in intervals.values())
        for name, a, b in zip(self.names, self.lower, self.upper, strict=True):
            if len(name) != 1 or not (math.isfinite(a) and math.isfinite(b) and a < b):
                raise ValueError(
                    f"Box({name}=({a}, {b})): expected a one-letter name and finite ends with lower < upper"
                )

    def __len__(self) -> int:
        return len(self.names)

    def interval(self, name: str) -> tuple[float, float]:
        """The interval of one coordinate; raises ValueError for an unknown name."""
        k = self.names.index(name)
        return self.lower[k], self.upper[k]

    @property
    def measure(self) -> float:
        """The product of the interval lengths."""
        return math.prod(b - a for a, b in zip(self.lower, self.upper, strict=True))


@dataclass(frozen=True)
class Condition:
    """An equation that holds on faces of the box: initial, boundary or (between opposite faces) periodic.

    Or on planes inside it, where two media meet: such a condition compares the limits from both sides.

    Attributes:
        name: The name of its loss term.
        faces: Faces it holds on, such as `("t-",)` for the initial time or `("x-", "x+")` for both ends in x; or inner
            planes only, such as `("x=0.5",)`.
        residual: What vanishes there, from a `Point`; for a periodic condition from the two opposite `Point`s; on an
            inner plane from the `Point`s just below and just above it, apart from each other by rounding only.
        periodic: The coordinate whose opposite faces are compared, or None. Such a condition is dropped when the
            network is periodic in that coordinate by construction. `faces` is then the lower face.
        symmetry: The coordinate whose symmetry implies it, or None. Such a condition is dropped when the network has
            that symmetry by construction; otherwise it stays a loss term, whatever `Problem.exact` builds in.
        where: The part of the faces it holds on, `[N]` booleans from coordinates `[N]`; all of them without one. It is
            asked about points on the faces and planes themselves.
    """

    name: str
    faces: tuple[str, ...]
    residual: Callable[..., Terms]
    periodic: str | None = None
    symmetry: str | None = None
    where: Callable[[Coordinates], Tensor] | None = None

    @property
    def inner(self) -> bool:
        """Whether it holds on planes inside the box."""
        return any("=" in face for face in self.faces)


class Point:
    """Coordinates, unknowns and their derivatives at N points, by name: `p.x`, `p.u`, `p.u_xx`; each `[N]`."""

    def __init__(self, names: tuple[str, ...], points: Tensor, fields: Mapping[str, Jet]) -> None:
        self._values: dict[str, Tensor] = {name: points[:, k] for k, name in enumerate(names)}
        self._fields = fields

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        unknown, _, derivative = name.partition("_")
        if unknown in self._fields:
            try:
                return self._fields[unknown][derivative]
            except KeyError:
                raise UserError(f"p.{name} is not computed: add '{derivative}' to the problem's derivatives") from None
        raise UserError(
            f"p.{name}: no such coordinate or unknown; known are {', '.join([*self._values, *self._fields])}"
        )


class Coordinates:
    """Coordinates (or raw outputs) by name, as jets (in `Problem.exact`) or tensors `[N]` (in `Problem.reference`)."""

    def __init__(self, names: tuple[str, ...], values: Any) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise UserError(f"p.{name}: no such name; known are {', '.join(vars(self))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    """False for NaN, infinities and integers beyond every float, also inside lists and tuples."""
    if isinstance(value, list | tuple):
        return all(_is_finite(item) for item in value)
    try:
        return not _is_number(value) or math.isfinite(value)
    except OverflowError:
        return False


@dataclass(frozen=True)
class Problem(ABC):
    """A PDE problem; subclasses are frozen dataclasses whose fields are the coefficients a config may set.

    Class attributes, or properties where they depend on a coefficient:
        domain: The box on which the equations hold, or around where they do (`inside`).
        unknowns: Names of the unknown functions, no underscore in them.
        outputs: Names of the network's outputs, the unknowns by default; others need `ansatz`.
        derivatives: The derivatives its residuals and conditions use, as `("t", "x", "xx")`; lower ones come along.
        periodic: Coordinates in which every unknown is periodic over the box, for networks that build it in.
        symmetry: Coordinates about whose middle every unknown is mirrored, for networks that build it in:
            `{"x": "even"}` or `{"x": "odd"}`; with `outputs` of its own, these are, and `ansatz` and `exact` keep it.
        equation: The equation as one line of text, for figures and files.
        labels: Long name and unit of coordinates and unknowns that have one: `{"x": ("position", "m")}`.
        positive: Coefficients that must be above 0.

    Raises:
        UserError: If a coefficient is no finite number (or boolean) of its declared type, or one of `positive` is not
            above 0.
    """

    domain: ClassVar[Box]
    unknowns: ClassVar[tuple[str, ...]] = ("u",)
    outputs: ClassVar[tuple[str, ...]] = ()
    derivatives: ClassVar[tuple[str, ...]]
    periodic: ClassVar[tuple[str, ...]] = ()
    symmetry: ClassVar[Mapping[str, str]] = {}
    equation: ClassVar[str] = ""
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {}
    positive: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value, positive = getattr(self, field.name), field.name in self.positive
            whole = field.type in (int, "int")
            numeric = positive or whole or field.type in (float, "float")
            if field.type in (bool, "bool"):
                if not isinstance(value, bool):
                    raise invalid(f"problem.{field.name}", value, "true or false")
                continue
            fits = _is_finite(value) and (_is_number(value) or not numeric)
            if not fits or (positive and value <= 0) or (whole and value != int(value)):
                kind = "whole number" if whole else "number"
                expected = f"a {'positive' if positive else 'finite'} {kind}" if numeric else "finite numbers"
                raise invalid(f"problem.{field.name}", value, expected)

    @abstractmethod
    def residual(self, p: Point) -> Terms:
        """What vanishes inside the box: `[N]`, or a mapping from equation names to `[N]` for several equations."""

    @abstractmethod
    def conditions(self) -> list[Condition]:
        """The initial and boundary conditions."""

    def inside(self, p: Coordinates) -> Tensor | None:  # noqa: ARG002
        """Which points of the box belong to the domain, its boundary included; None for all of them.

        Points are placed, fields written and errors measured there only, and conditions hold on the parts of their
        faces there. Edges of the domain within the box are inner planes.

        Args:
            p: The coordinates, tensors `[N]`.

        Returns:
            Booleans `[N]`, or None.
        """
        return None

    def inputs(self, p: Coordinates) -> Sequence[Jet]:  # noqa: ARG002
        """Further inputs of the network besides the coordinates, each within [−1, 1]; none by default.

        An input with a kink, such as `2 * abs(p.x) - 1`, gives every network a kink in u along x = 0 while it stays
        continuous (a level-set input).

        Args:
            p: The coordinates as jets `[C, N]`: `p.x`, `p.t`.

        Returns:
            Jets `[C, N]`.
        """
        return ()

    def ansatz(self, p: Coordinates, raw: Coordinates) -> Jet | Mapping[str, Jet] | None:  # noqa: ARG002
        """The unknowns built from the network's outputs, before `exact`; None where they are the outputs.

        A known singular part s is added as `raw.u + s * raw.v` (with `outputs = ("u", "v")`), for example.

        Args:
            p: The coordinates as jets `[C, N]`: `p.x`, `p.t`.
            raw: The network's outputs as jets `[C, N]`, by their names in `outputs`.

        Returns:
            A jet `[C, N]`, affine in the outputs, or a mapping from unknowns to jets.
        """
        return None

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet | Mapping[str, Jet] | None:  # noqa: ARG002
        """The unknowns rebuilt so that they meet their conditions exactly, or None where no such form is offered.

        Args:
            p: The coordinates as jets `[C, N]`: `p.x`, `p.t`.
            raw: The network's outputs, or what `ansatz` makes of them, as jets `[C, N]`, by the unknowns' names:
                `raw.u`.

        Returns:
            A jet `[C, N]`, affine in the raw outputs, or a mapping from unknowns to jets.
        """
        return None

    def reference(self, p: Coordinates) -> Terms | None:  # noqa: ARG002
        """A solution known independently of any network: `[N]`, or a mapping from unknowns to `[N]`; None without one.

        Args:
            p: The coordinates, float64 tensors `[N]`.
        """
        return None


def output_names(problem: Problem) -> tuple[str, ...]:
    """Names of the network's outputs: `outputs`, or the unknowns where it is empty."""
    return problem.outputs or problem.unknowns


def inside(problem: Problem, points: Tensor) -> Tensor | None:
    """Which points `[N, d]` belong to the problem's domain, `[N]`; None where it fills its box.

    Raises:
        UserError: If `Problem.inside` gives anything but booleans `[N]`.
    """
    found = problem.inside(Coordinates(problem.domain.names, points.unbind(1)))
    return None if found is None else checked_part(f"problem={type(problem).__name__}: inside", found, len(points))


def checked_part(who: str, found: Any, count: int) -> Tensor:
    """The answer of `Problem.inside` or `Condition.where`, once it is known to be booleans `[count]`."""
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (count,):
        got = f"{tuple(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise UserError(f"{who} returned {got}, expected booleans of shape ({count},), such as p.x < 0")
    return found
