"""Numbers that are not finite: named with term, level, step and place; rolled back where that helps; else exit 3."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kanpinn
from kanpinn.backbones import Backbone, Kan
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.errors import DivergedError, UserError
from kanpinn.geometry import Box
from kanpinn.io.solution import read_solution
from kanpinn.least_squares.diagnosis import what_is_wrong
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Condition, Problem
from kanpinn.run.run import resume
from kanpinn.samplers import CollocationSample, PointSet

SOURCE = """
from dataclasses import dataclass

import torch

from kanpinn.geometry import Box
from kanpinn.pde import Condition, Problem


@dataclass(frozen=True)
class Brittle(Problem):
    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")
    equation = "u_xx + u_yy = f"

    def residual(self, p):
        r = p.u_xx + p.u_yy - {source}
        return {wrapped}

    def conditions(self):
        return [Condition("boundary", ("x-", "x+", "y-", "y+"), lambda p: p.u)]
"""
QUICK = [
    *("problem=brittle", "backbone=kan", "backbone.width=[3]", "backbone.grid=2", "backbone.degree=3", "threads=1"),
    *("schedule=nested", "schedule.levels=1", "sampler=uniform", "sampler.interior=30", "sampler.boundary=12"),
    *("output.points=5", "output.figures=false", "output.progress=false", "hydra.run.dir=run"),
]


@pytest.fixture
def brittle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Solves a user's own problem with a residual of one's choice."""
    monkeypatch.chdir(tmp_path)

    def solve(wrapped: str, *overrides: str, source: str = "100.0") -> kanpinn.Solution:
        (tmp_path / "problems").mkdir(exist_ok=True)
        (tmp_path / "conf/problem").mkdir(parents=True, exist_ok=True)
        (tmp_path / "problems/brittle.py").write_text(SOURCE.format(wrapped=wrapped, source=source))
        (tmp_path / "conf/problem/brittle.yaml").write_text("name: brittle\nconditions: soft\n")
        return kanpinn.solve([*QUICK, *overrides])

    return solve


def metrics() -> dict:
    return json.loads(Path("run/metrics.json").read_text())


FLAT = ["sampler.resample_every=0", "weighting.terms.boundary=0"]
ADAM = ["optimizer=adam", "optimizer.decay=none", "optimizer.ramp_steps=0", "schedule.steps=60"]


def test_a_residual_that_breaks_is_rolled_back_from_with_shorter_steps(brittle) -> None:
    # The first steps, too long by far, leave the interval of u in which the square root is real; the solution is in it.
    wall = "r + 0 * torch.sqrt(1.0 - (p.u / 10).square())"
    m = brittle(wall, *ADAM, "optimizer.lr=30", "sampler.resample_every=0").metrics
    assert m["status"] == "step_limit"
    assert 1 <= m["levels"][0]["rollbacks"] <= 3
    log = Path("run/log.txt").read_text()
    assert "of level 0: the residual of 'interior' is not finite at" in log
    assert "the first at x=0." in log and "back to the best state" in log
    assert np.isfinite(m["loss"])


def test_what_is_gone_back_to_is_the_best_state_not_the_last_one(brittle) -> None:
    # The first steps raise the loss, the third one leaves the interval of u in which the square root is real.
    wall = "r + 0 * torch.sqrt(1.0 - (p.u / 0.4).square())"
    rate = [
        "optimizer=adam",
        "optimizer.decay=none",
        "optimizer.lr=6",
        "optimizer.ramp_from=1",
        "optimizer.ramp_steps=2",
    ]
    steps = ["sampler.resample_every=0", "schedule.steps=4"]
    assert brittle(wall, *rate, *steps, source="-1.0").metrics["levels"][0]["rollbacks"] == 1
    losses = read_solution(Path("run/solution.h5")).history["loss"]  # each of the state before its step
    assert losses[1] > 2 * losses[0]
    assert losses[3] == losses[0]


@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "lbfgs", "ssbroyden", "gauss_newton_cg", "relaxation"])
def test_new_points_where_the_residual_is_not_finite_end_the_run_and_are_named(brittle, optimizer: str) -> None:
    # Points are drawn anew before every step; some of the later ones lie where the equation makes no sense, but none of
    # the few that are looked at before the run.
    hole = "r + 0 * torch.sqrt((p.x - 0.5).abs() - 0.01)"
    at = r"x=0\.(49|5)"
    with pytest.raises(DivergedError, match=f"residual of 'interior' is not finite at .* points, the first at {at}"):
        brittle(hole, f"optimizer={optimizer}", "sampler.resample_every=1", "schedule.steps=30")
    m = metrics()
    assert m["status"] == "diverged"
    assert bool(kanpinn.load("run").theta.isfinite().all())
    with pytest.raises(DivergedError, match="there is nothing to resume"):
        resume(Path("run"))


class Plain(Problem):
    domain = Box(x=(0, 1))
    derivatives = ()
    equation = "u = 0"

    def residual(self, p):
        return torch.sqrt(torch.abs(p.u))

    def conditions(self):
        return [Condition("end", "x+", lambda p: p.u)]


class Late(Plain):
    def residual(self, p):
        return torch.sqrt(torch.abs(p.u * (p.x - 0.75)))


