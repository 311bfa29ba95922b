"""Numbers kept of a whole solve, over all its time slabs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, from_numpy

from kanpinn.axes import norm
from kanpinn.evaluate.grid_evaluation import OutputGrid, evaluate, grid_values
from kanpinn.evaluate.spectrum import error_spectra, stacked, unstacked
from kanpinn.evaluate.table_errors import Held
from kanpinn.least_squares.residuals import Residuals
from kanpinn.solver.history import LevelRecord, Row, StageEnd, rows_of, rows_state
from kanpinn.state import State

MONITOR_POINTS = 2000
"""Output grid points at which the history's relative error is measured after every step."""


@dataclass
class Record:
    """History, level records, error spectra and events of a solve.

    Attributes:
        levels: One record per visit of a level.
        history: One row per step kept.
        spectra: Power spectra of the error at the end of each visit, by its place among `levels`.
        events: Lines for the log, not yet written.
        work: Σ over steps of points × parameters, those of discarded random starts included.
        started: Clock reading at the start of the solve, earlier processes counted.
    """

    levels: list[LevelRecord] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    spectra: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    work: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since the solve began."""
        return time.perf_counter() - self.started

    @property
    def level(self) -> LevelRecord:
        """Record of the visit under way."""
        return self.levels[-1]

    @property
    def last_losses(self) -> list[float]:
        """The losses of the last visit of a level."""
        return [row["loss"] for row in self.history[-self.level.steps :]] if self.level.steps else []

    @property
    def best_step(self) -> int | None:
        """The step of the lowest error in the history; None for the last one, and where no errors are known."""
        names = ("cross_entropy_", "relative_l2_")
        errors = [math.hypot(*(v for name, v in row.items() if name.startswith(names))) for row in self.history]
        best = errors.index(min(errors)) + 1 if errors else 0
        return best if best < len(errors) else None

    def spent(self, end: StageEnd) -> None:
        """Count the work of a stage that has ended."""
        work = sum(row["work"] for row in end.rows)
        self.work += work
        self.level.work += work

    def keep(self, end: StageEnd) -> None:
        """Add the steps of a stage to the history and to the record of its level."""
        first = len(self.history)
        work = self.work - sum(row["work"] for row in end.rows)  # that of discarded random starts comes first
        for k, row in enumerate(end.rows, start=1):
            work += row["work"]
            self.history.append({"step": first + k, **row, "work": work})
        self.level.loss = end.loss
        self.level.steps += len(end.rows)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the history as columns `[steps]`."""
        names = list(dict.fromkeys(name for row in self.history for name in row))
        table: dict[str, Any] = {name: np.array([row.get(name, math.nan) for row in self.history]) for name in names}
        for name in ("step", "level", "slab"):
            if name in table:
                table[name] = table[name].astype(np.int64)
        return table

    def state(self) -> State:
        """All that a resumed solve goes on with."""
        return {
            "levels": [record.state() for record in self.levels],
            "spectra": stacked(self.spectra, len(self.levels)),
            "history": rows_state(self.history),
            "work": self.work,
            "seconds": self.seconds,
        }

    def load_state(self, state: State, expected: dict[str, np.ndarray]) -> None:
        """Go on where `state` was taken, arrays in place of tensors; expected are spectra of the problem's shapes.

        Raises:
            KeyError, TypeError, ValueError: If it is not one of this problem.
        """
        self.levels[:] = [LevelRecord.from_state(record) for record in state["levels"]]
        self.history[:] = rows_of(state["history"])
        for name, values in state["spectra"].items():
            if values.dtype != np.float64 or values.shape[-1:] != expected[name].shape:
                raise ValueError(f"spectrum {name} of shape {list(values.shape)}")
        self.spectra.update(unstacked(state["spectra"]))
        self.work = float(state["work"])
        self.started = time.perf_counter() - float(state["seconds"])


