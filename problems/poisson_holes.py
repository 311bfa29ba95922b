"""Laplace's equation in a square with four round holes."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, log

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.geometry import Disk
from kanpinn.references.discs import AroundDiscs, around_discs

CENTRES = [(x, y) for x in (-0.3, 0.3) for y in (-0.3, 0.3)]


@dataclass(frozen=True)
class PoissonHoles(Problem):
    """Laplace's equation Δu = 0 in a square with four round holes, u = 1 on the square, 0 on the holes.

    Problem "Poisson2d-C" of Hao et al. 2024 (PINNacle, arXiv:2306.08827): [-1/2, 1/2]² without discs of radius 0.1
    about (±0.3, ±0.3). The reference is a boundary method's, exact to 1e-12.

    Attributes:
        logarithms: Whether u is N₀ + N₁ Σ log r_k, r_k the distance from the middle of hole k, so that only smooth
            factors are left to the network; otherwise it is N₀.
        inverse: Whether the network gets the mirror image of a point in each hole, (x, y)/r_k² at distances in its
            radii, as two more inputs, in which the rest of u is smooth near the hole.
    """

    logarithms: bool = True
    inverse: bool = True

    domain = Box(x=(-0.5, 0.5), y=(-0.5, 0.5), name="square")
    for _k, _centre in enumerate(CENTRES):
        domain = domain - Disk(_centre, 0.1, name=f"hole{_k}")
    derivatives = ("xx", "yy")
    equation = "u_xx + u_yy = 0"
    kind = "on regions"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(outputs=("u", "strength") if self.logarithms else ("u",))

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy

    def conditions(self) -> list[Condition]:
        holes = tuple(f"hole{k}" for k in range(4))
        return [Condition("square", "square", lambda p: p.u - 1), Condition("holes", holes, lambda p: p.u)]

    def inputs(self, p: Coordinates) -> list[Jet]:
        found = []
        for centre in CENTRES if self.inverse else ():
            x, y = ((along - c) / 0.1 for along, c in zip((p.x, p.y), centre, strict=True))
            square = torch.maximum(x**2 + y**2, 0 * x + 0.81)  # within [-1, 1] in the hole too
            found += [0.9 * x / square, 0.9 * y / square]
        return found

    def ansatz(self, p: Coordinates, raw: Coordinates) -> Jet | None:
        if not self.logarithms:
            return None
        return raw.u + raw.strength * sum(log((p.x - x) ** 2 + (p.y - y) ** 2) for x, y in CENTRES)

    def reference(self, p: Coordinates) -> Tensor:
        x, y = (c.double().cpu().numpy() for c in (p.x, p.y))
        return 1 + torch.from_numpy(_known()(x, y)).to(p.x)


@cache
def _known() -> AroundDiscs:
    return around_discs(0.5, 0.0, [(x, y, 0.1) for x, y in CENTRES], lambda x, _: 0 * x - 1)
