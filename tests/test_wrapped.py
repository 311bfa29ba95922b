"""Problems made of others: frozen parameters and rows spread over processes, against the plain problem."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.burgers import burgers, taken

from kanpinn.least_squares.wrapped import frozen
from kanpinn.optimizers import GaussNewtonCg, LevenbergMarquardt, Optimizer


@pytest.mark.parametrize("optimizer", [LevenbergMarquardt(), LevenbergMarquardt(solver="qr"), GaussNewtonCg()])
def test_frozen_parameters_stay_and_the_others_solve_the_smaller_problem(optimizer: Optimizer) -> None:
    objective, theta = burgers()
    free = torch.from_numpy(np.random.default_rng(3).integers(0, 2, len(theta))).to(theta)
    held = frozen(objective, theta, free)
    whole, found, where = objective.linearize(theta).dense(), held.linearize(theta), free.bool()
    assert held.loss(theta) == objective.loss(theta)
    matrix, gradient, _, _ = found.gram()
    expected = whole.jacobian[:, where].T @ whole.jacobian[:, where]
    assert torch.allclose(matrix[where][:, where], expected, rtol=1e-12, atol=1e-12)
    assert not matrix[~where].any() and not matrix[:, ~where].any() and not gradient[~where].any()
    v = torch.linspace(-1, 1, len(theta), dtype=theta.dtype)
    assert torch.allclose(found.jvp(v), whole.jacobian[:, where] @ v[where], rtol=1e-10, atol=1e-12)
    end = taken(optimizer, held, theta)
    assert torch.equal(end[~where], theta[~where])
    assert held.loss(end)[0] < 0.5 * held.loss(theta)[0]


PROCESS = """
import sys, torch
from torch import distributed as dist
sys.path.insert(0, sys.argv[4])
torch.set_num_threads(1)
from support.burgers import burgers, taken
from kanpinn.least_squares.wrapped import ShardedProblem
from kanpinn.optimizers import GaussNewtonCg, LevenbergMarquardt
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
objective, theta = burgers()
problem = ShardedProblem(objective)
found = problem.linearize(theta)
matrix, gradient, loss, terms = found.gram()
stored = found.dense()
v = torch.linspace(-1, 1, len(theta), dtype=theta.dtype)
torch.save({
    "share": len(problem.share.points), "loss": problem.loss(theta), "pulled": problem.loss_and_gradient(theta),
    "matrix": matrix, "gradient": gradient, "gram loss": loss, "gram terms": terms, "taped": found.gradient,
    "dense": stored.jacobian.T @ stored.jacobian, "product": found.vjp(found.jvp(v)),
    "diagonal": found.summed(sum(block.square().sum(0) for block in found.blocks())),
    "lm": taken(LevenbergMarquardt(), problem, theta), "qr": taken(LevenbergMarquardt(solver="qr"), problem, theta),
    "cg": taken(GaussNewtonCg(), problem, theta),
}, sys.argv[3] + str(rank))
dist.destroy_process_group()
"""


def test_two_processes_with_half_the_points_each_take_the_steps_of_one(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "meet"), str(tmp_path / "out"), str(Path(__file__).parent)]
    processes = [subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), *arguments]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    one, other = (torch.load(tmp_path / f"out{rank}") for rank in range(2))
    objective, theta = burgers()
    assert one["share"] + other["share"] == len(objective.points) and abs(one["share"] - other["share"]) <= 3
    whole = objective.linearize(theta).dense()
    gram = whole.jacobian.T @ whole.jacobian
    v = torch.linspace(-1, 1, len(theta), dtype=theta.dtype)
    size = float(gram.abs().max())
    for found in (one, other):
        assert found["loss"][0] == pytest.approx(whole.loss, rel=1e-13)
        assert found["loss"][1] == pytest.approx(whole.terms, rel=1e-13)
        assert (found["gram loss"], found["gram terms"]) == (
            pytest.approx(whole.loss, rel=1e-13),
            pytest.approx(whole.terms, rel=1e-13),
        )
        assert torch.allclose(found["pulled"][1], 2 * whole.gradient, rtol=0, atol=1e-12 * size)
        for name in ("gradient", "taped"):
            assert torch.allclose(found[name], whole.gradient, rtol=0, atol=1e-12 * size), name
        for name in ("matrix", "dense"):
            assert torch.allclose(found[name], gram, rtol=0, atol=1e-12 * size), name
        assert torch.allclose(found["product"], gram @ v, rtol=0, atol=1e-11 * size)
        assert torch.allclose(found["diagonal"], gram.diagonal(), rtol=0, atol=1e-12 * size)
        for name, optimizer in (
            ("lm", LevenbergMarquardt()),
            ("qr", LevenbergMarquardt(solver="qr")),
            ("cg", GaussNewtonCg()),
        ):
            assert torch.allclose(found[name], taken(optimizer, objective, theta), rtol=1e-6, atol=1e-6), name
            assert torch.equal(found[name], one[name]), name
