"""Integrals in residuals: the unknowns at their nodes, and what residuals use of them.

An integral with limits, ∫_a^b over one coordinate, has nodes in equal panels of the whole interval, which all points
share, of those panels that lie between a and b, and nodes of each point's own between its limits and these panels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry.quadrature import unit_rule
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.coupling import Nodes
from kanpinn.pde import Point
from kanpinn.pde.integration import Quadrature, Rule
from kanpinn.pde.point import Limit, Over

PER_PANEL = 6
"""Nodes of a panel between limits."""

Fields = Callable[[Tensor], Mapping[str, Jet]]
"""The unknowns at points `[N, d]`, as jets `[C, N]` by name."""


@final
class Integrals:
    """Integrals of one state of the unknowns, as `Point.integral` asks for them.

    Attributes:
        used: Nodes asked for, where they are recorded: residuals then depend on copies of the unknowns there.
    """

    def __init__(self, quadrature: Quadrature, fields: Fields, *, record: bool = False) -> None:
        self._quadrature, self._fields, self._record = quadrature, fields, record
        self.used: list[Nodes] = []
        self._met: dict[tuple[int, int], tuple[Tensor, Nodes]] = {}  # by identity of points, kept along, and rule

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
        left = [k for k in range(points.shape[1]) if k not in rule.columns]
        if any(limit is not None for limit in limits):
            if len(rule.columns) != 1:
                raise UserError(f"p.integral: over={over!r}: limits belong to an integral over one coordinate")
            total = torch.zeros_like(points[:, 0])
            for at, weights, which, *moved in self._between(rule, points, left, limits):
                total = total + self._sum(integrand, self._asked(points, at, which), weights, None, *moved)
            return total
        if (id(points), id(rule)) not in self._met:
            own, which = _shared(points, left)
            at = _joined(torch.from_numpy(rule.nodes).to(points)[:, None], rule.columns, own, left)
            self._met[id(points), id(rule)] = points, self._asked(points, at, which)
        normals = None if rule.normals is None else torch.from_numpy(rule.normals).to(points)[:, None]
        weights = torch.from_numpy(rule.weights).to(points)[:, None]
        return self._sum(integrand, self._met[id(points), id(rule)][1], weights, normals)

    def _asked(self, points: Tensor, at: Tensor, which: Tensor | None) -> Nodes:
        """Return nodes `[Q, U, d]` with the unknowns there, and for each point its column of them."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._record):
            nodes = Nodes(at, which, dict(self._fields(at.flatten(0, 1))), len(points), {})
        if self._record:
            self.used.append(nodes)
        return nodes

    def _sum(
        self,
        integrand: Callable[[Point], Any],
        nodes: Nodes,
        weights: Tensor,
        normals: Tensor | None,
        replaced: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return Σ_q w_q g(q) `[N]` for weights `[Q, 1]` or `[Q, N]`.

        `replaced` moves nodes `[Q, N, d]` that have no weight.
        """
        problem = self._quadrature.problem
        values = {name: _AtNodes(nodes, name, self._record) for name in problem.unknowns}
        own = nodes.points if nodes.which is None else nodes.points[:, nodes.which]
        at = replaced(own) if replaced else own
        found = integrand(Point(problem.domain.names, at, values, normals, None, problem.parameters))
        return (weights * _checked(found, len(own), nodes.count, own)).sum(0).expand(nodes.count)

    def _between(
        self, rule: Rule, points: Tensor, left: list[int], limits: tuple[Limit, Limit]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield nodes, weights and what else `_sum` takes, of whole panels and of both ends."""
        (column,), name = rule.columns, self._quadrature.problem.domain.names[rule.columns[0]]
        start, end = self._quadrature.problem.domain.interval(name)
        lower, upper = (_limit(given, name, (start, end), k, points) for k, given in enumerate(limits))
        if bool((lower > upper).any()):
            raise UserError("p.integral: a lower limit lies above the upper one")
        panels = -(-len(rule.nodes) // PER_PANEL)
        width = (end - start) / panels
        first = torch.ceil((lower - start) / width - 1e-12)
        last = torch.floor((upper - start) / width + 1e-12)
        unit, shares = (torch.from_numpy(part).to(points) for part in unit_rule(PER_PANEL))
        number = torch.arange(panels).to(points)
        whole = start + width * (number[:, None] + unit).flatten()
        inside = ((number[:, None] >= first) & (number[:, None] < last)).repeat_interleave(PER_PANEL, 0)
        if bool(inside.any()):
            own, which = _shared(points, left)
            middle = (lower + upper) / 2

            def replaced(at: Tensor) -> Tensor:
                moved = at.expand(-1, len(points), -1).clone()
                moved[..., column] = torch.where(inside, moved[..., column], middle)
                return moved

            at = _joined(whole[:, None, None], (column,), own, left)
            yield at, inside * (width * shares.repeat(panels)[:, None]), which, replaced
        joint = first <= last
        ends = [(lower, torch.where(joint, start + width * first, upper).clamp(lower, upper))]
        ends.append((torch.where(joint, start + width * last, upper).clamp(lower, upper), upper))
        for low, high in ends:
            if bool((high > low).any()):
                own, which = _shared(torch.cat([points, low[:, None], high[:, None]], 1), [*left, -2, -1])
                a, b = own[:, -2], own[:, -1]
                at = _joined((a + (b - a) * unit[:, None])[..., None], (column,), own[:, :-2], left)
                yield at, shares[:, None] * (high - low), which


def _shared(points: Tensor, left: list[int]) -> tuple[Tensor, Tensor | None]:
    """Return the different values `[U, k]` of some columns of points `[N, d]`, and which each point has `[N]`."""
    rest = points.detach()[:, left]
    return torch.unique(rest, dim=0, return_inverse=True) if left else (rest[:1], None)


def _joined(inner: Tensor, columns: tuple[int, ...], own: Tensor, left: list[int]) -> Tensor:
    """Return nodes `[Q, U, d]` of some coordinates `[Q, 1 or U, k]` and of others `[U, d − k]`."""
    at = inner.new_empty(len(inner), len(own), len(columns) + len(left))
    at[..., list(columns)] = inner
    at[..., left] = own
    return at


def _limit(given: Limit, name: str, interval: tuple[float, float], k: int, points: Tensor) -> Tensor:
    """Return a limit `[N]`, the lower one (k = 0) or the upper one, once it is one within the domain."""
    if given is None:
        return torch.full_like(points[:, 0], interval[k])
    found = torch.as_tensor(given, dtype=points.dtype, device=points.device)
    if found.requires_grad:
        raise UserError("p.integral: a limit depends on the unknowns; expected a function of the coordinates")
    rounding = 1e-9 * (interval[1] - interval[0])
    if bool((found < interval[0] - rounding).any() or (found > interval[1] + rounding).any()):
        raise UserError(f"p.integral: a limit lies outside the domain, {name} from {interval[0]:g} to {interval[1]:g}")
    return found.clamp(*interval).expand(len(points))


def _checked(found: Any, many: int, count: int, like: Tensor) -> Tensor:
    """Return an integrand's values once they fit to `[Q, N]`; raises UserError."""
    value = torch.as_tensor(found, dtype=like.dtype, device=like.device) if isinstance(found, int | float) else found
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    if shape is None or len(shape) > 2 or _joint(shape, (many, count)) != (many, count):
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
