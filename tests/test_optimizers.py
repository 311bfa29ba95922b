"""Optimisers on small problems with known answers, behind the protocol of the objective."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.optimizers import OPTIMIZERS, Adam, Lbfgs, LevenbergMarquardt, Optimizer
from kanpinn.optimizers.lbfgs import ARMIJO, CURVATURE


class LeastSquares:
    """loss = ‖r(theta)‖², derivatives by torch.func; counts and keeps what was evaluated."""

    def __init__(self, residual: Callable[[Tensor], Tensor]) -> None:
        self.r = residual
        self.points = torch.empty(0, 1)
        self.version = 0
        self.evaluated: list[tuple[Tensor, float, Tensor]] = []

    def residual(self, theta: Tensor) -> tuple[Tensor, dict[str, float]]:
        r = self.r(theta)
        return r, {"interior": float(r.square().sum())}

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        gradient, loss = torch.func.grad_and_value(lambda x: self.r(x).square().sum())(theta)
        self.evaluated.append((theta, float(loss), gradient))
        return float(loss), gradient, {"interior": float(loss)}

    def normal_equations(self, theta: Tensor) -> tuple[Tensor, Tensor, float, dict[str, float]]:
        r, j = self.r(theta), torch.func.jacrev(self.r)(theta)
        loss = float(r.square().sum())
        return j.T @ j, j.T @ r, loss, {"interior": loss}


def linear(rows: int = 12, size: int = 6, condition: float = 30.0) -> tuple[LeastSquares, Tensor, Tensor, Tensor]:
    """‖A x − b‖² with its matrix, right-hand side and solution."""
    generator = np.random.default_rng(0)
    u, _ = np.linalg.qr(generator.standard_normal((rows, size)))
    v, _ = np.linalg.qr(generator.standard_normal((size, size)))
    a = torch.from_numpy(u * np.geomspace(1, 1 / condition, size) @ v.T)
    b = torch.from_numpy(generator.standard_normal(rows))
    return LeastSquares(lambda x: a @ x - b), a, b, torch.linalg.lstsq(a, b[:, None]).solution[:, 0]


def rosenbrock() -> LeastSquares:
    """Rosenbrock's valley in two dimensions as a least-squares problem; zero at (1, 1)."""
    return LeastSquares(lambda x: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))


START = torch.tensor([-1.2, 1.0], dtype=torch.float64)


def iterate(optimizer: Optimizer, objective: LeastSquares, theta: Tensor, steps: int):
    optimizer.start(len(theta), steps)
    out = []
    for _ in range(steps):
        out.append(optimizer.step(objective, theta))  # type: ignore[arg-type]
        theta = out[-1].theta
        if out[-1].stop:
            break
    return out


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_takes_the_steps_of_torch(weight_decay: float) -> None:
    leaf = START.clone().requires_grad_(True)
    torchs = torch.optim.AdamW([leaf], lr=0.02, betas=(0.85, 0.99), eps=1e-7, weight_decay=weight_decay)
    ours = Adam(lr=0.02, ramp_steps=0, decay="none", beta1=0.85, beta2=0.99, epsilon=1e-7, weight_decay=weight_decay)
    ours.start(2, 60)
    objective, theta = rosenbrock(), START
    for _ in range(60):
        torchs.zero_grad()
        objective.r(leaf).square().sum().backward()
        before = float(objective.r(theta).square().sum())
        torchs.step()
        step = ours.step(objective, theta)  # type: ignore[arg-type]
        theta = step.theta
        assert step.loss == pytest.approx(before, rel=1e-12)
        assert torch.allclose(theta, leaf.detach(), rtol=1e-12, atol=1e-14)


def test_adams_rate_ramps_up_and_decays() -> None:
    def rates(decay: str) -> list[float]:
        adam = Adam(lr=1e-2, ramp_from=1e-4, ramp_steps=10, decay=decay, lr_end=1e-5)
        adam.start(2, 101)
        return [adam.rate(k) for k in range(101)]

    for decay in ("none", "exponential", "cosine"):
        r = rates(decay)
        assert r[0] == pytest.approx(1e-4)
        assert np.allclose(np.diff(r[:11]), (1e-2 - 1e-4) / 10)
        assert r[10] == pytest.approx(1e-2)
        assert r[-1] == pytest.approx(1e-2 if decay == "none" else 1e-5)
    assert rates("exponential")[55] == pytest.approx(math.sqrt(1e-2 * 1e-5))
    assert rates("cosine")[55] == pytest.approx((1e-2 + 1e-5) / 2)


