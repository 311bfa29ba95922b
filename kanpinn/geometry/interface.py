"""Interfaces: curves and surfaces inside a domain, with the points on both sides of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry.box import Box
from kanpinn.geometry.chart import Array
from kanpinn.geometry.combined import Product
from kanpinn.geometry.region import Piece, Region

STEP = 4e-12
"""Distance from the interface to the points beside it, in sizes of the region: more than what counts as on it."""


@final
@dataclass(frozen=True)
class Interface:
    """The boundary of a region inside the domain, for conditions that compare its two sides.

    Attributes:
        region: The region, such as a disk of another material; coordinates that it does not have, such as time, it
            fills.
        on: A piece of its boundary, or several; by default all of it.
    """

    region: Region
    on: str | tuple[str, ...] = "boundary"

    def pieces(self, domain: Region) -> list[Piece]:
        """Return the pieces in a domain's coordinates, with points just inside (−1) and just outside (1) the region.

        Raises:
            UserError: If the region has a coordinate that the domain has not, or no such piece.
        """
        if extra := set(self.region.names) - set(domain.names):
            raise UserError(f"Interface({self.region}): the domain has no coordinate {', '.join(sorted(extra))}")
        given = (self.on,) if isinstance(self.on, str) else self.on
        names = [piece.name for on in given for piece in self.region.support(on)]
        rest = {name: domain.interval(name) for name in domain.names if name not in self.region.names}
        whole = Product(self.region, Box(**rest)) if rest else self.region
        return [self._beside(whole.piece(name), whole, domain) for name in names]

    def _beside(self, piece: Piece, whole: Region, domain: Region) -> Piece:
        columns, back = ([a.names.index(name) for name in b.names] for a, b in ((whole, domain), (domain, whole)))
        given, chart = piece.normal, piece.chart
        if given is None:
            raise UserError(f"Interface({self.region}): {piece.name} has no normal")
        part = chart.part
        chart = replace(
            chart,
            points=lambda parameters: piece.chart.points(parameters)[:, columns],
            part=None if part is None else lambda points: part(points[:, back]),
        )
        size = max(map(abs, (*self.region.lower, *self.region.upper)))

        def normal(points: Array) -> Array:
            return given(points[:, back])[:, columns]

        def beside(points: Tensor, side: int) -> Tensor:
            away = torch.from_numpy(normal(points.double().cpu().numpy())).to(points)
            return points + side * size * max(STEP, 4 * torch.finfo(points.dtype).eps) * away

        return Piece(piece.name, chart.restricted(domain.contains), normal, beside=beside)
