"""The state of one solve: the network on its current level, its history, and how a stage is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.config import Configuration
from kanpinn.errors import DivergedError
from kanpinn.multilevel import Stage
from kanpinn.objective import Objective
from kanpinn.output import OutputGrid, evaluate
from kanpinn.samplers import Sampler

MONITOR_POINTS = 2000
"""Output grid points at which the history's relative error is measured after every step."""

_INITIAL, _POINTS, _EMBEDDING = range(3)
"""Independent random streams of one seed."""


@dataclass
class LevelRecord:
    """What one level cost and reached; the content of `levels` in metrics.json.

    `steps` counts those of the network that went on; `wall_time_s` is that of all starts together.
    """

    level: int
    grid: int | None
    parameters: int
    optimizer: str
    steps: int = 0
    loss: float = math.nan
    relative_l2: dict[str, float] | None = None
    wall_time_s: float = 0.0
    transfer_gap: float | None = None


@dataclass
class Progress:
    """What is known after a step, for progress bars.

    Attributes:
        stage: The stage under way.
        step: Steps done in it.
        loss: The loss.
        error: Relative L2 error of the first unknown at the monitor points; None without a reference.
    """

    stage: Stage
    step: int
    loss: float
    error: float | None


@dataclass
class StageEnd:
    """How a stage ended.

    Attributes:
        reason: steps, tolerance, plateau, time_limit, interrupted, diverged or optimizer (it cannot go on).
        message: The optimiser's own words, if it stopped.
        theta: Parameters `[P]` after the stage.
        loss: The loss there, on the last points.
        rows: History rows of the stage.
    """

    reason: str
    message: str
    theta: Tensor
    loss: float
    rows: list[dict[str, float]] = field(default_factory=list)


