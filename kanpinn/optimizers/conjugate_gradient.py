"""Preconditioned conjugate gradients, and preconditioners for JᵀJ + shift I that never see it whole."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.edits import refinement
from kanpinn.least_squares.linearization import Linearization


class Solution(NamedTuple):
    """Result of conjugate gradients.

    Attributes:
        x: `[P]`.
        residual: b − A x as the recursion has it, `[P]`.
        iterations: Products with A.
        converged: True if the residual fell to the tolerance.
    """

    x: Tensor
    residual: Tensor
    iterations: int
    converged: bool


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float,
    steps: int,
) -> Solution:
    """Solve A x = b `[P]` from x = 0 (Golub and Van Loan 2013, algorithm 11.5.1), preconditioned by r to M⁻¹r.

    A and M are symmetric and positive definite. Stops at ‖b − A x‖ ≤ tolerance ‖b‖, or after so many products with A.
    """
    x, r = torch.zeros_like(b), b.clone()
    target = tolerance * float(b.norm())
    z = precondition(r)
    p, rz = z.clone(), float(r @ z)
    for k in range(steps):
        if float(r.norm()) <= target:
            return Solution(x, r, k, converged=True)
        product = apply(p)
        curvature = float(p @ product)
        if not (curvature > 0 and math.isfinite(curvature)):  # rounding is all that is left
            return Solution(x, r, k + 1, converged=False)
        x.add_(p, alpha=rz / curvature)
        r.sub_(product, alpha=rz / curvature)
        z = precondition(r)
        before, rz = rz, float(r @ z)
        p.mul_(rz / before).add_(z)
    return Solution(x, r, steps, converged=float(r.norm()) <= target)


class Preconditioner(ABC):
    """Preconditioner: an approximation of (JᵀJ + shift I)⁻¹."""

    @abstractmethod
    def measure(self, found: Linearization) -> float:
        """Look at J `[M, P]` once, in blocks of rows; returns the mean of diag JᵀJ, the unit of damping."""

    @abstractmethod
    def shifted(self, shift: float) -> Callable[[Tensor], Tensor]:
        """The map of r `[P]` to M⁻¹r `[P]` for one shift."""


class Identity(Preconditioner):
    """None: M = I."""

    def measure(self, found: Linearization) -> float:
        """The mean of diag JᵀJ."""
        total = sum(float(block.square().sum()) for block in found.blocks())
        return float(found.summed(torch.tensor(total, dtype=torch.float64))) / len(found.gradient)

    def shifted(self, shift: float) -> Callable[[Tensor], Tensor]:
        """The identity."""
        return torch.clone


class Multilevel(Preconditioner):
    """M⁻¹ = Σ_l P_l D_l⁻¹ P_lᵀ with D_l the diagonal of P_lᵀ(JᵀJ + shift I)P_l (Bramble, Pasciak and Xu 1990).

    P_l prolongs level l of the spline hierarchy to the network at hand, l = that network (P = I) down to the coarsest.
    Parameters without levels (biases, scales, base and linear weights) have their part on the finest level only. With
    the finest level alone this is Jacobi's preconditioner. D_l is exact: squares of the rows of J P_l, block by block.

    Attributes:
        levels: The networks, from the finest.
    """

    def __init__(self, backbone: Backbone | None) -> None:
        """Set up the hierarchy below a network; None for Jacobi's preconditioner of any objective."""
        self.levels = [] if backbone is None else [backbone]
        while self.levels and (coarser := self.levels[-1].coarsened()) is not None:
            self.levels.append(coarser)
        self._prolongations = [refinement(coarse, fine) for fine, coarse in pairwise(self.levels)]
        self._overlaps = [prolongation_diagonal(self.levels[: k + 1]) for k in range(1, len(self.levels))]
        self._diagonals: list[Tensor] = []

    def measure(self, found: Linearization) -> float:
        """The mean of diag JᵀJ; the diagonals of all levels on the way."""
        sums = [torch.zeros_like(found.gradient)]
        sums += [found.gradient.new_zeros(level.size) for level in self.levels[1:]]
        for rows in found.blocks():
            block = rows
            sums[0] += block.square().sum(0)
            for total, prolongation in zip(sums[1:], self._prolongations, strict=True):
                block = prolongation.transpose(block)
                total += block.square().sum(0)
        self._diagonals = [found.summed(total) for total in sums]
        return float(self._diagonals[0].mean())

    def shifted(self, shift: float) -> Callable[[Tensor], Tensor]:
        """The sum over levels, for one shift."""
        inverses = [1 / (self._diagonals[0] + shift)]
        for diagonal, overlap in zip(self._diagonals[1:], self._overlaps, strict=True):
            own = overlap.to(diagonal)
            inverses.append(torch.where(own > 0, 1 / (diagonal + shift * own), 0.0))

        def apply(r: Tensor) -> Tensor:
            parts = []
            for inverse, prolongation in zip(inverses, self._prolongations, strict=False):
                parts.append(inverse * r)
                r = prolongation.transpose(r)
            z = inverses[-1] * r
            for part, prolongation in zip(reversed(parts), reversed(self._prolongations), strict=True):
                z = part + prolongation.linear(z)
            return z

        return apply


def prolongation_diagonal(levels: list[Backbone]) -> Tensor:
    """The diagonal of PᵀP for P from the last of neighbouring networks to the first, the finest; `[P_coarse]`.

    It is 0 for parameters without levels.
    """
    parts = []
    nestings = [level.nestings() for level in levels[1:]]  # each leads to the network before it
    for name, shape in levels[-1].blocks.shapes.items():
        diagonal = torch.zeros(shape[-1], dtype=torch.float64)
        if name in nestings[-1]:
            columns = torch.eye(shape[-1], dtype=torch.float64)
            for nesting in reversed(nestings):
                columns = nesting[name].prolong(columns)
            diagonal = columns.square().sum(1)
        parts.append(diagonal.expand(shape).reshape(-1))
    return torch.cat(parts)
