"""Conjugate gradients against dense solves and scipy; the optimiser against Levenberg–Marquardt."""

from __future__ import annotations

import importlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from support.minimisation import START, LeastSquares, carried, damping_of, iterate, linear, rosenbrock
from support.networks import NETWORKS
from support.problems import CASES, build
from torch import Tensor

import kanpinn
from kanpinn.backbones import Kan, Mlp, ReluKan
from kanpinn.errors import UserError
from kanpinn.multilevel.correction import Transfer
from kanpinn.optimizers import GaussNewtonCg, LevenbergMarquardt
from kanpinn.optimizers.gauss_newton_cg import Identity, Multilevel, conjugate_gradient

FINE = Kan(width=[2], degree=3, grid=4, base=True, bias=True)


def system(condition: float = 1e3, size: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """A positive definite matrix, a right-hand side and a positive diagonal."""
    generator = np.random.default_rng(2)
    q, _ = np.linalg.qr(generator.standard_normal((size, size)))
    matrix = torch.from_numpy(q * np.geomspace(1, 1 / condition, size) @ q.T)
    return matrix, torch.from_numpy(generator.standard_normal(size)), torch.from_numpy(generator.uniform(1, 3, size))


def test_conjugate_gradients_are_those_of_scipy() -> None:
    matrix, b, diagonal = system(condition=30.0)
    for tolerance in (1e-1, 1e-3, 1e-6):
        iterates: list[np.ndarray] = []
        scipy.sparse.linalg.cg(
            matrix.numpy(),
            b.numpy(),
            rtol=tolerance,
            M=np.diag(1 / diagonal.numpy()),
            callback=lambda x, iterates=iterates: iterates.append(x.copy()),
        )
        found = conjugate_gradient(lambda x: matrix @ x, b, lambda r: r / diagonal, tolerance, 100)
        assert found.converged
        assert found.iterations == len(iterates)
        assert np.allclose(found.x.numpy(), iterates[-1], rtol=1e-8, atol=1e-10)
        assert torch.allclose(found.residual, b - matrix @ found.x, atol=1e-10)


def test_conjugate_gradients_end_in_as_many_steps_as_unknowns_and_at_their_limit() -> None:
    matrix, b, _ = system(condition=10.0)
    exact = conjugate_gradient(lambda x: matrix @ x, b, torch.clone, 1e-10, 12)
    assert exact.converged and exact.iterations <= 12
    assert torch.allclose(exact.x, torch.linalg.solve(matrix, b), rtol=1e-8)
    cut = conjugate_gradient(lambda x: matrix @ x, b, torch.clone, 1e-10, 4)
    assert (cut.converged, cut.iterations) == (False, 4)
    # In the energy norm every iterate is the nearest of its Krylov space.
    powers = torch.stack([torch.linalg.matrix_power(matrix, k) @ b for k in range(4)], 1)
    best = powers @ torch.linalg.solve(powers.T @ matrix @ powers, powers.T @ b)
    assert torch.allclose(cut.x, best, rtol=1e-6, atol=1e-8)


def test_a_matrix_that_is_not_positive_ends_the_iteration() -> None:
    b = torch.ones(3, dtype=torch.float64)
    found = conjugate_gradient(lambda x: -x, b, torch.clone, 1e-8, 10)
    assert not found.converged
    assert not found.x.any()


@pytest.mark.parametrize("options", [FINE, replace(FINE, knots="cosine"), ReluKan(width=[2], degree=3, grid=4)])
def test_the_multilevel_preconditioner_is_the_sum_over_levels(options: Kan | ReluKan) -> None:
    objective, theta, _ = build(CASES["wave, kan"][0], options)
    preconditioner = Multilevel(objective.backbone)
    assert [level.grid for level in preconditioner.levels] == [4, 2, 1]
    products = objective.linearize(theta)
    jacobian = products.dense().jacobian
    matrix = jacobian.T @ jacobian
    for one in (preconditioner, Identity()):
        assert one.measure(products) == pytest.approx(float(matrix.diagonal().mean()), rel=1e-12)
    shift = 0.1
    identity = torch.eye(len(theta), dtype=torch.float64)
    expected = torch.diag(1 / (matrix.diagonal() + shift))
    for level in preconditioner.levels[1:]:
        # Columns of P, without those of parameters that have no levels.
        nested = torch.cat(
            [
                torch.full((int(np.prod(shape)),), name.endswith("coefficients"))
                for layer in level.layers
                for name, shape in layer.shapes().items()
            ]
        )
        p = Transfer(level, objective.backbone).prolong(torch.eye(level.size, dtype=torch.float64)).T[:, nested]
        expected += p @ torch.diag(1 / (p.T @ (matrix + shift * identity) @ p).diagonal()) @ p.T
    apply = preconditioner.shifted(shift)
    found = torch.stack([apply(row) for row in identity])
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("preconditioner", "options"), [("none", FINE), ("jacobi", FINE), ("bpx", FINE), ("jacobi", Mlp(width=[4]))]
)
def test_a_system_solved_exactly_is_levenberg_marquardts_step(preconditioner: str, options: Kan | Mlp) -> None:
    objective, theta, _ = build(CASES["wave, kan"][0], options)
    cg = GaussNewtonCg(preconditioner=preconditioner, forcing="fixed", tolerance=1e-13, cg_steps=2000, damping=1e-2)
    lm = LevenbergMarquardt(damping=1e-2, momentum=0.0)
    ours, theirs = (iterate(o, objective, theta, 2) for o in (cg, lm))  # type: ignore[arg-type]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.theta, b.theta, rtol=1e-7, atol=1e-8)
        assert a.loss == pytest.approx(b.loss, rel=1e-6)
    assert damping_of(cg) == pytest.approx(damping_of(lm), rel=1e-5)


