"""The Gray–Scott equations: a pulse splits in two where one substance feeds on another."""

from dataclasses import dataclass
from math import pi
from typing import Any

from torch import Tensor, exp, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.gray_scott import gray_scott


@dataclass(frozen=True)
class GrayScott(Problem):
    """The Gray–Scott equations u_t = D u_xx - u v² + F (1 - u), v_t = D/2 v_xx + u v² - (F + k) v, 100-periodic in x.

    Pearson, Science 261 (1993) 189, in one dimension. First u = 1 - s/2, v = s/4 with s = exp(-(20 sin(πx/100)/π)²), a
    pulse about 10 wide.

    Attributes:
        D: Diffusion coefficient of u; v has half of it.
        F: Rate at which u is fed and both are drained.
        k: Rate at which v decays.
    """

    D: float = 1.0
    F: float = 0.026
    k: float = 0.055

    domain = Box(x=(-50, 50), t=(0, 100))
    unknowns = ("u", "v")
    derivatives = ("t", "xx")
    periodic = ("x",)
    symmetry = {"x": "even"}
    equation = "u_t = D u_xx - u v^2 + F (1 - u); v_t = D/2 v_xx + u v^2 - (F + k) v"
    kind = "systems"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("feed", "1"), "v": ("activator", "1")}
    positive = ("D", "F", "k")

    def residual(self, p: Point) -> dict[str, Tensor]:
        reaction = p.u * p.v**2
        return {
            "feed": p.u_t - self.D * p.u_xx + reaction - self.F * (1 - p.u),
            "activator": p.v_t - self.D / 2 * p.v_xx - reaction + (self.F + self.k) * p.v,
        }

    def conditions(self) -> list[Condition]:
        def wraps(p: Point, q: Point) -> dict[str, Tensor]:
            return {"u": p.u - q.u, "v": p.v - q.v, "u_x": p.u_x - q.u_x, "v_x": p.v_x - q.v_x}

        return [
            Condition("initial", "t-", lambda p: {"u": p.u - 1 + self.pulse(p) / 2, "v": p.v - self.pulse(p) / 4}),
            Condition("periodic", "x-", wraps, periodic="x"),
        ]

    def pulse(self, p: Coordinates | Point) -> Any:
        return exp(-((20 / pi * sin(pi / 100 * p.x)) ** 2))

    def exact(self, p: Coordinates, raw: Coordinates) -> dict[str, Jet]:
        return {"u": 1 - self.pulse(p) / 2 + p.t * raw.u, "v": self.pulse(p) / 4 + p.t * raw.v}

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        u, v = gray_scott(self.D, self.F, self.k)(p.x, p.t)
        return {"u": u, "v": v}
