"""Poisson's equation on a square, with a product of sines as its solution."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class Poisson(Problem):
    """Poisson's equation u_xx + u_yy = f on [-1, 1]², u = sin(kx π x) sin(ky π y).

    The boundary values are those of u: 0 for whole kx and ky.

    Attributes:
        kx: Half-waves per unit length in x, any real number.
        ky: Half-waves per unit length in y, any real number.
    """

    kx: float = 1.0
    ky: float = 1.0

    domain = Box(x=(-1, 1), y=(-1, 1))
    derivatives = ("xx", "yy")
    equation = "u_xx + u_yy = f"
    kind = "elliptic"

    def residual(self, p: Point) -> Tensor:
        source = -((self.kx * pi) ** 2 + (self.ky * pi) ** 2) * self.reference(p)
        return p.u_xx + p.u_yy - source

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", ("x-", "x+", "y-", "y+"), lambda p: p.u - self.reference(p))]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        # Coons's patch continues the boundary values g (odd in x and y) inwards: x g(1, y) + y g(x, 1) - x y g(1, 1).
        gx, gy = sin(self.kx * pi * p.x), sin(self.ky * pi * p.y)
        lx, ly = sin(self.kx * pi + 0 * p.x) * p.x, sin(self.ky * pi + 0 * p.y) * p.y
        return lx * gy + gx * ly - lx * ly + (1 - p.x**2) * (1 - p.y**2) * raw.u

    def reference(self, p: Coordinates | Point) -> Tensor:
        return sin(self.kx * pi * p.x) * sin(self.ky * pi * p.y)
