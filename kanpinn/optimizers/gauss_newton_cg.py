"""Levenberg–Marquardt without a Jacobian: the damped system is solved inexactly by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.errors import invalid, unknown_choice
from kanpinn.least_squares.base import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.conjugate_gradient import Identity, Multilevel, Preconditioner, conjugate_gradient
from kanpinn.optimizers.damping import NielsenDamping
from kanpinn.state import State

PRECONDITIONERS = ("none", "jacobi", "bpx")
FORCINGS = ("eisenstat_walker", "fixed")


@dataclass
class GaussNewtonCg(Optimizer):
    """Solves (JᵀJ + λ m I) δ = −Jᵀr by preconditioned conjugate gradients on products with J and Jᵀ.

    m, λ and what is accepted are those of `LevenbergMarquardt` without momentum. Beside the gradient a step needs one
    pass over the rows of J in blocks, for m and the preconditioner, and then a product with J and one with Jᵀ per
    iteration; memory grows with points times edges, not with points times parameters.

    Attributes:
        preconditioner: none; jacobi, the diagonal; bpx, the diagonals of all coarser spline levels too.
        cg_steps: Most iterations of conjugate gradients per damping tried; then the step is taken as it is.
        forcing: How small the system's residual has to become, relative to the gradient: fixed, or eisenstat_walker:
            0.9 (‖g‖/‖g_before‖)² with the safeguard (Eisenstat and Walker 1996, choice 2), at most `tolerance`.
        tolerance: The fixed relative residual, or the largest.
        damping: λ at the start of a stage.
        trials: How many dampings one step may try.
    """

    preconditioner: str = "jacobi"
    cg_steps: int = 200
    forcing: str = "eisenstat_walker"
    tolerance: float = 0.1
    damping: float = 1e-3
    trials: int = 12

    def __post_init__(self) -> None:
        if self.preconditioner not in PRECONDITIONERS:
            raise unknown_choice("optimizer.preconditioner", self.preconditioner, PRECONDITIONERS)
        if self.forcing not in FORCINGS:
            raise unknown_choice("optimizer.forcing", self.forcing, FORCINGS)
        if self.cg_steps < 1:
            raise invalid("optimizer.cg_steps", self.cg_steps, "an integer of at least 1")
        if not 0 < self.tolerance < 1:
            raise invalid("optimizer.tolerance", self.tolerance, "a number between 0 and 1")
        if not (self.damping > 0 and math.isfinite(self.damping)):
            raise invalid("optimizer.damping", self.damping, "a number above 0")
        if self.trials < 1:
            raise invalid("optimizer.trials", self.trials, "an integer of at least 1")

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse the multilevel preconditioner for a network without levels.

        Args:
            backbone: What is to be trained.

        Raises:
            UserError: If it is asked for and the network has none.
        """
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

    def retreat(self) -> bool:
        self._damping.retreat()
        self._before = None
        return True

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        found = objective.products(theta)
        loss, terms, gradient = found.loss, found.terms, found.gradient
        size = float(gradient.norm())
        if not (math.isfinite(loss) and math.isfinite(size)):
            return Step(theta, math.nan, terms, "loss is not finite")
        if size == 0.0:
            return Step(theta, loss, terms, "the gradient is zero: at a stationary point")
        preconditioner = self._preconditioner(objective)
        mean = preconditioner.measure(found)
        tolerance = self._tolerance(size)
        for _ in range(self.trials):
            shift = self._damping.value * mean

            def apply(v: Tensor, shift: float = shift) -> Tensor:
                return found.vjp(found.jvp(v)).add_(v, alpha=shift)

            solution = conjugate_gradient(apply, -gradient, preconditioner.shifted(shift), tolerance, self.cg_steps)
            self.iterations += solution.iterations
            delta = solution.x
            trial = theta + delta
            new_loss, new_terms = objective.loss(trial)
            # Predicted fall of ‖r‖²: −2 gᵀδ − δᵀJᵀJδ, with (JᵀJ + shift) δ = −g − residual.
            predicted = float(delta @ (shift * delta - gradient + solution.residual))
            ratio = (loss - new_loss) / predicted if predicted > 0 else -1.0
            if math.isfinite(new_loss) and ratio > 0:
                self._damping.accept(ratio)
                return Step(trial, new_loss, new_terms)
            self._damping.reject()
        self._damping.reset()
        return Step(theta, loss, terms, f"no damping of {self.trials} lowers the loss (a minimum, or rounding)")

    def _tolerance(self, size: float) -> float:
        """How small the relative residual of the system has to become at a gradient of norm `size`."""
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
