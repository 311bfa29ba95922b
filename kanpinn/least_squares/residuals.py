"""Residuals of a problem's equations and conditions, with the unknowns given by a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.time_slabs import slab_networks
from kanpinn.errors import UserError
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.integrals import Integrals
from kanpinn.least_squares.points import INTERIOR, CollocationPoints, Term
from kanpinn.least_squares.slab_forms import by_slab, chained
from kanpinn.pde import Condition, Point, Problem
from kanpinn.pde.condition import claimed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.integration import Quadrature
from kanpinn.pde.network_fields import network_fields
from kanpinn.pde.problem_calls import ask, checked, problem_name
from kanpinn.pde.time_slab import Fields
from kanpinn.pde.unknown import free_coefficients, posed
from kanpinn.state import State


@final
@dataclass(frozen=True)
class Scales:
    """Sizes of the network's outputs and of the terms' residuals, by which a solve is free of units.

    Attributes:
        outputs: U by which each output of the network is multiplied, before `ansatz` and `exact`; all 1 if empty.
        terms: R by which the residual of each equation is divided, by term and equation ("" for a single one); 1 where
            there is none.
    """

    outputs: tuple[float, ...] = ()
    terms: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def of(self, term: str, equation: str) -> float:
        """R of an equation."""
        return self.terms.get((term, equation), 1.0)

    def state(self) -> State:
        """All numbers."""
        return {"outputs": list(self.outputs), "terms": [[*row, size] for row, size in self.terms.items()]}

    @staticmethod
    def from_state(state: State) -> Scales:
        """Return the scales whose `state` this is; raises KeyError, TypeError or ValueError where it is none."""
        terms = {(str(term), str(equation)): float(size) for term, equation, size in state["terms"]}
        outputs = tuple(float(size) for size in state["outputs"])
        if not all(0 < size < math.inf for size in (*outputs, *terms.values())):
            raise ValueError("scales that are not positive numbers")
        return Scales(outputs, terms)

    def raw(self, outputs: Jet) -> Jet:
        """Return a network's outputs `[C, N, outputs]` in the units of the problem."""
        if not self.outputs:
            return outputs
        data = outputs.data
        sizes = self.outputs + (1.0,) * (data.shape[-1] - len(self.outputs))  # coefficients have their own
        return Jet(outputs.space, data * data.new_tensor(sizes))