@pytest.mark.parametrize("name", ["u' = f", "u'' = f"])
def test_iterations_stay_bounded_with_bpx_and_grow_without(name: str, monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "benchmarks")
    benchmark = importlib.import_module("preconditioner")

    def counts(preconditioner: str) -> list[int]:
        cases = [benchmark.linear(benchmark.PROBLEMS[name], 3, n) for n in (16, 32, 64)]
        return [benchmark.iterations(*case, preconditioner, damping=1e-14, tolerance=1e-8) for case in cases]

    bpx = counts("bpx")
    assert max(bpx) <= 26
    assert bpx[-1] <= bpx[-2] + 2
    for preconditioner in ("none", "jacobi"):
        plain = counts(preconditioner)
        assert all(b > 1.4 * a for a, b in pairwise(plain))
        assert plain[-1] > 2 * bpx[-1]


def test_forcing_terms_follow_eisenstat_and_walker() -> None:
    optimizer = GaussNewtonCg(tolerance=0.9)
    optimizer.start(2, 10)
    assert optimizer.forcing_term(1.0) == 0.9
    # 0.9 (1/2)² would be 0.225; the safeguard 0.9 · 0.9² is larger.
    assert optimizer.forcing_term(0.5) == pytest.approx(0.729)
    assert optimizer.forcing_term(0.05) == pytest.approx(0.9 * 0.729**2)
    assert optimizer.forcing_term(0.001) == pytest.approx(0.9 * (0.9 * 0.729**2) ** 2)
    assert optimizer.forcing_term(0.0001) == pytest.approx(0.009)
    fixed = GaussNewtonCg(forcing="fixed", tolerance=0.03)
    fixed.start(2, 10)
    assert [fixed.forcing_term(g) for g in (1.0, 1e-3)] == [0.03, 0.03]


@pytest.mark.parametrize("preconditioner", ["none", "jacobi"])
def test_it_never_raises_the_loss_and_finds_the_minimum(preconditioner: str) -> None:
    objective = rosenbrock()
    steps = iterate(GaussNewtonCg(preconditioner=preconditioner), objective, START, 25)
    losses = [objective.loss(START)[0], *(s.loss for s in steps)]
    assert all(b <= a for a, b in pairwise(losses))
    assert torch.allclose(steps[-1].theta, torch.ones(2, dtype=torch.float64), atol=1e-7)


def test_it_says_why_it_stopped_and_keeps_the_parameters() -> None:
    objective, _, _, solution = linear()
    last = iterate(GaussNewtonCg(), objective, solution, 50)[-1]
    assert "no damping of 12" in str(last.stop)
    assert torch.allclose(last.theta, solution, rtol=1e-10)
    lost = iterate(GaussNewtonCg(), LeastSquares(lambda x: x * torch.nan), START, 3)[0]
    assert "not finite" in str(lost.stop)
    assert torch.equal(lost.theta, START)
    assert "stationary" in str(iterate(GaussNewtonCg(), LeastSquares(lambda x: 0 * x + 1), START, 3)[0].stop)


def test_damping_is_carried() -> None:
    optimizer = GaussNewtonCg()
    iterate(optimizer, rosenbrock(), START, 5)
    assert damping_of(optimizer) != optimizer.damping
    assert damping_of(carried(optimizer, lambda s: s, lambda y: y)) == damping_of(optimizer)


@pytest.mark.parametrize("schedule", ["nested", "v_cycle"])
def test_it_trains_networks_and_coarse_problems(schedule: str, tmp_path) -> None:
    words = [
        "problem=poisson",
        "backbone=kan",
        "optimizer=gauss_newton_cg",
        "optimizer.preconditioner=bpx",
        f"schedule={schedule}",
    ]
    words += ["backbone.width=[3]", "backbone.grid=2", "schedule.levels=2", "sampler.interior=80"]
    cycle = ["schedule.cycles=1", "schedule.pre=1", "schedule.post=1", "schedule.coarsest=2"]
    words += [*(["schedule.steps=4"] if schedule == "nested" else cycle), "output.figures=false"]
    words += ["backbone.degree=4", "optimizer.cg_steps=20"]
    words += ["output.points=15", "output.progress=false", f"hydra.run.dir={tmp_path / 'run'}"]
    solution = kanpinn.solve(words)
    assert solution.metrics["status"] == "step_limit"
    losses = [level["loss"] for level in solution.metrics["levels"]]
    assert all(b < a for a, b in pairwise(losses))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preconditioner": "bpxx"}, r"^optimizer\.preconditioner=bpxx: unknown\. Did you mean 'bpx'\?"),
        ({"forcing": "fix"}, r"^optimizer\.forcing=fix: unknown\. Did you mean 'fixed'\?"),
        ({"cg_steps": 0}, r"^optimizer\.cg_steps=0: expected a whole number of at least 1"),
        ({"tolerance": 1.0}, r"^optimizer\.tolerance=1\.0: expected a number between 0 and 1"),
        ({"damping": 0.0}, r"^optimizer\.damping=0\.0: expected a number above 0"),
        ({"trials": 0}, r"^optimizer\.trials=0: expected a whole number of at least 1"),
    ],
)
def test_senseless_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GaussNewtonCg(**options)


def test_the_multilevel_preconditioner_needs_levels() -> None:
    optimizer = GaussNewtonCg(preconditioner="bpx")
    mlp = build(CASES["wave, kan"][0], NETWORKS["mlp, tanh"])[0].backbone
    with pytest.raises(UserError, match=r"^optimizer\.preconditioner=bpx: expected none or jacobi"):
        optimizer.check_backbone(mlp)
    optimizer.check_backbone(build(CASES["wave, kan"][0], replace(FINE, grid=3))[0].backbone)
