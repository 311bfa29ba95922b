"""Quadrature on regions and pieces of boundaries: nodes and weights, of spectral accuracy for smooth integrands.

Where a chart fills its box of parameters the rule is a product of Gauss–Legendre rules, with equal weights in
parameters that close, such as angles. A plane region of which a part is rejected, such as a plate with holes, is cut
into panels in x, between the places where its boundary curves turn back, meet or have corners. On every line x = const
of a panel these curves are met once on each arc, which gives the intervals in y to rounding. On each panel nodes are
those of a Gauss rule in φ, x = a + (b − a)(1 − cos φ)/2, since intervals grow from a smooth edge like square roots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError
from kanpinn.geometry.chart import Array, Chart
from kanpinn.geometry.combined import Product
from kanpinn.geometry.region import Region

SCAN = 512
"""Points of a curve at which it is asked whether it turns back and whether it counts."""

HALVINGS = 52
"""Bisections that find a place to rounding."""

MOST = 10**6
"""Nodes of a rule, at most."""


def region_rule(region: Region, count: int, cells: Mapping[str, int]) -> tuple[Array, Array]:
    """Return nodes `[Q, d]` of a region and weights `[Q]`; to a few digits only for solids and rules with a part cut.

    Args:
        region: The region.
        count: Nodes per parameter; about as many per line where a part is rejected.
        cells: Spline intervals by coordinate; a coordinate gets three nodes in each of them if that is more.

    Raises:
        UserError: If there would be too many nodes, or none.
    """
    if isinstance(region, Product):
        (left, first), (right, second) = (region_rule(part, count, cells) for part in region.factors)
        _check_count(len(left) * len(right))
        both = np.concatenate([np.repeat(left, len(right), axis=0), np.tile(right, (len(left), 1))], axis=1)
        return both, np.multiply.outer(first, second).ravel()
    if region.chart.part is not None and len(region) == 2 and region.pieces:
        return _by_lines(region, [max(count, 3 * cells.get(name, 0)) for name in region.names])
    return chart_rule(region.chart, count, cells)


def chart_rule(chart: Chart, count: int, cells: Mapping[str, int]) -> tuple[Array, Array]:
    """Return nodes `[Q, d]` of the set that a chart maps onto, and weights `[Q]`; as `region_rule`."""
    if not chart.dimension:
        points = chart.all_points()
        return points, np.ones(len(points))
    counts = [max(count, 3 * cells.get(axis, 0)) for axis in chart.axes]
    _check_count(math.prod(counts))
    if chart.dimension > 1:
        return chart.kept(*_product(chart, counts))
    places = [*_ends(chart), *chart.corners]
    if not _closes(chart, 0) or len(places):
        places = np.unique([*chart.lower, *places, *chart.upper])
        middles = chart.points((places[1:, None] + places[:-1, None]) / 2)
        kept = [True] * len(middles) if chart.part is None else chart.part(middles)
        panels = [panel for panel, counts_too in zip(pairwise(places.tolist()), kept, strict=True) if counts_too]
        rules = [_panel(*panel, counts[0], chart.lengths[0]) for panel in panels]
        nodes, weights = (np.concatenate(part) for part in zip(*rules, strict=True))
        return chart.points(nodes[:, None]), weights
    return chart.kept(*_product(chart, counts))


def _check_count(count: int) -> None:
    if count > MOST:
        raise UserError(f"an integral by {count:.3g} nodes; at most {MOST} can be had: give fewer by nodes=")


def unit_rule(count: int) -> tuple[Array, Array]:
    """Return Gauss–Legendre nodes `[count]` of [0, 1], ascending, and weights that sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


def _panel(a: float, b: float, count: int, whole: float) -> tuple[Array, Array]:
    """Return nodes and weights of [a, b]: its share of a number of them for the whole length, and eight more."""
    nodes, weights = unit_rule(min(count, math.ceil(count * (b - a) / whole) + 8))
    return a + (b - a) * nodes, (b - a) * weights


def _product(chart: Chart, counts: list[int]) -> tuple[Array, Array]:
    """Return the nodes of a product rule in the parameters, `[Q, k]`, and weights `[Q]`.

    A first parameter that is no coordinate may be r^k/k, as of disks and balls: nodes are those of r.
    """
    power = sum(not axis for axis in chart.axes)
    rules = []
    for k, (a, b, many) in enumerate(zip(chart.lower, chart.upper, counts, strict=True)):
        if _closes(chart, k):
            rules.append((a + (b - a) * (np.arange(many) + 0.5) / many, np.full(many, (b - a) / many)))
            continue
        nodes, weights = unit_rule(many)
        if k == 0 and power:
            nodes, weights = nodes**power, weights * power * nodes ** (power - 1)
        rules.append((a + (b - a) * nodes, (b - a) * weights))
    mesh = np.meshgrid(*(nodes for nodes, _ in rules), indexing="ij")
    weights = reduce(np.multiply.outer, [weights for _, weights in rules]).ravel()
    return np.stack([axis.ravel() for axis in mesh], axis=1), weights


