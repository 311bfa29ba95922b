"""Coarse problems agree with the fine one to first order, their corrections never raise the loss, and linear problems
converge as two-grid theory says."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support.hierarchies import hierarchy
from torch import Tensor

from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.linearization import Dense
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.least_squares.wrapped import SubspaceProblem
from kanpinn.multilevel.correction import ARMIJO, TRIALS, FasProblem, correct
from kanpinn.multilevel.hierarchy import levels_to
from kanpinn.optimizers import Adam, Lbfgs, LevenbergMarquardt, Relaxation
from kanpinn.pde import Condition, Point, Problem
from kanpinn.state import join, split

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import two_grid

KINDS = ("fas", "galerkin")


def directional(problem: LeastSquares, theta: Tensor, direction: Tensor, h: float = 1e-5) -> float:
    """The slope of the loss by central differences."""
    up, down = (problem.loss(theta + sign * h * direction)[0] for sign in (1, -1))
    return (up - down) / (2 * h)


def test_the_bound_holds_the_linear_term_to_its_share() -> None:
    levels = hierarchy()
    levels.descend("fas", 0.01)
    problem = levels.problem
    assert isinstance(problem, FasProblem)
    farthest = problem.added.tau / (2 * problem.added.mu)  # the minimum of −τᵀd + μ‖d‖²
    assert float(farthest.norm()) == pytest.approx(0.01 * float(problem.added.start.norm()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_coarse_problem_begins_with_the_fine_gradient_restricted(kind: str) -> None:
    levels = hierarchy(level=2)
    fine, theta = levels.problem, levels.theta
    for _ in range(2):  # also where the fine problem is a coarse one itself
        transfer = levels.transfer(levels.level - 1)
        expected = transfer.prolong_transpose(fine.loss_and_gradient(theta)[1])
        levels.descend(kind, 0.1)
        gradient = levels.problem.loss_and_gradient(levels.theta)[1]
        assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-12 * float(expected.abs().max()))
        fine, theta = levels.problem, levels.theta


@pytest.mark.parametrize("kind", KINDS)
def test_loss_gradient_and_linearization_of_a_coarse_problem_belong_together(kind: str) -> None:
    levels = hierarchy()
    levels.descend(kind, 0.1)
    generator = torch.Generator().manual_seed(1)
    theta = levels.theta + 0.1 * torch.randn(len(levels.theta), generator=generator, dtype=torch.float64)
    direction = torch.randn(len(theta), generator=generator, dtype=torch.float64)
    loss, gradient, terms = levels.problem.loss_and_gradient(theta)
    assert levels.problem.loss(theta)[0] == pytest.approx(loss, rel=1e-12)
    assert float(gradient @ direction) == pytest.approx(directional(levels.problem, theta, direction), rel=1e-6)
    found = levels.problem.linearize(theta).dense()
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert torch.allclose(2 * found.gradient, gradient, rtol=1e-9, atol=1e-11)
    assert sum(found.terms.values()) == pytest.approx(sum(terms.values()), rel=1e-12)


def test_the_galerkin_system_is_the_projected_one() -> None:
    levels = hierarchy()
    j = levels.problem.linearize(levels.theta).dense().jacobian
    identity = torch.eye(levels.backbones[0].size, dtype=torch.float64)
    p = levels.transfer(0).prolong(identity).T  # [P_fine, P_coarse]
    levels.descend("galerkin")
    matrix, half, _, _ = levels.problem.linearize(levels.theta).gram()
    assert torch.allclose(matrix, p.T @ (j.T @ j) @ p, rtol=1e-9, atol=1e-10)
    assert isinstance(levels.problem, SubspaceProblem)
    assert levels.problem.network(levels.theta)[0].backbone is levels.backbones[1]
    assert half.shape == (levels.backbones[0].size,)


@pytest.mark.parametrize("optimizer", [LevenbergMarquardt(), Lbfgs(), Adam()], ids=lambda o: type(o).__name__)
def test_a_correction_of_the_last_layer_leaves_the_others_alone(optimizer) -> None:
    levels = hierarchy()
    before, loss = levels.theta, levels.problem.loss(levels.theta)[0]
    levels.descend("galerkin", layers="last")
    optimizer.start(levels.problem.size, 5)
    for _ in range(5):
        levels.theta = optimizer.step(levels.problem, levels.theta).theta
    levels.ascend()
    last = levels.backbone.last_layer
    changed = levels.theta != before
    assert changed[last].any() and not changed[: last.start].any()
    assert levels.problem.loss(levels.theta)[0] < loss


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "optimizer", [LevenbergMarquardt(), Lbfgs(), Adam(lr=0.1), Relaxation()], ids=lambda o: type(o).__name__
)
@pytest.mark.parametrize("seed", range(3))
def test_a_coarse_correction_never_raises_the_loss(kind: str, optimizer, seed: int) -> None:
    levels = hierarchy(level=2, seed=seed)
    path = [1, 0, 1, 2, 1, 0, 1, 2]
    lengths = []
    for target in path:
        if target < levels.level:
            levels.descend(kind, 0.1)
            optimizer.start(levels.problem.size, 8)
            for _ in range(8):
                levels.theta = optimizer.step(levels.problem, levels.theta).theta
        else:
            waiting = levels.suspended[-1]
            before = waiting.problem.loss(waiting.theta)[0]
            found = levels.ascend()
            assert levels.problem.loss(levels.theta)[0] <= before
            assert (found.before, found.after) == (pytest.approx(before), levels.problem.loss(levels.theta)[0])
            lengths.append(found.length)
    assert levels.level == 2 and not levels.suspended
    assert max(lengths) > 0  # refusing everything would not be hard


@dataclass(frozen=True)
class Inconsistent(Problem):
    """u' = cos 3x, u(-1) = 0: linear, and no spline solves it, so that the minimum has a residual."""

    domain = Box(x=(-1, 1))
    derivatives = ("x",)

    def residual(self, p: Point) -> Tensor:
        return p.u_x - torch.cos(3 * p.x)

    def conditions(self) -> list[Condition]:
        return [Condition("boundary", "x-", lambda p: p.u)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_fine_solution_is_left_alone(kind: str) -> None:
    """The fixed point of the full approximation scheme, though the coarse network alone has its minimum elsewhere."""
    levels = two_grid.hierarchy(Inconsistent(), 3, 8)
    two_grid.relax(levels, LevenbergMarquardt(damping=1e-14), 2)
    fine, loss = levels.theta, levels.problem.loss(levels.theta)[0]
    assert loss > 1e-8
    levels.descend(kind, 0.1)
    start = levels.theta
    two_grid.relax(levels, LevenbergMarquardt(damping=1e-14), 2)
    assert torch.allclose(levels.theta, start, atol=1e-8)
    if isinstance(levels.problem, FasProblem):
        own = levels.problem.inner.loss_and_gradient(start)[1]
        assert float(own.norm()) > 1e-6  # what the linear term holds up
    levels.ascend()
    assert torch.allclose(levels.theta, fine, atol=1e-8)


def test_the_coarse_solution_of_a_linear_problem_is_the_minimum_over_the_coarse_space() -> None:
    levels = two_grid.hierarchy(two_grid.SecondOrder(), 3, 16)
    fine, theta = levels.problem, levels.theta
    levels.descend("galerkin")
    two_grid.relax(levels, LevenbergMarquardt(damping=1e-14), 1)
    levels.ascend()
    # Galerkin orthogonality: what is left has no gradient along the coarse space.
    transfer = levels.transfer(0)
    left = transfer.prolong_transpose(fine.loss_and_gradient(levels.theta)[1])
    before = transfer.prolong_transpose(fine.loss_and_gradient(theta)[1])
    assert float(left.norm()) < 1e-8 * float(before.norm())


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("smoother", ["gauss_seidel", "schwarz, blocks of 4"])
def test_two_grid_factors_are_below_a_half_and_do_not_depend_on_h(degree: int, smoother: str) -> None:
    chosen = two_grid.SMOOTHERS[smoother]
    factors = [two_grid.factor(two_grid.FirstOrder(), degree, n, chosen, 20) for n in (16, 64, 256)]
    assert max(factors) < 0.5
    assert max(factors) < 1.2 * min(factors)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_full_approximation_scheme_is_the_galerkin_one_where_all_is_linear(degree: int) -> None:
    """Step by step: a coarse network's own equations are the projected ones there, and τ makes up for what R drops."""
    thetas = []
    for kind in KINDS:
        levels = two_grid.hierarchy(Inconsistent(), degree, 32)
        for _ in range(3):
            two_grid.relax(levels, Relaxation(), 1)
            levels.descend(kind)
            two_grid.relax(levels, LevenbergMarquardt(damping=1e-14), 1)
            levels.ascend()
        thetas.append(levels.theta)
    assert torch.allclose(thetas[0], thetas[1], rtol=0, atol=1e-7 * float(thetas[1].abs().max()))


def test_damped_jacobi_has_the_textbook_factor() -> None:
    """-u'' with linear elements: ω = 2/3 shrinks the upper half by 1/3 per sweep, the two-grid factor is (1/3)²."""
    found = two_grid.factor(two_grid.FirstOrder(), 1, 64, two_grid.SMOOTHERS["jacobi"])
    assert found == pytest.approx(1 / 9, rel=0.05)


def test_smoothing_alone_does_depend_on_h() -> None:
    """What the coarse level is for: without it the factor of a sweep tends to 1."""
    smoother = Relaxation()
    for n, least in ((16, 0.9), (64, 0.98)):
        levels = two_grid.hierarchy(two_grid.FirstOrder(), 2, n)
        two_grid.relax(levels, smoother, 60)
        before = levels.problem.loss(levels.theta)[0]
        two_grid.relax(levels, smoother, 1)
        assert (levels.problem.loss(levels.theta)[0] / before) ** 0.5 > least


class Curve(LeastSquares):
    """A loss along a line, for the line search."""

    points, version = torch.empty(0, 1), 0

    def __init__(self, f) -> None:
        self.f = f

    def network(self, theta: Tensor):
        raise NotImplementedError

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        return float(self.f(theta[0])), {}

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        gradient, value = torch.func.grad_and_value(lambda x: self.f(x[0]))(theta)
        return float(value), gradient, {}

    def linearize(self, theta: Tensor) -> Dense:
        raise NotImplementedError


ONE = torch.ones(1, dtype=torch.float64)


def test_the_line_search_takes_the_full_step_where_that_suffices() -> None:
    found = correct(Curve(lambda x: (x - 2) ** 2), 0 * ONE, ONE)
    assert (found.length, found.before, found.after) == (1.0, 4.0, 1.0)


def test_the_line_search_shortens_an_overshooting_step_by_the_parabola() -> None:
    found = correct(Curve(lambda x: (x - 0.2) ** 2), 0 * ONE, ONE)
    assert found.length == pytest.approx(0.2)
    assert found.after <= found.before + ARMIJO * found.length * -0.4


@pytest.mark.parametrize("f", [lambda x: x**2 + x, lambda x: torch.where(x > 0, torch.nan * x, x)])
def test_the_line_search_refuses_what_does_not_help(f) -> None:
    theta = 0 * ONE
    found = correct(Curve(f), theta, ONE)
    assert found.length == 0.0 and found.theta is theta and found.after == found.before


def test_a_line_search_survives_a_loss_that_is_not_finite_at_first() -> None:
    found = correct(Curve(lambda x: torch.where(x > 0.3, torch.inf, (x - 0.1) ** 2)), 0 * ONE, ONE)
    assert 0 < found.length <= 0.3


def test_the_line_search_asks_for_a_sufficient_decrease() -> None:
    for less, length in ((0.5 * ARMIJO, 0.5), (2 * ARMIJO, 1.0)):  # f(1) = −less, its slope at 0 is −1
        found = correct(Curve(lambda x, less=less: (1 - less) * x**2 - x), 0 * ONE, ONE)
        assert found.length == length
    # Where the direction ascends, any decrease will do, however small.
    found = correct(Curve(lambda x: x - (1 + 1e-9) * x**2), 0 * ONE, ONE)
    assert found.length == 1.0


def test_the_line_search_tries_a_dozen_lengths_between_a_tenth_and_a_half_of_the_one_before() -> None:
    for last, length in ((TRIALS - 1, 0.5 ** (TRIALS - 1)), (TRIALS, 0.0)):
        found = correct(Curve(lambda x, last=last: torch.where(x > 0.5**last, torch.inf, -x)), 0 * ONE, ONE)
        assert found.length == length
    steep = Curve(lambda x: (x - 1e-4) ** 2 * 1e4)
    assert correct(steep, 0 * ONE, ONE).length == pytest.approx(1e-4)
    tried: list[float] = []
    plain = steep.loss
    steep.loss = lambda theta: tried.append(float(theta[0])) or plain(theta)  # type: ignore[method-assign]
    correct(steep, 0 * ONE, ONE)
    assert tried == pytest.approx([1.0, 0.1, 0.01, 1e-3, 1e-4])


@pytest.mark.parametrize("f", [lambda x: x**2 + 0.5 * x, lambda x: x**2, lambda x: 0 * x])
def test_where_the_direction_does_not_descend_lengths_are_halved_and_an_equal_loss_is_refused(f) -> None:
    curve, tried = Curve(f), []
    plain = curve.loss
    curve.loss = lambda theta: tried.append(float(theta[0])) or plain(theta)  # type: ignore[method-assign]
    assert correct(curve, 0 * ONE, ONE).length == 0.0
    assert tried == [0.5**k for k in range(TRIALS)]


def test_nothing_is_tried_where_the_slope_is_no_number() -> None:
    curve, tried = Curve(lambda x: -x), []
    curve.loss = lambda theta: tried.append(theta) or (-1.0, {})  # type: ignore[method-assign]
    curve.loss_and_gradient = lambda theta: (0.0, torch.nan * theta, {})  # type: ignore[method-assign]
    assert correct(curve, ONE, ONE).length == 0.0 and not tried


def test_the_parabola_goes_through_a_step_refused_before() -> None:
    # Halved where the loss is not finite; from there the parabola through both losses and the slope is the loss itself.
    found = correct(Curve(lambda x: torch.where(x > 0.9, torch.inf, (x - 0.07) ** 2)), 0 * ONE, ONE)
    assert found.length == pytest.approx(0.07, rel=1e-12)
    assert (found.before, found.after) == (pytest.approx(0.0049), pytest.approx(0.0, abs=1e-12))


@pytest.mark.parametrize(("kind", "down"), list(itertools.product(KINDS, (0, 1, 2))))
def test_a_hierarchy_goes_on_from_its_state_wherever_it_stands(kind: str, down: int) -> None:
    levels, other = hierarchy(level=2), hierarchy(level=0, seed=5)
    for k in range(down):
        levels.descend(kind, layers="last" if kind == "galerkin" and k else "all")
    other.load_state(join(*split(levels.state(), "")), [], torch.device("cpu"))
    assert other.level == levels.level
    assert torch.equal(other.theta, levels.theta)
    change = torch.from_numpy(np.random.default_rng(1).standard_normal(levels.problem.size)) * 1e-3
    for one in (levels, other):
        one.theta = one.theta + change
    for _ in range(down + 1):
        (loss, gradient, _), (known, expected, _) = (h.problem.loss_and_gradient(h.theta) for h in (other, levels))
        assert loss == known
        assert torch.equal(gradient, expected)
        if levels.suspended:
            ours, theirs = levels.ascend(), other.ascend()
            assert (ours.length, ours.after) == (theirs.length, theirs.after)
            assert torch.equal(ours.theta, theirs.theta)
    assert not other.suspended


def test_the_consistency_term_carries_the_fine_level() -> None:
    """Without τ the coarse network would be drawn to its own minimum, which is not where the fine one wants to go."""
    levels = hierarchy()
    theta = levels.theta
    levels.descend("fas")
    problem = levels.problem
    assert isinstance(problem, FasProblem)
    assert float(problem.added.tau.norm()) > 1e-3  # the projection of random fine splines loses what coarse ones lack
    direction = -problem.loss_and_gradient(levels.theta)[1]
    fine = levels.suspended[-1].problem
    slopes = [
        directional(problem, levels.theta, direction, 1e-6),
        directional(fine, theta, levels.transfer(0).prolong(direction), 1e-6),
    ]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-4) and slopes[0] < 0


