"""Variable projection: the last layer, where residuals are linear in it, is always solved for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.least_squares.linearization import Dense
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.damped_step import Landing, NielsenDamping, damped_step, refusal
from kanpinn.optimizers.damped_systems import Cholesky
from kanpinn.options import option
from kanpinn.state import State, tensor

LINEAR = 1e-8
"""Second difference of the residuals, relative to the first, up to which they count as linear."""


@dataclass
class VariableProjection(Optimizer):
    """Levenberg–Marquardt in all layers but the last, which is solved for; linear equations only.

    Residuals r(a, c) = A(a) c + b(a) are minimised over c exactly: c(a) = −A⁺b. The other parameters a take damped
    Gauss–Newton steps on ‖r(a, c(a))‖² with Kaufman's approximation of its Jacobian, J_K = (I − A A⁺) ∂r/∂a (Golub and
    Pereyra 1973; Kaufman 1975, BIT 15, 49; Golub and Pereyra 2003, Inverse Problems 19, R1, sec. 3). Directions of c
    that A hardly sees are held: c minimises ‖A (c − c₀) + r₀‖² + ρ m ‖c − c₀‖², with c₀ the values before and m the
    mean of diag AᵀA. Damping, momentum and what is accepted are those of `LevenbergMarquardt`.
    """

    damping: float = option(1e-3, "damping λ at the start of a stage", above=0)
    momentum: float = option(
        0.5, "share of the last step that damping does not hold back; 0: none", at_least=0, below=1
    )
    trials: int = option(12, "dampings that one step may try", at_least=1)
    ridge: float = option(1e-12, "ridge ρ that holds directions of the last layer no residual sees", above=0)

    def check_objective(self, objective: LeastSquares, theta: Tensor) -> None:
        """Refuse residuals that are not linear in the last layer, tried around theta `[P]`.

        Raises:
            UserError: If a second difference along a random change of the last layer does not vanish, or there is no
                other layer.
        """
        where = objective.backbone.last_layer
        if where.start == 0:
            raise UserError(
                "optimizer=variable_projection: the network has one layer only and nothing to train beside it; valid "
                "choices: backbone=kan or mlp with hidden layers, or optimizer=levenberg_marquardt"
            )
        change = torch.zeros_like(theta)
        drawn = np.random.default_rng(0).standard_normal(where.stop - where.start)
        change[where] = torch.from_numpy(drawn).to(theta)
        left, here, right = (objective.linearize(theta + k * change).residual for k in (-1, 0, 1))
        second = float((left + right - 2 * here).abs().max())
        if not second <= LINEAR * float((right - left).abs().max()) + LINEAR * float(here.abs().max()):
            raise UserError(
                "optimizer=variable_projection: the residuals are not linear in the network's last layer (a nonlinear "
                "equation, or backbone=separable without backbone.last=linear); valid choices: levenberg_marquardt, "
                "gauss_newton_cg, lbfgs, ssbroyden"
            )

    def storage(self, points: int, parameters: int, *, jacobian: bool) -> int:
        return points * parameters + 3 * parameters**2

    def start(self, size: int, steps: int) -> None:
        self._damping = NielsenDamping(self.damping)
        self._last: Tensor | None = None  # the last step accepted in all parameters, [P]

    def carry(
        self, other: VariableProjection, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]
    ) -> None:
        self._damping.follow(other._damping)
        self._last = None if other._last is None else vector(other._last)

    def state(self) -> State:
        return {"damping": self._damping.state(), "last": self._last}

    def load_state(self, state: State, device: torch.device) -> None:
        self._damping.load_state(state["damping"])
        self._last = None if state["last"] is None else tensor(state["last"], device)

    def moved(self) -> None:
        self._last = None

    def back_off(self) -> bool:
        self._damping.back_off()
        self._last = None
        return True

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        found = objective.linearize(theta).dense()
        if found.linear is not None:
            raise UserError(
                "optimizer=variable_projection: coarse problems by the full approximation scheme are no sums of "
                "squares; valid choices: schedule.coarse=galerkin"
            )
        if not math.isfinite(found.loss):
            return Step(theta, found.loss, found.terms, "loss is not finite")
        where = objective.backbone.last_layer
        other = torch.ones_like(theta, dtype=torch.bool)
        other[where] = False
        system = Cholesky([self._eliminate(found.jacobian[:, where], found.jacobian[:, other], found)])

        def land(change: Tensor) -> Landing:
            trial = theta.clone()
            trial[other] += change
            trial = self._solved(objective, trial)
            return Landing(trial, *objective.loss(trial))

        last = None if self._last is None else self._last[other]
        outcome = damped_step(
            system, land, self._damping, self.trials, below=found.loss, last=last, momentum=self.momentum
        )
        if outcome.landing is not None:
            self._last = outcome.landing.theta - theta if self.momentum else None
            return Step(*outcome.landing)
        self._last = None
        alone = self._solved(objective, theta)
        new_loss, new_terms = objective.loss(alone)
        if new_loss < found.loss:
            return Step(alone, new_loss, new_terms)
        advice = None if outcome.solvable else "more damping or dtype=float64"
        return refusal(theta, found.loss, found.terms, self.trials, advice)

    def _ridge_rows(self, a: Tensor) -> Tensor:
        """√(ρ m) I for A `[M, L]`, `[L, L]`."""
        size = a.shape[1]
        root = math.sqrt(self.ridge * float(a.square().sum()) / size) or 1.0
        return torch.diag(a.new_full((size,), root))

    def _eliminate(self, a: Tensor, j: Tensor, found: Dense) -> Dense:
        """Project the columns A `[M, L]` of the last layer out of the others' `[M, P − L]` and of r: J_K and r_K."""
        basis = torch.linalg.qr(torch.cat([a, self._ridge_rows(a)]))[0]
        rows = torch.cat([torch.cat([j, found.residual[:, None]], dim=1), j.new_zeros(a.shape[1], j.shape[1] + 1)])
        rows = torch.addmm(rows, basis, basis.T @ rows, alpha=-1)
        kept, residual = rows[:, :-1], rows[:, -1]
        return Dense(kept, kept.T @ residual, float(residual.square().sum()), found.terms, residual)

    def _solved(self, objective: LeastSquares, theta: Tensor) -> Tensor:
        """Theta `[P]` with the best parameters of the last layer."""
        found = objective.linearize(theta)
        a, r = found.columns(objective.backbone.last_layer), found.residual
        if not (bool(torch.isfinite(r).all()) and bool(torch.isfinite(a).all())):
            return theta
        size = a.shape[1]
        rows = torch.cat([torch.cat([a, self._ridge_rows(a)]), torch.cat([-r, r.new_zeros(size)])[:, None]], dim=1)
        factor = torch.linalg.qr(rows, mode="r")[1]
        change = torch.linalg.solve_triangular(factor[:size, :size], factor[:size, size:], upper=True)[:, 0]
        out = theta.clone()
        out[objective.backbone.last_layer] += change
        return out
