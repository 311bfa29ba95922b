"""An inverse problem for Darcy's law: the permeability of the ground is found from measured pressures."""

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import Any

import numpy as np
from torch import Tensor, cos, sin

from kanpinn import Box, Condition, Coordinates, Data, Point, Problem


@dataclass(frozen=True)
class DarcyInverse(Problem):
    """Find a(x, y) in -div(a grad u) = f on the unit square from noisy values of u at 50 × 50 points.

    The "poisson_inv" of PINNacle (Hao et al., NeurIPS 2024), its source corrected: u = sin πx sin πy,
    1/a = 1 + x² + y² + (x - 1)² + (y - 1)², and a is known on the boundary. It is a second unknown.

    Attributes:
        noise: Standard deviation of the errors of measurement, normal ones from a fixed seed.
    """

    noise: float = 0.1

    domain = Box(x=(0, 1), y=(0, 1))
    unknowns = ("u", "a")
    derivatives = ("xx", "yy")
    equation = "-div(a grad u) = f"
    kind = "inverse"
    labels = {"u": ("pressure", "1"), "a": ("permeability", "1")}

    def residual(self, p: Point) -> Tensor:
        a = self.reference(p)["a"]
        slope_x, slope_y = -a * a * (4 * p.x - 2), -a * a * (4 * p.y - 2)
        u_x, u_y = pi * cos(pi * p.x) * sin(pi * p.y), pi * sin(pi * p.x) * cos(pi * p.y)
        minus_f = slope_x * u_x + slope_y * u_y - 2 * pi**2 * a * sin(pi * p.x) * sin(pi * p.y)
        return p.a * (p.u_xx + p.u_yy) + p.a_x * p.u_x + p.a_y * p.u_y - minus_f

    def conditions(self) -> list[Any]:
        edge = Condition("edge", ("x-", "x+", "y-", "y+"), lambda p: p.a - self.reference(p)["a"])
        return [edge, Data("sensors", self.measured)]

    @cached_property
    def measured(self) -> dict[str, np.ndarray]:
        x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, 50), np.linspace(0, 1, 50)))
        error = self.noise * np.random.default_rng(0).standard_normal(2500)
        return {"x": x, "y": y, "u": np.sin(pi * x) * np.sin(pi * y) + error}

    def reference(self, p: Coordinates | Point) -> dict[str, Tensor]:
        a = 1 / (1 + p.x**2 + p.y**2 + (p.x - 1) ** 2 + (p.y - 1) ** 2)
        return {"u": sin(pi * p.x) * sin(pi * p.y), "a": a}
