"""Stages of a schedule, when they end, and the order in which cycles visit levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

DRAWS = 4
"""Draws of collocation points over which a plateau must last."""


@dataclass(frozen=True)
class StopRule:
    """When a stage ends before its steps are used up.

    Attributes:
        tolerance: Stop once the loss is at most this; None never.
        plateau: Stop once the lowest loss of the last `patience` steps is not below (1 − plateau) times the lowest
            before them; None never.
        patience: Steps the plateau rule looks back.
    """

    tolerance: float | None = None
    plateau: float | None = None
    patience: int = 20

    def plateaued(self, losses: Sequence[float], resample_every: int = 0) -> bool:
        """Tell whether losses have come to a plateau.

        Where new points are drawn every few steps, those of single draws are no trend: the rule then looks back over
        `DRAWS` of them at least.
        """
        patience = max(self.patience, DRAWS * resample_every)
        if self.plateau is None or len(losses) <= patience:
            return False
        return min(losses[-patience:]) > (1 - self.plateau) * min(losses[:-patience])


@dataclass(frozen=True)
class Stage:
    """One uninterrupted training on one level.

    How a stage is entered follows from where the run stands. Going up to a level never visited refines the network;
    going down suspends the finer level and trains a coarse problem that carries its information; going up again adds
    the coarse correction to the suspended level.

    Attributes:
        level: The level, 0 the coarsest.
        steps: Optimiser steps at most; 0 only passes through.
        stop: When to end earlier.
        trial: Number of the random start this stage tries; None for the ordinary stages, the first of which continues
            from the best trial.
        optimizer: The optimiser: a name, a mapping with `name` and options, or None for the run's optimiser.
        edits: Changes of the network before the steps, on the stage's level: kind and amount, as in `backbones.edits`.
    """

    level: int
    steps: int
    stop: StopRule = StopRule()
    trial: int | None = None
    optimizer: Any = None
    edits: tuple[tuple[str, Any], ...] = ()


def visits(top: int, branches: int) -> list[int]:
    """The levels from `top` to 0 and back of a multigrid cycle, in their order (Trottenberg et al. 2001, sec. 2.4).

    `branches` is γ, the coarse problems per visit: 1 is the V-cycle, 2 the W-cycle. No level follows itself.
    """
    if top == 0:
        return [0]
    below = visits(top - 1, branches)
    inner = below + below[1:] * (branches - 1)  # a repetition goes on where the one before it ended
    return [top, *inner, top]


def joined(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages with neighbours on one level made one, so that the optimiser is not stopped in between."""
    out: list[Stage] = []
    for stage in stages:
        if out and out[-1].level == stage.level and out[-1].trial is None and stage.trial is None:
            out[-1] = replace(out[-1], steps=out[-1].steps + stage.steps)
        else:
            out.append(stage)
    return out
