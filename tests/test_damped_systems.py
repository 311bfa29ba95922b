"""Factorisations, parts and sketches of the Gauss–Newton system against dense oracles; damping rules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from support.hierarchies import hierarchy
from support.minimisation import START, iterate, linear, rosenbrock
from support.networks import WIDE
from support.problems import CASES, NONE, System, build
from torch import Tensor

from kanpinn import solve
from kanpinn.backbones import Backbone
from kanpinn.errors import UserError
from kanpinn.least_squares import points as points_room
from kanpinn.least_squares.linearization import Dense
from kanpinn.least_squares.objective import LeastSquares as Protocol
from kanpinn.least_squares.objective import Objective, total_loss
from kanpinn.least_squares.weighting import ResidualAttention
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.optimizers import levenberg_marquardt as levenberg_marquardt_room
from kanpinn.optimizers.base import Step
from kanpinn.optimizers.damped_step import NielsenDamping, TargetRatioDamping
from kanpinn.optimizers.damped_systems import SOLVERS
from kanpinn.optimizers.levenberg_marquardt import count_sketch, sample_points


def case(rows: int, size: int, *, linear_term: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """J, r, the gradient of a linear term, and v of a random system."""
    generator = np.random.default_rng(seed)
    j, r, h, v = (torch.from_numpy(generator.standard_normal(s)) for s in ((rows, size), rows, size, size))
    return j, r, h if linear_term else None, v


def parts(j: Tensor, r: Tensor, h: Tensor | None, count: int) -> Iterator[Dense]:
    """The linearisation in `count` parts; the linear term goes with the first."""
    for k, (rows, values) in enumerate(zip(j.tensor_split(count), r.tensor_split(count), strict=True)):
        own = h if k == 0 else None
        gradient = rows.T @ values + (0 if own is None else own)
        loss = float(values.square().sum())
        yield Dense(rows, gradient, loss, {"all": loss}, values, own)


def stacked(j: Tensor, r: Tensor, h: Tensor | None, shift: float, v: Tensor | None) -> np.ndarray:
    """The minimiser of ‖r + J δ‖² + 2 hᵀδ + s ‖δ − v‖², by NumPy's SVD-based least squares."""
    below = torch.zeros_like(j[0]) if v is None else v
    below = below if h is None else below - h / shift
    matrix = np.vstack([j.numpy(), math.sqrt(shift) * np.eye(j.shape[1])])
    return np.linalg.lstsq(matrix, np.concatenate([-r.numpy(), math.sqrt(shift) * below.numpy()]), rcond=None)[0]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(30, 7), (5, 7)], ids=["tall", "wide"])
