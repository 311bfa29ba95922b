"""Search for the best config: trials by optuna in a SQLite file, each a run folder, hopeless ones ended at a level."""

from __future__ import annotations

import math
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.override_parser.types import Override

from kanpinn.errors import DivergedError, Interrupted, UserError, complain, one_line, say
from kanpinn.io.lock import run_lock
from kanpinn.loggers.base import Logger
from kanpinn.pde import Problem
from kanpinn.run.signals import handled, usual_handlers
from kanpinn.settings.compose import compose, free, parse
from kanpinn.settings.config import validate
from kanpinn.sweep.job import fork
from kanpinn.sweep.launch import cores
from kanpinn.sweep.ledger import birth
from kanpinn.sweep.space import points, space, words_of
from kanpinn.sweep.study import KILLED, Search, bury, cut_off, fail, open_study, study_of, trial_of, tried, write_study

if TYPE_CHECKING:
    import optuna


class _Pruned(Exception):
    """The trial is hopeless."""


@dataclass
class Watch(Logger):
    """Follows one trial: reports each level's error, or loss where there is no reference, and ends a hopeless one.

    Attributes:
        report: Called with the number of the level's visit and its value; whether the trial shall end there.
        error: The error whose time is wanted; None for none.
        seconds: When it was reached, inf until then.
    """

    report: Callable[[int, float], bool]
    error: float | None = None
    seconds: float = math.inf
    every: int = 1

    def __post_init__(self) -> None:
        self._visits = 0

    def step(self, number: int, row: Mapping[str, float]) -> None:
        errors = [value for name, value in row.items() if name.startswith("relative_l2_")]
        if self.error is not None and self.seconds == math.inf and errors and max(errors) <= self.error:
            self.seconds = row["wall_time"]

    def level(self, number: int, record: Mapping[str, Any]) -> None:
        errors = (record["relative_l2"] or {}).values()
        value = max(errors, default=record["loss"])
        self._visits += 1
        if self.report(self._visits, value if math.isfinite(value) else math.inf):
            raise _Pruned(f"at level {record['level']} ({value:.3g}) worse than the median of the trials before")


