"""Equations of a problem, linearised about a network at points: derivatives by what the network puts out.

Leaves of the derivatives are the unknowns or, where a problem has an `ansatz`, the network's outputs behind it: an
unknown's error may then have the jumps and singular functions that the ansatz knows of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from kanpinn.geometry.chart import Array
from kanpinn.jets.indices import Index, index_of
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.points import CollocationPoints, Term
from kanpinn.least_squares.residuals import Residuals, term_residuals
from kanpinn.pde.condition import Condition
from kanpinn.pde.network_fields import network_fields
from kanpinn.pde.problem import Problem, output_names
from kanpinn.pde.time_slab import TimeSlab
from kanpinn.pde.unknown import free_coefficients

AT_ONCE = 20_000


@final
@dataclass(frozen=True)
class Far:
    """Derivatives of residuals by what an integral takes at its nodes.

    Attributes:
        name: The unknown.
        index: Its derivative.
        points: Nodes `[Q, U, d]`.
        which: Their column `[N]` for each residual; None if U = 1.
        slopes: `[Q, N]`.
        start: Number of the first of the N residuals among those of the equation.
    """

    name: str
    index: Index
    points: Array
    which: Array | None
    slopes: Array
    start: int = 0


@final
@dataclass(frozen=True)
class Equation:
    """One equation at the points of a term, linearised.

    Attributes:
        term: The term, with all its points.
        equation: The equation's name.
        sides: Its points `[N, d]` and, where it compares two, those across.
        value: The residual `[N]`.
        slopes: Its derivatives `[N]` by side, leaf and derivative.
        far: Those by integrals.
    """

    term: Term
    equation: str
    sides: tuple[Array, ...]
    value: Array
    slopes: dict[tuple[int, str, Index], Array]
    far: tuple[Far, ...] = ()


@final
class Linearized:
    """A problem with its network, about which it is linearised."""

    def __init__(self, residuals: Residuals, theta: Tensor) -> None:
        self.residuals, self.theta, self.problem = residuals, theta, residuals.problem
        whole = self.problem.whole if isinstance(self.problem, TimeSlab) else self.problem
        self.behind = type(whole).ansatz is not Problem.ansatz
        self.leaves = output_names(self.problem) if self.behind else self.problem.unknowns

    def outputs(self, points: Tensor) -> dict[str, Jet]:
        """The leaves, and coefficients that are found, at points `[N, d]` by name."""
        return self._outputs(points, self.residuals.space)

    def _outputs(self, points: Tensor, space: JetSpace) -> dict[str, Jet]:
        with torch.no_grad():
            if not self.behind:
                return self.residuals.fields(self.theta, points, space)
            raw = self.residuals.scales.raw(self.residuals.backbone.forward(self.theta, points, space))
        names = (*self.leaves, *free_coefficients(self.problem))
        return {name: Jet(space, raw.data[..., k]) for k, name in zip(range(raw.data.shape[-1]), names, strict=False)}

    def _fields(self, leaves: Mapping[str, Jet], points: Tensor) -> dict[str, Jet]:
        """The unknowns made of the leaves."""
        if not self.behind:
            return dict(leaves)
        space = next(iter(leaves.values())).space
        raw = Jet(space, torch.stack([jet.data for jet in leaves.values()], -1))
        return network_fields(self.problem, raw, points, exact=self.residuals.exact)

    def changes(self, points: Array, moved: Mapping[str, Array]) -> dict[str, Array]:
        """Return the change of each unknown `[N]` as the leaves change at points `[N, d]`."""
        if not self.behind:
            return {name: moved[name] for name in self.problem.unknowns}
        space, at = JetSpace(self.problem.domain.names, ()), torch.from_numpy(points).to(self.theta)
        leaves = self._outputs(at, space)
        after = {
            name: Jet(space, jet.data + torch.from_numpy(moved[name]).to(at))
            for name, jet in leaves.items()
            if name in moved
        }
        with torch.no_grad():
            old, new = self._fields(leaves, at), self._fields({**leaves, **after}, at)
        return {name: numbers(new[name].value - old[name].value) for name in self.problem.unknowns}

    def equations(self, points: CollocationPoints, conditions: Mapping[str, Condition]) -> Iterator[Equation]:
        """Yield every equation's residual and its derivatives by leaves and derivatives at each point."""
        for term in points.terms:
            parts: dict[str, list[Equation]] = {}
            count = len(term.coordinates)
            for start in range(0, count, AT_ONCE):
                piece = points.select([(term, slice(start, min(count, start + AT_ONCE)), 1.0)])
                for one in self._piece(piece, conditions):
                    parts.setdefault(one.equation, []).append(one)
            for found in parts.values():
                yield _joined(term, found)

    def _piece(self, piece: CollocationPoints, conditions: Mapping[str, Condition]) -> Iterator[Equation]:
        found = self.outputs(piece.points)
        leaves = {name: Jet(jet.space, jet.data.detach().clone().requires_grad_()) for name, jet in found.items()}
        integrals = self.residuals.integrals(self.theta, record=True)
        with torch.enable_grad():
            fields = self._fields(leaves, piece.points)
            for term, name, value in term_residuals(self.problem, conditions, piece, fields, integrals):
                sides = [numbers(piece.points[where]) for where in (term.points, term.paired) if where is not None]
                far = [
                    Far(
                        key,
                        index_of(derivative, self.problem.domain.names),
                        numbers(nodes.points),
                        None if nodes.which is None else nodes.which.numpy(),
                        numbers(slope),
                    )
                    for nodes in integrals.used
                    for (key, derivative), slope in nodes.slopes(value)
                ]
                yield Equation(term, name, tuple(sides), numbers(value), _slopes(term, value, leaves), tuple(far))


def numbers(values: Tensor) -> Array:
    """Return a tensor's values as an array of doubles."""
    return values.detach().double().cpu().numpy()


def _slopes(term: Term, value: Tensor, leaves: Mapping[str, Jet]) -> dict[tuple[int, str, Index], Array]:
    """Derivatives `[N]` of a residual by side, leaf and derivative, those that are not zero everywhere."""
    found: dict[tuple[int, str, Index], Array] = {}
    if not value.requires_grad:
        return found
    data = [jet.data for jet in leaves.values()]
    gradients = torch.autograd.grad(value.sum(), data, retain_graph=True, allow_unused=True)
    for (name, jet), gradient in zip(leaves.items(), gradients, strict=True):
        for side, where in enumerate((term.points, term.paired)):
            if gradient is None or where is None:
                continue
            for index, row in zip(jet.space.indices, gradient[:, where], strict=True):
                if bool((row != 0).any()):
                    found[side, name, index] = numbers(row)
    return found


def _joined(term: Term, parts: list[Equation]) -> Equation:
    """Join one equation's pieces."""
    keys = dict.fromkeys(key for part in parts for key in part.slopes)
    slopes = {key: np.concatenate([p.slopes.get(key, np.zeros(len(p.value))) for p in parts]) for key in keys}
    sides = tuple(np.concatenate(side) for side in zip(*(part.sides for part in parts), strict=True))
    starts = np.cumsum([0, *(len(part.value) for part in parts)])
    far = tuple(replace(one, start=int(s)) for part, s in zip(parts, starts, strict=False) for one in part.far)
    return Equation(term, parts[0].equation, sides, np.concatenate([part.value for part in parts]), slopes, far)
