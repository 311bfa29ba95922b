"""A solve from its first step to its last, slab after slab, stage after stage, and where it stands in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.time_slabs import joined
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import OutputGrid
from kanpinn.evaluate.spectrum import error_spectra, stacked, unstacked
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.residuals import Residuals
from kanpinn.multilevel import Stage
from kanpinn.pde.time_slab import Fields
from kanpinn.solver.history import LevelRecord, Progress, StageEnd, rows_of, rows_state
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import Training
from kanpinn.state import State, check_size

ENDINGS = ("interrupted", "time_limit")
"""Reasons that end the whole run wherever it is; what they end can be resumed."""

_MISFITS = (
    *(LookupError, TypeError, ValueError, AttributeError, AssertionError),
    *(RuntimeError, ArithmeticError, MemoryError),
)
"""What taking in a state that somebody has made up may raise."""


class Watch(Protocol):
    """Who follows a solve: logs, shows, saves and stops it."""

    def slab_begun(self, solver: Solver) -> None:
        """A time slab, most often the only one, is about to be trained."""

    def stage_begun(self, solver: Solver, stage: Stage) -> Callable[[Progress], None]:
        """A stage is about to be trained; what is returned is called after each of its steps."""
        ...

    def halt(self, solver: Solver) -> str | None:
        """The next step is about to begin; one of `ENDINGS` keeps it from doing so."""

    def stage_ended(self, solver: Solver, stage: Stage, end: StageEnd) -> None:
        """A stage is over, its result not yet kept."""

    def level_done(self, record: LevelRecord) -> None:
        """A level's record is up to date with a stage that has ended."""

    def settled(self, solver: Solver) -> None:
        """The result of a stage that was not stopped is kept: a good moment to save."""


