"""Schedules as data: a list of stages that the run executes one after the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kanpinn.errors import invalid, unknown_choice
from kanpinn.settings.checking import shown

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


def _per_level(key: str, value: Any, levels: int, least: int = 1) -> list[int]:
    """One number per level from a number or a list whose last entry serves all further levels; raises UserError."""
    values: list[Any] = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * levels
    if not values or any(not isinstance(v, int) or isinstance(v, bool) or v < least for v in values):
        raise invalid(key, value, f"an integer of at least {least}, or a list of them, one per level")
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
class Schedule(ABC):
    """What all schedules share.

    Attributes:
        levels: Number of levels; level l has grid · 2^l spline intervals per edge.
        tolerance: Stop a level once its loss is at most this.
        plateau: Stop a level once `patience` steps lower the loss by less than this fraction.
        patience: See `plateau`.
        optimizers: The optimiser of each level from the coarsest, the last of which serves all further levels: names,
            or mappings with `name` and options; None for the run's optimiser on all levels.
        optimizer_state: At a level change, "reset" the optimiser, or "transfer" its moments, correction pairs or
            damping.
        slabs: Equal parts of the time interval; each has its own network, trained by all stages, from the end of the
            part before.
        warm: Whether a later part's network starts from the one before, projected to the coarsest level, and not from
            random parameters.
    """

    levels: int = 3
    slabs: int = 1
    warm: bool = True
    tolerance: float | None = None
    plateau: float | None = None
    patience: int = 20
    optimizers: list[Any] | None = None
    optimizer_state: str = "reset"

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MAX_LEVELS:
            raise invalid("schedule.levels", self.levels, f"an integer from 1 to {MAX_LEVELS}")
        if not 1 <= self.slabs <= MAX_SLABS:
            raise invalid("schedule.slabs", self.slabs, f"an integer from 1 to {MAX_SLABS}")
        if self.patience < 1:
            raise invalid("schedule.patience", self.patience, "an integer of at least 1")
        for key in ("tolerance", "plateau"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise invalid(f"schedule.{key}", value, "null or a number above 0")
        if self.optimizer_state not in OPTIMIZER_STATES:
            raise unknown_choice("schedule.optimizer_state", self.optimizer_state, OPTIMIZER_STATES)
        if self.optimizers is not None and not self.optimizers:
            raise invalid("schedule.optimizers", "[]", "null, or a list of optimizers, one per level")
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
        if not 1 <= starts <= MAX_STARTS:
            raise invalid("schedule.starts", starts, f"an integer from 1 to {MAX_STARTS}")
        if steps < 1:
            raise invalid("schedule.start_steps", steps, "an integer of at least 1")
        plain = replace(self._stage(level, steps), stop=StopRule())
        return [replace(plain, trial=k) for k in range(starts if starts > 1 else 0)]


@dataclass
class Ascending(Schedule, ABC):
    """Schedules that never go down.

    Attributes:
        steps: Optimiser steps per level: one number for all, or one per level from the coarsest, the last of which
            serves all further levels.
        starts: Random networks tried on the first level trained; the one with the lowest loss goes on.
        start_steps: Steps each of them gets.
    """

    steps: Any = 100
    starts: int = 1
    start_steps: int = 20

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
    """Coarse to fine: train on the coarsest level, refine exactly, train on, up to the finest.

    Attributes:
        curriculum: By coefficient of the problem, its values on the levels from the coarsest; further levels, among
            them the finest, have the problem's own. Continuation in a coefficient, such as a viscosity from large to
            small (Krishnapriyan et al. 2021, arXiv:2109.01050, sec. 4). Errors are always those of the problem itself.
    """

    curriculum: dict[str, list[float]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (self.curriculum or {}).items():
            if not 1 <= len(values) < self.levels:
                expected = f"one value per level but the finest, 1 to {self.levels - 1} of them"
                if self.levels == 1:
                    expected = "null, or schedule.levels of at least 2: the only level is the finest"
                raise invalid(f"schedule.curriculum.{name}", shown(values), expected)

    def plan(self) -> list[Stage]:
        return self._ascend(range(self.levels))


def _check_coarse(coarse: str, radius: float | None, layers: str) -> None:
    """Refuse coarse problems and layers that do not exist and radii that are not above 0; raises UserError."""
    if coarse not in COARSE_PROBLEMS:
        raise unknown_choice("schedule.coarse", coarse, COARSE_PROBLEMS)
    if radius is not None and not (radius > 0 and math.isfinite(radius)):
        raise invalid("schedule.radius", radius, "null or a number above 0")
    if layers not in LAYERS:
        raise unknown_choice("schedule.layers", layers, LAYERS)


@dataclass
class Cycling(Schedule, ABC):
    """Schedules that go down again for coarse corrections.

    Attributes:
        pre: Steps on a level before going down: one number, or one per level from the coarsest.
        post: Steps on a level after its correction, likewise.
        coarsest: Steps on level 0.
        coarse: The coarse problem: "fas", the coarse network with the full approximation scheme's linear term, on its
            own points; or "galerkin", the finer network restricted to changes in the coarse space.
        radius: fas only: share of the parameters' norm that the linear term may move; None sets no bound.
        layers: galerkin only: which layers coarse problems change, "all" or the "last".
    """

    pre: Any = 5
    post: Any = 5
    coarsest: int = 20
    coarse: str = "galerkin"
    radius: float | None = 0.01
    layers: str = "all"

    def _cycle(self, top: int, branches: int) -> list[Stage]:
        """The stages of one cycle from level `top` down to 0 and back."""
        pre = _per_level("schedule.pre", self.pre, self.levels, least=0)
        post = _per_level("schedule.post", self.post, self.levels, least=0)
        if self.coarsest < 1:
            raise invalid("schedule.coarsest", self.coarsest, "an integer of at least 1")
        _check_coarse(self.coarse, self.radius, self.layers)
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
    """V-cycles on the finest level, from a random start.

    Attributes:
        cycles: How many.
    """

    cycles: int = 10

    def plan(self) -> list[Stage]:
        return joined(_times("schedule.cycles", self.cycles) * self._cycle(self.levels - 1, 1))


@dataclass
class WCycle(Cycling):
    """W-cycles on the finest level, from a random start: two coarse corrections per visit of every level.

    Attributes:
        cycles: How many.
    """

    cycles: int = 10

    def plan(self) -> list[Stage]:
        return joined(_times("schedule.cycles", self.cycles) * self._cycle(self.levels - 1, 2))


def _times(key: str, value: int) -> int:
    if not 1 <= value <= MAX_CYCLES:
        raise invalid(key, value, f"an integer from 1 to {MAX_CYCLES}")
    return value


@dataclass
class Fmg(Cycling):
    """Full multigrid: coarse to fine like `nested`, with V-cycles on each new level before the next.

    Attributes:
        steps: Steps on each level when it is reached, as in `nested`.
        cycles: V-cycles on each level after that: one number, or one per level from the coarsest (level 0 has none).
        starts: Random networks tried on level 0.
        start_steps: Steps each of them gets.
    """

    steps: Any = 100
    cycles: Any = 1
    starts: int = 1
    start_steps: int = 20

    def plan(self) -> list[Stage]:
        steps = _per_level("schedule.steps", self.steps, self.levels)
        cycles = _per_level("schedule.cycles", self.cycles, self.levels, least=0)
        if max(cycles) > MAX_CYCLES:
            raise invalid("schedule.cycles", self.cycles, f"at most {MAX_CYCLES}")
        out = self._trials(0, self.starts, self.start_steps)
        for level in range(self.levels):
            out.append(self._stage(level, steps[level]))
            cycle = self._cycle(level, 1)  # also where none is asked for, so that its options are checked
            out += cycle * (cycles[level] if level else 0)
        return joined(out)


@dataclass
class Custom(Schedule):
    """A free list of stages: any levels in any order; `levels` is set to one more than the highest of them.

    Attributes:
        stages: Mappings with `level`, `steps` and, if wanted, `optimizer`.
        coarse: The coarse problem wherever the list goes down: fas or galerkin, as in cycles.
        radius: As in cycles.
        layers: As in cycles.
    """

    stages: list[Any] = field(default_factory=list)
    coarse: str = "galerkin"
    radius: float | None = 0.01
    layers: str = "all"

    def __post_init__(self) -> None:
        _check_coarse(self.coarse, self.radius, self.layers)
        if not self.stages:
            raise invalid("schedule.stages", "[]", "a list such as [{level:0,steps:100},{level:1,steps:50}]")
        for k, stage in enumerate(self.stages):
            key = f"schedule.stages[{k}]"
            if not isinstance(stage, Mapping):
                raise invalid(key, shown(stage), "a mapping such as {level:0,steps:100}")
            for name in stage:
                if name not in ("level", "steps", "optimizer"):
                    raise unknown_choice(key, name, ("level", "steps", "optimizer"))
            for name, least, most in (("level", 0, MAX_LEVELS - 1), ("steps", 0, 10**9)):
                value = stage.get(name)
                if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                    raise invalid(f"{key}.{name}", shown(value), f"a whole number from {least} to {most}")
        self.levels = 1 + max(stage["level"] for stage in self.stages)
        super().__post_init__()

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
