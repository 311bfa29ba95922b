"""The steady flow in a square cavity under a moving lid: the Navier-Stokes equations."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn import Box, Condition, Coordinates, Point, Problem
from kanpinn.geometry import Points
from kanpinn.references.cavity import cavity


@dataclass(frozen=True)
class Cavity(Problem):
    """Steady flow in a cavity, (u·∇)u + ∇p = Δu/Re and ∇·u = 0 on [0, 1]², whose lid moves at 4x(1 - x).

    Problem "NS2d-C" of Hao et al. 2024 (PINNacle, arXiv:2306.08827). The reference, of u and v, is a spectral method's,
    exact to 3e-7 at Re = 100; the pressure, 0 at the origin, is infinite in the corners of the lid.

    Attributes:
        Re: Reynolds number.
    """

    Re: float = 100.0

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

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        u, v = cavity(self.Re)(p.x.double().cpu().numpy(), p.y.double().cpu().numpy())
        return {"u": torch.from_numpy(u).to(p.x), "v": torch.from_numpy(v).to(p.x)}
