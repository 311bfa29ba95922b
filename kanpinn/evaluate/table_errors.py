"""Errors of a network at the rows of a table, part by part."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanpinn.axes import norm
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.problem import Problem
from kanpinn.pde.table import PARTS, Table


class Held(NamedTuple):
    """Rows of a table by which fits are compared.

    Attributes:
        part: One of `PARTS`.
        points: Their inputs `[n, d]`.
        values: The targets, `[n]` by name.
    """

    part: str
    points: Tensor
    values: dict[str, np.ndarray]


def held_rows(problem: Problem) -> Held | None:
    """Return the rows by which fits of a table are compared: those of validation, or else of training.

    None for other problems.
    """
    if not isinstance(problem, Table):
        return None
    part = "validation" if len(problem.parts["validation"]) else "train"
    rows = problem.rows(part)
    return Held(part, torch.from_numpy(problem.points(part)), {name: rows[name] for name in problem.unknowns})


def table_errors(residuals: Residuals, theta: Tensor) -> dict[str, Any]:
    """Return the errors of a network with parameters `[P]` at each part of a table, for metrics.json.

    Of a target y and the network's u at a part's rows: rmse = √mean (u − y)², relative_l2 = ‖u − y‖/‖y‖, linf = max
    |u − y| and r2 = 1 − Σ (u − y)²/Σ (y − mean y)², the share of the variance explained.
    """
    table = residuals.problem
    assert isinstance(table, Table)
    found: dict[str, Any] = {"file": table.file, "sha256": table.sha256}
    for part in PARTS:
        rows = table.rows(part)
        if not len(table.parts[part]):
            continue
        values = evaluate(residuals, theta, torch.from_numpy(table.points(part)))
        by_name = {name: _errors(values[name], rows[name]) for name in table.unknowns}
        kinds = next(iter(by_name.values()))
        found[part] = {"rows": len(table.parts[part]), "outside": table.outside(part)}
        found[part] |= {kind: {name: errors[kind] for name, errors in by_name.items()} for kind in kinds}
    return found


def _errors(values: np.ndarray, given: np.ndarray) -> dict[str, float | None]:
    left, spread = norm(values - given), norm(given - given.mean())
    return {
        "rmse": left / math.sqrt(len(given)),
        "relative_l2": left / size if (size := norm(given)) else None,
        "r2": 1 - (left / spread) ** 2 if spread else None,
        "linf": float(np.abs(values - given).max()),
    }
