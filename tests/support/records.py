"""Numbers that a computation gave when they were last looked at, for what has no other oracle: the way of a search.

`KANPINN_RECORDS=write pytest tests/test_recorded.py` writes them anew, into the file beside the tests.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FILE = Path(__file__).resolve().parent.parent / "records.json"


def plain(value: Any) -> Any:
    """Return what JSON can hold of a value: of an array its shape, its norm and its sum along cosines."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else str(value)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        flat = value.astype(np.float64).ravel()
        along = float(flat @ np.cos(1 + np.arange(len(flat))))
        return [f"{value.dtype} {list(value.shape)}", plain(float(np.linalg.norm(flat))), plain(along)]
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Iterable):
        return [plain(one) for one in value]
    return plain(value.item())


def differences(found: Any, known: Any, where: str = "") -> list[str]:
    """Name the places where two plain values are not the same, numbers to five digits."""
    if isinstance(found, dict) and isinstance(known, dict) and list(found) == list(known):
        return [line for key in found for line in differences(found[key], known[key], f"{where}.{key}")]
    if isinstance(found, list) and isinstance(known, list) and len(found) == len(known):
        pairs = enumerate(zip(found, known, strict=True))
        return [line for k, (one, other) in pairs for line in differences(one, other, f"{where}[{k}]")]
    if isinstance(found, float) and isinstance(known, float | int):
        return [] if found == pytest.approx(known, rel=2e-5, abs=1e-10) else [f"{where}: {found} is not {known}"]
    return [] if found == known and type(found) is type(known) else [f"{where}: {found} is not {known}"]


def stays(name: str, value: Any) -> None:
    """Compare a value with its record."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found = json.loads(json.dumps(plain(value)))
    if os.environ.get("KANPINN_RECORDS") == "write":
        lines = [f"{json.dumps(key)}: {json.dumps(one)}" for key, one in sorted({**known, name: found}.items())]
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        return
    assert name in known, f"no record of {name}"
    lines = differences(found, known[name])
    assert not lines, "\n".join(lines[:20])
