"""Pruning of a run: the search, a new run that trains on, and both compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kanpinn.backbones.coefficients import coefficients_of
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.pruning import alive_of
from kanpinn.errors import UserError
from kanpinn.explain.attribution import input_names
from kanpinn.explain.function_error import errors_of
from kanpinn.io.atomic import write_text
from kanpinn.io.lock import check_folder
from kanpinn.io.metrics import metrics_of
from kanpinn.pde.table import Table
from kanpinn.run import checkpoints
from kanpinn.run.run import run
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.registry import described
from kanpinn.solver.pruned import Pruned, Trial, change, pruning
from kanpinn.solver.pruning import Pruner
from kanpinn.solver.setup import Start
from kanpinn.state import State

RECORD = "pruning.json"
"""File of a pruned run: what was taken out, and the numbers before and after."""

ROUGHEST = 0.01
"""Relative error of a solution from which on it says nothing of how far the solution may move."""


def prune(
    folder: Path,
    target: Path,
    *,
    threshold: float | None = None,
    worse: float = 1.1,
    tolerance: float | None = None,
    stored: bool | None = None,
    tell: Callable[[Trial], None] | None = None,
) -> dict[str, Any] | None:
    """Take out of a run's network what it can do without, and train on in a new run.

    Args:
        folder: The run folder.
        target: Folder of the new run, new or empty.
        threshold: Score below which nodes and edges go, whatever becomes of the error; None searches.
        worse: Factor by which the validation error may grow in a search.
        tolerance: How far the function may move where that error grows more, relative L2; None for the run's own error
            where an equation is solved, and for 0 else.
        stored: As for `resume`.
        tell: Hears of every trial.

    Returns:
        The content of `RECORD`; None, and no new run, where everything is needed.

    Raises:
        UserError: If the folder is no run, or its network has no edges to take out.
    """
    configuration, start = opened(folder, target, stored)
    allowed = _tolerances(start, metrics_of(folder), tolerance)
    pruner = Pruner(start, worse, tell, allowed)
    found = pruner.search() if threshold is None else pruner.cut(threshold)
    if found.edges == start.edges:
        return None
    gap = change(start, found)
    solution = run(continued(configuration, found, folder), target, spoken=False)
    record = {
        "run": str(folder.absolute()),
        "threshold": threshold,
        "worse": None if threshold is not None else worse,
        "tolerance": None if threshold is not None else allowed,
        "inputs": _inputs(start, found),
        "before": _numbers(start, metrics_of(folder)),
        "pruned": _numbers(found, {}),
        "change": gap,
        "after": _numbers(replace(found, theta=solution.theta, error=again(found, solution.theta)), solution.metrics),
        "trials": [asdict(trial) for trial in pruner.trials],
    }
    write_text(target / RECORD, json.dumps(record, indent=1, ensure_ascii=False))
    return record


def _tolerances(start: Pruned, metrics: dict[str, Any], given: float | None) -> dict[str, float]:
    """How far each unknown may move: as given, or, of an equation's solution alone, as far as its error is.

    Coefficients that are sought with it may move though the solution does not; then there is no tolerance.
    """
    problem = start.setup.problem
    if given is not None:
        return dict.fromkeys(problem.unknowns, given)
    if isinstance(problem, Table) or coefficients_of(start.network, start.theta):
        return {}
    known = errors_of(start.setup.residuals(start.network), start.theta, metrics)
    found = {name: error for name, error in known.items() if error is not None and error < ROUGHEST}
    return found if len(found) == len(known) else {}


def opened(folder: Path, target: Path, stored: bool | None) -> tuple[Configuration, Pruned]:
    """Return the config and the network of a run whose edges are to be changed in a new run, arguments as for `prune`.

    Raises:
        UserError: If the folder is no run, its network has no edges, or there is something in the target.
    """
    try:
        check_folder(target)
    except UserError as error:
        raise UserError(str(error).replace("hydra.run.dir=", "-o ", 1)) from None
    checkpoint = checkpoints.newest(folder)
    residuals, theta = checkpoints.network(checkpoint, stored=stored)
    configuration = checkpoints.configuration_of(checkpoint, stored=stored, changed={"device": "cpu"})
    setup = configuration.setup
    if setup.schedule.slabs > 1:
        raise UserError(f"{folder}: schedule.slabs={setup.schedule.slabs}: expected a run of one time slab")
    if not bool(torch.isfinite(theta).all()):
        raise UserError(f"{folder}: its network is not finite")
    try:
        setup = replace(setup, start=None, processes=1)
        return configuration, pruning(setup, residuals.backbone, theta, _penalty(checkpoint.state))
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None


def _penalty(state: State) -> float:
    """The factor of all terms but data that a run has ended with; 1 where it has none."""
    slabs = state.get("slabs") or [{}]
    return float(slabs[0].get("constraint", {}).get("factor", 1.0))


def again(found: Pruned, theta: torch.Tensor) -> float:
    """The validation error of a changed network after it has been trained on."""
    return pruning(found.setup, found.network, theta, found.penalty).error


def continued(configuration: Configuration, found: Pruned, folder: Path) -> Configuration:
    """Return the config of a run that trains a changed network on, from the schedule's first stage on its level."""
    old, schedule = configuration.resolved, dict(configuration.resolved["schedule"])
    backbone = described(found.setup.backbone)
    setup = found.setup
    if getattr(setup.schedule, "starts", 1) > 1:
        alone: Any = {"starts": 1}
        setup = replace(setup, schedule=replace(setup.schedule, **alone))
        schedule["starts"] = 1
    plan, network, theta = setup.plan(), found.network, found.theta
    stage = next((k for k, one in enumerate(plan) if one.level >= network.level), len(plan) - 1)
    while network.level < plan[stage].level:
        edit = refinement(network)
        network, theta = edit.after, edit(theta)
    setup = replace(setup, start=Start(stage, (theta,)))
    resolved = {**old, "processes": 1, "backbone": backbone, "schedule": schedule, "start": str(folder.absolute())}
    settings = replace(configuration.settings, start=resolved["start"])
    return replace(configuration, settings=settings, setup=setup, resolved=resolved)


def _inputs(start: Pruned, found: Pruned) -> dict[str, list[str]]:
    """Names of the network's inputs that are left, and of those that are not."""
    names = [name for name, _ in input_names(start.network.embedding)]
    kept, before = (np.any(alive_of(one.network)[0], axis=0).tolist() for one in (found, start))
    return {
        "kept": [name for name, one in zip(names, kept, strict=True) if one],
        "removed": [name for name, one, old in zip(names, kept, before, strict=True) if old and not one],
    }


def _numbers(one: Pruned, metrics: dict[str, Any]) -> dict[str, Any]:
    """Size of a network and its errors."""
    known = {key: metrics[key] for key in ("loss", "relative_l2", "error_estimate", "data") if metrics.get(key)}
    sizes = {"shape": one.shape, "edges": one.edges, "parameters": one.network.size, "grid": one.network.grid}
    return {**sizes, "validation": one.error, **known}