def test_adam_starts_anew_at_every_stage() -> None:
    adam, objective = Adam(ramp_steps=3), rosenbrock()
    first = [s.theta for s in iterate(adam, objective, START, 5)]
    assert all(torch.equal(a, b.theta) for a, b in zip(first, iterate(adam, objective, START, 5), strict=True))


def test_lbfgs_minimises_a_convex_quadratic_in_about_as_many_steps_as_unknowns() -> None:
    objective, _, _, solution = linear(size=6, condition=4.0)
    steps = iterate(Lbfgs(), objective, torch.zeros(6, dtype=torch.float64), 60)
    optimum = float(objective.r(solution).square().sum())
    reached = next(k for k, s in enumerate(steps, start=1) if s.loss - optimum < 1e-9 * optimum)
    assert reached <= 6 + 6
    assert torch.allclose(steps[-1].theta, solution, rtol=1e-5, atol=1e-5)
    assert steps[-1].stop is not None


def test_lbfgs_accepts_only_steps_that_meet_the_strong_wolfe_conditions() -> None:
    objective = rosenbrock()
    theta, taken = START, 0
    steps = iterate(Lbfgs(), objective, START, 100)
    known = {tuple(t.tolist()): (loss, gradient) for t, loss, gradient in objective.evaluated}
    for step in steps:
        if step.stop:
            break
        loss, gradient = known[tuple(theta.tolist())]
        new_loss, new_gradient = known[tuple(step.theta.tolist())]
        along = step.theta - theta
        slope = float(gradient @ along)
        assert slope < 0
        assert new_loss <= loss + ARMIJO * slope + 1e-16 * loss
        if new_loss > 1e-18:
            assert abs(float(new_gradient @ along)) <= CURVATURE * abs(slope)
            taken += 1
        theta = step.theta
    assert taken >= 20
    assert torch.allclose(theta, torch.ones(2, dtype=torch.float64), atol=1e-6)


def test_lbfgs_evaluates_an_accepted_point_once() -> None:
    objective = rosenbrock()
    iterate(Lbfgs(), objective, START, 20)
    seen = [tuple(t.tolist()) for t, *_ in objective.evaluated]
    assert len(seen) == len(set(seen))


def test_lbfgs_evaluates_again_when_the_objective_has_changed() -> None:
    # New points or new multipliers: the loss kept from the last line search is that of another function.
    for change in ("points", "version"):
        objective, scale = rosenbrock(), [1.0]
        plain = objective.r
        objective.r = lambda x, plain=plain, scale=scale: scale[0] * plain(x)
        lbfgs = Lbfgs()
        lbfgs.start(2, 20)
        step = lbfgs.step(objective, START)  # type: ignore[arg-type]
        scale[0] = 3.0
        if change == "points":
            objective.points = torch.empty(0, 1)
        else:
            objective.version += 1
        step = lbfgs.step(objective, step.theta)  # type: ignore[arg-type]
        assert step.stop is None
        assert step.loss == pytest.approx(float(objective.r(step.theta).square().sum()))


def test_lbfgs_says_why_it_stopped() -> None:
    flat = LeastSquares(lambda x: 0 * x + 1)
    assert "stationary" in str(iterate(Lbfgs(), flat, START, 3)[0].stop)
    assert "not finite" in str(iterate(Lbfgs(), LeastSquares(lambda x: x * torch.nan), START, 3)[0].stop)
    wrong_gradient = LeastSquares(lambda x: x - x.detach() + 1)
    assert "line search" in str(iterate(Lbfgs(), wrong_gradient, START, 3)[0].stop)


def test_lbfgs_backs_off_from_losses_that_are_not_finite() -> None:
    # log-barrier: beyond x = 1 there is no loss at all
    barrier = LeastSquares(lambda x: torch.stack([torch.log(1 - x[0]) - 2.0, x[1]]))
    steps = iterate(Lbfgs(), barrier, torch.tensor([0.999, 3.0], dtype=torch.float64), 60)
    assert all(math.isfinite(s.loss) for s in steps)
    assert steps[-1].loss < 1e-12


def test_levenberg_marquardt_solves_linear_least_squares_at_once_as_damping_vanishes() -> None:
    objective, _, _, solution = linear()
    for damping, tolerance in ((1e-6, 1e-2), (1e-9, 1e-5), (1e-14, 1e-9)):
        step = iterate(LevenbergMarquardt(damping=damping), objective, torch.zeros(6, dtype=torch.float64), 1)[0]
        assert float((step.theta - solution).norm()) <= tolerance * float(solution.norm())


