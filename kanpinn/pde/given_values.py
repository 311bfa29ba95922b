"""Values of unknowns that conditions c u = g, or c u_t = g at the first time, give; found from their residuals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Piece
from kanpinn.jets.automatic import jet_of
from kanpinn.jets.indices import Index
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.pde.condition import Condition
from kanpinn.pde.data import conditions_of
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem
from kanpinn.pde.problem_calls import ask, checked
from kanpinn.pde.time_slab import START, Fields, TimeSlab
from kanpinn.pde.unknown import free_coefficients, posed

Field = Callable[[Tensor, JetSpace], Jet]
"""A function of the points `[N, d]` as a jet `[C, N]`."""

SAMPLE = 24
"""Points of a piece at which a condition is looked at."""

FIRST = "t-"


@final
@dataclass(frozen=True)
class Value:
    """A value g that an unknown, or its derivative in time, has on pieces of the boundary.

    Attributes:
        condition: Name of the condition.
        unknown: The unknown.
        index: () for its value, ("t",) for its derivative.
        pieces: Names of the pieces.
        field: The function g, continued from the pieces by its formula.
    """

    condition: str
    unknown: str
    index: Index
    pieces: tuple[str, ...]
    field: Field


class Unfit(Exception):
    """A condition cannot be built in, for the reason that this says."""


def given_values(problem: Problem, condition: Condition) -> list[Value]:
    """Find the values that a condition gives.

    Raises:
        Unfit: If one of its equations is not affine in one unknown with a constant coefficient, or it does not hold on
            whole pieces of the boundary.
    """
    if condition.where is not None:
        raise Unfit("holds on a part of its support")
    named = [one for one in condition.supports if isinstance(one, str)]
    if len(named) < len(condition.supports) or condition.inner:
        raise Unfit("does not hold on pieces of the boundary")
    pieces = [piece for one in named for piece in problem.domain.support(one)]
    generator = np.random.default_rng(7)
    laid = [_laid(piece, generator) for piece in pieces]
    points = torch.cat([one for one, _ in laid])
    normals = None if any(n is None for _, n in laid) else torch.cat([n for _, n in laid if n is not None])
    forms = _affine(problem, condition, points, normals, generator)
    names = tuple(dict.fromkeys(piece.name for piece in pieces))
    values = []
    for equation, (unknown, index, factor) in forms.items():
        if index and (index != ("t",) or names != (FIRST,)):
            raise Unfit(f"holds a derivative of {unknown}")
        field = _before(problem, condition, unknown, index) or _given(problem, condition, equation, factor)
        values.append(Value(condition.name, unknown, index, names, field))
    return values


def _laid(piece: Piece, generator: np.random.Generator, count: int = SAMPLE) -> tuple[Tensor, Tensor | None]:
    """Return points `[n, d]` of a piece with their normals; raises Unfit where none is found."""
    drawn = piece.chart.stretched(generator.random((count, piece.chart.dimension)))
    if piece.chart.part is not None:
        drawn = drawn[piece.chart.part(drawn)]
        if not len(drawn):
            drawn = piece.chart.stretched(generator.random((4096, piece.chart.dimension)))
            drawn = drawn[piece.chart.part(drawn)][:count]
    if not len(drawn):
        raise Unfit(f"has no points on {piece.name}")
    return torch.from_numpy(drawn), None if piece.normal is None else torch.from_numpy(piece.normal(drawn))


def piece_points(
    problem: Problem, pieces: tuple[str, ...], generator: np.random.Generator, count: int = SAMPLE
) -> Tensor:
    """Return points `[n, d]` of pieces of the boundary, about so many of each."""
    return torch.cat([_laid(problem.domain.piece(name), generator, count)[0] for name in pieces])


def _affine(
    problem: Problem, condition: Condition, points: Tensor, normals: Tensor | None, generator: np.random.Generator
) -> dict[str, tuple[str, Index, float]]:
    """Return, for every equation, the one unknown and derivative it has and the constant before it; raises Unfit."""
    space = JetSpace(problem.domain.names, tuple(problem.derivatives))
    trials = []
    for size in (1.0, 3.0):
        drawn = {
            name: torch.from_numpy(size * generator.standard_normal((len(space), len(points)))).requires_grad_()
            for name in problem.unknowns
        }
        with torch.enable_grad():
            fields = {name: Jet(space, data * 1) for name, data in drawn.items()}
            try:
                rows = _residual(problem, condition, points, fields, normals)
            except UserError:  # told where the condition is examined
                raise Unfit("holds more than values at points") from None
            trials.append((drawn, rows, {equation: _slopes(value, drawn) for equation, value in rows.items()}))
    if trials[0][1].keys() != trials[1][1].keys():
        raise Unfit("has other equations when it is evaluated again")
    return {equation: _form(equation, trials, space) for equation in trials[0][1]}


def _slopes(value: Tensor, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not value.requires_grad:
        raise Unfit("does not depend on an unknown")
    found = torch.autograd.grad(value.sum(), list(drawn.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(drawn, found, strict=True))


def _form(equation: str, trials: list[Any], space: JetSpace) -> tuple[str, Index, float]:
    (drawn, rows, slopes), (others, again, others_slopes) = trials
    slopes, others_slopes = slopes[equation], others_slopes[equation]
    if any(not torch.allclose(slope, others_slopes[name], rtol=1e-12, atol=0) for name, slope in slopes.items()):
        raise Unfit("is not linear in its unknown")
    held = [(name, k) for name, slope in slopes.items() for k in range(len(space)) if bool((slope[k] != 0).any())]
    if len(held) != 1:
        raise Unfit("holds derivatives or several unknowns")
    (name, k), slope = held[0], slopes[held[0][0]][held[0][1]]
    if not torch.allclose(slope, slope[:1], rtol=1e-12, atol=0):
        raise Unfit(f"has a coefficient of {name} that is not constant")
    change = (again[equation] - rows[equation]).detach()
    expected = slope * (others[name][k] - drawn[name][k]).detach()
    if not torch.allclose(change, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())):
        raise Unfit("is not linear in its unknown")
    return name, space.indices[k], float(slope[0])


def _residual(
    problem: Problem, condition: Condition, points: Tensor, fields: Mapping[str, Jet], normals: Tensor | None
) -> dict[str, Tensor]:
    who = f"condition '{condition.name}'"
    point = Point(problem.domain.names, points + 0, fields, normals, None, problem.parameters)
    return checked(problem, who, ask(problem, who, condition.residual, point), len(points))


def _given(problem: Problem, condition: Condition, equation: str, factor: float) -> Field:
    """Return g = −r(0)/c of an equation r(u) = c u − c g, differentiated automatically; raises Unfit."""
    space = JetSpace(problem.domain.names, tuple(problem.derivatives))

    def value(points: Tensor, condition: Condition = condition) -> Tensor:
        nothing = {name: Jet(space, points.detach().new_zeros(len(space), len(points))) for name in problem.unknowns}
        return _residual(problem, condition, points, nothing, None)[equation] * (-1 / factor)

    probe = torch.from_numpy(np.random.default_rng(8).uniform(*_box(problem), (SAMPLE, len(problem.domain))))
    try:
        here = value(probe)
        for name in free_coefficients(problem):
            other = posed(problem, {name: getattr(problem, name) * 1.5 + 1})
            twin = next(one for one in conditions_of(other) if one.name == condition.name)
            if not torch.equal(value(probe, twin), here):
                raise Unfit(f"depends on {name}, which is to be found")
    except UserError:
        raise Unfit("gives no values off its support") from None
    field: Field = lambda points, space: jet_of(value, points, space)  # noqa: E731
    _check_slopes(problem, field, probe)
    return field


def _box(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    return np.array(problem.domain.lower), np.array(problem.domain.upper)


def _check_slopes(problem: Problem, field: Field, points: Tensor) -> None:
    """Refuse values that are not finite, or have other derivatives than their differences; raises Unfit."""
    names = problem.domain.names
    own = field(points, JetSpace(names, names))
    if not bool(torch.isfinite(own.data).all()):
        raise Unfit("gives values that are not finite inside the domain")
    for k, (name, a, b) in enumerate(zip(names, *_box(problem), strict=True)):
        step = torch.zeros_like(points)
        step[:, k] = 1e-5 * (b - a)
        up, down = (field(points + sign * step, JetSpace(names, ())).value for sign in (1, -1))
        slope, size = (up - down) / (2 * step[:, k]), own.value.abs().max() / float(b - a)
        wrong = (slope - own[name]).abs() > 1e-3 * slope.abs() + 1e-6 * size
        if int(wrong.sum()) > len(points) // 2:
            raise Unfit("gives values that torch cannot differentiate")


def _before(problem: Problem, condition: Condition, unknown: str, index: Index) -> Field | None:
    """Return the values at the start of a later time slab: those of the solution before; None elsewhere."""
    if not isinstance(problem, TimeSlab) or problem.before is None or condition.supports != START:
        return None
    before: Fields = problem.before

    def field(points: Tensor, space: JetSpace) -> Jet:
        wanted = [space.canonical((*one, *index)) for one in space.indices]
        more = replace(space, derivatives=tuple("_".join(one) for one in wanted if one))
        found = before(points, more)[unknown]
        return Jet(space, torch.stack([found[one] for one in wanted]))

    return field