@pytest.mark.parametrize("linear_term", [False, True], ids=["squares", "linear term"])
def test_every_solver_finds_the_dense_solution_for_every_damping(
    solver: str, shape: tuple[int, int], linear_term: bool
) -> None:
    j, r, h, v = case(*shape, linear_term=linear_term)
    for count in (1, 3):
        system = SOLVERS[solver](parts(j, r, h, count))
        assert system.mean() == pytest.approx(float(j.square().sum(0).mean()), rel=1e-13)
        assert system.loss == pytest.approx(float(r.square().sum()), rel=1e-13)
        assert system.terms == pytest.approx({"all": system.loss})
        for shift, toward in itertools.product((1e-3, 1.0, 50.0), (None, v)):
            right = -system.gradient if toward is None else -system.gradient + shift * toward
            found = system.solve(shift, right, toward)
            assert found is not None
            expected = stacked(j, r, h, shift, toward)
            assert np.allclose(found.numpy(), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def graded(condition: float) -> tuple[Tensor, Tensor]:
    """J `[20, 8]` with singular values from 1 down to 1/condition, and r in the range of J to 1e-3."""
    generator = np.random.default_rng(3)
    u = np.linalg.qr(generator.standard_normal((20, 8)))[0]
    w = np.linalg.qr(generator.standard_normal((8, 8)))[0]
    j = torch.from_numpy(u * np.geomspace(1, 1 / condition, 8) @ w.T)
    return j, j @ torch.from_numpy(generator.standard_normal(8)) + 1e-3 * torch.from_numpy(
        generator.standard_normal(20)
    )


def exact(j: Tensor, r: Tensor, shift: float) -> np.ndarray:
    """−(JᵀJ + s I)⁻¹Jᵀr in 60 digits."""
    with mpmath.workdps(60):
        matrix, right = mpmath.matrix(j.tolist()), mpmath.matrix(r.tolist())
        normal = matrix.T * matrix + mpmath.mpf(shift) * mpmath.eye(j.shape[1])
        return np.array([float(x) for x in mpmath.lu_solve(normal, -(matrix.T * right))])


def test_factorisations_of_the_jacobian_do_not_square_its_condition_number() -> None:
    # With s far below σ_min² the system has the condition number of J: the error of QR is about ε cond (and ε cond²
    # times the relative residual, here 1e-3), that of the normal equations ε cond², which leaves nothing at 1e7.
    for condition in (1e3, 1e5, 1e7):
        j, r = graded(condition)
        shift = 1e-4 / condition**2
        expected = exact(j, r, shift)
        errors = {}
        for name, solver in SOLVERS.items():
            system = solver(parts(j, r, None, 1))
            found = system.solve(shift, -system.gradient, None)
            errors[name] = math.inf
            if found is not None:
                errors[name] = np.linalg.norm(found.numpy() - expected) / np.linalg.norm(expected)
        eps = 2.2e-16
        for name in ("qr", "svd"):
            assert errors[name] <= 100 * eps * (condition + 1e-3 * condition**2), (name, condition)
        if condition == 1e7:
            assert min(errors["cholesky"], errors["eigen"]) > 10 * max(errors["qr"], errors["svd"])


def test_systems_that_are_not_finite_have_no_solution() -> None:
    j, r, _, _ = case(9, 4, linear_term=False)
    j[2, 1] = torch.nan
    for name, solver in SOLVERS.items():
        system = solver(parts(j, r, None, 1))
        found = system.solve(1.0, -system.gradient, None)
        assert found is None or not bool(torch.isfinite(found).all()), name


@pytest.mark.parametrize("solver", SOLVERS)
def test_levenberg_marquardt_takes_the_same_steps_with_every_solver(solver: str) -> None:
    plain = iterate(LevenbergMarquardt(), rosenbrock(), START, 15)
    other = iterate(LevenbergMarquardt(solver=solver), rosenbrock(), START, 15)
    for a, b in zip(plain, other, strict=True):
        assert torch.allclose(a.theta, b.theta, rtol=1e-9, atol=1e-10)


def whole_and_parts(problem: Protocol, theta: Tensor, rows: int) -> list[Dense]:
    """The parts of a linearisation, once they are seen to add up to the whole."""
    whole = problem.linearize(theta).dense()
    found = [part.linearize(theta).dense() for part in problem.parts(rows)]
    size = float(whole.jacobian.square().sum())
    gram = torch.stack([p.jacobian.T @ p.jacobian for p in found]).sum(0)
    assert torch.allclose(gram, whole.jacobian.T @ whole.jacobian, rtol=0, atol=1e-12 * size)
    assert torch.allclose(
        torch.stack([p.gradient for p in found]).sum(0), whole.gradient, rtol=1e-10, atol=1e-11 * size
    )
    loss, terms = total_loss(problem.parts(rows), theta)
    assert loss == pytest.approx(whole.loss, rel=1e-11)
    assert sum(p.loss for p in found) == pytest.approx(whole.loss, rel=1e-11)
    assert terms == pytest.approx(whole.terms, rel=1e-11)
    for part in (whole, *found):
        own = part.jacobian.T @ part.residual + (0 if part.linear is None else part.linear)
        assert torch.allclose(part.gradient, own, rtol=1e-10, atol=1e-11 * size)
    return found


@pytest.mark.parametrize(("problem", "options", "is_exact"), CASES.values(), ids=CASES)
def test_the_parts_of_a_linearisation_add_up(problem, options, is_exact: bool) -> None:
    objective, theta, _ = build(problem, options, exact=is_exact)
    found = whole_and_parts(objective, theta, 4)
    assert max(len(p.jacobian) for p in found) < len(objective.residual(theta)[0])
    assert list(objective.parts(len(objective.points))) == [objective]


def test_the_parts_see_the_multipliers() -> None:
    weighting = ResidualAttention({"initial": 2.0}, decay=0.5, rate=0.5)
    objective, theta, _ = build(System(), replace(WIDE, width=[2], embedding=NONE), weighting)
    objective.update_multipliers(theta)
    whole_and_parts(objective, theta, 4)
    whole_and_parts(objective.sampled(0.9, np.random.default_rng(0)), theta, 4)


@pytest.mark.parametrize("kind", ["fas", "galerkin"])
def test_the_parts_of_coarse_problems_add_up(kind: str) -> None:
    levels = hierarchy()
    levels.descend(kind, 0.1)
    theta = levels.theta + 0.1
    assert len(whole_and_parts(levels.problem, theta, 16)) > 2
    # And every solver finds the same step, linear term or not.
    steps = []
    for name in SOLVERS:
        lm = LevenbergMarquardt(solver=name, memory_mib=1e-9)
        lm.start(len(theta), 2)
        steps.append(lm.step(levels.problem, lm.step(levels.problem, theta).theta).theta)
    for step in steps[1:]:
        assert torch.allclose(step, steps[0], rtol=1e-6, atol=1e-6 * float(steps[0].abs().max()))


def test_a_small_memory_holds_few_rows_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levenberg_marquardt_room, "SMALLEST_BLOCK", 5)
    objective, theta, _ = build(*CASES["wave, kan"][:2])
    held = []
    jacobian = Backbone.jacobian

    def watched(self: Backbone, theta: Tensor, tape, scalar: Tensor, out: Tensor, **retain: bool) -> None:
        held.append(len(out))
        jacobian(self, theta, tape, scalar, out, **retain)

    monkeypatch.setattr(Backbone, "jacobian", watched)
    ends = {}
    for memory in (None, 1e-9):
        lm = LevenbergMarquardt(memory_mib=memory)
        lm.start(len(theta), 6)
        ends[memory] = theta
        held.clear()
        for _ in range(6):
            ends[memory] = lm.step(objective, ends[memory]).theta
        assert max(held) == (len(objective.points) if memory is None else 5)
    assert torch.allclose(ends[1e-9], ends[None], rtol=1e-6, atol=1e-8)


