"""State of a whole solve: random starts, how it has ended, and where it goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from kanpinn.problems.heat import Heat
from kanpinn.problems.poisson import Poisson

from kanpinn.backbones import Kan, Mlp
from kanpinn.backbones.edits import edited
from kanpinn.errors import UserError
from kanpinn.least_squares.constraint import Constraint
from kanpinn.least_squares.weighting import ResidualAttention
from kanpinn.multilevel.schedules import Custom, Nested, Schedule, VCycle
from kanpinn.optimizers import Adam, LevenbergMarquardt, Optimizer, Relaxation
from kanpinn.pde import Problem
from kanpinn.samplers import Uniform
from kanpinn.solver.history import StageEnd, StageState
from kanpinn.solver.level_changes import enter
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train
from kanpinn.solver.solver import Solver, best_of
from kanpinn.solver.steps import ROLLBACKS, roll_back
from kanpinn.state import join, split

NET = Kan(width=[2], degree=4, grid=2)


def setup_of(schedule: Schedule, problem: Problem | None = None, every: int = 0, **more) -> Setup:
    points = Uniform(interior=20, boundary=8, resample_every=every)
    given = {"backbone": NET, "optimizer": LevenbergMarquardt(), **more}
    return Setup(problem or Poisson(), given.pop("backbone"), schedule, given.pop("optimizer"), points, **given)


def end(reason: str, loss: float) -> StageEnd:
    return StageEnd(reason, "", torch.empty(0), loss, [])


def test_the_best_start_is_the_lowest_loss_that_is_a_result() -> None:
    good = end("steps", 2.0)
    for other in (end("diverged", 1e-9), end("steps", float("nan")), end("steps", 2.5), end("diverged", float("nan"))):
        assert best_of([other, good]) is good
        assert best_of([good, other]) is good


@pytest.mark.parametrize(
    ("reasons", "whole"),
    [
        (("tolerance", "tolerance"), "tolerance"),
        (("steps", "tolerance"), "steps"),
        (("tolerance", "steps"), "steps"),
        (("steps", "diverged"), "diverged"),
        (("steps", "interrupted"), "interrupted"),
    ],
)
def test_a_solve_has_ended_as_its_last_slab_or_one_that_did_not_converge(reasons: tuple[str, ...], whole: str) -> None:
    solver = Solver(setup_of(Nested(levels=1, steps=1, slabs=2), Heat()))
    solver.ends = [end(reason, loss) for reason, loss in zip(reasons, (1.0, 4.0), strict=True)]
    assert (solver.outcome().reason, solver.outcome().loss) == (whole, 2.5)


def test_an_interruption_among_random_starts_leaves_the_best_of_them() -> None:
    solver = Solver(setup_of(Nested(levels=1, steps=1, starts=3, start_steps=2)))
    solver.begin_slab()
    found = []
    for reason in ("steps", "interrupted"):
        solver.enter(solver.stage)
        found.append(replace(train(solver.slab, solver.stage), reason=reason, message=f"{reason} came"))
        solver.keep(found[-1])
    best = min(found, key=lambda one: one.loss)
    assert solver.over and (solver.outcome().reason, solver.outcome().message) == ("interrupted", "interrupted came")
    assert torch.equal(solver.network()[1], best.theta)
    assert solver.discarded == 2
    assert all(record.wall_time_s > 0 for record in solver.record.levels)


def test_a_state_without_a_stage_left_that_is_not_over_is_refused() -> None:
    setup = setup_of(Nested(levels=2, steps=1))
    solver = Solver(setup)
    solver.begin_slab()
    solver.enter(solver.stage)
    solver.keep(train(solver.slab, solver.stage))
    known = join(*split(solver.state(), ""))
    other = Solver(setup)
    other.load_state(known)
    assert (other.number, len(other.record.history)) == (1, 1)
    with pytest.raises(UserError, match="no stage is left, and yet it is not over"):
        Solver(setup).load_state({**known, "number": 2})


def test_a_slab_goes_on_with_the_network_it_has_grown() -> None:
    setup = setup_of(Custom(stages=[{"level": 0, "steps": 1}, {"level": 0, "steps": 1, "widen": 2}]))
    slab = SlabSolve(setup)
    for stage in setup.plan():
        enter(slab, stage)
        slab.settle(train(slab, stage))
    other = SlabSolve(setup)
    other.load_state(join(*split(slab.state(), "")))
    (network, theta), (known, expected) = other.finest, slab.finest
    assert network.blocks.shapes == known.blocks.shapes
    assert torch.equal(theta, expected)


def test_the_ends_of_slabs_that_are_over_come_back_and_a_finished_stage_leaves_no_optimiser() -> None:
    setup = setup_of(Nested(levels=1, steps=2, slabs=2), Heat())
    solver, other = Solver(setup), Solver(setup)
    solver.begin_slab()
    solver.enter(solver.stage)
    solver.keep(train(solver.slab, solver.stage))
    other.load_state(join(*split(solver.state(), "")))
    assert [(one.reason, one.loss) for one in other.ends] == [(one.reason, one.loss) for one in solver.ends]
    assert (len(other.ends), other.between_slabs, other.over) == (1, True, False)
    slab = SlabSolve(setup_of(Nested(levels=1, steps=1)))
    enter(slab, slab.setup.plan()[0])
    assert [known["level"] for known in slab.optimizers.state(underway=True)["levels"]] == [0]
    assert slab.optimizers.state(underway=False)["levels"] == []


def test_every_stage_has_the_network_of_its_level() -> None:
    setup = setup_of(VCycle(levels=3, cycles=1, pre=1, post=1, coarsest=1))
    coarsest = setup.network()
    assert setup.networks(coarsest)[2] is coarsest
    assert [one.level for one in setup.networks(coarsest)] == [stage.level for stage in setup.plan()] == [2, 1, 0, 1, 2]
    setup = setup_of(Nested(levels=3), backbone=Mlp(width=[3]))  # whose levels have the same network
    coarsest = setup.network()
    found = setup.networks(coarsest)
    assert len(found) == 3 and all(one is coarsest for one in found)
    stages = [{"level": 1, "steps": 1}, {"level": 1, "steps": 1, "widen": [2]}, {"level": 2, "steps": 1}]
    setup = setup_of(Custom(stages=stages))
    wide = edited(setup.network().refined(), "widen", (2,), np.random.default_rng(0)).after
    assert [one.size for one in setup.networks(setup.network())] == [
        setup.network().refined().size,
        wide.size,
        wide.refined().size,
    ]
    setup = setup_of(Custom(stages=[stages[0], {"level": 1, "steps": 1, "rank": 2}]))
    with pytest.raises(UserError, match=r"schedule\.stages\[1\]\.rank"):
        setup.networks(setup.network())


def test_a_level_has_its_own_problem_and_weights() -> None:
    setup = setup_of(Nested(levels=2, curriculum={"alpha": [0.5]}), Heat(), weighting=ResidualAttention(start=0.25))
    network, theta = setup.network(), setup.network().initial(np.random.default_rng(0))
    points = torch.rand(5, 2, dtype=torch.float64)
    assert [setup.problem_on(level).alpha for level in (0, 1)] == [0.5, Heat().alpha]  # type: ignore[attr-defined]
    coarse, fine, own = (setup.residuals(network, level).interior(theta, points)[""] for level in (0, 1, None))
    assert torch.equal(fine, own) and not torch.equal(coarse, own)
    constraint = Constraint()
    found = setup.objective(network, 0, constraint=constraint)
    assert found.constraint is constraint and found.weighting is not setup.weighting
    assert torch.equal(found.residuals.interior(theta, points)[""], coarse)
    assert setup.objective(network).constraint is not constraint


def test_a_slab_measures_in_the_units_of_the_whole() -> None:
    setup = setup_of(Nested(levels=1, slabs=2), Heat())
    last = setup.slab(1, before := lambda *_: {})
    assert last.scales is setup.scales and last.problem.domain.interval("t") == (0.5, 1.0)
    assert last.problem.before is before  # type: ignore[attr-defined]
    alone = setup_of(Nested(levels=1), Heat())
    assert alone.slab(0, None) is alone


def test_an_objective_knows_its_level_the_measured_costs_and_the_penalty(monkeypatch) -> None:
    asked = []
    plain = Setup.objective
    monkeypatch.setattr(Setup, "objective", lambda setup, *given: asked.append(given) or plain(setup, *given))
    for network, levels in ((NET, [0, 1, 2]), (Mlp(width=[3]), [2, 2, 2])):
        setup = setup_of(Nested(levels=3, steps=1), backbone=network)
        slab = SlabSolve(setup)
        slab.stage = setup.plan()[2]
        backbone = setup.network()
        for level in levels:
            asked.clear()
            slab.objective_of(backbone)
            assert asked == [(backbone, level, slab.costs, slab.constraint)]
            backbone = backbone.refined() if backbone.refinable else backbone


@pytest.mark.parametrize(
    ("optimizer", "every", "backs_off"), [(LevenbergMarquardt(), 0, True), (Adam(), 5, True), (Relaxation(), 0, False)]
)
def test_a_stage_goes_back_to_its_best_state_a_few_times(optimizer: Optimizer, every: int, backs_off: bool) -> None:
    setup = setup_of(Nested(levels=1, steps=3), every=every, optimizer=optimizer)
    slab = SlabSolve(setup)
    enter(slab, setup.plan()[0])
    best = slab.theta + 1
    state = StageState(slab.theta, best, slab.theta)
    assert not roll_back(slab, state, "too far")  # nothing is known to be good
    state.best_loss = 2.0
    for k in range(ROLLBACKS):
        state.theta, state.stuck, state.due = 0 * best, True, not every
        assert roll_back(slab, state, "too far") == backs_off
        if not backs_off:
            return
        assert (state.theta is best, state.stuck, state.due) == (True, False, bool(every))
        assert state.rollbacks == slab.record.level.rollbacks == k + 1
        assert slab.record.events[-1] == "too far; back to the best state, loss 2.000e+00, and on with more care"
    assert not roll_back(slab, state, "too far") and state.rollbacks == ROLLBACKS


def test_a_tolerance_met_by_the_last_step_ends_a_stage_whose_points_stay() -> None:
    def ended(every: int, steps: int, tolerance: float, halts: int = 99, **more) -> tuple[str, int]:
        setup = setup_of(Nested(levels=1, steps=steps, tolerance=tolerance, **more), every=every)
        slab, asked = SlabSolve(setup), iter([None] * halts)
        enter(slab, setup.plan()[0])
        found = train(slab, setup.plan()[0], halt=lambda: next(asked, "interrupted"))
        losses.extend(row["loss"] for row in found.rows)
        return found.reason, len(found.rows)

    losses: list[float] = []
    assert ended(0, 2, 1e-30) == ("steps", 2)
    first, second = losses
    assert ended(0, 1, 1e9) == ended(0, 5, 1e9) == ended(5, 5, 1e9) == ("tolerance", 1)
    assert ended(5, 1, 1e9) == ("steps", 1)  # at fresh points another loss may hold
    assert ended(0, 5, 1e9, halts=1) == ("interrupted", 1)
    between = (first + second) / 2
    assert ended(0, 2, between) == ended(0, 5, between) == ("tolerance", 2)
    near = {"plateau": 1 - 1e-9, "patience": 1}
    assert ended(0, 5, between, **near) == ("tolerance", 2)
    assert ended(0, 5, 1e-30, **near) == ("plateau", 2)


@pytest.mark.parametrize(
    ("schedule", "levels", "whole"),
    [
        (VCycle(levels=2, cycles=2, pre=1, post=2, coarsest=1, tolerance=1e9), [1], "tolerance"),
        (VCycle(levels=2, cycles=2, pre=1, post=2, coarsest=1), [1, 0, 1, 0, 1], "steps"),
        (Nested(levels=3, steps=2, tolerance=1e9), [0, 1, 2], "tolerance"),
        (Custom(stages=[{"level": n, "steps": 1} for n in (0, 1, 1, 0, 1)], tolerance=1e9), [0, 1], "tolerance"),
    ],
)
def test_a_slab_is_over_once_its_finest_level_meets_the_tolerance(schedule: Schedule, levels, whole: str) -> None:
    solver = Solver(setup_of(schedule))
    solver.begin_slab()
    while not solver.over:
        stage = solver.stage
        solver.keep(solver.enter(stage) or train(solver.slab, stage))
    assert [record.level for record in solver.record.levels] == levels
    assert solver.outcome().reason == whole and solver.number == 0
    assert not any(len(one.theta) or one.rows for one in solver.ends)
    assert solver.slab.optimizers.last is None and solver.steps == len(solver.record.history)


@pytest.mark.parametrize(
    ("key", "value", "refused"),
    [
        ("discarded", -1, True),
        ("discarded", 0, False),
        ("discarded", 7, False),
        ("number", -1, True),
        ("number", 3, True),
        ("number", 1, False),
        ("ends", "two", True),
        ("slabs", [], True),
        ("trials", "wrong", True),
    ],
)
def test_a_state_of_a_solve_is_looked_at_before_it_goes_on(key: str, value, refused: bool) -> None:
    setup = setup_of(Nested(levels=1, steps=1, starts=2, start_steps=1))
    solver = Solver(setup)
    solver.begin_slab()
    solver.enter(solver.stage)
    solver.keep(train(solver.slab, solver.stage))
    known = join(*split(solver.state(), ""))
    assert (known["number"], len(known["trials"]), solver.steps) == (1, 1, 1)
    (trial,) = known["trials"]
    value = {"two": [trial, trial], "wrong": [{**trial, "theta": np.zeros(3)}]}.get(str(value), value)
    other = Solver(setup)
    if refused:
        with pytest.raises(UserError, match="the checkpoint does not fit its own config"):
            other.load_state({**known, key: value})
    else:
        other.load_state({**known, key: value})
        assert (other.number, other.discarded) == (1, value if key == "discarded" else 0)
        assert torch.equal(other.trials[0].theta, solver.trials[0].theta)
        assert other.network()[1].tolist() == solver.network()[1].tolist()
