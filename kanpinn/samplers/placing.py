"""Requests for points, and points placed on one piece after the other, joined to those of a condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import DivergedError, UserError
from kanpinn.geometry import Piece, Region
from kanpinn.geometry.chart import Array, Chart
from kanpinn.state import State, tensor


@final
@dataclass(frozen=True)
class PointSet:
    """Points with quadrature weights and, on a boundary, normals.

    Attributes:
        points: The points `[N, d]`, columns in the order of the domain's names.
        weights: Their weights `[N]`; they sum to the measure of the set, |Ω| or the total area of the pieces (single
            points count 1 each). Only `adaptive` with `unbiased` meets this sum in the mean instead.
        normals: The outward unit normals `[N, d]`, on inner planes of the side below; None where there are none.
    """

    points: Tensor
    weights: Tensor
    normals: Tensor | None = None

    def state(self) -> State:
        """Return the arrays by name."""
        return {"points": self.points, "weights": self.weights, "normals": self.normals}

    @staticmethod
    def from_state(state: State, device: torch.device) -> PointSet:
        """Return the set whose `state` this is, arrays in place of tensors; raises ValueError if they do not fit."""
        points, weights, normals = (state[key] for key in ("points", "weights", "normals"))
        found = PointSet(
            tensor(points, device), tensor(weights, device), None if normals is None else tensor(normals, device)
        )
        count, _ = found.points.shape
        parts = [part for part in (found.points, found.weights, found.normals) if part is not None]
        right = all(part.dtype == found.points.dtype and bool(part.isfinite().all()) for part in parts)
        beside = found.normals is None or found.normals.shape == found.points.shape
        if not (count and right and beside and found.weights.shape == (count,)):
            raise ValueError("points, weights and normals that do not fit")
        return found


@final
@dataclass(frozen=True)
class CollocationSample:
    """All points of one objective.

    Attributes:
        interior: Points inside the domain.
        conditions: By condition, points on its support; for one on inner planes, those just below them.
        paired: By periodic condition, the opposite points `[N, d]`, in the order of its points on the lower face; by
            condition on inner planes, those just above. Their normals are the opposite ones.
    """

    interior: PointSet
    conditions: dict[str, PointSet]
    paired: dict[str, Tensor]

    def state(self) -> State:
        """Return all points, weights and normals."""
        conditions = {name: chosen.state() for name, chosen in self.conditions.items()}
        return {"interior": self.interior.state(), "conditions": conditions, "paired": self.paired}

    @staticmethod
    def from_state(state: State, device: torch.device) -> CollocationSample:
        """Return the sample whose `state` this is, arrays in place of tensors."""
        conditions = {str(name): PointSet.from_state(part, device) for name, part in state["conditions"].items()}
        paired = {str(name): tensor(points, device) for name, points in state["paired"].items()}
        for name, points in paired.items():
            if points.shape != conditions[name].points.shape or not points.isfinite().all():
                raise ValueError(f"paired points of {name} that do not fit")
        return CollocationSample(PointSet.from_state(state["interior"], device), conditions, paired)


ToTensor = Callable[[Array], Tensor]
Placed = tuple[PointSet, Tensor | None]
"""Points of a condition and, where it compares two, the paired ones `[N, d]`."""

FEWEST_NUMBERS = 2**10
"""Floating-point numbers of the points' type that an interval must hold."""


@final
@dataclass(frozen=True)
class Request:
    """A source of randomness, and what points may follow.

    Attributes:
        generator: The source of randomness; nothing else may be one.
        cells: Spline intervals of the coordinates that have them.
        residual: |residual| `[M]` at points `[M, d]` of the domain; None on pieces and before there is a network.
        breaks: Ends of these intervals where they are unequal.
    """

    generator: np.random.Generator
    cells: Mapping[str, int]
    residual: Callable[[Array], Array] | None = None
    breaks: Mapping[str, Array] = field(default_factory=dict)


