"""Coarse problems that carry a finer level's information, and the line search that adds their correction to it.

Both kinds agree with the fine objective f to first order along the coarse space: at the start of the coarse problem its
gradient is Pᵀ∇f, with P the prolongation. So an exact fine solution is left alone, and any coarse decrease begins as a
fine one. Nash, Optim. Methods Softw. 14 (2000) 99 (MG/OPT); Brandt, Math. Comp. 31 (1977) 333 (full approximation
scheme); Gratton, Sartenaer and Toint, SIAM J. Optim. 19 (2008) 414 (Galerkin models).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.least_squares.base import LeastSquares, Linearization
from kanpinn.least_squares.jacobian import Products, RestrictedProducts, ShiftedProducts
from kanpinn.least_squares.residuals import Objective
from kanpinn.multilevel.transfer import Transfer

ARMIJO = 1e-4
TRIALS = 12


class FasProblem(LeastSquares):
    """The coarse network's own loss with the full approximation scheme's linear term: f_c(θ) − τᵀ(θ − θ₀) + μ‖θ − θ₀‖².

    τ = ∇f_c(θ₀) − Pᵀ∇f(θ_f), with θ₀ = R θ_f the L2 projection of the fine network's activations. In multigrid terms
    ∇f_c(θ) = τ is the coarse equation with the fine level's residual as its right-hand side (Brandt 1977); in MG/OPT
    the same term is the shift that makes coarse and fine problem agree to first order (Nash 2000).

    A linear term has no lower bound, and a network has directions in which f_c hardly grows: without μ, second-order
    steps run off along them and the line search refuses what they bring back. μ = ‖τ‖/(2 ϱ ‖θ₀‖) keeps the linear term
    alone from moving θ by more than a share ϱ of ‖θ₀‖; it changes neither the gradient at θ₀ nor a fixed point. It does
    shorten the whole coarse step, so that linear problems, which need no bound, converge at the textbook rate only with
    μ = 0.

    Attributes:
        coarse: The coarse network's objective, its points drawn.
        start: θ₀ `[P_coarse]`.
        tau: `[P_coarse]`.
        mu: μ.
    """

    is_correction = True

    def __init__(self, coarse: Objective, start: Tensor, tau: Tensor, mu: float) -> None:
        self.coarse = coarse
        self.backbone = coarse.backbone
        self.start = start
        self.tau = tau
        self.mu = mu

    @classmethod
    def pose(
        cls, coarse: Objective, start: Tensor, fine_gradient: Tensor, transfer: Transfer, radius: float | None
    ) -> FasProblem:
        """Measure τ and μ.

        Args:
            coarse: The coarse network's objective, its points drawn.
            start: θ₀ `[P_coarse]`.
            fine_gradient: ∇f(θ_f) `[P_fine]`.
            transfer: Carries P.
            radius: ϱ; None sets μ = 0.

        Returns:
            The problem.
        """
        tau = coarse.loss_and_gradient(start)[1] - transfer.prolong_transpose(fine_gradient)
        size = float(start.norm()) or 1.0
        return cls(coarse, start, tau, 0.0 if radius is None else float(tau.norm()) / (2 * radius * size))

    @property
    def points(self) -> Tensor:  # type: ignore[override]
        """The coarse objective's points `[N, d]`."""
        return self.coarse.points

    @property
    def version(self) -> int:  # type: ignore[override]
        """The coarse objective's version."""
        return self.coarse.version

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        """The coarse network."""
        return self.coarse, theta

    def _extra(self, theta: Tensor) -> float:
        d = theta - self.start
        return self.mu * float(d @ d) - float(self.tau @ d)

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        """f_c(θ) − τᵀ(θ − θ₀) + μ‖θ − θ₀‖², which may be negative, and the terms of f_c."""
        loss, terms = self.coarse.loss(theta)
        return loss + self._extra(theta), terms

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """The shifted loss, its gradient and the terms of f_c."""
        loss, gradient, terms = self.coarse.loss_and_gradient(theta)
        slope = 2 * self.mu * (theta - self.start) - self.tau
        return loss + self._extra(theta), gradient + slope, terms

    def linearize(self, theta: Tensor) -> Linearization:
        """The coarse Jacobian, with rows √μ I below it, and half the shifted gradient."""
        found = self.coarse.linearize(theta)
        jacobian, residual = found.jacobian, found.residual
        if self.mu:
            jacobian = torch.cat([jacobian, math.sqrt(self.mu) * self._identity(theta)])
            residual = torch.cat([residual, math.sqrt(self.mu) * (theta - self.start)])
        gradient = found.gradient + self.mu * (theta - self.start) - self.tau / 2
        loss = found.loss + self._extra(theta)
        return Linearization(jacobian, gradient, loss, found.terms, residual, -self.tau / 2)

    def linearizations(self, theta: Tensor, rows: int | None) -> Iterator[Linearization]:
        """The coarse problem's parts, then rows √μ I with the linear term."""
        if rows is None:
            yield self.linearize(theta)
            return
        yield from self.coarse.linearizations(theta, rows)
        d, root = theta - self.start, math.sqrt(self.mu)
        gradient = self.mu * d - self.tau / 2
        yield Linearization(root * self._identity(theta), gradient, self._extra(theta), {}, root * d, -self.tau / 2)

    def loss_by_parts(self, theta: Tensor, rows: int | None) -> tuple[float, dict[str, float]]:
        """The shifted loss, from the coarse problem's parts."""
        loss, terms = self.coarse.loss_by_parts(theta, rows)
        return loss + self._extra(theta), terms

    @staticmethod
    def _identity(theta: Tensor) -> Tensor:
        return torch.eye(len(theta), dtype=theta.dtype, device=theta.device)

    def products(self, theta: Tensor) -> Products:
        """Products with what `linearize` stores."""
        found = self.coarse.products(theta)
        gradient = found.gradient + self.mu * (theta - self.start) - self.tau / 2
        return ShiftedProducts(found, gradient, self.mu, found.loss + self._extra(theta))


