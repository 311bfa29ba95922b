"""Run of a solve: from a config to a run folder, or to a solution in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kanpinn.errors import DivergedError, Interrupted, UndeterminedError, UserError, heard, say, warn
from kanpinn.evaluate.grid_evaluation import OutputGrid
from kanpinn.io.lock import check_folder
from kanpinn.io.metrics import undetermined
from kanpinn.io.same_run import RESUMABLE
from kanpinn.loggers import Logger, NoLogger, Report
from kanpinn.pde.problem import Problem
from kanpinn.run import checkpoints, preflight
from kanpinn.run.caller_state import caller_state
from kanpinn.run.console import summary
from kanpinn.run.context import RunContext
from kanpinn.run.folder import clear, finished_status, held, now, open_folder, tidy, write_config, written_config
from kanpinn.run.log import RunLog
from kanpinn.run.processes import Order, leading, own_threads
from kanpinn.run.pursuit import Pursuit
from kanpinn.run.results import Results, draw, results_of, write_results
from kanpinn.run.signals import stop_signals
from kanpinn.run.start_from import started
from kanpinn.run.values_check import changes, compare_values, posed_values
from kanpinn.run.watch import RunWatch
from kanpinn.settings.configuration import Configuration
from kanpinn.solution import Solution
from kanpinn.solver.solve import solve
from kanpinn.solver.solver import Solver
from kanpinn.state import State


def run(
    config: Configuration | Mapping[str, Any],
    folder: Path | None,
    observers: Sequence[Logger] = (),
    *,
    spoken: bool = True,
    start: Solution | None = None,
) -> Solution:
    """Solve one problem and write one run folder.

    Args:
        config: The config, checked or as composed.
        folder: A folder that does not exist yet or is empty; None writes nothing.
        observers: Told what the logger is told; what one of them raises ends the run there.
        spoken: True if schedule and summary are printed.
        start: Solution to go on from, in place of the folder that the config may name.

    Returns:
        The solution.

    Raises:
        UserError: If the input is wrong; nothing has been written then. Or if another process writes into the folder,
            or somebody has removed it.
        OSError: If a result cannot be written, a full disk being one reason; what was written before stays.
        UndeterminedError: If the data do not determine a coefficient; everything has been written.
        DivergedError: If the optimisation left the finite numbers; the best state so far has been written.
        Interrupted: If a signal ended the run early; the state has been written.
    """
    with heard() as cautions:
        configuration = config if isinstance(config, Configuration) else _checked(config)
    order = None if start is not None else Order(configuration.resolved)
    with caller_state(_threads(configuration)):
        configuration, words = started(configuration, start)
        if folder is None:
            if not isinstance(configuration.logger, NoLogger):
                name = configuration.resolved["logger"]["name"]
                raise UserError(f"logger={name}: needs a run folder; give folder=…")
            context = RunContext(configuration, RunLog(None), spoken=spoken, order=order)
            context.heard(cautions)
            _preflight(context)
            context.log.add(*configuration.notes, *words)
            return _solve(context, Solver(configuration.setup), _grid(configuration), observers)
        check_folder(folder)
        with held(folder) as still_there:
            check_folder(folder)  # once more: another process may have finished a run here before the lock was ours
            try:
                log = open_folder(configuration, folder)  # first of all: whatever happens now can be resumed
                context = RunContext(configuration, log, folder, spoken, still_there, order=order)
                context.heard(cautions)
                _preflight(context)
                grid = _grid(configuration)
            except UserError:
                for name in ("config.yaml", "log.txt"):
                    (folder / name).unlink(missing_ok=True)
                raise
            context.saved = checkpoints.Checkpoints(folder, configuration)
            _announce(context, [*configuration.notes, *words])
            return _solve(context, Solver(configuration.setup), grid, observers)


def _announce(context: RunContext, words: Sequence[str]) -> None:
    """Log how a run in a folder begins, and say what it does where."""
    context.log.add(*words)
    if context.spoken:
        groups = ("problem", "backbone", "schedule", "optimizer")
        chosen = (context.configuration.resolved[group]["name"] for group in groups)
        say("\n".join([f"{', '.join(chosen)}: {context.folder}", *words]))


def resume(
    folder: Path,
    overrides: Sequence[str] = (),
    observers: Sequence[Logger] = (),
    *,
    problem: Problem | None = None,
    stored: bool | None = None,
    spoken: bool = True,
) -> Solution:
    """Go on with a run where its newest checkpoint stands; a run that is finished is left as it is.

    Args:
        folder: The run folder.
        overrides: `key=value` for the keys that may differ from then on, `RESUMABLE`.
        observers: As for `run`.
        problem: The problem, where it was given as an object that no file defines.
        stored: True to take the problem's text stored in the run, whatever a file here says; False never to run it;
            None where there is no file of that name here.
        spoken: As for `run`.

    Returns:
        The solution, to the last bit the one of a run that was never stopped: same machine, same number of threads.

    Raises:
        UserError: If the folder is no run, its files are damaged, or an override is not one of `RESUMABLE`.
        UndeterminedError: As for `run`, also if it was so that the run has ended.
        DivergedError: As for `run`, also if it was so that the run has ended.
        Interrupted: As for `run`.
        OSError: As for `run`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a run folder")
    changed = _changed(overrides)
    finished = finished_status(folder)
    if finished == "diverged":
        raise DivergedError(f"{folder}: has ended as diverged; there is nothing to resume")
    if finished is not None:
        tidy(folder)
        if spoken:
            say(f"{folder}: finished, status {finished}; nothing to resume")
        return _determined(load(folder, problem, stored=stored), folder)
    with held(folder) as still_there, heard() as cautions:
        clear(folder)
        checkpoint = checkpoints.newest(folder) if checkpoints.files(folder) else None
        if checkpoint is not None:
            configuration = checkpoints.asked_of(checkpoint, problem, stored=stored, changed=changed)
            order = Order(changed, checkpoint.path, stored)
        else:
            configuration = _checked(checkpoints.changed_config(written_config(folder), changed), problem)
            order = Order(configuration.resolved)
        threads = _threads(configuration)
        if checkpoint is not None:
            threads = threads or checkpoints.same_threads(checkpoint)
        with caller_state(threads):
            if checkpoint is None:
                configuration, _ = started(configuration, None)
            context = RunContext(configuration, RunLog(folder / "log.txt"), folder, spoken, still_there, order=order)
            context.heard(cautions)
            return _go_on(context, folder, checkpoint, overrides, observers)


