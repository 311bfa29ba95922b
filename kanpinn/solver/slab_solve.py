"""The state of one solve: the network on its current level, its history, and how a stage is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.cost_table import CostTable
from kanpinn.backbones.edits import Edit
from kanpinn.errors import DivergedError
from kanpinn.evaluate.grid_evaluation import OutputGrid, evaluate, grid_values
from kanpinn.evaluate.spectrum import error_spectra
from kanpinn.least_squares.diagnosis import is_stationary, what_is_wrong
from kanpinn.least_squares.gram_costs import cost_table
from kanpinn.least_squares.objective import LeastSquares, Objective
from kanpinn.multilevel import Stage
from kanpinn.multilevel.correction import FasProblem
from kanpinn.multilevel.hierarchy import Hierarchy
from kanpinn.multilevel.transfer import Transfer
from kanpinn.optimizers import Step
from kanpinn.solver.collocation import Collocation
from kanpinn.solver.history import LevelRecord, Progress, Row, StageEnd, Underway
from kanpinn.solver.setup import Setup, name_of
from kanpinn.solver.stage_optimizers import StageOptimizers
from kanpinn.state import State, check_size, generator_of, generator_state

MONITOR_POINTS = 2000
"""Output grid points at which the history's relative error is measured after every step."""

RISEN = 1e3
"""A stage whose loss ends this many times above the run's first one has diverged, though all its numbers are finite."""

ROLLBACKS = 3
"""How often a stage may go back to its best state before it counts as diverged."""

DEAD = 1e-12
"""Above this share of the run's first loss a zero gradient is no solution but a network that reaches nothing."""


