"""The run: one readable loop from a config to a run folder."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kanpinn import __version__
from kanpinn.api import Solution, load
from kanpinn.errors import DivergedError, Interrupted, KanpinnWarning, UserError
from kanpinn.evaluate.grid_evaluation import (
    OutputGrid,
)
from kanpinn.io.atomic import remove_leftovers, write_text
from kanpinn.io.hdf5 import versions
from kanpinn.io.lock import run_lock
from kanpinn.io.metrics import metrics_of
from kanpinn.io.solution import solution_status
from kanpinn.loggers import Logger, Report
from kanpinn.run import checkpoints, preflight
from kanpinn.run.progress import RunLog, summary, warn
from kanpinn.run.results import draw, write_results
from kanpinn.run.signals import stop_signals
from kanpinn.run.watch import RunWatch
from kanpinn.settings.compose import check_folder, parse, single_value
from kanpinn.settings.config import COMPONENTS, validate
from kanpinn.settings.options import Configuration
from kanpinn.settings.resolving import read_config, yaml_text
from kanpinn.solver.time_marching import Solver

FINISHED = ("converged", "step_limit", "diverged")
"""Statuses after which nothing is left to resume."""

RESUMABLE = ("time_limit_s", "checkpoint.every_s", "checkpoint.keep", "output.figures", "output.progress")
"""Keys that may have another value in a resumed run: none that its numbers depend on."""


WRITTEN = ("config.yaml", "log.txt", "metrics.json", "solution.h5", "checkpoint_*.h5")
"""Files that only a run writes; a plot or a report of it may be writing others at the same time."""

LEFT_ALONE_S = 3600.0
"""Seconds after which a temporary file of anything else is one that nobody finishes."""


def run(config: Mapping[Any, Any], folder: Path, observers: Sequence[Logger] = ()) -> Solution:
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
    check_folder(folder)
    with _held(folder) as still_there:
        check_folder(folder)  # once more: another process may have finished a run here just before the lock was ours
        if configuration.settings.threads:
            torch.set_num_threads(configuration.settings.threads)
        try:
            log = _open(configuration, folder)  # first of all: whatever happens now can be resumed
            _preflight(configuration)
            grid = OutputGrid(configuration.setup.problem, configuration.setup.points)
        except UserError:
            for name in ("config.yaml", "log.txt"):
                (folder / name).unlink(missing_ok=True)
            raise
        return _solve(configuration, folder, log, Solver(configuration.setup), grid, observers, still_there)


def resume(folder: Path, overrides: Sequence[str] = (), observers: Sequence[Logger] = ()) -> Solution:
    """Go on with a run where its newest checkpoint stands; a run that is finished is left as it is.

    Args:
        folder: The run folder.
        overrides: `key=value` for the keys that may differ from then on, `RESUMABLE`.
        observers: As for `run`.

    Returns:
        The solution, to the last bit the one of a run that was never stopped: same machine, same number of threads.

    Raises:
        UserError: If the folder is no run, its files are damaged, or an override is not one of `RESUMABLE`.
        DivergedError: As for `run`, also if it was so that the run has ended.
        Interrupted: As for `run`.
        OSError: As for `run`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a run folder")
    changed = _changed(overrides)
    finished = _finished(folder)
    if finished == "diverged":
        raise DivergedError(f"{folder}: has ended as diverged; there is nothing to resume")
    if finished is not None:
        print(f"{folder}: finished, status {finished}; nothing to resume", flush=True)
        return load(folder)
    with _held(folder) as still_there:
        remove_leftovers(folder, WRITTEN, LEFT_ALONE_S)
        checkpoint = checkpoints.newest(folder) if checkpoints.files(folder) else None
        if checkpoint is not None:
            configuration = checkpoints.configuration_of(checkpoint, same_source=True, changed=changed)
            _same_conditions(checkpoint, configuration)
            _preflight(configuration)
            solver = Solver(configuration.setup)
            solver.load_state(checkpoint.state)
            where = f"{checkpoint.path.name}: {solver.steps} steps done, {solver.seconds:.1f} s spent"
        else:
            configuration = validate(checkpoints.changed_config(_written_config(folder), changed))
            if configuration.settings.threads:
                torch.set_num_threads(configuration.settings.threads)
            _preflight(configuration)
            solver, where = Solver(configuration.setup), "the beginning"
        limit = configuration.settings.time_limit_s
        if limit is not None and solver.seconds >= limit and not solver.over:
            raise UserError(
                f"time_limit_s={limit:g}: {solver.seconds:.1f} s are spent already; expected more, as in "
                f"kanpinn resume {folder} time_limit_s={math.ceil(2 * solver.seconds)}, or null"
            )
        if changed:
            _write_config(configuration, folder)
        log = RunLog(folder / "log.txt")
        line = f"resumed from {where}; {', '.join(overrides) or 'nothing changed'}; {_now()}"
        log.add(line)
        print(f"{line}\n", flush=True)
        grid = OutputGrid(configuration.setup.problem, configuration.setup.points)
        return _solve(configuration, folder, log, solver, grid, observers, still_there, checkpoint, bool(changed))


def _preflight(configuration: Configuration) -> None:
    """Check everything that can be checked before any work starts; raises UserError."""
    configuration.logger.require()
    preflight.check(configuration.setup)