def test_levenberg_marquardts_step_is_the_damped_dense_solution() -> None:
    objective, damping = rosenbrock(), 0.05
    step = iterate(LevenbergMarquardt(damping=damping), objective, START, 1)[0]
    j, r = torch.func.jacrev(objective.r)(START).numpy(), objective.r(START).numpy()
    shift = damping * np.mean(np.sum(j**2, axis=0))
    # The same as the stacked least-squares problem [J; √shift I] δ = [−r; 0], solved by SVD.
    stacked = np.vstack([j, np.sqrt(shift) * np.eye(2)])
    delta = scipy.linalg.lstsq(stacked, np.concatenate([-r, np.zeros(2)]))[0]
    assert np.allclose(step.theta.numpy(), START.numpy() + delta, rtol=1e-10)


def test_levenberg_marquardt_never_raises_the_loss_and_finds_the_minimum() -> None:
    objective = rosenbrock()
    steps = iterate(LevenbergMarquardt(), objective, START, 60)
    losses = [float(objective.r(START).square().sum()), *(s.loss for s in steps)]
    assert all(b <= a for a, b in itertools.pairwise(losses))
    assert torch.allclose(steps[-1].theta, torch.ones(2, dtype=torch.float64), atol=1e-8)
    for s in steps:
        assert s.loss == pytest.approx(float(objective.r(s.theta).square().sum()), rel=1e-12)


def test_levenberg_marquardts_damping_follows_nielsen() -> None:
    objective, _, _, _ = linear()
    lm = LevenbergMarquardt(damping=0.3)
    lm.start(6, 10)
    step = lm.step(objective, torch.zeros(6, dtype=torch.float64))  # type: ignore[arg-type]
    # A linear model predicts exactly: the gain ratio is 1 and damping falls by 3.
    assert lm._lambda == pytest.approx(0.1)
    assert step.stop is None


def test_levenberg_marquardt_says_why_it_stopped_and_keeps_the_parameters() -> None:
    objective, _, _, solution = linear()
    steps = iterate(LevenbergMarquardt(), objective, solution, 50)
    assert "no damping of 12" in str(steps[-1].stop)
    assert torch.allclose(steps[-1].theta, solution, rtol=1e-10)
    lost = iterate(LevenbergMarquardt(), LeastSquares(lambda x: x * torch.nan), START, 3)[0]
    assert "not finite" in str(lost.stop)
    assert torch.equal(lost.theta, START)


def test_levenberg_marquardt_backs_off_from_losses_that_are_not_finite() -> None:
    barrier = LeastSquares(lambda x: torch.stack([torch.log(1 - x[0]) - 2.0, x[1]]))
    steps = iterate(LevenbergMarquardt(damping=1e-12), barrier, torch.tensor([0.9, 3.0], dtype=torch.float64), 60)
    assert steps[-1].loss < 1e-12


def test_levenberg_marquardt_copes_with_parameters_that_do_nothing() -> None:
    a = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    step = iterate(LevenbergMarquardt(), LeastSquares(lambda x: a @ x - 1), START, 20)[-1]
    assert float(step.theta[0]) == pytest.approx(0.6)
    assert float(step.theta[1]) == float(START[1])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_and_leaves_its_input_alone(name: str) -> None:
    objective, theta = rosenbrock(), START.clone()
    steps = iterate(OPTIMIZERS[name](), objective, theta, 200)
    assert torch.equal(theta, START)
    assert float(objective.r(steps[-1].theta).square().sum()) < 0.5 * float(objective.r(START).square().sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(lr=0.0), r"^optimizer\.lr=0\.0: expected a number above 0"),
        (lambda: Adam(lr=float("inf")), r"^optimizer\.lr=inf"),
        (lambda: Adam(beta1=1.0), r"^optimizer\.beta1=1\.0: expected a number from 0 to below 1"),
        (lambda: Adam(ramp_steps=-1), r"^optimizer\.ramp_steps=-1"),
        (lambda: Adam(weight_decay=-0.1), r"^optimizer\.weight_decay=-0\.1"),
        (lambda: Adam(weight_decay=float("nan")), r"^optimizer\.weight_decay=nan"),
        (lambda: Adam(decay="cosin"), r"^optimizer\.decay=cosin: unknown\. Did you mean 'cosine'\?"),
        (lambda: Lbfgs(memory=0), r"^optimizer\.memory=0: expected an integer of at least 1"),
        (lambda: Lbfgs(evaluations=0), r"^optimizer\.evaluations=0"),
        (lambda: LevenbergMarquardt(damping=0.0), r"^optimizer\.damping=0\.0: expected a number above 0"),
        (lambda: LevenbergMarquardt(damping=float("inf")), r"^optimizer\.damping=inf"),
        (lambda: LevenbergMarquardt(trials=0), r"^optimizer\.trials=0"),
    ],
)
def test_senseless_options_are_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
