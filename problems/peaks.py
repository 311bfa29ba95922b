"""Continual learning: five peaks shown one after the other."""

from dataclasses import dataclass

import torch
from torch import Tensor, exp

from kanpinn import Box, Condition, Coordinates, Point, Problem


@dataclass(frozen=True)
class Peaks(Problem):
    """Fit five Gaussian peaks exp(-300 (x - c)²), c = -0.8, -0.4, … 0.8, all of them or one at a time.

    Liu et al. 2024 (KAN, arXiv:2404.19756), sec. 3.5: with its spline grid fixed, a network that is shown the second
    peak (`start` goes on from the run that was shown the first) keeps the first.

    Attributes:
        phase: Number of the peak that is shown, from 1 to 5; 0 for all.
    """

    phase: int = 0

    domain = Box(x=(-1, 1))
    derivatives = ()
    equation = "u = f"
    kind = "regression"

    def residual(self, p: Point) -> Tensor:
        return p.u - self.reference(p)

    def conditions(self) -> list[Condition]:
        return []

    def inside(self, p: Coordinates) -> Tensor | None:
        return None if self.phase == 0 else (p.x - 0.4 * (self.phase - 3)).abs() <= 0.2

    def reference(self, p: Coordinates | Point) -> Tensor:
        centres = torch.linspace(-0.8, 0.8, 5, dtype=p.x.dtype, device=p.x.device)
        return exp(-300 * (p.x[..., None] - centres) ** 2).sum(-1)
