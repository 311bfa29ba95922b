"""Torch's defaults of a caller who computes elsewhere and in another type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def foreign_defaults(device: str = "meta") -> Iterator[None]:
    """Make tensors that do not say where they lie and of which type they are useless: without values, of 16 bits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
