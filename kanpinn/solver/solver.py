"""State of a whole solve: the slabs begun, the stage that is next, the random starts tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.time_slabs import joined
from kanpinn.errors import UserError
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.diagnosis import is_minimum
from kanpinn.least_squares.residuals import Residuals
from kanpinn.multilevel import Stage
from kanpinn.pde.time_slab import Fields
from kanpinn.solver.history import LevelRecord, StageEnd
from kanpinn.solver.level_changes import enter, unwind
from kanpinn.solver.record import Record
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.state import State, check_size

_STALLS = {"plateau": "the loss no longer falls"}

ENDINGS = ("interrupted", "time_limit")
"""Reasons that end the whole run wherever it is; what they end can be resumed."""

_MISFITS = (
    *(LookupError, TypeError, ValueError, AttributeError, AssertionError),
    *(RuntimeError, ArithmeticError, MemoryError),
)
"""Errors that taking in a state somebody has made up may raise."""


class Solver:
    """All that changes while a solve runs.

    Attributes:
        setup: Problem and methods.
        plan: The schedule's stages, the same for each time slab.
        slabs: The time slabs begun, in order; most often the only one.
        ends: Ends of the slabs that are over, without their parameters and rows.
        number: Number of the slab's stage that is next, or under way.
        trials: Ends of its random starts, until the best of them goes on.
        discarded: Steps of random starts that did not go on.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.plan = setup.plan()
        self.slabs: list[SlabSolve] = []
        self.ends: list[StageEnd] = []
        self.number = 0
        self.trials: list[StageEnd] = []
        self.discarded = 0

    @property
    def slab(self) -> SlabSolve:
        """The slab under work, or the last one."""
        return self.slabs[-1]

    @property
    def stage(self) -> Stage:
        """The stage that is next, or under way."""
        return self.plan[self.number]

    @property
    def record(self) -> Record:
        """History and level records of all slabs."""
        return self.slabs[0].record

    @property
    def seconds(self) -> float:
        """Time spent so far, that of earlier processes included."""
        return self.record.seconds if self.slabs else 0.0

    @property
    def steps(self) -> int:
        """Steps done, those of all random starts and of the stage under way included."""
        if not self.slabs:
            return 0
        state = self.slab.stage_state
        under_way = 0 if state is None else len(state.rows)
        return len(self.record.history) + under_way + sum(len(end.rows) for end in self.trials) + self.discarded

    @property
    def between_slabs(self) -> bool:
        """True where the next slab is to be begun."""
        return len(self.slabs) == len(self.ends)

    @property
    def over(self) -> bool:
        """True once nothing is left to train."""
        if not self.ends:
            return False
        return len(self.ends) == self.setup.schedule.slabs or self.ends[-1].reason in (*ENDINGS, "diverged")

    def begin_slab(self) -> None:
        """Set the next time slab up, from the end of the one before."""
        before = self.slabs[-1] if self.slabs else None
        start = None if before is None else frozen_fields(before.objective.residuals, before.theta)
        self.slabs.append(SlabSolve(self.setup.slab(len(self.slabs), start), before))

    def enter(self, stage: Stage) -> StageEnd | None:
        """Bring the slab to a stage's level, from the best random start where all of them have been tried."""
        if stage.trial is None and self.trials:
            self.slab.settle(self._chosen())
        return enter(self.slab, stage)

    def keep(self, end: StageEnd) -> LevelRecord | None:
        """Keep the result of the stage under way and go on to the next; returns its level's record, if it is settled.

        Random starts are only settled once the best of them is known.
        """
        slab, stage = self.slab, self.stage
        self.number += 1
        if stage.trial is not None:
            self.trials.append(end)
            if end.reason not in ENDINGS:
                return None
            end = replace(self._chosen(), reason=end.reason, message=end.message)
        slab.settle(end)
        record = slab.record.level
        over = end.reason in (*ENDINGS, "diverged") or self.number == len(self.plan)
        if slab.waiting and over:
            unwind(slab)
            # What ended a coarse problem says nothing of the level it was for.
            reason = "steps" if end.reason in ("tolerance", "plateau", "optimizer", "refused") else end.reason
            end = replace(end, reason=reason, loss=slab.record.level.loss)
        finest = stage.level == self.setup.schedule.levels - 1
        if over or (end.reason == "tolerance" and finest and not slab.waiting):
            self._close(end)
        return record

    def outcome(self) -> StageEnd:
        """Return how the whole has ended: its reason, the loss as mean over the slabs begun; no parameters, no rows."""
        # The run as a whole has converged only if every slab has.
        last = self.ends[-1]
        if last.reason not in (*ENDINGS, "diverged"):
            worst = (end for reason in ("stalled", "refused", "steps") for end in self.ends if end.reason == reason)
            last = next(worst, last)
        return replace(last, loss=sum(end.loss for end in self.ends) / len(self.ends))

    def _chosen(self) -> StageEnd:
        """The best random start; the others are forgotten."""
        best = best_of(self.trials)
        self.discarded += sum(len(end.rows) for end in self.trials) - len(best.rows)
        self.trials = []
        return best

    def _close(self, end: StageEnd) -> None:
        """Keep how a slab has ended, by what it has reached rather than by what stopped its last stage."""
        if end.reason in ("steps", "plateau", "optimizer"):
            if is_minimum(self.slab.objective, self.slab.theta):
                end = replace(end, reason="minimum")
            elif end.reason != "steps":
                where = f"level {self.slab.record.level.level}, loss {end.loss:.3g}"
                end = replace(end, reason="stalled", message=f"{_STALLS.get(end.reason, end.message)} ({where})")
        self.ends.append(replace(end, theta=end.theta[:0], rows=[]))
        self.number, self.trials = 0, []
        slab = self.slab
        slab.optimizers.forget()  # nothing is trained any more
        stopped, number = end.reason in (*ENDINGS, "diverged"), slab.number
        if stopped and number and not any(row["slab"] == number for row in slab.record.history):
            self.slabs.pop()  # stopped before its first step: it holds nothing but the start
            self.ends.pop()
            self.ends[-1] = replace(self.ends[-1], reason=end.reason, message=end.message)
            slab.record.levels[:] = [record for record in slab.record.levels if record.slab < number]

    def network(self) -> tuple[Backbone, Tensor]:
        """Return the network on the whole domain with its parameters `[P]`, NaN on time slabs not begun.

        Where a finer level waits for a correction it is that level's network, without it; among random starts the best.
        """
        trained = [slab.finest for slab in self.slabs]
        if self.trials:
            trained[-1] = (trained[-1][0], best_of(self.trials).theta)
        return joined(self.setup.embedding(), trained, self.setup.schedule.slabs)

    def state(self) -> State:
        """State of the solve, between two steps or two stages."""
        return {
            "slabs": [slab.state() for slab in self.slabs],
            "record": self.record.state(),
            "ends": [end.state() for end in self.ends],
            "number": self.number,
            "trials": [end.state() for end in self.trials],
            "discarded": self.discarded,
        }

    def load_state(self, state: State) -> None:
        """Go on where another solver of the same setup stood; called before anything is solved.

        Raises:
            UserError: If it is not a state of this setup.
        """
        slabs, device = self.setup.schedule.slabs, self.setup.device
        try:
            if not 1 <= len(state["slabs"]) <= slabs or len(state["ends"]) > len(state["slabs"]):
                raise ValueError(f"{len(state['slabs'])} time slabs begun of {slabs}")
            for known in state["slabs"]:
                self.begin_slab()
                self.slab.load_state(known)
            monitor = self.slabs[0].monitor
            self.record.load_state(state["record"], monitor.spectra(monitor.grid.reference))
            self.ends = [StageEnd.from_state(end, device) for end in state["ends"]]
            self.number = int(state["number"])
            self.trials = [StageEnd.from_state(end, device) for end in state["trials"]]
            for end in self.trials:
                check_size(end.theta, self.slab.least_squares.size)
            self.discarded = int(state["discarded"])
            if not (0 <= self.number <= len(self.plan) and self.record.levels and self.discarded >= 0):
                raise ValueError(f"stage {self.number} of {len(self.plan)}")
            if self.number == len(self.plan) and not self.over:
                raise ValueError("no stage is left, and yet it is not over")
        except UserError:
            raise
        except _MISFITS as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise UserError(f"the checkpoint does not fit its own config ({reason})") from error


def best_of(trials: Sequence[StageEnd]) -> StageEnd:
    """Return the start with the lowest loss; one that diverged counts as the worst."""
    return min(trials, key=lambda end: end.loss if end.reason != "diverged" and math.isfinite(end.loss) else math.inf)


def frozen_fields(residuals: Residuals, theta: Tensor) -> Fields:
    """Return the unknowns of a network at fixed theta `[P]`, as a function of points."""

    def at(points: Tensor, space: JetSpace | None = None) -> Mapping[str, Jet]:
        with torch.no_grad():
            return residuals.fields(theta, points, space)

    return at
