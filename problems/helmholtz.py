"""The Helmholtz equation on a square, with a product of sines as its solution."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class Helmholtz(Problem):
    """The Helmholtz equation u_xx + u_yy + k² u = q on [-1, 1]², u = sin(a1 π x) sin(a2 π y).

    Wang, Teng and Perdikaris, SIAM J. Sci. Comput. 43 (2021) A3055, with a1 = 1, a2 = 4, k = 1. The boundary values are
    those of u: 0 for whole a1 and a2.

    Attributes:
        a1: Half-waves per unit length in x, any real number.
        a2: Half-waves per unit length in y, any real number.
        k: Wavenumber of the equation.
    """

    a1: float = 1.0
    a2: float = 4.0
    k: float = 1.0

    domain = Box(x=(-1, 1), y=(-1, 1))
    derivatives = ("xx", "yy")
    equation = "u_xx + u_yy + k^2 u = q"
    kind = "elliptic"

    def residual(self, p: Point) -> Tensor:
        source = (self.k**2 - (self.a1 * pi) ** 2 - (self.a2 * pi) ** 2) * self.reference(p)
        return p.u_xx + p.u_yy + self.k**2 * p.u - source

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", ("x-", "x+", "y-", "y+"), lambda p: p.u - self.reference(p))]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        # Coons's patch continues the boundary values g (odd in x and y) inwards: x g(1, y) + y g(x, 1) - x y g(1, 1).
        gx, gy = sin(self.a1 * pi * p.x), sin(self.a2 * pi * p.y)
        lx, ly = sin(self.a1 * pi + 0 * p.x) * p.x, sin(self.a2 * pi + 0 * p.y) * p.y
        return lx * gy + gx * ly - lx * ly + (1 - p.x**2) * (1 - p.y**2) * raw.u

    def reference(self, p: Coordinates | Point) -> Tensor:
        return sin(self.a1 * pi * p.x) * sin(self.a2 * pi * p.y)