class Training:
    """One solve under way.

    Attributes:
        configuration: The checked config.
        backbone: The network on its current level.
        theta: Its parameters `[P]`.
        objective: The objective on the current level.
        levels: One record per level trained.
        history: One row per step kept.
    """

    def __init__(self, configuration: Configuration, grid: OutputGrid) -> None:
        self.configuration = configuration
        self.grid = grid
        settings = configuration.settings
        self.dtype = getattr(torch, settings.dtype)
        self.device = torch.device(settings.device)
        self.started = time.perf_counter()
        self.levels: list[LevelRecord] = []
        self.history: list[dict[str, float]] = []
        self._points = np.random.default_rng([settings.seed, _POINTS])
        problem = configuration.problem
        options = configuration.components["backbone"]
        embedding = options.embedding.build(
            problem.domain, problem.periodic, np.random.default_rng([settings.seed, _EMBEDDING])
        )
        self.backbone: Backbone = options.build(embedding, len(problem.unknowns))
        self._initial = np.random.default_rng([settings.seed, _INITIAL])
        self.theta: Tensor | None = None
        self.objective = self._objective()
        chosen = np.random.default_rng(0).permutation(len(grid.points))[:MONITOR_POINTS]
        self._monitor = grid.points[torch.from_numpy(np.sort(chosen))]
        self._monitor_reference = {name: v.ravel()[np.sort(chosen)] for name, v in grid.reference.items()}

    @property
    def seconds(self) -> float:
        """Seconds since the training began."""
        return time.perf_counter() - self.started

    def _objective(self) -> Objective:
        c = self.configuration
        return Objective(c.problem, self.backbone, c.components["weighting"], exact=c.conditions == "exact")

    def enter(self, stage: Stage) -> None:
        """Bring the network to the stage's level; at first with random parameters, then by exact refinement."""
        began = time.perf_counter()
        gap = None
        while self.backbone.level < stage.level and self.backbone.refinable:
            if self.theta is None:
                self.backbone = self.backbone.refined()
                continue
            before = evaluate(self.objective, self.theta, self.grid.points)
            self.theta, self.backbone = self.backbone.refine(self.theta), self.backbone.refined()
            self.objective = self._objective()
            after = evaluate(self.objective, self.theta, self.grid.points)
            step_gap = max(float(np.abs(after[n] - before[n]).max() / (np.abs(before[n]).max() or 1.0)) for n in before)
            gap = max(gap or 0.0, step_gap)
        self.objective = self._objective()
        if self.theta is None or stage.trial is not None:
            self.theta = self.backbone.initial(self._initial).to(self.device, self.dtype)
        if not self.levels or self.levels[-1].level != stage.level:
            name = self.configuration.resolved["optimizer"]["name"]
            self.levels.append(LevelRecord(stage.level, self.backbone.grid, self.backbone.size, name, transfer_gap=gap))
        self.levels[-1].wall_time_s += time.perf_counter() - began

    def train(self, stage: Stage, tell: Callable[[Progress], None], halt: Callable[[], str | None]) -> StageEnd:
        """Train one stage; parameters and level records are updated by `settle`.

        Args:
            stage: What to do.
            tell: Called after every step.
            halt: Asked before every step; a reason ends the stage there.

        Returns:
            How it ended.
        """
        assert self.theta is not None
        began = time.perf_counter()
        optimizer = self.configuration.components["optimizer"]
        sampler: Sampler = self.configuration.components["sampler"]
        optimizer.start(self.backbone.size, stage.steps)
        theta, reason, message = self.theta, "steps", ""
        rows: list[dict[str, float]] = []
        losses: list[float] = []
        best = (math.inf, theta)
        due, stuck = True, False  # whether new points are due; whether the last points left nothing to gain
        for k in range(stage.steps):
            if halted := halt():
                reason = halted
                break
            try:
                if due or (sampler.resample_every and k % sampler.resample_every == 0):
                    self.resample(theta, stage.level)
                    due = False
                step = optimizer.step(self.objective, theta)
            except DivergedError as error:  # the sampler has seen a residual that is not finite
                reason, message, theta = "diverged", f"step {k + 1} of level {stage.level}: {error}", best[1]
                break
            if math.isfinite(step.loss) and step.loss < best[0]:
                best = (step.loss, step.theta if step.measured is None else step.measured)
            if not (math.isfinite(step.loss) and bool(torch.isfinite(step.theta).all())):
                reason, theta = "diverged", best[1]
                message = f"step {k + 1} of level {stage.level}: {step.stop or 'not finite'}"
                break
            theta = step.theta
            self.objective.update_multipliers(theta)
            losses.append(step.loss)
            rows.append(self._row(stage, step.loss, step.terms, theta))
            error = next((v for name, v in rows[-1].items() if name.startswith("relative_l2")), None)
            tell(Progress(stage, k + 1, step.loss, error))
            if met := stage.stop.met(losses):
                reason = met
                break
            if step.stop and (stuck or not sampler.resample_every):
                reason, message = "optimizer", step.stop
                break
            # With fresh points the optimiser may find its way again: draw them at once, and give up if it does not.
            due = stuck = step.stop is not None
        if not len(self.objective.points):
            self.resample(theta, stage.level)
        loss = self._loss(theta)
        if not math.isfinite(loss) and reason != "diverged":
            # An optimiser that measures the loss before its step has not seen the last one's.
            reason, message, theta = "diverged", f"the last step of level {stage.level}: loss is not finite", best[1]
            loss = self._loss(theta)
        self.levels[-1].wall_time_s += time.perf_counter() - began
        return StageEnd(reason, message, theta, loss, rows)

    def _loss(self, theta: Tensor) -> float:
        with torch.no_grad():
            return float(self.objective.residual(theta)[0].square().sum())

    def settle(self, end: StageEnd) -> None:
        """Keep a stage's result: parameters, history rows and the level's record."""
        self.theta = end.theta
        first = len(self.history)
        self.history += [{"step": first + k, **row} for k, row in enumerate(end.rows, start=1)]
        record = self.levels[-1]
        record.loss = end.loss
        record.steps += len(end.rows)
        fields = {
            n: v.reshape(self.grid.shape) for n, v in evaluate(self.objective, end.theta, self.grid.points).items()
        }
        record.relative_l2 = self.grid.errors(fields)[0]

    def resample(self, theta: Tensor, level: int) -> None:
        """Draw new collocation points for a level."""
        sampler: Sampler = self.configuration.components["sampler"]
        cells = None
        if self.backbone.grid is not None:
            domain, periodic = self.configuration.problem.domain, self.backbone.embedding.periodic
            cells = {name: self.backbone.grid for name in domain.names if name not in periodic}
        objective = self.objective

        def residual(points: Tensor) -> Tensor:
            values = objective.interior_residual(theta, points).values()
            return torch.stack([v.square() for v in values]).sum(0).sqrt()

        draw = sampler.draw(
            self.configuration.problem,
            level,
            self._points,
            cells=cells,
            residual=residual,
            dtype=self.dtype,
            device=self.device,
        )
        objective.set_points(draw)

    def _row(self, stage: Stage, loss: float, terms: dict[str, float], theta: Tensor) -> dict[str, float]:
        row = {"level": float(stage.level), "wall_time": self.seconds, "loss": loss}
        row.update({f"term_{name}": value for name, value in terms.items()})
        row.update({f"weight_{name}": self.configuration.components["weighting"].term(name) for name in terms})
        if self._monitor_reference:
            values = evaluate(self.objective, theta, self._monitor)
            for name, reference in self._monitor_reference.items():
                norm = float(np.linalg.norm(reference)) or math.nan
                row[f"relative_l2_{name}"] = float(np.linalg.norm(values[name] - reference)) / norm
        return row

    def columns(self) -> dict[str, np.ndarray]:
        """The history as columns `[steps]`."""
        names = list(dict.fromkeys(name for row in self.history for name in row))
        table: dict[str, Any] = {name: np.array([row.get(name, math.nan) for row in self.history]) for name in names}
        for name in ("step", "level"):
            if name in table:
                table[name] = table[name].astype(np.int64)
        return table
