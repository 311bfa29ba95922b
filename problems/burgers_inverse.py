"""An inverse problem for Burgers' equation: the viscosity is found from measured velocities."""

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor, sin

from kanpinn import Box, Condition, Coordinates, Data, Jet, Point, Problem, Unknown
from kanpinn.references.cole_hopf import cole_hopf


@dataclass(frozen=True)
class BurgersInverse(Problem):
    """Find ν in u_t + u u_x = ν u_xx from 200 values of u at random points, where ν = 0.01/π.

    Raissi, Perdikaris and Karniadakis, J. Comput. Phys. 378 (2019) 686, sec. 4.1, find it from 2000. Initial and
    boundary values are known, as in `burgers`.

    Attributes:
        nu: Viscosity ν to be found.
        noise: Standard deviation of the errors of measurement, normal ones from a fixed seed.
    """

    nu: float = Unknown(0.01, lower=0)
    noise: float = 0.01

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("t", "x", "xx")
    periodic = ("x",)
    symmetry = {"x": "odd"}
    equation = "u_t + u u_x = nu u_xx"
    kind = "inverse"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("velocity", "1")}

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u * p.u_x - self.nu * p.u_xx

    def conditions(self) -> list[Any]:
        return [
            Condition("initial", "t-", lambda p: p.u + sin(pi * p.x)),
            Condition("boundary", ("x-", "x+"), lambda p: p.u, symmetry="x"),
            Data("sensors", self.measured),
        ]

    @cached_property
    def measured(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        x, t = rng.uniform(-1, 1, 200), rng.uniform(0, 1, 200)
        u = cole_hopf(torch.from_numpy(x), torch.from_numpy(t), 0.01 / pi).numpy()
        return {"x": x, "t": t, "u": u + self.noise * rng.standard_normal(200)}

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return p.t * raw.u - sin(pi * p.x)

    def reference(self, p: Coordinates) -> Tensor:
        return cole_hopf(p.x, p.t, 0.01 / pi)