class GalerkinProblem(LeastSquares):
    """The fine loss on an affine coarse space: f(θ_f + P d) as a function of d `[P_coarse]`, from d = 0.

    Its Gauss–Newton system is the Galerkin one, Pᵀ(JᵀJ)P d = −Pᵀg. It costs a fine evaluation but a coarse solve.

    Attributes:
        fine: The finer level's problem.
        base: θ_f `[P_fine]`.
        transfer: Carries P.
        free: 1 where d may change, else 0, `[P_coarse]`; None where all of it may.
    """

    is_correction = True

    def __init__(self, fine: LeastSquares, base: Tensor, transfer: Transfer, free: Tensor | None = None) -> None:
        self.fine = fine
        self.base = base
        self.transfer = transfer
        self.free = free
        self.backbone = transfer.coarse

    @property
    def points(self) -> Tensor:  # type: ignore[override]
        """The fine problem's points `[N, d]`."""
        return self.fine.points

    @property
    def version(self) -> int:  # type: ignore[override]
        """The fine problem's version."""
        return self.fine.version

    def _prolong(self, d: Tensor) -> Tensor:
        return self.transfer.prolong(d if self.free is None else d * self.free)

    def _fine(self, d: Tensor) -> Tensor:
        return self.base + self._prolong(d)

    def _restrict(self, g: Tensor) -> Tensor:
        coarse = self.transfer.prolong_transpose(g)
        return coarse if self.free is None else coarse * self.free

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        """The finest network at θ_f + P d."""
        return self.fine.network(self._fine(theta))

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        """f(θ_f + P d) and its terms."""
        return self.fine.loss(self._fine(theta))

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """f(θ_f + P d), Pᵀ∇f there, and its terms."""
        loss, gradient, terms = self.fine.loss_and_gradient(self._fine(theta))
        return loss, self._restrict(gradient), terms

    def linearize(self, theta: Tensor) -> Linearization:
        """J P and Pᵀg at θ_f + P d."""
        return self._restricted(self.fine.linearize(self._fine(theta)))

    def linearizations(self, theta: Tensor, rows: int | None) -> Iterator[Linearization]:
        """The fine problem's parts, restricted."""
        return map(self._restricted, self.fine.linearizations(self._fine(theta), rows))

    def loss_by_parts(self, theta: Tensor, rows: int | None) -> tuple[float, dict[str, float]]:
        """f(θ_f + P d), from the fine problem's parts."""
        return self.fine.loss_by_parts(self._fine(theta), rows)

    def _restricted(self, found: Linearization) -> Linearization:
        linear = None if found.linear is None else self._restrict(found.linear)
        jacobian, gradient = self._restrict(found.jacobian), self._restrict(found.gradient)
        return Linearization(jacobian, gradient, found.loss, found.terms, found.residual, linear)

    def products(self, theta: Tensor) -> Products:
        """Products with J P at θ_f + P d."""
        return RestrictedProducts(self.fine.products(self._fine(theta)), self._prolong, self._restrict)


@dataclass(frozen=True)
class Correction:
    """What a coarse correction did.

    Attributes:
        theta: Fine parameters afterwards, `[P]`.
        length: The step length taken; 0 where no length lowered the loss.
        before: The fine loss before.
        after: The fine loss after, never above `before`.
    """

    theta: Tensor
    length: float
    before: float
    after: float


def correct(fine: LeastSquares, theta: Tensor, direction: Tensor) -> Correction:
    """Add a coarse correction by a backtracking line search, so that the loss never rises.

    The first length is 1. Sufficient decrease is asked for (Nocedal and Wright 2006, eq. 3.4) where the direction
    descends, else plain decrease; a refused length is followed by the minimum of the parabola through both losses and
    the slope, held between a tenth and a half of it (ibid., sec. 3.5).

    Args:
        fine: The finer level's problem.
        theta: Its parameters `[P]` before the coarse problem was solved.
        direction: The prolonged coarse correction `[P]`.

    Returns:
        The correction; theta itself, with length 0, where no length of `TRIALS` lowers the loss.
    """
    before, gradient, _ = fine.loss_and_gradient(theta)
    slope = float(gradient @ direction)
    length = 1.0
    for _ in range(TRIALS if math.isfinite(slope) else 0):
        trial = theta + length * direction
        loss, _ = fine.loss(trial)
        if math.isfinite(loss) and loss < before and loss <= before + ARMIJO * length * min(slope, 0.0):
            return Correction(trial, length, before, loss)
        shrink = 0.5
        if math.isfinite(loss) and slope < 0:
            shrink = -slope * length / (2 * (loss - before - slope * length))
        length *= min(max(shrink, 0.1), 0.5)
    return Correction(theta, 0.0, before, before)
