"""Burgers' equation: a sine wave steepens into a viscous shock at x = 0."""

from dataclasses import dataclass
from math import pi

from torch import Tensor, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.cole_hopf import cole_hopf


@dataclass(frozen=True)
class Burgers(Problem):
    """Burgers' equation u_t + u u_x = ν u_xx on [-1, 1], u(x, 0) = -sin πx, u(±1, t) = 0.

    Basdevant et al., Comput. Fluids 14 (1986) 23, with ν = 0.01/π. The initial values are odd, so u stays odd and its
    2-periodic continuation is smooth: networks may have both built in.

    Attributes:
        nu: Viscosity ν; the shock is about 4ν wide.
    """

    nu: float = 0.01 / pi

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("t", "x", "xx")
    periodic = ("x",)
    symmetry = {"x": "odd"}
    equation = "u_t + u u_x = nu u_xx"
    kind = "parabolic"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("velocity", "1")}
    positive = ("nu",)

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u * p.u_x - self.nu * p.u_xx

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u + sin(pi * p.x)),
            Condition("boundary", ("x-", "x+"), lambda p: p.u, symmetry="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        # An odd, 2-periodic raw output vanishes on the boundary itself; for any other the condition there stays.
        return p.t * raw.u - sin(pi * p.x)

    def reference(self, p: Coordinates) -> Tensor:
        return cole_hopf(p.x, p.t, self.nu)
