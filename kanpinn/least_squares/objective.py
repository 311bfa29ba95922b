"""Least-squares problems over a flat parameter vector: what optimisers see, and the one of a network's residuals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Inputs, Tape
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.least_squares.constraint import Constraint, freedom_of
from kanpinn.least_squares.gram_costs import cost_table
from kanpinn.least_squares.integrals import Integrals
from kanpinn.least_squares.jacobian import GramPlan, NetworkLinearization
from kanpinn.least_squares.linearization import Linearization, block_rows
from kanpinn.least_squares.node_rows import couplings
from kanpinn.least_squares.plain_fit import PlainFit, plain_fit
from kanpinn.least_squares.points import (
    INTERIOR,
    CollocationPoints,
    ForwardPass,
    Term,
    collocation_points,
    relative_times,
)
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Weighting
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import CollocationSample
from kanpinn.state import State


class LeastSquares(ABC):
    """Least-squares problem: ‖r(theta)‖², perhaps with a linear term, over a flat parameter vector.

    Attributes:
        kind: Name of its kind in the state of a hierarchy.
        backbone: The network whose parameters theta is shaped like.
        is_correction: True for a coarse problem, posed to correct a finer level.
        keeps_points: True if it would be another problem on other points, so that they must stay.
    """

    kind: ClassVar[str] = ""
    backbone: Backbone
    is_correction: bool = False
    keeps_points: bool = False

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return self.backbone.size

    @property
    @abstractmethod
    def points(self) -> Tensor:
        """Collocation points of all terms, `[N, d]`."""

    @property
    @abstractmethod
    def version(self) -> int:
        """Number of changes so far that made the loss another function of theta."""

    @abstractmethod
    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        """The network that parameters `[P]` of this problem stand for: its own objective and parameters."""

    @abstractmethod
    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        """The loss at theta `[P]` and each term's part of ‖r‖²."""

    @abstractmethod
    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """The loss at theta `[P]`, its gradient `[P]` and each term's part of ‖r‖²."""

    @abstractmethod
    def linearize(self, theta: Tensor) -> Linearization:
        """The residual and its Jacobian at theta `[P]`, formed as far as they are asked for."""

    def parts(self, rows: int | None) -> Iterator[LeastSquares]:
        """Yield problems whose losses, gradients and JᵀJ add up to this one's, of about `rows` rows of J each.

        It is only this one for None, or where it cannot be taken apart.
        """
        yield self

    def sampled(self, share: float, generator: np.random.Generator) -> LeastSquares:
        """A problem on a random share of the points, whose loss and JᵀJ have this one's as their expectation.

        It is the problem itself where its points cannot be taken apart.
        """
        return self

    def rebased(self, change: Callable[[Any], LeastSquares]) -> LeastSquares:
        """The same problem with something else in place of the network's objective that it is made of."""
        return change(self)

    def state(self) -> State:
        """State that a resumed solve needs to pose it again, besides its level's parameters."""
        return {}


def total_loss(parts: Iterable[LeastSquares], theta: Tensor) -> tuple[float, dict[str, float]]:
    """Return the sum of the losses of parts at theta `[P]`, and of each term's part of ‖r‖²."""
    total, terms = 0.0, {}
    for part in parts:
        loss, losses = part.loss(theta)
        total += loss
        for name, value in losses.items():
            terms[name] = terms.get(name, 0.0) + value
    return total, terms


