"""Problems on a part of their time interval, each going on where the part before it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.geometry import Coordinates
from kanpinn.jets.jet import Jet
from kanpinn.pde.condition import Condition, Terms
from kanpinn.pde.data import conditions_of
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem

START = ("t-",)

Fields = Callable[..., Mapping[str, Jet]]
"""The unknowns as jets `[C, N]` by name, at points `[N, d]`; in the problem's space of derivatives, or a second one."""


@final
@dataclass(frozen=True)
class TimeSlab(Problem):
    """Problem on a part of its time interval; all else is that of the whole.

    Initial conditions r(u) = 0 at the first time become conditions of continuity at a later start: with v the solution
    before, r(u) − r(v) = 0. For r(u) = u − u₀ this is u = v, for r(u) = u_t it is u_t = v_t.

    Attributes:
        whole: The problem.
        start: First time of the part.
        end: Last time of the part.
        before: The solution before; None for the first part.
    """

    whole: Problem
    start: float
    end: float
    before: Fields | None = None

    def __post_init__(self) -> None:
        self.adapt(**{name: getattr(self.whole, name) for name in Problem.__annotations__} | {"observed": ()})
        self.adapt(domain=self.whole.domain.between("t", self.start, self.end))

    def residual(self, p: Point) -> Terms:
        return self.whole.residual(p)

    def conditions(self) -> list[Condition]:
        given = conditions_of(self.whole, self)
        if self.before is None:
            return given
        return [replace(c, residual=self._continuity(c)) if c.supports == START else c for c in given]

    def _continuity(self, condition: Condition) -> Callable[[Point], Terms]:
        names, before = self.domain.names, self.before
        assert before is not None

        def difference(p: Point) -> Terms:
            points = torch.stack([getattr(p, name) for name in names], dim=1)
            here, there = condition.residual(p), condition.residual(p.with_fields(before(points)))
            if isinstance(here, Mapping) and isinstance(there, Mapping):
                return {name: value - there[name] for name, value in here.items()}
            assert isinstance(here, Tensor) and isinstance(there, Tensor)
            return here - there

        return difference

    def inputs(self, p: Coordinates) -> Sequence[Jet]:
        return self.whole.inputs(p)

    def inside(self, p: Coordinates) -> Tensor | None:
        return self.whole.inside(p)

    def ansatz(self, p: Coordinates, raw: Coordinates) -> Any:
        return self.whole.ansatz(p, raw)

    def exact(self, p: Coordinates, raw: Coordinates) -> Any:
        return self.whole.exact(p, raw)

    def reference(self, p: Coordinates) -> Terms | None:
        return self.whole.reference(p)


def time_slab(problem: Problem, count: int, number: int, before: Fields | None) -> Problem:
    """Return one of `count` equal parts of a problem in time, numbered from 0; the problem itself where it is one.

    `before` is the solution on the part before; None for the first.
    """
    if count == 1:
        return problem
    start, end = problem.domain.interval("t")
    joints = [start + (end - start) * k / count for k in range(count)] + [end]
    return TimeSlab(problem, *list(pairwise(joints))[number], before)
