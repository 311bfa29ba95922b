"""State of a whole solve: random starts, how it has ended, and where it goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kanpinn.problems.heat import Heat
from kanpinn.problems.poisson import Poisson

from kanpinn.backbones import Kan
from kanpinn.errors import UserError
from kanpinn.multilevel.schedules import Custom, Nested, Schedule
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.pde import Problem
from kanpinn.samplers import Uniform
from kanpinn.solver.history import StageEnd
from kanpinn.solver.level_changes import enter
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train
from kanpinn.solver.solver import Solver, best_of
from kanpinn.state import join, split


def setup_of(schedule: Schedule, problem: Problem | None = None) -> Setup:
    points = Uniform(interior=20, boundary=8, resample_every=0)
    return Setup(problem or Poisson(), Kan(width=[2], degree=4, grid=2), schedule, LevenbergMarquardt(), points)


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
        found.append(replace(train(solver.slab, solver.stage), reason=reason))
        solver.keep(found[-1])
    best = min(found, key=lambda one: one.loss)
    assert solver.over and solver.outcome().reason == "interrupted"
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
