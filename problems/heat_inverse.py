"""An inverse problem for the heat equation: the conductivity of a plate is found from measured temperatures."""

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import Any

import numpy as np
from torch import Tensor, cos, exp, sin

from kanpinn import Box, Condition, Coordinates, Data, Point, Problem


@dataclass(frozen=True)
class HeatInverse(Problem):
    """Find a(x, y) in u_t = div(a grad u) + f on [-1, 1]² from 2500 noisy values of u at random points.

    The "heat_inv" of PINNacle (Hao et al., NeurIPS 2024): u = e^-t sin πx sin πy, a = 2 + sin πx sin πy, known on the
    boundary. a is a second unknown, with a network of its own that does not see t.

    Attributes:
        noise: Standard deviation of the errors of measurement, normal ones from a fixed seed.
    """

    noise: float = 0.1

    domain = Box(x=(-1, 1), y=(-1, 1), t=(0, 1))
    unknowns = ("u", "a")
    depends = {"a": ("x", "y")}
    derivatives = ("t", "xx", "yy")
    equation = "u_t = div(a grad u) + f"
    kind = "inverse"
    labels = {"t": ("time", "1"), "u": ("temperature", "1"), "a": ("conductivity", "1")}

    def residual(self, p: Point) -> Tensor:
        s, decay = sin(pi * p.x) * sin(pi * p.y), exp(-p.t)
        slopes = (cos(pi * p.x) * sin(pi * p.y)) ** 2 + (sin(pi * p.x) * cos(pi * p.y)) ** 2
        f = decay * (2 * pi**2 * (2 + s) * s - s - pi**2 * slopes)
        return p.u_t - p.a * (p.u_xx + p.u_yy) - p.a_x * p.u_x - p.a_y * p.u_y - f

    def conditions(self) -> list[Any]:
        edge = Condition("edge", ("x-", "x+", "y-", "y+"), lambda p: p.a - 2)
        return [edge, Data("sensors", self.measured)]

    @cached_property
    def measured(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        x, y, t = rng.uniform(-1, 1, 2500), rng.uniform(-1, 1, 2500), rng.uniform(0, 1, 2500)
        u = np.exp(-t) * np.sin(pi * x) * np.sin(pi * y)
        return {"x": x, "y": y, "t": t, "u": u + self.noise * rng.standard_normal(2500)}

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        s = sin(pi * p.x) * sin(pi * p.y)
        return {"u": exp(-p.t) * s, "a": 2 + s}