class Choices:
    """A generator that gives one prescribed answer to every question, and remembers the questions."""

    def __init__(self, *answers: tuple[int, ...]) -> None:
        self.answers = itertools.cycle([np.array(answer) for answer in answers])

    def integers(self, low: int, high: int, count: int) -> np.ndarray:  # noqa: ARG002
        return next(self.answers)

    def choice(self, many: int, count: int, replace: bool) -> np.ndarray:  # noqa: ARG002
        return next(self.answers)


def test_the_mean_over_all_count_sketches_is_the_whole_matrix() -> None:
    j, r, _, _ = case(3, 2, linear_term=False)
    total, halves, n = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), 0
    for where in itertools.product(range(2), repeat=3):
        for signs in itertools.product(range(2), repeat=3):
            found = count_sketch(parts(j, r, None, 1), 2, Choices(where, signs))  # type: ignore[arg-type]
            total += found.jacobian.T @ found.jacobian
            halves += found.jacobian.T @ found.residual
            n += 1
            assert torch.allclose(found.gradient, j.T @ r)
    assert torch.allclose(total / n, j.T @ j, rtol=1e-12)
    assert torch.allclose(halves / n, j.T @ r, rtol=1e-12)


def test_a_count_sketch_nearly_keeps_the_lengths_of_a_subspace() -> None:
    # ‖S Q x‖² is within 1 ± ε of ‖x‖² with m ~ P²/(δ ε²) rows (Clarkson and Woodruff 2013, theorem 30).
    j, r, _, _ = case(5000, 6, linear_term=False)
    basis = torch.linalg.qr(j)[0]
    found = count_sketch(parts(basis, r, None, 7), 1500, np.random.default_rng(0))
    assert found.jacobian.shape == (1500, 6)
    values = torch.linalg.svdvals(found.jacobian)
    assert 0.85 < float(values.min()) <= float(values.max()) < 1.15


