"""The one rule by which tests shorten what docs and examples solve.

One step per stage, two levels, some hundred points, a coarse output grid, no figures; a second for an accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kanpinn.multilevel.schedules import Schedule

ALWAYS = ["threads=1", "output.points=11", "output.figures=false", "output.progress=false"]
LEVELS = ["schedule.levels=2", "schedule.steps=1"]
CYCLES = ["schedule.pre=1", "schedule.post=1", "schedule.coarsest=1"]
POINTS = ["sampler.interior=300", "sampler.boundary=50"]


def shortened(overrides: list[str]) -> list[str]:
    """The same solve with the steps, levels and points of a test."""
    given = dict(text.partition("=")[::2] for text in overrides)
    schedule = given.get("schedule", "nested")
    extra = list(ALWAYS)
    if schedule == "custom":
        overrides = [re.sub(r"steps: ?\d+", "steps:1", text) for text in overrides]
    elif schedule in ("v_cycle", "w_cycle"):
        extra += ["schedule.levels=2", "schedule.cycles=1", *CYCLES]
    else:
        extra += [*LEVELS, *(CYCLES if schedule == "fmg" else [])]
    sampler = given.get("sampler", "gauss_legendre" if given.get("problem") == "kdv" else "")
    if sampler not in ("grid", "gauss_legendre"):
        extra += POINTS
    if "schedule.slabs" in given or given.get("problem") == "kdv":
        extra += ["schedule.slabs=2", "backbone.grid=8"]
    if "accuracy" in given:
        extra += ["time_limit_s=1"]
    cut = {text.partition("=")[0] for text in extra}
    return [text for text in overrides if text.partition("=")[0] not in cut] + extra


def shortened_solve(solve: Callable[..., Any]) -> Callable[..., Any]:
    """`kanpinn.solve` with every call shortened."""

    def short(problem: Any = (), *overrides: Any, **options: Any) -> Any:
        if isinstance(problem, list | tuple):
            return solve(shortened(list(problem)), *overrides, **options)
        texts = shortened([item for item in overrides if isinstance(item, str)])
        objects = [item for item in overrides if not isinstance(item, str)]
        for k, item in enumerate(objects):
            if isinstance(item, Schedule):
                objects[k] = replace(item, levels=2, steps=1)
                texts = [text for text in texts if not text.startswith("schedule.")]
        return solve(problem, *objects, *texts, **options)

    return short