class Residuals:
    """Unknowns of a problem by a network, and the residuals they leave at any points; in its units, without weights.

    Attributes:
        problem: The PDE problem.
        backbone: The network, on its current level.
        space: The derivatives carried.
        exact: True if conditions are built in.
        scales: Sizes of the network's outputs, and those by which the loss divides the residuals; all 1 by default.
        conditions: Those that are not built in, by name.
        names: Names of all conditions.
        quadrature: Rules of integrals.
    """

    def __init__(
        self,
        problem: Problem,
        backbone: Backbone,
        *,
        exact: bool = False,
        unmet: Collection[str] = (),
        scales: Scales | None = None,
    ) -> None:
        """Join a problem and a network.

        Args:
            problem: The problem.
            backbone: The network.
            exact: True to build the conditions in by `Problem.exact`.
            unmet: Names of those that it does not meet.
            scales: Sizes of outputs and equations; None for 1.

        Raises:
            UserError: If conditions cannot be told apart.
        """
        self.problem = problem
        self.backbone = backbone
        self.exact = exact
        self.scales = scales or Scales()
        self.space = JetSpace(problem.domain.names, tuple(problem.derivatives))
        conditions = list(ask(problem, "conditions", lambda: conditions_of(problem)))
        self.names = tuple(c.name for c in conditions)
        self.quadrature = Quadrature(problem, backbone.cells)
        self._chain: tuple[Tensor, list[Fields | None]] | None = None
        self._check_names()
        self.conditions: dict[str, Condition] = {
            c.name: c
            for c in conditions
            if not (exact and c.name not in unmet and claimed(c))
            and not (c.periodic and c.periodic in backbone.embedding.periodic)
            and not (c.symmetry and c.symmetry in backbone.embedding.symmetry)
        }

    def _check_names(self) -> None:
        who = f"problem={problem_name(self.problem)}"
        if INTERIOR in self.names:
            raise UserError(f"{who}: a condition cannot be called '{INTERIOR}'; that is the term of the equations")
        for name in self.names:
            if self.names.count(name) > 1:
                raise UserError(f"{who}: two conditions are called '{name}'; each needs a name of its own")

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the loss terms."""
        return (INTERIOR, *self.conditions) if self.problem.has_equations else tuple(self.conditions)

    def fields(self, theta: Tensor, points: Tensor, space: JetSpace | None = None) -> dict[str, Jet]:
        """The unknowns at points `[N, d]`, as jets `[C, N]` by name; `space` is the problem's if None."""
        space = space or self.space
        if self.exact and len(slab_networks(self.backbone)) > 1:
            return self._in_sequence(theta, points, space)
        return self.rebuilt(self.backbone.forward(theta, points, space), points)

    def _in_sequence(self, theta: Tensor, points: Tensor, space: JetSpace) -> dict[str, Jet]:
        """The same of networks in sequence, whose forms follow each other."""
        if self._chain is None or self._chain[0] is not theta:

            def make(problem: Problem, network: Backbone) -> Any:
                return Residuals(problem, network, exact=True, scales=self.scales).fields

            self._chain = theta, chained(self.problem, self.backbone, theta, make)
        times = points[:, self.problem.domain.names.index("t")]
        return by_slab(self._chain[1], times, self.problem.domain.interval("t"), points, space)

    def rebuilt(self, raw: Jet, points: Tensor) -> dict[str, Jet]:
        """The unknowns made of the network's outputs `[C, N, outputs]` at points `[N, d]`."""
        return network_fields(self.problem, self.scales.raw(raw), points, exact=self.exact)

    def rows(
        self, points: CollocationPoints, fields: Mapping[str, Jet], integrals: Integrals
    ) -> Iterator[tuple[Term, str, Tensor]]:
        """Yield the term, the equation's name ("" for a single one) and its residual `[n]`, of every equation."""
        return term_residuals(self.problem, self.conditions, points, fields, integrals)

    def integrals(self, theta: Tensor, *, record: bool = False, quadrature: Quadrature | None = None) -> Integrals:
        """Return the integrals of the unknowns at theta `[P]`, by their own rules or others.

        With a record of what residuals use if asked.
        """
        return Integrals(quadrature or self.quadrature, lambda points: self.fields(theta, points), record=record)

    def interior(self, theta: Tensor, points: Tensor) -> dict[str, Tensor]:
        """The equations' residuals `[N]` at any points, by equation name ("" for a single one); empty without any."""
        if not self.problem.has_equations:
            return {}
        return self._residual("residual", lambda problem: problem.residual, theta, points, None)

    def condition(
        self, condition: Condition, theta: Tensor, points: Tensor, normals: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The same of a condition that does not compare points, in the loss or not, with the normals `[N, d]` there."""

        def method(problem: Problem) -> Callable[..., Any]:
            return condition.residual if problem is self.problem else _by_name(problem)[condition.name].residual

        return self._residual(f"condition '{condition.name}'", method, theta, points, normals)

    def _residual(
        self,
        who: str,
        method: Callable[[Problem], Callable[..., Any]],
        theta: Tensor,
        points: Tensor,
        normals: Tensor | None,
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            fields = self.fields(theta, points)
            values = {name: fields[name].value for name in free_coefficients(self.problem) if name in fields}
            names, parameters = self.problem.domain.names, self.problem.parameters
            point = Point(names, points.clone(), fields, normals, self.integrals(theta), parameters)
            result = ask(self.problem, who, method(posed(self.problem, values)), point)
        return checked(self.problem, who, result, len(points))


def term_residuals(
    problem: Problem,
    conditions: Mapping[str, Condition],
    points: CollocationPoints,
    fields: Mapping[str, Jet],
    integrals: Integrals,
) -> Iterator[tuple[Term, str, Tensor]]:
    """Yield the term, the equation's name and its residual `[n]`, of every equation, for unknowns `[C, N]` at points.

    The points are those of equations and conditions.
    """
    names = problem.domain.names
    free = [name for name in free_coefficients(problem) if name in fields]

    def at(where: slice, normals: Tensor | None) -> Point:
        part = {name: Jet(jet.space, jet.data[:, where]) for name, jet in fields.items()}
        return Point(names, points.points[where], part, normals, integrals, problem.parameters)

    for term in points.terms:
        here = posed(problem, {name: fields[name].value[term.points] for name in free})
        if term.name == INTERIOR:
            who = "residual"
            result = ask(problem, who, here.residual, at(term.points, None))
        else:
            arguments: list[Any] = [at(term.points, term.normals)]
            if term.paired:
                arguments.append(at(term.paired, None if term.normals is None else -term.normals))
            who, condition = f"condition '{term.name}'", (_by_name(here) if free else conditions)[term.name]
            if condition.given is not None:
                arguments.append(given_at(condition.given, term))
            result = ask(problem, who, condition.residual, *arguments)
        count = term.points.stop - term.points.start
        for equation, value in checked(problem, who, result, count).items():
            yield term, equation, value


def _by_name(problem: Problem) -> dict[str, Condition]:
    return {condition.name: condition for condition in conditions_of(problem)}


def given_at(values: Mapping[str, Any], term: Term) -> dict[str, Tensor]:
    """Return the values given at a term's points, `[n]` by name."""
    like, part = term.coordinates, slice(None) if term.part is None else term.part
    return {
        name: torch.as_tensor(column, dtype=like.dtype, device=like.device)[part] for name, column in values.items()
    }
