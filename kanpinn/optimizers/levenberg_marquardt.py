"""Levenberg–Marquardt with momentum: damped Gauss–Newton steps on the weighted residual vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.errors import invalid
from kanpinn.least_squares import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.nielsen import NielsenDamping
from kanpinn.state import State, tensor


@dataclass
class LevenbergMarquardt(Optimizer):
    """Levenberg–Marquardt with normal equations, Cholesky, Nielsen's damping rule and momentum.

    The step δ minimises ‖r + J δ‖² + λ m ‖δ − μ p‖², where p is the last step and m the mean of diag JᵀJ:
    (JᵀJ + λ m I) δ = −Jᵀr + λ m μ p (SPRING, Goldshlager, Abrahamsen and Lin 2024, arXiv:2401.10190, with λ relative to
    m). Directions the residual hardly sees, which damping makes slow, are thus taken 1/(1 − μ) times as fast; μ = 0 is
    plain Levenberg–Marquardt. A step is accepted if the loss falls; the first trial after a failure drops p. Damping
    follows Nielsen's rule (`NielsenDamping`).

    Attributes:
        damping: λ at the start of a stage.
        momentum: μ, at least 0 and below 1.
        trials: How many dampings one step may try.
    """

    damping: float = 1e-3
    momentum: float = 0.5
    trials: int = 12

    def __post_init__(self) -> None:
        if not (self.damping > 0 and math.isfinite(self.damping)):
            raise invalid("optimizer.damping", self.damping, "a number above 0")
        if not 0 <= self.momentum < 1:
            raise invalid("optimizer.momentum", self.momentum, "a number from 0 to below 1")
        if self.trials < 1:
            raise invalid("optimizer.trials", self.trials, "an integer of at least 1")

    def start(self, size: int, steps: int) -> None:
        self._damping = NielsenDamping(self.damping)
        self._last: Tensor | None = None  # the last step accepted

    def carry(
        self, other: LevenbergMarquardt, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]
    ) -> None:
        # λ is relative to the mean of diag JᵀJ, so it needs no scaling.
        self._damping.follow(other._damping)
        self._last = None if other._last is None else vector(other._last)

    def state(self) -> State:
        return {"damping": self._damping.state(), "last": self._last}

    def load_state(self, state: State, device: torch.device) -> None:
        self._damping.load_state(state["damping"])
        self._last = None if state["last"] is None else tensor(state["last"], device)

    def retreat(self) -> bool:
        self._damping.retreat()
        self._last = None
        return True

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        matrix, gradient, loss, terms = objective.normal_equations(theta)
        if not math.isfinite(loss):
            return Step(theta, loss, terms, "loss is not finite")
        diagonal = matrix.diagonal()
        mean = float(diagonal.mean())
        plain = diagonal.clone()
        last = self._last
        for _ in range(self.trials):
            shift = self._damping.value * mean
            diagonal.copy_(plain + shift)
            factor, info = torch.linalg.cholesky_ex(matrix)
            if int(info) == 0:
                right = -gradient if last is None else torch.add(-gradient, last, alpha=shift * self.momentum)
                delta = torch.cholesky_solve(right[:, None], factor)[:, 0]
                trial = theta + delta
                new_loss, new_terms = objective.loss(trial)
                # Predicted fall of ‖r‖²: −2 gᵀδ − δᵀJᵀJδ, where JᵀJ δ = right − shift δ.
                predicted = float(delta @ (shift * delta - right - 2 * gradient))
                ratio = (loss - new_loss) / predicted if predicted > 0 else -1.0
                if math.isfinite(new_loss) and new_loss < loss and ratio > 0:
                    self._damping.accept(ratio)
                    self._last = delta if self.momentum else None
                    return Step(trial, new_loss, new_terms)
            if last is not None:
                last = None
                continue
            self._damping.reject()
        self._damping.reset()
        self._last = None
        return Step(theta, loss, terms, f"no damping of {self.trials} lowers the loss (a minimum, or rounding)")
