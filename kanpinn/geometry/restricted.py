"""Regions cut out of others by a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.geometry.chart import Array, Chart, Part
from kanpinn.geometry.region import Piece, Region


@final
class Restricted(Region):
    """The part of a region where a rule holds, such as an L-shaped part of a box.

    Its boundary pieces are what is left of the region's; edges within the region are inner planes.

    Attributes:
        names: Coordinate names of the region.
        lower: Lower ends of the box around the region.
        upper: Upper ends of that box.
    """

    def __init__(self, whole: Region, part: Part) -> None:
        self.names, self.lower, self.upper = whole.names, whole.lower, whole.upper
        self._whole, self._part = whole, part
        self._chart = whole.chart.restricted(part)

    @property
    def chart(self) -> Chart:
        """The region's map, points outside rejected."""
        return self._chart

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """The region's pieces, cut to where the rule holds."""
        return {name: piece.restricted(self._part) for name, piece in self._whole.pieces.items()}

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` belong to the region and meet the rule; `[N]`."""
        return self._whole.contains(points) & self._part(points)
