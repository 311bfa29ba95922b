"""`kanpinn solve -m`: from overrides with several values to jobs, a launcher, and one summary."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from kanpinn.errors import Interrupted, UserError, complain, one_line, say
from kanpinn.options import Options, build, option
from kanpinn.run.signals import stop_signals
from kanpinn.settings.compose import (
    CONFIG_MODULE,
    CONFIG_NAME,
    LAUNCHERS,
    VERSION_BASE,
    compose,
    free,
    isolate,
    parse,
    quoted,
)
from kanpinn.sweep.job import Task
from kanpinn.sweep.ledger import Job, Ledger, at_work, birth
from kanpinn.sweep.plan import enrol, planned_jobs
from kanpinn.sweep.queue import QUEUES, cancel, longest_array
from kanpinn.sweep.summary import write_summary

POLL_S = 0.2


@dataclass(frozen=True)
class SweepOptions(Options):
    """Keys under `sweep`."""

    key: ClassVar[str] = "sweep"

    jobs: int | None = option(None, "jobs at a time; null: one, or what the launcher says", at_least=1)
    resume: bool = option(False, "run only what is missing or failed in an earlier sweep")


def sweep(overrides: Sequence[str]) -> int:
    """Run every combination of the given values; returns the worst exit code of the jobs.

    Raises:
        UserError: If the input is wrong, before any job starts.
        Interrupted: If a signal stopped the sweep, after its summary is written.
    """
    parsed = parse(overrides)
    own = [o for o in parsed if not _is_hydras(o)]
    steering = [str(o.input_line) for o in parsed if _is_hydras(o)]
    several = next((o for o in parsed if _is_hydras(o) and o.is_sweep_override()), None)
    if several is not None:
        raise UserError(f"{several.input_line}: several values; only keys of the config itself can be swept.")
    options, launcher, steering = _steering(steering)
    with isolate(), initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
        hydra = GlobalHydra.instance().hydra
        master = _master(hydra, steering, [o for o in own if not o.is_sweep_override()])
        own += _sweeper_params(master, own)
        task_overrides = [str(o.input_line) for o in own]
        ledger = Ledger(_folder(master, options, steering, task_overrides))
        if ledger.exists and not options.resume:
            raise UserError(
                f"hydra.sweep.dir={ledger.folder}: the folder already holds a sweep; expected a new one, or "
                "sweep.resume=true to run what is missing or failed."
            )
        plan = planned_jobs(own, steering)
        with ledger.locked():
            ledger.stopped = False
            ledger.add_command(task_overrides, [o.key_or_group for o in own if o.is_sweep_override()])
            jobs = enrol(ledger, plan)
            with read_write(master), open_dict(master):
                master.hydra.sweep.dir = str(ledger.folder)
            try:
                caught = _launch_all(hydra, master, launcher, options, ledger, jobs)
            finally:
                numbers = {job.number for job in jobs}
                ended = [job for job in write_summary(ledger) if job.number in numbers]
                _tell(ledger, ended)
    if caught:
        raise Interrupted(caught[0])
    return max(job.exit_code for job in ended)


def _is_hydras(override: Override) -> bool:
    key = override.key_or_group
    return key == "hydra" or key.startswith(("hydra.", "hydra/", "sweep.")) or key == "sweep"


def _steering(overrides: list[str]) -> tuple[SweepOptions, str, list[str]]:
    """Return the sweep's options, its launcher's name, and Hydra's own overrides with the launcher among them."""
    cfg, _ = compose(overrides, keep_sweep=True)
    options = build(SweepOptions, cast(dict[str, Any], OmegaConf.to_container(cfg.sweep, resolve=True)), "sweep")
    values = {o.key_or_group: str(o.value()) for o in parse(overrides)}
    overrides = [text for text in overrides if not text.lstrip("+~").startswith("sweep")]
    launcher = values.get("hydra/launcher", "basic")
    if launcher == "basic" and (options.jobs or 1) > 1:
        if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None:
            raise UserError(f"sweep.jobs={options.jobs}: needs joblib's launcher: pip install 'kanpinn[parallel]'")
        launcher = "joblib"
        overrides.append("hydra/launcher=joblib")
    if launcher == "joblib" and options.jobs and "hydra.launcher.n_jobs" not in values:
        overrides.append(f"hydra.launcher.n_jobs={options.jobs}")
    if launcher in QUEUES and options.jobs and "hydra.launcher.array_parallelism" not in values:
        overrides.append(f"hydra.launcher.array_parallelism={options.jobs}")
    return options, launcher, overrides


