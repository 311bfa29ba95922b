"""Fields on a grid: the order of their axes, the same in memory, in files and in figures, and their norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


def field_axes(names: Iterable[str]) -> tuple[str, ...]:
    """Order coordinate names as a stored field's axes: time first, x, y and z last, each group in reverse order."""
    return tuple(sorted(names, key=lambda name: (name != "t", name in tuple("xyz"), [-ord(letter) for letter in name])))


def norm(values: np.ndarray) -> float:
    """Return ‖values‖₂, also where their squares are too large or too small for a float.

    They are divided by a power of two, which rounds nothing.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not 0 < largest < math.inf:
        return largest
    exponent = math.frexp(largest)[1]
    return float(np.ldexp(np.linalg.norm(np.ldexp(values, -exponent).ravel()), exponent))
