"""Follower of a run: log, progress, checkpoints, loggers, and what stops it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from typing import final

from kanpinn.errors import warn
from kanpinn.multilevel import Stage
from kanpinn.multilevel.diagram import diagram
from kanpinn.run.console import StageView, stage_view
from kanpinn.run.context import RunContext
from kanpinn.run.processes import theta_under_way
from kanpinn.solver.history import LevelRecord, Progress, StageEnd
from kanpinn.solver.setup import name_of
from kanpinn.solver.solver import Solver
from kanpinn.state import State


@final
class RunWatch:
    """Writes the log and the checkpoints of a solve, shows its progress, and stops it.

    Attributes:
        stopped: The state in which it was stopped, if it was: what it is resumed from, whatever is written after it.
    """

    def __init__(self, context: RunContext) -> None:
        self.stopped: State | None = None
        self._context = context
        self._view: StageView | None = None

    def save(self, solver: Solver, state: State | None = None, *, final: bool = False) -> OSError | None:
        """Write a checkpoint of a state, by default the one reached; gives back why that failed, and goes on.

        A final one goes with the solution written: then there is no next one, and no warning in its place.
        """
        saved = self._context.saved
        if saved is None:
            return None
        self._context.still_there()
        try:
            search = self._context.search
            network = solver.network() if search is None else search.network(solver)
            saved.write(state or self._state(solver), *network, final=final)
        except OSError as error:  # there may be room again for the next
            if not final:
                warn(f"{error.filename}: {error.strerror}; this checkpoint is not written, the solve goes on")
            return error
        return None

    def _state(self, solver: Solver) -> State:
        """All that the run goes on from."""
        search = self._context.search
        return solver.state() if search is None else search.state(solver.state())

    def slab_begun(self, solver: Solver) -> None:
        if self._context.search is not None:
            self._context.search.slab_begun(solver)
            return
        if len(solver.slabs) > 1:
            return
        count = solver.setup.schedule.slabs
        picture = _diagram(solver)
        picture += f"\non each of {count} time slabs" if count > 1 else ""
        self._context.tell(picture, "\n")

    def stage_begun(self, solver: Solver, stage: Stage) -> Callable[[Progress], None]:
        grid, report = solver.slab.hierarchy.backbone.grid, self._context.report
        view = self._view = stage_view(
            stage, grid, self._view, show=self._context.configuration.settings.output.progress
        )

        def tell(progress: Progress) -> None:
            view.tell(progress)
            if report is not None:
                report.step(progress.row)

        return tell

    def halt(self, solver: Solver) -> str | None:
        limit, saved = self._context.configuration.settings.time_limit_s, self._context.saved
        reason, team = None, self._context.team
        if team is not None:
            team.catch(self._context.caught)
        if self._context.caught:
            reason = "interrupted"
        elif limit is not None and solver.seconds >= limit:
            reason = "time_limit"
        if team is not None:
            team.tell(reason)
            team.align(theta_under_way(solver))
        if reason is not None:
            self.stopped = self._state(solver) if saved is not None else deepcopy(self._state(solver))
            self.save(solver, self.stopped)
        elif saved is not None and saved.due:
            self.save(solver)
        self._tell_events(solver)
        return reason

    def stage_ended(self, solver: Solver, stage: Stage, end: StageEnd) -> None:
        assert self._view is not None
        self._view.close()
        self._tell_events(solver)
        self._context.log.add(_stage_line(solver, stage, end))

    def level_done(self, record: LevelRecord) -> None:
        if self._context.report is not None:
            self._context.report.level(asdict(record))

    def settled(self, solver: Solver) -> None:
        saved = self._context.saved
        if saved is not None and saved.affordable and not solver.over:
            self.save(solver)

    def _tell_events(self, solver: Solver) -> None:
        """Log what has happened on the way."""
        events = solver.record.events
        if events:
            self._context.log.add(*(f"{solver.seconds:8.1f} s  {event}" for event in events))
            events.clear()


def _diagram(solver: Solver) -> str:
    """The schedule as a picture, as wide as the terminal allows."""
    coarsest, plan = solver.slab.hierarchy.backbones[0], list(solver.plan)
    highest = max(stage.level for stage in plan)
    if plan[-1].level < highest and coarsest.refinable:
        plan.append(Stage(highest, 0, optimizer=solver.setup.optimizer))  # a level that waits is returned to
    named = [replace(stage, optimizer=name_of(stage.optimizer)) for stage in plan]
    width = shutil.get_terminal_size().columns
    return diagram(named, lambda level: coarsest.grid and coarsest.grid * 2**level, width)


def _stage_line(solver: Solver, stage: Stage, end: StageEnd) -> str:
    trial = "" if stage.trial is None else f" start {stage.trial + 1}"
    why = end.reason + (f": {end.message}" if end.message else "")
    return (
        f"{solver.seconds:8.1f} s  level {stage.level}{trial}: {solver.slab.least_squares.size} parameters, "
        f"{len(end.rows)} steps, loss {end.loss:.3e}, ended by {why}"
    )
