"""Error of a solution from its defect: the linearised problem solved for the error on splines of its own.

Let u be a network's solution of N(u) = 0 with conditions B(u) = 0. Its error e = u* − u obeys

    N′(u) e = −N(u) + O(e²),    B′(u) e = −B(u) + O(e²)

(the defect equation of defect correction, Stetter, Numer. Math. 29, 1978, 425–443; Böhmer, Hemker, Stetter 1984). It is
solved in the mean square for e in a space of splines that is not the network's. One linear solve, whatever training has
been. What the space cannot represent is left over: the residual's share left over tells whether to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from kanpinn.estimate.band_least_squares import Fit, Inverse, Rows, factored, solved
from kanpinn.estimate.least_seen import NOTHING, Unseen, fall, unseen, value_rows
from kanpinn.estimate.linearized import AT_ONCE, Equation, Linearized, numbers
from kanpinn.estimate.polynomial_space import PolynomialSpace
from kanpinn.estimate.refinement import Leftover, leftover
from kanpinn.estimate.spline_space import Numbers, SplineSpace
from kanpinn.geometry.chart import Array
from kanpinn.jets.indices import Index
from kanpinn.least_squares.points import INTERIOR, CollocationPoints, collocation_points
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import inside
from kanpinn.pde.time_slab import START, TimeSlab
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import SAMPLERS, CollocationSample
from kanpinn.samplers.placing import PointSet

NODES = 3, 5, 9
"""Gauss–Legendre points of a cell per coordinate: for a look, and more for an estimate that is to hold; at few of them
a residual that oscillates between a network's own points may look like a smooth one."""

DENSE = 3000
"""Most columns of a system with integrals."""

VALUES = 2**22
"""Values of functions that are held at a time."""

Orders = tuple[int, ...]
Space = SplineSpace | PolynomialSpace
Trained = tuple[Residuals, Tensor]
"""A problem with its network, and the network's parameters `[P]`."""