def _master(hydra: Any, steering: list[str], fixed: list[Override]) -> DictConfig:
    """The config of the sweep itself; what is checked elsewhere can still be wrong in the values it is made of."""
    try:
        overrides = [*steering, *(str(o.input_line) for o in fixed)]
        return hydra.compose_config(
            CONFIG_NAME, free(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=True
        )
    except Exception:  # whatever Hydra raises
        compose(overrides)  # says which of them is wrong
        raise


def _sweeper_params(master: DictConfig, own: Sequence[Override]) -> list[Override]:
    """The overrides under `hydra.sweeper.params`; the command line wins."""
    params = OmegaConf.select(master, "hydra.sweeper.params") or {}
    known = {o.key_or_group for o in own}
    return [o for o in parse([f"{key}={value}" for key, value in params.items()]) if o.key_or_group not in known]


def _folder(master: DictConfig, options: SweepOptions, steering: Sequence[str], overrides: Sequence[str]) -> Path:
    """The sweep's folder: that of `hydra.sweep.dir`; to resume without one, the newest with the same overrides."""
    try:
        folder = Path(str(master.hydra.sweep.dir)).absolute()
    except OmegaConfBaseException as error:
        raise UserError(f"hydra.sweep.dir: {one_line(error)}") from error
    if not options.resume or any(text.lstrip("+").startswith("hydra.sweep.dir=") for text in steering):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"hydra.sweep.dir={folder}: this is a file; expected a folder.")
        return folder
    ledgers = [Ledger(path.parent) for path in folder.parent.glob("*/.jobs")]
    found = [ledger.folder for ledger in ledgers if ledger.called_with(overrides)]
    if not found:
        raise UserError(
            f"sweep.resume=true: no sweep of these overrides in {folder.parent}; name its folder by hydra.sweep.dir=…"
        )
    return max(found, key=lambda path: (path / ".jobs" / "sweep.json").stat().st_mtime)


def _launch_all(
    hydra: Any, master: DictConfig, name: str, options: SweepOptions, ledger: Ledger, jobs: Sequence[Job]
) -> list[int]:
    """Launch what waits, and again what still waits after a launcher has failed; returns the signals caught."""
    numbers = [job.number for job in jobs]

    def waiting() -> list[Job]:
        return [job for job in map(ledger.read, numbers) if job.state == "waiting"]

    done = sum(job.done for job in jobs)
    if done:
        say(f"{done} of {len(jobs)} jobs are done already")
    beside = at_a_time(name, master.hydra.launcher, options, len(waiting()))
    with _stopping(ledger, numbers, name, master.hydra.launcher) as caught:
        while (batch := waiting()[: batch_size(name, master, beside)]) and not caught:
            _launch(hydra, master, name, ledger, batch, beside)
            if not caught and all(ledger.read(job.number).state == "waiting" for job in batch):
                break  # nothing has begun: the launcher itself does not work
    return caught


