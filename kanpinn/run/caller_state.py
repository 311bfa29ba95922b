"""State of the calling process that a solve uses and gives back as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
_before: list[int] = []
"""The caller's number of threads, once for each solve under way."""


@contextmanager
def caller_state(threads: int | None) -> Iterator[None]:
    """Compute gradients whatever mode the caller is in, on a number of threads, the caller's own for None.

    Several solves at once, in threads of one process, leave the number that was there before the first of them.
    """
    with _LOCK:
        _before.append(_before[0] if _before else torch.get_num_threads())
    try:
        if threads:
            torch.set_num_threads(threads)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        with _LOCK:
            before = _before.pop()
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
