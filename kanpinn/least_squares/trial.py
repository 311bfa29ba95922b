"""Trials of a loss term at a few points, for any outputs that a network might have there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone, Mlp
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.parallel import joint_network
from kanpinn.errors import UserError
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.coupling import Component
from kanpinn.least_squares.integrals import Integrals
from kanpinn.least_squares.points import INTERIOR, CollocationPoints
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde import Problem
from kanpinn.pde.problem import output_names
from kanpinn.pde.problem_calls import problem_name

MOST = 16
"""Points of a term that are tried, as a rule."""

Values = Mapping[str, Tensor]
"""Residuals `[N]` by equation, "" for a single one."""

Fields = Callable[[Tensor], Mapping[str, Jet]]
"""The unknowns at points `[N, d]`, as jets `[C, N]` by name."""


@final
@dataclass(frozen=True)
class Trial:
    """A loss term at N of its points.

    Outputs of a network are `[C, S, N, outputs]`, with S = 2 for a condition that compares points and 1 for others.

    Attributes:
        residuals: The problem's; their network is only asked by `outputs`.
        points: The term's points, no other term's.
        form: "exact" or "ansatz" to try the unknowns that it makes of the outputs, in place of the term.
        equations: Names of the equations that it must have; None for any.
        elsewhere: The unknowns at nodes of integrals, whatever the outputs are; None without any.
    """

    residuals: Residuals
    points: CollocationPoints
    form: str = ""
    equations: tuple[str, ...] | None = None
    elsewhere: Fields | None = None

    @property
    def name(self) -> str:
        """Name of the term."""
        return self.points.terms[0].name

    @property
    def count(self) -> int:
        """Number of points N."""
        return len(self.points.terms[0].coordinates)

    def described(self, equation: str) -> str:
        """The term or one of its equations in words: "residual", "equation 'mass'", "condition 'initial'"."""
        if self.form:
            return f"{self.form}: {equation}"
        if self.name == INTERIOR:
            return f"equation '{equation}'" if equation else "residual"
        return f"condition '{self.name}'" + (f", equation '{equation}'," if equation else "")

    def refusal(self, equation: str, text: str) -> UserError:
        """Error that says something of an equation."""
        return UserError(f"problem={problem_name(self.residuals.problem)}: {self.described(equation)} {text}")

    def outputs(self, network: Backbone, theta: Tensor) -> Tensor:
        """Outputs of a network with parameters `[P]`, `[C, S, N, outputs]`."""
        with torch.no_grad():
            data = network.forward(theta, self.points.points, self.residuals.space).data
        return data.unflatten(1, (-1, self.count))

    def at(self, which: Tensor) -> CollocationPoints:
        """Copies of the points of some numbers `[M]`."""
        return self.points.select([(self.points.terms[0], which, 1.0)])

    def fields(self, outputs: Tensor, points: CollocationPoints) -> dict[str, Jet]:
        """The unknowns made of outputs at as many points."""
        return self.residuals.rebuilt(Jet(self.residuals.space, outputs.flatten(1, 2)), points.points)

    def values(self, outputs: Tensor, which: Tensor | None = None) -> dict[str, Tensor]:
        """Residuals of all equations for outputs `[C, S, M, outputs]` at the points of numbers `[M]`; all if None."""
        points = self.at(torch.arange(self.count) if which is None else which)
        return self.of_fields(self.fields(outputs, points), points)

    def of_fields(self, fields: Mapping[str, Jet], points: CollocationPoints) -> dict[str, Tensor]:
        """Residuals of all equations for unknowns at as many points."""
        if self.form:
            space = self.residuals.space
            return {field_name(name, a): jet[a] for name, jet in fields.items() for a in space.indices}
        found = {equation: value for _, equation, value in self.residuals.rows(points, fields, self._integrals())}
        if self.equations not in (None, tuple(found)):
            raise self.refusal(self.equations[0], "has other equations when it is evaluated again")
        return found

    def _integrals(self, *, record: bool = False) -> Integrals:
        return Integrals(self.residuals.quadrature, self.elsewhere or (lambda _: {}), record=record)

    def far(self, outputs: Tensor) -> dict[str, set[Component]]:
        """Unknowns and derivatives that each equation has in integrals, for outputs `[C, S, N, outputs]`."""
        points, integrals = self.at(torch.arange(self.count)), self._integrals(record=True)
        fields, found = self.fields(outputs, points), {}
        with torch.enable_grad():
            for _, equation, value in self.residuals.rows(points, fields, integrals) if not self.form else ():
                slopes = [one for nodes in integrals.used for one in nodes.slopes(value)]
                found[equation] = {component for component, slope in slopes if bool((slope != 0).any())}
        return found


def field_name(name: str, derivative: Iterable[str]) -> str:
    """Return a derivative of an unknown as it is called in a problem, such as "u_xx"."""
    return "_".join(filter(None, (name, "".join(derivative))))


def trials(residuals: Residuals, points: CollocationPoints, most: int = MOST) -> list[Trial]:
    """Return a trial of each term, at not more of its points than `most`, evenly spread over their numbers."""
    found, network = [], smooth_network(residuals.problem, residuals.backbone.embedding)
    theta = random_parameters(network, np.random.default_rng(5), points.points)

    def elsewhere(at: Tensor) -> dict[str, Jet]:
        return residuals.rebuilt(network.forward(theta, at, residuals.space), at)

    for term in points.terms:
        count = len(term.coordinates)
        which = torch.linspace(0, count - 1, min(count, most)).round().long()
        found.append(Trial(residuals, points.select([(term, which, 1.0)]), elsewhere=elsewhere))
    return found


def smooth_network(problem: Problem, embedding: Embedding) -> Backbone:
    """Return a small perceptron with the symmetry and periodicity of an embedding, whichever network is trained."""
    e = embedding
    angles = Embedding(e.intervals, e.periodic, e.frequencies, e.inputs, e.symmetry, e.rounding)
    return joint_network(Mlp(width=[6]).build, angles, output_names(problem), problem.depends, "shared")


def random_parameters(network: Backbone, generator: np.random.Generator, like: Tensor) -> Tensor:
    """Return parameters `[P]` of which none is small, of another tensor's type and device."""
    return torch.from_numpy(0.7 * generator.standard_normal(network.size)).to(like)


