"""The Kuramoto–Sivashinsky equation: a flame front wrinkles."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, cos, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.kuramoto_sivashinsky import kuramoto_sivashinsky


@dataclass(frozen=True)
class KuramotoSivashinsky(Problem):
    """The Kuramoto–Sivashinsky equation u_t + u u_x + u_xx + ν u_xxxx = 0, u(x, 0) = cos x/4 (1 + sin x/4), periodic.

    Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214, with a period of 32π; here it is 8π, and t ≤ 10.

    Attributes:
        nu: Hyperviscosity ν.
    """

    nu: float = 1.0

    domain = Box(x=(0, 8 * pi), t=(0, 10))
    derivatives = ("t", "xxxx")
    periodic = ("x",)
    equation = "u_t + u u_x + u_xx + nu u_xxxx = 0"
    kind = "parabolic"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("slope", "1")}
    positive = ("nu",)

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u * p.u_x + p.u_xx + self.nu * p.u_xxxx

    def conditions(self) -> list[Condition]:
        def wraps(p: Point, q: Point) -> dict[str, Tensor]:
            return {"u": p.u - q.u, "u_x": p.u_x - q.u_x, "u_xx": p.u_xx - q.u_xx, "u_xxx": p.u_xxx - q.u_xxx}

        return [
            Condition("initial", "t-", lambda p: p.u - cos(p.x / 4) * (1 + sin(p.x / 4))),
            Condition("periodic", "x-", wraps, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return cos(p.x / 4) * (1 + sin(p.x / 4)) + p.t * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        return kuramoto_sivashinsky(self.nu)(p.x, p.t)[0]
