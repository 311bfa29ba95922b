"""Results of a solve: metrics, files, figures, and their summary in words."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from kanpinn.errors import warn
from kanpinn.estimate.by_levels import error_by_levels
from kanpinn.estimate.estimate import ErrorEstimate, estimated, valued
from kanpinn.evaluate.grid_evaluation import (
    OutputGrid,
    collocation_points,
    grid_values,
    measured_data,
    model_arrays,
    model_attributes,
    solution_fields,
)
from kanpinn.evaluate.spectrum import stacked
from kanpinn.evaluate.table_errors import table_errors
from kanpinn.io.atomic import write_json
from kanpinn.io.config_text import config_text
from kanpinn.io.metrics import not_told
from kanpinn.io.solution import SolutionFile, write_solution
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.uncertainty import coefficient_statistics
from kanpinn.pde.table import Table
from kanpinn.run.context import Estimates, Searching
from kanpinn.run.estimate_trust import contraction
from kanpinn.run.flag import Flag
from kanpinn.run.verdict import Verdict, verdict
from kanpinn.settings.configuration import Configuration
from kanpinn.solver.history import StageEnd
from kanpinn.solver.solver import Solver

SCHEMA_VERSION = 1
REASONS = {
    "tolerance": "the tolerance is reached, at fresh points too",
    "minimum": "the gradient is zero but for rounding",
}
RESUME = {
    "time_limit": "; `kanpinn resume {folder} time_limit_s=null` goes on",
    "interrupted": "; the state reached is written, `kanpinn resume {folder}` goes on",
}
ADVICE = {
    "time_limit": "time_limit_s was reached{resume}",
    "diverged": "try a smaller optimizer.lr or a larger optimizer.damping, and look at what the equation does there",
    "interrupted": "stopped by a signal{resume}",
}


@dataclass(frozen=True)
class Results:
    """Results of a solve.

    Attributes:
        residuals: Problem and network on the whole domain.
        theta: Its parameters `[P]`.
        metrics: The content of metrics.json.
        data: The content of solution.h5.
        message: The status in words, with advice.
    """

    residuals: Residuals
    theta: Tensor
    metrics: dict[str, Any]
    data: SolutionFile
    message: str


def results_of(
    configuration: Configuration,
    solver: Solver,
    grid: OutputGrid,
    end: StageEnd,
    folder: Path | None,
    doubts: Sequence[Flag] = (),
    search: Searching | None = None,
) -> Results:
    """Evaluate and measure what a solve has reached.

    The folder is named in its advice, doubts known before count; a search that has led to it says how it has ended.
    """
    setup = configuration.setup
    backbone, theta = solver.network()
    residuals = solver.slab.objective.residuals
    if backbone is not residuals.backbone or residuals.problem is not setup.problem:
        residuals = setup.residuals(backbone)
    fields = solution_fields(residuals, theta, grid)
    told = table_errors(residuals, theta) if isinstance(residuals.problem, Table) else {}
    errors = _held_errors(told) if told else grid.errors(fields)
    classes = isinstance(residuals.problem, Table) and residuals.problem.classes
    known = len(solver.slabs) == setup.schedule.slabs and not classes
    defect, by_levels = (estimates if search is None else search.estimates)(solver) if known else (None, None)
    fields |= _estimated_fields(defect, grid)
    found = coefficient_statistics(solver.slab.objective, solver.slab.theta)
    judged = verdict(solver, end, errors[0], defect, by_levels, [*doubts, *_coefficients(found)])
    judged = judged if search is None else search.verdict(judged)
    metrics = _metrics(configuration, solver, end, errors, judged)
    metrics |= {} if search is None else {"accuracy": search.asked.settings.accuracy, "path": search.path()}
    metrics |= {"coefficients": found} if found else {}
    metrics |= {"data": told} if told else {}
    model = (model_arrays(backbone, theta), {**model_attributes(backbone), "scales": setup.scales.state()})
    data = _solution_file(configuration, solver, grid, fields, metrics, model)
    data = replace(data, measured=measured_data(residuals, theta))
    message = (search.message() if search else None) or _message(metrics, end, judged.advice, folder)
    missing = setup.schedule.slabs - len(solver.slabs)
    if missing:
        message += f"; the last {missing} time slabs were not begun, their values are NaN"
    return Results(residuals, theta, metrics, data, message)


def _held_errors(told: Mapping[str, Any]) -> tuple[Any, Any]:
    """Relative L2 and largest errors at the rows by which fits of a table are compared."""
    part = told.get("validation") or told["train"]
    if "relative_l2" not in part:
        return None, None
    return {name: math.nan if v is None else v for name, v in part["relative_l2"].items()}, part["linf"]


def _coefficients(found: Mapping[str, Mapping[str, Any]]) -> list[Flag]:
    """Flag coefficients that are at a bound, not settled, or not determined by the data."""
    flags = [
        Flag(
            "coefficients",
            f"{name} is at its bound {one['bound']:g}: the data lead beyond it, and the interval is cut there; give "
            f"other bounds (unknown.{name}), or look for what the equations leave out",
        )
        for name, one in found.items()
        if one["bound"] is not None
    ]
    flags += [
        Flag(
            "coefficients",
            f"{name} is not settled: a full step of Gauss and Newton would still change it by {one['step']:+.2g}, its "
            f"standard deviation being {one['std']:.2g}: the interval is too narrow; try more schedule.steps, or "
            f"another start (unknown.{name})",
        )
        for name, one in found.items()
        if one["settled"] is False
    ]
    names = [name for name, one in found.items() if not one["determined"]]
    return [*flags, Flag("coefficients", not_told(names), {"undetermined": names})] if names else flags


def _message(metrics: Mapping[str, Any], end: StageEnd, advice: str, folder: Path | None) -> str:
    """The status in words, with advice that fits its cause."""
    status, limit = metrics["status"], metrics["limited_by"]
    if status == "converged":
        return REASONS[end.reason]
    if status == "step_limit":
        return f"{limit}; try {advice}" if advice else limit
    resume = RESUME.get(status, "").format(folder=shlex.quote(str(folder))) if folder is not None else ""
    text = ADVICE[status].format(resume=resume)
    return f"{end.message}; {text}" if end.message else text


def write_results(results: Results, folder: Path) -> list[OSError]:
    """Write solution.h5 and metrics.json; returns what could not be written."""
    failures: list[OSError] = []
    try:
        write_solution(folder / "solution.h5", results.data)
    except OSError as error:
        failures.append(error)
    # On a full disk there may be room for the second where there was none for the first. Beside the solution of an
    # earlier state it would tell of another one.
    if not failures or not (folder / "solution.h5").is_file():
        try:
            write_json(folder / "metrics.json", results.metrics)
        except OSError as error:
            failures.append(error)
    return failures


def _metrics(
    configuration: Configuration,
    solver: Solver,
    end: StageEnd,
    errors: tuple[Any, Any],
    judged: Verdict,
) -> dict[str, Any]:
    """The content of metrics.json, with relative L2 and largest errors on the output grid."""
    resolved, levels, estimate = configuration.resolved, solver.record.levels, judged.estimate
    return {
        "schema_version": SCHEMA_VERSION,
        "status": judged.status,
        "limited_by": judged.limited_by,
        **{group: resolved[group]["name"] for group in ("problem", "backbone", "schedule", "optimizer")},
        "seed": configuration.settings.seed,
        "parameters": solver.network()[0].size,
        "wall_time_s": solver.seconds,
        "loss": end.loss,
        "relative_l2": _known(errors[0]),
        "linf": errors[1],
        "error_estimate": _known(None if estimate is None else estimate.errors),
        "error_estimate_trusted": judged.trusted,
        "error_estimate_doubt": judged.doubt or None,
        "error_estimate_by": None if estimate is None else estimate.method,
        "warnings": [flag.record() for flag in judged.flags],
        "work": sum(record.work for record in levels),
        "levels": [asdict(record) for record in levels],
    }


def _known(values: Mapping[str, float] | None) -> dict[str, float | None] | None:
    """The same with null for what is not a number: relative to nothing."""
    return None if values is None else {name: None if math.isnan(v) else v for name, v in values.items()}


def _solution_file(
    configuration: Configuration,
    solver: Solver,
    grid: OutputGrid,
    fields: dict[str, Any],
    metrics: dict[str, Any],
    model: tuple[dict[str, Any], dict[str, Any]],
) -> SolutionFile:
    """The content of solution.h5: fields, history, levels, points and the model's arrays and attributes."""
    problem, record = configuration.setup.problem, solver.record
    return SolutionFile(
        problem=metrics["problem"],
        equation=problem.equation,
        config=config_text(configuration.resolved),
        seed=metrics["seed"],
        dtype=configuration.settings.dtype,
        status=metrics["status"],
        coordinates=grid.coordinates,
        labels=dict(problem.labels),
        fields=fields,
        history=record.columns(),
        levels=metrics["levels"],
        spectra=stacked(record.spectra, len(record.levels)),
        points=collocation_points([(slab.objective, slab.theta) for slab in solver.slabs]),
        metrics=metrics,
        model=model[0],
        model_attributes=model[1],
        slabs=configuration.setup.schedule.slabs,
        slabs_begun=len(solver.slabs),
        parameters=tuple(problem.parameters),
    )


