"""Points of a problem: coordinates, unknowns, derivatives and normals by the names they have in the equations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any, Protocol, final

import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Region
from kanpinn.jets.jet import Jet

NORMAL = "n"

Over = str | tuple[str, ...] | Region | None
"""Set to integrate over: coordinates, a piece of the boundary, a region, or (None) the whole domain."""

Limit = Tensor | float | None


class Values(Protocol):
    """An unknown at some points: each of its derivatives by name, "" for its value."""

    def __getitem__(self, name: str, /) -> Tensor:
        """Return it; raises KeyError if it is not known."""
        ...


class Integration(Protocol):
    """Integrals of one state of the unknowns."""

    def over(
        self, points: Tensor, integrand: Callable[[Point], Any], over: Over, limits: tuple[Limit, Limit], nodes: int
    ) -> Tensor:
        """Return an integral `[N]` for points `[N, d]`; arguments as of `Point.integral`."""
        ...


@final
class Point:
    """Coordinates, unknowns and their derivatives at N points, by name: `p.x`, `p.u`, `p.u_xx`; each `[N]`.

    In a condition `p.n_x` is a component of the outward unit normal and `p.u_n` the derivative along it, unless the
    problem has a coordinate or an unknown called n. Of two compared points each has its own, opposite normal. In
    `grad`, `laplace` and `div` all coordinates but t are space.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        points: Tensor,
        fields: Mapping[str, Values],
        normals: Tensor | None = None,
        integrals: Integration | None = None,
        parameters: Iterable[str] = (),
    ) -> None:
        self._names, self._points, self._fields, self._normals = names, points, fields, normals
        self._integrals = integrals
        self._parameters = tuple(parameters)

    def turned(self) -> Point:
        """Return the same points with opposite normals."""
        normals = None if self._normals is None else -self._normals
        return Point(self._names, self._points, self._fields, normals, self._integrals, self._parameters)

    def with_fields(self, fields: Mapping[str, Jet]) -> Point:
        """Return the same points with other unknowns, jets `[C, N]` by name, and no integrals."""
        return Point(self._names, self._points, fields, self._normals, None, self._parameters)

    @property
    def _space(self) -> tuple[str, ...]:
        """Coordinates but for the time and coefficients that are coordinates."""
        return tuple(name for name in self._names if name not in ("t", *self._parameters))

    def grad(self, unknown: str) -> tuple[Tensor, ...]:
        """Return the gradient of an unknown: u_x, u_y, … for every coordinate of space, each `[N]`.

        Raises:
            UserError: If there is no such unknown, or its first derivatives are not computed.
        """
        return tuple(getattr(self, f"{unknown}_{name}") for name in self._space)

    def laplace(self, unknown: str) -> Tensor:
        """Return Laplace's operator of an unknown, u_xx + u_yy + … over the coordinates of space, `[N]`.

        Raises:
            UserError: If there is no such unknown, or its second derivatives are not computed.
        """
        return reduce(add, (getattr(self, f"{unknown}_{name}{name}") for name in self._space))

    def div(self, *unknowns: str) -> Tensor:
        """Return the divergence u_x + v_y + … of unknowns that are the components of a vector in space, `[N]`.

        Raises:
            UserError: If they are not as many as the coordinates of space, or their derivatives are not computed.
        """
        if len(unknowns) != len(self._space):
            given, space = ", ".join(map(repr, unknowns)), ", ".join(self._space)
            raise UserError(f"p.div({given}): expected an unknown for each coordinate of space: {space}")
        return reduce(add, (getattr(self, f"{one}_{name}") for one, name in zip(unknowns, self._space, strict=True)))

    def integral(
        self,
        integrand: Callable[[Point], Any],
        over: Over = None,
        *,
        lower: Limit = None,
        upper: Limit = None,
        nodes: int = 0,
    ) -> Tensor:
        """Return the integral of f(q) over points q that differ from these in some coordinates, `[N]`.

        Args:
            integrand: The function f, of points q with coordinates, unknowns and their derivatives `[Q, N]`; values of
                these points, as in `lambda q: exp(p.x - q.x) * q.u`, go along.
            over: Coordinates that q runs over, all others being those of the points themselves; or a piece of the
                boundary, such as "x+", or a region; None for the whole domain.
            lower: Lower limit, a number or `[N]`, where one coordinate is integrated over; None for the domain's.
            upper: Upper limit, such as `p.t`.
            nodes: Gauss–Legendre nodes in each coordinate; 0 chooses them.

        Raises:
            UserError: If these points have no integrals, a name is unknown, limits do not fit, or the integrand gives
                anything but numbers at q.
        """
        if self._integrals is None:
            raise UserError("p.integral: there is none here; residuals of equations and of conditions have them")
        return self._integrals.over(self._points, integrand, over, (lower, upper), nodes)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._names:
            return self._points[..., self._names.index(name)]
        unknown, _, derivative = name.partition("_")
        if unknown in self._fields:
            if derivative == NORMAL and NORMAL not in self._names:
                return self._along_normal(name, self._fields[unknown])
            return self._derivative(name, self._fields[unknown], derivative)
        if unknown == NORMAL and derivative in self._names:
            return self._normal(name)[..., self._names.index(derivative)]
        raise UserError(
            f"p.{name}: no such coordinate or unknown; known are {', '.join([*self._names, *self._fields])}"
        )

    def _derivative(self, name: str, field: Values, derivative: str) -> Tensor:
        try:
            return field[derivative]
        except KeyError:
            raise UserError(f"p.{name} is not computed: add '{derivative}' to the problem's derivatives") from None

    def _normal(self, name: str) -> Tensor:
        if self._normals is None:
            raise UserError(f"p.{name}: there is no normal here; only pieces of a boundary and inner planes have one")
        return self._normals

    def _along_normal(self, name: str, field: Values) -> Tensor:
        """The derivative Σ n_k u_k over the coordinates in which some normal has a component."""
        normals = self._normal(name)
        turned = [k for k, some in enumerate((normals != 0).flatten(0, -2).any(dim=0).tolist()) if some]
        parts = [normals[..., k] * self._derivative(name, field, self._names[k]) for k in turned]
        return torch.stack(parts).sum(dim=0)
