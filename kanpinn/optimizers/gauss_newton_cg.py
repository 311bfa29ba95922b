"""Levenberg–Marquardt without a Jacobian: the damped system is solved inexactly by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.errors import invalid
from kanpinn.least_squares.linearization import Linearization
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.conjugate_gradient import Identity, Multilevel, Preconditioner, conjugate_gradient
from kanpinn.optimizers.damped_step import Landing, NielsenDamping, Proposal, damped_step, refusal
from kanpinn.options import option
from kanpinn.state import State

PRECONDITIONERS = ("none", "jacobi", "bpx")
FORCINGS = ("eisenstat_walker", "fixed")


class _InexactModel:
    """Quadratic model whose steps are found by conjugate gradients, without momentum.

    Attributes:
        loss: The loss at the parameters.
        iterations: Of conjugate gradients so far.
    """

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