def _finished(folder: Path) -> str | None:
    """The status of a run of which nothing is left to do; None if something is, a file that is not the last one too."""
    status = metrics_of(folder).get("status")
    if status not in FINISHED:
        return None
    try:
        if solution_status(folder / "solution.h5") != status or not checkpoints.newest(folder).final:
            return None
    except UserError:
        return None
    return str(status)


@contextmanager
def _held(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a run folder, made where it is missing, for this process; one that is empty in the end is taken away.

    Yields:
        What raises UserError if somebody has removed the folder.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with run_lock(folder) as still_there:
            yield still_there
    finally:
        for place in made:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def _solve(
    configuration: Configuration,
    folder: Path,
    log: RunLog,
    solver: Solver,
    grid: OutputGrid,
    observers: Sequence[Logger],
    still_there: Callable[[], None],
    checkpoint: checkpoints.Checkpoint | None = None,
    changed: bool = False,
) -> Solution:
    """Solve, or solve the rest after a checkpoint, and write everything; what has `changed` is written at once."""
    settings = configuration.settings
    with stop_signals() as caught, _report(configuration, folder, log, observers, solver.steps) as report:
        saved = checkpoints.Checkpoints(folder, configuration, None if checkpoint is None else checkpoint.path)
        watch = RunWatch(configuration, log, report, caught, still_there, saved)
        if checkpoint is not None and changed:
            watch.save(solver, checkpoint.state)
        end = solver.solve(watch)
        unsaved = watch.save(solver, watch.stopped, final=True)
        # A signal that comes later finds all but figures written: what is written then says how the solve has ended.
        interrupted = tuple(caught)
        if interrupted:
            end = replace(end, reason="interrupted", message="")
        still_there()
        solution, message, failures = write_results(configuration, solver, grid, end, folder)
        failures += [] if unsaved is None else [unsaved]
        text = summary(solver.training.levels, solution.metrics, message, folder.absolute())
        log.add(text)
        print(text, flush=True)
        if failures:
            raise failures[0]
        if settings.output.figures and not interrupted:
            if caught:
                warn(f"{folder}: the figures are not drawn (a signal); `kanpinn plot` draws them")
            else:
                draw(folder)
        report.finish(solution.metrics, folder / "figures")
    if end.reason == "diverged":
        raise DivergedError(f"the solve diverged at {end.message}; the best state so far is in {folder}")
    if interrupted:
        raise Interrupted(interrupted[0])
    return solution


@contextmanager
def _report(
    configuration: Configuration, folder: Path, log: RunLog, observers: Sequence[Logger], steps: int
) -> Iterator[Report]:
    """Tell the logger and the observers of the run's begin, and of its end whatever ends it."""

    def warn(text: str) -> None:
        log.add(text)
        print(f"kanpinn: {text}", file=sys.stderr, flush=True)

    report = Report(configuration.logger, warn, observers, steps)
    report.start(configuration.resolved, folder)
    try:
        yield report
    finally:
        report.finish(None)


def _changed(overrides: Sequence[str]) -> dict[str, Any]:
    """Overrides of a resumed run by dotted key; raises UserError for one that may not change."""
    changed = {}
    for override in parse(overrides):
        if override.key_or_group not in RESUMABLE:
            raise UserError(f"{override.key_or_group} cannot change on resume; those that can: {', '.join(RESUMABLE)}")
        changed[override.key_or_group] = single_value(override, "resume")
    return changed


def _written_config(folder: Path) -> dict[str, Any]:
    """The resolved config in a run folder; raises UserError if there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder}: nothing to resume: neither {checkpoints.FOLDER}/ nor config.yaml is in it")
    return read_config(path)


def _same_conditions(checkpoint: checkpoints.Checkpoint, configuration: Configuration) -> None:
    """Take the number of threads a run had, and warn where another version of something may round otherwise."""
    threads = checkpoint.meta.get("threads")
    if configuration.settings.threads:
        torch.set_num_threads(configuration.settings.threads)
    elif isinstance(threads, int) and 1 <= threads <= 4096:
        torch.set_num_threads(threads)
    then, now = checkpoint.meta.get("versions"), versions()
    if then != now and isinstance(then, Mapping):
        names = ", ".join(f"{name} {then.get(name)} → {now[name]}" for name in now if then.get(name) != now[name])
        text = f"{checkpoint.path}: written with other versions ({names}); last digits may differ from here on"
        warnings.warn(text, KanpinnWarning, stacklevel=3)


def _open(configuration: Configuration, folder: Path) -> RunLog:
    """Write the config and the first lines of the log into the run folder."""
    resolved, settings = configuration.resolved, configuration.settings
    _write_config(configuration, folder)
    log = RunLog(folder / "log.txt")
    chosen = [f"{group}={resolved[group]['name']}" for group in ("problem", *COMPONENTS)]
    chosen += [f"{key}={getattr(settings, key)}" for key in ("seed", "dtype", "device")]
    log.add(
        f"kanpinn {__version__} solve, {_now()}",
        ", ".join([*chosen, f"threads={torch.get_num_threads()}"]),
    )
    return log


def _write_config(configuration: Configuration, folder: Path) -> None:
    write_text(folder / "config.yaml", yaml_text(configuration.resolved))


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z")
