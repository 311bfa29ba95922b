"""Single steps of a stage: when it has diverged, what is kept of it, points that are due."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from kanpinn.problems.heat import Heat
from kanpinn.problems.poisson import Poisson

import kanpinn as kp
from kanpinn.errors import DivergedError
from kanpinn.multilevel import Stage
from kanpinn.optimizers.base import Step
from kanpinn.solver import steps
from kanpinn.solver.history import StageState
from kanpinn.solver.level_changes import enter
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.steps import RISEN, failure, judge, resample_every, take_step, tolerance_holds

NET = kp.Kan(width=[2], degree=4, grid=2)


def entered(every: int = 0, schedule: Any = None, problem: kp.Problem | None = None) -> SlabSolve:
    """A slab on the level of its first stage, with points."""
    points = kp.Uniform(interior=20, boundary=8, resample_every=every)
    setup = Setup(problem or Heat(), NET, schedule or kp.Nested(levels=1, steps=4), kp.LevenbergMarquardt(), points)
    slab = SlabSolve(setup)
    enter(slab, setup.plan()[0])
    slab.resample(slab.theta)
    return slab


def ended(slab: SlabSolve, reason: str, history: list[Any], rows: list[Any], **more: Any) -> Any:
    """How a stage is judged whose first losses are given in multiples of the last one."""
    theta, last = slab.hierarchy.theta, slab.loss(slab.hierarchy.theta)
    state = StageState(theta, theta + 0.5, theta - 0.5, **more)
    state.rows = [{"loss": one * last, "work": 7.0} for one in rows]
    slab.record.history = [{"loss": one * last, "slab": float(number)} for one, number in history]
    return judge(slab, state, reason, "why"), state


@pytest.mark.parametrize(
    ("history", "rows", "diverged"),
    [
        ([(1.001 / RISEN, 0), (1e-9, 0)], [1e-9], False),
        ([(0.999 / RISEN, 0), (1.0, 0)], [1.0], True),
        ([(1e-9, 1)], [1.001 / RISEN, 1e-9], False),
        ([(1e-9, 1), (0.999 / RISEN, 0)], [1.0], True),
        ([], [0.999 / RISEN, 1.0], True),
        ([], [1.001 / RISEN, 1e-9], False),
        ([], [], False),
    ],
)
def test_a_stage_that_ends_far_above_the_first_loss_of_its_slab_has_diverged(history, rows, diverged: bool) -> None:
    for reason in ("steps", "tolerance", "interrupted", "diverged"):
        slab = entered()
        start, work = slab.hierarchy.theta, slab.record.work
        end, state = ended(slab, reason, history, rows)
        expected = diverged and reason not in ("interrupted", "diverged")
        assert end.reason == ("diverged" if expected else reason)
        assert end.theta is (state.best if end.reason == "diverged" else start)
        assert end.loss == slab.loss(end.theta) and end.rows is state.rows and slab.stage_state is None
        assert ("is far above the first one" in end.message) == expected and (end.message == "why") == (not expected)
        assert slab.record.work - work == 7.0 * len(rows) == slab.record.level.work


def test_a_row_without_a_slab_is_of_the_first_one() -> None:
    slab = entered()
    theta = slab.hierarchy.theta
    slab.record.history = [{"loss": 0.5 * slab.loss(theta) / RISEN}]
    assert judge(slab, StageState(theta, theta, theta, rows=[]), "steps", "").reason == "diverged"


def test_parameters_that_fit_the_rows_held_are_kept_and_losses_that_are_no_numbers_are_not(monkeypatch) -> None:
    slab = entered()
    end, state = ended(slab, "steps", [], [], held_error=0.1)
    assert (end.reason, end.theta is state.held, end.loss) == ("steps", True, slab.loss(state.held))
    slab, plain = entered(), SlabSolve.loss
    first = slab.hierarchy.theta
    with monkeypatch.context() as patch:
        patch.setattr(SlabSolve, "loss", lambda own, theta: math.nan if theta is first else plain(own, theta))
        for reason in ("steps", "diverged"):
            state = StageState(first, first + 0.5, first)
            end = judge(slab, state, reason, "why")
            assert (end.reason, end.theta is state.best, end.loss) == ("diverged", True, plain(slab, state.best))
            assert end.message == ("the last step of level 0: loss is not finite" if reason == "steps" else "why")


def test_a_coarse_problem_that_diverged_is_refused_and_the_level_above_goes_on() -> None:
    slab = entered(schedule=kp.VCycle(levels=2, cycles=1, pre=1, post=1, coarsest=1))
    enter(slab, slab.plan[1])
    assert slab.waiting
    start = slab.hierarchy.theta
    state = StageState(start + 1, start + 2, start)
    end = judge(slab, state, "diverged", "why")
    assert (end.reason, end.message, end.theta is start) == ("refused", "why", True)
    assert end.loss == slab.loss(start)


def test_a_stage_without_points_gets_some_to_be_judged_at(monkeypatch) -> None:
    slab = entered()
    slab.hierarchy.problem = slab.objective_of(slab.backbone)
    assert not len(slab.least_squares.points)
    end, _ = ended(slab, "steps", [], [])
    assert len(slab.least_squares.points) and end.loss == slab.loss(end.theta)

    def refuse(*_: Any) -> None:
        raise DivergedError("no number")

    monkeypatch.setattr(SlabSolve, "resample", refuse)
    for message, told in (("", "level 0: no number"), ("why", "why")):
        slab.hierarchy.problem = slab.objective_of(slab.backbone)
        state = StageState(slab.hierarchy.theta, slab.hierarchy.theta, slab.hierarchy.theta)
        end = judge(slab, state, "steps", message)
        assert (end.reason, end.message, end.loss, end.theta is state.theta) == ("diverged", told, math.inf, True)


def with_tolerance(stage: Stage, tolerance: float | None) -> Stage:
    return replace(stage, stop=replace(stage.stop, tolerance=tolerance))


@pytest.mark.parametrize("every", [0, 2])
def test_points_are_drawn_where_they_are_due_and_every_few_steps(every: int, monkeypatch) -> None:
    slab, drawn = entered(every), []
    plain = SlabSolve.resample
    monkeypatch.setattr(SlabSolve, "resample", lambda own, theta: drawn.append(len(state.rows)) or plain(own, theta))
    theta = slab.hierarchy.theta
    state = StageState(theta, theta, theta, due=True)
    assert resample_every(slab) == every
    shares = []
    monkeypatch.setattr(steps, "update_constraint", lambda *given: shares.append(given[-1]))
    for k in range(4):
        state.due = state.due or k == 3
        take_step(slab, state)
        assert not state.due
    assert drawn == ([0, 2, 3] if every else [0, 3]) and shares == [0.25, 0.5, 0.75, 1.0]
    assert [row["work"] for row in state.rows] == [len(slab.least_squares.points) * slab.backbone.size] * 4


def test_a_tolerance_is_asked_at_fresh_points_where_the_last_loss_meets_it() -> None:
    for every in (0, 2):
        slab = entered(every)
        stage, theta = slab.plan[0], slab.hierarchy.theta
        state, points = StageState(theta, theta, theta, due=True), slab.least_squares.points
        low, high = (with_tolerance(stage, value) for value in (1e-9, 1e9))
        assert not tolerance_holds(slab, high, state)  # no loss is known
        state.losses = [5.0, 1e10]
        assert not tolerance_holds(slab, high, state) and slab.least_squares.points is points
        state.losses = [1e10, 5.0]
        assert tolerance_holds(slab, high, state) and not tolerance_holds(slab, low, state)
        assert (slab.least_squares.points is points, state.due) == (not every, not every)
        state.losses = [1e-10]
        assert not tolerance_holds(slab, low, state)  # it was that of other points
        assert not tolerance_holds(slab, with_tolerance(stage, None), state)


def test_an_optimiser_that_stops_has_failed_unless_its_gradient_is_zero_at_no_loss(monkeypatch) -> None:
    slab = entered(problem=Poisson())
    theta = slab.hierarchy.theta
    state = StageState(theta, theta, theta, rows=[{"loss": 10.0}, {"loss": 1e-30}])
    stopped = [
        Step(theta, loss, {}, stop="no way", failed=failed) for loss, failed in ((0.9e-11, True), (1.1e-11, False))
    ]
    assert [failure(slab, one, state) for one in stopped] == ["step 2 of level 0: no way", None]
    monkeypatch.setattr(steps, "is_stationary", lambda *_: True)
    found = [failure(slab, one, state) for one in stopped]
    assert found[0] is None and str(found[1]).startswith("step 2 of level 0: the gradient is zero at loss 1.1e-11")
    slab.record.history = [{"loss": 100.0}, {"loss": 1e-30}]
    assert [failure(slab, one, state) for one in stopped] == [None, None]