@final
@dataclass(frozen=True)
class Correction:
    """An estimate of the error on one time slab, or on the whole.

    Attributes:
        about: The problem and network.
        space: The splines, or polynomials.
        coefficients: `[M, leaves]`.
        free: Errors of the coefficients that are found with the solution, by name.
        rest: Where that is, on splines.
        norms: Root mean squares ‖e‖ and ‖u + e‖ over the domain, by unknown.
        unseen: The function that equations and conditions see least.
        defect, left: Norm of the defect, relative to the terms it is made of, and share of it that is left over.
    """

    about: Linearized
    space: Space
    coefficients: Array
    free: Mapping[str, float]
    left: float
    rest: Leftover | None
    norms: Mapping[str, tuple[float, float]]
    unseen: Unseen = NOTHING
    defect: float = 0.0

    def moved(self, points: Array, orders: Orders | None = None) -> dict[str, Array]:
        """Errors of the leaves at points `[N, d]`, or derivatives by the order in each coordinate; `[N]` by name."""
        step = max(1, VALUES // self.space.local.shape[1])
        found = [self._moved(points[start : start + step], orders) for start in range(0, len(points), step)]
        return dict(zip(self.about.leaves, np.concatenate(found, 1), strict=True))

    def _moved(self, points: Array, orders: Orders | None) -> Array:
        """The same of a few points, `[leaves, N]`."""
        cell, places = self.space.located(points)
        found = self.space.values(cell, places, orders or (0,) * points.shape[1])
        if self.space.cells == 1:
            return (found @ self.coefficients).T
        return np.einsum("nl,nlu->un", found, self.coefficients[self.space.local[self.space.numbered(cell)]])

    def values(self, points: Array) -> dict[str, Array]:
        """The error at points `[N, d]`: `[N]` by unknown."""
        return self.about.changes(points, self.moved(points))


def corrections(
    trained: Sequence[Trained],
    spaces: Sequence[Space],
    weights: Mapping[str, float] | None = None,
    *,
    look: bool = True,
    nodes: int = NODES[0],
) -> list[Correction] | None:
    """Estimate the errors of all time slabs' networks, one after the other.

    Args:
        trained: Each slab's problem and network with its parameters.
        spaces: The functions for each slab's error.
        weights: Weights of the loss terms; only those that are 0 count, and all where there are data.
        look: Whether to look for the function that is seen least.
        nodes: Gauss–Legendre points of a cell per coordinate.

    Returns one correction for each slab; None where a linear solve breaks down, or integrals take too many nodes.
    """
    found: list[Correction] = []
    for (residuals, theta), space in zip(trained, spaces, strict=True):
        one = _Defect(residuals, theta, space, weights or {}, look, nodes).solved(found[-1] if found else None)
        if not one:
            return None
        found.append(one)
    return found


@final
class _Defect:
    """The defect equation of one network on one spline space."""

    def __init__(
        self, residuals: Residuals, theta: Tensor, space: Space, weights: Mapping[str, float], look: bool, order: int
    ) -> None:
        self.about = Linearized(residuals, theta)
        self.residuals, self.problem = residuals, residuals.problem
        self.names, domain = self.about.leaves, self.problem.domain
        self.free = tuple(free_coefficients(self.problem))
        self.space, self.order, wraps = space, order, space.periodic
        self.conditions = {
            c.name: c
            for c in conditions_of(self.problem)
            if (c.name in residuals.conditions or not (self.about.behind and residuals.exact))  # else built into leaves
            and weights.get(c.name, 1.0)
            and not (c.periodic and wraps[domain.names.index(c.periodic)])
        }
        self.data = any(condition.given is not None for condition in self.conditions.values())
        self.look = look and not self.free and not self.data and self.problem.has_equations  # others have other rules
        nodes, shares = self.space.nodes(order)
        nodes = nodes.reshape(-1, len(domain))
        mask = inside(self.problem, torch.from_numpy(nodes))
        self.part = np.ones(len(nodes), bool) if mask is None else mask.cpu().numpy()
        self.nodes, self.shares = nodes[self.part], shares.ravel()[self.part]
        self.points = self._points(theta)
        self.weights, self.values, self.units = weights, dict[str, Array](), dict[str, float]()
        self.sizes = self._sizes()

    def solved(self, before: Correction | None) -> Correction | None:
        """Solve for the error, that of the slab before known; None where that is not possible."""
        equations = list(self.about.equations(self.points, self.conditions))
        rows = [self._rows(equation, before) for equation in equations]
        still = self._still()
        width, many = len(self.names), len(self.free)
        size = self.space.size * width + many
        if not all(one.finite for one in rows + still) or (size > DENSE and any(one.far is not None for one in rows)):
            return None
        full = [one.cleared() for one in rows + still]
        if (inverse := factored(full, size)) is None or (fit := solved(full, size, inverse)) is None:
            return None
        over = [one.right - one.times(fit.coefficients) for one in rows]
        if isinstance(self.space, PolynomialSpace):
            return self._unseen(self._correction(fit, None), full, inverse)
        pairs = list(zip(over, equations, strict=True))
        inner = [own for own, one in pairs if one.term.name == INTERIOR]
        outer = [(one.sides[0], own.ravel()) for own, one in pairs if one.term.name != INTERIOR]
        return self._unseen(self._correction(fit, leftover(self.space, inner, outer, self.order)), full, inverse)

    def _unseen(self, found: Correction, rows: Sequence[Rows], inverse: Inverse) -> Correction:
        """Add the function seen least."""
        if not self.look:
            return found
        scales = {} if self.about.behind else dict(zip(self.names, self.residuals.scales.outputs, strict=False))
        sizes = {name: max(float(np.abs(own).max()), scales.get(name, 0)) or 1.0 for name, own in self._known.items()}
        values = value_rows(self.about, self.space, (self.nodes, self.shares), self.units, sizes)
        heights = fall(self.space, self.problem, list(self.conditions.values()))
        return replace(found, unseen=unseen(rows, values, inverse, heights, tuple(sizes)))

    @cached_property
    def _known(self) -> Mapping[str, Array]:
        """Values of the unknowns at the nodes, `[N]` each."""
        if not self.about.behind:
            return self.values
        with torch.no_grad():
            fields = self.residuals.fields(self.about.theta, self.points.terms[0].coordinates)
        return {name: numbers(fields[name].value) for name in self.problem.unknowns}

    def _correction(self, fit: Fit, rest: Leftover | None) -> Correction:
        width, size = len(self.names), self.space.size
        own = fit.coefficients[: size * width].reshape(size, width) * [self.units[name] for name in self.names]
        free = dict(zip(self.free, fit.coefficients[size * width :].tolist(), strict=True))
        bare = Correction(self.about, self.space, own, free, fit.left, rest, {}, defect=fit.size)
        norms = {
            name: (self._norm(error, unit), self._norm(self._known[name] + error, unit))
            for name, error in bare.values(self.nodes).items()
            for unit in [float(np.abs(self._known[name]).max()) or 1.0]
        }
        return replace(bare, norms=norms)

    def _norm(self, values: Array, unit: float) -> float:
        """Root mean square over the domain, without squares that no float holds."""
        return unit * math.sqrt(float(self.shares @ (values / unit) ** 2) / float(self.shares.sum()))

    def _points(self, like: Tensor) -> CollocationPoints:
        """Lay out nodes inside and points on all conditions."""
        dimension = self.nodes.shape[1]
        many = max(32, math.ceil(4 * len(self.nodes) ** ((dimension - 1) / dimension)))
        sampler = SAMPLERS["sobol"](interior=16, boundary=many)
        drawn = sampler.draw(self.problem, 0, np.random.default_rng(0), dtype=like.dtype, device=like.device)
        interior = PointSet(torch.from_numpy(self.nodes).to(like), torch.from_numpy(self.shares).to(like))
        sample = CollocationSample(interior, drawn.conditions, drawn.paired)
        return collocation_points(self.problem, self.conditions, sample, Fixed())

    def _sizes(self) -> dict[tuple[str, Index], float]:
        """Root mean squares of leaves and derivatives inside, relative to the leaves' units; keeps the leaves."""
        found: dict[tuple[str, Index], list[Array]] = {}
        inner = self.points.terms[0].coordinates
        for start in range(0, len(self.nodes), AT_ONCE):
            fields = self.about.outputs(inner[start : start + AT_ONCE])
            for name in self.names:
                for index, row in zip(fields[name].space.indices, fields[name].data, strict=True):
                    found.setdefault((name, index), []).append(numbers(row))
        values = {key: np.concatenate(parts) for key, parts in found.items()}
        self.values = {name: values[name, ()] for name in self.names}
        self.units = {name: float(np.abs(own).max()) or 1.0 for name, own in self.values.items()}
        return {
            (name, index): self._norm(own, self.units[name]) / self.units[name] for (name, index), own in values.items()
        }

    def _rows(self, equation: Equation, before: Correction | None) -> Rows:
        """Rows of one equation, relative to the size of its terms; with data, as the loss weights them."""
        term, names = equation.term, self.problem.domain.names
        scale = numbers(term.scale) / self._size(equation)
        right = -equation.value
        condition = self.conditions.get(term.name)
        slab = isinstance(self.problem, TimeSlab) and self.problem.before is not None
        if before is not None and slab and condition is not None and condition.supports == START:
            for (_, name, index), slope in equation.slopes.items():
                if name in before.about.leaves:
                    orders = tuple(index.count(one) for one in names)
                    right = right + slope * before.moved(equation.sides[0], orders)[name]
        width, values, columns = len(self.names), [], []
        border = np.zeros((len(right), len(self.free)))
        for side, points in enumerate(equation.sides):
            cell, places = self.space.located(points)
            found = np.zeros((len(points), self.space.local.shape[1], width))
            for (own, name, index), slope in equation.slopes.items():
                if own == side and name in self.names:
                    orders = tuple(index.count(coordinate) for coordinate in names)
                    unit = self.units[name]
                    part = self.space.values(cell, places, orders)
                    found[:, :, self.names.index(name)] += (slope * unit)[:, None] * part
                elif own == side and name in self.free and not index:
                    border[:, self.free.index(name)] += slope
            values.append(found.reshape(len(points), -1))
            columns.append(self._columns(cell))
        entries = np.concatenate(values, 1) * scale[:, None]
        border, right = border * scale[:, None], right * scale
        far = self._far(equation, scale)
        if term.name == INTERIOR:
            return replace(self._by_cell(entries, right, border), far=far)
        if self.space.cells == 1:  # all rows in one group
            entries = entries.reshape(len(entries), len(values), -1).sum(1)
            return Rows(columns[0][:1], entries[None], right[None], border[None], far)
        return Rows(np.concatenate(columns, 1), entries[:, None, :], right[:, None], border[:, None, :], far)

    def _columns(self, cell: Numbers) -> Numbers:
        """Columns `[N, W]` of the splines of cells `[N, d]`, of all leaves."""
        local, width = self.space.local[self.space.numbered(cell)], len(self.names)
        return (local[:, :, None] * width + np.arange(width)).reshape(len(local), -1)

    def _far(self, equation: Equation, scale: Array) -> csr_array | None:
        """Entries of an equation's rows by integrals, `[rows, S]`."""
        if not equation.far:
            return None
        width, shape = len(self.names), (len(scale), self.space.size * len(self.names) + len(self.free))
        places_of = np.flatnonzero(self.part) if equation.term.name == INTERIOR else np.arange(len(scale))
        rows = len(self.part) if equation.term.name == INTERIOR else len(scale)
        found = csr_array((rows, shape[1]))
        for one in equation.far:
            many, columns, dimension = one.points.shape
            cell, places = self.space.located(one.points.reshape(-1, dimension))
            orders = tuple(one.index.count(coordinate) for coordinate in self.problem.domain.names)
            entries = self.units[one.name] * self.space.values(cell, places, orders)
            own = self.space.local[self.space.numbered(cell)] * width + self.names.index(one.name)
            ends = np.arange(len(cell) + 1) * entries.shape[1]
            splines = csr_array((entries.ravel(), own.ravel(), ends), shape=(len(cell), shape[1]))
            count = one.slopes.shape[1]
            which = np.zeros(count, np.int64) if one.which is None else one.which
            at = np.arange(many)[:, None] * columns + which  # (Q, N)
            here = np.broadcast_to(places_of[one.start : one.start + count], at.shape)
            slopes = one.slopes * scale[one.start : one.start + count]
            found = found + csr_array((slopes.ravel(), (here.ravel(), at.ravel())), shape=(rows, len(cell))) @ splines
        return found

    def _size(self, equation: Equation) -> float:
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
        each = len(self.part) // space.cells
        values, right, border = (one.reshape(space.cells, each, *one.shape[1:]) for one in full)
        return Rows(local, values, right, border)

    def _spread(self, values: Array) -> Array:
        found = np.zeros((len(self.part), *values.shape[1:]))
        found[self.part] = values
        return found

    def _still(self) -> list[Rows]:
        """Rows ∂e/∂x = 0 of unknowns that do not depend on a coordinate x."""
        found, names = [], self.problem.domain.names
        cell, places = self.space.located(self.nodes)
        for name, seen in self.problem.depends.items():
            for k, coordinate in enumerate(names):
                if name not in self.names or coordinate in seen:
                    continue
                length = self.space.breaks[k][-1] - self.space.breaks[k][0]
                weight = length / (self.sizes[name, ()] or 1.0) / math.sqrt(len(places))
                entries = np.zeros((len(places), self.space.local.shape[1], len(self.names)))
                orders = tuple(int(one == coordinate) for one in names)
                entries[:, :, self.names.index(name)] = weight * self.space.values(cell, places, orders)
                border = np.zeros((len(places), len(self.free)))
                found.append(self._by_cell(entries.reshape(len(places), -1), np.zeros(len(places)), border))
        return found
