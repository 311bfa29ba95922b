"""Work done in a child process by fork: with limits of its own, and nothing to import again."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PAGE = resource.getpagesize()


@dataclass
class Outcome:
    """How a child ended.

    Attributes:
        code: Its exit code; -n where signal n ended it.
        out: What it wrote on stdout.
        err: What it wrote on stderr.
        peak: Bytes of resident memory it had at most, those of its parent at the time of the fork included.
        seconds: How long it took.
    """

    code: int
    out: str
    err: str
    peak: int
    seconds: float


@dataclass
class Child:
    """A child under way; `wait` gives its outcome."""

    pid: int
    readers: list[_Reader]
    began: float

    def wait(self) -> Outcome:
        _, status, used = os.wait4(self.pid, 0)
        for reader in self.readers:
            reader.join()
        texts = [reader.content.decode(errors="replace") for reader in self.readers]
        code = os.waitstatus_to_exitcode(status)
        return Outcome(code, *texts, used.ru_maxrss * 1024, time.monotonic() - self.began)


class _Reader(threading.Thread):
    """Takes what comes out of a pipe, so that no writer waits."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self.descriptor, self.content = descriptor, b""
        self.start()

    def run(self) -> None:
        with os.fdopen(self.descriptor, "rb") as stream:
            self.content = stream.read()


def start(work: Callable[[], int | None], *, memory: int | None = None, file_size: int | None = None) -> Child:
    """Start a child.

    Args:
        work: What it does; what it returns is its exit code.
        memory: Bytes of address space it may add to what it is born with.
        file_size: Bytes of the largest file it may write.
    """
    sys.stdout.flush(), sys.stderr.flush()
    began = time.monotonic()
    pipes = [os.pipe(), os.pipe()]
    pid = os.fork()
    if pid:
        for _, writing in pipes:
            os.close(writing)
        return Child(pid, [_Reader(reading) for reading, _ in pipes], began)
    code = 70
    try:
        for number, (_, writing) in enumerate(pipes, 1):
            os.dup2(writing, number)
        sys.stdout, sys.stderr = (os.fdopen(k, "w", buffering=1, closefd=False) for k in (1, 2))
        if memory is not None:
            born_with = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
            resource.setrlimit(resource.RLIMIT_AS, (born_with + memory,) * 2)
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size,) * 2)
        code = work() or 0
        sys.stdout.flush(), sys.stderr.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def run(work: Callable[[], int | None], **limits: int | None) -> Outcome:
    """Start a child and wait for it."""
    return start(work, **limits).wait()