def _go_on(
    context: RunContext,
    folder: Path,
    checkpoint: checkpoints.Checkpoint | None,
    overrides: Sequence[str],
    observers: Sequence[Logger],
) -> Solution:
    """Solve the rest after a checkpoint, or all of it where there is none."""
    configuration = context.configuration
    _preflight(context, None if checkpoint is None or configuration.searches else checkpoint.state)
    solver, where = Solver(configuration.setup), "the beginning, as problem and data are now: no checkpoint was written"
    seconds = 0.0
    if checkpoint is not None and configuration.searches:
        context.search = Pursuit(context, checkpoint.state)
        seconds, done = context.search.seconds, len(context.search.done)
        where = f"{checkpoint.path.name}: {done} trials done, {seconds:.1f} s spent"
    elif checkpoint is not None:
        solver.load_state(checkpoint.state)
        backbone, theta = solver.network()
        compare_values(checkpoint.path, checkpoint.arrays, configuration.setup.residuals(backbone), theta)
        seconds = 0.0 if solver.over else solver.seconds
        where = f"{checkpoint.path.name}: {solver.steps} steps done, {solver.seconds:.1f} s spent"
    if (limit := configuration.settings.time_limit_s) is not None and seconds >= limit:
        raise UserError(
            f"time_limit_s={limit:g}: {seconds:.1f} s are spent already; expected more, as in "
            f"kanpinn resume {folder} time_limit_s={math.ceil(2 * seconds)}, or null"
        )
    if overrides:
        write_config(configuration, folder)
    context.saved = checkpoints.Checkpoints(folder, configuration, None if checkpoint is None else checkpoint.path)
    context.tell(f"resumed from {where}; {', '.join(overrides) or 'nothing changed'}; {now()}", "\n")
    begun = checkpoint.state if checkpoint is not None and overrides else None
    return _solve(context, solver, _grid(configuration), observers, begun)


def load(folder: Path, problem: Problem | None = None, *, stored: bool | None = None) -> Solution:
    """Load the solution in a run folder, from its newest checkpoint; problem and `stored` are as for `resume`.

    Raises:
        UserError: If the folder is no run, a file in it is damaged, or its problem has another text here.
    """
    return Solution(*checkpoints.restore(folder, problem, stored=stored), folder)


def _preflight(context: RunContext, state: State | None = None) -> None:
    """Check everything that can be checked before any work starts, and say what is doubtful; raises UserError."""
    context.configuration.logger.require()
    for flag in preflight.check(context.configuration.setup, state):
        context.warn(flag.message)
        if flag.kind in ("conditions", "growth"):
            context.doubts.append(flag)
    if context.configuration.searches:
        context.search = Pursuit(context)


