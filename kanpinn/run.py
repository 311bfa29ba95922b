"""The run: one readable loop from a config to a run folder."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kanpinn import __version__, checkpoints, preflight, slabs
from kanpinn.api import Solution
from kanpinn.backbones import Backbone
from kanpinn.compose import check_folder
from kanpinn.config import Configuration, validate
from kanpinn.errors import DivergedError, Interrupted
from kanpinn.io.atomic import write_json, write_text
from kanpinn.io.lock import run_lock
from kanpinn.io.solution import SolutionFile, write_solution
from kanpinn.loggers import Logger, Report
from kanpinn.multilevel import Stage
from kanpinn.multilevel.diagram import diagram
from kanpinn.objective import Objective
from kanpinn.output import (
    OutputGrid,
    collocation_points,
    error_estimate,
    grid_values,
    model_arrays,
    model_attributes,
    solution_fields,
)
from kanpinn.progress import RunLog, StageBar, summary, warn
from kanpinn.records import Progress, StageEnd
from kanpinn.signals import stop_signals
from kanpinn.spectrum import stacked
from kanpinn.training import Training, embed

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
    "time_limit": "time_limit_s was reached",
    "diverged": "try dtype=float64, a smaller optimizer.lr or a larger optimizer.damping",
    "interrupted": "stopped by a signal; the state reached is written, `kanpinn plot` draws it",
}


ENDINGS = ("interrupted", "time_limit")
"""Reasons that end the whole run wherever it is."""


def run(config: DictConfig | Mapping[str, Any], folder: Path, observers: Sequence[Logger] = ()) -> Solution:
    """Solve one problem and write one run folder.

    Args:
        config: The composed config.
        folder: A folder that does not exist yet or is empty.
        observers: Told what the logger is told; what one of them raises ends the run there.

    Returns:
        The solution.

    Raises:
        UserError: If the input is wrong; nothing has been written then. Or if another process writes into the folder,
            or somebody has removed it.
        OSError: If a result cannot be written, a full disk being one reason; what was written before stays.
        DivergedError: If the optimisation left the finite numbers; the best state so far has been written.
        Interrupted: If a signal ended the run early; the state has been written.
    """
    configuration = validate(config)
    settings = configuration.settings
    check_folder(folder)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    preflight.check(configuration)
    grid = OutputGrid(configuration.problem, settings.output.points)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder) as still_there, stop_signals() as caught, ExitStack() as stack:
        check_folder(folder)  # once more: another process may have finished a run here just before the lock was ours
        log = _open(configuration, folder)
        report = stack.enter_context(_report(configuration, folder, log, observers))
        done, end = _solve(configuration, folder, log, report, caught, still_there)
        if caught:
            end = replace(end, reason="interrupted", message="")
        still_there()
        solution, message, failures = _finish(configuration, done, grid, end, folder)
        text = summary(done[-1].levels, solution.metrics, message, folder)
        log.add(text)
        print(text, flush=True)
        if failures:
            raise failures[0]
        if settings.output.figures and not caught:
            _draw(folder)
        report.finish(solution.metrics, folder / "figures")
    if end.reason == "diverged":
        raise DivergedError(f"the solve diverged at {end.message}; the best state so far is in {folder}")
    if caught:
        raise Interrupted(caught[0])
    return solution


@contextmanager
def _report(configuration: Configuration, folder: Path, log: RunLog, observers: Sequence[Logger]) -> Iterator[Report]:
    """Tell the logger and the observers of the run's begin, and of its end whatever ends it."""

    def warn(text: str) -> None:
        log.add(text)
        print(f"kanpinn: {text}", file=sys.stderr, flush=True)

    report = Report(configuration.components["logger"], warn, observers)
    report.start(configuration.resolved, folder)
    try:
        yield report
    finally:
        report.finish(None)


