"""Search for the best config: trials by optuna in a SQLite file, each a run folder, hopeless ones ended at a level."""

from __future__ import annotations

import itertools
import math
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from kanpinn.errors import DivergedError, UserError, complain, invalid, one_line
from kanpinn.io.lock import run_lock
from kanpinn.loggers.base import Logger
from kanpinn.pde import Problem
from kanpinn.settings.compose import compose, free, parse
from kanpinn.settings.config import validate
from kanpinn.settings.options import Configuration
from kanpinn.sweep.job import fork
from kanpinn.sweep.ledger import Job, at_work, birth
from kanpinn.sweep.summary import save, table

if TYPE_CHECKING:
    import optuna

Goal = Literal["relative_l2", "loss", "seconds"]
_STUDY = "kanpinn"
_KILLED = 137
"""The exit code that a shell gives for a process ended by SIGKILL."""
_LISTED = 10_000
"""Points of a finite space up to which those not tried yet are listed."""
_DRAWS = 20
"""Points the sampler may propose for one trial before one not tried yet is drawn at random."""


@dataclass(frozen=True)
class Search:
    """What is searched for, and how.

    Attributes:
        overrides: Overrides, those with several values or an interval spanning the space of the search.
        folder: Where the study is kept: `study.db`, summaries, one folder per trial.
        trials: Trials the study shall hold in the end, earlier ones included, those interrupted or killed by then not.
        jobs: Trials at a time.
        goal: What is made small: the relative L2 error (the largest of the unknowns'), the loss, or the seconds until
            the error at the monitor points is below `error`.
        error: That error.
        prune: Whether a trial ends at a level where it is worse than the median of the others there.
        seed: Of the search; the runs have their own.
    """

    overrides: Sequence[str]
    folder: Path
    trials: int = 20
    jobs: int = 1
    goal: Goal = "relative_l2"
    error: float | None = None
    prune: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise invalid("--trials", self.trials, "a whole number of at least 1")
        if self.jobs < 1:
            raise invalid("--jobs", self.jobs, "a whole number of at least 1")
        if (self.goal == "seconds") != (self.error is not None):
            raise UserError(
                "--objective seconds and --error E belong together: the seconds until the error is below E."
            )
        if self.error is not None and not 0 < self.error < math.inf:
            raise invalid("--error", self.error, "a positive number")


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

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        pass

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

    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        pass


