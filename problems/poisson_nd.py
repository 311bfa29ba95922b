"""Poisson's equation on a cube in several dimensions, with a product of sines as its solution."""

import math
from dataclasses import dataclass
from math import pi
from typing import Any

from torch import Tensor, sin

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.errors import invalid

NAMES = "xyzwvs"
"""Coordinates in their order; one letter each, u being taken."""


@dataclass(frozen=True)
class PoissonNd(Problem):
    """Poisson's equation Δu = f on the unit cube [0, 1]^dim, u = Π sin kπx_i, u = 0 on the boundary.

    With k = 1 one half-wave per side; k = 2 has the whole waves that `poisson` has on [-1, 1]². The coordinates are x,
    y, z, w, v, s.

    Attributes:
        dim: Dimensions, 2 to 6.
        k: Half-waves per side, a whole number.
    """

    dim: int = 5
    k: int = 1

    domain = Box(x=(0, 1), y=(0, 1))  # in two dimensions; adapted below to others
    derivatives = ("xx", "yy")
    equation = "div grad u = f"
    kind = "elliptic"
    positive = ("dim", "k")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.dim <= len(NAMES):
            raise invalid("problem.dim", self.dim, f"a whole number from 2 to {len(NAMES)}")
        names = NAMES[: self.dim]
        self.adapt(domain=Box(**dict.fromkeys(names, (0, 1))), derivatives=tuple(2 * name for name in names))

    def product(self, p: Coordinates | Point, factor: Any) -> Any:
        """The product of a function of one coordinate over all of them."""
        return math.prod(factor(getattr(p, name)) for name in NAMES[: self.dim])

    def residual(self, p: Point) -> Tensor:
        laplacian = sum((getattr(p, f"u_{2 * name}") for name in NAMES[: self.dim]), start=0 * p.u)
        return laplacian + self.dim * (self.k * pi) ** 2 * self.reference(p)

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", tuple(self.domain.pieces), lambda p: p.u)]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return self.product(p, lambda x: 4 * x * (1 - x)) * raw.u

    def reference(self, p: Coordinates | Point) -> Tensor:
        return self.product(p, lambda x: sin(self.k * pi * x))