def sizes(several: Iterable[Mapping[str, Jet]]) -> dict[str, Tensor]:
    """Return the largest value of every unknown and derivative, `[C, 1]` by unknown, over several sets of points."""
    largest: dict[str, Tensor] = {}
    for fields in several:
        for name, jet in fields.items():
            here = jet.data.detach().abs().nan_to_num(0, 0).amax(dim=1, keepdim=True)
            largest[name] = torch.maximum(here, largest.get(name, here))
    return largest


def responses(
    trial: Trial, fields: Mapping[str, Jet], points: CollocationPoints, changes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return |r(u + d) − r(u)| of every equation, `[N]`, for unknowns u and changes d `[C, N]` of some of them."""
    moved = {name: Jet(jet.space, jet.data + changes.get(name, 0)) for name, jet in fields.items()}
    with torch.no_grad():
        before, after = trial.of_fields(fields, points), trial.of_fields(moved, points)
    return {equation: (after[equation] - value).abs() for equation, value in before.items()}


def noise(
    fields: Mapping[str, Jet], largest: Mapping[str, Tensor], share: float, generator: np.random.Generator
) -> dict[str, Tensor]:
    """Return random changes of unknowns, `[C, N]` each, by a share of their `sizes`."""
    drawn = {name: generator.standard_normal(jet.data.shape) for name, jet in fields.items()}
    return {name: share * largest[name] * torch.from_numpy(values).to(largest[name]) for name, values in drawn.items()}


def size_of(values: Tensor) -> float:
    """Return the largest absolute value of those that are finite; 0 without any."""
    return float(values.detach().abs().nan_to_num(0, 0).max()) if values.numel() else 0.0