def space(overrides: Sequence[Override]) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distributions that overrides in Hydra's sweep syntax stand for.

    Args:
        overrides: `key=a,b` and `key=choice(a,b)` list values; `key=range(a,b,step)` are whole numbers (or steps) below
            b; `key=interval(a,b)` is continuous, `key=int(interval(a,b))` whole numbers from a to b; around either,
            `tag(log,…)` searches on a logarithmic scale.

    Returns:
        By key, for those that have several values.

    Raises:
        UserError: If an interval is empty, or not positive on a logarithmic scale.
    """
    found = {}
    for override in overrides:
        if override.is_sweep_override():
            try:
                found[override.key_or_group] = _distribution(override)
            except (ValueError, TypeError) as error:
                raise UserError(f"{override.input_line}: {one_line(error)}") from error
    return found


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    log = "log" in getattr(sweep, "tags", ())
    unknown = set(getattr(sweep, "tags", ())) - {"log"}
    if unknown:
        raise UserError(f"{override.input_line}: tag {min(unknown)}: unknown; valid choices: log.")
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        if low is None or high is None or not low < high:
            raise UserError(f"{override.input_line}: expected interval(a,b) with a below b.")
        if log and low <= 0:
            raise UserError(f"{override.input_line}: a logarithmic scale needs an interval above 0.")
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(sweep, RangeSweep) and all(isinstance(v, int) for v in (sweep.start, sweep.stop, sweep.step)):
        values = range(int(sweep.start or 0), int(sweep.stop or 0), int(sweep.step))
        if not values:
            raise UserError(f"{override.input_line}: expected range(a,b) with a below b.")
        low, high = min(values), max(values)
        return IntDistribution(low, high, log=log, step=1 if log else abs(values.step))
    if isinstance(sweep, ChoiceSweep | RangeSweep):
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    raise UserError(f"{override.input_line}: not a search space; list values, or give interval(a,b).")


def search(plan: Search) -> int:
    """Run the trials that a study lacks, and say which is best.

    Args:
        plan: What is searched for.

    Returns:
        0; 3 if no trial has a value.

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
        study = _study(plan, overrides, spanned)
        _bury(study, plan.folder)
        try:
            _run_all(plan, study, parsed, spanned)
        finally:
            write_study(study, plan, list(spanned))
        return _tell_best(study, plan, parsed)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make SIGINT an exception, so that the trials are ended and the tables written: the command itself just leaves."""
    try:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check(plan: Search, parsed: Sequence[Override], spanned: Mapping[str, Any]) -> None:
    """Refuse what can be seen without solving: every corner of the space, a goal without a reference."""
    corners: list[dict[str, Any]] = [{}]
    for key, distribution in spanned.items():
        ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
        corners = [{**corners[0], key: ends[0]}, *corners[1:], *({**corners[0], key: end} for end in ends[1:])]
    first = corners[0]
    for corner in corners:
        configuration = validate(compose(words_of(parsed, {**first, **corner}))[0])
        if plan.goal != "loss" and not _has_reference(configuration):
            name = configuration.resolved["problem"]["name"]
            raise UserError(f"problem={name}: has no reference to measure an error against; give --objective loss.")


def _has_reference(configuration: Configuration) -> bool:
    return type(configuration.setup.problem).reference is not Problem.reference


def words_of(parsed: Sequence[Override], values: Mapping[str, Any]) -> list[str]:
    """The overrides with one value each.

    Args:
        parsed: Overrides, some with several values.
        values: The value for each of those, by key.

    Returns:
        What `kanpinn solve` takes.
    """
    words = []
    for override in parsed:
        if override.is_sweep_override():
            value = values[override.key_or_group]
            words.append(f"{override.get_key_element()}={value}")  # str of a float gives it back
        else:
            words.append(str(override.input_line))
    return words


def _study(plan: Search, overrides: Sequence[str], spanned: Mapping[str, Any]) -> optuna.Study:
    """The study in the folder, new or of an earlier call of the same overrides."""
    study = open_study(plan, spanned)
    known = study.user_attrs
    asked = {"overrides": sorted(overrides), "goal": plan.goal, "error": plan.error}
    for key, value in asked.items():
        if key in known and known[key] != value:
            raise UserError(
                f"--study {plan.folder.name}: {plan.folder} holds a search with other {key} ({known[key]}); "
                "expected the same, or another name."
            )
        study.set_user_attr(key, value)
    return study


def open_study(plan: Search, spanned: Mapping[str, Any]) -> optuna.Study:
    """The study of a plan, by a connection of its own; it asks for no point of the space twice."""
    import optuna

    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(plan.folder / 'study.db').absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5) if plan.prune else optuna.pruners.NopPruner()
    known = [summary.n_trials for summary in optuna.get_all_study_summaries(storage)]
    # A seed that counts on: the same one again would propose the same values again.
    seed = plan.seed + sum(known)

    class Distinct(optuna.samplers.TPESampler):
        """The same sampler, asked again for a point that was tried."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return dict(spanned)

        def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            tried = _tried(study)
            for _ in range(_DRAWS):
                point = {key: self.sample_independent(study, trial, key, d) for key, d in search_space.items()}
                if point not in tried:
                    return point
            left = [point for point in points(search_space) or [] if point not in tried]
            return left[np.random.default_rng([seed, trial.number]).integers(len(left))] if left else point

    sampler = Distinct(seed=seed, constant_liar=plan.jobs > 1)
    return optuna.create_study(study_name=_STUDY, storage=storage, sampler=sampler, pruner=pruner, load_if_exists=True)


