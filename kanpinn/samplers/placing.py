"""Requests for points, and points placed on one piece after the other, joined to those of a condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import DivergedError, UserError
from kanpinn.geometry import Piece, Region
from kanpinn.geometry.chart import Array
from kanpinn.samplers.sample import PointSet

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
    """

    generator: np.random.Generator
    cells: Mapping[str, int]
    residual: Callable[[Array], Array] | None = None


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

    Args:
        count: Points in all.
        measures: The measures of the parts.

    Returns:
        Whole numbers at most one off their exact shares, and at least 1; they add up to `count` unless
        parts that would have had none get their one.
    """
    ends = np.rint(count * np.cumsum(measures) / math.fsum(measures)).astype(int)
    return [max(1, int(part)) for part in np.diff(ends, prepend=0)]


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


def joined(parts: Sequence[Placed]) -> Placed:
    """Return the points of several pieces as one set; without normals where a piece has none."""
    sets, pairs = [chosen for chosen, _ in parts], [paired for _, paired in parts if paired is not None]
    normals = [chosen.normals for chosen in sets if chosen.normals is not None]
    points = PointSet(
        torch.cat([chosen.points for chosen in sets]),
        torch.cat([chosen.weights for chosen in sets]),
        torch.cat(normals) if len(normals) == len(sets) else None,
    )
    return points, torch.cat(pairs) if pairs else None
