"""Transfer between levels, coarse problems with a finer level's information, and the line search for their corrections.

Both kinds agree with the fine objective f to first order along the coarse space: at the start of the coarse problem its
gradient is Pᵀ∇f, with P the prolongation. So an exact fine solution is left alone, and any coarse decrease begins as a
fine one. Nash, Optim. Methods Softw. 14 (2000) 99 (MG/OPT); Brandt, Math. Comp. 31 (1977) 333 (full approximation
scheme); Gratton, Sartenaer and Toint, SIAM J. Optim. 19 (2008) 414 (Galerkin models).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.edits import coarsening, refinement
from kanpinn.least_squares.linearization import Dense, Linearization
from kanpinn.least_squares.objective import LeastSquares, Objective
from kanpinn.least_squares.wrapped import SubspaceProblem, Wrapped, frozen
from kanpinn.state import State, check_size, tensor


class Transfer:
    """The operators between a network and the same network refined one or more times.

    All are linear maps along the last axis of tensors `[..., P]` of any dtype and device: parameters, gradients, or
    many of them at once, such as the rows of a Jacobian. Blocks without levels (biases, scales, base and linear
    weights) are the same parameters on both levels and are copied.

    Attributes:
        coarse: The coarse network.
        fine: The fine network.
    """

    def __init__(self, coarse: Backbone, fine: Backbone) -> None:
        """Chain the levels from coarse to fine, `coarse.refined()` or that refined again; they share the embedding.

        Raises ValueError if `fine` is another network, or not finer.
        """
        self.coarse, self.fine = coarse, fine
        if not coarse.refinable or fine.level <= coarse.level:
            raise ValueError(f"level {fine.level} is not a refinement of level {coarse.level}")
        levels = [coarse]
        while levels[-1].level < fine.level:
            levels.append(levels[-1].refined())
        if levels[-1] != fine:
            raise ValueError("the fine network is not the coarse network refined: embedding or layers differ")
        self._up = [refinement(*pair) for pair in pairwise(levels)]
        self._down = [coarsening(*pair) for pair in pairwise(levels)][::-1]

    def prolong(self, theta: Tensor) -> Tensor:
        """P: coarse parameters `[..., P_coarse]` to fine ones `[..., P_fine]` with the same function.

        Exact on the knots' interval and in its polynomial continuation. Autograd passes through.
        """
        for edit in self._up:
            theta = edit.linear(theta)
        return theta

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """Pᵀ: `[..., P_fine]` to `[..., P_coarse]`; a loss's gradient at P θ to its gradient with respect to θ."""
        for edit in reversed(self._up):
            gradient = edit.transpose(gradient)
        return gradient

    def restrict(self, theta: Tensor) -> Tensor:
        """R: fine parameters `[..., P_fine]` to coarse ones whose activations are the nearest; R P = 1.

        Nearest in L2(−1, 1) for splines, with the weight 1/√(1 − x²) for Chebyshev polynomials.
        """
        for edit in self._down:
            theta = edit.linear(theta)
        return theta

    def restrict_transpose(self, gradient: Tensor) -> Tensor:
        """Rᵀ: `[..., P_coarse]` to `[..., P_fine]`."""
        for edit in reversed(self._down):
            gradient = edit.transpose(gradient)
        return gradient


ARMIJO = 1e-4
TRIALS = 12


@final
class Proximal(LeastSquares):
    """Quadratic μ‖θ − θ₀‖² − τᵀ(θ − θ₀), the part of a full approximation scheme's loss that has no points.

    Attributes:
        backbone: The coarse network.
        start: θ₀ `[P_coarse]`.
        tau: `[P_coarse]`.
        mu: μ.
    """

    is_correction = True

    def __init__(self, coarse: Objective, start: Tensor, tau: Tensor, mu: float) -> None:
        self._coarse, self.backbone = coarse, coarse.backbone
        self.start, self.tau, self.mu = start, tau, mu

    @property
    def points(self) -> Tensor:
        return self._coarse.points[:0]

    @property
    def version(self) -> int:
        return 0

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        return self._coarse, theta

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        d = theta - self.start
        return self.mu * float(d @ d) - float(self.tau @ d), {}

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        return self.loss(theta)[0], 2 * self.mu * (theta - self.start) - self.tau, {}

    def shift(self, found: Linearization, theta: Tensor) -> Linearization:
        """The linearisation of another loss at theta `[P]`, with the quadratic added."""
        return found.shifted(self.mu, theta - self.start, -self.tau / 2)

    def linearize(self, theta: Tensor) -> Linearization:
        nothing = theta.new_zeros(0)
        return self.shift(Dense(theta.new_zeros(0, len(theta)), torch.zeros_like(theta), 0.0, {}, nothing), theta)