def points(spanned: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Every point of a space.

    Args:
        spanned: Its distributions by key.

    Returns:
        The points; None for a space that is infinite or has more than some thousands.
    """
    columns = []
    for distribution in spanned.values():
        if hasattr(distribution, "choices"):
            columns.append(list(distribution.choices))
        elif isinstance(distribution.low, int):
            columns.append(range(distribution.low, distribution.high + 1, distribution.step))
        else:
            return None
    if math.prod(map(len, columns)) > _LISTED:
        return None
    return [dict(zip(spanned, values, strict=True)) for values in itertools.product(*columns)]


def _tried(study: optuna.Study) -> list[dict[str, Any]]:
    """The points of all trials but those that were cut off, and so say nothing."""
    return [trial.params for trial in study.get_trials(deepcopy=False) if trial.params and not _cut_off(trial)]


def _cut_off(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial was interrupted or killed, rather than failed."""
    return trial.state.name == "FAIL" and int(trial.user_attrs.get("code", 1)) >= 128


def _job_of(trial: optuna.trial.FrozenTrial) -> Job:
    """A trial as a job: where it ran, and what came of it."""
    attrs = trial.user_attrs
    from optuna.trial import TrialState

    words = tuple(f"{key}={value}" for key, value in trial.params.items())
    job = Job(trial.number, str(trial.number), words, reason=str(attrs.get("reason", "")))
    if trial.state == TrialState.RUNNING:
        process = int(attrs.get("process", 0))
        return replace(
            job, state="running", host=str(attrs.get("host", "")), process=process, birth=str(attrs.get("birth", ""))
        )
    if trial.state == TrialState.COMPLETE:
        return replace(job, state="ended", code=0)
    if int(attrs.get("code", 1)) == _KILLED:
        return replace(job, state="killed")
    return replace(job, state="ended", code=int(attrs.get("code", 1)))


def _bury(study: optuna.Study, folder: Path) -> None:
    """End the trials of an earlier call whose processes are gone."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING], deepcopy=False):
        if not at_work(folder, _job_of(trial)):
            _fail(study, trial.number, _KILLED, "its process is gone: out of memory, or ended by hand")


def _fail(study: optuna.Study, number: int, code: int, reason: str) -> None:
    from optuna.trial import Trial, TrialState

    identity = next(trial._trial_id for trial in study.get_trials(deepcopy=False) if trial.number == number)
    trial = Trial(study, identity)
    trial.set_user_attr("reason", " ".join(reason.split()))
    trial.set_user_attr("code", code)
    study.tell(number, state=TrialState.FAIL)


def _run_all(plan: Search, study: optuna.Study, parsed: Sequence[Override], spanned: Mapping[str, Any]) -> None:
    """Run trials, several at a time where asked for, until the study holds as many as it shall."""
    from optuna.trial import TrialState

    import kanpinn.run.run  # noqa: F401  (once here, not in every child)

    children: dict[int, int] = {}  # trial by process
    # Those cut off before are made up for; one that is killed now counts, or a config that wants too much memory would
    # be tried for ever.
    goal = plan.trials + sum(map(_cut_off, study.get_trials(deepcopy=False)))
    every = points(spanned)
    try:
        while True:
            there = study.get_trials(deepcopy=False)
            tried = _tried(study)
            enough = len(there) >= goal or (every is not None and all(point in tried for point in every))
            if children and (len(children) >= plan.jobs or enough):
                process, status = os.wait()
                number = children.pop(process)
                state = study.get_trials(deepcopy=False)[number].state
                if state == TrialState.RUNNING:
                    code = os.waitstatus_to_exitcode(status)
                    reason = f"killed by signal {-code}" if code < 0 else f"its process left with exit code {code}"
                    _fail(study, number, _KILLED if code < 0 else 1, f"{reason}: out of memory, or ended by hand")
                _tell(study, number)
                write_study(study, plan, list(spanned))
                continue
            if enough:
                if len(there) < goal:
                    print(f"all {len(every or [])} points of the space are tried", flush=True)
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
    from optuna.trial import Trial, TrialState

    from kanpinn.run.run import run

    identity = next(trial._trial_id for trial in study.get_trials(deepcopy=False) if trial.number == number)
    trial = Trial(study, identity)
    process = os.getpid()
    for key, value in (("host", socket.gethostname()), ("process", process), ("birth", birth(process))):
        trial.set_user_attr(key, value)

    def report(visit: int, value: float) -> bool:
        trial.report(value, visit)
        return trial.should_prune()

    watch = Watch(report, plan.error)
    quiet = ["output.progress=false"] if plan.jobs > 1 else []
    share = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if plan.jobs > 1 and not any(word.startswith("threads=") for word in words):
        quiet.append(f"threads={max(1, share // plan.jobs)}")
    try:
        cfg, _ = compose([*words, *quiet])
        metrics = run(cfg, plan.folder / str(number), [watch]).metrics
    except _Pruned as error:
        trial.set_user_attr("reason", str(error))
        study.tell(number, state=TrialState.PRUNED)
    except UserError as error:
        _fail(study, number, 2, str(error))
    except DivergedError as error:
        _fail(study, number, 3, str(error))
    except KeyboardInterrupt:
        _fail(study, number, 130, "interrupted")
        raise
    except Exception as error:
        traceback.print_exc()
        _fail(study, number, 1, f"{type(error).__name__}: {one_line(error)}")
    else:
        errors = list((metrics["relative_l2"] or {}).values())
        values = {"relative_l2": max(errors, default=math.nan), "loss": metrics["loss"], "seconds": watch.seconds}
        if math.isnan(values[plan.goal]):
            _fail(study, number, 1, f"{plan.goal} is not a number")
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
        print(f"trial {number}: {trial.value:.4g} ({params})", flush=True)


def write_study(study: optuna.Study, plan: Search, keys: Sequence[str]) -> None:
    """Write `summary.csv`, `.md` and `.h5`: those of a sweep, with the value of each trial, pruned ones marked.

    Args:
        study: The study.
        plan: Where it is kept.
        keys: What was searched over.
    """
    trials = study.get_trials(deepcopy=False)
    header, rows = table(plan.folder, [_job_of(trial) for trial in trials], keys)
    at = header.index("reason") + 1
    for row, trial in zip(rows, trials, strict=True):
        if trial.state.name == "PRUNED":
            row[header.index("status")] = "pruned"
        row.insert(at, trial.value if trial.state.name == "COMPLETE" else None)
    save(plan.folder, [*header[:at], "value", *header[at:]], rows)


def _tell_best(study: optuna.Study, plan: Search, parsed: Sequence[Override]) -> int:
    """Print the best trial as a command; returns the exit code."""
    import shlex

    from kanpinn.errors import EXIT_DONE, EXIT_SOLVE_FAILED

    done = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE" and t.value is not None]
    finite = [trial for trial in done if math.isfinite(trial.value or math.inf)]
    print(f"{len(study.trials)} trials: {plan.folder / 'summary.md'}")
    if not finite:
        complain("error", UserError("no trial has reached a value; summary.md says why"))
        return EXIT_SOLVE_FAILED
    best = min(finite, key=lambda trial: trial.value or 0.0)
    print(f"best: trial {best.number}, {plan.goal} {best.value:.4g}")
    print(f"kanpinn solve {shlex.join(words_of(parsed, best.params))}", flush=True)
    return EXIT_DONE