def _launch(hydra: Any, master: DictConfig, name: str, ledger: Ledger, batch: Sequence[Job], beside: int) -> None:
    """Hand jobs to the launcher and wait until none of them runs."""
    from hydra._internal.callbacks import Callbacks

    own, isolated = os.getpid(), LAUNCHERS[name].isolated
    here = (own, birth(own)) if isolated and name not in QUEUES else None
    task = Task(str(ledger.folder), {job.folder: job.number for job in batch}, isolated, here)
    launcher: Launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks()),
        task_function=task,
        config=master,
    )
    words = [_words(job, ledger, name, master, beside) for job in batch]
    try:
        launcher.launch(words, initial_job_idx=batch[0].number)
    except (UserError, KeyboardInterrupt, _Cancelled):
        raise
    except Exception as error:
        # What a launcher raises says that a worker is gone, not whose it was; the ledger knows.
        complain("warning", UserError(f"{type(error).__name__}: {one_line(error)}"))
        if name in QUEUES:
            cancel(master.hydra.launcher, waiting=True)
        _bury(ledger, batch)
    finally:
        if name == "joblib":  # its workers would wait for more, and hold memory
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _bury(ledger: Ledger, batch: Sequence[Job]) -> None:
    """Wait for the jobs that still run after a launcher has failed; those without a process were killed."""
    while any(at_work(ledger.folder, ledger.read(j.number)) for j in batch):
        time.sleep(POLL_S)
    for job in (ledger.read(j.number) for j in batch):
        if job.state == "running":
            reason = "its process is gone: out of memory, or ended by hand"
            ledger.write(replace(job, state="killed", reason=reason))
            complain(f"job {job.number}: killed", UserError(reason))


def _words(job: Job, ledger: Ledger, name: str, master: DictConfig, beside: int) -> list[str]:
    """The overrides a launcher gets for a job: its own, its folder, its share of the processor."""
    words = [*free(job.overrides), f"hydra.sweep.subdir={quoted(job.folder)}"]
    words.append(f"hydra.sweep.dir={quoted(str(ledger.folder))}")
    if name != "basic":
        if "threads" not in job.pairs:
            words.append(f"threads={threads(name, master.hydra.launcher, beside)}")
        if "output.progress" not in job.pairs:
            words.append("output.progress=false")
    return words


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_a_time(name: str, launcher: DictConfig, options: SweepOptions, waiting: int) -> int:
    """Number of jobs, at least 1, that a launcher runs at a time on one machine."""
    if name == "joblib":
        asked = int(launcher.n_jobs)
        asked = cores() + 1 + asked if asked < 0 else asked
    else:
        asked = 1 if name == "basic" else options.jobs or cores()
    return max(1, min(asked, waiting))


def batch_size(name: str, master: DictConfig, beside: int) -> int:
    """Number of jobs given to a launcher at once: on this machine submitit starts all of them at the same time."""
    limit = int(OmegaConf.select(master, "hydra.sweeper.max_batch_size") or 2**31)
    if name in QUEUES:
        return min(limit, longest_array())
    return min(limit, beside) if name == "submitit_local" else limit


def threads(name: str, launcher: DictConfig, beside: int) -> int:
    """Threads for each of several jobs: what the queue grants it, else its share of this machine's cores."""
    granted = OmegaConf.select(launcher, "cpus_per_task") or OmegaConf.select(launcher, "ray.remote.num_cpus")
    if granted:
        return max(1, int(granted))
    return 1 if name in QUEUES else max(1, cores() // beside)


class _Cancelled(Exception):
    """Raised at a signal while a queue holds the jobs: submitit would wait for those that never begin."""


@contextmanager
def _stopping(ledger: Ledger, numbers: list[int], name: str, launcher: DictConfig) -> Iterator[list[int]]:
    """Let a signal end the jobs that run in other processes, each with its state written; none begins."""
    if name == "basic":  # its job runs in this process and takes the signal itself
        yield []
        return

    def stop() -> None:
        ledger.stopped = True
        if name in QUEUES:
            cancel(launcher)
            raise _Cancelled
        for job in map(ledger.read, numbers):
            if job.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(job.process, signal.SIGTERM)

    with stop_signals(stop) as caught:
        try:
            yield caught
        except _Cancelled:
            _bury(ledger, [ledger.read(number) for number in numbers])


def _tell(ledger: Ledger, jobs: Sequence[Job]) -> None:
    """Say how many jobs there are, which of them are not done, and where the summary is."""
    left = [str(job.number) for job in jobs if not job.done]
    which = f", {len(left)} of them not done ({', '.join(left)}; sweep.resume=true runs them again)" if left else ""
    say(f"{len(jobs)} jobs{which}: {ledger.folder / 'summary.md'}")
