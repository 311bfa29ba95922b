"""Relaxation of the Gauss–Newton system: multigrid's smoothers, good at what varies from knot to knot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanpinn.least_squares.linearization import gram
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.options import option
from kanpinn.state import State

SMOOTHERS = ("jacobi", "gauss_seidel", "schwarz")
DIRECTIONS = ("forward", "backward")
LANCZOS_STEPS = 25
HALVINGS = 10


def _largest(apply: Callable[[Tensor], Tensor], inverse: Tensor) -> float:
    """The largest eigenvalue of D⁻¹A by the Lanczos process (Golub and Van Loan 2013, alg. 10.1.1)."""
    root = inverse.sqrt()
    v = torch.cos(2.5 * torch.arange(len(root), device=root.device, dtype=root.dtype))
    v, before, beta = v / v.norm(), torch.zeros_like(v), 0.0
    diagonal, off = [], []
    for _ in range(min(LANCZOS_STEPS, len(root))):
        w = root * apply(root * v) - beta * before
        alpha = float(w @ v)
        w = w - alpha * v
        diagonal.append(alpha)
        beta = float(w.norm())
        if beta < 1e-10 * abs(alpha):
            break
        off.append(beta)
        v, before = w / beta, v
    matrix = np.diag(diagonal) + np.diag(off[: len(diagonal) - 1], 1)
    return float(np.linalg.eigvalsh(matrix, UPLO="U")[-1])


@dataclass
class Relaxation(Optimizer):
    """A few sweeps over (JᵀJ + λ m I) δ = −g instead of its solution, then a step that lowers the loss.

    Sweeps damp the part of the error that varies from knot to knot and leave the smooth part to coarser levels
    (Trottenberg, Oosterlee and Schüller 2001, sec. 2.1). Jacobi needs products with J only, not JᵀJ.
    """

    smoother: str = option(
        "gauss_seidel", "jacobi, damped; or gauss_seidel; or schwarz, blocks one after the other", one_of=SMOOTHERS
    )
    sweeps: int = option(1, "sweeps per step", at_least=1)
    direction: str = option(
        "forward", "order in which gauss_seidel and schwarz go through the parameters", one_of=DIRECTIONS
    )
    block: int = option(16, "schwarz: parameters per block", at_least=2)
    damping: float = option(1e-12, "damping λ, in units of the mean of diag JᵀJ", above=0)

    def storage(self, points: int, parameters: int, *, jacobian: bool) -> int:
        return points * parameters + 3 * parameters**2

    def start(self, size: int, steps: int) -> None:
        return

    def state(self) -> State:
        return {}

    def load_state(self, state: State, device: torch.device) -> None:
        return

    def back_off(self) -> bool:
        return False  # every step is a fresh one, and halved until the loss falls

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        found = objective.linearize(theta).dense()
        if not (math.isfinite(found.loss) and bool(torch.isfinite(found.gradient).all())):
            return Step(theta, math.nan, found.terms, "loss is not finite")
        sweep = self._jacobi if self.smoother == "jacobi" else self._by_matrix
        delta = sweep(found.jacobian, found.gradient)
        for _ in range(HALVINGS):
            trial = theta + delta
            loss, terms = objective.loss(trial)
            if math.isfinite(loss) and loss < found.loss:
                return Step(trial, loss, terms)
            delta = delta / 2
        return Step(theta, found.loss, found.terms, "no sweep lowers the loss (a minimum, or rounding)")

    def _jacobi(self, jacobian: Tensor, gradient: Tensor) -> Tensor:
        diagonal = jacobian.square().sum(0)
        shift = self.damping * float(diagonal.mean())
        inverse = 1 / (diagonal + shift)

        def apply(v: Tensor) -> Tensor:
            return jacobian.T @ (jacobian @ v) + shift * v

        weight = 4 / (3 * _largest(apply, inverse))
        delta = torch.zeros_like(gradient)
        for _ in range(self.sweeps):
            delta = delta - weight * inverse * (gradient + apply(delta))
        return delta

    def _by_matrix(self, jacobian: Tensor, gradient: Tensor) -> Tensor:
        matrix = gram(jacobian)
        matrix.diagonal().add_(self.damping * float(matrix.diagonal().mean()))
        delta = torch.zeros_like(gradient)
        backward = self.direction == "backward"
        if self.smoother == "gauss_seidel":
            half = matrix.triu() if backward else matrix.tril()
            for _ in range(self.sweeps):
                residual = -(gradient + matrix @ delta)
                delta = delta + torch.linalg.solve_triangular(half, residual[:, None], upper=backward)[:, 0]
            return delta
        size, stride = len(gradient), max(1, self.block // 2)
        windows = [slice(i, min(i + self.block, size)) for i in range(0, max(1, size - stride), stride)]
        windows = windows[::-1] if backward else windows
        factors = [torch.linalg.cholesky_ex(matrix[w, w])[0] for w in windows]
        for _ in range(self.sweeps):
            for window, factor in zip(windows, factors, strict=True):
                residual = -(gradient[window] + matrix[window] @ delta)
                delta[window] += torch.cholesky_solve(residual[:, None], factor)[:, 0]
        return delta
