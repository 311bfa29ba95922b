"""Levenberg–Marquardt: damped Gauss–Newton steps on the weighted residual vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.errors import invalid
from kanpinn.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step


@dataclass
class LevenbergMarquardt(Optimizer):
    """Levenberg–Marquardt with normal equations, Cholesky and Nielsen's damping rule.

    Solves (JᵀJ + λ m I) δ = −Jᵀr, m the mean of diag JᵀJ, and accepts δ if the loss falls. Damping follows Nielsen 1999
    (IMM-REP-1999-05, eq. 2.21): λ ← λ max(1/3, 1 − (2ρ − 1)³) after success with gain ratio ρ, and λ ← λν, ν ← 2ν after
    failure.

    Attributes:
        damping: λ at the start of a stage.
        trials: How many dampings one step may try.
    """

    damping: float = 1e-3
    trials: int = 12

    def __post_init__(self) -> None:
        if not (self.damping > 0 and math.isfinite(self.damping)):
            raise invalid("optimizer.damping", self.damping, "a number above 0")
        if self.trials < 1:
            raise invalid("optimizer.trials", self.trials, "an integer of at least 1")

    def start(self, size: int, steps: int) -> None:
        self._lambda = self.damping
        self._nu = 2.0

    def carry(
        self, other: LevenbergMarquardt, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]
    ) -> None:
        # λ is relative to the mean of diag JᵀJ, so it needs no scaling.
        self._lambda, self._nu = other._lambda, other._nu

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        matrix, gradient, loss, terms = objective.normal_equations(theta)
        if not math.isfinite(loss):
            return Step(theta, loss, terms, "loss is not finite")
        diagonal = matrix.diagonal()
        mean = float(diagonal.mean())
        plain = diagonal.clone()
        for _ in range(self.trials):
            shift = self._lambda * mean
            diagonal.copy_(plain + shift)
            factor, info = torch.linalg.cholesky_ex(matrix)
            if int(info) == 0:
                delta = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                trial = theta + delta
                new_loss, new_terms = objective.loss(trial)
                # Predicted fall of ‖r‖²: −2 gᵀδ − δᵀJᵀJδ = δᵀ(shift δ − g) by the normal equations.
                predicted = float(delta @ (shift * delta - gradient))
                ratio = (loss - new_loss) / predicted if predicted > 0 else -1.0
                if math.isfinite(new_loss) and ratio > 0:
                    self._lambda = max(self._lambda * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 1e-20)
                    self._nu = 2.0
                    return Step(trial, new_loss, new_terms)
            self._lambda *= self._nu
            self._nu *= 2
        self._lambda, self._nu = self.damping, 2.0
        return Step(theta, loss, terms, f"no damping of {self.trials} lowers the loss (a minimum, or rounding)")