@final
class FasProblem(Wrapped):
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
        inner: The coarse network's objective, its points drawn.
        added: μ‖θ − θ₀‖² − τᵀ(θ − θ₀).
    """

    kind = "fas"
    is_correction = True
    keeps_points = True

    def __init__(self, coarse: Objective, start: Tensor, tau: Tensor, mu: float) -> None:
        self.inner: LeastSquares = coarse
        self.backbone = coarse.backbone
        self.added = Proximal(coarse, start, tau, mu)

    @classmethod
    def pose(
        cls, coarse: Objective, start: Tensor, fine_gradient: Tensor, transfer: Transfer, radius: float | None
    ) -> FasProblem:
        """Measure τ and μ, from θ₀ `[P_coarse]`, ∇f(θ_f) `[P_fine]` and the radius ϱ; μ = 0 for None.

        The coarse network's objective has its points drawn.
        """
        tau = coarse.loss_and_gradient(start)[1] - transfer.prolong_transpose(fine_gradient)
        size = float(start.norm()) or 1.0
        return cls(coarse, start, tau, 0.0 if radius is None else float(tau.norm()) / (2 * radius * size))

    @classmethod
    def from_state(cls, coarse: Objective, state: State, device: torch.device) -> FasProblem:
        """Pose the problem of a state, arrays in place of tensors, on a coarse network's objective with its points."""
        start, tau = tensor(state["start"], device), tensor(state["tau"], device)
        check_size(start, coarse.size)
        check_size(tau, coarse.size)
        return cls(coarse, start, tau, float(state["mu"]))

    def state(self) -> State:
        return {**self.inner.state(), "start": self.added.start, "tau": self.added.tau, "mu": self.added.mu}

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        return self.inner.network(theta)

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        loss, terms = self.inner.loss(theta)
        return loss + self.added.loss(theta)[0], terms

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        loss, gradient, terms = self.inner.loss_and_gradient(theta)
        more, slope, _ = self.added.loss_and_gradient(theta)
        return loss + more, gradient + slope, terms

    def linearize(self, theta: Tensor) -> Linearization:
        return self.added.shift(self.inner.linearize(theta), theta)

    def rebased(self, change: Callable[[Any], LeastSquares]) -> LeastSquares:
        found = copy(self)
        found.inner = self.inner.rebased(change)
        return found

    def parts(self, rows: int | None) -> Iterator[LeastSquares]:
        if rows is None:
            yield self
        else:
            yield from self.inner.parts(rows)
            yield self.added


def galerkin(fine: LeastSquares, base: Tensor, transfer: Transfer, layers: str = "all") -> SubspaceProblem:
    """Pose the fine problem on the affine coarse space θ_f + P d, from d = 0: a fine evaluation but a coarse solve.

    With the layers "last" d may change in the last layer only, else in "all".
    """
    problem = SubspaceProblem(fine, base, transfer, transfer.coarse, is_correction=True)
    if layers == "all":
        return problem
    free = base.new_zeros(problem.size)
    free[transfer.coarse.last_layer] = 1.0
    return frozen(problem, torch.zeros_like(free), free)


@dataclass(frozen=True)
class Correction:
    """Fine parameters `[P]` after a coarse correction, and the fine loss before and after, which is never above it.

    The step length taken is 0 where no length lowered the loss.
    """

    theta: Tensor
    length: float
    before: float
    after: float


def correct(fine: LeastSquares, theta: Tensor, direction: Tensor) -> Correction:
    """Add a coarse correction `[P]` to θ `[P]` by a backtracking line search, so that the loss never rises.

    The first length is 1. Sufficient decrease is asked for (Nocedal and Wright 2006, eq. 3.4) where the direction
    descends, else plain decrease; a refused length is followed by the minimum of the parabola through both losses and
    the slope, held between a tenth and a half of it (ibid., sec. 3.5). Gives θ itself, with length 0, where no length
    of `TRIALS` lowers the loss.
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
