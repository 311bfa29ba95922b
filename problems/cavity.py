"""The steady flow in a square cavity under a moving lid: the Navier-Stokes equations."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.geometry import Points
from kanpinn.references.cavity import cavity

OUTSIDE = 1e-8
"""Distance from the walls at which the corners' flow has its singular point, where it has no derivatives."""


@dataclass(frozen=True)
class Cavity(Problem):
    """Steady flow in a cavity, (u·∇)u + ∇p = Δu/Re and ∇·u = 0 on [0, 1]², whose lid moves at 4x(1 - x).

    Problem "NS2d-C" of Hao et al. 2024 (PINNacle, arXiv:2306.08827). The reference, of u and v, is a spectral method's,
    exact to 3e-7 at Re = 100; the pressure, 0 at the origin, is infinite in the corners of the lid.

    Attributes:
        Re: Reynolds number.
        corners: Whether the slow flow in the corners of the lid, ψ = -2 (XY + r² θ - π Y²/2) with p = 8/Re log r (at
            distances X along the lid, Y from it, r from the corner; θ = atan2(Y, X)), is part of the unknowns, so
            that only smooth parts are left to the network.
    """

    Re: float = 100.0
    corners: bool = True

    domain = Box(x=(0, 1), y=(0, 1))
    unknowns = ("u", "v", "p")
    derivatives = ("xx", "yy")
    equation = "u u_x + v u_y + p_x = (u_xx + u_yy)/Re; u v_x + v v_y + p_y = (v_xx + v_yy)/Re; u_x + v_y = 0"
    kind = "flow"
    positive = ("Re",)

    def residual(self, p: Point) -> dict[str, Tensor]:
        return {
            "momentum_x": p.u * p.u_x + p.v * p.u_y + p.p_x - (p.u_xx + p.u_yy) / self.Re,
            "momentum_y": p.u * p.v_x + p.v * p.v_y + p.p_y - (p.v_xx + p.v_yy) / self.Re,
            "mass": p.u_x + p.v_y,
        }

    def conditions(self) -> list[Condition]:
        return [
            Condition("lid", "y+", lambda p: {"u": p.u - 4 * p.x * (1 - p.x), "v": p.v}),
            Condition("walls", ("x-", "x+", "y-"), lambda p: {"u": p.u, "v": p.v}),
            Condition("gauge", Points(x=[0.0], y=[0.0]), lambda p: p.p),
        ]

    def ansatz(self, p: Coordinates, raw: Coordinates) -> dict[str, Jet]:
        u, v, pressure = raw.u, raw.v, raw.p
        for along, sign in ((p.x, 1), (1 - p.x, -1)) if self.corners else ():
            x, y = along + OUTSIDE, 1 - p.y + OUTSIDE
            theta = torch.atan2(y, x)
            u, v = u + 2 * (2 * x + 2 * y * theta - pi * y), v + 4 * sign * x * theta
            pressure = pressure + 4 * sign / self.Re * torch.log(x**2 + y**2)
        return {"u": u, "v": v, "p": pressure}

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        u, v = cavity(self.Re)(p.x.double().cpu().numpy(), p.y.double().cpu().numpy())
        return {"u": torch.from_numpy(u).to(p.x), "v": torch.from_numpy(v).to(p.x)}
