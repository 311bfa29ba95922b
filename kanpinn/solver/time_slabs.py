"""Time slabs: an evolution equation solved piece by piece in time, each piece from the end of the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.time_slabs import in_sequence
from kanpinn.errors import UserError, invalid
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.residuals import Objective
from kanpinn.pde.problem import Box, Condition, Coordinates, Point, Problem, Terms
from kanpinn.settings.config import Configuration

START = ("t-",)

Fields = Callable[[Tensor], Mapping[str, Jet]]
"""The unknowns with the problem's derivatives, as jets `[C, N]` by name, at points `[N, d]`."""


@final
@dataclass(frozen=True)
class Slab(Problem):
    """A problem on a part of its time interval.

    What its initial conditions r(u) = 0 ask for at the first time, continuity asks for at a later start: with v the
    solution before, r(u) − r(v) = 0. For r(u) = u − u₀ this is u = v, for r(u) = u_t it is u_t = v_t.

    Attributes:
        whole: The problem.
        start: Where the part begins.
        end: Where it ends.
        before: The solution before; None for the first part.
    """

    whole: Problem
    start: float
    end: float
    before: Fields | None = None

    @property
    def domain(self) -> Box:  # pyright: ignore[reportIncompatibleVariableOverride]
        box = self.whole.domain
        return Box(**{n: (self.start, self.end) if n == "t" else box.interval(n) for n in box.names})

    @property
    def unknowns(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.whole.unknowns

    @property
    def outputs(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.whole.outputs

    @property
    def derivatives(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.whole.derivatives

    @property
    def periodic(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.whole.periodic

    @property
    def symmetry(self) -> Mapping[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.whole.symmetry

    @property
    def equation(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.whole.equation

    @property
    def labels(self) -> Mapping[str, tuple[str, str]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.whole.labels

    def residual(self, p: Point) -> Terms:
        return self.whole.residual(p)

    def conditions(self) -> list[Condition]:
        given = self.whole.conditions()
        if self.before is None:
            return given
        return [replace(c, residual=self._continues(c)) if c.faces == START else c for c in given]

    def _continues(self, condition: Condition) -> Callable[[Point], Terms]:
        names, before = self.domain.names, self.before
        assert before is not None

        def difference(p: Point) -> Terms:
            points = torch.stack([getattr(p, name) for name in names], dim=1)
            here, there = condition.residual(p), condition.residual(Point(names, points, before(points)))
            if isinstance(here, Mapping) and isinstance(there, Mapping):
                return {name: value - there[name] for name, value in here.items()}
            return here - there  # type: ignore[operator]

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


def check(configuration: Configuration) -> None:
    """Refuse time slabs where they make no sense.

    Args:
        configuration: The checked config.

    Raises:
        UserError: If the problem has no time or no initial condition, the conditions are built in, or the embedding
            mixes time with other coordinates.
    """
    count, problem = configuration.components["schedule"].slabs, configuration.problem
    if count == 1:
        return
    name = configuration.resolved["problem"]["name"]
    conditions = problem.conditions()
    if "t" not in problem.domain.names or not any(c.faces == START for c in conditions):
        raise invalid("schedule.slabs", count, f"1 (problem={name} has no initial condition at the first time)")
    for condition in conditions:
        if condition.faces != START and any(face.startswith("t") for face in condition.faces):
            raise invalid(
                "schedule.slabs", count, f"1 (condition {condition.name} holds at a time of its own: {condition.faces})"
            )
    if configuration.conditions == "exact":
        raise UserError(
            f"schedule.slabs={count}: conditions built in belong to the first time; valid choices: "
            "problem.conditions=soft, or schedule.slabs=1"
        )
    embedding = configuration.components["backbone"].embedding
    if embedding.kind == "fourier" or "t" in problem.periodic or "t" in problem.symmetry:
        raise invalid(
            "schedule.slabs", count, "1, where the embedding is not that of time alone (periodic, symmetric, fourier)"
        )


def parts(configuration: Configuration) -> list[tuple[float, float]]:
    """The time slabs, equal parts of the time interval; its whole for one slab.

    Args:
        configuration: The checked config.

    Returns:
        Start and end of each, in order.
    """
    count = configuration.components["schedule"].slabs
    if count == 1:
        return [(0.0, 0.0)]
    start, end = configuration.problem.domain.interval("t")
    joints = [start + (end - start) * k / count for k in range(count)] + [end]
    return list(pairwise(joints))


def part(configuration: Configuration, number: int, before: Fields | None) -> Configuration:
    """The config of one slab.

    Args:
        configuration: The checked config.
        number: Which slab, from 0.
        before: The solution on the slab before; None for the first.

    Returns:
        The same with the problem on that slab; itself where there is one slab.
    """
    if configuration.components["schedule"].slabs == 1:
        return configuration
    start, end = parts(configuration)[number]
    return replace(configuration, problem=Slab(configuration.problem, start, end, before))


def fields(objective: Objective, theta: Tensor) -> Fields:
    """The unknowns of a network that stays as it is.

    Args:
        objective: Problem and network.
        theta: Parameters `[P]`.

    Returns:
        What gives them at any points.
    """

    def at(points: Tensor) -> Mapping[str, Jet]:
        with torch.no_grad():
            return objective.fields(theta, points)

    return at


def joined(
    configuration: Configuration, embedding: Embedding, trained: Sequence[tuple[Backbone, Tensor]]
) -> tuple[Backbone, Tensor]:
    """The network on the whole time interval.

    Args:
        configuration: The checked config of the whole.
        embedding: That of the whole domain.
        trained: The networks of the slabs begun, with their parameters `[P_k]`.

    Returns:
        The network with its parameters `[P]`, which are NaN on slabs not begun; what is given where there is one slab.
    """
    count = configuration.components["schedule"].slabs
    if count == 1:
        return trained[0]
    last, theta = trained[-1]
    missing = [(copy(last), torch.full_like(theta, torch.nan)) for _ in range(count - len(trained))]
    bodies, vectors = zip(*trained, *missing, strict=True)
    return in_sequence(embedding, bodies), torch.cat(vectors)
