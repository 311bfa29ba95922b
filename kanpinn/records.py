"""What is kept of a solve: one record per visit of a level, what is known after a step, how a stage ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from kanpinn.multilevel import Stage


@dataclass
class LevelRecord:
    """What one visit of a level cost and reached; the content of `levels` in metrics.json.

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
        entered: How the level was reached: start, refine, restrict (a coarse problem) or correct (back from one).
        correction: Step length of the coarse correction, 0 where it was refused; None where there was none.
        slab: Which time slab, 0 the first.
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
    change: dict[str, float] | None = None


@dataclass
class Progress:
    """What is known after a step, for progress bars.

    Attributes:
        stage: The stage under way.
        step: Steps done in it.
        loss: The loss.
        error: Relative L2 error of the first unknown at the monitor points; None without a reference.
        row: Its row of the history.
    """

    stage: Stage
    step: int
    loss: float
    error: float | None
    row: dict[str, float] = field(default_factory=dict)


@dataclass
class StageEnd:
    """How a stage ended.

    Attributes:
        reason: steps, tolerance, plateau, time_limit, interrupted, diverged, optimizer (it cannot go on) or refused (a
            coarse problem diverged; its start is kept).
        message: The optimiser's own words, if it stopped.
        theta: Parameters `[P]` after the stage.
        loss: The loss there, on the last points, without multipliers of points.
        rows: History rows of the stage.
    """

    reason: str
    message: str
    theta: Tensor
    loss: float
    rows: list[dict[str, float]] = field(default_factory=list)
