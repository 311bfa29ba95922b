"""Study of a search: its trials in a SQLite file, by optuna, and its tables."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kanpinn.errors import UserError, invalid
from kanpinn.sweep.ledger import Job, at_work
from kanpinn.sweep.space import points
from kanpinn.sweep.summary import save, table

if TYPE_CHECKING:
    import optuna

Goal = Literal["relative_l2", "loss", "seconds"]

_STUDY = "kanpinn"

KILLED = 137
"""The exit code that a shell gives for a process ended by SIGKILL."""

_DRAWS = 20
"""Points the sampler may propose for one trial before one not tried yet is drawn at random."""


@dataclass(frozen=True)
class Search:
    """Settings of a hyper-parameter search.

    Attributes:
        overrides: Overrides, those with several values or an interval spanning the space of the search.
        folder: Folder of the study: `study.db`, summaries, one folder per trial.
        trials: Trials the study shall hold in the end, earlier ones included, those interrupted or killed by then not.
        jobs: Trials at a time.
        goal: Quantity made small: the relative L2 error (the largest of the unknowns'), the loss, or the seconds until
            the error at the monitor points is below `error`.
        error: That error.
        prune: True if a trial ends at a level where it is worse than the median of the others there.
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


def study_of(plan: Search, overrides: Sequence[str], spanned: Mapping[str, Any]) -> optuna.Study:
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

    file = (plan.folder / "study.db").absolute()  # in an address %, ?, # and {} would mean something else
    storage = optuna.storages.RDBStorage(
        "sqlite:///study.db", engine_kwargs={"creator": lambda: sqlite3.connect(file, 60, check_same_thread=False)}
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
            known = tried(study)
            for _ in range(_DRAWS):
                point = {key: self.sample_independent(study, trial, key, d) for key, d in search_space.items()}
                if point not in known:
                    return point
            left = [point for point in points(search_space) or [] if point not in known]
            return left[np.random.default_rng([seed, trial.number]).integers(len(left))] if left else point

    sampler = Distinct(seed=seed, constant_liar=plan.jobs > 1)
    return optuna.create_study(study_name=_STUDY, storage=storage, sampler=sampler, pruner=pruner, load_if_exists=True)


def tried(study: optuna.Study) -> list[dict[str, Any]]:
    """The points of all trials but those that were cut off, and so say nothing."""
    return [trial.params for trial in study.get_trials(deepcopy=False) if trial.params and not cut_off(trial)]


def cut_off(trial: optuna.trial.FrozenTrial) -> bool:
    """Return True if a trial was interrupted or killed, rather than failed."""
    return trial.state.name == "FAIL" and int(trial.user_attrs.get("code", 1)) >= 128


def _job_of(trial: optuna.trial.FrozenTrial) -> Job:
    """A trial as a job: where it ran, and what came of it."""
    from optuna.trial import TrialState

    attrs = trial.user_attrs
    words = tuple(f"{key}={value}" for key, value in trial.params.items())
    job = Job(trial.number, str(trial.number), words, reason=str(attrs.get("reason", "")))
    if trial.state == TrialState.RUNNING:
        process = int(attrs.get("process", 0))
        return replace(
            job, state="running", host=str(attrs.get("host", "")), process=process, birth=str(attrs.get("birth", ""))
        )
    if trial.state == TrialState.COMPLETE:
        return replace(job, state="ended", code=0)
    if int(attrs.get("code", 1)) == KILLED:
        return replace(job, state="killed")
    return replace(job, state="ended", code=int(attrs.get("code", 1)))


def bury(study: optuna.Study, folder: Path) -> None:
    """End the trials of an earlier call whose processes are gone."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING], deepcopy=False):
        if not at_work(folder, _job_of(trial)):
            fail(study, trial.number, KILLED, "its process is gone: out of memory, or ended by hand")


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    """The trial of a number, to be told about."""
    from optuna.trial import Trial

    return Trial(study, next(one._trial_id for one in study.get_trials(deepcopy=False) if one.number == number))


def fail(study: optuna.Study, number: int, code: int, reason: str) -> None:
    """Record that a trial has come to nothing, by the exit code of its process and a reason."""
    from optuna.trial import TrialState

    trial = trial_of(study, number)
    trial.set_user_attr("reason", " ".join(reason.split()))
    trial.set_user_attr("code", code)
    study.tell(number, state=TrialState.FAIL)


def write_study(study: optuna.Study, plan: Search, keys: Sequence[str]) -> None:
    """Write `summary.csv`, `.md` and `.h5`: those of a sweep, with the value of each trial, pruned ones marked."""
    trials = study.get_trials(deepcopy=False)
    header, rows = table(plan.folder, [_job_of(trial) for trial in trials], keys)
    at = header.index("reason") + 1
    for row, trial in zip(rows, trials, strict=True):
        if trial.state.name == "PRUNED":
            row[header.index("status")] = "pruned"
        row.insert(at, trial.value if trial.state.name == "COMPLETE" else None)
    save(plan.folder, [*header[:at], "value", *header[at:]], rows)
