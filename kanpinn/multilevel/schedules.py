"""Schedules as data: a list of stages that the run executes one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from kanpinn.backbones.edits import EDITS, MOST_ADDED
from kanpinn.errors import invalid, unknown_choice
from kanpinn.multilevel.stages import Stage, StopRule, joined, visits
from kanpinn.options import Options, option

MAX_LEVELS = 12
MAX_CYCLES = 10_000
MAX_SLABS = 1000
MAX_STARTS = 10_000
COARSE_PROBLEMS = ("fas", "galerkin")
LAYERS = ("all", "last")
OPTIMIZER_STATES = ("reset", "transfer")


def _per_level(key: str, value: int | list[int], levels: int) -> list[int]:
    """One number per level from a number or a list whose last entry serves all further levels; raises UserError."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise invalid(key, value, "one number, or one per level")
    return [values[min(level, len(values) - 1)] for level in range(levels)]


@dataclass
class Schedule(Options, ABC):
    """Options of all schedules."""

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
        """Coarse problem while a finer level waits: `coarse`, `radius` and `layers` of `Correcting`."""
        return "galerkin", None, "all"

    def coefficients(self, level: int) -> dict[str, float]:
        """Coefficients of the problem that have other values on a level than in the problem."""
        return {}

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

    def coefficients(self, level: int) -> dict[str, float]:
        return {name: values[level] for name, values in (self.curriculum or {}).items() if level < len(values)}

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

    @property
    def coarse_problem(self) -> tuple[str, float | None, str]:
        return self.coarse, self.radius, self.layers


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


@dataclass
class VCycle(Cycling):
    """V-cycles on the finest level, from a random start."""

    branches: ClassVar[int] = 1

    cycles: int = option(10, "number of cycles", at_least=1, at_most=MAX_CYCLES)

    def plan(self) -> list[Stage]:
        return joined(self.cycles * self._cycle(self.levels - 1, self.branches))


@dataclass
class WCycle(VCycle):
    """W-cycles on the finest level, from a random start: two coarse corrections per visit of every level."""

    branches: ClassVar[int] = 2


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


AMOUNTS = tuple(name for name in EDITS if name != "insert")
"""Edits by a number of nodes, layers or products."""


@dataclass
class Custom(Correcting):
    """A free list of stages: any levels in any order; `levels` is one more than the highest of them."""

    levels: int = field(default=0, init=False)
    stages: list[Any] = option(
        [],
        "stages as {level: 0, steps: 100}, if wanted with optimizer; or widen, deepen, rank: 2 or insert: [0.5] before",
    )

    def check(self) -> None:
        """Refuse stages that are none; raises UserError."""
        if not self.stages:
            raise invalid("schedule.stages", "[]", "a list such as [{level:0,steps:100},{level:1,steps:50}]")
        for k, stage in enumerate(self.stages):
            self._check_stage(f"schedule.stages[{k}]", stage)
        self._check_edits()
        self.levels = 1 + max(stage["level"] for stage in self.stages)
        super().check()

    @staticmethod
    def _check_stage(key: str, stage: Any) -> None:
        """Refuse a stage with unknown keys or values out of range; raises UserError."""
        if not isinstance(stage, Mapping):
            raise invalid(key, stage, "a mapping such as {level:0,steps:100}")
        for name in stage:
            if name not in ("level", "steps", "optimizer", *EDITS):
                raise unknown_choice(key, name, ("level", "steps", "optimizer", *EDITS))
        ranges = {"level": (0, MAX_LEVELS - 1), "steps": (0, 10**9), **dict.fromkeys(AMOUNTS, (1, MOST_ADDED))}
        for name, (least, most) in ranges.items():
            value = stage.get(name)
            if name in AMOUNTS and name not in stage:
                continue
            each = value if name == "widen" and isinstance(value, list | tuple) and any(value) else [value]
            least -= len(each) > 1  # a hidden layer may stay as it is
            if not all(type(one) is int and least <= one <= most for one in each):
                lists = ", or a list of them, one per hidden layer" if name == "widen" else ""
                raise invalid(f"{key}.{name}", value, f"a whole number from {least} to {most}{lists}")
        if "insert" in stage:
            knots = stage["insert"] if isinstance(stage["insert"], list | tuple) else [stage["insert"]]
            numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and -1 < one < 1 for one in knots)
            if not knots or not numbers:
                raise invalid(f"{key}.insert", stage["insert"], "knots between -1 and 1, the ends of the domain")

    def _check_edits(self) -> None:
        """Refuse edits where there is no trained network, or a finer one waits for it; raises UserError."""
        for k, stage in enumerate(self.stages):
            for name in (name for name in EDITS if name in stage):
                key, value = f"schedule.stages[{k}].{name}", stage[name]
                if not k:
                    raise invalid(key, value, "no change in the first stage, whose network is new")
                if stage["level"] < max(before["level"] for before in self.stages[:k]):
                    raise invalid(key, value, "no change on a level below one visited before, which waits for it")
                if self.slabs > 1:
                    raise invalid(key, value, "no change of the network with schedule.slabs above 1")

    def plan(self) -> list[Stage]:
        plain = [self._stage(stage["level"], stage["steps"]) for stage in self.stages]
        found = []
        for stage, given in zip(plain, self.stages, strict=True):
            amounts = ((name, given[name]) for name in EDITS if name in given)
            edits = tuple((name, tuple(a) if isinstance(a, Sequence) else a) for name, a in amounts)
            optimizer = stage.optimizer if given.get("optimizer") is None else given["optimizer"]
            found.append(replace(stage, optimizer=optimizer, edits=edits))
        return found


SCHEDULES: dict[str, type[Schedule]] = {
    "single": Single,
    "nested": Nested,
    "v_cycle": VCycle,
    "w_cycle": WCycle,
    "fmg": Fmg,
    "custom": Custom,
}
