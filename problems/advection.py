"""Linear advection: a sine wave travels round a ring, many times its own length."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class Advection(Problem):
    """The advection equation u_t + c u_x = 0 on [0, 2π], u(x, 0) = sin x, periodic; u = sin(x - ct).

    Krishnapriyan et al., Advances in Neural Information Processing Systems 34 (2021), "convection", with c = 30.

    Attributes:
        c: Speed; negative runs to the left.
    """

    c: float = 30.0

    domain = Box(x=(0, 2 * pi), t=(0, 1))
    derivatives = ("t", "x")
    periodic = ("x",)
    equation = "u_t + c u_x = 0"
    kind = "waves"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("concentration", "1")}

    def residual(self, p: Point) -> Tensor:
        return p.u_t + self.c * p.u_x

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - sin(p.x)),
            Condition("periodic", "x-", lambda p, q: p.u - q.u, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return sin(p.x) + p.t * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        return sin(p.x - self.c * p.t)
