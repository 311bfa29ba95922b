"""Error of a solution from its defect: the linearised problem solved for the error on splines of its own.

Let u be a network's solution of N(u) = 0 with conditions B(u) = 0. Its error e = u* − u obeys

    N′(u) e = −N(u) + O(e²),    B′(u) e = −B(u) + O(e²)

(the defect equation of defect correction, Stetter, Numer. Math. 29, 1978, 425–443; Böhmer, Hemker, Stetter 1984). It is
solved in the mean square for e in a space of splines that is not the network's. One linear solve, whatever training has
been. What the space cannot represent is left over: the residual's share left over tells whether to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from kanpinn.estimate.band_least_squares import Fit, Rows, solved
from kanpinn.estimate.spline_space import SplineSpace
from kanpinn.geometry.chart import Array
from kanpinn.jets.indices import Index
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.points import INTERIOR, CollocationPoints, Term, collocation_points
from kanpinn.least_squares.residuals import Residuals, term_residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import inside
from kanpinn.pde.time_slab import START, TimeSlab
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import SAMPLERS, CollocationSample
from kanpinn.samplers.placing import PointSet

AT_ONCE = 20_000
NODES = 3
"""Gauss–Legendre points of a cell per coordinate."""

Orders = tuple[int, ...]
Trained = tuple[Residuals, Tensor]
"""A problem with its network, and the network's parameters `[P]`."""


@final
@dataclass(frozen=True)
class Correction:
    """An estimate of the error on one time slab, or on the whole.

    Attributes:
        space: The splines.
        coefficients: `[M, unknowns]`.
        free: Errors of the coefficients that are found with the solution, by name.
        names: Names of the unknowns.
        left: Share of the defect that is left over.
        norms: Root mean squares ‖e‖ and ‖u + e‖ over the domain, by unknown.
    """

    space: SplineSpace
    coefficients: Array
    names: tuple[str, ...]
    free: Mapping[str, float]
    left: float
    norms: Mapping[str, tuple[float, float]]

    def values(self, points: Array, orders: Orders | None = None) -> dict[str, Array]:
        """The error at points `[N, d]`, or its derivative by the order in each coordinate: `[N]` by unknown."""
        cell, places = self.space.located(points)
        found = self.space.values(places, orders or (0,) * points.shape[1])
        parts = np.einsum("nl,nlu->nu", found, self.coefficients[self.space.local[cell]])
        return dict(zip(self.names, parts.T, strict=True))


@final
@dataclass(frozen=True)
class _Equation:
    """One equation at the points of a term, linearised.

    Attributes:
        term: The term, with all its points.
        equation: The equation's name.
        sides: Its points `[N, d]` and, where it compares two, those across.
        value: The residual `[N]`.
        slopes: Its derivatives `[N]` by side, unknown and derivative.
    """

    term: Term
    equation: str
    sides: tuple[Array, ...]
    value: Array
    slopes: dict[tuple[int, str, Index], Array]


def corrections(
    trained: Sequence[Trained], intervals: Sequence[int], weights: Mapping[str, float] | None = None
) -> list[Correction] | None:
    """Estimate the errors of the networks of all time slabs, one after the other.

    Args:
        trained: Each slab's problem and network with its parameters.
        intervals: Number of intervals of each coordinate.
        weights: Weights of the loss terms; only those that are 0 count, and all where there are data.

    Returns:
        One correction for each slab; None where a linear solve breaks down, or residuals hold integrals.
    """
    found: list[Correction] = []
    for residuals, theta in trained:
        one = _Defect(residuals, theta, tuple(intervals), weights or {}).solved(found[-1] if found else None)
        if one is None:
            return None
        found.append(one)
    return found


def valued(parts: Sequence[Correction], points: Array) -> Array:
    """Return the estimated error u* − u `[unknowns, N]` at points `[N, d]`, each of the time slab it lies in."""
    found = np.empty((len(parts[0].names), len(points)))
    left = np.ones(len(points), bool)
    for k, part in enumerate(parts):
        within = ((points >= part.space.lower) & (points <= part.space.upper)).all(1)
        which = left & (within if k < len(parts) - 1 else True)
        if which.any():
            found[:, which] = list(part.values(points[which]).values())
        left &= ~which
    return found


