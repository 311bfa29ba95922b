"""A conserved quantity of a known motion: the energy of the harmonic oscillator."""

from dataclasses import dataclass

from numpy import linspace, zeros
from torch import Tensor

from kanpinn import Condition, Coordinates, Point, Problem
from kanpinn.geometry import Disk, Points


@dataclass(frozen=True)
class OscillatorEnergy(Problem):
    """Find H(x, p) that the motion x' = p, p' = -x conserves, f · grad H = 0, as H = (x² + p²)/2.

    The conserved quantities of Liu et al. 2024 (KAN 2.0, arXiv:2408.10205), sec. 5. Every function of the energy is
    conserved too. Given H = p²/2 where x = 0 it is the energy; with two values alone, 0 at rest and 1/2 at x = 1, p =
    0, it is no constant, and some function of the energy is found.

    Attributes:
        kinetic: True if H = p²/2 at x = 0 is given, false for two values.
    """

    kinetic: bool = True

    domain = Disk(name="rim", names=("x", "p"))
    unknowns = ("H",)
    derivatives = ("x", "p")
    equation = "p H_x - x H_p = 0"
    kind = "laws"
    labels = {"x": ("position", "1"), "p": ("momentum", "1"), "H": ("energy", "1")}

    def residual(self, p: Point) -> Tensor:
        return p.p * p.H_x - p.x * p.H_p

    def conditions(self) -> list[Condition]:
        if not self.kinetic:
            return [Condition("units", Points(x=[0.0, 1.0], p=[0.0, 0.0]), lambda p: p.H - p.x / 2)]
        middle = Points(x=zeros(41), p=linspace(-1, 1, 41))
        return [Condition("kinetic", middle, lambda p: p.H - p.p**2 / 2)]

    def reference(self, p: Coordinates) -> Tensor | None:
        return (p.x**2 + p.p**2) / 2 if self.kinetic else None
