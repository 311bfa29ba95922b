"""Polygons, by shapely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError, needed
from kanpinn.geometry.chart import ROUNDING, Array, Chart
from kanpinn.geometry.distance import Distance, line, segment
from kanpinn.geometry.region import Piece, Region, boundary_name


@final
class Polygon(Region):
    """A polygon: `Polygon([(0, 0), (2, 0), (1, 1)])`, perhaps with holes.

    Its boundary is one piece with the region's name; `name.0` is the edge from the first vertex to the second, and so
    on. Boundaries of holes are `name.hole0`, `name.hole1`, …

    Attributes:
        name: Name of its boundary.

    Raises:
        UserError: If shapely is missing, or the vertices make no polygon: too few, not finite, edges that cross, a
            hole that is not inside.
    """

    def __init__(
        self,
        vertices: Sequence[Sequence[float]],
        holes: Sequence[Sequence[Sequence[float]]] = (),
        *,
        name: str = "polygon",
        names: Sequence[str] = ("x", "y"),
    ) -> None:
        shapely = needed("shapely", "Polygon", "geometry")
        self.names, self.name = tuple(names), boundary_name(self, name)
        self._rings = [_ring(ring) for ring in (vertices, *holes)]
        shape = shapely.Polygon(self._rings[0], self._rings[1:])
        if not (shape.is_valid and shape.area > 0):
            why = shapely.is_valid_reason(shape) if not shape.is_valid else "its area is 0"
            raise UserError(f"Polygon: the vertices make no polygon: {why}")
        if len(self.names) != 2:
            raise UserError(f"Polygon: names={names}: expected 2 coordinates")
        # Outside anticlockwise, holes clockwise: the domain lies on the left of every edge.
        outer = self._rings[0]
        self._rings = [_turned(ring, inner=k > 0) for k, ring in enumerate(self._rings)]
        self._turned = self._rings[0] is not outer
        x0, y0, x1, y1 = shape.bounds
        self.lower, self.upper = (x0, y0), (x1, y1)
        self._area, self._shapely = float(shape.area), shapely
        self._shape: Any = shape.buffer(ROUNDING * max(x1 - x0, y1 - y0), join_style="mitre")
        shapely.prepare(self._shape)

    def __repr__(self) -> str:
        outer, *holes = ([tuple(map(float, v)) for v in ring] for ring in self._rings)
        return f"Polygon({outer}, {holes}, name={self.name!r}, names={self.names})"

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, 2]` lie within it or, to rounding, on its boundary; `[N]`."""
        return self._shapely.contains_xy(self._shape, points[:, 0], points[:, 1])

    @cached_property
    def chart(self) -> Chart:
        """The map that places points in it; kept, since its area takes time."""
        return self.frame

    @cached_property
    def pieces(self) -> Mapping[str, Piece]:
        """The boundary and those of holes, by arc length."""
        holes = {f"{self.name}.hole{k}": ring for k, ring in enumerate(self._rings[1:])}
        return {name: _path(name, ring) for name, ring in ({self.name: self._rings[0]} | holes).items()}

    def piece(self, name: str) -> Piece:
        """Return a piece or, by its number as in `polygon.2`, an edge of the boundary; raises UserError."""
        edge = self._edge(name)
        return super().piece(name) if edge is None else _path(name, edge, closed=False)

    def _edge(self, name: str) -> Array | None:
        """Return the ends `[2, 2]` of an edge of the outer boundary; None for another name."""
        head, _, number = name.rpartition(".")
        corners = self._rings[0]
        if head != self.name or not number.isdecimal() or int(number) >= len(corners):
            return None
        k = len(corners) - 1 - int(number) if self._turned else int(number)
        return corners[[k, (k + 1) % len(corners)]]

    def distances(self, name: str, *, outside: bool = False) -> list[Distance]:
        """Return the functions of the edges of a piece, or of one edge; none for another name.

        Within a convex polygon they are the distances to the edges' lines.
        """
        holes = {f"{self.name}.hole{k}": ring for k, ring in enumerate(self._rings[1:])}
        rings, edge = {self.name: self._rings[0], **holes}, self._edge(name)
        if (name not in rings and edge is None) or (outside and name in holes):
            return []
        edges = np.stack([rings[name], np.roll(rings[name], -1, axis=0)], axis=1) if edge is None else edge[None]
        size = max(b - a for a, b in zip(self.lower, self.upper, strict=True))
        steps = edges[:, 1] - edges[:, 0]
        inward = np.stack([-steps[:, 1], steps[:, 0]], axis=1) / np.hypot(*steps.T)[:, None]
        depth = ((self._rings[0][:, None] - edges[:, 0]) * inward).sum(axis=2)  # (vertices, edges)
        if name not in holes and not outside and (depth >= -ROUNDING * size).all():
            return [Distance(line(e[0].tolist(), n.tolist())) for e, n in zip(edges, inward, strict=True)]
        return [segment(*((end, start) if outside else (start, end)), size) for start, end in edges]


def _ring(vertices: Sequence[Sequence[float]]) -> Array:
    """Return vertices as `[n, 2]`, the first one not repeated; raises UserError."""
    try:
        found: Array = np.asarray(vertices, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros((0, 0))
    if found.ndim != 2 or found.shape[1] != 2 or not np.isfinite(found).all():
        raise UserError("Polygon: expected vertices of two finite numbers each, such as [(0, 0), (2, 0), (1, 1)]")
    found = found[:-1] if len(found) > 1 and (found[0] == found[-1]).all() else found
    if len(found) < 3:
        raise UserError(f"Polygon: {len(found)} vertices make no polygon; expected three or more")
    return found


def _turned(ring: Array, *, inner: bool) -> Array:
    """Return a ring run anticlockwise, an inner one clockwise, from the same vertex."""
    x, y = ring.T
    anticlockwise = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0
    return ring if anticlockwise != inner else np.roll(ring[::-1], 1, axis=0)


def _path(name: str, corners: Array, *, closed: bool = True) -> Piece:
    """Return a piece that runs along corners `[n, 2]`, the domain on its left."""
    starts = corners if closed else corners[:-1]
    steps = (np.roll(corners, -1, axis=0) if closed else corners[1:]) - starts
    lengths = np.sqrt(np.square(steps).sum(axis=1))
    ends = np.cumsum(lengths)
    outward = np.stack([steps[:, 1], -steps[:, 0]], axis=1) / lengths[:, None]

    def points(parameters: Array) -> Array:
        s = parameters[:, 0]
        k = np.minimum(np.searchsorted(ends, s, side="right"), len(ends) - 1)
        return starts[k] + ((s - ends[k] + lengths[k]) / lengths[k])[:, None] * steps[k]

    def normal(at: Array) -> Array:
        """Return the outward normals `[N, 2]` of the nearest edges."""
        away = at[:, None] - starts
        along = np.clip((away * steps).sum(axis=2) / lengths**2, 0, 1)
        return outward[np.square(away - along[..., None] * steps).sum(axis=2).argmin(axis=1)]

    chart = Chart((0.0,), (float(ends[-1]),), ("",), points, corners=tuple(ends[:-1].tolist()))
    return Piece(name, chart, normal)
