"""Data of the experiments of `science.py`, and places for what their figures need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sources import ROOT

import kanpinn
from kanpinn.io.sample_data import sample

OUTPUTS = ROOT / "outputs" / "benchmarks" / "science"
SIDE = 64
"""Pixels of the small image along each side."""


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def network_values(solution: kanpinn.Solution, points: np.ndarray) -> dict[str, np.ndarray]:
    """Return the unknowns at points `[N, d]`, those outside the part of the domain that was shown included."""
    fields = solution.residuals.fields(solution.theta, torch.from_numpy(points))
    return {name: jet.value.detach().numpy() for name, jet in fields.items()}


def kept(experiment: str, overrides: Sequence[str], seed: int) -> Path:
    """File for the curves of an arm's run."""
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    arm = "mlp" if "backbone=mlp" in overrides else "kan"
    return OUTPUTS / f"{experiment}_{arm}_{seed}.npz"


def drawn(experiment: str, arm: str, seed: int) -> bool:
    """Tell whether the curves of a run that a figure shows, of seed 0, are there; True for all other runs."""
    overrides = ("backbone=mlp",) if arm.startswith("MLP") else ()
    return experiment not in ("continual", "image") or seed != 0 or kept(experiment, overrides, 0).exists()


def image() -> np.ndarray:
    """Return the grey values of the cameraman, averaged to `[SIDE, SIDE]`."""
    values = sample(f"scikit-image:camera/{SIDE}", "image")
    assert isinstance(values, np.ndarray)
    return values


def picture(solution: kanpinn.Solution) -> np.ndarray:
    """Return the grey values `[SIDE, SIDE]` of a network at the pixels."""
    y, x = np.mgrid[SIDE - 1 : -1 : -1, :SIDE]
    return solution(np.stack([x.ravel(), y.ravel()], axis=1))["grey"].reshape(SIDE, SIDE)
