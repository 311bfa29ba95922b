"""The wave equation on a string: a slow and a fast standing wave together."""

from dataclasses import dataclass
from math import pi
from typing import Any

from torch import Tensor, cos, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class Wave(Problem):
    """The wave equation u_tt = c² u_xx on [0, 1], u(x, 0) = sin πx + a sin mπx, u_t(x, 0) = 0, u = 0 at both ends.

    Wang, Yu and Perdikaris, J. Comput. Phys. 449 (2022) 110768, with c = 2, a = 1/2, m = 4;
    u = sin πx cos cπt + a sin mπx cos mcπt.

    Attributes:
        c: Wave speed.
        a: Amplitude of the second standing wave.
        m: Half-waves of the second standing wave, a whole number.
    """

    c: float = 2.0
    a: float = 0.5
    m: int = 4

    domain = Box(x=(0, 1), t=(0, 1))
    derivatives = ("tt", "xx")
    equation = "u_tt = c^2 u_xx"
    kind = "waves"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("displacement", "1")}
    positive = ("c", "m")

    def residual(self, p: Point) -> Tensor:
        return p.u_tt - self.c**2 * p.u_xx

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - self.start(p)),
            Condition("initial_velocity", "t-", lambda p: p.u_t),
            Condition("boundary", ("x-", "x+"), lambda p: p.u),
        ]

    def start(self, p: Coordinates | Point) -> Any:
        return sin(pi * p.x) + self.a * sin(self.m * pi * p.x)

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return self.start(p) + p.t**2 * p.x * (1 - p.x) * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        w = self.c * pi * p.t
        return sin(pi * p.x) * cos(w) + self.a * sin(self.m * pi * p.x) * cos(self.m * w)
