"""Exact forms of problems, built from those of their conditions that can be built in together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import final

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Box, Region
from kanpinn.geometry.distance import Distance, Function, joined
from kanpinn.jets.jet import JetSpace
from kanpinn.pde.condition import Condition, claimed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.exact_form import ExactForm, Interval, Part, UnknownForm
from kanpinn.pde.given_values import FIRST, Field, Unfit, Value, given_values, piece_points
from kanpinn.pde.problem import Problem
from kanpinn.pde.problem_calls import ask, problem_name

PROBE = 512
"""Points of the domain at which functions are compared."""

MEETING = 400
"""Points of every piece by which it is seen which pieces meet."""

SAME = 1e-12
"""Relative difference below which two functions are the same."""

MOST = 4
"""Coordinates of intervals with values other than 0 at their ends; a boolean sum has 3ᵈ terms."""


def exact_form(problem: Problem) -> ExactForm:
    """Return the exact form that a problem's conditions make possible, found once.

    Raises:
        UserError: If none of its conditions can be built in, with the reasons.
    """
    found = possible_form(problem)
    if not found.conditions:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.reasons.items()) or "there are none"
        who = f"problem={problem_name(problem)}"
        raise UserError(f"{who}: conditions=exact: no condition can be built in ({why}); valid choices: soft")
    return found


_FOUND = "_exact_form"
"""Key under which a problem object keeps its form."""


def possible_form(problem: Problem) -> ExactForm:
    """Return the same, one of no conditions among them."""
    if _FOUND not in vars(problem):
        problem.adapt(**{_FOUND: ask(problem, "conditions", lambda: _Builder(problem).form())})
    return vars(problem)[_FOUND]


@final
class _Builder:
    """Exact form of a problem, built step by step.

    Attributes:
        problem: The problem.
        reasons: Reasons for which conditions are not built in.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.reasons: dict[str, str] = {}
        domain = problem.domain
        self.probe = _inside(domain, np.random.default_rng(5))
        ends = [0, *accumulate(len(region) for region in domain.components)]
        self.regions: list[tuple[Region, slice]] = []
        self.ends: dict[str, tuple[int, str]] = {}
        for region, (first, last) in zip(domain.components, pairwise(ends), strict=True):
            if isinstance(region, Box):
                faces = ((first + k // 2, "-+"[k % 2]) for k in range(2 * len(region)))
                self.ends |= dict(zip(region.pieces, faces, strict=True))
            else:
                self.regions.append((region, slice(first, last)))

    def form(self) -> ExactForm:
        """Build the form, without conditions that contradict others where they meet."""
        values: list[Value] = []
        for condition in conditions_of(self.problem):
            if not claimed(condition):
                continue
            try:
                values += self._accepted(condition, values)
            except Unfit as unfit:
                self.reasons[condition.name] = str(unfit)
        while True:
            form = self._made(values)
            found = self._alone(values) or self._turned(values) or self._broken(form, values)
            if found is None:
                return form
            name, self.reasons[name] = found
            values = [value for value in values if value.condition != name]

    def _alone(self, values: Sequence[Value]) -> tuple[str, str] | None:
        """Name a condition for a derivative of an unknown that is not given itself, and say so."""
        held = {value.unknown for value in values if not value.index and FIRST in value.pieces}
        for value in values:
            if value.index and value.unknown not in held:
                return value.condition, f"gives {value.unknown}_t where {value.unknown} itself is not built in"
        return None

    def _turned(self, values: Sequence[Value]) -> tuple[str, str] | None:
        """Name a condition whose values have not the periodicity or symmetry that the unknowns have, and say so.

        Else the form would not have it either, whatever the network has: a kink in G would stay at all times.
        """
        problem, names = self.problem, self.problem.domain.names
        for name in dict.fromkeys([*problem.periodic, *(c.periodic for c in conditions_of(problem) if c.periodic)]):
            column, order = (
                names.index(name),
                max(index.count(name) for index in JetSpace(names, problem.derivatives).indices),
            )
            space = JetSpace(names, (name * max(order - 1, 1),))
            for value in values:
                ends = [self.probe.clone() for _ in range(2)]
                for at, end in zip(ends, problem.domain.interval(name), strict=True):
                    at[:, column] = end
                low, high = (value.field(at, space).data[: max(order, 1)] for at in ends)
                on_faces = any(self.ends.get(piece, (-1, ""))[0] == column for piece in value.pieces)
                if on_faces or not _alike(low, high, max(float(low.abs().max()), self._size(value))):
                    return value.condition, f"is not periodic in {name} with its derivatives"
        for name, parity in problem.symmetry.items():
            column, plain = names.index(name), JetSpace(names, ())
            mirrored = self.probe.clone()
            mirrored[:, column] = sum(problem.domain.interval(name)) - mirrored[:, column]
            for value in values:
                images = {self._image(piece, column) for piece in value.pieces}
                twins = [v for v in values if (v.unknown, v.index) == (value.unknown, value.index)]
                found = [v for v in twins if images & set(v.pieces)]
                here = value.field(self.probe, plain).value * (1 if parity == "even" else -1)
                if images - {piece for v in found for piece in v.pieces} or not all(
                    _alike(here, v.field(mirrored, plain).value, self._size(v)) for v in found
                ):
                    return value.condition, f"has not the symmetry in {name}"
        return None

    def _image(self, piece: str, column: int) -> str:
        """Return the face opposite in a coordinate; the piece itself elsewhere."""
        own, end = self.ends.get(piece, (-1, ""))
        return piece[:-1] + ("+" if end == "-" else "-") if own == column else piece

    def _accepted(self, condition: Condition, before: Sequence[Value]) -> list[Value]:
        """Return the values of a condition, whose pieces must have distance functions and no other values."""
        found = given_values(self.problem, condition)
        for value in found:
            if value.unknown in self.problem.depends:
                raise Unfit(f"holds {value.unknown}, which depends on some coordinates only")
            columns = {self.ends[piece][0] for piece in value.pieces if piece in self.ends}
            if len(columns) > MOST and not self._same(value.field, None):
                raise Unfit(f"gives other values than 0 in more than {MOST} coordinates")
            for piece in value.pieces:
                if piece not in self.ends and not self._distances(piece):
                    raise Unfit(f"holds on {piece}, which has no distance function")
                for other in before:
                    if (other.unknown, other.index) == (value.unknown, value.index) and any(
                        f"{piece}.".startswith(f"{one}.") or f"{one}.".startswith(f"{piece}.") for one in other.pieces
                    ):
                        raise Unfit(f"holds on {piece}, where {other.condition} holds")
        return found

    def _distances(self, piece: str) -> list[Distance]:
        if len(self.regions) != 1:
            return []
        region, columns = self.regions[0]
        return [one.over(columns) for one in region.distances(piece)]

    def _made(self, values: Sequence[Value]) -> ExactForm:
        unknowns = {}
        for name in dict.fromkeys(value.unknown for value in values):
            unknowns[name] = self._unknown([value for value in values if value.unknown == name])
        names = tuple(dict.fromkeys(value.condition for value in values))
        pieces = dict.fromkeys(piece for value in values for piece in value.pieces)
        rough = tuple(piece for piece in pieces if any(one.trimmed for one in self._distances(piece)))
        return ExactForm(unknowns, names, self.reasons, rough)

    def _unknown(self, values: Sequence[Value]) -> UnknownForm:
        ends: dict[int, dict[str, Field | None]] = {}
        groups: list[tuple[list[str], Field | None]] = []
        for value in values:
            field = None if self._same(value.field, None) else value.field
            for piece in value.pieces:
                if piece in self.ends:
                    column, end = self.ends[piece]
                    ends.setdefault(column, {})["'" if value.index else end] = field
                    continue
                group = next((names for names, other in groups if self._same(field, other)), None)
                if group is None:
                    groups.append(([piece], field))
                else:
                    group.append(piece)
        domain = self.problem.domain
        space_first = sorted(ends, key=lambda column: domain.names[column] == "t")
        intervals = [Interval(k, domain.lower[k], domain.upper[k], ends[k]) for k in space_first]
        parts = tuple(Part(tuple(names), self._joined(names), field) for names, field in groups)
        every = [name for names, _ in groups for name in names]
        return UnknownForm(self._joined(every) if every else None, parts, tuple(intervals))

    def _joined(self, names: Sequence[str]) -> Function:
        on = piece_points(self.problem, tuple(names), np.random.default_rng(6), MEETING)
        return joined([one for name in names for one in self._distances(name)], on, self.probe)

    def _same(self, one: Field | None, other: Field | None) -> bool:
        """Tell whether two functions are the same in the domain; None is 0."""
        space = JetSpace(self.problem.domain.names, ())
        if one is None and other is None:
            return True
        a, b = (0 * self.probe[:, 0] if f is None else f(self.probe, space).value for f in (one, other))
        return bool(torch.allclose(a, b, rtol=0, atol=SAME * float(a.abs().max())))

    def _size(self, value: Value) -> float:
        """Return the largest value in the domain; of a derivative, times the length of the time interval."""
        found = float(value.field(self.probe, JetSpace(self.problem.domain.names, ())).value.abs().max())
        a, b = self.problem.domain.interval("t") if value.index else (0, 1)
        return found * (b - a)

    def _broken(self, form: ExactForm, values: Sequence[Value]) -> tuple[str, str] | None:
        """Name a condition whose values the form has not, and say why; None if it has all."""
        space = JetSpace(self.problem.domain.names, ("t",) * ("t" in self.problem.domain.names))
        for value in values:
            points = piece_points(self.problem, value.pieces, np.random.default_rng(9))
            made = form.unknowns[value.unknown].values()
            have = space.constant(torch.zeros_like(points[:, 0])) if made is None else made(points, space)
            have, want = have[value.index], value.field(points, space).value
            size = max(self._size(other) for other in values if other.unknown == value.unknown)
            if not _alike(have, want, max(size, self._size(value))):
                return value.condition, "contradicts another condition where both hold"
        return None


def _alike(one: Tensor, other: Tensor, size: float) -> bool:
    """Tell whether functions of some size are the same but for rounding."""
    return bool(torch.allclose(one, other, rtol=0, atol=1e-9 * (size or 1)))


def _inside(domain: Region, generator: np.random.Generator) -> Tensor:
    """Return points `[N, d]` inside a region."""
    drawn = domain.chart.stretched(generator.random((PROBE, domain.chart.dimension)))
    part = domain.chart.part
    return torch.from_numpy(drawn if part is None else drawn[part(drawn)])
