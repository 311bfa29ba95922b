"""The loop of a solve: slab after slab in time, stage after stage of the schedule, step after step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kanpinn.errors import DivergedError
from kanpinn.multilevel import Stage
from kanpinn.solver.history import LevelRecord, Progress, StageEnd, StageState
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solver import ENDINGS, Solver
from kanpinn.solver.steps import failure, hold, judge, resample_every, roll_back, take_step, tolerance_holds


class Watch(Protocol):
    """Follower of a solve: logs, shows, saves and stops it."""

    def slab_begun(self, solver: Solver) -> None:
        """A time slab, most often the only one, is about to be trained."""

    def stage_begun(self, solver: Solver, stage: Stage) -> Callable[[Progress], None]:
        """A stage is about to be trained; the function returned is called after each of its steps."""
        ...

    def halt(self, solver: Solver) -> str | None:
        """The next step is about to begin; one of `ENDINGS` keeps it from doing so."""

    def stage_ended(self, solver: Solver, stage: Stage, end: StageEnd) -> None:
        """A stage is over, its result not yet kept."""

    def level_done(self, record: LevelRecord) -> None:
        """A level's record is up to date with a stage that has ended."""

    def settled(self, solver: Solver) -> None:
        """The result of a stage that was not stopped is kept: a good moment to save."""


def solve(setup: Setup, watch: Watch, state: Solver | None = None) -> tuple[Solver, StageEnd]:
    """Solve a problem, or the rest of it.

    Args:
        setup: Problem and methods.
        watch: Follower of the solve.
        state: State to go on from; None to begin.

    Returns:
        The state reached, and how the solve ended: the reason for the whole, the loss as mean over the slabs begun.
    """
    solver = state or Solver(setup)
    while not solver.over:
        if solver.between_slabs:
            solver.begin_slab()
            watch.slab_begun(solver)
        stage = solver.stage
        refused = None if solver.slab.stage_state else solver.enter(stage)  # the level's network, points, optimiser
        tell = watch.stage_begun(solver, stage)
        end = refused or train(solver.slab, stage, tell, lambda: watch.halt(solver))
        watch.stage_ended(solver, stage, end)
        done = solver.keep(end)
        if done is not None:
            watch.level_done(done)
        if end.reason not in ENDINGS:
            watch.settled(solver)
    return solver, solver.outcome()


def train(
    slab: SlabSolve,
    stage: Stage,
    tell: Callable[[Progress], None] = lambda _: None,
    halt: Callable[[], str | None] = lambda: None,
) -> StageEnd:
    """Train one stage that has been entered, or the rest of it; `SlabSolve.settle` keeps the result.

    Args:
        slab: The slab.
        stage: The stage.
        tell: Called after every step.
        halt: Asked before every step; a reason ends the stage there.

    Returns:
        How it ended.
    """
    every = resample_every(slab)
    if slab.stage_state is None:
        theta = slab.hierarchy.theta
        slab.stage_state = StageState(theta, theta, theta, due=not len(slab.least_squares.points))
        hold(slab, slab.stage_state)
    state = slab.stage_state
    reason, message = "steps", ""
    while len(state.rows) < stage.steps:
        if halted := halt():
            reason = halted
            break
        try:
            if tolerance_holds(slab, stage, state):
                reason = "tolerance"
                break
            step = take_step(slab, state)
        except DivergedError as error:
            message = f"step {len(state.rows) + 1} of level {stage.level}: {error}"
            if roll_back(slab, state, message):
                continue
            reason = "diverged"
            break
        tell(Progress(stage, len(state.rows), state.rows[-1]))
        if not slab.hierarchy.keeps_points and stage.stop.plateaued(state.losses, every):
            reason = "plateau"
            break
        if step.stop and (state.stuck or not every):
            failed = failure(slab, step, state)
            reason, message = ("diverged", failed) if failed else ("optimizer", step.stop)
            break
        # With fresh points the optimiser may find its way again: draw them at once, and give up if it does not.
        state.due = state.stuck = step.stop is not None
    if reason in ("steps", "plateau", "optimizer") and not every and tolerance_holds(slab, stage, state):
        reason, message = "tolerance", ""
    return judge(slab, state, reason, message)
