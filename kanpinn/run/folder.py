"""Run folder: held by one process, opened with its config and log, asked whether its run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from kanpinn.errors import UserError
from kanpinn.io.atomic import remove_leftovers, write_text
from kanpinn.io.config_text import config_text, read_config
from kanpinn.io.hdf5 import versions
from kanpinn.io.lock import NAME as LOCK
from kanpinn.io.lock import run_lock
from kanpinn.io.metrics import metrics_of
from kanpinn.io.solution import solution_status
from kanpinn.run import checkpoints
from kanpinn.run.log import RunLog
from kanpinn.settings.configuration import COMPONENTS, Configuration
from kanpinn.settings.problem_text import text_of

FINISHED = ("converged", "step_limit", "diverged")
"""Statuses after which nothing is left to resume."""

WRITTEN = ("config.yaml", "log.txt", "metrics.json", "solution.h5", "checkpoint_*.h5")
"""Files that only a run writes; a plot or a report of it may be writing others at the same time."""

LEFT_ALONE_S = 3600.0
"""Seconds after which a temporary file of anything else is one that nobody finishes."""


@contextmanager
def held(folder: Path) -> Iterator[Callable[[], None]]:
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


def clear(folder: Path) -> None:
    """Remove what a process killed while it wrote has left in a run folder held by this one."""
    remove_leftovers(folder, WRITTEN, LEFT_ALONE_S)


def tidy(folder: Path) -> None:
    """Remove what a process killed after its results were written has left behind, unless another one is at work."""
    if (folder / LOCK).exists() or any(folder.rglob(".*.tmp")):
        with suppress(UserError, OSError), held(folder):
            clear(folder)


def finished_status(folder: Path) -> str | None:
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


def written_config(folder: Path) -> dict[str, Any]:
    """The resolved config in a run folder; raises UserError if there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder}: nothing to resume: neither {checkpoints.FOLDER}/ nor config.yaml is in it")
    try:
        return read_config(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a config ({error})") from error


def open_folder(configuration: Configuration, folder: Path) -> RunLog:
    """Write the config and the first lines of the log into the run folder."""
    resolved, settings = configuration.resolved, configuration.settings
    write_config(configuration, folder)
    log = RunLog(folder / "log.txt")
    chosen = [f"{group}={resolved[group]['name']}" for group in ("problem", *COMPONENTS)]
    chosen += [f"{key}={getattr(settings, key)}" for key in ("seed", "dtype", "device")]
    log.add(
        f"kanpinn {versions()['kanpinn']} solve, {now()}",
        ", ".join([*chosen, f"threads={torch.get_num_threads()}"]),
    )
    cls = type(configuration.setup.problem)
    if text_of(cls) is None and "equations" not in resolved["problem"]:
        log.add(f"the class {cls.__name__} has no text that could be stored; to load or resume, give the object")
    return log


def write_config(configuration: Configuration, folder: Path) -> None:
    """Write config.yaml, resolved."""
    write_text(folder / "config.yaml", config_text(configuration.resolved))


def now() -> str:
    """Return the time of day as it stands in logs."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z")
