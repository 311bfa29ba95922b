"""Jobs of a sweep: every combination of values, composed and checked, and its place in the ledger."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kanpinn.errors import EXIT_DONE, EXIT_USER_ERROR, UserError, complain, invalid
from kanpinn.io.lock import held
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.sweep.ledger import Job, Ledger, free_folder
from kanpinn.sweep.summary import NAMES, metrics


@dataclass(frozen=True)
class Planned:
    """One combination of values.

    Attributes:
        overrides: One value each.
        config: Fingerprint of the resolved config; "" if it cannot be composed.
        wrong: Why it cannot.
        subdir: The folder its config asks for inside the sweep's; "" for the job's number.
        chosen: Choices and seed of its config, as far as it can be composed.
    """

    overrides: list[str]
    config: str = ""
    wrong: str = ""
    subdir: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)


def combinations(overrides: Sequence[Override]) -> list[tuple[list[str], bool]]:
    """Every combination of swept values, the last key fastest, and if at most one differs from the first.

    Raises UserError if a sweep is not a list of values.
    """
    columns = []
    for override in overrides:
        if not override.is_sweep_override():
            columns.append([str(override.input_line)])
        elif override.is_discrete_sweep():
            columns.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
        else:
            raise UserError(f"{override.input_line}: this kind of sweep is for kanpinn tune; list the values.")
    first = [column[0] for column in columns]
    made = [list(combination) for combination in itertools.product(*columns)]
    return [(words, sum(a != b for a, b in zip(words, first, strict=True)) <= 1) for words in made]


def planned_jobs(own: Sequence[Override], steering: Sequence[str]) -> list[Planned]:
    """Compose and check every combination.

    A value that is wrong by itself is a mistake in the call; values that only do not go together cost their job alone.
    """
    default = not any(text.lstrip("+").startswith("hydra.sweep.subdir=") for text in steering)
    plan = []
    for words, simple in combinations(own):
        chosen: dict[str, Any] = {}
        try:
            cfg, _ = compose(words)
            chosen = _chosen(cfg)
            resolved = validate(cfg).resolved
            subdir = "" if default else _subdir([*words, *steering])
        except UserError as error:
            if simple:
                raise
            plan.append(Planned(words, wrong=str(error), chosen=chosen))
        else:
            plan.append(Planned(words, fingerprint(resolved), subdir=subdir, chosen=chosen))
    taken: dict[str, Planned] = {}
    for planned in plan:
        other = taken.setdefault(planned.subdir, planned)
        if planned.subdir and other is not planned:
            raise UserError(
                f"hydra.sweep.subdir={planned.subdir}: the folder of both {' '.join(other.overrides)} and "
                f"{' '.join(planned.overrides)}; expected one folder per job, such as ${{hydra.job.override_dirname}}."
            )
    return plan


def _chosen(cfg: DictConfig) -> dict[str, Any]:
    """The choices of groups and the seed in a config that may be wrong."""
    found = {}
    for key in NAMES:
        with suppress(OmegaConfBaseException):
            found[key] = OmegaConf.select(cfg, key if key == "seed" else f"{key}.name")
    return {key: value for key, value in found.items() if isinstance(value, str | int)}


def _subdir(overrides: list[str]) -> str:
    """The folder a job's config asks for; "" where that is its number."""
    cfg, _ = compose(overrides, keep_sweep=True, keep_hydra=True)
    try:
        name = os.path.normpath(str(cfg.hydra.sweep.subdir))
    except OmegaConfBaseException:
        return ""  # made of the job's number, which tells jobs apart
    if name.startswith(("/", "..")) or name == ".":
        raise invalid("hydra.sweep.subdir", name, "a folder inside hydra.sweep.dir")
    return name


def fingerprint(resolved: dict[str, Any]) -> str:
    """Return a short text of all that may change a config's results."""
    kept = {key: value for key, value in resolved.items() if key not in ("threads", "logger", "checkpoint")}
    schedule = resolved.get("schedule") or {}
    if not (schedule.get("optimizers") or schedule.get("stages")):
        # Recommendations count where they were taken, elsewhere in the config; only a level's own optimiser asks later.
        kept["problem"] = {key: value for key, value in resolved["problem"].items() if key != "tuned"}
    kept["output"] = {key: value for key, value in (resolved.get("output") or {}).items() if key != "progress"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def enrol(ledger: Ledger, plan: Sequence[Planned]) -> list[Job]:
    """Enter every combination into the ledger and return its jobs, done ones included.

    A job that is there with the same config is that job; one with the same overrides that is not done is taken over.
    One that was interrupted or killed goes on in its folder, and is done where that was seen to by hand. Any other that
    is to be run has a folder that is new or empty.

    Raises:
        UserError: If a file of the ledger is damaged.
    """
    known = ledger.jobs()
    number = max((job.number for job in known), default=-1)
    jobs: list[Job] = []
    for planned in plan:
        same = [job for job in known if planned.config and job.config == planned.config]
        same += [job for job in known if not job.done and sorted(job.overrides) == sorted(planned.overrides)]
        job = next((job for job in same if job not in jobs), None)
        if job is not None and (job.done or ledger.at_work(job) or held(ledger.folder / job.folder)):
            if not job.done:
                at = f" on {job.host}" if job.state == "running" else ""
                complain(
                    "warning", f"job {job.number}: still under way{at} in {ledger.folder / job.folder}; left alone"
                )
            jobs.append(job)
            continue
        if job is not None and job.config == planned.config and _stopped_midway(ledger.folder, job):
            status = metrics(ledger.folder, job).get("status")
            if status in _FINISHED:  # resumed by hand since
                job = replace(job, state="ended", code=EXIT_DONE, reason="")
            else:
                job = Job(job.number, job.folder, job.overrides, job.config, chosen=planned.chosen, resumed=True)
            ledger.write(job)
            jobs.append(job)
            continue
        if job is None:
            number += 1
            wanted = planned.subdir or str(number)
            # A folder that something else lies in is refused when the job starts.
            job = Job(number, wanted if not known else free_folder(ledger.folder, wanted))
        else:
            job = Job(job.number, free_folder(ledger.folder, planned.subdir or str(job.number)))
        job = replace(job, overrides=tuple(planned.overrides), config=planned.config, chosen=planned.chosen)
        if planned.wrong:
            job = replace(job, state="ended", code=EXIT_USER_ERROR, reason=planned.wrong)
            complain(f"job {job.number}: error", UserError(planned.wrong))
        ledger.write(job)
        jobs.append(job)
    return jobs


_FINISHED = ("converged", "step_limit", "time_limit")
"""Statuses in metrics.json of a run that ended by itself, and well."""


def _stopped_midway(sweep: Path, job: Job) -> bool:
    """Return True if a job was stopped from outside after its run had begun; it can go on where it stands."""
    stopped = job.state in ("running", "killed") or (job.state == "ended" and (job.code or 0) >= 128)
    folder = sweep / job.folder
    return stopped and ((folder / "config.yaml").is_file() or (folder / "checkpoints").is_dir())
