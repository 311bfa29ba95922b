"""State of the calling process that a solve uses and gives back as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

_LOCK = threading.Lock()
_before: list[int] = []
"""The caller's number of threads, once for each solve under way."""


@contextmanager
def caller_state(threads: int | None) -> Iterator[None]:
    """Compute gradients on the device asked for, whatever the caller's modes, on so many threads; his own for None.

    Several solves at once, in threads of one process, leave the number that was there before the first of them.
    """
    with _LOCK:
        _before.append(_before[0] if _before else torch.get_num_threads())
    try:
        if threads:
            torch.set_num_threads(threads)
        elsewhere = torch.get_default_device().type != "cpu"
        with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu") if elsewhere else nullcontext():
            yield
    finally:
        with _LOCK:
            before = _before.pop()
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
