"""Loss, gradient, products and matrices of every least-squares problem, against one stored Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import torch
from support.burgers import burgers
from support.ranks import in_ranks

import kanpinn as kp
from kanpinn.backbones.edits import coarsening
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.errors import UserError
from kanpinn.least_squares import objective as objectives
from kanpinn.least_squares.linearization import Dense, Linearization
from kanpinn.least_squares.objective import LeastSquares, total_loss
from kanpinn.least_squares.sparsity import Penalised, Penalty
from kanpinn.least_squares.weighting import Fixed, ResidualAttention
from kanpinn.least_squares.wrapped import ShardedProblem, SubspaceProblem, frozen
from kanpinn.multilevel.correction import FasProblem, Transfer, galerkin
from kanpinn.optimizers.levenberg_marquardt import count_sketch, sample_points
from kanpinn.settings.objects import configuration_of_objects

Posed = tuple[LeastSquares, torch.Tensor]


class Mixed(kp.Problem):
    """Two unknowns, of which one has its mean in the equations, with a condition that compares points."""

    domain = kp.Box(x=(0, 1), y=(0, 1))
    unknowns = ("u", "v")
    derivatives = ("xx", "y")

    def residual(self, p):
        return {"one": p.u_xx - p.v**2, "two": p.v_y + p.u * p.integral(lambda q: q.v, over="x", nodes=4)}

    def conditions(self):
        return [
            kp.Condition("around", "y-", lambda p, q: p.u - q.u, periodic="y"),
            kp.Condition("left", "x-", lambda p: p.v),
        ]


def mixed() -> Posed:
    setup = configuration_of_objects(Mixed(), [kp.Kan(width=[2], grid=2, degree=3)]).setup
    network = setup.network()
    objective = setup.objective(network)
    sampler = kp.Uniform(interior=23, boundary=7)
    objective.set_points(sampler.draw(setup.problem, 0, np.random.default_rng(0)))
    return objective, 2 * network.initial(np.random.default_rng(1))


def attended() -> Posed:
    objective, theta = burgers(30)
    objective.weighting = ResidualAttention(start=0.5)
    objective.update_multipliers(1.3 * theta)
    return objective, theta


def penalised() -> Posed:
    objective, theta = burgers(30)
    return Penalised(objective, Penalty(objective.backbone, 0.3, 0.7)), theta


def coarse(kind: str) -> Posed:
    fine, theta = burgers(30)
    network = fine.backbone
    transfer = Transfer(below := network.coarsened(), network)
    if kind == "galerkin":
        return galerkin(fine, theta, transfer), 0.1 * below.initial(np.random.default_rng(3))
    if kind == "last":
        return galerkin(fine, theta, transfer, "last"), 0.1 * below.initial(np.random.default_rng(3))
    objective, start = fine.at(fine.collocation), coarsening(below, network)(theta)
    objective.backbone = objective.residuals.backbone = below
    problem = FasProblem.pose(
        objective, start, fine.loss_and_gradient(theta)[1], transfer, 0.1 if kind == "fas" else None
    )
    if kind == "deeper":
        lower = below.coarsened()
        assert lower is not None
        return galerkin(problem, 1.1 * start, Transfer(lower, below)), 0.1 * lower.initial(np.random.default_rng(3))
    return problem, 1.1 * start


def held() -> Posed:
    problem, theta = penalised()
    free = torch.from_numpy(np.random.default_rng(3).integers(0, 2, len(theta))).to(theta)
    return frozen(problem, theta, free), 1.2 * theta


CASES: dict[str, Callable[[], Posed]] = {
    "objective": lambda: burgers(30),
    "mixed": mixed,
    "multipliers": attended,
    "penalty": lambda: (Penalty((known := burgers(30))[0].backbone, 0.3, 0.7), known[1]),
    "penalised": penalised,
    "galerkin": lambda: coarse("galerkin"),
    "last": lambda: coarse("last"),
    "fas": lambda: coarse("fas"),
    "free fas": lambda: coarse("free"),
    "deeper": lambda: coarse("deeper"),
    "held": held,
}


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-9, atol=1e-11 * float(1 + other.abs().max()))


def agrees(found: Linearization, loss: float, terms: dict[str, float], gradient: torch.Tensor) -> None:
    """Everything a linearisation gives is what its stored Jacobian gives."""
    whole = found.dense()
    j, r = whole.jacobian, whole.residual
    size = j.shape[1]
    h = torch.zeros(size, dtype=j.dtype) if found.linear is None else found.linear
    assert (found.linear is None) == (whole.linear is None) and close(found.residual, r)
    assert whole.linear is None or close(whole.linear, h)
    normal = found.gram()
    for one in (found, whole, normal, whole.gram()):
        assert one.loss == pytest.approx(loss, rel=1e-9, abs=1e-12) and one.terms == pytest.approx(terms, rel=1e-9)
        assert close(one.gradient, gradient / 2)
    assert close(j.T @ r + h, gradient / 2) and close(normal.matrix, j.T @ j)
    v, w = torch.linspace(-1, 2, size, dtype=j.dtype), torch.cos(torch.arange(len(r), dtype=j.dtype))
    assert close(found.jvp(v), j @ v) and close(found.vjp(w), j.T @ w)
    rows = torch.cat(list(found.blocks()))
    assert close(rows.T @ rows, j.T @ j) and torch.equal(found.summed(v), v)
    where = slice(size // 3, 2 * size // 3)
    assert close(found.columns(where), j[:, where])


@pytest.mark.parametrize("name", CASES)
def test_all_that_a_problem_gives_belongs_together(name: str) -> None:
    problem, theta = CASES[name]()
    loss, terms = problem.loss(theta)
    again, gradient, others = problem.loss_and_gradient(theta)
    assert again == pytest.approx(loss, rel=1e-12) and others == pytest.approx(terms)
    steps = torch.from_numpy(np.random.default_rng(0).standard_normal(len(theta)))
    slope = (problem.loss(theta + 1e-6 * steps)[0] - problem.loss(theta - 1e-6 * steps)[0]) / 2e-6
    assert slope == pytest.approx(float(gradient @ steps), rel=1e-5, abs=1e-8)
    found = problem.linearize(theta)
    agrees(found, loss, terms, gradient)
    parts = list(problem.parts(5))
    assert all(len(part.points) <= 10 for part in parts)
    total, by_term = total_loss(parts, theta)
    assert total == pytest.approx(loss) and by_term == pytest.approx(terms)
    assert close(sum((part.loss_and_gradient(theta)[1] for part in parts), torch.zeros_like(theta)), gradient)
    matrix = sum(part.linearize(theta).gram().matrix for part in parts)
    assert close(matrix, found.gram().matrix)
    assert len(list(problem.parts(None))) == 1 + (name in ("penalised", "held"))
    change, linear = (
        torch.linspace(-1, 1, len(theta), dtype=theta.dtype),
        torch.linspace(0, 3, len(theta), dtype=theta.dtype),
    )
    for mu in (0.0, 0.4):
        more = mu * float(change @ change) + 2 * float(linear @ change)
        agrees(found.shifted(mu, change, linear), loss + more, terms, gradient + 2 * (mu * change + linear))


@pytest.mark.parametrize("name", ["galerkin", "last", "deeper"])
def test_parts_of_a_problem_in_a_subspace_are_those_of_the_problem_in_the_subspace(name: str) -> None:
    problem, theta = CASES[name]()
    assert isinstance(problem, SubspaceProblem)
    inner, down = problem.inner, problem.prolongation
    at = problem.base + down.prolong(theta)
    found = problem.sampled(0.4, np.random.default_rng(4))
    expected = inner.sampled(0.4, np.random.default_rng(4))
    if expected is inner:
        assert found is problem
    loss, gradient, terms = expected.loss_and_gradient(at)
    again, slope, others = found.loss_and_gradient(theta)
    assert again == pytest.approx(loss) and others == pytest.approx(terms)
    assert close(slope, down.prolong_transpose(gradient))
    for one in (found, problem.rebased(lambda whole: whole), *problem.parts(30)):
        assert isinstance(one, SubspaceProblem) and one.backbone is problem.backbone
        assert one.is_correction is problem.is_correction and one.kind == "subspace"
    network, parameters = problem.network(theta)
    assert torch.equal(parameters, inner.network(at)[1]) and network is inner.network(at)[0]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_penalty_has_the_type_of_the_parameters(kind: torch.dtype) -> None:
    objective, theta = burgers(30)
    penalty = Penalty(objective.backbone, 0.3, 0.7)
    loss, gradient, _ = penalty.loss_and_gradient(theta)
    found = penalty.linearize(theta.to(kind))
    assert found.jacobian.dtype == found.gradient.dtype == found.residual.dtype == kind
    assert penalty.loss(theta.to(kind))[0] == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(2 * found.gradient.double(), gradient, rtol=1e-4, atol=1e-5)


SHARED = {name: CASES[name] for name in ("objective", "mixed", "multipliers", "galerkin", "fas", "deeper", "held")}


@pytest.mark.parametrize("name", SHARED)
def test_points_shared_out_among_processes_give_what_all_of_them_give(name: str) -> None:
    """Each process has rows of its own, and sees all loss, gradients and matrices of the whole."""
    (problem, theta), count = SHARED[name](), 3
    loss, gradient, terms = problem.loss_and_gradient(theta)
    whole, v = problem.linearize(theta), torch.linspace(-1, 2, len(theta), dtype=theta.dtype)
    matrix, product = whole.gram().matrix, whole.jvp(v)
    torch.set_num_threads(1)

    def work(_: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        part, point = SHARED[name]()
        part = part.rebased(ShardedProblem)
        for told in (part.loss(point), part.loss_and_gradient(point)[::2]):
            assert told == (pytest.approx(loss, rel=1e-12), pytest.approx(terms, rel=1e-10))
        assert close(part.loss_and_gradient(point)[1], gradient)
        found = part.linearize(point)
        dense, normal = found.dense(), found.gram()
        for one in (found, dense, normal):
            assert one.loss == pytest.approx(loss, rel=1e-12) and one.terms == pytest.approx(terms, rel=1e-10)
            assert close(one.gradient, gradient / 2)
        assert (found.linear is None) == (dense.linear is None) == (whole.linear is None)
        if whole.linear is not None:
            assert close(found.linear, whole.linear) and close(dense.linear, whole.linear)
        assert close(normal.matrix, matrix) and close(dense.jacobian.T @ dense.jacobian, matrix)
        assert close(dense.jacobian.T @ dense.residual, whole.vjp(whole.residual))
        assert dense.jacobian.shape == (len(product), len(point)) and len(dense.residual) == len(product)
        own = found.jvp(v)
        assert len(own) == len(found.residual) and close(found.vjp(own), matrix @ v)
        rows = torch.cat(list(found.blocks()))
        assert len(rows) == len(own) and close(found.summed(rows.T @ rows), matrix)
        again = part.sampled(1.0, np.random.default_rng(0))
        assert close(again.loss_and_gradient(point)[1], gradient)
        return len(own), dense.jacobian, dense.residual

    found = in_ranks(count, work)
    alike = {"fas": len(theta), "held": len(product)}.get(name, 0)  # rows that every process has
    assert sum(one[0] for one in found) == len(product) + (count - 1) * alike
    for one in found[1:]:
        assert torch.equal(one[1], found[0][1]) and torch.equal(one[2], found[0][2])


def test_new_points_are_shared_out_anew_and_every_process_has_some() -> None:
    def work(_: int) -> list[int]:
        problem, later = ShardedProblem(burgers(30)[0]), burgers(21)[0].collocation
        first = problem.share
        assert problem.share is first
        problem.inner.set_points(draws[21])
        return [len(first.points), len(problem.share.points), len(later)]

    draws = {
        21: kp.Uniform(interior=21, boundary=9).draw(burgers(21)[0].residuals.problem, 0, np.random.default_rng(1))
    }
    counts = np.array(in_ranks(2, work))
    assert counts[:, 0].sum() == len(burgers(30)[0].points) and counts[:, 1].sum() == counts[0, 2]
    with pytest.raises(UserError, match=f"processes=99: more than the {len(burgers(30)[0].points)} points there are"):
        in_ranks(99, lambda rank: rank > 0 or ShardedProblem(burgers(30)[0]))


def test_a_sum_of_rows_with_random_signs_keeps_the_gradient_and_the_loss() -> None:
    problem, theta = penalised()
    loss, gradient, terms = problem.loss_and_gradient(theta)
    generator = np.random.default_rng(5)
    parts = [part.linearize(theta).dense() for part in problem.parts(30)]
    sketches = [count_sketch(parts, 40, generator) for _ in range(40)]
    for one in sketches[:2]:
        assert one.jacobian.shape == (40, len(theta)) and one.residual.shape == (40,)
        assert one.loss == pytest.approx(loss) and one.terms == pytest.approx(terms)
        assert close(one.gradient, gradient / 2) and one.linear is not None
        assert close(one.jacobian.T @ one.residual + one.linear, gradient / 2)
    mean = sum(one.jacobian.T @ one.jacobian for one in sketches) / len(sketches)
    whole = problem.linearize(theta).gram().matrix
    assert float((mean - whole).norm()) < 0.2 * float(whole.norm())


@pytest.mark.parametrize("sketch", ["points", "countsketch"])
def test_a_sketch_of_more_rows_than_there_are_is_the_whole_or_adds_up_to_it(sketch: str) -> None:
    problem, theta = burgers(30)
    steps = [kp.LevenbergMarquardt(sketch=sketch, sketch_rows=rows) for rows in (1.0, 50.0)]
    for optimizer in steps:
        optimizer.start(len(theta), 1)
    found = steps[1].step(problem, theta)
    assert found.loss < problem.loss(theta)[0]
    plain = kp.LevenbergMarquardt()
    plain.start(len(theta), 1)
    assert (sketch == "points") == torch.equal(found.theta, plain.step(problem, theta).theta)


def test_rows_of_a_shorter_type_keep_it() -> None:
    problem, theta = burgers(30)
    whole = problem.linearize(theta).dense()
    short = Dense(whole.jacobian.float(), whole.gradient.float(), whole.loss, whole.terms, whole.residual.float())
    found = count_sketch([short], 20, np.random.default_rng(0))
    exact = count_sketch([whole], 20, np.random.default_rng(0))
    assert found.jacobian.dtype == found.residual.dtype == found.gradient.dtype == torch.float32
    assert torch.allclose(found.jacobian.double(), exact.jacobian, rtol=1e-5, atol=1e-4)


def test_a_share_of_the_points_keeps_the_gradient_and_the_loss() -> None:
    problem, theta = burgers(200)
    loss, gradient, terms = problem.loss_and_gradient(theta)
    assert sample_points(problem, theta, len(problem.points), np.random.default_rng(0)) is None
    found = sample_points(problem, theta, 100, np.random.default_rng(0))
    assert found is not None and found.linear is not None
    share = 100 / len(problem.points)
    counts = [
        max(math.ceil(share * len(t.coordinates)), min(16, len(t.coordinates))) for t in problem.collocation.terms
    ]
    assert len(found.residual) == sum(counts)
    assert (found.loss, found.terms) == (loss, terms) and close(found.gradient, gradient / 2)
    assert close(found.jacobian.T @ found.residual + found.linear, gradient / 2)
    penalty = Penalty(problem.backbone, 0.3, 0.0)
    assert sample_points(penalty, theta, 0, np.random.default_rng(0)) is None


class Noted(CostTable):
    """Costs that note when they are asked for."""

    asked: ClassVar[list[tuple[str, int]]] = []

    def dense_work(self, points: int, columns: int) -> float:
        self.asked.append((self.__dict__.get("who", ""), points))
        return super().dense_work(points, columns)


@pytest.mark.parametrize("looked_up", [False, True])
def test_the_costs_that_a_problem_is_given_are_those_of_its_parts(looked_up: bool, monkeypatch) -> None:
    given, other = Noted(), Noted()
    object.__setattr__(given, "who", "given")
    devices: list[torch.device] = []
    monkeypatch.setattr(objectives, "cost_table", lambda device: devices.append(device) or other)
    plain, theta = burgers(30)
    sample = kp.Uniform(interior=60, boundary=9).draw(plain.residuals.problem, 0, np.random.default_rng(0))
    devices.clear()
    found = objectives.Objective(plain.residuals, Fixed(), costs=None if looked_up else given)
    found.set_points(sample)
    assert devices == [torch.device("cpu")] * looked_up
    problems = [found, found.at(found.collocation), found.sampled(0.5, np.random.default_rng(0)), *found.pieces(30)]
    for problem in problems:
        Noted.asked.clear()
        problem.linearize(theta).gram()
        assert {who for who, _ in Noted.asked} == {"" if looked_up else "given"}
    assert len(problems) > 4 and found.at(found.collocation).constraint is found.constraint
