"""Conditions: residuals that vanish on a piece of the boundary, on a plane inside, or on a region."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Coordinates, Interface, Piece, Region
from kanpinn.geometry.chart import Array

Terms = Tensor | Mapping[str, Tensor]
Support = str | Region | Interface


@final
@dataclass(frozen=True)
class Condition:
    """An initial, boundary, interface or other condition: a support and the residual that vanishes on it.

    Attributes:
        name: The name of its loss term.
        on: Its support: a piece of the boundary such as "x-" or "t-", an inner plane such as "x=0.5", an `Interface`, a
            region, "domain" for all of it, or a tuple of these.
        residual: The residual of a `Point`. A periodic condition gets two, on the piece and on the opposite one; a
            condition on inner planes gets those just below and just above, on an interface those just inside and just
            outside its region, apart from each other by rounding only.
        periodic: The coordinate whose opposite faces are compared, or None; `on` is then the lower face. Such a
            condition is dropped when the network is periodic in that coordinate by construction.
        symmetry: The coordinate whose symmetry implies it, or None. Such a condition is dropped when the network has
            that symmetry by construction; otherwise it stays a loss term, whatever `Problem.exact` builds in.
        given: Values given at each point of its support, a finite set: arrays `[N]` by name. The residual gets them as
            a second argument, tensors `[N]`.
        joint: True for one that holds a whole set of points by an integral, not each point of its support.
        loss: Loss `[N]` at its points as a function of Σ r² `[N]` over its equations, where it is another one than that
            sum; r then has the derivatives of a generalised Gauss–Newton step, J̃ᵀr̃ being half the gradient of the loss.
        where: The part of the support it holds on, `[N]` booleans from coordinates `[N]`; None for all of it. Inner
            planes are asked at their own points.

    Raises:
        UserError: If `on` is none of these.
    """

    name: str
    on: Support | tuple[Support, ...]
    residual: Callable[..., Terms]
    periodic: str | None = None
    symmetry: str | None = None
    where: Callable[[Coordinates], Tensor] | None = None
    given: Mapping[str, Array] | None = None
    joint: bool = False
    loss: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if not self.supports or not all(isinstance(support, str | Region | Interface) for support in self.supports):
            raise UserError(
                f"condition {self.name}: on={self.on!r}: expected a piece of the boundary such as 'x-', an inner plane "
                "such as 'x=0.5', an Interface, a region, or a tuple of these"
            )
        if len({on if isinstance(on, str) else id(on) for on in self.supports}) < len(self.supports):
            raise UserError(f"condition {self.name}: on={self.on!r} names a support twice")

    @property
    def supports(self) -> tuple[Support, ...]:
        """The support as a tuple."""
        return tuple(self.on) if isinstance(self.on, tuple | list) else (self.on,)

    @property
    def inner(self) -> bool:
        """True for a condition on planes or interfaces inside the domain."""
        return any(isinstance(on, Interface) or (isinstance(on, str) and "=" in on) for on in self.supports)


def claimed(condition: Condition) -> bool:
    """Tell whether `Problem.exact` claims to meet a condition: not periodic, inner, symmetric ones, data, integrals."""
    given = condition.given is not None
    return not (condition.periodic or condition.inner or condition.symmetry or given or condition.joint)


def pieces_of(condition: Condition, domain: Region) -> list[Piece]:
    """Return a condition's pieces in its order, cut to the domain and to where it holds.

    Raises:
        UserError: If a name is no piece of the domain, a region does not fit it, boundary and inner planes are mixed,
            a periodic condition is not on its lower face, or no point is left.
    """
    who = f"condition {condition.name}"
    try:
        pieces = [piece for support in condition.supports for piece in _placed(support, domain)]
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    if condition.periodic is not None:
        if [piece.name.rpartition(".")[2] for piece in pieces] != [f"{condition.periodic}-"]:
            raise UserError(
                f"{who}: periodic in {condition.periodic} needs on='{condition.periodic}-', not {condition.on!r}."
            )
        across = pieces[0].across
        if across is None:
            raise UserError(f"{who}: periodic: nothing lies opposite on={condition.on!r}")
        if pieces[0].chart.part is not None:
            pieces = [pieces[0].restricted(lambda points: domain.contains(across(points)))]
    if len({piece.beside is None for piece in pieces}) > 1:
        raise UserError(
            f"{who}: on={condition.on!r}: inner planes and interfaces need conditions of their own; their residual "
            "takes two points, others take one."
        )
    where = condition.where
    if where is not None:

        def part(points: Array) -> NDArray[np.bool_]:
            found = called(f"{who}: where", where, Coordinates(domain.names, torch.from_numpy(points.copy()).unbind(1)))
            return checked_part(f"{who}: where", found, len(points)).cpu().numpy()

        pieces = [piece.restricted(part) for piece in pieces]
    if not any(piece.chart.measure for piece in pieces):
        raise UserError(f"{who}: no point of its support lies inside the domain.")
    return pieces


def _placed(support: Support, domain: Region) -> list[Piece]:
    """Return the pieces of one support; raises UserError where there are none."""
    if isinstance(support, Interface):
        return support.pieces(domain)
    return domain.support(support) if isinstance(support, str) else [_within(support, domain)]


def _within(region: Region, domain: Region) -> Piece:
    """Return a region as a piece: columns in the order of the domain's, points outside the domain rejected."""
    if set(region.names) != set(domain.names):
        raise UserError(f"its region has the coordinates {', '.join(region.names)}, not {', '.join(domain.names)}")
    columns, own = [region.names.index(name) for name in domain.names], region.chart
    part = own.part
    chart = replace(
        own,
        points=lambda parameters: own.points(parameters)[:, columns],
        part=None if part is None else lambda points: part(points[:, np.argsort(columns)]),
    )
    if not chart.dimension:
        outside = ~domain.contains(chart.all_points())
        if outside.any():
            at = zip(domain.names, chart.all_points()[outside.argmax()], strict=True)
            raise UserError(f"its point {', '.join(f'{n}={v:.6g}' for n, v in at)} lies outside the domain")
    return Piece(type(region).__name__, chart.restricted(domain.contains))


def called(who: str, method: Callable[..., Any], *arguments: Any, file: str | None = None) -> Any:
    """Call what a user wrote; whatever it raises, `sys.exit` included, becomes a UserError of one line.

    Args:
        who: Its name in the message.
        method: The function.
        *arguments: Its arguments.
        file: Path of the file in which the line is looked for; None for the innermost.

    Returns:
        The result.

    Raises:
        UserError: For anything that is raised but a keyboard interrupt.
    """
    try:
        return method(*arguments)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((f for f in reversed(frames) if f.filename == file), frames[-1])
        text = (str(error).splitlines() or [""])[0]
        if text.startswith(f"{Condition.__name__}.__init__()"):
            text += f"; its arguments are {', '.join(field.name for field in fields(Condition))}"
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise UserError(f"{who} raised {type(error).__name__}: {text} ({place})") from error


def checked_part(who: str, found: Any, count: int) -> Tensor:
    """Return the answer of `Problem.inside` or `Condition.where`; raises UserError unless it is booleans `[count]`."""
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (count,):
        got = f"{tuple(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise UserError(f"{who} returned {got}, expected booleans of shape ({count},), such as p.x < 0")
    return found
