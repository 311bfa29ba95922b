"""The objective: problem, points and network become a weighted residual vector, its gradient and its Jacobian.

loss = Σ over terms of w_term · (1/|set|) Σ_n q_n (m_n r_n)², where q_n are the sampler's weights (they sum to |set|, so
that equal weights give the mean square) and m_n the multipliers of a weighting scheme. The weighted residual vector
holds √(w_term q_n/|set|) m_n r_n, so that loss = ‖r‖². Interior residuals of an evolution equation may carry a factor
exp(−λ (t_n − t_0)) too (`Weighting.growth`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Inputs, Tape
from kanpinn.backbones.separable import normal_equations
from kanpinn.backbones.separable.tensor_product_points import SharedValues
from kanpinn.errors import UserError, invalid, unknown_choice
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares import gram_local
from kanpinn.least_squares.base import LeastSquares, Linearization, gram
from kanpinn.least_squares.forward_pass import Recording, Term
from kanpinn.least_squares.jacobian import Equations, Products, TapedProducts, block_rows
from kanpinn.least_squares.weighting import Weighting
from kanpinn.pde.problem import Condition, Point, Problem
from kanpinn.pde.problem_calls import ask, checked, network_fields, problem_name
from kanpinn.samplers.base import Draw
from kanpinn.state import State

INTERIOR = "interior"

FEWEST = 16
"""Points of every term that a random sample has, if the term has as many."""


def _within(part: slice | Tensor, which: slice | Tensor) -> Tensor:
    """Which of all points some of a part's points are, `[n]`."""
    return (torch.arange(part.start, part.stop) if isinstance(part, slice) else part)[which]


def _check_names(problem: Problem, names: list[str], weighting: Weighting) -> None:
    """Refuse conditions whose loss terms cannot be told apart, and weights of terms that do not exist."""
    who = f"problem={problem_name(problem)}"
    if INTERIOR in names:
        raise UserError(f"{who}: a condition cannot be called '{INTERIOR}'; that is the term of the equations")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{who}: two conditions are called '{name}'; each needs a name of its own")
    for key, given in (("terms", weighting.terms), ("base", weighting.base), ("only", getattr(weighting, "only", ()))):
        for name in given:
            if name not in (INTERIOR, *names):
                raise unknown_choice(f"weighting.{key}", name, (INTERIOR, *names))


