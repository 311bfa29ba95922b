"""Rules of a problem's integrals: nodes and weights in the domain, on its boundary, in some coordinates alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from kanpinn.errors import UserError
from kanpinn.geometry import Box, Product, Region
from kanpinn.geometry.chart import Array
from kanpinn.geometry.quadrature import chart_rule, region_rule
from kanpinn.pde.point import Over
from kanpinn.pde.problem import Problem, region_of
from kanpinn.pde.time_slab import TimeSlab

COUNTS = (48, 24, 14, 9, 6)
"""Nodes per coordinate in sets of one dimension, two and so on."""


@final
@dataclass(frozen=True)
class Rule:
    """Nodes in some coordinates.

    Attributes:
        columns: Numbers of these coordinates.
        nodes: The nodes `[Q, k]`.
        weights: Their weights `[Q]`.
        normals: Normals there `[Q, d]`, on a boundary.
    """

    columns: tuple[int, ...]
    nodes: Array
    weights: Array
    normals: Array | None = None


@final
@dataclass
class Quadrature:
    """Rules of a problem's integrals, each made once.

    Attributes:
        problem: The problem.
        cells: Spline intervals by coordinate.
        finer: Factor by which there are more nodes than by default, to check them.
    """

    problem: Problem
    cells: Mapping[str, int] = field(default_factory=dict)
    finer: float = 1.0
    _known: dict[tuple[Any, int], Rule] = field(default_factory=dict)

    def rule(self, over: Over, nodes: int) -> Rule:
        """Return the rule of a set, with a number of nodes in each coordinate or (0) one that is chosen.

        Raises:
            UserError: If there is no such set.
        """
        named = (over,) if isinstance(over, str) else tuple(over) if isinstance(over, list) else over
        if (named, nodes) not in self._known:
            self._known[named, nodes] = self._made(named, nodes)
        return self._known[named, nodes]

    def _made(self, over: tuple[str, ...] | Region | None, nodes: int) -> Rule:
        domain, parameters = self.problem.domain, self.problem.parameters
        if over is None and parameters:
            over = tuple(one for one in domain.names if one not in parameters)
        if isinstance(over, tuple) and not set(over) <= set(domain.names):
            if parameters:
                raise UserError(f"p.integral: over={', '.join(over)}: none over a boundary with parameters=…")
            return self._on_pieces(over, nodes)
        region = region_of(self.problem) if over is None else over
        if isinstance(region, tuple):
            region = self._part(region)
        if unknown := [one for one in region.names if one not in domain.names]:
            raise UserError(f"p.integral: over={over!r}: {unknown[0]} is none of {', '.join(domain.names)}")
        self._check_time(region.names)
        points, weights = region_rule(region, self._count(len(region), nodes), self._cells(nodes))
        return Rule(tuple(domain.names.index(one) for one in region.names), points, weights)

    def _on_pieces(self, names: tuple[str, ...], nodes: int) -> Rule:
        domain = region_of(self.problem)
        try:
            pieces = [piece for one in names for piece in domain.support(one) if piece.chart.measure]
        except UserError as error:
            told = f"p.integral: over={', '.join(names)}: {error} Coordinates are {', '.join(domain.names)}."
            raise UserError(told) from None
        if not pieces:
            raise UserError(f"p.integral: over={', '.join(names)}: nothing of it bounds the domain")
        self._check_time(domain.names)
        count = 2 * self._count(len(domain) - 1, nodes)
        rules = [chart_rule(piece.chart, count, self._cells(nodes)) for piece in pieces]
        if any(piece.normal is None for piece in pieces):
            normals = None
        else:
            normals = np.concatenate([p.normal(at) for p, (at, _) in zip(pieces, rules, strict=True) if p.normal])
        points, weights = (np.concatenate(part) for part in zip(*rules, strict=True))
        return Rule(tuple(range(len(domain))), points, weights, normals)

    def _part(self, names: tuple[str, ...]) -> Region:
        """Return the domain in some of its coordinates alone."""
        domain = region_of(self.problem)
        if set(names) == set(domain.names):
            return domain
        for part in domain.factors if isinstance(domain, Product) else ():
            if set(names) == set(part.names):
                return part
        if isinstance(domain, Box) or (isinstance(domain, Product) and isinstance(domain.factors[1], Box)):
            box = domain if isinstance(domain, Box) else domain.factors[1]
            if set(names) <= set(box.names):
                return Box(**{one: box.interval(one) for one in names})
        raise UserError(f"p.integral: over={names}: the domain {domain} is no product of these coordinates and others")

    def _check_time(self, names: tuple[str, ...]) -> None:
        if isinstance(self.problem, TimeSlab) and "t" in names:
            raise UserError("p.integral: an integral over t needs the whole time; valid choices: schedule.slabs=1")

    def _cells(self, nodes: int) -> Mapping[str, int]:
        return {} if nodes else {name: round(self.finer * many) for name, many in self.cells.items()}

    def _count(self, dimension: int, nodes: int) -> int:
        if not nodes and dimension > len(COUNTS):
            raise UserError(f"p.integral: over {dimension} coordinates: at most {len(COUNTS)}, or nodes=… of your own")
        return round(self.finer * (nodes or COUNTS[max(dimension, 1) - 1]))
