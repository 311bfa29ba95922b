"""Several processes in one: threads that meet where their sums over all are taken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from kanpinn.least_squares import linearization


def in_ranks(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Return what a function gives for each rank, all at work together."""
    here, meet, sent = threading.local(), threading.Barrier(count, timeout=20), [torch.empty(0)] * count

    def told(own: Tensor) -> list[Tensor]:
        meet.wait()
        sent[here.rank] = own.clone()
        meet.wait()
        return list(sent)

    def gathered(parts: list[Tensor], own: Tensor) -> None:
        for part, one in zip(parts, told(own), strict=True):
            assert part.shape == one.shape and part.dtype == one.dtype
            part.copy_(one)

    def run(rank: int) -> Any:
        here.rank = rank
        try:
            return work(rank)
        except BaseException:
            meet.abort()
            raise

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(count) as pool:
        for part in [
            part for one in vars(linearization).values() if isinstance(one, type) for part in vars(one).values()
        ]:
            if isinstance(part, cached_property):
                patch.setattr(part, "lock", nullcontext(), raising=False)  # that all threads share
        patch.setattr(dist, "get_rank", lambda: here.rank)
        patch.setattr(dist, "get_world_size", lambda: count)
        patch.setattr(dist, "all_reduce", lambda own: own.copy_(torch.stack(told(own)).sum(0)))
        patch.setattr(dist, "all_gather", gathered)
        return list(pool.map(run, range(count)))
