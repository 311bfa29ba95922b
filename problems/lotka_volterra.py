"""The Lotka–Volterra equations: predators and their prey, in a cycle."""

from dataclasses import dataclass
from functools import cache

from torch import Tensor

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.in_time import LegendrePieces, ordinary


@dataclass(frozen=True)
class LotkaVolterra(Problem):
    """The Lotka–Volterra equations u' = u (a - b v), v' = v (d u - c), u = v = 1 at first.

    Volterra, Nature 118 (1926) 558. With a = 1.5, b = d = 1, c = 3 a period lasts about 3.3.

    Attributes:
        a: Growth rate of the prey u.
        b: Loss of prey per predator.
        c: Death rate of the predators v.
        d: Growth of predators per prey.
    """

    a: float = 1.5
    b: float = 1.0
    c: float = 3.0
    d: float = 1.0

    domain = Box(t=(0, 10))
    unknowns = ("u", "v")
    derivatives = ("t",)
    equation = "u' = u (a - b v); v' = v (d u - c)"
    kind = "ODEs"
    labels = {"t": ("time", "1"), "u": ("prey", "1"), "v": ("predators", "1")}
    positive = ("a", "b", "c", "d")

    def residual(self, p: Point) -> dict[str, Tensor]:
        return {"prey": p.u_t - p.u * (self.a - self.b * p.v), "predators": p.v_t - p.v * (self.d * p.u - self.c)}

    def conditions(self) -> list[Condition]:
        return [Condition("initial", "t-", lambda p: {"u": p.u - 1, "v": p.v - 1})]

    def exact(self, p: Coordinates, raw: Coordinates) -> dict[str, Jet]:
        return {"u": 1 + p.t * raw.u, "v": 1 + p.t * raw.v}

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        u, v = solution(self.a, self.b, self.c, self.d)(p.t).T
        return {"u": u, "v": v}


@cache
def solution(a: float, b: float, c: float, d: float) -> LegendrePieces:
    """The solution by an integrator of order 8, right to 1e-10."""
    return ordinary(lambda _, y: [y[0] * (a - b * y[1]), y[1] * (d * y[0] - c)], [1, 1], 10.0)