class Monitor:
    """Errors of a network on the output grid, against the reference and against the level below.

    Attributes:
        grid: The output grid.
        below: Values on the whole grid when the level below was left; None before that.
    """

    def __init__(self, grid: OutputGrid, periodic: tuple[str, ...], held: Held | None = None) -> None:
        """Choose the grid points at which every step is measured, or take the rows of a table held for it."""
        self.grid = grid
        self.below: dict[str, np.ndarray] | None = None
        self._periodic = periodic
        self._held, self._few = held, None if held is None else held.some(MONITOR_POINTS)
        self._last: tuple[Held, Tensor, dict[str, dict[str, float | None]]] | None = None
        chosen = np.sort(np.random.default_rng(0).permutation(grid.inside)[:MONITOR_POINTS])
        self._points = grid.points[from_numpy(chosen)]
        self._reference = {name: v.ravel()[chosen] for name, v in grid.reference.items()}

    def values(self, residuals: Residuals, theta: Tensor) -> dict[str, np.ndarray]:
        """Return the unknowns at all points of the grid."""
        return evaluate(residuals, theta, self.grid.points)

    def gap(self, before: dict[str, np.ndarray], residuals: Residuals, theta: Tensor) -> float:
        """Return the largest change of the values in the domain since `before`, relative to the largest value."""
        after, inside = self.values(residuals, theta), self.grid.inside
        both = ((after[name][inside], values[inside]) for name, values in before.items())
        return max(float(np.abs(new - old).max() / (np.abs(old).max() or 1.0)) for new, old in both)

    def errors(self, residuals: Residuals, theta: Tensor) -> Row:
        """Return the relative L2 error of each unknown at some points of the grid; empty without a reference.

        Of a table the errors at some of the rows held.
        """
        if self._few is not None:
            found = self._errors_of(self._few, residuals, theta)
            return {f"{kind}_{n}": e or 0.0 for kind, by_name in found.items() for n, e in by_name.items()}
        if not self._reference:
            return {}
        values = evaluate(residuals, theta, self._points)
        row = {}
        for name, reference in self._reference.items():
            row[f"relative_l2_{name}"] = norm(values[name] - reference) / (norm(reference) or math.nan)
        return row

    def _errors_of(self, held: Held, residuals: Residuals, theta: Tensor) -> dict[str, dict[str, float | None]]:
        """The errors at rows held, those of the last parameters remembered."""
        if self._last is None or self._last[0] is not held or self._last[1] is not theta:
            self._last = held, theta, held.errors(residuals, theta)
        return self._last[2]

    @property
    def validates(self) -> bool:
        """True for a table with rows of validation, by which the best parameters of a stage are chosen."""
        return self._held is not None and self._held.part == "validation"

    def score(self, residuals: Residuals, theta: Tensor) -> float:
        """Return the error by which parameters are chosen: cross-entropy, or √Σ relative L2² over the targets."""
        assert self._held is not None
        found = self._errors_of(self._held, residuals, theta)
        kind = "cross_entropy" if "cross_entropy" in found else "relative_l2"
        return math.hypot(*(error or 0.0 for error in found[kind].values()))

    def spectra(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the power spectra of the errors of values on the grid."""
        grid = self.grid
        return error_spectra(values, grid.reference, grid.coordinates, grid.axes, self._periodic)

    def measure(self, record: Record, residuals: Residuals, theta: Tensor) -> None:
        """Keep the error on the whole grid, its spectrum and the change since the level below in the level's record."""
        values = grid_values(residuals, theta, self.grid)
        record.level.relative_l2 = self.grid.errors(values)[0]
        if self._held is not None:
            found = self._held.errors(residuals, theta).get("relative_l2", {})
            errors = {name: math.nan if error is None else error for name, error in found.items()}
            record.level.relative_l2 = errors or None
        record.level.change = None if self.below is None else self.grid.change(self.below, values)
        record.spectra[len(record.levels) - 1] = self.spectra(values)
