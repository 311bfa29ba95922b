"""Schedules as data: a list of stages that the run executes one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from kanpinn.errors import invalid, unknown_choice
from kanpinn.options import Options, option

MAX_LEVELS = 12
MAX_CYCLES = 10_000
MAX_SLABS = 1000
MAX_STARTS = 10_000
COARSE_PROBLEMS = ("fas", "galerkin")
LAYERS = ("all", "last")
OPTIMIZER_STATES = ("reset", "transfer")


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

    How a stage is entered follows from where the run stands. Going up to a level never visited refines the network;
    going down suspends the finer level and trains a coarse problem that carries its information; going up again adds
    the coarse correction to the suspended level.

    Attributes:
        level: The level, 0 the coarsest.
        steps: Optimiser steps at most; 0 only passes through.
        stop: When to end earlier.
        trial: Number of the random start this stage tries; None for the ordinary stages, the first of which continues
            from the best trial.
        optimizer: What trains it: a name, a mapping with `name` and options, or None for the run's optimiser.
    """

    level: int
    steps: int
    stop: StopRule = StopRule()
    trial: int | None = None
    optimizer: Any = None


def _per_level(key: str, value: int | list[int], levels: int) -> list[int]:
    """One number per level from a number or a list whose last entry serves all further levels; raises UserError."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise invalid(key, value, "one number, or one per level")
    return [values[min(level, len(values) - 1)] for level in range(levels)]


def visits(top: int, branches: int) -> list[int]:
    """The levels of one multigrid cycle, in the order they are visited (Trottenberg et al. 2001, sec. 2.4).

    Args:
        top: The finest level.
        branches: Coarse problems solved per visit, γ: 1 is the V-cycle, 2 the W-cycle.

    Returns:
        Levels from `top` down to 0 and back; a level visited twice in a row is listed once.
    """
    if top == 0:
        return [0]
    below = visits(top - 1, branches)
    inner = below + below[1:] * (branches - 1)  # a repetition goes on where the one before it ended
    return [top, *inner, top]


@dataclass
class Schedule(Options, ABC):
    """What all schedules share."""

    key: ClassVar[str] = "schedule"

    levels: int = option(
        3, "number of levels; level l has grid · 2^l spline intervals per edge", at_least=1, at_most=MAX_LEVELS
    )
    slabs: int = option(
        1, "equal parts of the time interval, solved one after the other", at_least=1, at_most=MAX_SLABS
    )
    warm: bool = option(True, "a time slab starts from the network of the one before")
    tolerance: float | None = option(None, "loss at which a stage ends; null: none", above=0)
    plateau: float | None = option(
        None, "a stage ends when patience steps lower the loss by less than this share; null: never", above=0
    )
    patience: int = option(20, "steps that plateau looks back", at_least=1)
    optimizers: list[Any] | None = option(None, "optimizer of each level, coarsest first; null: that of the run")
    optimizer_state: str = option(
        "reset", "what becomes of the state of the optimizer at a level change", one_of=OPTIMIZER_STATES
    )

    def check(self) -> None:
        """Refuse options without a plan; raises UserError."""
        if self.optimizers == []:
            raise invalid("schedule.optimizers", [], "null, or a list of optimizers, one per level")
        self.plan()

    @abstractmethod
    def plan(self) -> list[Stage]:
        """The stages in the order they run."""

    @property
    def coarse_problem(self) -> tuple[str, float | None, str]:
        """What is solved on coarser levels while a finer one waits: `coarse`, `radius` and `layers` of `Cycling`."""
        return getattr(self, "coarse", "galerkin"), getattr(self, "radius", None), getattr(self, "layers", "all")

    def coefficients(self, level: int) -> dict[str, float]:
        """The problem's coefficients that a level has other values of than the problem, `Nested.curriculum`."""
        given: Mapping[str, Sequence[float]] = getattr(self, "curriculum", None) or {}
        return {name: values[level] for name, values in given.items() if level < len(values)}

    def _stage(self, level: int, steps: int) -> Stage:
        chosen = None if self.optimizers is None else self.optimizers[min(level, len(self.optimizers) - 1)]
        return Stage(level, steps, StopRule(self.tolerance, self.plateau, self.patience), optimizer=chosen)

    def _trials(self, level: int, starts: int, steps: int) -> list[Stage]:
        plain = replace(self._stage(level, steps), stop=StopRule())
        return [replace(plain, trial=k) for k in range(starts if starts > 1 else 0)]


@dataclass
class Ascending(Schedule, ABC):
    """Schedules that never go down."""

    steps: int | list[int] = option(
        100, "optimiser steps per level: one number, or one per level from the coarsest", at_least=1
    )
    starts: int = option(
        1,
        "random networks tried on the first level; the one with the lowest loss goes on",
        at_least=1,
        at_most=MAX_STARTS,
    )
    start_steps: int = option(20, "steps that each of them gets", at_least=1)

    def _ascend(self, levels: Sequence[int]) -> list[Stage]:
        steps = _per_level("schedule.steps", self.steps, self.levels)
        trials = self._trials(levels[0], self.starts, self.start_steps)
        return trials + [self._stage(level, steps[level]) for level in levels]


@dataclass
class Single(Ascending):
    """The finest level only, from a random start."""

    def plan(self) -> list[Stage]:
        return self._ascend([self.levels - 1])


