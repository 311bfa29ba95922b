"""Signals that ask a run to stop: collected, so that the step under way ends and the state is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kanpinn.errors import say


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying at once; a second one has its usual effect."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        caught.append(number)
        for s, handler in before.items():
            signal.signal(s, handler)
        say("\nstopping after this step and writing the state …", error=True)

    for s in before:
        signal.signal(s, handle)
    try:
        yield caught
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
