"""Time limit for SymPy, whose simplifications may take hours: a call is ended, and something simpler stands instead."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 10.0
"""Processor time that a simplification may take, in seconds."""

Value = TypeVar("Value")


class _Late(BaseException):
    """Raised in the thread of a call that takes too long; no `except Exception` of SymPy's takes it for its own."""


def within(call: Callable[[], Value], otherwise: Value, seconds: float = PATIENCE) -> Value:
    """Return what a call of pure Python returns, or something else where it takes too long.

    A second thread watches the process's time and raises in this one by `PyThreadState_SetAsyncExc` of CPython's C
    interface, so that it works in any thread and the call is told where it stands, not where it asks.

    Args:
        call: Anything without lasting effects.
        otherwise: Returned in its place.
        seconds: Processor time of the process that the call may take.
    """
    over, mine, end = threading.Event(), ctypes.c_ulong(threading.get_ident()), time.process_time() + seconds

    def watch() -> None:
        while not over.wait(max(end - time.process_time(), 0.2)):
            if time.process_time() > end:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(mine, ctypes.py_object(_Late))

    watcher = threading.Thread(target=watch, daemon=True)
    try:
        watcher.start()
        try:
            return call()
        finally:
            over.set()
    except _Late:
        return otherwise
    finally:
        watcher.join()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(mine, None)  # one that came after the end