class Training:
    """One solve under way.

    Attributes:
        setup: Problem and methods.
        hierarchy: The levels, and which of them is under work.
        collocation: Draws its points.
        optimizers: Those of its levels.
        levels: One record per visit of a level.
        history: One row per step kept.
        underway: The stage under way; None between stages.
        events: What happened on the way that the log should tell.
        costs: Of the device, by which it is decided how JᵀJ is formed.
        spectra: Power spectra of the error at the end of each visit, by its place among `levels`.
    """

    def __init__(self, setup: Setup, grid: OutputGrid, before: Training | None = None) -> None:
        """Begin a solve, or go on with the time slab after the one that `before` has solved."""
        self.setup = setup
        self.grid = grid
        self._before = before
        self.slab = 0 if before is None else before.slab + 1
        self.started = time.perf_counter() if before is None else before.started
        self.costs = cost_table(setup.device) if before is None else before.costs
        self.levels: list[LevelRecord] = [] if before is None else before.levels
        self.history: list[Row] = [] if before is None else before.history
        self.events: list[str] = [] if before is None else before.events
        self.underway: Underway | None = None
        self.spectra: dict[int, dict[str, np.ndarray]] = {} if before is None else before.spectra
        self._plan = setup.plan()
        self.collocation = Collocation(setup, setup.random("points", *self._stream))
        self._initial = setup.random("initial", *self._stream)
        self._stage: Stage | None = None
        self.hierarchy = Hierarchy(setup.network(), self._objective, self._draw)
        self.optimizers = StageOptimizers(setup, self.hierarchy)
        self._work = 0.0 if before is None else before._work
        self.below: dict[str, np.ndarray] | None = None  # the output on the grid when the level below was left
        chosen = np.sort(np.random.default_rng(0).permutation(grid.inside)[:MONITOR_POINTS])
        self._monitor = grid.points[torch.from_numpy(chosen)]
        self._monitor_reference = {name: v.ravel()[chosen] for name, v in grid.reference.items()}

    @property
    def _stream(self) -> list[int]:
        """What tells the random numbers of later slabs from those of the first."""
        return [self.slab] if self.slab else []

    @property
    def seconds(self) -> float:
        """Seconds since the training began."""
        return time.perf_counter() - self.started

    @property
    def problem(self) -> LeastSquares:
        """What is minimised on the level under work."""
        return self.hierarchy.problem

    @property
    def objective(self) -> Objective:
        """The objective of the network that the level under work stands for."""
        return self.problem.network(self.hierarchy.theta)[0]

    @property
    def theta(self) -> Tensor:
        """The parameters of that network, `[P]`."""
        return self.problem.network(self.hierarchy.theta)[1]

    @property
    def backbone(self) -> Backbone:
        """That network."""
        return self.objective.backbone

    @property
    def whole(self) -> tuple[Backbone, Tensor]:
        """The finest network there is, with its parameters `[P]`: of a level that waits, without its correction."""
        waiting = self.hierarchy.suspended
        problem, theta = (waiting[0].problem, waiting[0].theta) if waiting else (self.problem, self.hierarchy.theta)
        if self.underway is not None and not waiting:
            theta = self.underway.theta
        objective, theta = problem.network(theta)
        return objective.backbone, theta

    @property
    def waiting(self) -> bool:
        """Whether a finer level waits for a correction."""
        return bool(self.hierarchy.suspended)

    def _objective(self, backbone: Backbone) -> Objective:
        # Each has multipliers of its own: those of a level that waits outlive the points of its coarse problem.
        return self.setup.objective(backbone, self._level(backbone), self.costs)

    def _level(self, backbone: Backbone) -> int:
        """The level a network is trained on: its own, or the stage's where it has none."""
        return backbone.level if backbone.refinable or self._stage is None else self._stage.level

    def enter(self, stage: Stage) -> StageEnd | None:
        """Bring the network to the stage's level: random parameters, refinement, a coarse problem or its correction.

        Args:
            stage: What is to be trained next.

        Returns:
            None; or how the stage has ended already, where its coarse problem has no finite points to be posed on.
        """
        began = time.perf_counter()
        first = self._stage is None
        self._stage = stage
        h = self.hierarchy
        if first or stage.trial is not None:
            h.begin(stage.level, lambda backbone: self._start(backbone, stage))
            if first or self.levels[-1].level != stage.level:
                self._record(stage, began)
        elif self.levels[-1].level == stage.level:
            self.levels[-1].wall_time_s += time.perf_counter() - began
        while self.levels[-1].level != stage.level:
            began = time.perf_counter()
            if self.levels[-1].level > stage.level:
                try:
                    h.descend(*self.setup.schedule.coarse_problem)
                except DivergedError as error:
                    return self._unposed(error)
                self._record(stage, began, level=h.level, entered="restrict")
            else:
                self._rise(stage, began)
        self._prepare(stage, [self._edit(stage, *edit) for edit in stage.edits])
        return None

    def _unposed(self, error: DivergedError) -> StageEnd:
        """The end of a stage whose coarse problem cannot be posed: the level it was for stays as it is."""
        theta = self.hierarchy.theta
        loss = self._loss(theta) if len(self.problem.points) else math.inf
        reason = "refused" if math.isfinite(loss) else "diverged"
        return StageEnd(reason, f"the coarse problem of level {self.levels[-1].level}: {error}", theta, loss)

    def _start(self, backbone: Backbone, stage: Stage) -> Tensor:
        """Parameters `[P]` to begin with: random ones, or (warm) those of the time slab before, projected."""
        warm = self.setup.schedule.warm
        if self._before is None or not warm or stage.trial:
            return backbone.initial(self._initial).to(self.setup.device, self.setup.dtype)
        finest, theta = self._before.backbone, self._before.theta
        if backbone.level < finest.level:
            theta = Transfer(self._before.hierarchy.backbones[backbone.level], finest).restrict(theta)
        return backbone.resumed(theta)

    def _rise(self, stage: Stage, began: float) -> None:
        """One level up: a correction where a finer level waits, else a refinement."""
        h = self.hierarchy
        if h.suspended:
            found = h.ascend()
            self._record(stage, began, level=h.level, entered="correct", correction=found.length)
        elif not self.backbone.refinable:
            self.below = evaluate(self.objective.residuals, self.theta, self.grid.points)
            h.problem = self._objective(self.backbone)  # so that the level's own number of points is drawn
            self._record(stage, began, level=stage.level, entered="refine")
        else:
            self.below = evaluate(self.objective.residuals, self.theta, self.grid.points)
            h.refine()
            self._record(stage, began, level=h.level, entered="refine", transfer_gap=self._gap(self.below))

    def _gap(self, before: dict[str, np.ndarray]) -> float:
        """Largest change of the output since `before`, relative to its largest value."""
        after = evaluate(self.objective.residuals, self.theta, self.grid.points)
        return max(float(np.abs(after[n] - before[n]).max() / (np.abs(before[n]).max() or 1.0)) for n in before)

    def _edit(self, stage: Stage, kind: str, amount: Any) -> Edit:
        """Change the network under work without changing its function."""
        began, before = time.perf_counter(), evaluate(self.objective.residuals, self.theta, self.grid.points)
        edit = self.hierarchy.edit(kind, amount, self._initial)
        gap, record = self._gap(before), self.levels[-1]
        if record.steps or not math.isnan(record.loss):
            self._record(stage, began, entered=kind, transfer_gap=gap)
        else:  # the visit of the level begins with it
            record.parameters, record.transfer_gap = edit.after.size, max(gap, record.transfer_gap or 0.0)
            record.wall_time_s += time.perf_counter() - began
        sizes = f"{edit.before.size} to {edit.after.size} parameters"
        self.events.append(f"level {stage.level}, {kind} by {amount}: {sizes}, the output changes by {gap:.1e}")
        return edit

    def _record(self, stage: Stage, began: float, level: int | None = None, **known: Any) -> None:
        """Open the record of a visit."""
        h = self.hierarchy
        name = name_of(stage.optimizer)
        record = LevelRecord(stage.level if level is None else level, h.backbone.grid, h.backbone.size, name, **known)
        record.slab = self.slab
        record.wall_time_s = time.perf_counter() - began
        self.levels.append(record)

    def _prepare(self, stage: Stage, edits: list[Edit]) -> None:
        """Start the stage's optimiser, its random numbers apart from those of all other stages."""
        trial = 0 if stage.trial is None else stage.trial + 1
        stream = self.setup.stream("sketches", self.slab, len(self.levels), trial, len(self.history))
        self.optimizers.start(stage, stream, corrected=self.levels[-1].entered == "correct", edits=edits)

    def unwind(self) -> None:
        """Add the corrections that finer levels still wait for, so that the network is the finest one."""
        while self.waiting:
            assert self._stage is not None
            self._rise(self._stage, time.perf_counter())
            record = self.levels[-1]
            record.loss, record.points = self._loss(self.hierarchy.theta), len(self.problem.points)
            self._measure(record)

    def train(self, stage: Stage, tell: Callable[[Progress], None], halt: Callable[[], str | None]) -> StageEnd:
        """Train one stage, or the rest of it where `load_state` has put it under way; `settle` keeps the result.

        Args:
            stage: What to do.
            tell: Called after every step.
            halt: Asked before every step; a reason ends the stage there.

        Returns:
            How it ended.
        """
        self._taken_up = time.perf_counter()
        if self.underway is None:
            theta = self.hierarchy.theta
            self.underway = Underway(theta, theta, due=bool(self._every) or not len(self.problem.points))
        run = self.underway
        reason, message = "steps", ""
        while len(run.rows) < stage.steps:
            if halted := halt():
                reason = halted
                break
            try:
                step = self._step(run)
            except DivergedError as error:
                message = f"step {len(run.rows) + 1} of level {stage.level}: {error}"
                if self._roll_back(run, message):
                    continue
                reason = "diverged"
                break
            row = run.rows[-1]
            tell(Progress(stage, len(run.rows), row["loss"], self._first_error(row), row))
            # A problem with a linear term may have any loss, also below zero: tolerances do not apply.
            if not self._fixed and (met := stage.stop.met(run.losses)):
                reason = met
                break
            if step.stop and (run.stuck or not self._every):
                failure = self._failure(step, run)
                reason, message = ("diverged", failure) if failure else ("optimizer", step.stop)
                break
            # With fresh points the optimiser may find its way again: draw them at once, and give up if it does not.
            run.due = run.stuck = step.stop is not None
        return self._end(stage, run, reason, message)

    def _failure(self, step: Step, run: Underway) -> str | None:
        """Why an optimiser that cannot go on has not found a minimum; None where it may well have."""
        where = f"step {len(run.rows)} of level {self.levels[-1].level}"
        if is_stationary(self.problem, run.theta):
            if step.loss <= DEAD * (self.history or run.rows)[0]["loss"]:
                return None
            return (
                f"{where}: the gradient is zero at loss {step.loss:.3g}, no parameter reaches the residual any more; "
                "try another seed or a smaller optimizer.lr"
            )
        return f"{where}: {step.stop}" if step.failed else None

    @property
    def _fixed(self) -> bool:
        """Whether points stay: a full approximation scheme's linear term belongs to those it was computed on."""
        return any(isinstance(p, FasProblem) for p in (self.problem, *(s.problem for s in self.hierarchy.suspended)))

    @property
    def _every(self) -> int:
        """Steps after which new points are drawn; 0 never."""
        return 0 if self._fixed else self.setup.sampler.resample_every

    def _step(self, run: Underway) -> Step:
        """Draw points where they are due and take one step; raises DivergedError if it leaves the finite numbers."""
        if run.due or (self._every and len(run.rows) % self._every == 0):
            self.resample(run.theta)
            run.due = False
        step = self.optimizers.current.step(self.problem, run.theta)
        if math.isfinite(step.loss) and step.loss < run.best_loss:
            run.best_loss, run.best = step.loss, step.theta if step.measured is None else step.measured
        if not (math.isfinite(step.loss) and bool(torch.isfinite(step.theta).all())):
            raise DivergedError(what_is_wrong(self.problem, run.theta) or step.stop or "the step is not finite")
        if step.stop and (wrong := what_is_wrong(self.problem, step.theta)):
            raise DivergedError(wrong)  # what an optimiser may take for a minimum
        run.theta = step.theta
        if not self._fixed:
            self.objective.update_multipliers(self.problem.network(run.theta)[1])
        run.losses.append(step.loss)
        run.rows.append(self._row(step, run.theta))
        return step

    @staticmethod
    def _first_error(row: Row) -> float | None:
        """The relative error of the first unknown; None without a reference."""
        return next((value for name, value in row.items() if name.startswith("relative_l2")), None)

    def _roll_back(self, run: Underway, message: str) -> bool:
        """Go back to the best state of the stage, more carefully; False where that was tried often enough."""
        optimizer = self.optimizers.current
        if not math.isfinite(run.best_loss) or run.rollbacks == ROLLBACKS or not (optimizer.back_off() or self._every):
            return False
        run.theta, run.due, run.stuck = run.best, bool(self._every), False
        run.rollbacks += 1
        self.levels[-1].rollbacks += 1
        self.events.append(f"{message}; back to the best state, loss {run.best_loss:.3e}, and on with more care")
        return True

    def _end(self, stage: Stage, run: Underway, reason: str, message: str) -> StageEnd:
        """Look at where a stage has come, and close it."""
        if not len(self.problem.points):
            try:
                self.resample(run.theta)
            except DivergedError as error:  # without points there is no loss
                self.underway = None
                return StageEnd("diverged", message or f"level {stage.level}: {error}", run.theta, math.inf, run.rows)
        theta = run.best if reason == "diverged" else run.theta
        loss = self._loss(theta)
        if not math.isfinite(loss) and reason != "diverged":
            # An optimiser that measures the loss before its step has not seen the last one's.
            wrong = what_is_wrong(self.problem, theta) or "loss is not finite"
            reason, message, theta = "diverged", f"the last step of level {stage.level}: {wrong}", run.best
            loss = self._loss(theta)
        own = [row for row in self.history if row.get("slab", 0) == self.slab]
        first = (own or run.rows or [{"loss": math.inf}])[0]["loss"]
        # A stage that was interrupted is judged at its end, after it was resumed.
        if reason not in ("diverged", "interrupted") and loss > RISEN * first:
            reason, theta = "diverged", run.best
            message = f"level {stage.level}: the loss, {loss:.3g}, is far above the first one, {first:.3g}"
            loss = self._loss(theta)
        if reason == "diverged" and self.waiting:
            # The line search will refuse what is of no use; the level that waits is as good as it was.
            reason, theta = "refused", self.hierarchy.theta
            loss = self._loss(theta)
        spent = sum(row["work"] for row in run.rows)
        self._work += spent
        self.levels[-1].work += spent
        self.levels[-1].wall_time_s += self._stage_seconds(run)
        self.underway = None
        return StageEnd(reason, message, theta, loss, run.rows)

    def _stage_seconds(self, run: Underway) -> float:
        """Seconds spent in the stage under way, those of earlier processes included."""
        return run.seconds + time.perf_counter() - self._taken_up

    def _loss(self, theta: Tensor) -> float:
        """‖r‖² of the network that parameters of the level under work stand for, without multipliers of points."""
        objective, own = self.problem.network(theta)
        return objective.plain_loss(own)

    def _measure(self, record: LevelRecord) -> None:
        """Keep the error of the network under work on the output grid, its spectrum, and its change since below."""
        grid, values = self.grid, grid_values(self.objective.residuals, self.theta, self.grid)
        record.relative_l2 = grid.errors(values)[0]
        record.change = None if self.below is None else grid.change(self.below, values)
        periodic = self.setup.problem.periodic
        self.spectra[len(self.levels) - 1] = error_spectra(
            values, grid.reference, grid.coordinates, grid.axes, periodic
        )

    def settle(self, end: StageEnd) -> None:
        """Keep a stage's result: parameters, history rows and the level's record."""
        self.hierarchy.theta = end.theta
        first = len(self.history)
        work = self._work - sum(row["work"] for row in end.rows)  # that of discarded random starts comes first
        for k, row in enumerate(end.rows, start=1):
            work += row["work"]
            self.history.append({"step": first + k, **row, "work": work})
        record = self.levels[-1]
        record.loss = end.loss
        record.steps += len(end.rows)
        record.points = len(self.problem.points)
        self._measure(record)

    def resample(self, theta: Tensor) -> None:
        """Draw new collocation points for parameters `[P]` of the level under work."""
        self._draw(*self.problem.network(theta))

    def _draw(self, objective: Objective, theta: Tensor) -> None:
        """Give an objective new points, as many as its network's level asks for."""
        self.collocation.draw(objective, theta, self._level(objective.backbone))

    def _row(self, step: Step, theta: Tensor) -> Row:
        """What the history keeps of a step: the network's ‖r‖² without a coarse problem's linear term, its error."""
        assert self._stage is not None
        objective, own = self.problem.network(theta)
        row = {"level": float(self._stage.level), "wall_time": self.seconds, "loss": sum(step.terms.values())}
        row["work"] = float(len(objective.points) * objective.size)
        if self.setup.schedule.slabs > 1:
            row["slab"] = float(self.slab)
        row.update({f"term_{name}": value for name, value in step.terms.items()})
        row.update({f"weight_{name}": self.setup.weighting.term(name) for name in step.terms})
        if self._monitor_reference:
            values = evaluate(objective.residuals, own, self._monitor)
            for name, reference in self._monitor_reference.items():
                norm = float(np.linalg.norm(reference)) or math.nan
                row[f"relative_l2_{name}"] = float(np.linalg.norm(values[name] - reference)) / norm
        return row

    def columns(self) -> dict[str, np.ndarray]:
        """The history as columns `[steps]`."""
        names = list(dict.fromkeys(name for row in self.history for name in row))
        table: dict[str, Any] = {name: np.array([row.get(name, math.nan) for row in self.history]) for name in names}
        for name in ("step", "level", "slab"):
            if name in table:
                table[name] = table[name].astype(np.int64)
        return table

    def state(self) -> State:
        """Where the training stands: everything its next step depends on that does not follow from the config."""
        underway = None
        if self.underway is not None:
            underway = {**self.underway.state(), "seconds": self._stage_seconds(self.underway)}
        return {
            "stage": None if self._stage is None else self._plan.index(self._stage),
            "hierarchy": self.hierarchy.state(),
            "optimizers": self.optimizers.state(underway=underway is not None),
            "collocation": self.collocation.state(),
            "work": self._work,
            "below": self.below,
            "costs": asdict(self.costs),
            "initial": generator_state(self._initial),
            "underway": underway,
        }

    def load_state(self, state: State) -> None:
        """Stand where another training of the same config stood; `levels` and `history` are the solver's to restore.

        Args:
            state: What `state` returned there, arrays in place of tensors.

        Raises:
            KeyError, TypeError, ValueError: If it is not one of this config.
        """
        stage, schedule = state["stage"], self.setup.schedule
        self._stage = None if stage is None else self._plan[int(stage)]
        if not 1 <= int(state["hierarchy"]["levels"]) <= schedule.levels:
            raise ValueError(f"{state['hierarchy']['levels']} levels of {schedule.levels}")
        self.costs = CostTable(**{str(name): float(value) for name, value in state["costs"].items()})
        edits = [(str(kind), tuple(n) if isinstance(n, list) else n) for kind, n in state["hierarchy"]["edits"]]
        planned = [edit for stage in self._plan for edit in stage.edits]
        if edits != planned[: len(edits)]:
            raise ValueError(f"edits {edits} of {planned}")
        self.hierarchy.load_state(state["hierarchy"], edits, self.setup.device)
        self.optimizers.load_state(state["optimizers"], self.setup.device)
        self.collocation.load_state(state["collocation"])
        self._work = float(state["work"])
        self.below = state["below"]
        self._initial = generator_of(state["initial"])
        if state["underway"] is not None:
            self.underway = Underway.from_state(state["underway"], self.setup.device)
            for theta in (self.underway.theta, self.underway.best):
                check_size(theta, self.problem.size)
            if self._stage is None or self.optimizers.last not in self.optimizers:
                raise ValueError("a stage under way without its optimiser")
        self._taken_up = time.perf_counter()
