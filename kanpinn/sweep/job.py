"""One job of a sweep, as a launcher runs it on any machine."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

# Whoever unpickles a task in a new process needs the resolvers and the search path that this registers.
import kanpinn.settings.compose  # noqa: F401
from kanpinn.errors import (
    EXIT_DONE,
    EXIT_SOLVE_FAILED,
    EXIT_USER_ERROR,
    DivergedError,
    Interrupted,
    UserError,
    complain,
    one_line,
    say,
)
from kanpinn.run.signals import URGENT, WARNINGS, handled
from kanpinn.sweep.ledger import EXIT_CRASHED, Job, Ledger, birth, given_back, there
from kanpinn.sweep.summary import write_summary

if TYPE_CHECKING:
    from omegaconf import DictConfig

_LOOK_S = 1.0
"""Seconds from one look for those a job works for to the next."""


@dataclass(frozen=True)
class Task:
    """The task function of a sweep; small, and the same for all jobs, so that it travels to other processes.

    Attributes:
        sweep: The sweep's folder, absolute.
        numbers: The number of the job by its run folder, relative to the sweep's.
        isolated: True if each job gets a process of its own below the launcher's worker. A job that is killed, by the
            system for want of memory most often, then takes neither the worker nor the jobs beside it with it.
        launcher: The process on this machine without which no job goes on, and its birth; None for a queue's jobs.
    """

    sweep: str
    numbers: dict[str, int]
    isolated: bool = False
    launcher: tuple[int, str] | None = None

    def __call__(self, cfg: DictConfig) -> None:
        """Run one job; whatever comes of it is in the ledger and the summary afterwards.

        Raises:
            KeyboardInterrupt: If a signal stopped a job that is not isolated.
        """
        from hydra.core.hydra_config import HydraConfig

        ledger = Ledger(Path(self.sweep))
        folder = Path(HydraConfig.get().runtime.output_dir)
        name = os.path.relpath(folder, self.sweep)
        job = ledger.read(self.numbers[name])
        if int(os.environ.get("SLURM_RESTART_COUNT") or 0):
            job = given_back(ledger, job)
        # One that waited in a queue may find that a later launch has taken its job over.
        if ledger.stopped or (job.folder, job.state) != (name, "waiting"):
            return
        say(f"job {job.number}: {' '.join(job.overrides)}")
        if not (self.isolated and hasattr(os, "fork")):
            _run(ledger, job, cfg)
            return
        import kanpinn.run.run  # noqa: F401  (once here, not in every child)

        code = _in_child(lambda: _run_quietly(ledger, job, cfg), self.launcher)
        after = ledger.read(job.number)
        if after.state in ("ended", "waiting") or after.folder != job.folder:
            return
        if -code in (*URGENT, *WARNINGS):  # before the run could catch it
            ledger.write(replace(after, state="ended", code=128 - code, reason=f"interrupted by signal {-code}"))
            write_summary(ledger)
            return
        how = f"killed by signal {-code}" if code < 0 else f"its process left with exit code {code}"
        ledger.write(replace(after, state="killed", reason=f"{how}: out of memory, or ended by hand"))
        write_summary(ledger)
        complain(f"job {job.number}: killed", UserError(how))


def _run(ledger: Ledger, job: Job, cfg: DictConfig) -> None:
    """Run one job in this process."""
    process = os.getpid()
    waiting = job
    job = replace(job, state="running", host=socket.gethostname(), process=process, birth=birth(process))
    ledger.write(job)
    if ledger.stopped:  # whoever asked for the end may have looked before it read "running"
        ledger.write(waiting)
        return
    name, code, reason = f"job {job.number}", EXIT_DONE, ""
    try:
        folder = ledger.folder / job.folder
        if job.resumed:
            from kanpinn.run.run import resume

            resume(folder, [] if cfg.output.progress else ["output.progress=false"])
        else:
            _solve(cfg, folder)
    except UserError as error:
        code, reason = EXIT_USER_ERROR, str(error)
        complain(f"{name}: error", error)
    except DivergedError as error:
        code, reason = EXIT_SOLVE_FAILED, str(error)
        complain(f"{name}: diverged", error)
    except KeyboardInterrupt as error:
        number = error.signal if isinstance(error, Interrupted) else signal.SIGINT
        code, reason = 128 + number, f"interrupted by signal {int(number)}"
        raise
    except OSError as error:
        code, reason = EXIT_USER_ERROR, f"{error.filename}: {error.strerror}" if error.filename else str(error)
        complain(f"{name}: error", UserError(reason))
    except Exception as error:
        code, reason = EXIT_CRASHED, f"{type(error).__name__}: {one_line(error)}"
        say(traceback.format_exc(), error=True)
    finally:
        # Written after every job, so that a stopped sweep has its summary too.
        ledger.finish(replace(job, state="ended", code=code, reason=" ".join(reason.split())))
        write_summary(ledger)


def _solve(cfg: DictConfig, folder: Path) -> None:
    """Solve, and leave no empty folder behind if that is refused: Hydra has made it."""
    from omegaconf import open_dict

    from kanpinn.run.run import run

    with open_dict(cfg):
        cfg.pop("sweep", None)
    try:
        run(cfg, folder)
    except (UserError, OSError):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _run_quietly(ledger: Ledger, job: Job, cfg: DictConfig) -> None:
    """Run one job beside others, whose tables would mix on the screen with its own; log.txt has it all."""
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        _run(ledger, job, cfg)


def _in_child(work: Callable[[], None], launcher: tuple[int, str] | None) -> int:
    """Do some work in a child process; returns its exit code, -n if signal n ended it."""
    if threading.current_thread() is threading.main_thread():
        # A terminal's and a queue's signals reach the workers too; it is the job that ends, and then the worker.
        for number in (signal.SIGINT, *WARNINGS):
            if number == signal.SIGINT or signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _nothing)
    _BUSY.set()
    if launcher is not None and launcher[0] != os.getpid():
        _tie(launcher)
    try:
        child = fork(work, launcher)
        with _handed_on(child):
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        _BUSY.clear()


def _nothing(*_: object) -> None:
    """Take a signal that is for the child."""


@contextlib.contextmanager
def _handed_on(child: int) -> Iterator[None]:
    """Let a queue's signals end the child, with its state written, before this process does what it does at them.

    submitit's worker takes no notice of SIGTERM, which a queue may send to no other process; at SIGUSR2, sent when the
    time is nearly over or the place is wanted, it puts the job back into the queue and leaves.
    """

    def hand_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        if number != signal.SIGTERM:
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        usual[number](number, frame)

    usual: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, *WARNINGS):
            handler = signal.getsignal(number)
            if callable(handler) and handler is not _nothing:
                usual[number] = handler
    with handled(usual, hand_on):
        yield


_BUSY = threading.Event()
"""Set while this process, a launcher's worker, has a child."""