def estimates(solver: Solver, share: float = 1.0, before: ErrorEstimate | None = None) -> Estimates:
    """Estimate the error by the defect equation, and by the last level of every time slab; `share` times as dear.

    One by the defect equation `before`, which took less, is gone on from.
    """
    slabs, levels = solver.slabs, solver.record.levels
    defect = None
    if not isinstance(solver.setup.problem, Table):
        weights = {name: solver.setup.weighting.term(name) for name in slabs[0].objective.residuals.terms}
        training = share * sum(record.work * record.parameters for record in levels)
        defect = estimated(
            [(slab.objective.residuals, slab.theta) for slab in slabs], weights, training, before, holds=share >= 1
        )
    last = {record.slab: record.change for record in levels}
    norms = [slab.grid.norms(grid_values(slab.objective.residuals, slab.theta, slab.grid)) for slab in slabs]
    # What a fit gains at its rows it need not gain between them, and errors of early time slabs may grow in later ones.
    alone = solver.setup.schedule.slabs == 1 and solver.setup.problem.has_equations
    changes = error_by_levels([(last[k], norm) for k, norm in enumerate(norms)], contraction(levels) if alone else 1.0)
    return defect, None if changes is None else ErrorEstimate(changes)


def _estimated_fields(estimate: ErrorEstimate | None, grid: OutputGrid) -> dict[str, Any]:
    """Estimated errors u − u* on the output grid, "u_error_estimate" by unknown; none where they are not known."""
    if estimate is None or not estimate.parts:
        return {}
    points = grid.points.numpy()[grid.inside]
    values = -valued(estimate.parts, points)
    return {f"{name}_error_estimate": grid.spread(row) for name, row in zip(estimate.errors, values, strict=True)}


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
