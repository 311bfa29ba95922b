"""State of the calling process that a solve uses and gives back as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

try:
    from threadpoolctl import threadpool_limits  # changes the environment as it is imported: not in a solve
except ImportError:
    threadpool_limits = None

_LOCK = threading.Lock()
_before: list[int] = []
"""The caller's number of threads, once for each solve under way."""

_limits: list[Any] = []
"""What gives NumPy's and SciPy's BLAS their threads back; of the first solve under way that asked for a number."""


@contextmanager
def caller_state(threads: int | None) -> Iterator[None]:
    """Compute gradients on the device asked for, whatever the caller's modes, on so many threads; his own for None.

    Several solves at once, in threads of one process, leave the numbers that were there before the first of them.
    """
    with _LOCK:
        _before.append(_before[0] if _before else torch.get_num_threads())
    try:
        if threads:
            torch.set_num_threads(threads)
            with _LOCK:
                _limit_linear_algebra(threads)
        elsewhere = torch.get_default_device().type != "cpu"
        with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu") if elsewhere else nullcontext():
            yield
    finally:
        with _LOCK:
            before = _before.pop()
            while _limits and not _before:
                _limits.pop().restore_original_limits()
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _limit_linear_algebra(threads: int) -> None:
    """Limit the threads of NumPy's and SciPy's BLAS, which torch does not know of, where threadpoolctl is installed.

    Else they take one for each core: on a machine with other work the estimate of the error then takes several times
    the seconds, since threads wait for those that have no core.
    """
    if threadpool_limits is not None:
        limits = threadpool_limits(threads, user_api="blas")
        if not _limits:
            _limits.append(limits)
