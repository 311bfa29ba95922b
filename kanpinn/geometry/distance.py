"""Approximate distance functions: zero on a piece of a boundary, positive in the region, of slope 1 along the normal.

After Sukumar and Srivastava, Comput. Methods Appl. Mech. Eng. 389 (2022) 114333, sect. 3. The functions take the
coordinates one by one, as tensors `[N]` or as anything else that torch's functions know; so they can be differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, mul
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

Function = Callable[[Sequence[Any]], Any]
"""A function of coordinates."""

ORDER = 1
"""Order m of the R-equivalence, to which joined functions stay normalised.

Without a root it is a rational function, and errors are smaller than with m = 2 or 4 (benchmarks/exact.md).
"""

_NEAR = 0.02
"""Distance, relative to the largest in the region, below which a point counts as on a piece."""

_TINY = 1e-60
"""Keeps quotients and roots finite at corners, where they are 0/0; far below the smallest distance squared."""


@final
@dataclass(frozen=True)
class Distance:
    """An approximate distance function of a piece.

    Attributes:
        value: The function.
        trimmed: True if its piece ends inside the region, so that it is not smooth there.
    """

    value: Function
    trimmed: bool = False

    def over(self, columns: slice) -> Distance:
        """Return it as a function of more coordinates, its own being some of them."""
        return Distance(lambda p: self.value(p[columns]), self.trimmed)


def line(at: Sequence[float], inward: Sequence[float]) -> Function:
    """Return the signed distance to a line or plane through a point, from its unit normal into the region."""

    def value(p: Sequence[Any]) -> Any:
        return reduce(add, ((x - a) * n for x, a, n in zip(p, at, inward, strict=True) if n))

    return value


def sphere(center: Sequence[float], radius: float) -> Function:
    """Return s − s³/2R² + …, s = R − r, normalised to second order (ibid., sect. 3.1).

    φ₁ = (R² − r²)/2R is s − s²/2R, so that φ = φ₁ + φ₁²/2R has no second derivative along the normal.
    """

    def value(p: Sequence[Any]) -> Any:
        squared = reduce(add, ((x - c) ** 2 for x, c in zip(p, center, strict=True)))
        first = (radius**2 - squared) / (2 * radius)
        return first + first**2 / (2 * radius)

    return value


def outside_sphere(center: Sequence[float], radius: float) -> Function:
    """Return the distance r − R to a circle or sphere from outside."""

    def value(p: Sequence[Any]) -> Any:
        return torch.sqrt(reduce(add, ((x - c) ** 2 for x, c in zip(p, center, strict=True)))) - radius

    return value


def ellipse(center: Sequence[float], axes: np.ndarray, semiaxes: Sequence[float], sign: int) -> Function:
    """Return ω = f/G + ½ f_nn f²/G³ with f = 1 − (ξ/a)² − (η/b)², normalised to second order.

    With s the distance f = f_n s + ½ f_nn s² + O(s³), and |∇f| at the point is f_n + f_nn s, so that f/|∇f| is
    s − ½ (f_nn/f_n) s². G² = |∇f|² + c f² is |∇f|² to that order and does not vanish at the centre.

    Args:
        center: The middle.
        axes: Rows: the directions of the semiaxes.
        semiaxes: Their lengths a and b.
        sign: 1 for the function that is positive inside, −1 outside.
    """
    least = 4 / min(semiaxes) ** 2

    def value(p: Sequence[Any]) -> Any:
        moved = [x - c for x, c in zip(p, center, strict=True)]
        local = [moved[0] * float(u) + moved[1] * float(v) for u, v in axes]
        f = 1 - reduce(add, ((x / a) ** 2 for x, a in zip(local, semiaxes, strict=True)))
        slope = reduce(add, ((x * (2 / a**2)) ** 2 for x, a in zip(local, semiaxes, strict=True))) + least * f**2
        curved = reduce(add, ((x / a**3) ** 2 for x, a in zip(local, semiaxes, strict=True))) * -8 / slope
        return (f / torch.sqrt(slope) + 0.5 * curved * f**2 / slope**1.5) * sign

    return value


def trimmed(f: Function, t: Function, size: float) -> Distance:
    """Return √(f² + ((√(t² + f⁴) − t)/2)²): the part of f = 0 where t > 0 (ibid., eq. 9).

    Where t > 0 it is |f| √(1 + q²), q = f³/2(√(t² + f⁴) + t): smooth across the piece.

    Args:
        f: Signed distance to the whole curve or surface.
        t: Function that is positive on the piece.
        size: A length of the region; to 1e-10 of it, f below 0 is taken for rounding.
    """

    def value(p: Sequence[Any]) -> Any:
        a, b = f(p), t(p)
        side = torch.where(a < -1e-10 * size, -a, a)
        on = b > 0
        root = torch.sqrt(b**2 + a**4 + _TINY)
        q = a**3 / (2 * torch.where(on, root + b, root * 0 + 1))
        beyond = torch.where(on, side * 0 + 1, a**2 + ((root - b) / 2) ** 2)
        return torch.where(on, side * torch.sqrt(1 + q**2), torch.sqrt(beyond))

    return Distance(value, trimmed=True)


def segment(start: np.ndarray, end: np.ndarray, size: float) -> Distance:
    """Return the function of a segment from one point `[2]` to another, the region on its left (ibid., eq. 10)."""
    step = end - start
    length, middle = float(np.hypot(*step)), ((start + end) / 2).tolist()
    inward = [float(-step[1]) / length, float(step[0]) / length]

    def within(p: Sequence[Any]) -> Any:
        squared = reduce(add, ((x - c) ** 2 for x, c in zip(p, middle, strict=True)))
        return ((length / 2) ** 2 - squared) / length

    return trimmed(line(middle, inward), within, size)


def joined(distances: Sequence[Distance], on: Tensor, within: Tensor) -> Function:
    """Return a function that is zero where one of several is.

    Those of pieces that meet are multiplied where they are smooth, so that the corner costs no smoothness, and scaled
    back to a distance; all others are joined by R-equivalence, which is smooth where pieces keep apart.

    Args:
        distances: The functions.
        on: Points `[M, d]` on their pieces, by which it is seen which of them meet.
        within: Points `[N, d]` of the region.
    """
    edge, inner = ([one.value(p.unbind(1)) for one in distances] for p in (on, within))
    size = max(float(one.max()) for one in inner)
    groups: list[set[int]] = []
    for k in range(len(distances)):
        met = [g for g in groups if any(float(torch.maximum(edge[j], edge[k]).min()) < _NEAR * size for j in g)]
        groups = [g for g in groups if g not in met] + [set().union({k}, *met)]

    def join(numbers: list[int]) -> Function:
        values = [distances[k].value for k in numbers]
        if any(distances[k].trimmed for k in numbers) or len(numbers) == 1:
            return lambda p: equivalence([value(p) for value in values])
        found = torch.stack([inner[k] for k in numbers])
        scale = float(found.amin(0).max() / found.prod(0).max())
        return lambda p: product([value(p) for value in values]) * scale

    parts = [join(sorted(group)) for group in groups]
    return lambda p: equivalence([part(p) for part in parts])


def both(a: Any, b: Any) -> Any:
    """Return a ∧ b = a + b − √(a² + b²), positive where both are (Rvachev's R-conjunction)."""
    return a + b - torch.sqrt(a**2 + b**2 + _TINY)


def equivalence(values: Sequence[Any], order: int = ORDER) -> Any:
    """Return φ = (Σ φᵢ^−m)^(−1/m), zero where one of them is and normalised as they are to order m (ibid., eq. 14)."""

    def pair(a: Any, b: Any) -> Any:
        return a * b / (a**order + b**order + _TINY) ** (1 / order)

    return reduce(pair, values)


def product(values: Sequence[Any]) -> Any:
    """Return Π φᵢ: zero where one of them is, and smooth where they meet."""
    return reduce(mul, values)
