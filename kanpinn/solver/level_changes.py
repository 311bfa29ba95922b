"""Changes of level between two stages: random starts, refinements, coarse problems and their corrections."""

from __future__ import annotations

import math
import time
from typing import Any

from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import Edit
from kanpinn.errors import DivergedError
from kanpinn.multilevel import Stage
from kanpinn.multilevel.correction import Transfer
from kanpinn.solver.history import LevelRecord, StageEnd
from kanpinn.solver.setup import name_of
from kanpinn.solver.slab_solve import SlabSolve


def enter(slab: SlabSolve, stage: Stage) -> StageEnd | None:
    """Bring the network to a stage's level and start the stage's optimiser.

    Returns the stage's end where its coarse problem has no finite points to be posed on, else None.
    """
    began = time.perf_counter()
    first = slab.stage is None
    slab.stage = stage
    hierarchy, record = slab.hierarchy, slab.record
    slab.constraint.anew(from_one=first or stage.trial is not None)
    if first or stage.trial is not None:
        hierarchy.begin(stage.level, lambda backbone: _start(slab, backbone, stage))
    if first:
        _open(slab, stage, began)
    elif record.level.level == stage.level:
        record.level.wall_time_s += time.perf_counter() - began
    while record.level.level != stage.level:
        began = time.perf_counter()
        if record.level.level > stage.level:
            try:
                hierarchy.descend(*slab.setup.schedule.coarse_problem)
            except DivergedError as error:
                return _unposed(slab, error)
            _open(slab, stage, began, level=hierarchy.level, entered="restrict")
        else:
            _rise(slab, stage, began)
    edits = [_edit(slab, stage, *edit) for edit in stage.edits]
    # Random numbers of the optimiser, apart from those of all other stages.
    trial = 0 if stage.trial is None else stage.trial + 1
    stream = slab.setup.stream("sketches", slab.number, len(record.levels), trial, len(record.history))
    slab.optimizers.start(stage, stream, corrected=record.level.entered == "correct", edits=edits)
    return None


def unwind(slab: SlabSolve) -> None:
    """Add the corrections that finer levels still wait for, so that the network is the finest one."""
    while slab.waiting:
        assert slab.stage is not None
        _rise(slab, slab.stage, time.perf_counter())
        slab.record.level.loss = slab.loss(slab.hierarchy.theta)
        slab.measure()


def _unposed(slab: SlabSolve, error: DivergedError) -> StageEnd:
    """The end of a stage whose coarse problem cannot be posed: the level it was for stays as it is."""
    theta = slab.hierarchy.theta
    loss = slab.loss(theta) if len(slab.least_squares.points) else math.inf
    reason = "refused" if math.isfinite(loss) else "diverged"
    return StageEnd(reason, f"the coarse problem of level {slab.record.level.level}: {error}", theta, loss)


def _start(slab: SlabSolve, backbone: Backbone, stage: Stage) -> Tensor:
    """Parameters `[P]` to begin with: random, those given, or (warm) those of the time slab before, projected."""
    before, setup = slab.before, slab.setup
    if setup.start is not None:
        return setup.start.thetas[slab.number].to(setup.device, setup.dtype)
    if before is None or not setup.schedule.warm or stage.trial:
        return backbone.initial(slab.initial).to(setup.device, setup.dtype)
    finest, theta = before.backbone, before.theta
    if backbone.level < finest.level:
        theta = Transfer(before.hierarchy.backbones[backbone.level], finest).restrict(theta)
    return backbone.resumed(theta)


def _rise(slab: SlabSolve, stage: Stage, began: float) -> None:
    """One level up: a correction where a finer level waits, else a refinement."""
    hierarchy = slab.hierarchy
    if hierarchy.suspended:
        found = hierarchy.ascend()
        _open(slab, stage, began, level=hierarchy.level, entered="correct", correction=found.length)
        return
    before = slab.monitor.below = slab.monitor.values(slab.objective.residuals, slab.theta)
    if slab.backbone.refinable:
        hierarchy.refine()
        gap = slab.monitor.gap(before, slab.objective.residuals, slab.theta)
        _open(slab, stage, began, level=hierarchy.level, entered="refine", transfer_gap=gap)
    else:
        hierarchy.problem = slab.objective_of(slab.backbone)  # so that the level's own number of points is drawn
        _open(slab, stage, began, level=stage.level, entered="refine")


def _edit(slab: SlabSolve, stage: Stage, kind: str, amount: Any) -> Edit:
    """Change the network under work without changing its function."""
    began, record = time.perf_counter(), slab.record
    before = slab.monitor.values(slab.objective.residuals, slab.theta)
    edit = slab.hierarchy.edit(kind, amount, slab.initial)
    gap = slab.monitor.gap(before, slab.objective.residuals, slab.theta)
    if record.level.steps or not math.isnan(record.level.loss):
        _open(slab, stage, began, entered=kind, transfer_gap=gap)
    else:  # the visit of the level begins with it
        record.level.parameters = edit.after.size
        record.level.transfer_gap = max(gap, record.level.transfer_gap or 0.0)
        record.level.wall_time_s += time.perf_counter() - began
    sizes = f"{edit.before.size} to {edit.after.size} parameters"
    record.events.append(f"level {stage.level}, {kind} by {amount}: {sizes}, the output changes by {gap:.1e}")
    return edit


def _open(slab: SlabSolve, stage: Stage, began: float, level: int | None = None, **known: Any) -> None:
    """Open the record of a visit."""
    network = slab.hierarchy.backbone
    level, name = stage.level if level is None else level, name_of(stage.optimizer)
    record = LevelRecord(level, network.grid, network.size, name, slab=slab.number, **known)
    record.wall_time_s = time.perf_counter() - began
    slab.record.levels.append(record)
