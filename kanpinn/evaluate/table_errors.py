"""Errors of a network at the rows of a table, part by part."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from kanpinn.axes import norm
from kanpinn.backbones import Backbone
from kanpinn.backbones.stack import Stack, compiled
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.problem import Problem
from kanpinn.pde.table import CLASS, PARTS, Table


@final
@dataclass(frozen=True, eq=False)
class Held:
    """Rows of a table by which fits are compared.

    Attributes:
        part: One of `PARTS`.
        points: Their inputs `[n, d]`.
        rows: Their columns, `[n]` by name.
        table: The table.
    """

    part: str
    points: Tensor
    rows: dict[str, np.ndarray]
    table: Table
    _compiled: dict[Backbone, Stack | None] = field(default_factory=dict, init=False, repr=False)

    def some(self, most: int) -> Held:
        """Return so many of them, at most, always the same."""
        if len(self.points) <= most:
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.points))[:most])
        rows = {name: column[chosen] for name, column in self.rows.items()}
        return replace(self, points=self.points[torch.from_numpy(chosen)], rows=rows)

    def errors(self, residuals: Residuals, theta: Tensor) -> dict[str, dict[str, float | None]]:
        """Return the errors of a network with parameters `[P]` there, by kind and target.

        Of a target y and the network's u: rmse = √mean (u − y)², relative_l2 = ‖u − y‖/‖y‖, linf = max |u − y| and r2 =
        1 − Σ (u − y)²/Σ (y − mean y)², the share of the variance explained. Of classes with probabilities p: accuracy,
        the share of rows whose class is the most probable one, and cross_entropy, mean −log p of their class.
        """
        values = self._values(residuals, theta)
        if self.table.classes:
            logits = torch.from_numpy(np.stack([values[name] for name in self.table.unknowns], axis=1))
            own = torch.from_numpy(self.rows[CLASS]).long()
            found = {
                "accuracy": float((logits.argmax(1) == own).double().mean()),
                "cross_entropy": float(torch.nn.functional.cross_entropy(logits, own)),
            }
            return {kind: {self.table.target[0]: value} for kind, value in found.items()}
        by_name = {name: _errors(values[name], self.rows[name]) for name in self.table.unknowns}
        kinds = next(iter(by_name.values()))
        return {kind: {name: errors[kind] for name, errors in by_name.items()} for kind in kinds}

    def _values(self, residuals: Residuals, theta: Tensor) -> dict[str, np.ndarray]:
        """The unknowns there, by compiled code where there is such; kept of one network, the last one met."""
        network = residuals.backbone
        if network not in self._compiled:
            self._compiled.clear()
            inputs = network.inputs(self.points.to(theta), JetSpace(self.table.domain.names, ()))
            self._compiled[network] = compiled(network, inputs)
        stack = self._compiled[network]
        if stack is None:
            return evaluate(residuals, theta, self.points)
        outputs = stack.values(theta) * theta.new_tensor(residuals.scales.outputs or (1.0,))
        return dict(zip(self.table.unknowns, outputs.double().T.numpy(), strict=True))


def rows_of(table: Table, part: str) -> Held:
    """Return the rows of a part of a table."""
    return Held(part, torch.from_numpy(table.points(part)), table.rows(part), table)


def held_rows(problem: Problem) -> Held | None:
    """Return the rows by which fits of a table are compared: those of validation, or else of training.

    None for other problems.
    """
    if not isinstance(problem, Table):
        return None
    return rows_of(problem, "validation" if len(problem.parts["validation"]) else "train")


def table_errors(residuals: Residuals, theta: Tensor) -> dict[str, Any]:
    """Return the errors of a network with parameters `[P]` at each part of a table, for metrics.json; see `Held`."""
    table = residuals.problem
    assert isinstance(table, Table)
    found: dict[str, Any] = {"file": table.file, "sha256": table.sha256}
    for part in (one for one in PARTS if len(table.parts[one])):
        counts = {"rows": len(table.parts[part]), "outside": table.outside(part)}
        found[part] = {**counts, **rows_of(table, part).errors(residuals, theta)}
    return found


def _errors(values: np.ndarray, given: np.ndarray) -> dict[str, float | None]:
    left, spread = norm(values - given), norm(given - given.mean())
    return {
        "rmse": left / math.sqrt(len(given)),
        "relative_l2": left / size if (size := norm(given)) else None,
        "r2": 1 - (left / spread) ** 2 if spread else None,
        "linf": float(np.abs(values - given).max()),
    }