@final
class _Defect:
    """The defect equation of one network on one spline space."""

    def __init__(self, residuals: Residuals, theta: Tensor, intervals: Orders, weights: Mapping[str, float]) -> None:
        self.residuals, self.theta, self.problem = residuals, theta, residuals.problem
        self.names, domain = self.problem.unknowns, self.problem.domain
        self.free = tuple(free_coefficients(self.problem))
        wraps = tuple(name in residuals.backbone.embedding.periodic for name in domain.names)
        self.space = SplineSpace(tuple(domain.lower), tuple(domain.upper), intervals, wraps)
        self.conditions = {
            c.name: c
            for c in conditions_of(self.problem)
            if weights.get(c.name, 1.0) and not (c.periodic and wraps[domain.names.index(c.periodic)])
        }
        self.data = any(condition.given is not None for condition in self.conditions.values())
        self.weights = weights
        nodes, shares = self.space.nodes(NODES)
        nodes = nodes.reshape(-1, len(domain))
        mask = inside(self.problem, torch.from_numpy(nodes))
        self.part = np.ones(len(nodes), bool) if mask is None else mask.cpu().numpy()
        self.nodes, self.shares = nodes[self.part], shares.ravel()[self.part]
        self.points = self._points()
        self.values: dict[str, Array] = {}
        self.units: dict[str, float] = {}
        self.sizes = self._sizes()

    def solved(self, before: Correction | None) -> Correction | None:
        """Solve for the error, that of the slab before known; None where that is not possible."""
        rows: list[Rows] = []
        try:
            for equation in self._linearized():
                rows.append(self._rows(equation, before))
        except _Integral:
            return None
        rows += self._still()
        width, many = len(self.names), len(self.free)
        fit = solved(rows, self.space.size * width + many) if np.isfinite(_largest(rows)) else None
        return None if fit is None else self._correction(fit)

    def _correction(self, fit: Fit) -> Correction:
        width, size = len(self.names), self.space.size
        own = fit.coefficients[: size * width].reshape(size, width) * [self.units[name] for name in self.names]
        free = dict(zip(self.free, fit.coefficients[size * width :].tolist(), strict=True))
        bare = Correction(self.space, own, self.names, free, fit.left, {})
        norms = {
            name: (self._norm(name, error), self._norm(name, self.values[name] + error))
            for name, error in bare.values(self.nodes).items()
        }
        return replace(bare, norms=norms)

    def _norm(self, name: str, values: Array) -> float:
        """Root mean square over the domain, without squares that no float holds."""
        unit = self.units[name]
        return unit * math.sqrt(float(self.shares @ (values / unit) ** 2) / float(self.shares.sum()))

    def _points(self) -> CollocationPoints:
        """Lay out nodes inside and points on all conditions."""
        dimension = self.nodes.shape[1]
        many = max(32, math.ceil(4 * len(self.nodes) ** ((dimension - 1) / dimension)))
        sampler, like = SAMPLERS["sobol"](interior=16, boundary=many), self.theta
        drawn = sampler.draw(self.problem, 0, np.random.default_rng(0), dtype=like.dtype, device=like.device)
        interior = PointSet(torch.from_numpy(self.nodes).to(like), torch.from_numpy(self.shares).to(like))
        sample = CollocationSample(interior, drawn.conditions, drawn.paired)
        return collocation_points(self.problem, self.conditions, sample, Fixed())

    def _sizes(self) -> dict[tuple[str, Index], float]:
        """Root mean squares of unknowns and derivatives inside, relative to the unknowns' units; keeps the unknowns."""
        found: dict[tuple[str, Index], list[Array]] = {}
        inner = self.points.terms[0].coordinates
        for start in range(0, len(self.nodes), AT_ONCE):
            with torch.no_grad():
                fields = self.residuals.fields(self.theta, inner[start : start + AT_ONCE])
            for name in self.names:
                for index, row in zip(fields[name].space.indices, fields[name].data, strict=True):
                    found.setdefault((name, index), []).append(_numbers(row))
        values = {key: np.concatenate(parts) for key, parts in found.items()}
        self.values = {name: values[name, ()] for name in self.names}
        self.units = {name: float(np.abs(own).max()) or 1.0 for name, own in self.values.items()}
        return {(name, index): self._norm(name, own) / self.units[name] for (name, index), own in values.items()}

    def _linearized(self) -> Iterator[_Equation]:
        """Yield every equation's residual and its derivatives by unknowns and derivatives at each point."""
        for term in self.points.terms:
            parts: dict[str, list[_Equation]] = {}
            count = len(term.coordinates)
            for start in range(0, count, AT_ONCE):
                piece = self.points.select([(term, slice(start, min(count, start + AT_ONCE)), 1.0)])
                for one in self._pieces(piece):
                    parts.setdefault(one.equation, []).append(one)
            for found in parts.values():
                yield _joined(term, found)

    def _pieces(self, piece: CollocationPoints) -> Iterator[_Equation]:
        with torch.no_grad():
            fields = self.residuals.fields(self.theta, piece.points)
        leaves = {name: Jet(jet.space, jet.data.detach().clone().requires_grad_()) for name, jet in fields.items()}
        integrals = self.residuals.integrals(self.theta, record=True)
        with torch.enable_grad():
            for term, name, value in term_residuals(self.problem, self.conditions, piece, leaves, integrals):
                if integrals.used:
                    raise _Integral
                sides = [_numbers(piece.points[where]) for where in (term.points, term.paired) if where is not None]
                yield _Equation(term, name, tuple(sides), _numbers(value), _slopes(term, value, leaves))

    def _rows(self, equation: _Equation, before: Correction | None) -> Rows:
        """Rows of one equation, relative to the size of its terms; with data, as the loss weights them."""
        term, names = equation.term, self.problem.domain.names
        scale = _numbers(term.scale) / self._size(equation)
        right = -equation.value
        condition = self.conditions.get(term.name)
        slab = isinstance(self.problem, TimeSlab) and self.problem.before is not None
        if before is not None and slab and condition is not None and condition.supports == START:
            for (_, name, index), slope in equation.slopes.items():
                if name in before.names:
                    orders = tuple(index.count(one) for one in names)
                    right = right + slope * before.values(equation.sides[0], orders)[name]
        width, values, columns = len(self.names), [], []
        border = np.zeros((len(right), len(self.free)))
        for side, points in enumerate(equation.sides):
            cell, places = self.space.located(points)
            found = np.zeros((len(points), self.space.local.shape[1], width))
            for (own, name, index), slope in equation.slopes.items():
                if own == side and name in self.names:
                    orders = tuple(index.count(coordinate) for coordinate in names)
                    unit = self.units[name]
                    found[:, :, self.names.index(name)] += (slope * unit)[:, None] * self.space.values(places, orders)
                elif own == side and name in self.free and not index:
                    border[:, self.free.index(name)] += slope
            values.append(found.reshape(len(points), -1))
            columns.append((self.space.local[cell][:, :, None] * width + np.arange(width)).reshape(len(points), -1))
        entries = np.concatenate(values, 1) * scale[:, None]
        border, right = border * scale[:, None], right * scale
        if term.name == INTERIOR:
            return self._by_cell(entries, right, border)
        return Rows(np.concatenate(columns, 1), entries[:, None, :], right[:, None], border[:, None, :])

    def _size(self, equation: _Equation) -> float:
        name = equation.term.name
        if self.data:
            return self.residuals.scales.of(name, equation.equation) / math.sqrt(self.weights.get(name, 1.0))
        parts = [
            slope * (self.units[one] * self.sizes[one, index])
            for (_, one, index), slope in equation.slopes.items()
            if one in self.names
        ]
        largest = max((float(np.abs(part).max()) for part in parts), default=0.0)
        return largest * math.sqrt(sum(float(np.mean((part / largest) ** 2)) for part in parts)) if largest else 1.0

    def _by_cell(self, entries: Array, right: Array, border: Array) -> Rows:
        """Rows at the nodes of cells, zero at those outside the domain."""
        space, width = self.space, len(self.names)
        local = (space.local[:, :, None] * width + np.arange(width)).reshape(space.cells, -1)
        full = [values if self.part.all() else self._spread(values) for values in (entries, right, border)]
        return Rows(
            local, *(values.reshape(space.cells, len(self.part) // space.cells, *values.shape[1:]) for values in full)
        )

    def _spread(self, values: Array) -> Array:
        found = np.zeros((len(self.part), *values.shape[1:]))
        found[self.part] = values
        return found

    def _still(self) -> list[Rows]:
        """Rows ∂e/∂x = 0 of unknowns that do not depend on a coordinate x."""
        found, names = [], self.problem.domain.names
        _, places = self.space.located(self.nodes)
        for name, seen in self.problem.depends.items():
            for k, coordinate in enumerate(names):
                if name not in self.names or coordinate in seen:
                    continue
                length = self.space.upper[k] - self.space.lower[k]
                weight = length / (self.sizes[name, ()] or 1.0) / math.sqrt(len(places))
                entries = np.zeros((len(places), self.space.local.shape[1], len(self.names)))
                orders = tuple(int(one == coordinate) for one in names)
                entries[:, :, self.names.index(name)] = weight * self.space.values(places, orders)
                border = np.zeros((len(places), len(self.free)))
                found.append(self._by_cell(entries.reshape(len(places), -1), np.zeros(len(places)), border))
        return found


class _Integral(Exception):
    """A residual that holds an integral, which no row of few columns is."""


def _numbers(values: Tensor) -> Array:
    return values.detach().double().cpu().numpy()


def _largest(rows: Sequence[Rows]) -> float:
    return max((float(np.abs(a).max()) for part in rows for a in (part.values, part.right) if a.size), default=0.0)


def _slopes(term: Term, value: Tensor, leaves: Mapping[str, Jet]) -> dict[tuple[int, str, Index], Array]:
    """Derivatives `[N]` of a residual by side, unknown and derivative, those that are not zero everywhere."""
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
                    found[side, name, index] = _numbers(row)
    return found


def _joined(term: Term, parts: Sequence[_Equation]) -> _Equation:
    """Join one equation's pieces."""
    keys = dict.fromkeys(key for part in parts for key in part.slopes)
    slopes = {key: np.concatenate([p.slopes.get(key, np.zeros(len(p.value))) for p in parts]) for key in keys}
    sides = tuple(np.concatenate(side) for side in zip(*(part.sides for part in parts), strict=True))
    return _Equation(term, parts[0].equation, sides, np.concatenate([part.value for part in parts]), slopes)
