"""Jobs of a sweep: every combination of values, composed and checked, and its place in the ledger."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from kanpinn.errors import EXIT_DONE, EXIT_USER_ERROR, UserError, complain, invalid, one_line, say
from kanpinn.io.lock import held
from kanpinn.io.metrics import undetermined
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.sweep.ledger import Job, Ledger, at_work, free_folder, stopped_midway
from kanpinn.sweep.space import MOST_JOBS, amount, count
from kanpinn.sweep.summary import NAMES, metrics

_NUMBER = re.compile(r"\$\{\s*hydra[.:]job\.(num|id)\s*\}")
_HERE = "\ue000"
"""Stands for the job's number in the name of a folder, as long as it has none."""
_MANY = 200
_LONGEST = 200
"""Bytes of a folder's name; file systems take 255, and a hash, a number or an attempt may follow."""


@dataclass(frozen=True)
class Planned:
    """One combination of values.

    Attributes:
        overrides: One value each.
        config: Fingerprint of the resolved config; "" if it cannot be composed.
        wrong: Why it cannot.
        subdir: The folder inside the sweep's that its config asks for, `_HERE` for its number; "" for just that number.
        chosen: Choices and seed of its config, as far as it can be composed.
    """

    overrides: list[str]
    config: str = ""
    wrong: str = ""
    subdir: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)

    def folder(self, number: int) -> str:
        """The folder of a job of this number."""
        return self.subdir.replace(_HERE, str(number)) or str(number)


def combinations(overrides: Sequence[Override]) -> list[tuple[list[str], bool]]:
    """Every combination of swept values, the last key fastest, and if at most one differs from the first.

    Raises UserError if a sweep is not a list of values, or there are too many combinations.
    """
    counts = [(count(override), override.key_or_group) for override in overrides]
    if (jobs := math.prod(found for found, _ in counts)) > MOST_JOBS:
        told = " × ".join(f"{found} of {key}" for found, key in counts if found > 1)
        raise UserError(f"kanpinn solve -m: {amount(jobs)} jobs ({told}); expected at most {MOST_JOBS:,}.")
    columns = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in overrides
    ]
    first = [column[0] for column in columns]
    made = [list(combination) for combination in itertools.product(*columns)]
    return [(words, sum(a != b for a, b in zip(words, first, strict=True)) <= 1) for words in made]


def planned_jobs(own: Sequence[Override], steering: Sequence[str]) -> list[Planned]:
    """Compose and check every combination.

    A value that is wrong by itself is a mistake in the call; values that only do not go together cost their job alone.
    """
    default = not any(text.lstrip("+").startswith("hydra.sweep.subdir=") for text in steering)
    plan, made = [], combinations(own)
    if len(made) > _MANY:
        say(f"{len(made):,} jobs: checking every one before the first begins")
    for words, simple in made:
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
        if planned.subdir and _HERE not in planned.subdir and other is not planned:
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
    """The folder a job's config asks for, with `_HERE` where its number belongs; parts too long for a file shortened.

    Raises:
        UserError: If it cannot be made out, or is not inside the sweep's.
    """
    cfg, _ = compose(overrides, keep_sweep=True, keep_hydra=True)
    sweep: Any = OmegaConf.to_container(cfg.hydra.sweep, resolve=False)
    try:
        with read_write(cfg), open_dict(cfg):
            cfg.hydra.sweep.subdir = _NUMBER.sub(_HERE, str(sweep["subdir"]))
        name = os.path.normpath(str(cfg.hydra.sweep.subdir))
    except OmegaConfBaseException as error:
        raise UserError(f"hydra.sweep.subdir={sweep['subdir']}: {one_line(error)}") from error
    if name.startswith(("/", "..")) or name == "." or not name.replace(_HERE, "").isprintable():
        raise invalid("hydra.sweep.subdir", name.replace(_HERE, "N"), "a folder inside hydra.sweep.dir")
    return "/".join(map(_shortened, name.split("/")))


def _shortened(part: str) -> str:
    """A part of a path, cut and told apart by a hash where it has more bytes than a file's name may have."""
    text = part.encode()
    if len(text) <= _LONGEST:
        return part
    kept = text[:_LONGEST].decode(errors="ignore")
    number = _HERE if _HERE in part and _HERE not in kept else ""
    return f"{kept}-{hashlib.sha256(text).hexdigest()[:10]}{number}"


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
        if job is not None and (job.done or at_work(ledger.folder, job) or held(ledger.folder / job.folder)):
            if not job.done:
                at = f" on {job.host}" if job.state == "running" else ""
                complain(
                    "warning", f"job {job.number}: still under way{at} in {ledger.folder / job.folder}; left alone"
                )
            jobs.append(job)
            continue
        if job is not None and job.config == planned.config and stopped_midway(ledger.folder, job):
            found = metrics(ledger.folder, job)
            if found.get("status") in _FINISHED:  # resumed by hand since
                reason = undetermined(found) or ""
                job = replace(job, state="ended", code=EXIT_USER_ERROR if reason else EXIT_DONE, reason=reason)
            else:
                job = replace(job.anew(resumed=True), chosen=planned.chosen)
            ledger.write(job)
            jobs.append(job)
            continue
        if job is None:
            number += 1
            wanted = planned.folder(number)
            if any(wanted == other.folder for other in jobs):  # "1" and "10" beside "11" and "0"
                wanted += f"-{number}"
            # A folder that something else lies in is refused when the job starts.
            job = Job(number, wanted if not known else free_folder(ledger.folder, wanted))
        else:
            job = Job(job.number, free_folder(ledger.folder, planned.folder(job.number)))
        job = replace(job, overrides=tuple(planned.overrides), config=planned.config, chosen=planned.chosen)
        if planned.wrong:
            job = replace(job, state="ended", code=EXIT_USER_ERROR, reason=planned.wrong)
            complain(f"job {job.number}: error", UserError(planned.wrong))
        ledger.write(job)
        jobs.append(job)
    return jobs


_FINISHED = ("converged", "step_limit", "time_limit")
"""Statuses in metrics.json of a run that ended by itself, and well."""
