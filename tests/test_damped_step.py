"""Damping rules against their formulas, and the trials of a damped step against dense algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kanpinn.least_squares.linearization import Dense
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.optimizers.damped_step import Landing, NielsenDamping, damped_step
from kanpinn.optimizers.damped_systems import SOLVERS


@pytest.mark.parametrize(
    ("ratio", "factor"), [(0.25, 1.125), (0.5, 1.0), (0.75, 0.875), (0.9, 1 - 0.8**3), (1.0, 1 / 3), (2.0, 1 / 3)]
)
def test_nielsens_rule_is_a_cubic_bounded_by_a_third(ratio: float, factor: float) -> None:
    # Nielsen 1999, eq. 2.21, and ν after failures: λν, λν·2ν, …
    damping = NielsenDamping(0.6)
    damping.accept(ratio)
    assert damping.value == pytest.approx(0.6 * factor, rel=1e-14)
    damping.reject()
    damping.reject()
    assert damping.value == pytest.approx(0.6 * factor * 2 * 4, rel=1e-14)
    damping.accept(0.5)
    damping.reject()
    assert damping.value == pytest.approx(0.6 * factor * 8 * 2, rel=1e-14)


@pytest.mark.parametrize(("before", "after"), [(0.05, 10.0), (0.4, 40.0)])
def test_numbers_that_are_not_finite_raise_the_damping_a_hundredfold_for_good(before: float, after: float) -> None:
    damping = NielsenDamping(0.1)
    damping.value, damping.factor = before, 8.0
    damping.back_off()
    assert damping.value == pytest.approx(after, rel=1e-14)
    damping.reject()
    assert damping.value == pytest.approx(2 * after, rel=1e-14)
    damping.reset()
    assert damping.value == pytest.approx(10.0, rel=1e-14)


def system(seed: int = 0) -> tuple[Dense, Tensor, Tensor]:
    """A random linearisation, the step before it, and a point."""
    generator = np.random.default_rng(seed)
    j, r, last, theta = (torch.from_numpy(generator.standard_normal(s)) for s in ((9, 4), 9, 4, 4))
    loss = float(r @ r)
    return Dense(j, j.T @ r, loss, {"all": loss}, r), last, theta


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_step_has_momentum_and_its_prediction_is_that_of_the_model(solver: str) -> None:
    found, last, _ = system()
    j, r, shift, mu = found.jacobian, found.residual, 0.3, 0.7
    proposal = SOLVERS[solver]([found]).propose(shift, last, mu)
    assert proposal is not None
    # The minimiser of ‖r + J δ‖² + s ‖δ − μ p‖² (SPRING)
    matrix = j.T @ j + shift * torch.eye(4, dtype=j.dtype)
    expected = torch.linalg.solve(matrix, -j.T @ r + shift * mu * last)
    assert torch.allclose(proposal.change, expected, rtol=1e-11)
    assert proposal.predicted == pytest.approx(found.loss - float((r + j @ expected).square().sum()), rel=1e-9)


def test_trials_drop_momentum_first_then_raise_the_damping() -> None:
    found, last, theta = system()
    cholesky, damping, tried = SOLVERS["cholesky"]([found]), NielsenDamping(0.3), []

    def land(change: Tensor) -> Landing:
        tried.append(change)
        return Landing(theta + change, found.loss + 1.0 if len(tried) < 4 else 0.5 * found.loss, {})

    outcome = damped_step(cholesky, land, damping, 12, below=found.loss, last=last, momentum=0.7)
    j, r = found.jacobian, found.residual
    mean = float(j.square().sum(0).mean())
    for change, value, momentum in zip(tried, (0.3, 0.3, 0.6, 2.4), (0.7, 0.0, 0.0, 0.0), strict=True):
        shift = value * mean
        matrix = j.T @ j + shift * torch.eye(4, dtype=j.dtype)
        expected = torch.linalg.solve(matrix, -j.T @ r + shift * momentum * last)
        assert torch.allclose(change, expected, rtol=1e-11)
    assert outcome.landing is not None and torch.equal(outcome.landing.theta, theta + tried[-1])
    predicted = found.loss - float((r + j @ tried[-1]).square().sum())
    ratio = 0.5 * found.loss / predicted
    assert damping.value == pytest.approx(2.4 * max(1 / 3, 1 - (2 * ratio - 1) ** 3), rel=1e-9)


def test_a_step_that_gains_nothing_resets_the_damping() -> None:
    found, last, theta = system()
    damping = NielsenDamping(0.3)
    outcome = damped_step(
        SOLVERS["cholesky"]([found]),
        lambda change: Landing(theta + change, math.inf, {}),
        damping,
        5,
        below=found.loss,
        last=last,
        momentum=0.5,
    )
    assert outcome.landing is None and outcome.solvable
    assert (damping.value, damping.factor) == (0.3, 2.0)


class Linear(LeastSquares):
    """‖A x − b‖²."""

    points, version = torch.empty(0, 1), 0

    def __init__(self, matrix: Tensor, right: Tensor) -> None:
        self.matrix, self.right = matrix, right

    def network(self, theta: Tensor):
        raise NotImplementedError

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        loss = float((self.matrix @ theta - self.right).square().sum())
        return loss, {"all": loss}

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        raise NotImplementedError

    def linearize(self, theta: Tensor) -> Dense:
        r = self.matrix @ theta - self.right
        return Dense(self.matrix, self.matrix.T @ r, float(r @ r), {"all": float(r @ r)}, r)


def test_levenberg_marquardts_step_moves_between_levels_as_a_change_of_parameters() -> None:
    """The step before is a vector: on a finer level it is prolonged, P p, and never mapped as gradients are."""
    generator = np.random.default_rng(5)
    prolongation = torch.from_numpy(generator.standard_normal((5, 3)))
    coarse_rows, coarse_right = (torch.from_numpy(generator.standard_normal(s)) for s in ((8, 3), 8))
    rows, right = (torch.from_numpy(generator.standard_normal(s)) for s in ((9, 5), 9))
    coarse = LevenbergMarquardt(momentum=0.6, damping=0.4)
    coarse.start(3, 1)
    zero = torch.zeros(3, dtype=torch.float64)
    last = coarse.step(Linear(coarse_rows, coarse_right), zero).theta
    fine = LevenbergMarquardt(momentum=0.6, damping=0.4)
    fine.start(5, 1)

    def never(_: Tensor) -> Tensor:
        raise AssertionError("a step is no gradient")

    fine.carry(coarse, lambda v: prolongation @ v, never)
    step = fine.step(Linear(rows, right), torch.zeros(5, dtype=torch.float64))
    shift = float(rows.square().sum(0).mean()) * coarse.state()["damping"]["value"]
    matrix = rows.T @ rows + shift * torch.eye(5, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, rows.T @ right + shift * 0.6 * (prolongation @ last))
    assert torch.allclose(step.theta, expected, rtol=1e-10)