def test_the_mean_over_all_samples_of_points_is_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_room, "FEWEST", 1)
    objective, theta, _ = build(*CASES["wave, kan"][:2])
    whole = objective.linearize(theta).dense()
    counts = [len(points) for points in objective.collocation.by_term().values()]
    # Blocks of neighbours that cover every term evenly: each point is in as many samples as any other.
    subsets = [tuple((k + i) % n for i in range(math.ceil(0.4 * n))) for n in counts for k in range(n)]
    by_term = [
        [s for s, n in zip(subsets, [n for n in counts for _ in range(n)], strict=True) if n == m] for m in counts
    ]
    rounds = math.lcm(*counts)
    total, loss = torch.zeros_like(whole.jacobian.T @ whole.jacobian), 0.0
    for k in range(rounds):
        generator = Choices(*(own[k % len(own)] for own in by_term))
        found = objective.sampled(0.4, generator).linearize(theta).dense()  # type: ignore[arg-type]
        assert len(found.jacobian) == sum(math.ceil(0.4 * n) for n in counts)
        total += found.jacobian.T @ found.jacobian / rounds
        loss += found.loss / rounds
    assert torch.allclose(total, whole.jacobian.T @ whole.jacobian, rtol=1e-9, atol=1e-10)
    assert loss == pytest.approx(whole.loss, rel=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sketch", ["points", "countsketch"])
def test_a_sketched_step_is_the_dense_solution_with_the_whole_gradient(sketch: str, solver: str) -> None:
    objective, theta, _ = build(*CASES["wave, kan"][:2])
    lm = LevenbergMarquardt(sketch=sketch, sketch_rows=1.0, solver=solver, momentum=0.0, damping=0.1)
    lm.start(len(theta), 5)
    lm.stream = [0]
    if sketch == "points":
        objective = thirty(objective, theta)
        found = sample_points(objective, theta, len(theta), np.random.default_rng([0, 0]))
        assert found is not None and len(found.jacobian) < len(objective.linearize(theta).residual)
    else:
        found = count_sketch([objective.linearize(theta).dense()], len(theta), np.random.default_rng([0, 0]))
    gradient = objective.linearize(theta).gradient
    assert torch.allclose(found.gradient, gradient, rtol=1e-9, atol=1e-10)
    step = lm.step(objective, theta)
    matrix = found.jacobian.T @ found.jacobian
    first = 0.1 * float(matrix.diagonal().mean())
    candidates = [
        theta - torch.linalg.solve(matrix + shift * torch.eye(len(theta), dtype=torch.float64), gradient)
        for shift in (first, *itertools.accumulate((2, 4, 8, 16, 32), lambda s, f: s * f, initial=first))
    ]
    assert step.stop is None and step.loss < objective.loss(theta)[0]
    assert step.loss == pytest.approx(objective.loss(step.theta)[0], rel=1e-12)
    assert min(float((step.theta - c).abs().max()) for c in candidates) < 1e-6 * float(theta.abs().max())
    # The next step draws another sketch.
    assert lm.state()["steps"] == 1


def thirty(objective: Objective, theta: Tensor) -> Objective:
    """The same with more points than parameters."""
    from support.problems import draw_for

    objective.set_points(draw_for(objective.residuals.problem, counts=(3 * len(theta), len(theta))))
    return objective


def test_a_problem_with_few_points_is_not_sampled() -> None:
    objective, theta, _ = build(*CASES["wave, kan"][:2])
    assert sample_points(objective, theta, len(objective.points), np.random.default_rng(0)) is None
    curve = rosenbrock()  # points that cannot be taken apart
    curve.points = torch.zeros(9, 1)
    assert sample_points(curve, START, 2, np.random.default_rng(0)) is None


def test_the_target_ratio_rule_holds_still_at_its_target_and_falls_above_it() -> None:
    for target in (0.1, 0.5):
        damping = TargetRatioDamping(1.0, target=target)
        damping.accept(target)
        assert damping.value == pytest.approx(1.0)
        damping.accept(1.0)
        assert damping.value == pytest.approx(0.2)
        factors = [damping.shrink(ratio) for ratio in np.linspace(target, 1.3, 20)]
        assert all(b <= a for a, b in itertools.pairwise(factors))
        assert damping.least == target
    assert NielsenDamping(1.0).least == 0.0


def test_target_ratio_takes_no_step_below_its_target_and_finds_the_minimum() -> None:
    objective = rosenbrock()
    lm = LevenbergMarquardt(damping_rule="target_ratio", target_ratio=0.4, momentum=0.0)
    lm.start(2, 60)
    theta = START
    for _ in range(60):
        found = objective.linearize(theta).dense()
        step = lm.step(objective, theta)  # type: ignore[arg-type]
        if step.stop:
            break
        delta = step.theta - theta
        predicted = found.loss - float((found.residual + found.jacobian @ delta).square().sum())
        if step.loss > 1e-25:
            assert found.loss - step.loss > 0.4 * predicted * (1 - 1e-9)
        theta = step.theta
    assert torch.allclose(theta, torch.ones(2, dtype=torch.float64), atol=1e-8)
    # A linear problem is predicted exactly: λ falls by five.
    lm = LevenbergMarquardt(damping=0.3, damping_rule="target_ratio")
    lm.start(6, 10)
    lm.step(linear()[0], torch.zeros(6, dtype=torch.float64))  # type: ignore[arg-type]
    assert lm.state()["damping"]["value"] == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "choleski"}, r"^optimizer\.solver=choleski: unknown\. Did you mean 'cholesky'\?"),
        ({"damping_rule": "nielson"}, r"^optimizer\.damping_rule=nielson: unknown\. Did you mean 'nielsen'\?"),
        ({"target_ratio": 1.0}, r"^optimizer\.target_ratio=1\.0: expected a number between 0 and 1"),
        ({"memory_mib": 0.0}, r"^optimizer\.memory_mib=0\.0: expected null or a number above 0"),
        ({"sketch": "point"}, r"^optimizer\.sketch=point: unknown\. Did you mean 'points'\?"),
        ({"sketch_rows": 0.5}, r"^optimizer\.sketch_rows=0\.5: expected a number of at least 1"),
    ],
)
def test_senseless_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LevenbergMarquardt(**options)


