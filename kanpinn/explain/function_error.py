"""Error of the functions that a network has learned; from noisy data it is less than the distance from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree

from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.table import Table

PLAIN = 1e-3
"""Distance from the data, relative to them, below which it counts as the error of the function, noise or not."""


def fit_errors(residuals: Residuals, theta: torch.Tensor) -> dict[str, float]:
    """Return the error of a fit as a function, relative to the rms of its target, by unknown.

    Rows that were not trained are missed by h² = τ² + σ², of the function's error τ and the noise σ. Neighbouring rows
    share the first and not the second: half the mean square of differences of the residuals of nearest neighbours is ρ
    times their mean square, ρ = 1 for noise alone (Rice 1984, Ann. Statist. 12, 1215). So τ² = h² (1 − ρ), and no less
    than the share σ² P/N of the noise that P parameters fit in N rows.

    Args:
        residuals: A table of numbers with its network.
        theta: The network's parameters `[P]`.
    """
    table = residuals.problem
    assert isinstance(table, Table)
    trained, rows = table.points("train"), table.rows("train")
    values = evaluate(residuals, theta, torch.from_numpy(trained))
    unseen = [part for part in ("validation", "test") if len(table.parts[part])]
    held = {part: evaluate(residuals, theta, torch.from_numpy(table.points(part))) for part in unseen}
    width = np.subtract(table.domain.upper, table.domain.lower)
    neighbours = KDTree(trained / width).query(trained / width, k=2)[1]
    nearest = np.asarray(neighbours)[:, -1]
    share = min(residuals.backbone.size / len(trained), 1.0)
    found = {}
    for name in table.unknowns:
        left = values[name] - rows[name]
        square = float(np.mean(left**2))
        alike = min(float(np.mean((left - left[nearest]) ** 2) / 2) / square, 1.0) if square else 0.0
        missed = np.concatenate([held[part][name] - table.rows(part)[name] for part in unseen] or [left])
        distance, size = float(np.mean(missed**2)), float(np.mean(rows[name] ** 2))
        error = np.sqrt((distance * (1 - alike) + min(square, distance) * alike * share) / size)
        found[name] = max(float(error), min(float(np.sqrt(distance / size)), PLAIN))
    return found


def errors_of(residuals: Residuals, theta: torch.Tensor, metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the relative error of each unknown of a run: to its reference, or that of a fit, or its estimate.

    None where there is none of these, as for the logits of classes.
    """
    if isinstance(residuals.problem, Table):  # what is known of classes says nothing of their logits
        classes = residuals.problem.classes
        return dict.fromkeys(residuals.problem.unknowns) if classes else dict(fit_errors(residuals, theta))
    known = metrics.get("relative_l2") or metrics.get("error_estimate") or {}
    return {name: known.get(name) for name in residuals.problem.unknowns}
