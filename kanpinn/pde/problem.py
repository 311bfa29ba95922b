"""Problems: a domain, unknowns, residuals, conditions and, where one is known, a reference solution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import invalid
from kanpinn.geometry import Box, Coordinates, Region, Restricted
from kanpinn.geometry.chart import Array
from kanpinn.jets.jet import Jet
from kanpinn.pde.condition import Condition, Terms, called, checked_part
from kanpinn.pde.point import Point


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

    Class attributes, or set by `adapt` where they depend on a coefficient:
        domain: The region on which the equations hold, such as a box, or one around where they do (`inside`).
        unknowns: Names of the unknown functions, no underscore in them.
        outputs: Names of the network's outputs, the unknowns by default; others need `ansatz`.
        depends: Coordinates of the outputs that do not depend on all, for networks that see no others:
            `{"a": ("x", "y")}`.
        derivatives: The derivatives its residuals and conditions use, as `("t", "x", "xx")`; lower ones come along.
        periodic: Coordinates in which every unknown is periodic over the box, for networks that build it in.
        symmetry: Coordinates about whose middle every unknown is mirrored, for networks that build it in:
            `{"x": "even"}` or `{"x": "odd"}`; with `outputs` of its own, these are, and `ansatz` and `exact` keep it.
        equation: The equation as one line of text, for figures and files.
        labels: Long name and unit of coordinates and unknowns that have one: `{"x": ("position", "m")}`.
        positive: Coefficients that must be above 0.
        kind: Heading that `kanpinn list problems` puts it under, such as "parabolic" or one's own.
        observed: Data given beside the problem, `Data` objects.
        parameters: Intervals of the coefficients that are coordinates of the domain; `parametric` sets them.
        has_equations: False for one of conditions alone, such as a table of data, whose `residual` is not asked.

    Raises:
        UserError: If a coefficient is no finite number (or boolean) of its declared type, or one of `positive` is not
            above 0.
    """

    domain: ClassVar[Region]
    unknowns: ClassVar[tuple[str, ...]] = ("u",)
    outputs: ClassVar[tuple[str, ...]] = ()
    depends: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    derivatives: ClassVar[tuple[str, ...]]
    periodic: ClassVar[tuple[str, ...]] = ()
    symmetry: ClassVar[Mapping[str, str]] = {}
    equation: ClassVar[str] = ""
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {}
    positive: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[str] = ""
    observed: ClassVar[tuple[Any, ...]] = ()
    parameters: ClassVar[Mapping[str, tuple[float, float]]] = {}
    has_equations: ClassVar[bool] = True

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
                raise invalid(f"problem.{field.name}", repr(value) if isinstance(value, str) else value, expected)

    def adapt(self, **attributes: Any) -> None:
        """Set class attributes to values that depend on a coefficient; for `__post_init__`, after that of `super()`."""
        vars(self).update(attributes)

    @abstractmethod
    def residual(self, p: Point) -> Terms:
        """Residual of the equation, 0 in the domain: `[N]`, or a mapping from equation names to `[N]` for several."""

    @abstractmethod
    def conditions(self) -> list[Condition]:
        """The initial and boundary conditions."""

    def inside(self, p: Coordinates) -> Tensor | None:  # noqa: ARG002
        """Domain as a part of `domain`, by booleans at its points, the boundary included; None for all of it.

        Points are placed, fields written and errors measured there only, and conditions hold on the parts of their
        supports there. Edges of the domain within the box are inner planes.

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

        The coordinates are float64 tensors `[N]`.
        """
        return None


def output_names(problem: Problem) -> tuple[str, ...]:
    """Names of the network's outputs: `outputs`, or the unknowns where it is empty."""
    return problem.outputs or problem.unknowns


def inside(problem: Problem, points: Tensor) -> Tensor | None:
    """Tell which points `[N, d]` of the box around it belong to the problem's domain, `[N]`; None where it fills it.

    Raises:
        UserError: If `Problem.inside` gives anything but booleans `[N]`.
    """
    found = _rule(problem, points)
    if isinstance(problem.domain, Box):
        return found
    own = torch.from_numpy(problem.domain.contains(points.double().cpu().numpy())).to(points.device)
    return own if found is None else own & found


def _rule(problem: Problem, points: Tensor) -> Tensor | None:
    """Return the answer of `Problem.inside`."""
    who = f"problem={type(problem).__name__}: inside"
    found = called(who, problem.inside, Coordinates(problem.domain.names, points.clone().unbind(1)))
    return None if found is None else checked_part(who, found, len(points))


def region_of(problem: Problem) -> Region:
    """Return the region on which a problem's equations hold: its domain, or the part that `Problem.inside` says."""
    if _rule(problem, torch.tensor([problem.domain.lower], dtype=torch.float64)) is None:
        return problem.domain

    def part(points: Array) -> NDArray[np.bool_]:
        found = _rule(problem, torch.from_numpy(points))
        return np.ones(len(points), bool) if found is None else found.cpu().numpy()

    return Restricted(problem.domain, part)
