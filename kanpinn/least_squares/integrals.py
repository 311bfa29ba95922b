"""Integrals in residuals: their nodes, the unknowns there, and what residuals use of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Box, Product, Region
from kanpinn.geometry.chart import Array
from kanpinn.geometry.quadrature import chart_rule, region_rule, unit_rule
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.coupling import Nodes
from kanpinn.pde import Point, Problem
from kanpinn.pde.point import Limit, Over
from kanpinn.pde.problem import region_of
from kanpinn.pde.time_slab import TimeSlab

COUNTS = (48, 24, 14, 9, 6)
"""Nodes per coordinate in sets of one dimension, two and so on."""

Fields = Callable[[Tensor], Mapping[str, Jet]]
"""The unknowns at points `[N, d]`, as jets `[C, N]` by name."""


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
    _known: dict[tuple[Over, int], Rule] = field(default_factory=dict)

    def rule(self, over: Over, nodes: int) -> Rule:
        """Return the rule of a set, with a number of nodes in each coordinate or (0) one that is chosen.

        Raises:
            UserError: If there is no such set.
        """
        over = (over,) if isinstance(over, str) else tuple(over) if isinstance(over, list) else over
        if (over, nodes) not in self._known:
            self._known[over, nodes] = self._made(over, nodes)
        return self._known[over, nodes]

    def _made(self, over: Over, nodes: int) -> Rule:
        domain = self.problem.domain
        if isinstance(over, tuple) and not set(over) <= set(domain.names):
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
        pieces = [piece for one in names for piece in domain.support(one) if piece.chart.measure]
        if not pieces:
            raise UserError(f"p.integral: over={', '.join(names)}: nothing of it bounds the domain")
        self._check_time(domain.names)
        count = self._count(len(domain) - 1, nodes)
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

    def at(self, fields: Fields, *, record: bool = False) -> State:
        """Return the integrals of unknowns given by a function of points; with a record of what is used if asked."""
        return State(self, fields, record)


@final
class State:
    """Integrals of one state of the unknowns, as `Point.integral` asks for them.

    Attributes:
        used: Nodes asked for, where they are recorded: residuals then depend on copies of the unknowns there.
    """

    def __init__(self, quadrature: Quadrature, fields: Fields, record: bool) -> None:
        self._quadrature, self._fields, self._record = quadrature, fields, record
        self.used: list[Nodes] = []

    def over(
        self,
        points: Tensor,
        integrand: Callable[[Point], Any],
        over: Over,
        limits: tuple[Limit, Limit],
        nodes: int,
    ) -> Tensor:
        """Return an integral `[N]` for points `[N, d]`; see `Point.integral`."""
        rule = self._quadrature.rule(over, nodes)
        at, weights, which = self._placed(rule, points, over, limits)
        many, columns, width = at.shape
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._record):
            fields = dict(self._fields(at.reshape(-1, width)))
        known = Nodes(at, which, fields, len(points), {})
        if self._record:
            self.used.append(known)
        values = {name: _AtNodes(known, name, self._record) for name in self._quadrature.problem.unknowns}
        own = at if which is None else at[:, which]
        normals = None if rule.normals is None else torch.from_numpy(rule.normals).to(points)[:, None]
        found = integrand(Point(self._quadrature.problem.domain.names, own, values, normals))
        return (weights * _checked(found, many, len(points), points)).sum(0).expand(len(points))

    def _placed(
        self, rule: Rule, points: Tensor, over: Over, limits: tuple[Limit, Limit]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return nodes `[Q, U, d]`, weights `[Q, 1]` or `[Q, N]`, and for each point its column of nodes."""
        inner = list(rule.columns)
        left = [k for k in range(points.shape[1]) if k not in inner]
        rest = points.detach()[:, left]
        if all(limit is None for limit in limits):
            nodes, weights = (torch.from_numpy(part).to(points) for part in (rule.nodes, rule.weights))
            own, which = torch.unique(rest, dim=0, return_inverse=True) if left else (rest[:1], None)
            spread = nodes[:, None].expand(-1, len(own), -1)
            weights = weights[:, None]
        else:
            if len(inner) != 1:
                raise UserError(f"p.integral: over={over!r}: limits belong to an integral over one coordinate")
            name = self._quadrature.problem.domain.names[inner[0]]
            whole = self._quadrature.problem.domain.interval(name)
            ends = [_limit(given, end, points) for given, end in zip(limits, whole, strict=True)]
            own, which = torch.unique(torch.cat([rest, *ends], dim=1), dim=0, return_inverse=True)
            unit, shares = (torch.from_numpy(part).to(points) for part in unit_rule(len(rule.nodes)))
            low, high = own[:, -2], own[:, -1]
            spread = (low + (high - low) * unit[:, None])[..., None]
            weights = shares[:, None] * (high - low)[which]
        at = points.new_empty(len(spread), len(own), points.shape[1])
        at[..., inner] = spread
        at[..., left] = own[:, : len(left)].expand(len(spread), -1, -1)
        return at, weights, which


def _limit(given: Limit, end: float, points: Tensor) -> Tensor:
    """Return a limit as a column `[N, 1]`."""
    found = torch.as_tensor(end if given is None else given, dtype=points.dtype, device=points.device)
    if found.requires_grad:
        raise UserError("p.integral: a limit depends on the unknowns; expected a function of the coordinates")
    return found.expand(len(points))[:, None]


def _checked(found: Any, many: int, count: int, like: Tensor) -> Tensor:
    """Return an integrand's values once they fit to `[Q, N]`; raises UserError."""
    value = torch.as_tensor(found, dtype=like.dtype, device=like.device) if isinstance(found, int | float) else found
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    if shape is None or len(shape) > 2 or torch.broadcast_shapes((many, count), (1,)) != _joint(shape, (many, count)):
        got = shape or type(found).__name__
        raise UserError(f"p.integral: the integrand returned {got}, expected a tensor such as q.u of shape ({many}, …)")
    assert isinstance(value, Tensor)
    return value.expand(many, value.shape[-1] if value.dim() else 1)


def _joint(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return tuple(torch.broadcast_shapes(one, other))
    except RuntimeError:
        return ()


class _AtNodes:
    """An unknown at nodes, `[Q, N]`, or `[Q, 1]` where all points have the same nodes; copies if recorded."""

    def __init__(self, nodes: Nodes, name: str, record: bool) -> None:
        self._nodes, self._name, self._record = nodes, name, record

    def __getitem__(self, derivative: str) -> Tensor:
        if self._record:
            return self._nodes.leaf(self._name, derivative)
        return self._nodes.spread(self._nodes.fields[self._name][derivative])