def _solve(
    configuration: Configuration,
    folder: Path,
    log: RunLog,
    report: Report,
    caught: Sequence[int],
    still_there: Callable[[], None],
) -> tuple[list[Training], StageEnd]:
    """Solve one time slab after the other, most often the only one; returns those begun and how they ended."""
    done: list[Training] = []
    ends: list[StageEnd] = []
    count = configuration.components["schedule"].slabs
    for number in range(count):
        own = slabs.part(configuration, number, slabs.fields(done[-1].objective, done[-1].theta) if done else None)
        grid = OutputGrid(own.problem, configuration.settings.output.points)
        done.append(Training(own, grid, done[-1] if done else None))
        if number == 0:
            picture = _diagram(own, done[-1])
            picture += f"\non each of {count} time slabs" if count > 1 else ""
            log.add(picture)
            print(f"{picture}\n", flush=True)
        ends.append(_train(configuration, done, folder, log, report, caught, still_there))
        done[-1].forget_optimizers()
        if ends[-1].reason in (*ENDINGS, "diverged"):
            if number and not any(row["slab"] == number for row in done[-1].history):
                done.pop()  # stopped before its first step: it holds nothing but the start
                ends[-2] = replace(ends[-2], reason=ends[-1].reason, message=ends[-1].message)
                ends.pop()
                done[-1].levels[:] = [record for record in done[-1].levels if record.slab < number]
            break
    # The run as a whole has converged only if every slab has; its loss is the mean over the time interval's parts.
    last = next((end for end in ends if STATUSES[end.reason] == "step_limit"), ends[-1])
    last = ends[-1] if ends[-1].reason in (*ENDINGS, "diverged") else last
    return done, replace(last, loss=sum(end.loss for end in ends) / len(ends))


def _train(
    configuration: Configuration,
    done: Sequence[Training],
    folder: Path,
    log: RunLog,
    report: Report,
    caught: Sequence[int],
    still_there: Callable[[], None],
) -> StageEnd:
    """Execute the schedule's stages one after the other on the newest slab; returns how the last one ended."""
    settings, training = configuration.settings, done[-1]

    def halt() -> str | None:
        if caught:
            return "interrupted"
        limit = settings.time_limit_s
        return "time_limit" if limit is not None and training.seconds >= limit else None

    end = StageEnd("steps", "", torch.empty(0), math.nan)
    trials: list[StageEnd] = []
    schedule = configuration.components["schedule"]
    plan = schedule.plan()
    for number, stage in enumerate(plan):
        if stage.trial is None and trials:
            training.settle(best_of(trials))
            trials = []
        training.enter(stage)
        bar = StageBar(stage, training.hierarchy.backbone.grid, show=settings.output.progress)

        def tell(progress: Progress, show: Callable[[Progress], None] = bar.tell) -> None:
            show(progress)
            report.step(progress.row)

        end = training.train(stage, tell, halt)
        bar.close()
        log.add(_stage_line(stage, end, training))
        if stage.trial is not None:
            trials.append(end)
            if end.reason not in ENDINGS:
                continue
            end = replace(best_of(trials), reason=end.reason, message=end.message)
        training.settle(end)
        report.level(asdict(training.levels[-1]))
        ended = end.reason in (*ENDINGS, "diverged")
        if training.waiting and (ended or number + 1 == len(plan)):
            training.unwind()
            # What ended a coarse problem says nothing of the level it was for.
            reason = "steps" if end.reason in ("tolerance", "plateau", "optimizer", "refused") else end.reason
            end = replace(end, reason=reason, loss=training.levels[-1].loss)
        if not training.waiting:
            still_there()
            try:
                checkpoints.save(
                    folder, training.slab * len(plan) + number, configuration, *_whole(configuration, done)
                )
            except OSError as error:  # the solve goes on: there may be room again for the next
                warn(f"{error.filename}: {error.strerror}; this checkpoint is not written, the solve goes on")
        if ended or (end.reason == "tolerance" and stage.level == schedule.levels - 1 and not training.waiting):
            break
    return end


def _whole(configuration: Configuration, done: Sequence[Training]) -> tuple[Backbone, Tensor]:
    """The network on the whole domain with its parameters `[P]`, NaN on time slabs not begun."""
    trained = [(training.backbone, training.theta) for training in done]
    return slabs.joined(configuration, embed(configuration), trained)


def _open(configuration: Configuration, folder: Path) -> RunLog:
    """Write the config and the first lines of the log into the run folder."""
    resolved, settings = configuration.resolved, configuration.settings
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(resolved)))
    log = RunLog(folder / "log.txt")
    chosen = [f"{group}={resolved[group]['name']}" for group in ("problem", *configuration.components)]
    chosen += [f"{key}={getattr(settings, key)}" for key in ("seed", "dtype", "device")]
    log.add(
        f"kanpinn {__version__} solve, {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        ", ".join([*chosen, f"threads={torch.get_num_threads()}"]),
    )
    return log


