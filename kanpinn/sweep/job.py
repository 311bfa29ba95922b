"""One job of a sweep, as a launcher runs it on any machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
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
from kanpinn.sweep.ledger import EXIT_CRASHED, Job, Ledger, birth
from kanpinn.sweep.summary import write_summary

if TYPE_CHECKING:
    from omegaconf import DictConfig

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl(2)."""


@dataclass(frozen=True)
class Task:
    """The task function of a sweep; small, and the same for all jobs, so that it travels to other processes.

    Attributes:
        sweep: The sweep's folder, absolute.
        numbers: The number of the job by its run folder, relative to the sweep's.
        isolated: True if each job gets a process of its own below the launcher's worker. A job that is killed, by the
            system for want of memory most often, then takes neither the worker nor the jobs beside it with it.
    """

    sweep: str
    numbers: dict[str, int]
    isolated: bool = False

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
        # One that waited in a queue may find that a later launch has taken its job over.
        if ledger.stopped or (job.folder, job.state) != (name, "waiting"):
            return
        say(f"job {job.number}: {' '.join(job.overrides)}")
        if not (self.isolated and hasattr(os, "fork")):
            _run(ledger, job, cfg)
            return
        import kanpinn.run.run  # noqa: F401  (once here, not in every child)

        code = _in_child(lambda: _run_quietly(ledger, job, cfg))
        after = ledger.read(job.number)
        if after.state in ("ended", "waiting") or after.folder != job.folder:
            return
        if ledger.stopped and -code in (signal.SIGINT, signal.SIGTERM):  # before the run could catch it
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


def _in_child(work: Callable[[], None]) -> int:
    """Do some work in a child process; returns its exit code, -n if signal n ended it."""
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C in a terminal reaches the workers too; whoever launched the sweep decides what comes of the jobs.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])


def fork(work: Callable[[], None]) -> int:
    """Do some work in a child process; returns its number, in the parent only.

    A fork is safe where the parent has computed nothing, so that no thread of torch's holds a lock; and it is quick,
    because what the parent has imported need not be imported again. The child ends when its parent does.
    """
    _flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = EXIT_CRASHED
    try:
        _leave_with(parent)
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


def _leave_with(parent: int) -> None:
    """Prepare a child: signals as in a fresh process, in a group of its own, and SIGTERM when its parent dies."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which outlives a process that just leaves
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # a queue's warnings to the worker
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, int(signal.SIGTERM))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
