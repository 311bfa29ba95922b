"""The steady flow over a backward-facing step: the Navier-Stokes equations."""

from cmath import cos
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.channels import over_step

HEIGHT = 0.5
"""Of the step."""

EDGE = {
    "even": (0.5444837367825, 0.0, 1),
    "odd": (0.9085291898461, pi / 2, 1),
    "third": (1.6292573767596 + 0.2312505471151j, 0.0, 1),
    "fourth": (1.6292573767596 + 0.2312505471151j, 0.0, -1j),
}
"""Slow flows about the step's edge by the output that is their factor: λ, φ, and a number of which they are part."""

OUTSIDE = 1e-8
"""Distance from the edge of the step at which the corner's flow has its singular point, where it has no derivatives."""


@dataclass(frozen=True)
class BackwardStep(Problem):
    """Steady flow over a backward-facing step, (u·∇)u + ∇p = Δu/Re and ∇·u = 0, into a channel twice as high.

    The channel, -1 < x < 4, is 1 high, the step that ends at x = 0 half of it, the inflow 24 y (1/2 - y): Re is that of
    Armaly et al. 1983. The reference, of u and v, is a spectral element method's, exact to 1e-5 at Re = 100; its flow
    is attached again 2.91857 step heights behind the step. The pressure is infinite at the step's edge.

    Equations count by √(r/h) within a step height h of the edge, r the distance from it: second derivatives grow like
    r^(λ-2), and their squares have no integral unless weighted by a power of r above 1 - λ = 0.456 (weighted norms of
    Lee, Manteuffel and Westphal 2006).

    Attributes:
        Re: Reynolds number, by the mean velocity of the inflow and the height of the channel.
        corner: Whether the slow flow about the step's edge, r^λ for λ = 0.544, 0.909 and 1.629 ± 0.231i (Moffatt
            1964), is part of the unknowns with factors to be found, so that smoother parts are left to the network.
    """

    Re: float = 100.0
    corner: bool = True

    domain = Box(x=(-1, 4), y=(-0.5, 0.5), name="channel") - Box(x=(-1, 0), y=(-0.5, 0), name="step")
    unknowns = ("u", "v", "p")
    derivatives = ("xx", "yy")
    equation = "u u_x + v u_y + p_x = (u_xx + u_yy)/Re; u v_x + v v_y + p_y = (v_xx + v_yy)/Re; u_x + v_y = 0"
    kind = "flow"
    positive = ("Re",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(outputs=(*self.unknowns, *EDGE) if self.corner else self.unknowns)

    def residual(self, p: Point) -> dict[str, Tensor]:
        weight = torch.hypot(p.x / HEIGHT, p.y / HEIGHT).clamp(max=1) ** 0.5
        return {
            "momentum_x": weight * (p.u * p.u_x + p.v * p.u_y + p.p_x - (p.u_xx + p.u_yy) / self.Re),
            "momentum_y": weight * (p.u * p.v_x + p.v * p.v_y + p.p_y - (p.v_xx + p.v_yy) / self.Re),
            "mass": weight * (p.u_x + p.v_y),
        }

    def conditions(self) -> list[Condition]:
        walls = ("channel.y-", "channel.y+", "step")
        return [
            Condition("inflow", "channel.x-", lambda p: {"u": p.u - 24 * p.y * (0.5 - p.y), "v": p.v}),
            Condition("walls", walls, lambda p: {"u": p.u, "v": p.v}),
            Condition("outflow", "channel.x+", lambda p: {"u": p.u_x / self.Re - p.p, "v": p.v_x}),
        ]

    def ansatz(self, p: Coordinates, raw: Coordinates) -> dict[str, Jet] | None:
        if not self.corner:
            return None
        found = [raw.u, raw.v, raw.p]
        for name, (power, shift, factor) in EDGE.items():
            u, v, pressure = about_edge(p.x + OUTSIDE, p.y + OUTSIDE, power, shift)
            parts = [getattr(raw, name) * (factor * part).real for part in (u, v, pressure / self.Re)]
            found = [whole + part for whole, part in zip(found, parts, strict=True)]
        return dict(zip(self.unknowns, found, strict=True))

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        u, v, _ = over_step(self.Re)(p.x.double().cpu().numpy(), p.y.double().cpu().numpy())
        return {"u": torch.from_numpy(u).to(p.x), "v": torch.from_numpy(v).to(p.x)}


def about_edge(x: Any, y: Any, power: complex, shift: float) -> tuple[Any, Any, Any]:
    """Slow flow about the edge of the quadrant x < 0, y < 0, which it does not enter: u, v and the pressure at ν = 1.

    Its streamfunction is r^(λ+1) f, f = cos((λ+1)θ - φ)/cos((λ+1)α - φ) - cos((λ-1)θ - φ)/cos((λ-1)α - φ), θ the angle
    from the diagonal, ±α = ±3π/4 on the walls; f' = 0 there gives λ. For a complex λ real and imaginary part are two.

    Args:
        x: The coordinate x as a jet `[C, N]`.
        y: The coordinate y.
        power: λ.
        shift: φ, 0 for flows with f even, π/2 for those with f odd.
    """
    alpha, size = 3 * pi / 4, torch.log(x**2 + y**2) / 2
    theta = torch.atan2((y - x) / sqrt(2), (y + x) / sqrt(2))
    first, second = ((power + sign) * theta - shift for sign in (1, -1))
    a, b = (1 / cos((power + sign) * alpha - shift) for sign in (1, -1))
    outward = -(power + 1) * a * torch.sin(first) + (power - 1) * b * torch.sin(second)
    around = -(power + 1) * (a * torch.cos(first) - b * torch.cos(second))
    angle = theta + pi / 4
    c, s, grown = torch.cos(angle), torch.sin(angle), torch.exp(power * size)
    pressure = 4 * power * b * torch.exp((power - 1) * size) * torch.sin(second)
    return grown * (outward * c - around * s), grown * (outward * s + around * c), pressure