@final
class Objective(LeastSquares):
    """Least-squares problem of a network's weighted residuals at collocation points.

    Attributes:
        residuals: Problem and network.
        backbone: The network.
        weighting: Term weights and multipliers.
        collocation: The points.
        constraint: Penalty of equations and conditions beside data.
        noisy: Names of the terms of data.
        curved: By term, the loss of conditions that have another than the sum of squares.
    """

    kind = "network"

    def __init__(
        self,
        residuals: Residuals,
        weighting: Weighting,
        collocation: CollocationPoints | None = None,
        costs: CostTable | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        """Join residuals and weights.

        Args:
            residuals: Problem and network.
            weighting: Term weights and multipliers.
            collocation: The points; none if None.
            costs: Of the points' device; None looks them up once there are points.
            constraint: Penalty of equations and conditions beside data; None for none.

        Raises:
            UserError: For weights of terms that do not exist.
        """
        weighting.check_terms((INTERIOR, *residuals.names))
        self.residuals = residuals
        self.backbone = residuals.backbone
        self.weighting = weighting
        self.constraint = constraint or Constraint()
        empty = torch.empty(0, len(residuals.problem.domain))
        self.collocation = CollocationPoints(empty) if collocation is None else collocation
        self._sample: CollocationSample | None = None
        self._costs = costs
        self._plan = GramPlan(costs or CostTable())
        self._inputs: Inputs | None = None  # of the network at these points, once they have been met
        self._fit: PlainFit | None = None
        self._version = 0
        self.noisy = {c.name for c in residuals.conditions.values() if c.given is not None}
        self.curved = {c.name: c.loss for c in residuals.conditions.values() if c.loss is not None}

    @property
    def points(self) -> Tensor:
        return self.collocation.points

    @property
    def version(self) -> int:
        return self._version + self.constraint.changes

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        return self, theta

    def set_points(self, sample: CollocationSample) -> None:
        """Take new collocation points; multipliers of the weighting scheme start anew."""
        problem = self.residuals.problem
        self.collocation = collocation_points(problem, self.residuals.conditions, sample, self.weighting)
        self._plan = GramPlan(self._costs or cost_table(self.points.device))
        self._sample, self._inputs, self._fit = sample, None, None
        self.weighting.reset(relative_times(problem, self.collocation))
        self._version += 1

    def at(self, collocation: CollocationPoints) -> Objective:
        """The same residuals and weights on some of its points."""
        return Objective(self.residuals, self.weighting, collocation, self._plan.costs, self.constraint)

    def state(self) -> State:
        """The points, what the weighting scheme has made of the residuals there, and how JᵀJ is formed there."""
        return {
            "sample": None if self._sample is None else self._sample.state(),
            "weighting": self.weighting.state(),
            "declined": {name: sorted(found) for name, found in self._plan.declined.items()},
        }

    def load_state(self, state: State, device: torch.device) -> None:
        """Take points and multipliers from a state, arrays in place of tensors."""
        if state["sample"] is not None:
            self.set_points(CollocationSample.from_state(state["sample"], device))
        self.weighting.load_state(state["weighting"], device)
        self._plan.declined = {str(name): {int(k) for k in found} for name, found in state["declined"].items()}
        self._version += 1

    def rows(
        self, theta: Tensor, tape: Tape | None = None, integrals: Integrals | None = None
    ) -> Iterator[tuple[Term, str, Tensor]]:
        """Every equation's term, name and residual `[n]` at the points, in units of its scale and unweighted."""
        raw = self.backbone.forward(theta, self.points, self.residuals.space, tape, self._met())
        copied = replace(self.collocation, points=self.points.clone())  # a problem never gets the points themselves
        fields, integrals = self.residuals.rebuilt(raw, self.points), integrals or self.residuals.integrals(theta)
        for term, equation, value in self.residuals.rows(copied, fields, integrals):
            yield term, equation, value / self.residuals.scales.of(term.name, equation)

    def _met(self) -> Inputs:
        """The network's inputs: steps and trial steps meet the same points often before they are drawn anew."""
        if self._inputs is None:
            self._inputs = self.backbone.inputs(self.points, self.residuals.space)
            self._fit = plain_fit(self.residuals, self.weighting, self.collocation, self._inputs)
        return self._inputs

    def _weighted(
        self, theta: Tensor, tape: Tape | None = None, integrals: Integrals | None = None
    ) -> tuple[list[tuple[Term, Tensor]], dict[str, float]]:
        """Every equation's term and weighted residual `[n]`, and each term's part of the loss."""
        rows, losses, squares = [], dict.fromkeys(self.residuals.terms, 0.0), dict[str, tuple[Term, Tensor]]()
        for term, equation, value in self.rows(theta, tape, integrals):
            if term.name in self.curved:
                rows.append((term, value * term.scale))
                squares[term.name] = term, value.detach().square() + squares.get(term.name, (term, 0.0))[1]
                continue
            multipliers = self.weighting.multipliers(term.name, equation)
            if term.part is not None and isinstance(multipliers, Tensor):
                multipliers = multipliers[term.part]
            row = value * (term.scale * math.sqrt(self.constraint.weight(noisy=term.name in self.noisy)) * multipliers)
            losses[term.name] += float(row.detach().square().sum())
            rows.append((term, row))
        for name, (term, square) in squares.items():
            losses[name] = float((self.curved[name](square) * term.scale.square()).sum())
        return rows, losses

    def residual(self, theta: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The weighted residual `[M]`, term by term and equation by equation, and each term's part of the loss."""
        rows, losses = self._weighted(theta)
        return torch.cat([row for _, row in rows]), losses

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        with torch.no_grad():
            r, losses = self.residual(theta)
        return _total(r, losses, curved=bool(self.curved)), losses

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        self._met()
        if self._fit is not None:
            return self._fit.loss_and_gradient(theta.detach())
        theta = theta.detach().requires_grad_(True)
        r, losses = self.residual(theta)
        loss = r.square().sum()
        if not loss.requires_grad:  # residuals in which no unknown occurs
            return _total(r, losses, curved=bool(self.curved)), torch.zeros_like(theta), losses
        (gradient,) = torch.autograd.grad(loss, theta)
        return _total(r, losses, curved=bool(self.curved)), gradient, losses

    def forward_pass(self, theta: Tensor) -> ForwardPass:
        """The weighted residuals at theta `[P]` with the graph to the layers' outputs."""
        tape, integrals = Tape(), self.residuals.integrals(theta.detach(), record=True)
        rows, losses = self._weighted(theta.detach(), tape, integrals)
        nodes = couplings(self.residuals, self._plan, theta.detach(), [row for _, row in rows], integrals.used)
        return ForwardPass.of(tape, rows, losses, nodes, curved=bool(self.curved))

    def linearize(self, theta: Tensor) -> NetworkLinearization:
        theta = theta.detach()

        def blocks() -> Iterator[Tensor]:
            for part in self.pieces(block_rows(self.size)):
                yield part.linearize(theta).dense().jacobian

        def part(names: Collection[str]) -> Linearization:
            return self.at(self.collocation.of(names)).linearize(theta)

        return NetworkLinearization(
            self.backbone, theta, self.collocation, self._plan, lambda: self.forward_pass(theta), blocks, part
        )

    def pieces(self, rows: int) -> Iterator[Objective]:
        """At most `rows` points of one term after the other, as problems of their own."""
        return map(self.at, self.collocation.pieces(rows))

    def parts(self, rows: int | None) -> Iterator[Objective]:
        if rows is None or len(self.points) <= rows:
            yield self
        else:
            yield from self.pieces(rows)

    def sampled(self, share: float, generator: np.random.Generator) -> Objective:
        return self.at(self.collocation.sampled(share, generator))

    def update_multipliers(self, theta: Tensor) -> None:
        """Let the weighting scheme see the current residuals, where it wants to."""
        if not self.weighting.adapts:
            return
        with torch.no_grad():
            for term, equation, value in self.rows(theta):
                self.weighting.update(term.name, equation, value)
        self._version += 1


def update_constraint(objective: Objective, theta: Tensor, terms: Mapping[str, float], done: float) -> None:
    """Let the penalty beside data see each term's part of the loss at theta `[P]`, with a share of the steps done."""
    coefficients, noisy = len(free_coefficients(objective.residuals.problem)), objective.noisy & set(terms)
    if not (coefficients and noisy):
        return

    def spent() -> tuple[float, int]:
        given = objective.at(objective.collocation.of(noisy))
        data, whole = (one.linearize(theta).gram().matrix for one in (given, objective))
        return freedom_of(data, whole) - coefficients, given.residual(theta)[0].numel()

    parts = [sum(value for name, value in terms.items() if (name in noisy) is given) for given in (True, False)]
    objective.constraint.update(parts[0], parts[1], done, spent)


def plain_loss(objective: Objective, theta: Tensor) -> float:
    """Return the loss with every multiplier taken as 1: weights of terms only, comparable between points and levels."""
    with torch.no_grad():
        if objective.curved:
            return sum(objective.loss(theta)[1].values())
        return sum(float((value * term.scale).square().sum()) for term, _, value in objective.rows(theta))


def _total(r: Tensor, losses: Mapping[str, float], *, curved: bool) -> float:
    return sum(losses.values()) if curved else float(r.detach().square().sum())
