"""The steady flow around a cylinder in a channel: the Navier-Stokes equations."""

from dataclasses import dataclass

import torch
from torch import Tensor, from_numpy

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.geometry import Disk
from kanpinn.references.channels import past_cylinder


@dataclass(frozen=True)
class Cylinder(Problem):
    """Steady flow past a cylinder in a channel, (u·∇)u + ∇p = ν Δu and ∇·u = 0: test 2D-1 of Schäfer and Turek 1996.

    The channel is 2.2 m long and 0.41 m high, the cylinder 0.1 m wide, the inflow 4 U y (0.41 - y)/0.41²: Re is
    2/3 U 0.1/nu, 20 as it comes. The reference is a spectral element method's, exact to 3e-6; its drag coefficient
    5.57953524, its lift coefficient 0.01061895 and its pressure difference 0.11752015 are those of Nabh 1998 and John
    and Matthies 2001 to eight digits.

    Attributes:
        nu: Viscosity over density, m²/s.
        U: Velocity of the inflow in the middle of the channel, m/s.
        inverse: Whether the network gets the mirror image of a point in the cylinder, (x, y)/r² at distances in its
            radii, as two more inputs, so that it sees what lies near the cylinder larger.
    """

    nu: float = 0.001
    U: float = 0.3
    inverse: bool = True

    domain = Box(x=(0, 2.2), y=(0, 0.41), name="channel") - Disk([0.2, 0.2], 0.05, name="cylinder")
    unknowns = ("u", "v", "p")
    derivatives = ("xx", "yy")
    equation = "u u_x + v u_y + p_x = nu (u_xx + u_yy); u v_x + v v_y + p_y = nu (v_xx + v_yy); u_x + v_y = 0"
    kind = "flow"
    positive = ("nu",)

    def residual(self, p: Point) -> dict[str, Tensor]:
        return {
            "momentum_x": p.u * p.u_x + p.v * p.u_y + p.p_x - self.nu * (p.u_xx + p.u_yy),
            "momentum_y": p.u * p.v_x + p.v * p.v_y + p.p_y - self.nu * (p.v_xx + p.v_yy),
            "mass": p.u_x + p.v_y,
        }

    def conditions(self) -> list[Condition]:
        walls = ("channel.y-", "channel.y+", "cylinder")
        return [
            Condition(
                "inflow", "channel.x-", lambda p: {"u": p.u - 4 * self.U * p.y * (0.41 - p.y) / 0.41**2, "v": p.v}
            ),
            Condition("walls", walls, lambda p: {"u": p.u, "v": p.v}),
            Condition("outflow", "channel.x+", lambda p: {"u": self.nu * p.u_x - p.p, "v": self.nu * p.v_x}),
        ]

    def inputs(self, p: Coordinates) -> list[Jet]:
        x, y = (p.x - 0.2) / 0.05, (p.y - 0.2) / 0.05
        square = torch.maximum(x**2 + y**2, 0 * x + 0.81)  # within [-1, 1] in the hole too
        return [0.9 * x / square, 0.9 * y / square] if self.inverse else []

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        flow = past_cylinder(self.nu, self.U)
        fields = flow(p.x.double().cpu().numpy(), p.y.double().cpu().numpy())
        return {name: from_numpy(field).to(p.x) for name, field in zip(self.unknowns, fields, strict=True)}