@dataclass
class Nested(Ascending):
    """Coarse to fine: train on the coarsest level, refine exactly, train on, up to the finest."""

    curriculum: dict[str, list[float]] | None = option(
        None, "other values of a coefficient on levels from the coarsest, as {nu: [0.1, 0.03]}"
    )

    def check(self) -> None:
        super().check()
        for name, values in (self.curriculum or {}).items():
            if not 1 <= len(values) < self.levels:
                expected = f"one value per level but the finest, 1 to {self.levels - 1} of them"
                if self.levels == 1:
                    expected = "null, or schedule.levels of at least 2: the only level is the finest"
                raise invalid(f"schedule.curriculum.{name}", values, expected)

    def plan(self) -> list[Stage]:
        return self._ascend(range(self.levels))


@dataclass
class Correcting(Schedule, ABC):
    """Schedules that go down again for coarse corrections."""

    coarse: str = option(
        "galerkin",
        "coarse problem: galerkin, the finer network restricted; or fas, the coarse network on its own points",
        one_of=COARSE_PROBLEMS,
    )
    radius: float | None = option(
        0.01, "fas: share of the norm of the parameters that its linear term may move; null: any", above=0
    )
    layers: str = option("all", "galerkin: layers that coarse problems change", one_of=LAYERS)


@dataclass
class Cycling(Correcting, ABC):
    """Multigrid cycles (Trottenberg et al. 2001, sec. 2.4)."""

    pre: int | list[int] = option(
        5, "steps before going down: one number, or one per level from the coarsest", at_least=0
    )
    post: int | list[int] = option(5, "steps after a correction, likewise", at_least=0)
    coarsest: int = option(20, "steps on level 0 within a cycle", at_least=1)

    def _cycle(self, top: int, branches: int) -> list[Stage]:
        """The stages of one cycle from level `top` down to 0 and back."""
        pre = _per_level("schedule.pre", self.pre, self.levels)
        post = _per_level("schedule.post", self.post, self.levels)
        levels = visits(top, branches)
        out = []
        for k, level in enumerate(levels):
            down = k + 1 < len(levels) and levels[k + 1] < level
            up = k > 0 and levels[k - 1] < level
            steps = (pre[level] if down else 0) + (post[level] if up else 0)
            out.append(self._stage(level, self.coarsest if level == 0 else steps))
        return out


def joined(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages with neighbours on one level made one, so that the optimiser is not stopped in between."""
    out: list[Stage] = []
    for stage in stages:
        if out and out[-1].level == stage.level and out[-1].trial is None and stage.trial is None:
            out[-1] = replace(out[-1], steps=out[-1].steps + stage.steps)
        else:
            out.append(stage)
    return out


@dataclass
class VCycle(Cycling):
    """V-cycles on the finest level, from a random start."""

    cycles: int = option(10, "number of cycles", at_least=1, at_most=MAX_CYCLES)

    def plan(self) -> list[Stage]:
        return joined(self.cycles * self._cycle(self.levels - 1, 1))


@dataclass
class WCycle(Cycling):
    """W-cycles on the finest level, from a random start: two coarse corrections per visit of every level."""

    cycles: int = option(10, "number of cycles", at_least=1, at_most=MAX_CYCLES)

    def plan(self) -> list[Stage]:
        return joined(self.cycles * self._cycle(self.levels - 1, 2))


@dataclass
class Fmg(Ascending, Cycling):
    """Full multigrid: coarse to fine like `nested`, with V-cycles on each new level before the next."""

    cycles: int | list[int] = option(
        1, "V-cycles on each new level: one number, or one per level", at_least=0, at_most=MAX_CYCLES
    )

    def plan(self) -> list[Stage]:
        steps = _per_level("schedule.steps", self.steps, self.levels)
        cycles = _per_level("schedule.cycles", self.cycles, self.levels)
        out = self._trials(0, self.starts, self.start_steps)
        for level in range(self.levels):
            out.append(self._stage(level, steps[level]))
            out += self._cycle(level, 1) * cycles[level] if level else []
        return joined(out)


@dataclass
class Custom(Correcting):
    """A free list of stages: any levels in any order; `levels` is one more than the highest of them."""

    levels: int = field(default=0, init=False)
    stages: list[Any] = option([], "stages as {level: 0, steps: 100}, with an optimizer if wanted, in any order")

    def check(self) -> None:
        """Refuse stages that are none; raises UserError."""
        if not self.stages:
            raise invalid("schedule.stages", "[]", "a list such as [{level:0,steps:100},{level:1,steps:50}]")
        for k, stage in enumerate(self.stages):
            key = f"schedule.stages[{k}]"
            if not isinstance(stage, Mapping):
                raise invalid(key, stage, "a mapping such as {level:0,steps:100}")
            for name in stage:
                if name not in ("level", "steps", "optimizer"):
                    raise unknown_choice(key, name, ("level", "steps", "optimizer"))
            for name, least, most in (("level", 0, MAX_LEVELS - 1), ("steps", 0, 10**9)):
                value = stage.get(name)
                if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                    raise invalid(f"{key}.{name}", value, f"a whole number from {least} to {most}")
        self.levels = 1 + max(stage["level"] for stage in self.stages)
        super().check()

    def plan(self) -> list[Stage]:
        plain = [self._stage(stage["level"], stage["steps"]) for stage in self.stages]
        return [
            replace(stage, optimizer=stage.optimizer if given.get("optimizer") is None else given["optimizer"])
            for stage, given in zip(plain, self.stages, strict=True)
        ]


SCHEDULES: dict[str, type[Schedule]] = {
    "single": Single,
    "nested": Nested,
    "v_cycle": VCycle,
    "w_cycle": WCycle,
    "fmg": Fmg,
    "custom": Custom,
}