def _closes(chart: Chart, k: int) -> bool:
    """Tell whether a parameter is no coordinate and has the same points at both its ends, and no corners."""
    if chart.axes[k] or chart.corners:
        return False
    ends = np.tile((np.array(chart.lower) + np.array(chart.upper)) / 2, (3, 1))
    ends[:, k] = chart.lower[k], chart.upper[k], (chart.lower[k] + chart.upper[k]) / 2
    start, end, middle = chart.points(ends)
    return bool(np.abs(start - end).max() < 1e-9 * np.abs(start - middle).max())


def _ends(chart: Chart) -> Array:
    """Return the parameters `[K]` at which a curve begins or ceases to count, to rounding."""
    part = chart.part
    if part is None:
        return np.empty(0)

    def counts(s: Array) -> NDArray[np.bool_]:
        return part(chart.points(s[:, None]))

    grid = np.linspace(chart.lower[0], chart.upper[0], SCAN + 1)
    grid = np.concatenate([grid[:1], (grid[1:] + grid[:-1]) / 2, grid[-1:]])
    inside = counts(grid)
    at = np.flatnonzero(inside[1:] != inside[:-1])
    low, high = grid[at], grid[at + 1]
    for _ in range(HALVINGS if len(at) else 0):
        middle = (low + high) / 2
        same = counts(middle) == inside[at]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return (low + high) / 2


def _by_lines(region: Region, counts: list[int]) -> tuple[Array, Array]:
    """Return nodes `[Q, 2]` of a plane region, and weights `[Q]`, line by line."""
    arcs = [arc for piece in region.pieces.values() for arc in _arcs(piece.chart)]
    places = np.array([region.lower[0], *(x for _, _, *ends in arcs for x in ends), region.upper[0]])
    whole, places = region.upper[0] - region.lower[0], np.unique(places.clip(region.lower[0], region.upper[0]))
    apart = 1e-9 * whole
    places = places[np.concatenate([[True], np.diff(places) > apart])]
    points, weights = [np.empty((0, 2))], [np.empty(0)]
    for a, b in pairwise(places.tolist()):
        angle, own = _panel(0, math.pi, math.ceil(counts[0] * (b - a) / whole) + 8, 1)
        lines, widths = a + (b - a) * (1 - np.cos(angle)) / 2, own * (b - a) * np.sin(angle) / 2
        across = [arc for arc in arcs if min(arc[2:]) <= a + apart and max(arc[2:]) >= b - apart]
        ends = np.sort([_met(arc, lines) for arc in across], axis=0)
        for low, high in pairwise(ends):
            kept = region.contains(np.stack([lines, (low + high) / 2], axis=1)) & (high > low)
            for x, y0, y1, width in zip(lines[kept], low[kept], high[kept], widths[kept], strict=True):
                y, lengths = _panel(y0, y1, counts[1], region.upper[1] - region.lower[1])
                points.append(np.stack([np.full(len(y), x), y], axis=1))
                weights.append(width * lengths)
    if len(weights) == 1:
        raise UserError(f"an integral over {region}, of which no part was found")
    return np.concatenate(points), np.concatenate(weights)


Arc = tuple[Chart, tuple[float, float], float, float]
"""A curve, the ends of the parameter between which x rises or falls, and x at both."""


def _arcs(chart: Chart) -> Iterator[Arc]:
    """Cut a curve where x turns back, at its corners, and where it begins or ceases to count; counting or not."""
    curve = replace(chart, part=None)

    def x(s: Array) -> Array:
        return curve.points(s[:, None])[:, 0]

    grid = np.linspace(chart.lower[0], chart.upper[0], SCAN + 1)
    values = x(grid)
    if np.ptp(values) < 1e-12 * np.abs(values).max():
        return
    turns = 1 + np.flatnonzero((np.diff(values[1:]) * np.diff(values[:-1])) <= 0)
    low, high = grid[turns - 1], grid[turns + 1]
    sign = np.sign(2 * values[turns] - values[turns - 1] - values[turns + 1])
    for _ in range(HALVINGS if len(turns) else 0):
        third = (high - low) / 3
        left = sign * x(low + third) > sign * x(high - third)
        low, high = np.where(left, low, low + third), np.where(left, high - third, high)
    places = np.unique([chart.lower[0], *(low + high) / 2, *chart.corners, *_ends(chart), chart.upper[0]])
    ends = x(places)
    for s, pair in zip(pairwise(places.tolist()), pairwise(ends.tolist()), strict=True):
        yield curve, s, *pair


def _met(arc: Arc, lines: Array) -> Array:
    """Return y where an arc has the values x `[L]`, by bisection."""
    curve, (s, t), first, last = arc
    low, high = np.full(len(lines), s), np.full(len(lines), t)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        before = (curve.points(middle[:, None])[:, 0] < lines) == (first < last)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return curve.points((low[:, None] + high[:, None]) / 2)[:, 1]