def test_a_coarse_problem_on_other_rows_has_the_same_linear_term() -> None:
    levels = hierarchy()
    levels.descend("fas", 0.1)
    problem, theta = levels.problem, levels.theta + 0.1
    assert isinstance(problem, FasProblem)
    inner, line = problem.inner, Curve(lambda x: 3 * x)
    other = problem.rebased(lambda found: line if found is inner else found)
    assert isinstance(other, FasProblem) and other is not problem
    assert (other.inner, problem.inner, other.added) == (line, inner, problem.added)
    assert other.loss(theta)[0] == pytest.approx(3 * float(theta[0]) + problem.added.loss(theta)[0])
    assert list(problem.parts(None)) == [problem]
    *rows, added = problem.parts(7)
    assert added is problem.added and len(rows) == len(list(inner.parts(7))) > 1


@pytest.mark.parametrize(("kind", "down"), list(itertools.product(KINDS, (1, 2))))
def test_points_are_drawn_where_a_level_has_none(kind: str, down: int) -> None:
    levels = hierarchy(level=2)
    levels.begin(2, lambda b: b.initial(np.random.default_rng(0)))
    for _ in range(down):
        levels.descend(kind, 0.1)
    assert len(levels.problem.points) == 80


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("level",), -1),
        (("level",), 1),
        (("levels",), 2),
        (("suspended",), []),
        (("problems",), []),
        (("theta",), np.zeros(2)),
        (("suspended", 0, "theta"), np.zeros(2)),
        (("suspended", 1, "theta"), np.zeros(2)),
        (("suspended", 0, "start"), np.zeros(2)),
        (("suspended", 1, "start"), np.zeros(2)),
        (("theta",), np.float32),
    ],
    ids=str,
)
def test_a_state_of_a_hierarchy_that_does_not_fit_is_refused(kind: str, place: tuple, value) -> None:
    levels = hierarchy(level=2)
    for _ in range(2):
        levels.descend(kind)
    state = join(*split(levels.state(), ""))
    other = hierarchy(level=0, seed=5)
    other.load_state(state, [], torch.device("cpu"))
    assert (other.level, len(other.suspended), len(other.backbones)) == (0, 2, 3)
    part = state
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = part[place[-1]].astype(np.float32) if value is np.float32 else value
    with pytest.raises((ValueError, IndexError, LookupError, RuntimeError)):
        hierarchy(level=0, seed=5).load_state(state, [], torch.device("cpu"))


def test_a_level_is_gone_up_to_once_and_levels_of_others_are_found_again() -> None:
    levels = hierarchy(level=0)
    theta, points = levels.theta, torch.rand(9, 2, dtype=torch.float64)
    for level in (1, 2):
        coarse, before = levels.backbone, levels.theta
        levels.refine()
        assert levels.level == level == levels.backbone.level and len(levels.backbones) == level + 1
        space = JetSpace(("x", "t"), ())
        assert torch.allclose(
            levels.backbone.forward(levels.theta, points, space).data, coarse.forward(before, points, space).data
        )
        assert levels.problem.backbone is levels.backbone
    assert [one.level for one in levels_to(levels.backbone)] == [0, 1, 2]
    assert levels_to(levels.backbone)[-1] is levels.backbone and levels_to(levels.backbones[0]) == levels.backbones[:1]
    levels.begin(0, lambda backbone: theta[: backbone.size])
    levels.refine()  # to one that is there
    assert levels.level == 1 and len(levels.backbones) == 3 and levels.backbone.level == 1
    levels.begin(1, lambda backbone: theta.new_zeros(backbone.size))
    assert levels.level == 1 and len(levels.theta) == levels.backbones[1].size and len(levels.backbones) == 3
