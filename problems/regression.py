"""Regression: a function with waves and kinks along tilted lines, fitted by least squares."""

from dataclasses import dataclass
from functools import cache
from math import cos, pi, sin

import torch
from torch import Tensor

from kanpinn import Box, Condition, Coordinates, Point, Problem


@dataclass(frozen=True)
class Regression(Problem):
    """Fit f = cos 4πx' + sin πy' + sin 2πy' + |sin 3πy'²|, scaled to [0, 1], on the unit square.

    Southworth et al. 2026 (arXiv:2603.04827), sec. 5; x', y' are x, y rotated about the origin. The loss is the mean
    squared error at the points. f has kinks where 3y'² is a whole number.

    Attributes:
        angle: Angle of the rotation, in radians.
    """

    angle: float = 0.175

    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ()
    equation = "u = f"
    kind = "regression"

    def residual(self, p: Point) -> Tensor:
        return p.u - self.reference(p)

    def conditions(self) -> list[Condition]:
        return []

    def reference(self, p: Coordinates | Point) -> Tensor:
        low, high = extremes(self.angle)
        return (target(p.x, p.y, self.angle) - low) / (high - low)


def target(x: Tensor, y: Tensor, angle: float) -> Tensor:
    """The function before scaling, at x and y `[...]`."""
    c, s = cos(angle), sin(angle)
    return torch.cos(4 * pi * (c * x - s * y)) + ridge(s * x + c * y)


def ridge(y: Tensor) -> Tensor:
    """The part of f that varies along y' only, sin πy' + sin 2πy' + |sin 3πy'²|, at y' `[...]`."""
    return torch.sin(pi * y) + torch.sin(2 * pi * y) + torch.sin(3 * pi * y * y).abs()


@cache
def extremes(angle: float) -> tuple[float, float]:
    """The least and the largest value of f over the unit square, to rounding.

    Along the chord of the square at one y' only cos 4πx' varies, and what it reaches there is known: ±1, or its values
    at the ends of a short chord. That leaves functions of y', searched on a grid that is made finer around its best
    point again and again. At 0.175 rad the least value is on a kink, -1 + sin πz + sin 2πz with z² = 2/3.
    """
    c, s = (v or 1e-300 for v in (cos(angle), sin(angle)))  # no division by 0
    corners = (0.0, s, c, s + c)
    found = []
    for sign in (1, -1):
        y = torch.linspace(min(corners), max(corners), 2**16 + 1, dtype=torch.float64)
        width, value = y[1] - y[0], 0.0
        for _ in range(25):
            # The square's sides: 0 ≤ c x' + s y' ≤ 1 and 0 ≤ c y' - s x' ≤ 1.
            first, second = (-s * y / c, (1 - s * y) / c), (c * y / s, (c * y - 1) / s)
            lower = torch.maximum(torch.minimum(*first), torch.minimum(*second))
            upper = torch.minimum(torch.maximum(*first), torch.maximum(*second))
            whole = torch.floor(2 * upper + (sign == 1) / 2) >= torch.ceil(2 * lower + (sign == 1) / 2)
            ends = torch.minimum(sign * torch.cos(4 * pi * lower), sign * torch.cos(4 * pi * upper))
            values = torch.where(whole, -1.0, ends) + sign * ridge(y)
            value, best = float(values.min()), y[values.argmin()]
            y = (best + width * torch.linspace(-1, 1, 65, dtype=torch.float64)).clamp(min(corners), max(corners))
            width = width / 16
        found.append(sign * value)
    return found[0], found[1]