class Objective(LeastSquares):
    """A least-squares objective over the parameters of one backbone.

    Attributes:
        problem: The PDE problem.
        backbone: The network, on its current level.
        space: The derivatives carried.
        exact: Whether conditions are built in.
        weighting: Term weights and multipliers.
        version: Counts changes of points and multipliers, each of which makes the loss another function of theta.
    """

    def __init__(self, problem: Problem, backbone: Backbone, weighting: Weighting, *, exact: bool = False) -> None:
        self.problem = problem
        self.backbone = backbone
        self.weighting = weighting
        self.exact = exact
        self.space = JetSpace(problem.domain.names, tuple(problem.derivatives))
        conditions = list(ask(problem, "conditions", problem.conditions))
        _check_names(problem, [c.name for c in conditions], weighting)
        self.conditions = {
            c.name: c
            for c in conditions
            if not (exact and not c.periodic and not c.inner and not c.symmetry)
            and not (c.periodic and c.periodic in backbone.embedding.periodic)
            and not (c.symmetry and c.symmetry in backbone.embedding.symmetry)
        }
        self._terms: list[Term] = []
        self._shared: dict[str, SharedValues] = {}  # by term, as long as its points stay
        self._draw: Draw | None = None
        self.points = torch.empty(0, len(problem.domain))
        self._inputs: Inputs | None = None  # of the network at these points, once they have been met
        self.version = 0

    def set_points(self, draw: Draw) -> None:
        """Take new collocation points; multipliers of the weighting scheme start anew.

        Args:
            draw: From a sampler.
        """
        self._draw = draw
        blocks: list[Tensor] = []
        terms: list[Term] = []
        start = 0

        def place(points: Tensor) -> slice:
            nonlocal start
            blocks.append(points)
            start += len(points)
            return slice(start - len(points), start)

        for name, chosen in [(INTERIOR, draw.interior), *((n, draw.conditions[n]) for n in self.conditions)]:
            if not (len(chosen.points) and float(chosen.weights.sum()) > 0):
                raise UserError(
                    f"problem={problem_name(self.problem)}: no point was drawn for '{name}'; ask for more of them by "
                    "sampler.interior or sampler.boundary"
                )
            scale = torch.sqrt(self.weighting.term(name) * chosen.weights / chosen.weights.sum())
            if name == INTERIOR and self.weighting.growth:
                scale = scale * torch.exp(-self.weighting.growth * self._elapsed(chosen.points))
            where = place(chosen.points)
            partner = place(draw.partners[name]) if name in draw.partners else None
            terms.append(Term(name, where, partner, scale, chosen.points))
        self._terms, self._shared = terms, {}
        self.points, self._inputs = torch.cat(blocks), None
        self.weighting.reset(self._times())
        self.version += 1

    def state(self) -> State:
        """The points, what the weighting scheme has made of the residuals there, and how JᵀJ is formed there."""
        return {
            "draw": None if self._draw is None else self._draw.state(),
            "weighting": self.weighting.state(),
            "declined": {name: sorted(shared.declined) for name, shared in self._shared.items()},
        }

    def load_state(self, state: State, device: torch.device) -> None:
        """Take points and multipliers from a state.

        Args:
            state: What `state` returned, arrays in place of tensors.
            device: Where tensors go.
        """
        if state["draw"] is not None:
            self.set_points(Draw.from_state(state["draw"], device))
        self.weighting.load_state(state["weighting"], device)
        for term in self._terms:
            if declined := state["declined"].get(term.name):
                self._shared_values(term.name).declined = {int(equation) for equation in declined}
        self.version += 1

    def _elapsed(self, points: Tensor) -> Tensor:
        """The time since the first one, `[N]`; raises UserError for problems without t."""
        domain = self.problem.domain
        if "t" not in domain.names:
            raise invalid("weighting.growth", self.weighting.growth, "0 for a problem without a time t")
        return points[:, domain.names.index("t")] - domain.interval("t")[0]

    def _times(self) -> dict[str, Tensor]:
        """How far along the time interval each term's points lie, `[n]` from 0 to 1; empty for problems without t."""
        domain = self.problem.domain
        if "t" not in domain.names:
            return {}
        start, end = domain.interval("t")
        column = domain.names.index("t")
        return {term.name: (term.coordinates[:, column] - start) / (end - start) for term in self._terms}

    def fields(self, theta: Tensor, points: Tensor, space: JetSpace | None = None) -> dict[str, Jet]:
        """The unknowns at any points, as jets `[C, N]` by name.

        Args:
            theta: Parameters `[P]`.
            points: `[N, d]`.
            space: Which derivatives; those of the problem if None.
        """
        if points is self.points and space is None:
            raw = self._raw(theta)
        else:
            raw = self.backbone.forward(theta, points, space or self.space)
        return network_fields(self.problem, raw, points, exact=self.exact)

    def _raw(self, theta: Tensor, tape: Tape | None = None) -> Jet:
        """The network's outputs at its points: steps and trial steps meet them often before they are drawn anew."""
        if self._inputs is None:
            self._inputs = self.backbone.inputs(self.points, self.space)
        return self.backbone.forward(theta, self.points, self.space, tape, self._inputs)

    def _rows(self, fields: Mapping[str, Jet]) -> Iterator[tuple[Term, str, Tensor]]:
        """Yield (term, equation name, unweighted residual `[n]`) for every equation of every term."""
        names = self.problem.domain.names

        def at(where: slice) -> Point:
            part = {name: Jet(jet.space, jet.data[:, where]) for name, jet in fields.items()}
            return Point(names, self.points[where], part)

        for term in self._terms:
            if term.name == INTERIOR:
                who = "residual"
                result = ask(self.problem, who, self.problem.residual, at(term.points))
            else:
                arguments = [at(term.points)] + ([at(term.partner)] if term.partner else [])
                who = f"condition '{term.name}'"
                result = ask(self.problem, who, self.conditions[term.name].residual, *arguments)
            count = term.points.stop - term.points.start
            for equation, value in checked(self.problem, who, result, count).items():
                yield term, equation, value

    def residual(self, theta: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The weighted residual vector.

        Args:
            theta: Parameters `[P]`.

        Returns:
            `[M]`, term by term and equation by equation, and each term's part of the loss.
        """
        fields = self.fields(theta, self.points)
        parts, losses = [], dict.fromkeys((t.name for t in self._terms), 0.0)
        for term, equation, value in self._rows(fields):
            row = value * self._scale(term, equation)
            losses[term.name] += float(row.detach().square().sum())
            parts.append(row)
        return torch.cat(parts), losses

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """The loss ‖r‖², its gradient `[P]` and each term's part, by one backward pass."""
        theta = theta.detach().requires_grad_(True)
        r, losses = self.residual(theta)
        loss = r.square().sum()
        if not loss.requires_grad:  # residuals in which no unknown occurs
            return float(loss), torch.zeros_like(theta, requires_grad=False), losses
        (gradient,) = torch.autograd.grad(loss, theta)
        return float(loss.detach()), gradient, losses

    def jacobian(self, theta: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
        """The weighted residual vector with its Jacobian, by one backward pass per equation.

        Points do not interact, so one backward pass of Σ_n r_n gives every point's own cotangents at every layer.

        Args:
            theta: Parameters `[P]`.

        Returns:
            r `[M]`, J = ∂r/∂theta `[M, P]` and each term's part of the loss. Rows are ordered as in `residual`.
        """
        return self._jacobian(theta, self._record(theta))

    def _jacobian(self, theta: Tensor, record: Recording) -> tuple[Tensor, Tensor, dict[str, float]]:
        """`jacobian` after its forward pass."""

        def pull(scalar: Tensor, out: Tensor, retain: bool) -> None:
            self.backbone.jacobian(theta, record.tape, scalar, out, retain=retain)

        return *self._assembled(record, self.backbone.size, pull), record.losses

    def residual_vector(self, theta: Tensor) -> Tensor:
        """The weighted residual vector r `[M]` at theta `[P]`."""
        return self.residual(theta)[0]

    def last_layer(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """J's columns of the last layer `[M, L]` and r `[M]` at theta `[P]`; the layers before it are not pulled back.

        Args:
            theta: Parameters `[P]`.

        Returns:
            As in `LeastSquares.last_layer`, rows ordered as in `residual`.
        """
        record = self._record(theta)
        layer, parameters = self.backbone.layers[-1], self.backbone.arrays(theta)[-1]

        def pull(scalar: Tensor, out: Tensor, retain: bool) -> None:
            output = record.tape.outputs[-1]
            cotangent = torch.zeros_like(output)
            if scalar.requires_grad:
                (cotangent,) = torch.autograd.grad(scalar, output, retain_graph=retain, materialize_grads=True)
            layer.jacobian(parameters, record.tape.features[-1], cotangent, out)

        r, matrix = self._assembled(record, layer.size, pull)
        return matrix, r

    def _assembled(
        self, record: Recording, size: int, pull: Callable[[Tensor, Tensor, bool], None]
    ) -> tuple[Tensor, Tensor]:
        """The residual vector `[M]` and the Jacobian `[M, size]` from one backward pass per equation.

        Args:
            record: The forward pass.
            size: Number of parameters asked for.
            pull: Writes, from Σ_n r_n, every point's row into `[N, size]`; told whether the graph is needed again.

        Returns:
            r and J, rows ordered as in `residual`.
        """
        rows, passes = record.rows, record.passes
        blocks: list[Tensor] = [torch.empty(0)] * len(rows)
        for k, members in enumerate(passes):
            block = self.points.new_empty(len(self.points), size)
            pull(record.scalar(members), block, k < len(passes) - 1)
            for m in members:
                term = rows[m][0]
                part = block[term.points]
                blocks[m] = part if term.partner is None else part + block[term.partner]
        plain = len(passes) == 1 and all(term.partner is None for term, _ in rows)
        matrix = block if plain else torch.cat(blocks)  # type: ignore[possibly-undefined]
        return torch.cat([row for _, row in rows]).detach(), matrix

    def _record(self, theta: Tensor) -> Recording:
        """One forward pass; pass k of the backward ones takes the k-th equation of every term: points are disjoint."""
        tape = Tape()
        raw = self._raw(theta.detach(), tape)
        fields = network_fields(self.problem, raw, self.points, exact=self.exact)
        rows: list[tuple[Term, Tensor]] = []
        passes: list[list[int]] = []
        seen: dict[str, int] = {}
        losses = dict.fromkeys((t.name for t in self._terms), 0.0)
        for term, equation, value in self._rows(fields):
            row = value * self._scale(term, equation)
            losses[term.name] += float(row.detach().square().sum())
            k = seen[term.name] = seen.get(term.name, -1) + 1
            if k == len(passes):
                passes.append([])
            passes[k].append(len(rows))
            rows.append((term, row))
        return Recording(tape, rows, passes, losses)

    def _scale(self, term: Term, equation: str) -> Tensor:
        """What an equation's residuals are multiplied by, `[n]`."""
        multipliers = self.weighting.multipliers(term.name, equation)
        if term.part is not None and isinstance(multipliers, Tensor):
            multipliers = multipliers[term.part]
        return term.scale * multipliers

    def products(self, theta: Tensor) -> Products:
        """Products with J at theta `[P]`, by one forward pass and one backward pass per equation kept."""
        record = self._record(theta)
        ends, end = [], 0
        for _, row in record.rows:
            ends.append(slice(end, end + len(row)))
            end += len(row)
        passes = []
        for k, members in enumerate(record.passes):
            cotangents = self.backbone.cotangents(
                record.tape, record.scalar(members), retain=k < len(record.passes) - 1
            )
            places = [(record.rows[m][0].points, record.rows[m][0].partner, ends[m]) for m in members]
            passes.append(Equations(cotangents, places))
        residual = torch.cat([row for _, row in record.rows]).detach()
        theta = theta.detach()
        return TapedProducts(
            self.backbone, theta, record.tape, passes, residual, record.losses, lambda: self.jacobian_blocks(theta)
        )

    def jacobian_blocks(self, theta: Tensor) -> Iterator[Tensor]:
        """The rows of J at theta `[P]`, term by term, some points at a time: `[B, P]`."""
        for _, _, block in self.term_jacobians(theta):
            yield block

    def term_jacobians(self, theta: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """J at theta `[P]` some points at a time: term, points `[n, d]`, rows `[E n, P]`, those of E equations."""
        step = block_rows(self.backbone.size)
        for term in self._terms:
            for start in range(0, len(term.coordinates), step):
                part = slice(start, min(start + step, len(term.coordinates)))
                yield term.name, term.coordinates[part], self._at(term, part).jacobian(theta)[1]

    def _at(self, term: Term, chosen: slice) -> Objective:
        """This objective on some points of one term only."""
        return self._on([(term, chosen, 1.0)])

    def _on(self, chosen: Sequence[tuple[Term, slice | Tensor, float]]) -> Objective:
        """This objective on some points of some terms, each term's residuals times a factor."""
        part, sides, terms, end = copy(self), [], [], 0
        for term, which, factor in chosen:
            coordinates = term.coordinates[which]
            places = []
            for where in (term.points, term.partner):
                if where is not None:
                    sides.append(self.points[where][which])
                    places.append(slice(end, end + len(coordinates)))
                    end += len(coordinates)
            scale = term.scale[which] if factor == 1.0 else term.scale[which] * factor
            own = which if term.part is None else _within(term.part, which)
            terms.append(Term(term.name, places[0], places[1] if len(places) > 1 else None, scale, coordinates, own))
        part.points, part._terms, part._shared, part._inputs = torch.cat(sides), terms, {}, None
        return part

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        """Itself and theta `[P]`."""
        return self, theta

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        """The loss ‖r‖² and each term's part."""
        with torch.no_grad():
            r, losses = self.residual(theta)
        return float(r.square().sum()), losses

    def plain_loss(self, theta: Tensor) -> float:
        """The loss with every multiplier taken as 1: weights of terms only, comparable between points and levels."""
        total = 0.0
        with torch.no_grad():
            for term, _, value in self._rows(self.fields(theta, self.points)):
                total += float((value * term.scale).square().sum())
        return total

    def linearize(self, theta: Tensor) -> Linearization:
        """J and Jᵀr at theta `[P]`."""
        r, matrix, losses = self.jacobian(theta)
        return Linearization(matrix, matrix.T @ r, float(r.square().sum()), losses, r)

    def linearizations(self, theta: Tensor, rows: int | None) -> Iterator[Linearization]:
        """J and Jᵀr term by term, some points at a time, each from passes of its own; whole where it fits."""
        for part in self._parts(rows):
            yield part.linearize(theta)

    def loss_by_parts(self, theta: Tensor, rows: int | None) -> tuple[float, dict[str, float]]:
        """The loss ‖r‖² and each term's part, some points at a time."""
        if rows is None or len(self.points) <= rows:
            return self.loss(theta)
        total, terms = 0.0, dict.fromkeys((term.name for term in self._terms), 0.0)
        for part in self._parts(rows):
            loss, losses = part.loss(theta)
            total += loss
            for name, value in losses.items():
                terms[name] += value
        return total, terms

    def _parts(self, rows: int | None) -> Iterator[Objective]:
        """Itself if it has at most that many points (None: any), else some points of one term after the other."""
        if rows is None or len(self.points) <= rows:
            yield self
            return
        for term in self._terms:
            for start in range(0, len(term.coordinates), rows):
                yield self._at(term, slice(start, min(start + rows, len(term.coordinates))))

    def sampled(self, share: float, generator: np.random.Generator) -> Objective:
        """This objective at random points, as large a share of every term's (at least `FEWEST`), weighted up to all."""
        chosen = []
        for term in self._terms:
            many = len(term.coordinates)
            count = min(many, max(math.ceil(share * many), FEWEST))
            index = torch.from_numpy(np.sort(generator.choice(many, count, replace=False))).to(self.points.device)
            chosen.append((term, index, math.sqrt(many / count)))
        return self._on(chosen)

    def normal_equations(self, theta: Tensor) -> tuple[Tensor, Tensor, float, dict[str, float]]:
        """JᵀJ `[P, P]`, Jᵀr `[P]`, the loss and each term's part; without J where points see few parameters each.

        Likewise where they share coordinate values, which a separable network sees one by one.
        """
        theta = theta.detach()
        record = self._record(theta)
        if all(term.partner is None for term in self._terms):  # else rows belong to two places
            found = normal_equations.products(self.backbone, theta, record, self._shared_values)
            found = found or gram_local.products(self.backbone, theta, record, self.points)
            if found is not None:
                return *found, sum(record.losses.values()), record.losses
        r, jacobian, losses = self._jacobian(theta, record)
        return gram(jacobian), jacobian.T @ r, float(r.square().sum()), losses

    def _shared_values(self, name: str) -> SharedValues:
        """Which points of a term share coordinate values."""
        if name not in self._shared:
            self._shared[name] = SharedValues(next(t.coordinates for t in self._terms if t.name == name))
        return self._shared[name]

    def normal_equations_by_parts(
        self, theta: Tensor, rows: int | None
    ) -> Iterator[tuple[Tensor, Tensor, float, dict[str, float]]]:
        """`normal_equations` of some points at a time."""
        for part in self._parts(rows):
            yield part.normal_equations(theta)

    def pointwise(self, theta: Tensor) -> dict[str, Tensor]:
        """The unweighted residual size at each term's points, `[n]`: √Σ over equations of r²."""
        total: dict[str, Tensor] = {}
        with torch.no_grad():
            for term, _, value in self._rows(self.fields(theta, self.points)):
                total[term.name] = total.get(term.name, torch.zeros_like(value)) + value.square()
        return {name: value.sqrt() for name, value in total.items()}

    def term_points(self) -> dict[str, Tensor]:
        """The collocation points of each term, `[n, d]`."""
        return {term.name: term.coordinates for term in self._terms}

    def row_blocks(self, theta: Tensor) -> list[tuple[str, Tensor, Tensor]]:
        """By equation, in the order of the rows of `residual`: term, points `[n, d]`, plain residuals `[n]`."""
        with torch.no_grad():
            rows = self._rows(self.fields(theta, self.points))
            return [(term.name, term.coordinates, value) for term, _, value in rows]

    def interior_residual(self, theta: Tensor, points: Tensor) -> dict[str, Tensor]:
        """The equations' residuals `[N]` at any points, by equation name ("" for a single one)."""
        return self._residual("residual", self.problem.residual, theta, points)

    def condition_residual(self, condition: Condition, theta: Tensor, points: Tensor) -> dict[str, Tensor]:
        """The same of a condition that does not compare points, whether it is a term of the loss or not."""
        return self._residual(f"condition '{condition.name}'", condition.residual, theta, points)

    def _residual(self, who: str, method: Callable[..., Any], theta: Tensor, points: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            point = Point(self.problem.domain.names, points, self.fields(theta, points))
            result = ask(self.problem, who, method, point)
        return checked(self.problem, who, result, len(points))

    def update_multipliers(self, theta: Tensor) -> None:
        """Let the weighting scheme see the current residuals, where it wants to."""
        if not self.weighting.adapts:
            return
        with torch.no_grad():
            for term, equation, value in self._rows(self.fields(theta, self.points)):
                self.weighting.update(term.name, equation, value)
        self.version += 1