@pytest.mark.parametrize("sketch", ["points", "countsketch"])
def test_a_sketch_is_the_same_for_the_same_stream_only(sketch: str) -> None:
    objective, theta, _ = build(*CASES["wave, kan"][:2])
    objective = thirty(objective, theta)

    def step(stream: list[int]) -> Tensor:
        lm = LevenbergMarquardt(sketch=sketch, sketch_rows=1.0)
        lm.start(len(theta), 5)
        lm.stream = stream
        return lm.step(objective, theta).theta

    assert torch.equal(step([0, 1]), step([0, 1]))
    assert not torch.equal(step([0, 1]), step([0, 2]))


def test_every_stage_of_every_seed_has_a_stream_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[tuple[int, ...]] = []
    step = LevenbergMarquardt.step

    def watched(self: LevenbergMarquardt, objective: Protocol, theta: Tensor) -> Step:
        streams.append(tuple(self.stream))
        return step(self, objective, theta)

    monkeypatch.setattr(LevenbergMarquardt, "step", watched)
    words = ["problem=poisson", "backbone.width=[]", "backbone.grid=2", "schedule.levels=2", "schedule.steps=2"]
    words += ["schedule.starts=2", "schedule.start_steps=2", "sampler.interior=40", "sampler.boundary=8"]
    words += ["output.points=5", "output.figures=false", "output.progress=false"]
    for seed in (0, 1):
        solve([*words, f"seed={seed}", f"hydra.run.dir={tmp_path}/{seed}"])
    stages = 2 + 2  # two random starts, two levels
    assert len(streams) == 2 * 2 * stages
    assert len(set(streams)) == 2 * stages
    assert [stream[0] for stream in streams] == [0] * 2 * stages + [1] * 2 * stages
