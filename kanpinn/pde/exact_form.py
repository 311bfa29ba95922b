"""Exact form of an unknown, u = G + B N, built from the values that its conditions give.

B vanishes where u is given and G has the values there, so that u meets its conditions whatever the network N is
(Sukumar and Srivastava, Comput. Methods Appl. Mech. Eng. 389 (2022) 114333). On intervals, time among them, B is a
polynomial and G a boolean sum of projections onto their ends (Gordon and Hall, Numer. Math. 21 (1973) 109); on other
regions B joins distance functions φ_i and G = Σ w_i g_i with w_i ∝ 1/φ_i (Sukumar and Srivastava, eq. 25), the g_i
continued by their formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.geometry.distance import Function, product
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.pde.given_values import Field

KEPT = 12
"""Sets of points for which B and G are kept: those of a solve come again and again."""


@final
@dataclass(frozen=True)
class Interval:
    """Values and slope given of an unknown at the ends of a coordinate, that of some column.

    Attributes:
        column: Number of the coordinate.
        lower: Its lower end.
        upper: Its upper end.
        ends: Values at "-" and "+", and the derivative "'" at the lower end; None where they are 0.
    """

    column: int
    lower: float
    upper: float
    ends: Mapping[str, Field | None]

    def factor(self, x: Any) -> Any:
        """Return what vanishes at the ends: (x − a)(b − x)/(b − a), (x − a)² at an end with a derivative."""
        parts = []
        if "-" in self.ends:
            parts.append((x - self.lower) ** (2 if "'" in self.ends else 1))
        if "+" in self.ends:
            parts.append((self.upper - x) * (1 if len(self.ends) == 1 else 1 / (self.upper - self.lower)))
        return product(parts)

    def corrected(self, form: Field | None) -> Field:
        """Return a function with the values at the ends, made from another one by Hermite's interpolation."""

        def value(points: Tensor, space: JetSpace) -> Jet:
            found = space.constant(torch.zeros_like(points[:, 0])) if form is None else form(points, space)
            left = self._left(form, points, space)
            x = (space.variables(points)[self.column] - self.lower) * (1 / (self.upper - self.lower))
            if "-" not in left:
                return found + left["+"]
            start = left["-"] + x * (left["'"] * (self.upper - self.lower)) if "'" in left else left["-"]
            if "+" not in left:
                return found + start
            end = left["+"] - left["-"] - (left["'"] * (self.upper - self.lower) if "'" in left else 0)
            return found + start + x ** (2 if "'" in left else 1) * end

        return value

    def _left(self, form: Field | None, points: Tensor, space: JetSpace) -> dict[str, Jet]:
        """Return what a form leaves of the values, and of the derivative, at the ends; constant in the coordinate."""
        name, found = space.coordinates[self.column], dict[str, Any]()
        for given in dict.fromkeys(self.ends.values()):
            keys = [key for key, own in self.ends.items() if own is given]
            found |= self._at(keys, given, points, space) if given else {}
        for slope in (False, True):
            keys = [key for key in self.ends if (key == "'") is slope]
            if form is None or not keys:
                continue
            more = [(*one, name) if slope else one for one in space.indices]
            wide = replace(space, derivatives=tuple("_".join(one) for one in more if one))
            which = [wide.position(one) for one in more]
            found |= {key: found.get(key, 0) - own[which] for key, own in self._at(keys, form, points, wide).items()}
        kept = torch.tensor([name not in one for one in space.indices], device=points.device).to(points)
        zero = points.new_zeros(len(space), len(points))
        return {key: Jet(space, found.get(key, zero) * kept[:, None]) for key in self.ends}

    def _at(self, keys: Sequence[str], field: Field, points: Tensor, space: JetSpace) -> dict[str, Tensor]:
        """Return a function's jet `[C, N]` at some of the ends, found by one call, by their keys."""
        moved = points.repeat(len(keys), 1)
        for key, own in zip(keys, moved.split(len(points)), strict=True):
            own[:, self.column] = self.upper if key == "+" else self.lower
        return dict(zip(keys, field(moved, space).data.split(len(points), dim=1), strict=True))


@final
@dataclass(frozen=True)
class Part:
    """Pieces of a region on which an unknown has the values of one function.

    Attributes:
        pieces: Their names.
        distance: Function of the points' coordinates that vanishes there.
        field: The values; None where they are 0.
    """

    pieces: tuple[str, ...]
    distance: Function
    field: Field | None


@final
@dataclass(frozen=True)
class UnknownForm:
    """B and G of one unknown.

    Attributes:
        distance: Function that vanishes on the pieces of the region beside intervals; None without any.
        parts: These pieces, by their values.
        intervals: Ends of intervals.
    """

    distance: Function | None
    parts: tuple[Part, ...]
    intervals: tuple[Interval, ...]

    def factor(self, points: Tensor, space: JetSpace) -> Jet:
        """Return B as a jet `[C, N]`."""
        x = space.variables(points)
        found = [one.factor(x[one.column]) for one in self.intervals]
        return product(found if self.distance is None else [*found, self.distance(x)])

    def values(self) -> Field | None:
        """Return G; None where it is 0."""
        form = self._blended if any(part.field for part in self.parts) else None
        for interval in self.intervals:
            if form is not None or any(interval.ends.values()):
                form = interval.corrected(form)
        return form

    def _blended(self, points: Tensor, space: JetSpace) -> Jet:
        """Return Σ w_i g_i, w_i = Π_{j≠i} φ_j / Σ_k Π_{j≠k} φ_j."""
        if len(self.parts) == 1:
            only = self.parts[0].field
            assert only is not None
            return only(points, space)
        x = space.variables(points)
        near = [part.distance(x) for part in self.parts]
        weights = [product([*near[:k], *near[k + 1 :]]) for k in range(len(near))]
        given = [(w, part.field(points, space)) for w, part in zip(weights, self.parts, strict=True) if part.field]
        return reduce(add, (w * g for w, g in given)) / reduce(add, weights)


@final
@dataclass
class ExactForm:
    """The unknowns of a problem made of others, such as a network's outputs, so that conditions hold.

    Attributes:
        unknowns: Form of each unknown that has one.
        conditions: Names of the conditions that are met.
        reasons: Reasons for which others are not, by condition.
        rough: Pieces that end inside the region, where the form is not smooth.
    """

    unknowns: Mapping[str, UnknownForm]
    conditions: tuple[str, ...]
    reasons: Mapping[str, str]
    rough: tuple[str, ...] = ()
    _known: list[tuple[Tensor, JetSpace, dict[str, tuple[Jet, Jet | None]]]] = field(default_factory=list)

    def __call__(self, raw: Mapping[str, Jet], points: Tensor) -> dict[str, Jet]:
        """Return the unknowns as jets `[C, N]` at points `[N, d]`."""
        if not raw:
            return {}
        made = self._at(points, next(iter(raw.values())).space)
        found = dict(raw)
        for name, (factor, values) in made.items():
            inner = factor * raw[name]
            found[name] = inner if values is None else inner + values
        return found

    def _at(self, points: Tensor, space: JetSpace) -> dict[str, tuple[Jet, Jet | None]]:
        for known, its_space, made in list(self._known):
            if its_space == space and known.dtype == points.dtype and torch.equal(known, points):
                return made
        made = {}
        with torch.no_grad():
            for name, form in self.unknowns.items():
                values = form.values()
                made[name] = form.factor(points, space), None if values is None else values(points, space)
        self._known[:] = [*self._known[1 - KEPT :], (points.detach().clone(), space, made)]
        return made