def _solve(
    context: RunContext,
    solver: Solver,
    grid: OutputGrid,
    observers: Sequence[Logger],
    begun: State | None = None,
) -> Solution:
    """Solve, or solve the rest, and write everything; a state that the run has `begun` with is written at once."""
    folder = context.folder
    with (
        stop_signals() as context.caught,
        _report(context, observers, solver.steps) as context.report,
        leading(context.configuration, context.order, folder) as context.team,
    ):
        watch, posed = RunWatch(context), posed_values(context.configuration.setup)
        if begun is not None and context.search is None:
            watch.save(solver, begun)
        if context.search is not None:
            solver, end = context.search.run(watch)
        else:
            solver, end = solve(context.configuration.setup, watch, solver)
        unsaved = watch.save(solver, watch.stopped, final=True)
        # A signal that comes later finds all but figures written: what is written then says how the solve has ended.
        interrupted = tuple(context.caught)
        if interrupted:
            end = replace(end, reason="interrupted", message="")
        context.still_there()
        context.doubts += changes(posed, context.configuration.setup)
        results = results_of(context.configuration, solver, grid, end, folder, context.doubts, context.search)
        shown = None if folder is None else folder.absolute()
        # Before metrics.json, by which a run is known to be finished: then nothing is missing in its log.
        context.tell(summary(solver.record.levels, results.metrics, results.message, shown))
        context.warn_of(results.metrics["warnings"], None if interrupted else undetermined(results.metrics))
        failures = [] if folder is None else write_results(results, folder)
        if folder is not None and context.search is not None and not interrupted:
            write_config(context.configuration, folder)  # the same solve without a search
        failures += [] if unsaved is None else [unsaved]
        if failures:
            raise failures[0]
        if folder is not None:
            if context.configuration.settings.output.figures and not interrupted:
                if context.caught:
                    warn(f"{folder}: the figures are not drawn (a signal); `kanpinn plot` draws them")
                else:
                    draw(folder)
            context.report.finish(results.metrics, folder / "figures")
    solution = _solution(context, solver, results, watch.stopped)
    if end.reason == "diverged":
        where = "" if folder is None else f"; the best state so far is in {folder}"
        raise DivergedError(f"the solve diverged at {end.message}{where}", solution)
    if interrupted:
        raise Interrupted(interrupted[0], solution)
    return _determined(solution, folder)


def _determined(solution: Solution, folder: Path | None) -> Solution:
    """Return a finished solution; raises UndeterminedError where the data do not tell a coefficient of it."""
    if blind := undetermined(solution.metrics):
        raise UndeterminedError(blind + ("" if folder is None else f"; the results are in {folder}"), solution)
    return solution


def _solution(context: RunContext, solver: Solver, results: Results, stopped: State | None) -> Solution:
    """The solution of a solve, able to write its run folder if none is written."""
    if context.folder is not None:
        return Solution(results.residuals, results.theta, results.metrics, context.folder)

    def write(folder: Path) -> None:
        configuration = context.configuration
        with held(folder), caller_state(configuration.settings.threads):
            log = open_folder(configuration, folder)
            log.add(*context.log.lines)
            saved = checkpoints.Checkpoints(folder, configuration)
            saved.write(stopped or solver.state(), *solver.network(), final=True)
            failures = write_results(results, folder)
            if failures:
                raise failures[0]
            if configuration.settings.output.figures:
                draw(folder)

    return Solution(results.residuals, results.theta, results.metrics, None, results.data, write)


@contextmanager
def _report(context: RunContext, observers: Sequence[Logger], steps: int) -> Iterator[Report]:
    """Tell the logger and the observers of the run's begin, and of its end whatever ends it."""

    def complain(text: str) -> None:
        context.log.add(text)
        say(f"kanpinn: {text}", error=True)

    report = Report(context.configuration.logger, complain, observers, steps)
    if context.folder is not None:
        report.start(context.configuration.resolved, context.folder)
    try:
        yield report
    finally:
        report.finish(None)


def _checked(config: Mapping[str, Any], problem: Problem | None = None) -> Configuration:
    """The config as typed values; raises UserError."""
    from kanpinn.settings.config import validate

    return validate(config, None if problem is None else {"problem": problem})


def _threads(configuration: Configuration) -> int | None:
    """The number of threads of this process; None for torch's own choice."""
    return configuration.settings.threads or own_threads(configuration.setup.processes)


def _grid(configuration: Configuration) -> OutputGrid:
    return OutputGrid(configuration.setup.problem, configuration.setup.points)


def _changed(overrides: Sequence[str]) -> dict[str, Any]:
    """Overrides of a resumed run by dotted key; raises UserError for one that may not change."""
    if not overrides:
        return {}
    from kanpinn.settings.compose import single_values

    changed = single_values(overrides)
    for key in [key for key in changed if key not in RESUMABLE]:
        raise UserError(f"{key} cannot change on resume; those that can: {', '.join(RESUMABLE)}")
    return changed
