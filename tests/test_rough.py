"""Knots that a network wants where the estimate shows a layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kanpinn
from kanpinn import Box, Condition
from kanpinn.run.rough import _split

FAST = ("output.figures=false", "output.progress=false", "threads=1")


@dataclass(frozen=True)
class Layer(kanpinn.Problem):
    """-e u'' + u' = 1, zero at both ends: x up to a layer of width e at x = 1."""

    e: float = 1e-4

    domain = Box(x=(0.0, 1.0))
    derivatives = ("x", "xx")

    def residual(self, p: Any) -> Any:
        return -self.e * p.u_xx + p.u_x - 1

    def conditions(self) -> list[Condition]:
        return [Condition("ends", ("x-", "x+"), lambda p: p.u)]


@pytest.mark.parametrize("e", [pytest.param(1e-3, marks=pytest.mark.slow), 1e-4])
def test_a_layer_is_found_and_gets_knots_of_its_own(e: float, tmp_path: Path) -> None:
    found = kanpinn.solve(Layer(e), "backbone=auto", "accuracy=1e-5", *FAST, folder=tmp_path / "a")
    assert found.metrics["status"] == "converged" and found.metrics["parameters"] < 200
    x = np.linspace(0, 1, 20001)
    exact = x - np.exp((x - 1) / e)  # but for exp(-1/e)
    error = np.linalg.norm(found(x[:, None])["u"] - exact) / np.linalg.norm(exact)
    assert error < 1e-5
    assert any("insert" in stage for one in found.metrics["path"] if one["kept"] for stage in one["stages"])


class Shape:
    """A function with a layer of width h at one end, and polynomials near it where intervals are as short."""

    def __init__(self, h: float, everywhere: float = 0.0) -> None:
        self.h, self.everywhere = h, everywhere

    def misses(self, a: float, b: float) -> float:
        return 1.0 if b == 1.0 and b - a > self.h else self.everywhere


def test_intervals_are_halved_towards_a_layer() -> None:
    ends = np.linspace(-1, 1, 9)
    assert _split(ends, Shape(0.1), 1e-6) == (0.875, 0.9375)  # type: ignore[arg-type]
    assert _split(ends, Shape(10.0), 1e-6) == ()  # type: ignore[arg-type]
    assert _split(ends, Shape(0.1, 1e-3), 1e-6) is None  # type: ignore[arg-type]
    assert _split(ends, Shape(0.1, 1e-3), 1e-2) == (0.875, 0.9375)  # type: ignore[arg-type]
    assert _split(ends, Shape(0.0), 1e-6) is None  # type: ignore[arg-type]  # no interval is short enough