def search(plan: Search) -> int:
    """Run the trials that a study lacks, and say which is best; returns 0, or 3 if no trial has a value.

    Raises:
        UserError: If the input is wrong, optuna is not installed, or the study in the folder is another one.
        KeyboardInterrupt: If a signal stopped the search; the same call goes on.
    """
    overrides = free(list(plan.overrides))
    parsed = parse(overrides)
    try:
        import optuna
    except ImportError as error:
        raise UserError("kanpinn tune needs optuna: pip install 'kanpinn[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spanned = space(parsed)
    if not spanned:
        raise UserError(
            "kanpinn tune: nothing to search: give some key several values, such as backbone.grid=range(3,9)."
        )
    _check(plan, parsed, spanned)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with run_lock(plan.folder), _interruptible():
        study = study_of(plan, overrides, spanned)
        bury(study, plan.folder)
        try:
            _run_all(plan, study, parsed, spanned)
        finally:
            write_study(study, plan, list(spanned))
        return _tell_best(study, plan, parsed)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make signals exceptions, so that the trials are ended and the tables written: the command itself just leaves."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
        raise Interrupted(number)

    with handled(usual_handlers(), interrupt):
        yield


def _check(plan: Search, parsed: Sequence[Override], spanned: Mapping[str, Any]) -> None:
    """Refuse what can be seen without solving: every corner of the space, a goal without a reference."""
    corners: list[dict[str, Any]] = [{}]
    for key, distribution in spanned.items():
        ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
        corners = [{**corners[0], key: ends[0]}, *corners[1:], *({**corners[0], key: end} for end in ends[1:])]
    first = corners[0]
    for corner in corners:
        configuration = validate(compose(words_of(parsed, {**first, **corner}))[0])
        if plan.goal != "loss" and type(configuration.setup.problem).reference is Problem.reference:
            name = configuration.resolved["problem"]["name"]
            raise UserError(f"problem={name}: has no reference to measure an error against; give --objective loss.")


def _run_all(plan: Search, study: optuna.Study, parsed: Sequence[Override], spanned: Mapping[str, Any]) -> None:
    """Run trials, several at a time where asked for, until the study holds as many as it shall."""
    from optuna.trial import TrialState

    import kanpinn.run.run  # noqa: F401  (once here, not in every child)

    children: dict[int, int] = {}  # trial by process
    # Those cut off before are made up for; one that is killed now counts, or a config that wants too much memory would
    # be tried for ever.
    goal = plan.trials + sum(map(cut_off, study.get_trials(deepcopy=False)))
    every = points(spanned)
    try:
        while True:
            there = study.get_trials(deepcopy=False)
            known = tried(study)
            enough = len(there) >= goal or (every is not None and all(point in known for point in every))
            if children and (len(children) >= plan.jobs or enough):
                process, status = os.wait()
                number = children.pop(process)
                state = study.get_trials(deepcopy=False)[number].state
                if state == TrialState.RUNNING:
                    code = os.waitstatus_to_exitcode(status)
                    reason = f"killed by signal {-code}" if code < 0 else f"its process left with exit code {code}"
                    fail(study, number, KILLED if code < 0 else 1, f"{reason}: out of memory, or ended by hand")
                _tell(study, number)
                write_study(study, plan, list(spanned))
                continue
            if enough:
                if len(there) < goal:
                    say(f"all {len(every or [])} points of the space are tried")
                return
            trial = study.ask(dict(spanned))
            words = words_of(parsed, trial.params)
            if plan.jobs == 1:
                _run(plan, study, trial.number, words)
                _tell(study, trial.number)
                write_study(study, plan, list(spanned))
            else:
                number = trial.number
                children[fork(lambda: _run(plan, open_study(plan, spanned), number, words))] = number  # noqa: B023
    except KeyboardInterrupt:
        for process in children:
            os.kill(process, signal.SIGTERM)
        for process in children:
            os.waitpid(process, 0)
        raise


def _run(plan: Search, study: optuna.Study, number: int, words: list[str]) -> None:
    """Run one trial in this process and tell the study what came of it."""
    from optuna.trial import TrialState

    from kanpinn.run.run import run

    trial = trial_of(study, number)
    process = os.getpid()
    for key, value in (("host", socket.gethostname()), ("process", process), ("birth", birth(process))):
        trial.set_user_attr(key, value)

    def report(visit: int, value: float) -> bool:
        trial.report(value, visit)
        return trial.should_prune()

    watch = Watch(report, plan.error)
    quiet = ["output.progress=false"] if plan.jobs > 1 else []
    if plan.jobs > 1 and not any(word.startswith("threads=") for word in words):
        quiet.append(f"threads={max(1, cores() // plan.jobs)}")
    try:
        cfg, _ = compose([*words, *quiet])
        metrics = run(cfg, plan.folder / str(number), [watch]).metrics
    except _Pruned as error:
        trial.set_user_attr("reason", str(error))
        study.tell(number, state=TrialState.PRUNED)
    except UserError as error:
        fail(study, number, 2, str(error))
    except DivergedError as error:
        fail(study, number, 3, str(error))
    except KeyboardInterrupt:
        fail(study, number, 130, "interrupted")
        raise
    except Exception as error:
        say(traceback.format_exc(), error=True)
        fail(study, number, 1, f"{type(error).__name__}: {one_line(error)}")
    else:
        errors = [math.nan if value is None else value for value in (metrics["relative_l2"] or {}).values()]
        values = {"relative_l2": max(errors, default=math.nan), "loss": metrics["loss"], "seconds": watch.seconds}
        if math.isnan(values[plan.goal]):
            fail(study, number, 1, f"{plan.goal} is not a number")
        else:
            study.tell(number, values[plan.goal])


def _tell(study: optuna.Study, number: int) -> None:
    """One line about a trial that has ended."""
    trial = study.get_trials(deepcopy=False)[number]
    params = " ".join(f"{key}={value}" for key, value in trial.params.items())
    reason = str(trial.user_attrs.get("reason", ""))
    if trial.value is None or reason:
        complain(f"trial {number}: {trial.state.name.lower()}", UserError(f"{reason} ({params})"))
    else:
        say(f"trial {number}: {trial.value:.4g} ({params})")


def _tell_best(study: optuna.Study, plan: Search, parsed: Sequence[Override]) -> int:
    """Print the best trial as a command; returns the exit code."""
    import shlex

    from kanpinn.errors import EXIT_DONE, EXIT_SOLVE_FAILED

    done = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE" and t.value is not None]
    finite = [trial for trial in done if math.isfinite(trial.value or math.inf)]
    say(f"{len(study.trials)} trials: {plan.folder / 'summary.md'}")
    if not finite:
        complain("error", UserError("no trial has reached a value; summary.md says why"))
        return EXIT_SOLVE_FAILED
    best = min(finite, key=lambda trial: trial.value or 0.0)
    say(f"best: trial {best.number}, {plan.goal} {best.value:.4g}")
    say(f"kanpinn solve {shlex.join(words_of(parsed, best.params))}")
    return EXIT_DONE
