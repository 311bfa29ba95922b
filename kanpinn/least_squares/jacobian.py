"""Linearisation of a network's residuals: one forward pass, then what is asked for of the Jacobian.

Points do not interact, so that one backward pass of Σ_n r_n gives every point's own cotangents at every layer. Every
layer is linear in its effective weights: a row of J is the outer product of the features and the cotangents. Where a
residual has integrals, the nodes of these add to its row (`coupling`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.separable import normal_equations
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares import gram_local
from kanpinn.least_squares.coupling import Coupling
from kanpinn.least_squares.linearization import Dense, Linearization, NormalEquations
from kanpinn.least_squares.points import CollocationPoints, ForwardPass

FEW = 4000
"""About how many points are looked at to foresee how JᵀJ will be formed."""


@dataclass
class GramPlan:
    """Choices of how JᵀJ is formed at some points; kept, since every choice has a rounding of its own.

    Attributes:
        costs: Of the device.
        declined: By term, numbers of the equations for which shared coordinate values were found to save no work.
    """

    costs: CostTable
    declined: dict[str, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Equations:
    """Equations whose points are disjoint, so that one backward pass served them all.

    Attributes:
        cotangents: Of every layer with parameters, `[C, N, out]`.
        places: For each equation its points, their paired points (or None) and its rows in the residual vector.
        coupled: Rows in the residual vector, and what they have of nodes of integrals.
    """

    cotangents: tuple[Tensor, ...]
    places: list[tuple[slice, slice | None, slice]]
    coupled: list[tuple[slice, Coupling]]


def stores_jacobian(backbone: Backbone, theta: Tensor, points: CollocationPoints) -> bool:
    """Return whether JᵀJ is likely to be formed from rows of J, as judged from a few of the points."""
    if points.compares:
        return True
    if normal_equations.is_separable(backbone) and normal_equations.promises(
        backbone, [points.shared(term.name) for term in points.terms]
    ):
        return False
    few, tape = points.points[:: max(1, len(points) // FEW)], Tape()
    backbone.forward(theta, few, JetSpace(backbone.embedding.names, ()), tape)
    return gram_local.parts(few, backbone.supports(tape), backbone.size, CostTable()) is None


@final
class NetworkLinearization(Linearization):
    """Linearisation of a network's weighted residual vector at its collocation points."""

    def __init__(
        self,
        backbone: Backbone,
        theta: Tensor,
        points: CollocationPoints,
        plan: GramPlan,
        forward: Callable[[], ForwardPass],
        rows: Callable[[], Iterator[Tensor]] | None = None,
        part: Callable[[Collection[str]], Linearization] | None = None,
    ) -> None:
        """Make the forward pass.

        Args:
            backbone: The network.
            theta: Its parameters `[P]`, without a graph.
            points: Its points.
            plan: Way JᵀJ is formed there.
            forward: Makes the forward pass; asked again if a graph has been used up and more is wanted.
            rows: Gives the rows of J in blocks, each from passes of its own; None takes them from the stored J.
            part: Gives the linearisation of some terms alone; None where no residual has integrals.
        """
        self._backbone, self._theta, self._points, self._plan = backbone, theta, points, plan
        self._forward, self._blocks, self._part = forward, rows, part
        known = self._known = forward()
        self._couplings, self._terms = known.couplings, [term.name for term, _ in known.rows]
        self.residual = torch.cat([row for _, row in known.rows]).detach()
        self.loss, self.terms = float(self.residual.square().sum()), known.losses
        if known.curved:
            self.loss = sum(known.losses.values())

    def _pass(self) -> ForwardPass:
        """The forward pass, whose graph the caller uses up."""
        known, self._known = self._known, None
        return self._forward() if known is None else known

    @cached_property
    def gradient(self) -> Tensor:
        """Jᵀr."""
        return self.vjp(self.residual)

    @cached_property
    def _pulled(self) -> tuple[Tape, list[Equations]]:
        """Features and cotangents, by one backward pass per equation."""
        known, end = self._pass(), 0
        ends = []
        for _, row in known.rows:
            ends.append(slice(end, end + len(row)))
            end += len(row)
        found = []
        for k, members in enumerate(known.passes):
            cotangents = self._backbone.cotangents(known.tape, known.scalar(members), retain=known.retained(k))
            places = [(known.rows[m][0].points, known.rows[m][0].paired, ends[m]) for m in members]
            coupled = [(ends[m], one) for m in members for one in self._couplings.get(m, ())]
            found.append(Equations(cotangents, places, coupled))
        return known.tape, found

    def jvp(self, tangent: Tensor) -> Tensor:
        """J v `[M]` for v `[P]`: (J v)_n = Σ over layers of ⟨λ[n], (layer with parameters v)(its input at n)⟩.

        λ are the cotangents of r_n at the layers' outputs.
        """
        tape, passes = self._pulled
        out = torch.empty_like(self.residual)
        for equations in passes:
            by_point = self._backbone.jvp(self._theta, tape, equations.cotangents, tangent)
            for points, paired, rows in equations.places:
                out[rows] = by_point[points] if paired is None else by_point[points] + by_point[paired]
            for rows, coupling in equations.coupled:
                out[rows] += coupling.jvp(tangent)
        return out

    def vjp(self, weights: Tensor) -> Tensor:
        tape, passes = self._pulled
        out = torch.zeros_like(self._theta)
        for equations in passes:
            by_point = weights.new_zeros(tape.outputs[0].shape[1])
            for points, paired, rows in equations.places:
                by_point[points] = weights[rows]
                if paired is not None:
                    by_point[paired] = weights[rows]
            out += self._backbone.vjp(self._theta, tape, equations.cotangents, by_point)
            for rows, coupling in equations.coupled:
                out += coupling.vjp(weights[rows])
        return out

    def blocks(self) -> Iterator[Tensor]:
        return self.dense().blocks() if self._blocks is None else self._blocks()

    def dense(self) -> Dense:
        return self._dense(self._pass())

    def _dense(self, known: ForwardPass) -> Dense:
        def pull(scalar: Tensor, out: Tensor, retain: bool) -> None:
            self._backbone.jacobian(self._theta, known.tape, scalar, out, retain=retain)

        jacobian = self._assembled(known, self._backbone.size, pull)
        end = 0
        for m, (_, row) in enumerate(known.rows):
            rows, end = slice(end, end + len(row)), end + len(row)
            for coupling in self._couplings.get(m, ()):
                jacobian[rows] += coupling.rows()
        return Dense(jacobian, jacobian.T @ self.residual, self.loss, self.terms, self.residual)

    def columns(self, where: slice) -> Tensor:
        """Some columns of J, `[M, L]`; for those of the last layer the layers before it are not pulled back."""
        if where != self._backbone.last_layer or self._couplings:
            return self.dense().jacobian[:, where]
        known = self._pass()
        layer, parameters = self._backbone.layers[-1], self._backbone.arrays(self._theta)[-1]

        def pull(scalar: Tensor, out: Tensor, retain: bool) -> None:
            output = known.tape.outputs[-1]
            cotangent = torch.zeros_like(output)
            if scalar.requires_grad:
                (cotangent,) = torch.autograd.grad(scalar, output, retain_graph=retain, materialize_grads=True)
            layer.jacobian(parameters, known.tape.features[-1], cotangent, out)

        return self._assembled(known, layer.size, pull)

    def _assembled(self, known: ForwardPass, size: int, pull: Callable[[Tensor, Tensor, bool], None]) -> Tensor:
        """The Jacobian `[M, size]` from one backward pass per equation, rows ordered as in the residual.

        `pull` writes, from Σ_n r_n, every point's row into `[N, size]`; it is told whether the graph is needed again.
        """
        parts: dict[int, Tensor] = {}
        alone = len(known.passes) == 1 and not self._points.compares
        for k, members in enumerate(known.passes):
            block = self._points.points.new_empty(len(self._points), size)
            pull(known.scalar(members), block, known.retained(k))
            if alone:
                return block
            for m in members:
                term = known.rows[m][0]
                part = block[term.points]
                parts[m] = part if term.paired is None else part + block[term.paired]
        return torch.cat([parts[m] for m in range(len(known.rows))])

    def gram(self) -> NormalEquations:
        """The normal equations; without J where points see few parameters each or share coordinate values.

        Terms with integrals are taken apart, and their rows stored.
        """
        names = {term.name for term in self._points.terms}
        coupled = {self._terms[m] for m in self._couplings}
        if coupled and coupled < names and self._part is not None:
            one, other = self._part(names - coupled).gram(), self._part(coupled).dense().gram()
            terms = {name: value + other.terms[name] for name, value in one.terms.items()}
            return NormalEquations(one.matrix + other.matrix, one.gradient + other.gradient, sum(terms.values()), terms)
        known = self._pass()
        if not (self._points.compares or coupled):  # else rows belong to several places
            found = self._by_shared_values(known) or self._by_neighbours(known)
            if found is not None:
                return NormalEquations(*found, sum(known.losses.values()), known.losses)
        return self._dense(known).gram()

    def _by_shared_values(self, known: ForwardPass) -> tuple[Tensor, Tensor] | None:
        """JᵀJ and Jᵀr of a separable network at points that share coordinate values."""
        if not normal_equations.is_separable(self._backbone):
            return None
        equations = [
            normal_equations.Equation(
                term.points, row, self._points.shared(term.name), self._plan.declined.setdefault(term.name, set()), m
            )
            for m, (term, row) in enumerate(known.rows)
        ]
        passes = [[equations[m] for m in members] for members in known.passes]
        return normal_equations.products(self._backbone, self._theta, known.tape, passes, self._plan.costs)

    def _by_neighbours(self, known: ForwardPass) -> tuple[Tensor, Tensor] | None:
        """JᵀJ and Jᵀr of a network whose parameters act locally."""
        return gram_local.products(self._backbone, self._theta, known, self._points.points, self._plan.costs)
