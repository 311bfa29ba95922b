"""A run that was stopped and resumed is the run that was never stopped, to the last bit."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kanpinn
from kanpinn import checkpoints, run
from kanpinn.checkpoints import Checkpoints, configuration_of, newest
from kanpinn.compose import compose
from kanpinn.config import Configuration, validate
from kanpinn.errors import UserError
from kanpinn.multilevel import Stage
from kanpinn.output import OutputGrid, solution_fields
from kanpinn.records import Progress, StageEnd
from kanpinn.registry import REGISTRY
from kanpinn.solver import Solver

TINY = [
    *("problem=heat", "problem.conditions=soft", "output.points=5", "output.progress=false", "output.figures=false"),
    *("threads=1", "backbone=kan", "backbone.width=[2]", "backbone.grid=2", "backbone.degree=3", "backbone.base=false"),
    *("sampler.interior=20", "sampler.boundary=8", "sampler.resample_every=2", "schedule.levels=2"),
]
ASCENDING = ["schedule.steps=[5,4]", "schedule.starts=2", "schedule.start_steps=2"]
CYCLES = ["schedule.cycles=1", "schedule.pre=2", "schedule.post=2", "schedule.coarsest=3"]
STAGES = "[{level:0,steps:3},{level:1,steps:3},{level:0,steps:3},{level:1,steps:2}]"
SCHEDULES = {
    "nested": ["schedule=nested", *ASCENDING],
    "single": ["schedule=single", *ASCENDING],
    "v_cycle": ["schedule=v_cycle", *CYCLES, "schedule.coarse=fas"],
    "w_cycle": ["schedule=w_cycle", *CYCLES, "schedule.levels=3", "schedule.coarsest=2", "schedule.layers=last"],
    "fmg": ["schedule=fmg", *CYCLES, "schedule.steps=3", "schedule.optimizer_state=transfer"],
    "custom": ["schedule=custom", f"schedule.stages={STAGES}", "schedule.optimizer_state=transfer"],
    "slabs": ["schedule=nested", "schedule.slabs=3", "schedule.steps=[3,2]"],
    "slabs, cold": ["schedule=nested", "schedule.slabs=2", "schedule.warm=false", *ASCENDING],
}
OPTIMIZERS = {
    **{name: [f"optimizer={name}"] for name in REGISTRY["optimizer"]},
    "adam": ["optimizer=adam", "optimizer.ramp_steps=2"],
    "gradient_descent": ["optimizer=gradient_descent", "optimizer.lr=1e-5", "optimizer.momentum=0.5"],
    "gauss_newton_cg": ["optimizer=gauss_newton_cg", "optimizer.cg_steps=5", "optimizer.preconditioner=bpx"],
    "lbfgs": ["optimizer=lbfgs", "optimizer.memory=3"],
    "relaxation": ["optimizer=relaxation", "optimizer.damping=1e-6"],
}
WEIGHTINGS = {
    **{name: [f"weighting={name}"] for name in REGISTRY["weighting"]},
    "growth": ["weighting=fixed", "weighting.growth=1"],
}
SAMPLERS = {
    **{name: [f"sampler={name}"] for name in REGISTRY["sampler"]},
    "fixed points": ["sampler=uniform", "sampler.resample_every=0"],
}
AXES = (OPTIMIZERS, SCHEDULES, SAMPLERS, WEIGHTINGS)
Case = tuple[str, ...]


def words(case: Case) -> list[str]:
    """The overrides of a case; schedules without a key that others have do not get it."""
    given = list(itertools.chain(TINY, *(axis[name] for axis, name in zip(AXES, case, strict=True))))
    absent = ("schedule.levels=",) if "schedule=custom" in given else ()
    return [word for word in given if not word.startswith(absent)]


def pairs(case: Case) -> set[tuple[int, str, int, str]]:
    return {(i, case[i], j, case[j]) for i, j in itertools.combinations(range(len(case)), 2)}


def covering() -> list[Case]:
    """Few cases in which any two choices of different kinds meet: greedily, the case with most pairs not seen yet."""
    every = list(itertools.product(*AXES))
    missing = set().union(*map(pairs, every))
    source, cases = random.Random(0), []
    while missing:
        best = max(source.sample(every, 400), key=lambda case: len(pairs(case) & missing))
        cases.append(best)
        missing -= pairs(best)
    return cases


class Watcher:
    """Follows a solve without a word and stops it before a step, counted over all stages."""

    def __init__(self, stop: int | None = None, saved: Checkpoints | None = None) -> None:
        self.steps, self.stop, self.saved = 0, stop, saved

    def slab_begun(self, solver: Solver) -> None: ...

    def stage_begun(self, solver: Solver, stage: Stage) -> Callable[[Progress], None]:
        return lambda progress: None

    def halt(self, solver: Solver) -> str | None:
        self.steps += 1
        if self.steps - 1 != self.stop:
            return None
        assert self.saved is not None
        self.saved.write(solver.state(), *solver.network())
        return "interrupted"

    def stage_ended(self, solver: Solver, stage: Stage, end: StageEnd) -> None: ...

    def settled(self, solver: Solver) -> None: ...


def outcome(solver: Solver, end: StageEnd) -> dict[str, Any]:
    """All that a solve leaves, without the times it took; arrays as bytes, so that NaN equals NaN."""
    configuration = solver.configuration
    grid = OutputGrid(configuration.problem, configuration.settings.output.points)
    last = solver.training
    fields = solution_fields(last.objective, last.theta, grid)
    levels = [{**record.state(), "wall_time_s": 0.0} for record in last.levels]
    history = [{k: np.float64(v).tobytes() for k, v in row.items() if k != "wall_time"} for row in last.history]
    return {
        "theta": solver.network()[1].numpy().tobytes(),
        "history": history,
        "levels": json.dumps(levels),
        "fields": {name: values.tobytes() for name, values in fields.items()},
        "points": {name: p.numpy().tobytes() for name, p in last.objective.term_points().items()},
        "end": (end.reason, end.message, np.float64(end.loss).tobytes()),
    }


def solved(configuration: Configuration) -> tuple[dict[str, Any], int]:
    """The outcome of a solve that is never stopped, and how often it could have been."""
    solver, watch = Solver(configuration), Watcher()
    return outcome(solver, solver.solve(watch)), watch.steps


def stopped_and_resumed(configuration: Configuration, stops: Sequence[int], folder: Path) -> dict[str, Any]:
    """The outcome of a solve stopped before some steps and each time resumed from nothing but the file."""
    solver = Solver(configuration)
    saved = Checkpoints(folder, configuration)
    before = 0
    for stop in stops:
        assert solver.solve(Watcher(stop - before, saved)).reason == "interrupted"
        checkpoint = newest(folder)
        solver = Solver(configuration_of(checkpoint, same_source=True))
        solver.load_state(checkpoint.state)
        before = stop
    return outcome(solver, solver.solve(Watcher()))


def check(overrides: Sequence[str], folder: Path, salt: str) -> None:
    configuration = validate(compose(overrides)[0])
    expected, steps = solved(configuration)
    source = random.Random(zlib.crc32(salt.encode()))
    stops = sorted(source.sample(range(steps), 2))
    found = stopped_and_resumed(validate(compose(overrides)[0]), stops, folder)
    for key, value in expected.items():
        assert found[key] == value, f"{key} differs after stops before steps {stops} of {steps}"


@pytest.mark.parametrize("case", covering(), ids=", ".join)
def test_stopped_anywhere_and_resumed_is_never_stopped(case: Case, tmp_path: Path) -> None:
    check(words(case), tmp_path, str(case))
