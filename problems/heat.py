"""The heat equation on a rod with cold ends: a sine wave decays."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, exp, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class Heat(Problem):
    """The heat equation u_t = α u_xx on [0, 1], u(x, 0) = sin kπx, u = 0 at both ends.

    u = exp(-α k²π² t) sin kπx, by separation of variables (Fourier, Théorie analytique de la chaleur, 1822).

    Attributes:
        alpha: Diffusivity α.
        k: Half-waves on the rod, a whole number.
    """

    alpha: float = 0.4
    k: int = 1

    domain = Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "xx")
    equation = "u_t = alpha u_xx"
    kind = "parabolic"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("temperature", "1")}
    positive = ("alpha", "k")

    def residual(self, p: Point) -> Tensor:
        return p.u_t - self.alpha * p.u_xx

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - sin(self.k * pi * p.x)),
            Condition("boundary", ("x-", "x+"), lambda p: p.u),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return sin(self.k * pi * p.x) + p.t * p.x * (1 - p.x) * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        return exp(-self.alpha * (self.k * pi) ** 2 * p.t) * sin(self.k * pi * p.x)