def _diagram(configuration: Configuration, training: Training) -> str:
    """The schedule as a picture, as wide as the terminal allows."""
    coarsest = training.hierarchy.backbones[0]
    plan = configuration.components["schedule"].plan()
    highest = max(stage.level for stage in plan)
    if plan[-1].level < highest and coarsest.refinable:
        plan.append(Stage(highest, 0))  # a level that waits is returned to
    named = [replace(stage, optimizer=configuration.optimizer_name(stage.optimizer)) for stage in plan]
    width = shutil.get_terminal_size().columns
    return diagram(named, lambda level: coarsest.grid and coarsest.grid * 2**level, width)


def best_of(trials: Sequence[StageEnd]) -> StageEnd:
    """The start with the lowest loss; one that diverged counts as the worst."""
    return min(trials, key=lambda end: end.loss if end.reason != "diverged" and math.isfinite(end.loss) else math.inf)


def _stage_line(stage: Stage, end: StageEnd, training: Training) -> str:
    trial = "" if stage.trial is None else f" start {stage.trial + 1}"
    why = end.reason + (f": {end.message}" if end.message else "")
    return (
        f"{training.seconds:8.1f} s  level {stage.level}{trial}: {training.problem.size} parameters, "
        f"{len(end.rows)} steps, loss {end.loss:.3e}, ended by {why}"
    )


def _finish(
    configuration: Configuration, done: Sequence[Training], grid: OutputGrid, end: StageEnd, folder: Path
) -> tuple[Solution, str, list[OSError]]:
    """Write solution.h5 and metrics.json; returns the solution, the status in words and what could not be written."""
    resolved, settings = configuration.resolved, configuration.settings
    training = done[-1]
    backbone, theta = _whole(configuration, done)
    objective = training.objective
    if backbone is not training.backbone or objective.problem is not configuration.problem:
        exact = configuration.conditions == "exact"
        objective = Objective(configuration.problem, backbone, configuration.components["weighting"], exact=exact)
    fields = solution_fields(objective, theta, grid)
    l2, linf = grid.errors(fields)
    status = STATUSES[end.reason]
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "problem": resolved["problem"]["name"],
        "backbone": resolved["backbone"]["name"],
        "schedule": resolved["schedule"]["name"],
        "optimizer": resolved["optimizer"]["name"],
        "seed": settings.seed,
        "parameters": backbone.size,
        "wall_time_s": training.seconds,
        "loss": end.loss,
        "relative_l2": l2,
        "linf": linf,
        "error_estimate": None if len(done) < configuration.components["schedule"].slabs else _estimate(done),
        "work": sum(record.work for record in training.levels),
        "levels": [asdict(record) for record in training.levels],
    }
    problem = configuration.problem
    data = SolutionFile(
        problem=metrics["problem"],
        equation=problem.equation,
        config=OmegaConf.to_yaml(OmegaConf.create(resolved)),
        seed=settings.seed,
        dtype=settings.dtype,
        status=status,
        coordinates=grid.coordinates,
        labels=dict(problem.labels),
        fields=fields,
        history=training.columns(),
        levels=metrics["levels"],
        spectra=stacked(training.spectra, len(training.levels)),
        points=collocation_points([(t.objective, t.theta) for t in done]),
        metrics=metrics,
        model=model_arrays(backbone, theta),
        model_attributes=model_attributes(backbone),
        slabs=configuration.components["schedule"].slabs,
        slabs_begun=len(done),
    )
    failures = []
    # On a full disk there may be room for the second where there was none for the first.
    for write in (
        lambda: write_solution(folder / "solution.h5", data),
        lambda: write_json(folder / "metrics.json", metrics),
    ):
        try:
            write()
        except OSError as error:
            failures.append(error)
    message = end.message or REASONS.get(end.reason) or ADVICE.get(status, "")
    missing = configuration.components["schedule"].slabs - len(done)
    if missing:
        message += f"; the last {missing} time slabs were not begun, their values are NaN"
    return Solution(objective, theta, metrics, folder), message, failures


def _estimate(done: Sequence[Training]) -> dict[str, float] | None:
    """The estimate of the error, from the last level of every time slab."""
    last = {record.slab: record.change for record in done[0].levels}
    norms = [t.grid.norms(grid_values(t.objective, t.theta, t.grid)) for t in done]
    return error_estimate([(last[k], norm) for k, norm in enumerate(norms)])


def _draw(folder: Path) -> None:
    """Draw the figures from the file just written, so that they show what a reader of it sees; a fault is only told."""
    from kanpinn.io.solution import read_solution
    from kanpinn.plots import plot_all

    try:
        plot_all(read_solution(folder / "solution.h5"), folder / "figures", every=False)
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        why = " ".join(str(reason).split())
        warn(f"{folder}: the figures are not drawn ({why}); all results are written, `kanpinn plot` draws them again")
