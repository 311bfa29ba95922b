"""The schedules of `cycles.py` and their options, chosen so that all of them do the same work."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kanpinn
from kanpinn.errors import DivergedError
from kanpinn.multilevel import SCHEDULES, Stage
from kanpinn.settings.compose import compose
from kanpinn.settings.config import resolve

PROBLEMS = ("poisson", "helmholtz", "burgers", "allen_cahn")
LEVELS = 3
TOLERANCE = 0.02
"""Share of the budget by which a schedule's work may miss it."""
TRANSFER = "+transfer"
"""Suffix of a schedule whose optimiser carries its state from level to level."""
COMMON = ("output.points=101", "output.figures=false", "output.progress=false", "threads=1")


@dataclass(frozen=True)
class Smoother:
    """Settings of an optimiser in the study.

    Attributes:
        steps: Steps of nested iteration, as a multiple of the problem's own.
        points: Collocation points, as a share of the problem's own.
        visit: Steps before and after a coarse correction, about.
        coarsest: Steps on level 0 within a cycle, about.
        overrides: Further overrides.
    """

    steps: float
    points: float
    visit: int
    coarsest: int
    overrides: tuple[str, ...] = ()


OPTIMIZERS = {
    # A constant rate: one that decays within every stage would anneal cycles at each visit and the others once a level.
    "adam": Smoother(1.5, 0.25, visit=40, coarsest=50, overrides=("optimizer.decay=none", "optimizer.lr=3e-3")),
    "lbfgs": Smoother(1.25, 0.5, visit=12, coarsest=25, overrides=("sampler.resample_every=0",)),
    "levenberg_marquardt": Smoother(0.35, 0.5, visit=4, coarsest=8),
}
KINDS = {"v": "v_cycle", "w": "w_cycle", "fmg": "fmg", "fmg_top": "fmg"}
STUDY = (
    *("single", "nested", "v_galerkin", "v_fas", "w_galerkin", "fmg_galerkin", "fmg_fas", "fmg_top_galerkin"),
    *(f"{name}{TRANSFER}" for name in ("nested",)),
)


def planned_work(plan: Sequence[Stage], costs: Sequence[float], coarse: str) -> float:
    """Work of a schedule.

    Args:
        plan: Its stages.
        costs: Points × parameters of each level.
        coarse: "galerkin", whose coarse problems evaluate the finest network that waits, or "fas", whose do not.

    Returns:
        Σ steps × cost of the network evaluated.
    """
    total, level = 0.0, plan[0].level
    waiting: list[int] = []
    for stage in plan:
        while level > stage.level:
            waiting.append(level)
            level -= 1
        while level < stage.level:
            level += 1
            if waiting:
                waiting.pop()
        evaluated = waiting[0] if waiting and coarse == "galerkin" else level
        total += stage.steps * costs[evaluated]
    return total


def _work(name: str, options: Mapping[str, Any], costs: Sequence[float]) -> float:
    return planned_work(SCHEDULES[name](**options).plan(), costs, options.get("coarse", ""))


