"""The nonlinear Schrödinger equation: a pulse of light contracts and widens again."""

from dataclasses import dataclass
from math import pi
from typing import Any

from torch import Tensor, cosh

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.schrodinger import schrodinger


@dataclass(frozen=True)
class Schrodinger(Problem):
    """The nonlinear Schrödinger equation i h_t + h_xx / 2 + |h|² h = 0, h = u + iv, h = 2 sech x at first, periodic.

    Raissi, Perdikaris and Karniadakis, J. Comput. Phys. 378 (2019) 686, sec. 3.1. There the slope of h jumps by 0.05 at
    x = ±5, so that h_xx is no function; here the pulses of the neighbouring periods are added, 0.03 at most.
    """

    domain = Box(x=(-5, 5), t=(0, pi / 2))
    unknowns = ("u", "v")
    derivatives = ("t", "xx")
    periodic = ("x",)
    symmetry = {"x": "even"}
    equation = "i h_t + h_xx / 2 + |h|^2 h = 0, h = u + i v"
    kind = "waves"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("real part", "1"), "v": ("imaginary part", "1")}

    def residual(self, p: Point) -> dict[str, Tensor]:
        intensity = p.u**2 + p.v**2
        return {"real": p.v_t - p.u_xx / 2 - intensity * p.u, "imaginary": p.u_t + p.v_xx / 2 + intensity * p.v}

    def conditions(self) -> list[Condition]:
        def wraps(p: Point, q: Point) -> dict[str, Tensor]:
            return {"u": p.u - q.u, "v": p.v - q.v, "u_x": p.u_x - q.u_x, "v_x": p.v_x - q.v_x}

        return [
            Condition("initial", "t-", lambda p: {"u": p.u - self.pulse(p.x), "v": p.v}),
            Condition("periodic", "x-", wraps, periodic="x"),
        ]

    def pulse(self, x: Any) -> Any:
        return 2 * sum(1 / cosh(x - 10 * m) for m in range(-4, 5))

    def exact(self, p: Coordinates, raw: Coordinates) -> dict[str, Jet]:
        return {"u": self.pulse(p.x) + p.t * raw.u, "v": p.t * raw.v}

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        u, v = schrodinger()(p.x, p.t)
        return {"u": u, "v": v}