class Solver:
    """All that changes while a solve runs.

    Attributes:
        setup: Problem and methods.
        plan: The schedule's stages, the same for each time slab.
        done: The training of each time slab begun, in order; most often the only one.
        ends: How the slabs that are over have ended, without their parameters and rows.
        number: Which stage of the slab under work is next, or under way.
        trials: How its random starts have ended, until the best of them goes on.
        discarded: Steps of random starts that did not go on.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.plan = setup.plan()
        self.done: list[Training] = []
        self.ends: list[StageEnd] = []
        self.number = 0
        self.trials: list[StageEnd] = []
        self.discarded = 0

    @property
    def training(self) -> Training:
        """The slab under work, or the last one."""
        return self.done[-1]

    @property
    def seconds(self) -> float:
        """Time spent so far, that of earlier processes included."""
        return self.training.seconds if self.done else 0.0

    @property
    def steps(self) -> int:
        """Steps done, those of all random starts and of the stage under way included."""
        if not self.done:
            return 0
        training = self.training
        underway = [] if training.underway is None else training.underway.rows
        return len(training.history) + len(underway) + sum(len(end.rows) for end in self.trials) + self.discarded

    @property
    def over(self) -> bool:
        """Whether nothing is left to train."""
        if not self.ends:
            return False
        everywhere = len(self.ends) == self.setup.schedule.slabs
        return everywhere or self.ends[-1].reason in (*ENDINGS, "diverged")

    def solve(self, watch: Watch) -> StageEnd:
        """Solve, or solve the rest.

        Args:
            watch: Who follows.

        Returns:
            How it ended: the reason for the whole, the loss as mean over the slabs begun; no parameters, no rows.
        """
        while not self.over:
            if len(self.done) == len(self.ends):
                self._begin_slab()
                watch.slab_begun(self)
            self._train(watch)
        # The run as a whole has converged only if every slab has.
        last = self.ends[-1]
        if last.reason not in (*ENDINGS, "diverged"):
            last = next((end for end in self.ends if end.reason in ("steps", "refused")), last)
        return replace(last, loss=sum(end.loss for end in self.ends) / len(self.ends))

    def _begin_slab(self) -> None:
        """Set the next time slab up, from the end of the one before."""
        before = self.done[-1] if self.done else None
        start = None if before is None else frozen_fields(before.objective.residuals, before.theta)
        own = self.setup.slab(len(self.done), start)
        grid = OutputGrid(own.problem, self.setup.points, self.setup.schedule.slabs)
        self.done.append(Training(own, grid, before))

    def _train(self, watch: Watch) -> None:
        """Train one stage and keep what comes of it."""
        training, stage, refused = self.training, self.plan[self.number], None
        if training.underway is None:
            if stage.trial is None and self.trials:
                training.settle(self._chosen())
            refused = training.enter(stage)
        tell = watch.stage_begun(self, stage)
        end = refused or training.train(stage, tell, lambda: watch.halt(self))
        watch.stage_ended(self, stage, end)
        if stage.trial is not None:
            self.trials.append(end)
            if end.reason not in ENDINGS:
                self.number += 1
                watch.settled(self)
                return
            end = replace(self._chosen(), reason=end.reason, message=end.message)
        training.settle(end)
        watch.level_done(training.levels[-1])
        self.number += 1
        stopped = end.reason in (*ENDINGS, "diverged")
        over = stopped or self.number == len(self.plan)
        if training.waiting and over:
            training.unwind()
            # What ended a coarse problem says nothing of the level it was for.
            reason = "steps" if end.reason in ("tolerance", "plateau", "optimizer", "refused") else end.reason
            end = replace(end, reason=reason, loss=training.levels[-1].loss)
        finest = stage.level == self.setup.schedule.levels - 1
        if over or (end.reason == "tolerance" and finest and not training.waiting):
            self._close(end)
        if end.reason not in ENDINGS:
            watch.settled(self)

    def _chosen(self) -> StageEnd:
        """The best random start; the others are forgotten."""
        best = best_of(self.trials)
        self.discarded += sum(len(end.rows) for end in self.trials) - len(best.rows)
        self.trials = []
        return best

    def _close(self, end: StageEnd) -> None:
        """Keep how a slab has ended."""
        self.ends.append(replace(end, theta=torch.empty(0), rows=[]))
        self.number, self.trials = 0, []
        training = self.training
        training.optimizers.forget()  # nothing is trained any more
        slab = training.slab
        stopped = end.reason in (*ENDINGS, "diverged")
        if stopped and slab and not any(row["slab"] == slab for row in training.history):
            self.done.pop()  # stopped before its first step: it holds nothing but the start
            self.ends.pop()
            self.ends[-1] = replace(self.ends[-1], reason=end.reason, message=end.message)
            training.levels[:] = [record for record in training.levels if record.slab < slab]

    def network(self) -> tuple[Backbone, Tensor]:
        """The network on the whole domain with its parameters `[P]`, NaN on time slabs not begun.

        Where a finer level waits for a correction it is that level's network, without it; among random starts the best.
        """
        trained = [training.whole for training in self.done]
        if self.trials:
            trained[-1] = (trained[-1][0], best_of(self.trials).theta)
        return joined(self.setup.embedding(), trained, self.setup.schedule.slabs)

    def state(self) -> State:
        """Where the solve stands, between two steps or two stages."""
        first = self.done[0]
        return {
            "slabs": [training.state() for training in self.done],
            "levels": [record.state() for record in first.levels],
            "spectra": stacked(first.spectra, len(first.levels)),
            "history": rows_state(first.history),
            "ends": [end.state() for end in self.ends],
            "number": self.number,
            "trials": [end.state() for end in self.trials],
            "discarded": self.discarded,
            "seconds": self.seconds,
        }

    def load_state(self, state: State) -> None:
        """Go on where another solver of the same config stood; called before anything is solved.

        Args:
            state: What `state` returned there, arrays in place of tensors.

        Raises:
            UserError: If it is not a state of this config.
        """
        schedule = self.setup.schedule
        try:
            if not 1 <= len(state["slabs"]) <= schedule.slabs or len(state["ends"]) > len(state["slabs"]):
                raise ValueError(f"{len(state['slabs'])} time slabs begun of {schedule.slabs}")
            for known in state["slabs"]:
                self._begin_slab()
                self.training.load_state(known)
            first, device = self.done[0], self.setup.device
            # These lists are shared by all slabs.
            first.levels[:] = [LevelRecord.from_state(record) for record in state["levels"]]
            first.history[:] = rows_of(state["history"])
            spectra = error_spectra(
                first.grid.reference,
                first.grid.reference,
                first.grid.coordinates,
                first.grid.axes,
                first.setup.problem.periodic,
            )
            for name, values in state["spectra"].items():
                if values.dtype != np.float64 or values.shape[-1:] != spectra[name].shape:
                    raise ValueError(f"spectrum {name} of shape {list(values.shape)}")
            first.spectra.update(unstacked(state["spectra"]))
            self.ends = [StageEnd.from_state(end, device) for end in state["ends"]]
            self.number = int(state["number"])
            self.trials = [StageEnd.from_state(end, device) for end in state["trials"]]
            for end in self.trials:
                check_size(end.theta, self.training.problem.size)
            self.discarded = int(state["discarded"])
            if not (0 <= self.number <= len(self.plan) and first.levels and self.discarded >= 0):
                raise ValueError(f"stage {self.number} of {len(self.plan)}")
            if self.number == len(self.plan) and not self.over:
                raise ValueError("no stage is left, and yet it is not over")
            started = time.perf_counter() - float(state["seconds"])
            for training in self.done:
                training.started = started
        except UserError:
            raise
        except _MISFITS as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise UserError(f"the checkpoint does not fit its own config ({reason})") from error


def best_of(trials: Sequence[StageEnd]) -> StageEnd:
    """The start with the lowest loss; one that diverged counts as the worst."""
    return min(trials, key=lambda end: end.loss if end.reason != "diverged" and math.isfinite(end.loss) else math.inf)


def frozen_fields(residuals: Residuals, theta: Tensor) -> Fields:
    """Return the unknowns of a network that stays as it is, at any points.

    Args:
        residuals: Problem and network.
        theta: Parameters `[P]`.

    Returns:
        The unknowns as a function of points.
    """

    def at(points: Tensor) -> Mapping[str, Jet]:
        with torch.no_grad():
            return residuals.fields(theta, points)

    return at
