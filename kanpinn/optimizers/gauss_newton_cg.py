"""Levenberg–Marquardt without a Jacobian: the damped system is solved by preconditioned conjugate gradients."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.edits import refinement
from kanpinn.errors import invalid
from kanpinn.least_squares.linearization import Linearization
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.damped_step import Landing, NielsenDamping, Proposal, damped_step, refusal
from kanpinn.options import option
from kanpinn.state import State

PRECONDITIONERS = ("none", "jacobi", "bpx")
FORCINGS = ("eisenstat_walker", "fixed")


class Solution(NamedTuple):
    """Result x `[P]` of conjugate gradients, with b − A x as the recursion has it, after so many products with A."""

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
        total = sum((block.square().sum() for block in found.blocks()), start=found.gradient.new_zeros(()))
        return float(found.summed(total)) / len(found.gradient)

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
        diagonal = torch.zeros(shape[-1], dtype=torch.float64, device="cpu")
        if name in nestings[-1]:
            columns = torch.eye(shape[-1], dtype=torch.float64, device="cpu")
            for nesting in reversed(nestings):
                columns = nesting[name].prolong(columns)
            diagonal = columns.square().sum(1)
        parts.append(diagonal.expand(shape).reshape(-1))
    return torch.cat(parts)


class _InexactModel:
    """Quadratic model whose steps are found by conjugate gradients, so many iterations so far, without momentum."""

    def __init__(self, found: Linearization, preconditioner: Preconditioner, tolerance: float, steps: int) -> None:
        self._found, self._preconditioner, self._tolerance, self._steps = found, preconditioner, tolerance, steps
        self._mean = preconditioner.measure(found)
        self.loss, self.iterations = found.loss, 0

    def mean(self) -> float:
        """The mean of diag JᵀJ."""
        return self._mean

    def propose(self, shift: float, last: Tensor | None, momentum: float) -> Proposal:
        """A step δ with (JᵀJ + s I) δ = −g − residual."""
        found, gradient = self._found, self._found.gradient

        def apply(v: Tensor) -> Tensor:
            return found.vjp(found.jvp(v)).add_(v, alpha=shift)

        precondition = self._preconditioner.shifted(shift)
        solution = conjugate_gradient(apply, -gradient, precondition, self._tolerance, self._steps)
        self.iterations += solution.iterations
        delta = solution.x
        # Predicted fall of ‖r‖²: −2 gᵀδ − δᵀJᵀJδ.
        return Proposal(delta, float(delta @ (shift * delta - gradient + solution.residual)))


@dataclass
class GaussNewtonCg(Optimizer):
    """Solves (JᵀJ + λ m I) δ = −Jᵀr by preconditioned conjugate gradients on products with J and Jᵀ.

    m, λ and what is accepted are those of `LevenbergMarquardt` without momentum. Beside the gradient a step needs one
    pass over the rows of J in blocks, for m and the preconditioner, and then a product with J and one with Jᵀ per
    iteration; memory grows with points times edges, not with points times parameters.
    """

    preconditioner: str = option(
        "jacobi", "jacobi: the diagonal; bpx: the diagonals of coarser spline levels too", one_of=PRECONDITIONERS
    )
    cg_steps: int = option(200, "most iterations of conjugate gradients per damping tried", at_least=1)
    forcing: str = option(
        "eisenstat_walker",
        "how small the linear residual gets: fixed, or 0.9 (‖g‖/‖g_before‖)² (Eisenstat and Walker 1996, choice 2)",
        one_of=FORCINGS,
    )
    tolerance: float = option(0.1, "the fixed relative residual, or the largest", above=0, below=1)
    damping: float = option(1e-3, "damping λ at the start of a stage", above=0)
    trials: int = option(12, "dampings that one step may try", at_least=1)

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse the multilevel preconditioner for a network without levels; raises UserError."""
        if self.preconditioner == "bpx" and (not backbone.refinable or backbone.refined().coarsened() is None):
            raise invalid("optimizer.preconditioner", "bpx", "none or jacobi (bpx needs spline levels: backbone=kan)")

    def start(self, size: int, steps: int) -> None:
        self._damping = NielsenDamping(self.damping)
        self._before: tuple[float, float] | None = None  # ‖g‖ and the forcing term of the step before
        self._built: tuple[Backbone, Preconditioner] | None = None
        self.iterations = 0

    def carry(self, other: Self, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]) -> None:
        # λ is relative to the mean of diag JᵀJ, so it needs no scaling.
        self._damping.follow(other._damping)
        self._before = other._before

    def state(self) -> State:
        return {"damping": self._damping.state(), "before": self._before, "iterations": self.iterations}

    def load_state(self, state: State, device: torch.device) -> None:
        self._damping.load_state(state["damping"])
        before = state["before"]
        self._before = None if before is None else (float(before[0]), float(before[1]))
        self.iterations = int(state["iterations"])

    def back_off(self) -> bool:
        self._damping.back_off()
        self._before = None
        return True

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        found = objective.linearize(theta)
        size = float(found.gradient.norm())
        if not (math.isfinite(found.loss) and math.isfinite(size)):
            return Step(theta, math.nan, found.terms, "loss is not finite")
        if size == 0.0:
            return Step(theta, found.loss, found.terms, "the gradient is zero: at a stationary point")
        model = _InexactModel(found, self._preconditioner(objective), self.forcing_term(size), self.cg_steps)

        def land(change: Tensor) -> Landing:
            trial = theta + change
            return Landing(trial, *objective.loss(trial))

        outcome = damped_step(model, land, self._damping, self.trials, below=found.loss)
        self.iterations += model.iterations
        if outcome.landing is None:
            return refusal(theta, found.loss, found.terms, self.trials)
        return Step(*outcome.landing)

    def forcing_term(self, size: float) -> float:
        """Relative residual at which the system counts as solved, at a gradient of norm `size`."""
        if self.forcing == "fixed":
            return self.tolerance
        eta = self.tolerance
        if self._before is not None:
            norm, last = self._before
            eta = 0.9 * (size / norm) ** 2
            if 0.9 * last**2 > 0.1:
                eta = max(eta, 0.9 * last**2)
            eta = min(max(eta, 1e-12), self.tolerance)
        self._before = (size, eta)
        return eta

    def _preconditioner(self, objective: LeastSquares) -> Preconditioner:
        """The preconditioner for the network the parameters are shaped like, set up once."""
        if self.preconditioner == "none":
            return Identity()
        if self.preconditioner == "jacobi":
            return Multilevel(None)
        if self._built is None or self._built[0] is not objective.backbone:
            self.check_backbone(objective.backbone)
            self._built = (objective.backbone, Multilevel(objective.backbone))
        return self._built[1]
