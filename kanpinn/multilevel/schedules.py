"""Schedules as data: a list of stages that the run executes one after the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kanpinn.errors import invalid

MAX_LEVELS = 12


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

    def met(self, losses: Sequence[float]) -> str | None:
        """Why a stage with these losses should end ("tolerance" or "plateau"), or None."""
        if self.tolerance is not None and losses and losses[-1] <= self.tolerance:
            return "tolerance"
        if self.plateau is not None and len(losses) > self.patience:
            recent, before = min(losses[-self.patience :]), min(losses[: -self.patience])
            if recent > (1 - self.plateau) * before:
                return "plateau"
        return None


@dataclass(frozen=True)
class Stage:
    """One uninterrupted training on one level.

    Attributes:
        level: The level, 0 the coarsest; the network is refined up to it first.
        steps: Optimiser steps at most.
        stop: When to end earlier.
        trial: Number of the random start this stage tries; None for the ordinary stages, the first of which continues
            from the best trial.
    """

    level: int
    steps: int
    stop: StopRule
    trial: int | None = None


def _per_level(key: str, value: Any, levels: int) -> list[int]:
    """One number per level from a number or a list whose last entry serves all further levels; raises UserError."""
    values: list[Any] = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * levels
    if not values or any(not isinstance(v, int) or isinstance(v, bool) or v < 1 for v in values):
        raise invalid(key, value, "an integer of at least 1, or a list of them, one per level")
    return [values[min(level, len(values) - 1)] for level in range(levels)]


@dataclass
class Schedule(ABC):
    """What all schedules share.

    Attributes:
        levels: Number of levels; level l has grid · 2^l spline intervals per edge.
        steps: Optimiser steps per level: one number for all, or one per level from the coarsest, the last of which
            serves all further levels.
        starts: Random networks tried on the first level trained; the one with the lowest loss goes on.
        start_steps: Steps each of them gets.
        tolerance: Stop a level once its loss is at most this.
        plateau: Stop a level once `patience` steps lower the loss by less than this fraction.
        patience: See `plateau`.
    """

    levels: int = 3
    steps: Any = 100
    starts: int = 1
    start_steps: int = 20
    tolerance: float | None = None
    plateau: float | None = None
    patience: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MAX_LEVELS:
            raise invalid("schedule.levels", self.levels, f"an integer from 1 to {MAX_LEVELS}")
        _per_level("schedule.steps", self.steps, self.levels)
        for key in ("starts", "start_steps", "patience"):
            if getattr(self, key) < 1:
                raise invalid(f"schedule.{key}", getattr(self, key), "an integer of at least 1")
        for key in ("tolerance", "plateau"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise invalid(f"schedule.{key}", value, "null or a number above 0")

    @abstractmethod
    def stages(self) -> list[Stage]:
        """The stages in the order they run."""

    def _train(self, levels: Sequence[int]) -> list[Stage]:
        steps = _per_level("schedule.steps", self.steps, self.levels)
        stop = StopRule(self.tolerance, self.plateau, self.patience)
        trials = [
            Stage(levels[0], self.start_steps, StopRule(), k) for k in range(self.starts if self.starts > 1 else 0)
        ]
        return trials + [Stage(level, steps[level], stop) for level in levels]


@dataclass
class Single(Schedule):
    """The finest level only, from a random start."""

    def stages(self) -> list[Stage]:
        return self._train([self.levels - 1])


@dataclass
class Nested(Schedule):
    """Coarse to fine: train on the coarsest level, refine exactly, train on, up to the finest."""

    def stages(self) -> list[Stage]:
        return self._train(range(self.levels))


SCHEDULES: dict[str, type[Schedule]] = {"single": Single, "nested": Nested}
