"""Poisson's equation on an L-shaped domain, whose solution has a singular gradient at the re-entrant corner."""

from dataclasses import dataclass
from math import pi, prod
from typing import Any

import torch
from torch import Tensor, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class PoissonLshape(Problem):
    """Poisson's equation Δu = f on [-1, 1]² without the quadrant x > 0, y < 0, u = r^(2/3) sin 2θ/3 + a sin πx sin πy.

    The L-shaped domain as in Mitchell, Appl. Math. Comput. 220 (2013) 350, sec. 2.2; θ runs from the edge y = 0 to the
    edge x = 0. The first part is what every solution has at that corner, and in no H^(5/3); the second is smooth.

    Attributes:
        a: Amplitude of the smooth part.
        enrichment: Whether the network's output is N₁ + r^(2/3) sin(2θ/3) N₂ (Hu, Jin and Zhou 2023,
            arXiv:2308.16429), so that it has to find the singularity's strength only; otherwise it is N₁.
    """

    a: float = 1.0
    enrichment: bool = True

    domain = Box(x=(-1, 1), y=(-1, 1))
    derivatives = ("xx", "yy")
    equation = "u_xx + u_yy = f"
    kind = "elliptic"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(outputs=("u", "strength") if self.enrichment else ("u",))

    def inside(self, p: Coordinates) -> Tensor:
        return (p.x <= 0) | (p.y >= 0)

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy + 2 * pi**2 * self.smooth(p)

    def conditions(self) -> list[Condition]:
        return [
            Condition("outer", ("x-", "x+", "y-", "y+"), lambda p: p.u - self.reference(p)),
            # The domain lies to the left of the one edge and above the other.
            Condition("edge_x", "x=0", lambda p, _: p.u, where=lambda p: p.y < 0),
            Condition("edge_y", "y=0", lambda _, q: q.u, where=lambda p: p.x > 0),
        ]

    def ansatz(self, p: Coordinates, raw: Coordinates) -> Jet | None:
        return raw.u + corner(p.x, p.y) * raw.strength if self.enrichment else None

    def smooth(self, p: Coordinates | Point) -> Any:
        return self.a * sin(pi * p.x) * sin(pi * p.y)

    def reference(self, p: Coordinates | Point) -> Tensor:
        r = torch.sqrt(p.x**2 + p.y**2)
        return r ** (2 / 3) * sin(2 / 3 * angle(p.x, p.y)) + self.smooth(p)


def angle(x: Tensor, y: Tensor) -> Tensor:
    """The polar angle, from 0 on y = 0, x > 0 to 3π/2 on x = 0, y < 0; it jumps on the diagonal outside the domain."""
    return torch.atan2(-x - y, y - x) + 3 * pi / 4


def corner(x: Jet, y: Jet) -> Jet:
    """r^(2/3) sin(2θ/3) = Im z^(2/3) as a jet, whose derivatives are those of z^(2/3) times i for each y.

    At the corner itself, where they are infinite, they are given as 0.

    Args:
        x: The coordinate x `[C, N]`.
        y: The coordinate y.

    Returns:
        `[C, N]`.
    """
    r, theta = torch.sqrt(x.value**2 + y.value**2), angle(x.value, y.value)
    parts = []
    for name in x.space.indices:
        power = 2 / 3 - len(name)
        phase = power * theta
        wave = (torch.sin(phase), torch.cos(phase), -torch.sin(phase), -torch.cos(phase))[name.count("y") % 4]
        size = prod(2 / 3 - k for k in range(len(name))) * r**power
        parts.append(torch.where(r > 0, size * wave, torch.zeros_like(r)))
    return Jet(x.space, torch.stack(parts))