def fitted(schedule: str, steps: Sequence[int], costs: Sequence[float], visit: int, coarsest: int) -> dict[str, Any]:
    """Options with which a schedule does the work of nested iteration.

    Full multigrid spends half the work on its ascent. Of all cycles that use up the budget within `TOLERANCE`, those
    whose visits are nearest to what is asked for are taken.

    Args:
        schedule: One of `STUDY`.
        steps: Nested iteration's steps per level.
        costs: Points × parameters of each level.
        visit: Steps before and after a coarse correction, about.
        coarsest: Steps on level 0 within a cycle, about.

    Returns:
        Options of `schedule.*`, with the name.
    """
    name, _, suffix = schedule.partition("+")
    common: dict[str, Any] = {"levels": len(costs)}
    if suffix:
        common["optimizer_state"] = suffix
    if name == "nested":
        return {"name": "nested", "steps": list(steps), **common}
    budget = _work("nested", {"steps": list(steps), "levels": len(costs)}, costs)
    if name == "single":
        return {"name": "single", "steps": max(1, round(budget / costs[-1])), **common}
    shape, _, coarse = name.rpartition("_")
    common["coarse"] = coarse
    if shape.startswith("fmg"):
        common["steps"] = [max(1, round(k / 2)) for k in steps]
    best: tuple[float, float, dict[str, Any]] = (math.inf, math.inf, {})
    for many in range(1, 200):
        per_level = [0] * (len(costs) - 1) + [many] if shape == "fmg_top" else many
        options = {**common, "cycles": per_level, "pre": 0, "post": 0, "coarsest": 1}
        # Work is affine in the numbers of steps.
        base = _work(KINDS[shape], options, costs)
        slope = _work(KINDS[shape], {**options, "pre": 1, "post": 1}, costs) - base
        foot = _work(KINDS[shape], {**options, "coarsest": 2}, costs) - base
        if many > 1 and base + slope * visit + foot * coarsest > 4 * budget:
            break  # so many cycles would have to be far shorter than asked for
        for smoothing in range(1, 2 * visit + 1):
            left = budget - base - slope * smoothing
            ground = min(max(1, 1 + round(left / foot)), 3 * coarsest)
            miss = abs(left - foot * (ground - 1)) / budget
            strange = abs(math.log(smoothing / visit)) + abs(math.log(ground / coarsest))
            found = (miss if miss > TOLERANCE else 0.0, strange)
            if found < best[:2]:
                best = (*found, {**options, "pre": smoothing, "post": smoothing, "coarsest": ground})
    return {"name": KINDS[shape], **best[2]}


def words(value: Any) -> str:
    """A value as an override writes it."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


@cache
def tuned(problem: str) -> tuple[int, int, tuple[int, ...]]:
    """Interior and boundary points and steps per level that a problem comes with."""
    values = resolve(compose([f"problem={problem}", "backbone=kan"])[0])
    steps = tuple(values["schedule"]["steps"])[:LEVELS]
    return values["sampler"]["interior"], values["sampler"]["boundary"], steps


def setting(problem: str, smoother: Smoother) -> list[str]:
    """Overrides that all runs of a problem by an optimiser share."""
    interior, boundary, _ = tuned(problem)
    counts = {"interior": interior, "boundary": boundary}
    points = [f"sampler.{name}={max(1, round(smoother.points * n))}" for name, n in counts.items()]
    return [f"problem={problem}", "backbone=kan", *points, *smoother.overrides]


@cache
def costs_of(problem: str, optimizer: str) -> list[float]:
    """Points × parameters of each level, from a run of one step per level."""
    chosen = [*setting(problem, OPTIMIZERS[optimizer]), f"optimizer={optimizer}", f"schedule.levels={LEVELS}"]
    found = metrics_of([*chosen, "schedule.steps=1"])
    return [float(record["points"] * record["parameters"]) for record in found["levels"]]


def overrides_of(problem: str, optimizer: str, schedule: str, scale: float) -> list[str]:
    """All overrides of a run but its seed."""
    smoother = OPTIMIZERS[optimizer]
    steps = [max(1, round(scale * smoother.steps * k)) for k in tuned(problem)[2]]
    options = fitted(schedule, steps, costs_of(problem, optimizer), smoother.visit, smoother.coarsest)
    chosen = [f"schedule={options.pop('name')}"]
    chosen += [f"schedule.{key}={words(value)}" for key, value in options.items()]
    return [*setting(problem, smoother), f"optimizer={optimizer}", *chosen]


def metrics_of(overrides: Sequence[str]) -> dict[str, Any]:
    """The metrics of a run whose folder is thrown away; empty if it left none."""
    with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
        folder = Path(temporary) / "run"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(DivergedError):
            kanpinn.solve([*overrides, *COMMON, f"hydra.run.dir={folder}"])
        file = folder / "metrics.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
