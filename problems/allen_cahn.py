"""The Allen-Cahn equation: two phases separate, with thin fronts between them."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, cos, sqrt

from kanpinn.jets import Jet
from kanpinn.problem import Box, Condition, Coordinates, Point, Problem
from kanpinn.references.allen_cahn import allen_cahn


@dataclass(frozen=True)
class AllenCahn(Problem):
    """The Allen–Cahn equation u_t = D u_xx + 5(u - u³), u(x, 0) = x² cos πx, 2-periodic in x.

    Raissi, Perdikaris and Karniadakis, J. Comput. Phys. 378 (2019) 686, sec. 3.1, with D = 1e-4.

    Attributes:
        D: Diffusion coefficient; the fronts are about √D wide.
    """

    D: float = 1e-4

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("t", "xx")
    periodic = ("x",)
    equation = "u_t = D u_xx + 5 (u - u^3)"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("phase", "1")}
    positive = ("D",)

    def residual(self, p: Point) -> Tensor:
        return p.u_t - self.D * p.u_xx - 5 * (p.u - p.u**3)

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", ("t-",), lambda p: p.u - p.x**2 * cos(pi * p.x)),
            Condition("periodic", ("x-",), lambda p, q: {"u": p.u - q.u, "u_x": p.u_x - q.u_x}, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        # x² cos πx has slopes ±2 at x = ±1, which a periodic u must lose at once: √(c² + πDt) - c takes them away as
        # diffusion does, to leading order, and vanishes at t = 0.
        c = cos(pi / 2 * p.x)
        return p.x**2 * cos(pi * p.x) + 4 / pi * (sqrt(c * c + pi * self.D * p.t) - c) + p.t * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        return allen_cahn(self.D)(p.x, p.t)
