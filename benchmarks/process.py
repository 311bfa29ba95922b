"""A command in a process of its own, with what it cost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Cost of a process.

    Attributes:
        exit_code: Of the process; negative for a signal.
        wall_s: From its start to its exit.
        cpu_s: User and system time.
        peak_mib: Peak resident memory.
        timeout: Whether it was killed because its time was up.
        complaint: What it wrote to stderr.
    """

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    timeout: bool
    complaint: str


def measured(command: Sequence[str], cwd: Path, limit: float, env: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end; no process is left behind when this one is interrupted.

    Args:
        command: The words.
        cwd: Where it runs.
        limit: Seconds after which it is killed.
        env: Its environment; None for this process's own.

    Returns:
        What it cost.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    timer = threading.Timer(limit, process.kill)
    timer.daemon = True  # an interrupted benchmark shall not wait for it
    timer.start()
    # The process is reaped here and not by subprocess, which throws its resource usage away.
    assert process.stderr is not None
    try:
        complaint = process.stderr.read().decode(errors="replace").strip()
        _, state, usage = os.wait4(process.pid, 0)
    except BaseException:  # interrupted: leave nothing running behind
        process.kill()
        raise
    seconds = time.perf_counter() - start
    timer.cancel()
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(state)
    return Usage(
        exit_code=process.returncode,
        wall_s=round(seconds, 2),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 2),
        # Kibibytes, but bytes on macOS.
        peak_mib=round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1),
        timeout=process.returncode < 0 and seconds >= limit,
        complaint=complaint,
    )
