"""Poisson's equation with two media: the flux is continuous at their interface, the gradient jumps."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, sin, where

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class PoissonInterface(Problem):
    """Poisson's equation ∇·(ε∇u) = f on [-1, 1]² with ε = 1 left of x = 0 and 1/2 right of it.

    Southworth et al. 2026 (arXiv:2603.04827), sec. 5: u = sin πx sin 3πy on the left, sin 2πx sin 3πy on the right,
    u = 0 on the boundary; ε u_x is π sin 3πy from both sides of x = 0. A further input |x| gives networks the kink, so
    that the other condition there, u being continuous, holds by construction.

    Attributes:
        k: Half-waves per unit length in y, a whole number.
    """

    k: int = 3

    domain = Box(x=(-1, 1), y=(-1, 1))
    derivatives = ("xx", "yy")
    equation = "div(eps grad u) = f"
    kind = "elliptic"
    labels = {"x": ("position", "1"), "y": ("position", "1"), "u": ("potential", "1")}
    positive = ("k",)

    def residual(self, p: Point) -> Tensor:
        # ε is constant on both sides, and so is u_xx + u_yy over u; x = 0 itself counts as the right side.
        right = (p.x >= 0).to(p.x)
        eps, kx = 1 - right / 2, 1 + right
        source = -eps * (kx**2 + self.k**2) * pi**2 * self.reference(p)
        return eps * (p.u_xx + p.u_yy) - source

    def conditions(self) -> list[Condition]:
        return [
            Condition("interface", "x=0", lambda p, q: 1.0 * p.u_x - 0.5 * q.u_x),
            Condition("boundary", ("x-", "x+", "y-", "y+"), lambda p: p.u),
        ]

    def inputs(self, p: Coordinates) -> list[Jet]:
        return [2 * abs(p.x) - 1]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return (1 - p.x**2) * (1 - p.y**2) * raw.u

    def reference(self, p: Coordinates | Point) -> Tensor:
        return where(p.x < 0, sin(pi * p.x), sin(2 * pi * p.x)) * sin(self.k * pi * p.y)
