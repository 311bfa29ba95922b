"""Data of the experiments of `science.py`, and places for what their figures need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sources import ROOT

import kanpinn

OUTPUTS = ROOT / "outputs" / "benchmarks" / "science"
SIDE = 64
"""Pixels of the small image along each side."""

IMAGE = ("schedule.steps=1000",)


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


def image(side: int = SIDE) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the points `[N, 2]`, grey values `[N]` in [0, 1] and side of the cameraman, averaged to side × side."""
    from skimage.data import camera

    whole = camera() / 255.0
    block = len(whole) // side
    values = whole.reshape(side, block, side, block).mean(axis=(1, 3))
    axis = (np.arange(side) + 0.5) / side
    points = np.stack(np.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    return points, values.ravel(), side


def fitted(points: np.ndarray, values: np.ndarray, folder: Path, seed: int, *overrides: Any) -> kanpinn.Solution:
    """Return a fit to all rows."""
    return kanpinn.fit(points, values, *overrides, f"seed={seed}", split=[1], folder=folder)


def digits() -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return the table of scikit-learn's 8 × 8 digits for training and choices, and the rows of the test.

    The test is a fifth, drawn once: its inputs `[360, 64]` and digits `[360]` were not looked at before the settings
    were chosen.
    """
    from sklearn.datasets import load_digits

    pixels, values = load_digits(return_X_y=True)
    order = np.random.default_rng(20261130).permutation(len(pixels))
    own, test = order[360:], order[:360]
    columns: dict[str, Any] = {f"x{k}": pixels[own, k] for k in range(pixels.shape[1])}
    return columns | {"digit": [f"d{int(v)}" for v in values[own]]}, pixels[test], values[test]
