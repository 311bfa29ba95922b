"""Records of a solve: visits of levels, steps, the state and the end of a stage."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from kanpinn.multilevel import Stage
from kanpinn.state import State, check_types, tensor

Row = dict[str, float]
"""Numbers the history keeps of a step, by column."""


def rows_state(rows: Sequence[Row]) -> State:
    """Return history rows as one array `[rows, columns]`."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = [[row.get(name, math.nan) for name in names] for row in rows]
    return {"columns": names, "values": np.array(values, dtype=np.float64).reshape(len(rows), len(names))}


def rows_of(state: State) -> list[Row]:
    """Return the rows whose `rows_state` this is."""
    names = [str(name) for name in state["columns"]]
    missing = {"level", "wall_time", "loss", "work"} - set(names)
    if len(state["values"]) and (missing or state["values"].dtype != np.float64):
        raise ValueError(f"history rows of {state['values'].dtype}, columns {', '.join(names)[:80]}")
    return [dict(zip(names, row, strict=True)) for row in state["values"].tolist()]


@dataclass
class LevelRecord:
    """Cost and result of one visit of a level; an entry of `levels` in metrics.json.

    `steps` counts those of the network that went on; `wall_time_s` is that of all starts together.

    Attributes:
        level: The level, 0 the coarsest.
        grid: Spline intervals per edge there.
        parameters: Parameters trained there.
        optimizer: Name of the optimiser.
        steps: Steps done.
        loss: ‖r‖² of the network at the end, every point's multiplier (weighting=rba) taken as 1.
        relative_l2: Its error by unknown; None without a reference.
        wall_time_s: Seconds.
        transfer_gap: Change of the output by the refinement that led here; None where none did.
        points: Collocation points at the end.
        work: Σ over steps of points × parameters of the network evaluated, discarded random starts included.
        entered: Way the level was reached: start, refine, restrict (a coarse problem) or correct (back from one).
        correction: Step length of the coarse correction, 0 where it was refused; None where there was none.
        slab: Number of the time slab, 0 the first.
        rollbacks: Number of returns to the best state of the visit, after numbers that were not finite.
        change: ‖u − v‖₂/‖u‖₂ on the output grid by unknown, u the output at the end and v that of the level below when
            it was left; None where no level was below.
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
    points: int = 0
    work: float = 0.0
    entered: str = "start"
    correction: float | None = None
    slab: int = 0
    rollbacks: int = 0
    change: dict[str, float] | None = None

    def state(self) -> State:
        """All attributes."""
        return asdict(self)

    @staticmethod
    def from_state(state: State) -> LevelRecord:
        """The record whose `state` this is."""
        record = LevelRecord(**state)
        check_types(record)
        return record


@dataclass
class Progress:
    """Numbers known after a step, for progress bars.

    Attributes:
        stage: The stage under way.
        step: Steps done in it.
        row: Its row of the history.
    """

    stage: Stage
    step: int
    row: Row

    @property
    def error(self) -> float | None:
        """Relative L2 error of the first unknown at the monitor points; None without a reference other than zero."""
        errors = (value for name, value in self.row.items() if name.startswith("relative_l2"))
        return next((value for value in errors if not math.isnan(value)), None)


@dataclass
class StageEnd:
    """End of a stage.

    Attributes:
        reason: steps, tolerance, plateau, time_limit, interrupted, diverged, optimizer (it cannot go on) or refused (a
            coarse problem diverged; its start is kept). Of a whole slab also minimum (as good as rounding allows) or
            stalled (nothing fell any more, and yet it is none).
        message: The optimiser's own words, if it stopped.
        theta: Parameters `[P]` after the stage.
        loss: The loss there, on the last points, without multipliers of points.
        rows: History rows of the stage.
    """

    reason: str
    message: str
    theta: Tensor
    loss: float
    rows: list[Row] = field(default_factory=list)

    def state(self) -> State:
        """All attributes."""
        return {**vars(self), "rows": rows_state(self.rows)}

    @staticmethod
    def from_state(state: State, device: torch.device) -> StageEnd:
        """The end whose `state` this is, arrays in place of tensors."""
        theta, rows = tensor(state["theta"], device), rows_of(state["rows"])
        return StageEnd(str(state["reason"]), str(state["message"]), theta, float(state["loss"]), rows)


@dataclass
class StageState:
    """State of a stage, carried from step to step.

    Attributes:
        theta: Parameters `[P]` of the level under work.
        best: Those of the lowest loss measured, at first those it began with.
        best_loss: That loss; infinite before the first one is known.
        held: Those of the lowest error at the validation rows of a table, if there are any; at first as `best`.
        held_error: That error; infinite before the first one is known.
        due: True if new points are to be drawn before the next step.
        stuck: True if the last points left nothing to gain.
        rows: History rows, one per step.
        losses: Loss minimised, after every step.
        rollbacks: Number of returns to `best`.
        seconds: Time spent in it before this process took it up.
        began: Clock reading when this process took it up.
    """

    theta: Tensor
    best: Tensor
    held: Tensor
    best_loss: float = math.inf
    held_error: float = math.inf
    due: bool = False
    stuck: bool = False
    rows: list[Row] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rollbacks: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds spent in the stage, those of earlier processes included."""
        return self.seconds + time.perf_counter() - self.began

    def state(self) -> State:
        """All attributes."""
        known = {key: value for key, value in vars(self).items() if key != "began"}
        losses = np.array(self.losses, dtype=np.float64)
        return {**known, "rows": rows_state(self.rows), "losses": losses, "seconds": self.elapsed}

    @staticmethod
    def from_state(state: State, device: torch.device) -> StageState:
        """The stage whose `state` this is, arrays in place of tensors."""
        tensors = {key: tensor(state[key], device) for key in ("theta", "best", "held")}
        found = StageState(**{**state, **tensors, "rows": rows_of(state["rows"]), "losses": state["losses"].tolist()})
        check_types(found)
        if len(found.rows) != len(found.losses):
            raise ValueError(f"{len(found.losses)} losses of {len(found.rows)} steps")
        return found
