"""The Cahn–Hilliard equation: a mixture separates into two phases."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, cos

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.cahn_hilliard import cahn_hilliard


@dataclass(frozen=True)
class CahnHilliard(Problem):
    """The Cahn–Hilliard equation u_t = (γ (u³ - u) - ε u_xx)_xx, u = -cos 2πx at first, 2-periodic in x.

    Mattey and Ghosh, Comput. Methods Appl. Mech. Eng. 390 (2022) 114474, sec. 4.2, with γ = 0.01 and ε = 1e-6.

    Attributes:
        gamma: Mobility γ.
        epsilon: Gradient energy ε; fronts between the phases are √(2ε/γ) wide.
    """

    gamma: float = 0.01
    epsilon: float = 1e-6

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("t", "xxxx")
    periodic = ("x",)
    symmetry = {"x": "even"}
    equation = "u_t = (gamma (u^3 - u) - epsilon u_xx)_xx"
    kind = "parabolic"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("phase", "1")}
    positive = ("gamma", "epsilon")

    def residual(self, p: Point) -> Tensor:
        return p.u_t - self.gamma * ((3 * p.u**2 - 1) * p.u_xx + 6 * p.u * p.u_x**2) + self.epsilon * p.u_xxxx

    def conditions(self) -> list[Condition]:
        def wraps(p: Point, q: Point) -> dict[str, Tensor]:
            return {"u": p.u - q.u, "u_x": p.u_x - q.u_x, "u_xx": p.u_xx - q.u_xx, "u_xxx": p.u_xxx - q.u_xxx}

        return [
            Condition("initial", "t-", lambda p: p.u + cos(2 * pi * p.x)),
            Condition("periodic", "x-", wraps, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return p.t * raw.u - cos(2 * pi * p.x)

    def reference(self, p: Coordinates) -> Tensor:
        return cahn_hilliard(self.gamma, self.epsilon)(p.x, p.t)[0]
