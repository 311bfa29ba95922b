"""Finite sets of given points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError
from kanpinn.geometry.chart import Array, Chart
from kanpinn.geometry.region import Piece, Region


@final
class Points(Region):
    """A finite set of given points: `Points(x=[0.2, 0.7], t=[0.5, 0.5])`, for conditions at a few places.

    Attributes:
        names: Coordinate names.
        lower: Least coordinates.
        upper: Largest coordinates.
        values: The points `[N, d]`.

    Raises:
        UserError: If a column is no list of finite numbers, columns are not of one length, or there is no point.
    """

    def __init__(self, **columns: float | Sequence[float] | Array) -> None:
        try:
            found = {name: np.atleast_1d(np.asarray(column, dtype=np.float64)) for name, column in columns.items()}
        except (TypeError, ValueError):
            raise UserError("Points: expected numbers, such as Points(x=[0.2, 0.7], t=[0.5, 0.5])") from None
        sizes = {column.shape for column in found.values()}
        if len(sizes) != 1 or any(len(shape) != 1 or not shape[0] for shape in sizes):
            shown = ", ".join(f"{name}: {'×'.join(map(str, column.shape))}" for name, column in found.items())
            raise UserError(f"Points({shown}): expected as many numbers, at least one, in every coordinate")
        self.names = tuple(found)
        self.values = np.stack(list(found.values()), axis=1)
        if not np.isfinite(self.values).all():
            raise UserError("Points: a coordinate is not finite")
        self.lower = tuple(self.values.min(axis=0).tolist())
        self.upper = tuple(self.values.max(axis=0).tolist())

    @property
    def chart(self) -> Chart:
        """The points themselves."""
        return Chart((), (), (), lambda _: self.values)

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """None: points have no boundary."""
        return {}

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, d]` are among them, to the last bit; `[N]`."""
        return (points[:, None] == self.values).all(axis=2).any(axis=1)
