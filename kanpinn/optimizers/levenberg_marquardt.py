"""Levenberg–Marquardt with momentum: damped Gauss–Newton steps on the weighted residuals, or on fewer rows of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanpinn.least_squares.linearization import SMALLEST_BLOCK, Dense, Linearization
from kanpinn.least_squares.objective import LeastSquares, total_loss
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.damped_step import RULES, Landing, damped_step, damping, refusal
from kanpinn.optimizers.damped_systems import SOLVERS, Normal
from kanpinn.options import option
from kanpinn.state import State, tensor

SKETCHES = ("none", "points", "countsketch")
"""Fewer rows for JᵀJ: a random part of the points, or all rows added up in a few with random signs. Gradient and loss
stay those of all rows (iterative Hessian sketch, Pilanci and Wainwright 2016, J. Mach. Learn. Res. 17, sec. 2.2)."""


def sample_points(objective: LeastSquares, theta: Tensor, rows: int, generator: np.random.Generator) -> Dense | None:
    """Linearise on a random part of the points, with the gradient and loss of all of them.

    The Jacobian at the other points is never computed. The expectation of JᵀJ is the whole one's. None where the
    problem has no more points than `rows` or cannot be taken apart.
    """
    if len(objective.points) <= rows:
        return None
    part = objective.sampled(rows / len(objective.points), generator)
    if part is objective:
        return None
    found = part.linearize(theta).dense()
    loss, gradient, terms = objective.loss_and_gradient(theta)
    half = gradient / 2
    return Dense(found.jacobian, half, loss, terms, found.residual, half - found.gradient)


def count_sketch(parts: Iterable[Dense], rows: int, generator: np.random.Generator) -> Dense:
    """Add every row, with a random sign, to one of m random rows (Clarkson and Woodruff 2013, sec. 2).

    Gives S J, `[m, P]`, and S r, with E[SᵀS] = I; gradient and loss are those of all rows.
    """
    sketch: Tensor | None = None
    gradient, loss, terms = None, 0.0, {}
    for part in parts:
        count = len(part.residual)
        where = torch.from_numpy(generator.integers(0, rows, count)).to(part.residual.device)
        signs = torch.from_numpy(2.0 * generator.integers(0, 2, count) - 1.0).to(part.residual)
        if sketch is None:
            sketch = part.jacobian.new_zeros(rows, part.jacobian.shape[1] + 1)
        sketch[:, :-1].index_add_(0, where, part.jacobian * signs[:, None])
        sketch[:, -1].index_add_(0, where, part.residual * signs)
        gradient = part.gradient if gradient is None else gradient + part.gradient
        loss += part.loss
        for name, value in part.terms.items():
            terms[name] = terms.get(name, 0.0) + value
    assert sketch is not None and gradient is not None
    jacobian, residual = sketch[:, :-1], sketch[:, -1]
    return Dense(jacobian, gradient, loss, terms, residual, gradient - jacobian.T @ residual)


@dataclass
class LevenbergMarquardt(Optimizer):
    """Levenberg–Marquardt with momentum, with a choice of factorisation, damping rule and, if asked for, sketch.

    The step δ minimises ‖r + J δ‖² + λ m ‖δ − μ p‖², where p is the last step and m the mean of diag JᵀJ:
    (JᵀJ + λ m I) δ = −Jᵀr + λ m μ p (SPRING, Goldshlager, Abrahamsen and Lin 2024, arXiv:2401.10190, with λ relative to
    m). Directions the residual hardly sees, which damping makes slow, are thus taken 1/(1 − μ) times as fast; μ = 0 is
    plain Levenberg–Marquardt. A step is accepted if the loss falls, and by as much as the damping rule asks for; the
    first trial after a failure drops p.
    """

    damping: float = option(1e-3, "damping λ at the start of a stage", above=0)
    momentum: float = option(
        0.5, "share of the last step that damping does not hold back; 0: none", at_least=0, below=1
    )
    trials: int = option(12, "dampings that one step may try", at_least=1)
    solver: str = option(
        "cholesky", "cholesky or eigen, of JᵀJ; qr or svd, of J: slower, without squaring its condition", one_of=SOLVERS
    )
    damping_rule: str = option(
        "nielsen", "nielsen; or target_ratio, as little damping as still gains target_ratio", one_of=RULES
    )
    target_ratio: float = option(
        0.25, "share of the predicted fall of the loss that target_ratio aims at", above=0, below=1
    )
    memory_mib: float | None = option(
        None, "MiB that rows of the Jacobian may take at a time; null: all of it is stored", above=0
    )
    sketch: str = option(
        "none", "curvature from fewer rows: points, a random part; countsketch, sums of rows", one_of=SKETCHES
    )
    sketch_rows: float = option(2.0, "rows a sketch keeps, in multiples of the number of parameters", at_least=1)

    def start(self, size: int, steps: int) -> None:
        self._damping = damping(self.damping_rule, self.damping, self.target_ratio)
        self._last: Tensor | None = None  # the last step accepted
        self._steps = 0  # taken so far, so that every sketch is another one

    def carry(
        self, other: LevenbergMarquardt, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]
    ) -> None:
        # λ is relative to the mean of diag JᵀJ, so it needs no scaling.
        self._damping.follow(other._damping)
        self._last = None if other._last is None else vector(other._last)
        self._steps = other._steps

    def rows(self, size: int, width: int = 8) -> int | None:
        """Number of rows of J, of `size` numbers of `width` bytes each, held at a time; None for all."""
        if self.memory_mib is None:
            return None
        return max(SMALLEST_BLOCK, int(self.memory_mib * 2**20 / (width * size)))

    def storage(self, points: int, parameters: int, *, jacobian: bool) -> int:
        rows = min(points, self.rows(parameters) or points)
        jacobian = jacobian or self.sketch != "none" or not issubclass(SOLVERS[self.solver], Normal)
        return (rows * parameters if jacobian else 0) + 3 * parameters**2

    def _linearizations(self, objective: LeastSquares, theta: Tensor, rows: int | None) -> Iterable[Linearization]:
        """The linearised problem at theta `[P]` in parts, or a sketch of it."""
        parts = (part.linearize(theta) for part in objective.parts(rows))
        if self.sketch == "none":
            return parts
        generator = np.random.default_rng([*self.stream, self._steps])
        kept = math.ceil(self.sketch_rows * len(theta))
        if self.sketch == "countsketch":
            return [count_sketch((part.dense() for part in parts), kept, generator)]
        found = sample_points(objective, theta, kept, generator)
        return parts if found is None else [found]

    def state(self) -> State:
        return {"damping": self._damping.state(), "last": self._last, "steps": self._steps}

    def load_state(self, state: State, device: torch.device) -> None:
        self._damping.load_state(state["damping"])
        self._last = None if state["last"] is None else tensor(state["last"], device)
        self._steps = int(state["steps"])

    def moved(self) -> None:
        self._last = None

    def back_off(self) -> bool:
        self._damping.back_off()
        self._last = None
        return True

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        rows = self.rows(len(theta), theta.element_size())
        system = SOLVERS[self.solver](self._linearizations(objective, theta, rows))
        self._steps += 1
        if not math.isfinite(system.loss):
            return Step(theta, system.loss, system.terms, "loss is not finite")

        def land(change: Tensor) -> Landing:
            trial = theta + change
            return Landing(trial, *total_loss(objective.parts(rows), trial))

        found = damped_step(
            system, land, self._damping, self.trials, below=system.loss, last=self._last, momentum=self.momentum
        )
        self._last = found.change if self.momentum else None
        if found.landing is None:
            advice = None if found.solvable else "optimizer.solver=qr, more damping or dtype=float64"
            return refusal(theta, system.loss, system.terms, self.trials, advice)
        return Step(*found.landing)
