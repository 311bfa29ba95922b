"""What a solve has come to: its metrics, its files, its figures, and how that is said."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kanpinn.api import Solution
from kanpinn.evaluate.grid_evaluation import (
    OutputGrid,
    collocation_points,
    error_estimate,
    grid_values,
    model_arrays,
    model_attributes,
    solution_fields,
)
from kanpinn.evaluate.spectrum import stacked
from kanpinn.io.atomic import write_json
from kanpinn.io.solution import SolutionFile, write_solution
from kanpinn.run.progress import warn
from kanpinn.settings.options import Configuration
from kanpinn.settings.resolving import yaml_text
from kanpinn.solver.history import StageEnd
from kanpinn.solver.slab_solve import Training
from kanpinn.solver.time_marching import Solver

SCHEMA_VERSION = 1
STATUSES = {
    "steps": "step_limit",
    "tolerance": "converged",
    "plateau": "converged",
    "optimizer": "converged",
    "time_limit": "time_limit",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "refused": "step_limit",
}
REASONS = {"tolerance": "the tolerance is reached", "plateau": "the loss no longer falls"}
ADVICE = {
    "step_limit": "all steps were used; more schedule.steps or schedule.levels may lower the error",
    "time_limit": "time_limit_s was reached; `kanpinn resume {folder} time_limit_s=null` goes on",
    "diverged": "try a smaller optimizer.lr or a larger optimizer.damping, and look at what the equation does there",
    "interrupted": "stopped by a signal; the state reached is written, `kanpinn resume {folder}` goes on",
}


def write_results(
    configuration: Configuration, solver: Solver, grid: OutputGrid, end: StageEnd, folder: Path
) -> tuple[Solution, str, list[OSError]]:
    """Write solution.h5 and metrics.json; returns the solution, the status in words and what could not be written."""
    backbone, theta = solver.network()
    residuals = solver.training.objective.residuals
    if backbone is not residuals.backbone or residuals.problem is not configuration.setup.problem:
        residuals = configuration.setup.residuals(backbone)
    fields = solution_fields(residuals, theta, grid)
    metrics = _metrics(configuration, solver, end, grid.errors(fields))
    model = (model_arrays(backbone, theta), model_attributes(backbone))
    data = _solution_file(configuration, solver, grid, fields, metrics, model)
    failures: list[OSError] = []
    try:
        write_solution(folder / "solution.h5", data)
    except OSError as error:
        failures.append(error)
    # On a full disk there may be room for the second where there was none for the first. Beside the solution of an
    # earlier state it would tell of another one.
    if not failures or not (folder / "solution.h5").is_file():
        try:
            write_json(folder / "metrics.json", metrics)
        except OSError as error:
            failures.append(error)
    message = (
        end.message
        or REASONS.get(end.reason)
        or ADVICE.get(metrics["status"], "").format(folder=shlex.quote(str(folder)))
    )
    if end.reason == "diverged":
        message += f"; {ADVICE['diverged']}"
    missing = configuration.setup.schedule.slabs - len(solver.done)
    if missing:
        message += f"; the last {missing} time slabs were not begun, their values are NaN"
    return Solution(residuals, theta, metrics, folder), message, failures


def _metrics(configuration: Configuration, solver: Solver, end: StageEnd, errors: tuple[Any, Any]) -> dict[str, Any]:
    """What metrics.json holds, with relative L2 and largest errors on the output grid."""
    resolved, done, levels = configuration.resolved, solver.done, solver.training.levels
    slabs = configuration.setup.schedule.slabs
    return {
        "schema_version": SCHEMA_VERSION,
        "status": STATUSES[end.reason],
        **{group: resolved[group]["name"] for group in ("problem", "backbone", "schedule", "optimizer")},
        "seed": configuration.settings.seed,
        "parameters": solver.network()[0].size,
        "wall_time_s": solver.training.seconds,
        "loss": end.loss,
        "relative_l2": errors[0],
        "linf": errors[1],
        "error_estimate": None if len(done) < slabs else _estimate(done),
        "work": sum(record.work for record in levels),
        "levels": [asdict(record) for record in levels],
    }


def _solution_file(
    configuration: Configuration,
    solver: Solver,
    grid: OutputGrid,
    fields: dict[str, Any],
    metrics: dict[str, Any],
    model: tuple[dict[str, Any], dict[str, Any]],
) -> SolutionFile:
    """What solution.h5 holds: fields, history, levels, points and the model's arrays and attributes."""
    problem, training = configuration.setup.problem, solver.training
    return SolutionFile(
        problem=metrics["problem"],
        equation=problem.equation,
        config=yaml_text(configuration.resolved),
        seed=metrics["seed"],
        dtype=configuration.settings.dtype,
        status=metrics["status"],
        coordinates=grid.coordinates,
        labels=dict(problem.labels),
        fields=fields,
        history=training.columns(),
        levels=metrics["levels"],
        spectra=stacked(training.spectra, len(training.levels)),
        points=collocation_points([(t.objective, t.theta) for t in solver.done]),
        metrics=metrics,
        model=model[0],
        model_attributes=model[1],
        slabs=configuration.setup.schedule.slabs,
        slabs_begun=len(solver.done),
    )


def _estimate(done: Sequence[Training]) -> dict[str, float] | None:
    """The estimate of the error, from the last level of every time slab."""
    last = {record.slab: record.change for record in done[0].levels}
    norms = [t.grid.norms(grid_values(t.objective.residuals, t.theta, t.grid)) for t in done]
    return error_estimate([(last[k], norm) for k, norm in enumerate(norms)])


def draw(folder: Path) -> None:
    """Draw the figures from the file just written, so that they show what a reader of it sees; a fault is only told."""
    try:
        from kanpinn.io.solution import read_solution
        from kanpinn.plots import plot_all

        plot_all(read_solution(folder / "solution.h5"), folder / "figures", every=False)
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        why = " ".join(str(reason).split())
        warn(f"{folder}: the figures are not drawn ({why}); all results are written, `kanpinn plot` draws them again")