def objective(problem: Problem, points: list[float]) -> tuple[Objective, torch.Tensor]:
    network = Kan(width=[], degree=3, grid=2).build(
        EmbeddingOptions("none").build(problem.domain, (), np.random.default_rng(0)), 1
    )
    found = Objective(Residuals(problem, network), Fixed())
    at = torch.tensor(points, dtype=torch.float64)[:, None]
    end = torch.ones(1, 1, dtype=torch.float64)
    interior = PointSet(at, torch.ones(len(at), dtype=torch.float64) / max(1, len(at)))
    found.set_points(CollocationSample(interior, {"end": PointSet(end, end[:, 0])}, {}))
    return found, torch.zeros(network.size, dtype=torch.float64)


def test_what_is_wrong_is_told_apart() -> None:
    found, theta = objective(Plain(), [0.25, 0.5])
    # √|u| has no derivative at u = 0, where its value is fine.
    assert what_is_wrong(found, theta) == "the Jacobian of the residual of 'interior' is not finite at x=0.25"
    assert what_is_wrong(found, theta + 1.0) is None
    assert what_is_wrong(found, theta + torch.nan) == f"{len(theta)} of {len(theta)} parameters are not finite"
    told = what_is_wrong(found, theta + 1e200)
    assert told is not None and "squares overflow" in told and "that of 'end' at x=1" in told


def test_a_set_without_points_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="no point was drawn for 'interior'"):
        objective(Plain(), [])


def test_a_minimum_is_told_from_a_fault_without_the_jacobian_of_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    found, theta = objective(Plain(), [0.25, 0.5, 0.75])

    def whole(*_: object) -> None:
        raise AssertionError("the Jacobian was built")

    monkeypatch.setattr(Backbone, "jacobian", whole)
    assert what_is_wrong(found, theta + 1.0) is None
    monkeypatch.undo()
    found, theta = objective(Late(), [0.25, 0.5, 0.75])
    rows = []
    jacobian = Backbone.jacobian
    monkeypatch.setattr("kanpinn.least_squares.diagnosis.block_rows", lambda _: 1)
    monkeypatch.setattr(Backbone, "jacobian", lambda *a, **k: rows.append(len(a[4])) or jacobian(*a, **k))
    assert what_is_wrong(found, theta + 1.0) == "the Jacobian of the residual of 'interior' is not finite at x=0.75"
    assert rows == [1, 1, 1]


def test_candidate_points_where_the_residual_is_not_finite_end_the_run_with_all_files(brittle) -> None:
    hole = "r + 0 * torch.sqrt(0.998 - p.x)"  # none of the few points of the check before the run lies there
    with pytest.raises(DivergedError, match=r"level 0: the residual is not finite at .* candidate points, .* x=0\.99"):
        brittle(hole, "sampler=adaptive", "sampler.interior=1000", "optimizer=adam", "schedule.steps=3")
    assert metrics()["status"] == "diverged"
    assert Path("run/solution.h5").is_file()
    assert bool(kanpinn.load("run").theta.isfinite().all())


def test_a_coarse_problem_that_cannot_be_posed_is_refused_and_the_run_goes_on(
    brittle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_finite(*_: object) -> None:
        raise DivergedError("the residual is not finite at 3 of 5 candidate points")

    monkeypatch.setattr("kanpinn.multilevel.hierarchy.Hierarchy.descend", not_finite)
    cycle = ["schedule=v_cycle", "schedule.levels=2", "schedule.cycles=2", "schedule.pre=2", "schedule.post=2"]
    m = brittle("r", *cycle, "schedule.coarsest=3").metrics
    assert m["status"] == "step_limit"
    assert [(level["level"], level["steps"]) for level in m["levels"]] == [(1, 8)]
    assert "ended by refused: the coarse problem of level 1: the residual is" in Path("run/log.txt").read_text()


@pytest.fixture
def unexamined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a problem through that the examination before the run would refuse."""
    for name in ("check_calls", "check_values"):
        monkeypatch.setattr(f"kanpinn.run.preflight.{name}", lambda *_, **__: [])


@pytest.mark.usefixtures("unexamined")
@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "lbfgs", "ssbroyden", "gauss_newton_cg", "relaxation"])
def test_a_zero_gradient_at_a_large_loss_is_no_solution(brittle, optimizer: str) -> None:
    # Every step function is flat: no parameter reaches the residual.
    with pytest.raises(DivergedError, match=r"level 0: the gradient is zero at loss 1, no parameter .*; try another"):
        brittle("torch.sign(p.u.detach()) * 0 + 7 + 0 * r", f"optimizer={optimizer}", "schedule.steps=9", *FLAT)
    assert metrics()["status"] == "diverged"
    assert Path("run/solution.h5").is_file()


@pytest.mark.usefixtures("unexamined")
def test_a_residual_that_is_zero_for_every_network_has_not_converged(brittle) -> None:
    m = brittle("0 * r", "optimizer=levenberg_marquardt", "schedule.steps=9", *FLAT).metrics
    assert m["status"] == "step_limit"


@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "variable_projection"])
def test_a_system_that_no_damping_makes_regular_is_a_failure(brittle, monkeypatch, optimizer: str) -> None:
    def fails(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return matrix, torch.ones(())

    monkeypatch.setattr(torch.linalg, "cholesky_ex", fails)
    with pytest.raises(DivergedError, match="the damped system is singular in rounding for all of 12 dampings; try "):
        brittle("r", f"optimizer={optimizer}", "schedule.steps=9", "sampler.resample_every=0")
    assert metrics()["status"] == "diverged"
