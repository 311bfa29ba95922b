"""Problems on regions that `regions.py` solves, beside those that come with kanpinn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import cos, log1p, pi, sin

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.geometry import Ball, Disk, Mesh, Polygon
from kanpinn.references.discs import AroundDiscs, around_discs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Annulus(Problem):
    """Laplace's equation on a ring in Cartesian coordinates: flux 1 into the hole, heat transfer 2 at the rim."""

    domain = Disk(radius=2, name="rim") - Disk(radius=1, name="hole")
    derivatives = ("xx", "yy")
    equation = "u_xx + u_yy = 0"

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy

    def conditions(self) -> list[Condition]:
        return [
            Condition("flux", "hole", lambda p: p.u_n + 1),
            Condition("transfer", "rim", lambda p: p.u_n + 2 * (p.u - 1)),
        ]

    def reference(self, p: Coordinates) -> Tensor:
        return 0.75 + torch.log((p.x**2 + p.y**2) / 4) / 2


def star(points: int = 5, outer: float = 1.0, inner: float = 0.6) -> list[tuple[float, float]]:
    """Return the vertices of a star, by turns on two circles."""
    radii = (outer, inner)
    return [(radii[k % 2] * cos(pi * k / points), radii[k % 2] * sin(pi * k / points)) for k in range(2 * points)]


@dataclass(frozen=True)
class Star(Problem):
    """Poisson's equation on a five-pointed star with a square hole, u = exp(x) sin 3y + cos 4x y."""

    domain = Polygon(star(), holes=[[(-0.2, -0.2), (0.2, -0.2), (0.2, 0.2), (-0.2, 0.2)]], name="star")
    derivatives = ("xx", "yy")
    equation = "u_xx + u_yy = f"

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy + 8 * torch.exp(p.x) * torch.sin(3 * p.y) + 16 * torch.cos(4 * p.x) * p.y

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", "boundary", lambda p: p.u - self.reference(p))]

    def reference(self, p: Coordinates | Point) -> Tensor:
        return torch.exp(p.x) * torch.sin(3 * p.y) + torch.cos(4 * p.x) * p.y


@dataclass(frozen=True)
class Body(Problem):
    """Poisson's equation in a body, u = sin 2x cos y exp(z / 2) given on its surface.

    Attributes:
        file: A surface of triangles; "" for a ball without a box.
    """

    file: str = ""

    domain = Ball(name="ball") - Box(x=(-0.3, 0.3), y=(-0.4, 0.4), z=(-0.2, 0.5), name="box")
    derivatives = ("xx", "yy", "zz")
    equation = "u_xx + u_yy + u_zz = f"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.file:
            self.adapt(domain=Mesh(self.file))

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy + p.u_zz + 4.75 * self.reference(p)

    def conditions(self) -> list[Condition]:
        return [Condition("surface", "boundary", lambda p: p.u - self.reference(p))]

    def reference(self, p: Coordinates | Point) -> Tensor:
        return torch.sin(2 * p.x) * torch.cos(p.y) * torch.exp(p.z / 2)


DISCS = ((0.5, 0.5, 0.2), (0.4, -0.4, 0.4), (-0.2, -0.7, 0.1), (-0.6, 0.5, 0.3))


@dataclass(frozen=True)
class Screened(Problem):
    """-Δu + 64 u = 10 (17 + x² + y²) sin πx sin 4πy in a square with four discs, u = 0.2 outside and 1 on them.

    Problem "Poisson2d-CG" of Hao et al. 2024 (PINNacle, arXiv:2306.08827).
    """

    domain = Box(x=(-1, 1), y=(-1, 1), name="square")
    for _k, (*_centre, _radius) in enumerate(DISCS):
        domain = domain - Disk(_centre, _radius, name=f"disc{_k}")
    derivatives = ("xx", "yy")
    equation = "-u_xx - u_yy + 64 u = f"

    def inputs(self, p: Coordinates) -> list[Jet]:
        """Return log(1 + r²) at distances from the discs in their radii, over the box in [−1, 1]."""
        found = []
        for x, y, radius in DISCS:
            farthest = (abs(x) + 1) ** 2 + (abs(y) + 1) ** 2
            square = (p.x - x) ** 2 + (p.y - y) ** 2
            found.append(2 * torch.log(1 + square / radius**2) / log1p(farthest / radius**2) - 1)
        return found

    def residual(self, p: Point) -> Tensor:
        source = 10 * (17 + p.x**2 + p.y**2) * torch.sin(pi * p.x) * torch.sin(4 * pi * p.y)
        return -p.u_xx - p.u_yy + 64 * p.u - source

    def conditions(self) -> list[Condition]:
        discs = tuple(f"disc{k}" for k in range(4))
        return [Condition("square", "square", lambda p: p.u - 0.2), Condition("discs", discs, lambda p: p.u - 1)]

    def reference(self, p: Coordinates) -> Tensor:
        x, y = (c.double().cpu().numpy() for c in (p.x, p.y))
        return torch.from_numpy(0.2 + in_the_square(x, y) + around()(x, y)).to(p.x)


def in_the_square(x: Array, y: Array, terms: int = 1500) -> Array:
    """Return w `[N]` in the square without discs: -Δw + 64 w = f - 12.8, w = 0 on the sides; to 1e-7.

    A particular solution for f and its values on the sides, taken away, are closed; the rest is a sine series in x,
    whose values where y = 0 are closed too.
    """
    m = 64 + 17 * pi**2
    b = 10 / m
    c = 4 * b / m
    a = (170 + 4 * b - 34 * pi**2 * c) / m
    sx, sy = np.sin(pi * x), np.sin(4 * pi * y)
    slopes = pi * x * np.cos(pi * x) * sy + 4 * pi * y * sx * np.cos(4 * pi * y)
    found = (a + b * (x**2 + y**2)) * sx * sy + c * slopes
    k, n = np.sqrt(64 + 16 * pi**2), np.sqrt(64 + pi**2)
    found += c * pi * sy * np.sinh(k * x) / np.sinh(k) - 4 * pi * c * sx * np.sinh(n * y) / np.sinh(n)
    odd = 2 * np.arange(terms) + 1
    root = np.sqrt(64 + (odd * pi / 2) ** 2)
    sizes = 12.8 * 4 / (odd * pi) / root**2 / (1 + np.exp(-2 * root))
    for part in np.array_split(np.arange(len(x)), 1 + len(x) // 500):
        away = np.abs(y[part, None])
        decay = np.exp(root * (away - 1)) + np.exp(-root * (1 + away))
        found[part] += (np.sin(odd * pi / 2 * (x[part, None] + 1)) * decay) @ sizes
    return found - 0.2 * (1 - np.cosh(8 * x) / np.cosh(8))


@cache
def around() -> AroundDiscs:
    """Return what the discs add, exact to 1e-10 but for `in_the_square` on them."""
    return around_discs(1.0, 8.0, DISCS, lambda x, y: 0.8 - in_the_square(x, y), 40, 24)