@functools.cache
def _tie(launcher: tuple[int, str]) -> None:
    """End this process, a worker that may wait for more jobs, once its launcher is gone and it has no child."""

    def watch() -> None:
        while there(*launcher) or _BUSY.is_set():
            time.sleep(_LOOK_S)
        os._exit(EXIT_CRASHED)

    threading.Thread(target=watch, daemon=True).start()


def fork(work: Callable[[], None], launcher: tuple[int, str] | None = None) -> int:
    """Do some work in a child process; returns its number, in the parent only.

    A fork is safe where the parent has computed nothing, so that no thread of torch's holds a lock; and it is quick,
    because what the parent has imported need not be imported again. The child ends, with its state written, when its
    parent does, or the launcher: a process and its birth.
    """
    _flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = EXIT_CRASHED
    try:
        _prepare()
        threading.Thread(target=_leave_with, args=(parent, launcher), daemon=True).start()
        work()
        code = EXIT_DONE
    except BaseException as error:  # nothing of the parent's own may run in the child
        code = EXIT_DONE if isinstance(error, KeyboardInterrupt) else EXIT_CRASHED
        if code:
            say(traceback.format_exc(), error=True)
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    """Write what is still to be written on the screen, which a child would write once more."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _prepare() -> None:
    """Prepare a child: signals as in a fresh process, in a group of its own."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which outlives a process that just leaves
    os.setpgid(0, 0)
    for number in (*URGENT, *WARNINGS):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _leave_with(parent: int, launcher: tuple[int, str] | None) -> None:
    """Send this process SIGTERM once its parent, or the launcher, is gone."""
    while os.getppid() == parent and (launcher is None or there(*launcher)):
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
