"""The Korteweg–de Vries equation: a cosine wave breaks up into a train of solitons."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, cos

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.kdv import kdv


@dataclass(frozen=True)
class Kdv(Problem):
    """The Korteweg–de Vries equation u_t + u u_x + δ² u_xxx = 0, u(x, 0) = cos πx, 2-periodic in x.

    Zabusky and Kruskal, Phys. Rev. Lett. 15 (1965) 240, with δ = 0.022. The wave steepens until t = 1/π, then sheds
    solitons.

    Attributes:
        delta: Dispersion δ; the solitons are about δ wide.
    """

    delta: float = 0.022

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("t", "xxx")
    periodic = ("x",)
    equation = "u_t + u u_x + delta^2 u_xxx = 0"
    kind = "waves"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("velocity", "1")}
    positive = ("delta",)

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u * p.u_x + self.delta**2 * p.u_xxx

    def conditions(self) -> list[Condition]:
        def wraps(p: Point, q: Point) -> dict[str, Tensor]:
            return {"u": p.u - q.u, "u_x": p.u_x - q.u_x, "u_xx": p.u_xx - q.u_xx}

        return [
            Condition("initial", "t-", lambda p: p.u - cos(pi * p.x)),
            Condition("periodic", "x-", wraps, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return cos(pi * p.x) + p.t * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        return kdv(self.delta)(p.x, p.t)[0]
