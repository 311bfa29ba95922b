"""Optimisers on small problems with known answers, behind the protocol of the objective."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from support.minimisation import (
    START,
    LeastSquares,
    P,
    carried,
    damping_of,
    hold,
    iterate,
    linear,
    regression,
    rosenbrock,
)
from support.power_relus import change_of_basis
from support.problems import Wave, build
from torch import Tensor

from kanpinn.backbones import Backbone, Kan, Mlp, ReluKan
from kanpinn.backbones.relu_kan import map_splines
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.errors import UserError
from kanpinn.optimizers import OPTIMIZERS, Adam, GradientDescent, Lbfgs, LevenbergMarquardt, Relaxation
from kanpinn.optimizers.damped_step import NielsenDamping
from kanpinn.optimizers.first_order import FirstOrder
from kanpinn.optimizers.line_search import ARMIJO, CURVATURE, Trial, strong_wolfe
from kanpinn.splines.power_relu import relu_coefficients


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


def test_coarse_corrections_do_not_decay() -> None:
    objective = rosenbrock()
    corrects = rosenbrock()
    corrects.is_correction = True
    steps = []
    for one, decay in ((objective, 0.0), (corrects, 0.1), (objective, 0.1)):
        adam = Adam(lr=0.02, ramp_steps=0, decay="none", weight_decay=decay)
        adam.start(2, 3)
        steps.append(adam.step(one, START).theta)  # type: ignore[arg-type]
    assert torch.equal(steps[0], steps[1]) and not torch.equal(steps[0], steps[2])


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


def test_cyclic_rates_are_those_of_torch() -> None:
    for period, gamma in ((100, 0.9995), (7, 0.98), (2, 1.0)):
        leaf = torch.zeros(1, requires_grad=True)
        plain = torch.optim.SGD([leaf], lr=1.0)
        half = period / 2
        cyclic = torch.optim.lr_scheduler.CyclicLR(
            plain, base_lr=1e-4, max_lr=1e-2, step_size_up=half, mode="exp_range", gamma=gamma, cycle_momentum=False
        )  # type: ignore[arg-type]
        ours = Adam(lr=1e-2, lr_end=1e-4, ramp_steps=0, decay="cyclic", period=period, gamma=gamma)
        ours.start(1, 300)
        for step in range(300):
            assert ours.rate(step) == pytest.approx(cyclic.get_last_lr()[0], rel=1e-9), (period, step)
            plain.step()
            cyclic.step()
    # A ramp leads to the foot of the first cycle.
    ours = Adam(lr=1e-2, lr_end=1e-4, ramp_from=1e-5, ramp_steps=10, decay="cyclic")
    ours.start(1, 300)
    assert [ours.rate(k) for k in (0, 5, 10, 60)] == pytest.approx([1e-5, 5.5e-5, 1e-4, 1e-4 + 0.0099 * 0.9995**50])


def test_gradient_descent_takes_the_steps_of_torch() -> None:
    for momentum in (0.0, 0.9):
        leaf = START.clone().requires_grad_(True)
        torchs = torch.optim.SGD([leaf], lr=1e-4, momentum=momentum)
        ours = GradientDescent(lr=1e-4, ramp_steps=0, decay="none", momentum=momentum)
        ours.start(2, 40)
        objective, theta = rosenbrock(), START
        for _ in range(40):
            torchs.zero_grad()
            objective.r(leaf).square().sum().backward()
            torchs.step()
            theta = ours.step(objective, theta).theta
            assert torch.allclose(theta, leaf.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"variable_projection"}))
def test_after_numbers_that_are_not_finite_the_past_is_forgotten_and_steps_are_shorter(name: str) -> None:
    options = {"ramp_steps": 0, "decay": "none"} if issubclass(OPTIMIZERS[name], FirstOrder) else {}
    problem, theta, _ = build(Wave(), Kan(width=[2], degree=4, grid=2))
    optimizer = OPTIMIZERS[name](**options)
    first = iterate(optimizer, problem, theta, 3)[0].theta
    more_careful = optimizer.back_off()
    after = optimizer.step(problem, theta).theta
    if more_careful:
        assert 0 < float((after - theta).norm()) < 0.99 * float((first - theta).norm())
    else:
        assert torch.equal(after, first)


def test_levenberg_marquardt_goes_on_after_such_numbers_as_a_fresh_one_with_more_damping() -> None:
    problem, theta, _ = build(Wave(), Kan(width=[2], degree=4, grid=2))
    optimizer = LevenbergMarquardt()
    iterate(optimizer, problem, theta, 3)
    optimizer.back_off()
    (fresh,) = iterate(LevenbergMarquardt(damping=damping_of(optimizer)), problem, theta, 1)
    assert torch.equal(optimizer.step(problem, theta).theta, fresh.theta)


@pytest.mark.parametrize(
    ("name", "options", "numbers"),
    [
        # N = 5000 points, P = 100 parameters: rows of J held at a time, JᵀJ with a factor and a copy, pairs, an inverse
        ("levenberg_marquardt", {}, lambda jacobian: jacobian * 5000 * 100 + 3 * 100**2),
        ("levenberg_marquardt", {"solver": "qr"}, lambda _: 5000 * 100 + 3 * 100**2),
        ("levenberg_marquardt", {"sketch": "points"}, lambda _: 5000 * 100 + 3 * 100**2),
        ("levenberg_marquardt", {"memory_mib": 0.5}, lambda jacobian: jacobian * 655 * 100 + 3 * 100**2),
        ("levenberg_marquardt", {"memory_mib": 100}, lambda jacobian: jacobian * 5000 * 100 + 3 * 100**2),
        ("variable_projection", {}, lambda _: 5000 * 100 + 3 * 100**2),
        ("lbfgs", {"memory": 7}, lambda _: 2 * 7 * 100),
        ("ssbroyden", {}, lambda _: 100**2),
        ("adam", {}, lambda _: 0),
    ],
)
def test_numbers_held_are_those_of_the_matrices_at_work(name: str, options: dict, numbers) -> None:
    for jacobian in (False, True):
        assert OPTIMIZERS[name](**options).storage(5000, 100, jacobian=jacobian) == numbers(jacobian)


SPLINES = Kan(width=[2], degree=2, grid=3, base=True, bias=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_stays_where_the_loss_is_not_finite_or_nothing_leads_on(name: str) -> None:
    problem, theta = regression(Kan(width=[2], degree=3, grid=2))
    problem.r = lambda x: x.sum() * torch.full((3,), torch.nan, dtype=x.dtype)
    (lost,) = iterate(OPTIMIZERS[name](), problem, theta, 1)
    assert "not finite" in str(lost.stop)
    assert not math.isfinite(lost.loss)
    assert torch.equal(lost.theta, theta)
    problem.r = lambda x: 0 * x.sum() + torch.arange(3, dtype=x.dtype)
    (flat,) = iterate(OPTIMIZERS[name](), problem, theta, 1)
    assert (flat.loss, sum(flat.terms.values())) == (5.0, 5.0)
    assert torch.equal(flat.theta, theta)


PAIRINGS = list(itertools.product(("spline", "relu"), repeat=2))
RULES: dict[str, tuple[Callable[..., FirstOrder], Callable[..., torch.optim.Optimizer]]] = {
    "gradient_descent": (partial(GradientDescent, momentum=0.5), partial(torch.optim.SGD, lr=1.0, momentum=0.5)),
    "adam": (Adam, partial(torch.optim.Adam, lr=1.0)),
}


def dense_change(backbone: Backbone) -> Tensor:
    """The matrix that takes a row of spline parameters to the row of power-ReLU parameters: A for every edge."""
    blocks: list[Tensor] = []
    for layer, arrays in zip(backbone.layers, backbone.arrays(torch.zeros(backbone.size)), strict=True):
        for name, values in arrays.items():
            if name == "coefficients":
                assert isinstance(layer, SplineLayer)
                blocks += [change_of_basis(layer.spec.intervals, layer.spec.degree)] * (layer.inputs * layer.outputs)
            else:
                blocks.append(torch.eye(values.numel(), dtype=torch.float64))
    return torch.block_diag(*blocks)


@pytest.mark.parametrize(("gradient", "geometry"), PAIRINGS)
@pytest.mark.parametrize("rule", RULES)
def test_the_four_pairings_are_the_formulas_of_table_1(rule: str, gradient: str, geometry: str) -> None:
    objective, theta = regression(SPLINES)
    inverse = torch.linalg.inv(dense_change(objective.backbone))
    unit = torch.eye(len(theta), dtype=torch.float64)
    seen, moved = (inverse.T if gradient == "relu" else unit), (inverse if geometry == "relu" else unit)
    optimizer = RULES[rule][0](lr=0.03, ramp_steps=0, decay="none", gradient=gradient, geometry=geometry)
    optimizer.start(len(theta), 5)
    # torch's rule with rate 1 on a parameter of its own says by how much to move.
    own = torch.zeros_like(theta, requires_grad=True)
    torchs = RULES[rule][1]([own])
    expected = theta
    for _ in range(5):
        own.grad = objective.loss_and_gradient(expected)[1] @ seen
        before = own.detach().clone()
        torchs.step()
        expected = expected + 0.03 * ((own.detach() - before) @ moved)
        theta = optimizer.step(objective, theta).theta
        assert torch.allclose(theta, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("rule", RULES)
def test_relu_gradient_and_geometry_train_a_kan_like_the_same_rule_a_relu_kan(rule: str) -> None:
    kan, theta = regression(SPLINES)
    relu, converted = regression(ReluKan(**vars(SPLINES)))
    options = {"lr": 0.02, "ramp_steps": 2, "decay": "cosine", "weight_decay": 0.1}
    both = RULES[rule][0](gradient="relu", geometry="relu", **options)
    plain = RULES[rule][0](**options)
    both.start(len(theta), 12)
    plain.start(len(theta), 12)
    first = float(kan.r(theta).square().sum())
    for _ in range(12):
        theta, converted = both.step(kan, theta).theta, plain.step(relu, converted).theta
        expected = map_splines(kan.backbone, theta, relu_coefficients)
        assert torch.allclose(converted, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
    assert float(kan.r(theta).square().sum()) < first


def test_gradient_descent_in_power_relus_is_preconditioned_by_the_inverse_of_a_a_transposed() -> None:
    # One spline layer makes the loss a quadratic of its coefficients.
    objective, theta = regression(Kan(width=[], degree=3, grid=6))
    a = change_of_basis(6, 3)
    gradient = objective.loss_and_gradient(theta)[1]
    optimizer = GradientDescent(lr=0.1, ramp_steps=0, decay="none", gradient="relu", geometry="relu")
    optimizer.start(len(theta), 1)
    step = optimizer.step(objective, theta).theta - theta
    assert torch.allclose(step, -0.1 * torch.linalg.solve(a @ a.T, gradient), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("key", ["gradient", "geometry"])
def test_power_relu_options_are_refused_where_they_mean_nothing(key: str) -> None:
    for make in (Adam, GradientDescent):
        optimizer = make(**{key: "relu"})
        for options in (Mlp(width=[3]), ReluKan(width=[2]), Kan(width=[2], knots="cosine")):
            objective, theta = regression(options)
            message = rf"^optimizer\.{key}=relu: expected spline \(relu needs a network of B-splines on uniform knots"
            with pytest.raises(UserError, match=message):
                optimizer.check_backbone(objective.backbone)
            optimizer.start(len(theta), 3)
            with pytest.raises(UserError, match=message):
                optimizer.step(objective, theta)
            make().check_backbone(objective.backbone)
        optimizer.check_backbone(regression(SPLINES)[0].backbone)


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


@pytest.mark.parametrize("beyond", [1.0, math.inf])
def test_a_line_search_at_a_jump_of_the_loss_ends_beside_it(beyond: float) -> None:
    lengths: list[float] = []

    def fall(length: float) -> Trial:
        lengths.append(length)
        return Trial(length, -length if length < 0.3 else beyond, -1.0, torch.empty(0), {})

    found = strong_wolfe(fall, fall(0.0), 1.0, 5000)
    assert found is not None
    assert found.length == pytest.approx(0.3, rel=1e-12) and found.length < 0.3
    assert len(lengths) < 1000  # where no number is left between both sides of the jump


def test_a_line_search_meets_both_conditions_on_wavy_lines() -> None:
    """Sums of six waves on a parabola, 200 of them that fall at first; Nocedal and Wright, eq. 3.7."""
    generator, k, searched = np.random.default_rng(0), np.arange(1, 7), 0
    while searched < 200:
        heights, phases = generator.standard_normal(6) / (1 + k / 3), generator.uniform(0, 2 * np.pi, 6)
        tried: list[Trial] = []

        def wavy(t: float, a=heights, b=phases, tried=tried) -> Trial:
            loss, slope = 0.02 * t**2 + a @ np.sin(k * t + b), 0.04 * t + (a * k) @ np.cos(k * t + b)
            tried.append(Trial(t, float(loss), float(slope), torch.empty(0), {}))
            return tried[-1]

        if (origin := wavy(0.0)).slope >= 0:
            continue
        searched += 1
        found = strong_wolfe(wavy, origin, 1.0, 40)
        assert found is not None and len(tried) <= 12
        assert found.loss <= origin.loss + ARMIJO * found.length * origin.slope
        assert abs(found.slope) <= CURVATURE * abs(origin.slope)


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


def test_the_step_with_momentum_is_the_dense_solution_drawn_towards_the_last_one() -> None:
    objective, damping, momentum = rosenbrock(), 0.05, 0.7
    lm = LevenbergMarquardt(damping=damping, momentum=momentum)
    first, second = iterate(lm, objective, START, 2)
    before = copy.deepcopy(lm)
    before.start(2, 10)
    before.step(objective, START)  # type: ignore[arg-type]
    j, r = torch.func.jacrev(objective.r)(first.theta).numpy(), objective.r(first.theta).numpy()
    shift = damping_of(before) * np.mean(np.sum(j**2, axis=0))
    # [J; √shift I] δ = [−r; √shift μ p]
    last = (first.theta - START).numpy()
    stacked = np.vstack([j, np.sqrt(shift) * np.eye(2)])
    delta = scipy.linalg.lstsq(stacked, np.concatenate([-r, np.sqrt(shift) * momentum * last]))[0]
    assert np.allclose(second.theta.numpy(), first.theta.numpy() + delta, rtol=1e-10)
    # The damping that follows knows what the quadratic model predicted.
    fall = first.loss - float(np.sum((r + j @ delta) ** 2))
    ratio = (first.loss - second.loss) / fall
    assert damping_of(lm) == pytest.approx(damping_of(before) * max(1 / 3, 1 - (2 * ratio - 1) ** 3), rel=1e-9)


def test_momentum_takes_the_directions_that_damping_slows_down_faster_by_one_over_one_minus_mu() -> None:
    objective, a, _, solution = linear()
    direction = torch.linalg.svd(a)[2][-1]  # the residual hardly sees it
    rates = {}
    for momentum in (0.0, 0.5):
        lm = LevenbergMarquardt(momentum=momentum)
        lm.start(6, 400)
        distances, theta = [], solution + direction
        for _ in range(400):
            hold(lm, damping={"first": 1.0, "value": 1.0, "factor": 2.0})  # where steps are short
            theta = lm.step(objective, theta).theta  # type: ignore[arg-type]
            distances.append(abs(float((theta - solution) @ direction)))
        rates[momentum] = math.log(distances[100] / distances[-1])
    assert rates[0.5] == pytest.approx(rates[0.0] / (1 - 0.5), rel=0.02)


def test_a_step_that_momentum_spoils_is_taken_without_it() -> None:
    objective = rosenbrock()
    plain, spoiled = LevenbergMarquardt(momentum=0.0), LevenbergMarquardt(momentum=0.99)
    for lm in (plain, spoiled):
        lm.start(2, 10)
    hold(spoiled, last=np.full(2, 1e6))
    expected, found = (lm.step(objective, START) for lm in (plain, spoiled))  # type: ignore[arg-type]
    assert torch.equal(found.theta, expected.theta)


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
    assert damping_of(lm) == pytest.approx(0.1)
    assert step.stop is None


@pytest.mark.parametrize(("ratio", "factor"), [(0.1, 1.512), (0.5, 1.0), (0.6, 0.992), (0.75, 0.875), (1.0, 1 / 3)])
def test_nielsens_factor_is_one_minus_a_cube(ratio: float, factor: float) -> None:
    assert NielsenDamping(1.0).shrink(ratio) == pytest.approx(factor, rel=1e-12)


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
    # Its residuals 10 (y − x²), 1 − x are linear in y, which variable projection eliminates.
    objective.backbone = SimpleNamespace(last_layer=slice(1, 2))
    # Plain gradient descent needs a rate below 2 / (largest curvature), here about 1/1300.
    options = {"lr": 2e-4} if name == "gradient_descent" else {}
    steps = iterate(OPTIMIZERS[name](**options), objective, theta, 200)
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
        (lambda: Adam(epsilon=0.0), r"^optimizer\.epsilon=0\.0: expected a number above 0"),
        (lambda: Adam(period=1), r"^optimizer\.period=1: expected a whole number of at least 2"),
        (lambda: Adam(gamma=1.5), r"^optimizer\.gamma=1\.5: expected a number above 0 and up to 1"),
        (lambda: Adam(gradient="rely"), r"^optimizer\.gradient=rely: unknown\. Did you mean 'relu'\?"),
        (lambda: GradientDescent(geometry="splin"), r"^optimizer\.geometry=splin: unknown\. Did you mean 'spline'\?"),
        (lambda: GradientDescent(momentum=1.0), r"^optimizer\.momentum=1\.0: expected a number from 0 to below 1"),
        (lambda: Lbfgs(memory=0), r"^optimizer\.memory=0: expected a whole number of at least 1"),
        (lambda: Lbfgs(evaluations=0), r"^optimizer\.evaluations=0"),
        (lambda: LevenbergMarquardt(damping=0.0), r"^optimizer\.damping=0\.0: expected a number above 0"),
        (lambda: LevenbergMarquardt(damping=float("inf")), r"^optimizer\.damping=inf"),
        (lambda: LevenbergMarquardt(trials=0), r"^optimizer\.trials=0"),
        (lambda: LevenbergMarquardt(momentum=1.0), r"^optimizer\.momentum=1\.0: expected a number from 0 to below 1"),
    ],
)
def test_senseless_options_are_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


R = torch.linalg.pinv(P)  # any left inverse: R P = 1


def test_lbfgs_pairs_keep_their_curvature_under_prolongation() -> None:
    optimizer = Lbfgs()
    iterate(optimizer, rosenbrock(), START, 6)
    fine = carried(optimizer, lambda s: P @ s, lambda y: R.T @ y)
    before, after = optimizer.state(), fine.state()
    (steps, changes), (fine_steps, fine_changes) = before["pairs"], after["pairs"]
    assert len(fine_steps) == len(steps) > 2
    assert torch.allclose(fine_steps, steps @ P.T, rtol=1e-14) and torch.allclose(fine_changes, changes @ R, rtol=1e-14)
    assert after["inverse_curvatures"] == pytest.approx(before["inverse_curvatures"], rel=1e-12)


def test_adam_moments_and_damping_are_carried() -> None:
    adam = Adam(lr=0.01)
    iterate(adam, rosenbrock(), START, 5)
    fine = carried(adam, lambda s: P @ s, lambda y: 0.5 * (P @ y))
    before, after = adam.state()["moments"], fine.state()["moments"]
    assert torch.equal(after["m"], 0.5 * (P @ before["m"]))
    assert torch.allclose(after["v"].sqrt(), 0.5 * (P @ before["v"].sqrt()))
    assert after["taken"] == 5
    lm = LevenbergMarquardt()
    iterate(lm, rosenbrock(), START, 5)
    assert damping_of(lm) != lm.damping
    assert damping_of(carried(lm, lambda s: s, lambda y: y)) == damping_of(lm)
    # The last step is a step, not a gradient.
    assert torch.equal(carried(lm, lambda s: P @ s, lambda y: R.T @ y).state()["last"], P @ lm.state()["last"])


def test_momentum_of_another_level_is_moved_as_a_gradient_and_none_stays_none() -> None:
    first, second = GradientDescent(momentum=0.5), GradientDescent(momentum=0.5)
    for one in (first, second):
        one.start(2, 5)
    second.carry(first, lambda v: 10 * v, lambda g: 2 * g)
    assert second.state()["moments"] == {"m": None}
    assert torch.equal(first.direction(torch.tensor([1.0, 3.0])), torch.tensor([1.0, 3.0]))
    second.carry(first, lambda v: 10 * v, lambda g: 2 * g)
    assert torch.equal(second.direction(torch.tensor([0.0, 1.0])), torch.tensor([1.0, 4.0]))  # (1, 3)·2/2 + (0, 1)


def test_carrying_to_the_same_level_goes_on_as_if_never_stopped() -> None:
    for optimizer in (Adam(lr=0.01, ramp_steps=0, decay="none"), Lbfgs(), LevenbergMarquardt()):
        whole = iterate(copy.deepcopy(optimizer), rosenbrock(), START, 8)
        first = copy.deepcopy(optimizer)
        middle = iterate(first, rosenbrock(), START, 4)[-1].theta
        second = carried(first, lambda s: s, lambda y: y)
        for _ in range(4):
            middle = second.step(rosenbrock(), middle).theta
        assert torch.allclose(middle, whole[-1].theta, rtol=1e-12)


def test_inner_iterations_are_steps_without_a_report() -> None:
    single = iterate(Lbfgs(), rosenbrock(), START, 12)
    several = iterate(Lbfgs(iterations=4), rosenbrock(), START, 3)
    assert [s.loss for s in several] == [single[k].loss for k in (3, 7, 11)]


def test_without_a_line_search_every_direction_is_taken_whole() -> None:
    a = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    objective = LeastSquares(lambda x: a @ x)
    theta = torch.tensor([1.0, 1.0], dtype=torch.float64)
    (step,) = iterate(Lbfgs(line_search="none"), objective, theta, 1)
    g = 2 * a.T @ (a @ theta)
    assert torch.allclose(step.theta, theta - g / g.norm())
    steep = LeastSquares(lambda x: 100 * x)
    (step,) = iterate(Lbfgs(line_search="none"), steep, 0.1 * theta, 1)
    assert step.loss > steep.loss(0.1 * theta)[0]  # even uphill


@pytest.mark.parametrize(("damping", "sweeps"), [(1e-12, 1), (0.3, 2)])
@pytest.mark.parametrize("smoother", ["jacobi", "gauss_seidel", "schwarz"])
def test_relaxation_is_the_classical_sweep(smoother: str, damping: float, sweeps: int) -> None:
    objective, a, b, _ = linear(condition=3.0)
    theta = torch.linspace(-1, 1, 6, dtype=torch.float64)
    matrix, residual = a.T @ a, a.T @ (b - a @ theta)
    matrix.diagonal().add_(damping * float(matrix.diagonal().mean()))
    expected = torch.zeros_like(theta)
    for _ in range(sweeps):
        left = residual - matrix @ expected
        if smoother == "jacobi":
            d = matrix.diagonal()
            largest = scipy.linalg.eigh(matrix, torch.diag(d), eigvals_only=True)[-1]
            expected += 4 / (3 * largest) * left / d
        elif smoother == "gauss_seidel":
            expected += torch.from_numpy(scipy.linalg.solve_triangular(matrix.tril().numpy(), left.numpy(), lower=True))
        else:  # blocks of 4 overlapping by 2
            for w in (slice(0, 4), slice(2, 6)):
                expected[w] += torch.linalg.solve(matrix[w, w], (residual - matrix @ expected)[w])
    (step,) = iterate(Relaxation(smoother=smoother, block=4, damping=damping, sweeps=sweeps), objective, theta, 1)
    assert torch.allclose(step.theta - theta, expected, rtol=1e-6)


def test_relaxation_refuses_a_gradient_that_is_not_finite() -> None:
    objective, theta = LeastSquares(lambda x: torch.cat([x, torch.zeros_like(x)]) + 1), torch.zeros(2)
    found = objective.linearize(theta)
    objective.linearize = lambda _: replace(found, gradient=found.gradient * torch.nan)
    (step,) = iterate(Relaxation(), objective, theta, 1)
    assert "not finite" in str(step.stop)
    assert torch.equal(step.theta, theta)
