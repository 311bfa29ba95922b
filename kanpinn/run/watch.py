"""What is told, drawn and saved while a solve is under way, and what stops it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import final

from kanpinn.loggers import Report
from kanpinn.multilevel import Stage
from kanpinn.multilevel.diagram import diagram
from kanpinn.run import checkpoints
from kanpinn.run.progress import RunLog, StageBar, warn
from kanpinn.settings.options import Configuration
from kanpinn.solver.history import LevelRecord, Progress, StageEnd
from kanpinn.solver.setup import name_of
from kanpinn.solver.slab_solve import Training
from kanpinn.solver.time_marching import Solver
from kanpinn.state import State


@final
class RunWatch:
    """Writes the log and the checkpoints of a solve, shows its progress, and stops it.

    Attributes:
        stopped: The state in which it was stopped, if it was: what it is resumed from, whatever is written after it.
    """

    def __init__(
        self,
        configuration: Configuration,
        log: RunLog,
        report: Report,
        caught: Sequence[int],
        still_there: Callable[[], None],
        saved: checkpoints.Checkpoints,
    ) -> None:
        self.stopped: State | None = None
        self._configuration, self._log, self._report, self._caught = configuration, log, report, caught
        self._still_there = still_there
        self._saved = saved
        self._bar: StageBar | None = None

    def save(self, solver: Solver, state: State | None = None, *, final: bool = False) -> OSError | None:
        """Write a checkpoint of a state, by default the one reached; gives back why that failed, and goes on.

        Args:
            solver: The solve.
            state: The state.
            final: Whether it goes with the solution written: then there is no next one, and no warning in its place.
        """
        self._still_there()
        try:
            self._saved.write(state or solver.state(), *solver.network(), final=final)
        except OSError as error:  # there may be room again for the next
            if not final:
                warn(f"{error.filename}: {error.strerror}; this checkpoint is not written, the solve goes on")
            return error
        return None

    def slab_begun(self, solver: Solver) -> None:
        if len(solver.done) > 1:
            return
        count = self._configuration.setup.schedule.slabs
        picture = _diagram(solver)
        picture += f"\non each of {count} time slabs" if count > 1 else ""
        self._log.add(picture)
        print(f"{picture}\n", flush=True)

    def stage_begun(self, solver: Solver, stage: Stage) -> Callable[[Progress], None]:
        grid = solver.training.hierarchy.backbone.grid
        self._bar = StageBar(stage, grid, show=self._configuration.settings.output.progress)
        show = self._bar.tell

        def tell(progress: Progress) -> None:
            show(progress)
            self._report.step(progress.row)

        return tell

    def halt(self, solver: Solver) -> str | None:
        limit = self._configuration.settings.time_limit_s
        reason = None
        if self._caught:
            reason = "interrupted"
        elif limit is not None and solver.seconds >= limit:
            reason = "time_limit"
        if reason is not None:
            self.stopped = solver.state()
            self.save(solver, self.stopped)
        elif self._saved.due:
            self.save(solver)
        self._tell_events(solver)
        return reason

    def stage_ended(self, solver: Solver, stage: Stage, end: StageEnd) -> None:
        assert self._bar is not None
        self._bar.close()
        self._tell_events(solver)
        self._log.add(_stage_line(stage, end, solver.training))

    def level_done(self, record: LevelRecord) -> None:
        self._report.level(asdict(record))

    def settled(self, solver: Solver) -> None:
        if self._saved.affordable and not solver.over:
            self.save(solver)

    def _tell_events(self, solver: Solver) -> None:
        """Log what has happened on the way."""
        if solver.training.events:
            self._log.add(*(f"{solver.seconds:8.1f} s  {event}" for event in solver.training.events))
            solver.training.events.clear()


def _diagram(solver: Solver) -> str:
    """The schedule as a picture, as wide as the terminal allows."""
    coarsest, plan = solver.training.hierarchy.backbones[0], list(solver.plan)
    highest = max(stage.level for stage in plan)
    if plan[-1].level < highest and coarsest.refinable:
        plan.append(Stage(highest, 0, optimizer=solver.setup.optimizer))  # a level that waits is returned to
    named = [replace(stage, optimizer=name_of(stage.optimizer)) for stage in plan]
    width = shutil.get_terminal_size().columns
    return diagram(named, lambda level: coarsest.grid and coarsest.grid * 2**level, width)


def _stage_line(stage: Stage, end: StageEnd, training: Training) -> str:
    trial = "" if stage.trial is None else f" start {stage.trial + 1}"
    why = end.reason + (f": {end.message}" if end.message else "")
    return (
        f"{training.seconds:8.1f} s  level {stage.level}{trial}: {training.problem.size} parameters, "
        f"{len(end.rows)} steps, loss {end.loss:.3e}, ended by {why}"
    )
