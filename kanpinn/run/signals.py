"""Signals that ask a run to stop: collected, so that the step under way ends and the state is written."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from kanpinn.errors import say

Handler = Callable[[int, FrameType | None], object] | int

URGENT = (signal.SIGINT, signal.SIGTERM)
WARNINGS = tuple(
    signal.Signals[name]
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM")
    if name in signal.Signals.__members__
)
"""Signals of terminals, queues and limits that end a process unless it has a use for them."""

TOGETHER_S = 1.0
"""Seconds within which several signals are one wish: a queue sends SIGTERM after SIGINT, a group gets it twice."""


@contextmanager
def stop_signals(begin: Callable[[], None] = lambda: None, *, quiet: bool = False) -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM, and those warnings that would end the process, instead of dying at once.

    SIGINT and SIGTERM have their usual effect if they come later than the first one. A warning never has; one that is
    ignored (nohup), or that the calling program has a use for, is left alone. So is all in threads but the main one.

    Args:
        begin: Done at the first one.
        quiet: True to say nothing of them.

    Yields:
        The signals caught so far.
    """
    caught: list[int] = []
    since = 0.0
    before = usual_handlers()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if caught and number in URGENT and time.monotonic() - since > TOGETHER_S:
            usual = before[number]
            if callable(usual):
                usual(number, frame)
            else:
                signal.signal(number, usual)
                signal.raise_signal(number)
            return
        caught.append(number)
        if len(caught) == 1:
            since = time.monotonic()
            with contextlib.suppress(RuntimeError):  # in the middle of a line that is just being written
                if not quiet:
                    say("\nstopping after this step and writing the state …", error=True)
            begin()

    with handled(before, handle):
        yield caught


@contextmanager
def handled(usual: Mapping[int, Handler], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let one function take the signals that others take otherwise, by number; these do again afterwards."""
    for number in usual:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in usual.items():
            signal.signal(number, before)


def usual_handlers() -> dict[int, Handler]:
    """Return the handlers of the signals that may be collected here; none in threads but the main one."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in (*URGENT, *WARNINGS)}
    return {
        number: handler  # None: not set by Python, which could not set it again
        for number, handler in found.items()
        if handler is not None and (number in URGENT or handler == signal.SIG_DFL)
    }