def check_precision(region: Region, dtype: torch.dtype) -> None:
    """Refuse intervals whose points a floating-point type cannot tell apart; raises UserError."""
    epsilon = torch.finfo(dtype).eps
    for name, a, b in zip(region.names, region.lower, region.upper, strict=True):
        apart = epsilon * max(abs(a), abs(b))
        if b - a < FEWEST_NUMBERS * apart:
            raise UserError(
                f"dtype={str(dtype).removeprefix('torch.')}: numbers lie {apart:.2g} apart in {name} from {a:g} to "
                f"{b:g}; shift or scale {name}, or use a type with more digits"
            )


def finite_residual(
    residual: Callable[[Tensor], Tensor], names: Sequence[str], to_tensor: ToTensor
) -> Callable[[Array], Array]:
    """Return |residual| as a function of arrays, which raises DivergedError where it is not finite."""

    def at(points: Array) -> Array:
        values = residual(to_tensor(points)).detach().abs().cpu().numpy().astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            first = ", ".join(f"{n}={v:.6g}" for n, v in zip(names, points[bad[0]], strict=True))
            raise DivergedError(
                f"the residual is not finite at {len(bad)} of {len(points)} candidate points, the first at {first}"
            )
        return values

    return at


def share(count: int, measures: Sequence[float]) -> list[int]:
    """Split a number of points in proportion to measures, at least one each.

    Whole numbers at most one off their exact shares; they add up to `count` unless parts that would have had none get
    their one.
    """
    ends = np.rint(count * np.cumsum(measures) / math.fsum(measures)).astype(int)
    return [max(1, int(part)) for part in np.diff(ends, prepend=0)]


def relative_measure(chart: Chart, region: Region) -> float:
    """Return the measure of a chart with coordinates in units of the region's lengths; other parameters in their mean.

    So pieces compare in any units of single coordinates, such as those of time.
    """
    lengths = {n: b - a for n, a, b in zip(region.names, region.lower, region.upper, strict=True)}
    others = [math.log(length) for name, length in lengths.items() if name not in chart.axes]
    mean = math.exp(math.fsum(others) / len(others)) if others else 1.0
    return chart.measure / math.prod(lengths.get(name, mean) for name in chart.axes)


def on_piece(piece: Piece, points: Array, weights: Array, to_tensor: ToTensor, *, periodic: bool) -> Placed:
    """Return points `[N, d]` on one piece with their normals, paired with those across if it is periodic.

    On an inner plane they lie just below it.
    """
    normals = None if piece.normal is None else to_tensor(piece.normal(points))
    placed, paired = to_tensor(points), None
    if piece.beside is not None:  # only in their final precision are the next numbers known
        placed, paired = piece.beside(placed, -1), piece.beside(placed, 1)
    elif periodic and piece.across is not None:
        paired = to_tensor(piece.across(points))
    return PointSet(placed, to_tensor(weights), normals), paired


def joined(parts: Sequence[Placed], measures: Sequence[float]) -> Placed:
    """Return the points of several pieces as one set; without normals where a piece has none.

    Weights sum to the measure of all pieces, shared out in proportion to their relative ones.
    """
    sets, pairs = [chosen for chosen, _ in parts], [paired for _, paired in parts if paired is not None]
    total, relative = math.fsum(float(chosen.weights.sum()) for chosen in sets), math.fsum(measures)
    shares = [total * own / relative / float(s.weights.sum()) for s, own in zip(sets, measures, strict=True)]
    normals = [chosen.normals for chosen in sets if chosen.normals is not None]
    points = PointSet(
        torch.cat([chosen.points for chosen in sets]),
        torch.cat([chosen.weights * factor for chosen, factor in zip(sets, shares, strict=True)]),
        torch.cat(normals) if len(normals) == len(sets) else None,
    )
    return points, torch.cat(pairs) if pairs else None
