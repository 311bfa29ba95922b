"""Sizes of a problem's unknowns and equations, found from the problem itself before anything is trained.

A solve must not depend on units: equations are made dimensionless (Langtangen and Pedersen 2016, Scaling of
Differential Equations, ch. 1). Networks see coordinates scaled to ξ ∈ [−1, 1]; here their outputs get a size U_j, and
equations a size R_i by which the loss divides their residuals r_i. With trial functions φ_m = Π_k sin(π ξ_k + θ_mk),
rms over points and trials, and derivatives ∂_α:

    b_i = rms r_i(0),    a_ij² = Σ_α rms(∂r_i/∂(∂_α u_j) ∂_α φ)²,    R_i² = b_i² + Σ_j (a_ij V_j)².

Each derivative counts apart, so that none hides another that cancels it for some φ; in an integral ∫g it counts with
∫|∂g/∂(∂_α u_j) ∂_α φ|. V_j is the size of the unknown u_j:
the largest V with V a_ij = m_i over the equations i in which u_j is the only unknown not sized yet; m_i is R_i from the
unknowns sized before, at first from the data b_i alone. So pressures and the like follow by balance. Nonlinear
equations are differentiated at u_j = V_j φ. U_j = V_j, unless the problem builds its unknowns from the outputs N_j:
u = u⁰ + Σ_j B_j N_j. Then U_j max |B_j| = V for the unknown that allows least, and V is at least the size of u⁰.

In other units x̃ = s x, ũ_j = c_j u_j, r̃_i = d_i r_i points have the same ξ. Hence b̃_i = d_i b_i and ã_ij = (d_i/c_j)
a_ij, so that Ṽ_j = c_j V_j and R̃_i = d_i R_i by their definitions. The networks' N_j = u_j/U_j and the relative
residuals r_i/R_i, all that optimisers see, are the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import mul
from typing import final

import numpy as np
import torch
from torch import Tensor

from kanpinn.jets.functions import sin_derivatives
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.coupling import Nodes
from kanpinn.least_squares.integrals import Integrals
from kanpinn.least_squares.points import Term, collocation_points
from kanpinn.least_squares.residuals import Scales, term_residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.integration import Quadrature
from kanpinn.pde.network_fields import network_fields
from kanpinn.pde.problem import output_names
from kanpinn.pde.problem_calls import ask
from kanpinn.pde.table import Table
from kanpinn.samplers import SAMPLERS

POINTS = 200
"""Points in the domain, and on each condition."""

TRIALS = 7
"""Trial functions; a prime, so that θ_mk = π m (1 + k mod 3)/7 are orthogonal phases in up to three coordinates."""

ITERATIONS = 40
"""Iterations, at most, for the size of an unknown in a nonlinear equation."""

Row = tuple[str, str]
"""Term and equation."""


def scales_of(problem: Problem, *, exact: bool) -> Scales:
    """Return the sizes of a problem's outputs, with conditions built in or not, and of all its equations.

    Raises:
        UserError: If a method of the problem raises, or returns anything else than it should.
    """
    if isinstance(problem, Table):
        return _of_table(problem)
    probe = _Probe(problem, exact=exact)
    with torch.enable_grad():
        sizes = probe.unknowns()
        terms = {row: _size(part, sizes) or 1.0 for row, part in probe.measured(sizes).items()}
        return Scales(probe.outputs(sizes), terms)


def _of_table(table: Table) -> Scales:
    """Return the sizes of a table: of a target its rms, of its residual the same over its deviations; of logits 1."""
    rows, (data,) = table.rows("train"), conditions_of(table)
    if table.classes:
        return Scales((1.0,) * len(table.unknowns))
    given = {name: torch.from_numpy(rows[name]) for name in table.unknowns}
    sigmas = {name: torch.from_numpy(rows[f"sigma_{name}"]) if f"sigma_{name}" in rows else 1.0 for name in given}
    terms = {(data.name, name): rms(values / sigmas[name]) for name, values in given.items()}
    return Scales(tuple(rms(values) for values in given.values()), terms)


def rms(values: Tensor) -> float:
    """Root mean square of what is finite; 0 where nothing is."""
    kept = values.detach()[torch.isfinite(values)].abs()
    largest = float(kept.max()) if len(kept) else 0.0
    return largest * math.sqrt(float((kept / largest).square().mean())) if largest else 0.0


def _size(part: tuple[float, Mapping[str, float]], sizes: Mapping[str, float]) -> float:
    """R of an equation, from b and a, for the unknowns of these sizes."""
    return math.hypot(part[0], *(part[1][name] * size for name, size in sizes.items()))


@final
class _Probe:
    """A problem at a few points, for trial functions in place of networks.

    Attributes:
        trials: The trial functions at all points, jets `[C, N]`; at paired points others than at their partners.
    """

    def __init__(self, problem: Problem, *, exact: bool) -> None:
        self.problem, self.exact = problem, exact
        self.conditions = {c.name: c for c in ask(problem, "conditions", lambda: conditions_of(problem))}
        sampler = SAMPLERS["uniform"](interior=POINTS, boundary=POINTS)
        sample = sampler.draw(problem, 0, np.random.default_rng(0))
        self.points = collocation_points(problem, self.conditions, sample, Fixed())
        self.space = JetSpace(problem.domain.names, tuple(problem.derivatives))
        own = self.points.points.new_zeros(len(self.points))
        for term in self.points.terms:
            if term.paired is not None:
                own[term.paired] = TRIALS // 2
        self.trials = [self._trial(own + m, self.points.points) for m in range(TRIALS)]
        self.quadrature = Quadrature(problem)

    def _trial(self, number: Tensor, points: Tensor) -> Jet:
        """Return Π_k sin(π ξ_k + θ_mk) as a jet `[C, N]` at points `[N, d]`, with the number m `[N]` of each."""
        box, factors = self.problem.domain, []
        for k, (jet, name) in enumerate(zip(self.space.variables(points), box.names, strict=True)):
            a, b = box.interval(name)
            unit = (jet - (a + b) / 2) * (2 / (b - a))
            phase = unit * math.pi + number * (math.pi * (1 + k % 3) / TRIALS)
            factors.append(phase.compose(sin_derivatives(phase.value, self.space.order)))
        return reduce(mul, factors)

    def measured(self, sizes: Mapping[str, float]) -> dict[Row, tuple[float, dict[str, float]]]:
        """Measure the b and a of every equation, at unknowns of some sizes times the trials; 0 for the others."""
        residuals = self._zero()
        slopes = self._responses(sizes, residuals)
        return {row: (rms(residual), slopes[row]) for row, residual in residuals.items()}

    def _responses(self, sizes: Mapping[str, float], rows: Collection[Row]) -> dict[Row, dict[str, float]]:
        """Measure the a of some equations, as `measured` does."""
        names = self.problem.unknowns
        parts: dict[Row, dict[str, list[Tensor]]] = {row: {name: [] for name in names} for row in rows}
        for m, trial in enumerate(self.trials):
            fields = {name: (sizes.get(name, 0.0) * trial.data).requires_grad_() for name in names}
            integrals = self._integrals(sizes, m)
            for term, equation, value in self._rows({name: data + 0.0 for name, data in fields.items()}, integrals):
                if (term.name, equation) not in parts:
                    continue
                far = self._far(integrals.used, value, m)
                for name, slope in zip(names, _slopes(value, fields.values()), strict=True):
                    moved = slope * trial.data
                    places = [moved[:, where] for where in (term.points, term.paired) if where is not None]
                    parts[term.name, equation][name].append(torch.cat([*places, *far.get(name, [])]))
        return {
            row: {name: _joint(torch.stack(stacked, 1)) for name, stacked in found.items()}
            for row, found in parts.items()
        }

    def _integrals(self, sizes: Mapping[str, float], m: int) -> Integrals:
        """Return the integrals of a trial, at unknowns of some sizes."""

        def fields(points: Tensor) -> dict[str, Jet]:
            trial = self._trial(points.new_tensor(m).expand(len(points)), points)
            return {name: trial * sizes.get(name, 0.0) for name in self.problem.unknowns}

        return Integrals(self.quadrature, fields, record=True)

    def _far(self, used: Iterable[Nodes], value: Tensor, m: int) -> dict[str, list[Tensor]]:
        """Return how much integrals make of a trial, Σ_q |∂r_n/∂(∂_α u) ∂_α φ| as `[1, n]`, by unknown."""
        found: dict[str, list[Tensor]] = {}
        for nodes in used:
            points = nodes.points.flatten(0, 1)
            trial = self._trial(points.new_tensor(m).expand(len(points)), points)
            for (name, by), slope in nodes.slopes(value):
                size = nodes.spread(trial[by]).abs()
                found.setdefault(name, []).append((slope.abs() * size).sum(0, keepdim=True))
        return found

    def _zero(self) -> dict[Row, Tensor]:
        """Return the residuals of unknowns that vanish."""
        nothing = torch.zeros_like(self.trials[0].data)
        fields = {name: nothing.clone() for name in self.problem.unknowns}
        rows = self._rows(fields, self._integrals({}, 0))
        return {(term.name, equation): value.detach() for term, equation, value in rows}

    def _rows(self, fields: Mapping[str, Tensor], integrals: Integrals) -> Iterator[tuple[Term, str, Tensor]]:
        """Every equation's term, name and residual `[n]`, for unknowns `[C, N]` that it may change in place."""
        jets = {name: Jet(self.space, data) for name, data in fields.items()}
        points = replace(self.points, points=self.points.points.clone())
        return term_residuals(self.problem, self.conditions, points, jets, integrals)

    def unknowns(self) -> dict[str, float]:
        """Find V of every unknown; 1 where nothing says how large it is."""
        names, known = self.problem.unknowns, {}
        while len(known) < len(names):
            # Where all equations are flat at 0, such as u_x² = 1, sizes are sought from 1 on.
            candidates = self._candidates(known, 0.0) or self._candidates(known, 1.0)
            if not known:
                for name, size in self._base().items():
                    candidates.setdefault(1, {}).setdefault(name, []).append(size)
            if not candidates:
                break
            known |= {name: max(sizes) for name, sizes in candidates[min(candidates)].items()}
        return {name: known.get(name, 1.0) for name in names}

    def _candidates(self, known: Mapping[str, float], start: float) -> dict[int, dict[str, list[float]]]:
        """Return sizes of unknowns not known yet, by how many of these the equation has; from slopes at some start."""
        found: dict[int, dict[str, list[float]]] = {}
        measured = self.measured(known)
        slopes = {row: part[1] for row, part in measured.items()}
        if start:
            slopes = self._responses({name: known.get(name, start) for name in self.problem.unknowns}, measured)
        for row, part in measured.items():
            size = _size(part, known)
            left = {name: slope for name, slope in slopes[row].items() if slope and name not in known}
            for name, slope in left.items() if size else ():
                sized = self._amplitude(row, name, size, size / slope, known)
                found.setdefault(len(left), {}).setdefault(name, []).append(sized)
        return found

    def _amplitude(self, row: Row, name: str, size: float, start: float, known: Mapping[str, float]) -> float:
        """Solve V a(V) = m for V, where a is taken at u = V φ, by secants of log V a over log V."""
        here, before, slope = start, None, 1.0
        for _ in range(ITERATIONS):
            reached = here * self._responses({**known, name: here}, [row])[row][name]
            if not (0 < reached < math.inf):
                return start
            gap = math.log(reached / size)
            if before is not None and gap != before[1]:
                slope = (gap - before[1]) / (math.log(here) - before[0])
            if abs(gap) < 1e-12 or not 0.1 < slope < 100:
                break
            before, here = (math.log(here), gap), here * math.exp(-gap / slope)
        return here

    def _base(self) -> dict[str, float]:
        """Return the sizes, where not 0, of the unknowns that `ansatz` and `exact` make of outputs that vanish."""
        if not self._built:
            return {}
        nothing = self.trials[0].data.new_zeros(*self.trials[0].data.shape, len(output_names(self.problem)))
        found = network_fields(self.problem, Jet(self.space, nothing), self.points.points, exact=self.exact)
        unit = rms(torch.stack([trial.value for trial in self.trials]))
        return {name: size for name, jet in found.items() if (size := rms(jet.value.detach()) / unit)}

    @property
    def _built(self) -> bool:
        return self.exact or output_names(self.problem) != self.problem.unknowns

    def outputs(self, sizes: Mapping[str, float]) -> tuple[float, ...]:
        """Return U of every output, for unknowns of sizes V."""
        names, interior = output_names(self.problem), self.points.terms[0].points
        if not self._built:
            return tuple(sizes[name] for name in names)
        zero = self.trials[0].data.new_zeros(*self.trials[0].data.shape, len(names)).requires_grad_()
        fields = network_fields(self.problem, Jet(self.space, zero), self.points.points, exact=self.exact)
        reached = {name: _slopes(jet.value, [zero])[0][0, interior].abs().amax(0) for name, jet in fields.items()}
        return tuple(
            min((sizes[name] / float(most[k]) for name, most in reached.items() if most[k] > 0), default=1.0)
            for k in range(len(names))
        )


def _slopes(value: Tensor, fields: Iterable[Tensor]) -> list[Tensor]:
    """Derivatives of Σ value by fields, of their shapes; 0 where it does not depend on them, or torch has none."""
    given = list(fields)
    if value.requires_grad:
        with suppress(RuntimeError):  # a function without derivative: the problem's examination says so
            return list(torch.autograd.grad(value.sum(), given, retain_graph=True, materialize_grads=True))
    return [torch.zeros_like(data) for data in given]


def _joint(parts: Tensor) -> float:
    """(Σ_α rms_α²)^(1/2) of parts `[C, M, n]`."""
    return math.hypot(*(rms(part) for part in parts))
