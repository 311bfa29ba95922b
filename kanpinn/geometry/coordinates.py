"""Coordinates of points by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from kanpinn.errors import UserError


@final
class Coordinates:
    """Coordinates (or network outputs) by name, `p.x`: jets `[C, N]` in `Problem.exact`, tensors `[N]` elsewhere."""

    def __init__(self, names: tuple[str, ...], values: Sequence[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise UserError(f"p.{name}: no such name; known are {', '.join(vars(self))}")
