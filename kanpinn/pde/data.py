"""Measured data: values at points, which a solution has to meet as well as the equations let it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Points
from kanpinn.pde.condition import Condition
from kanpinn.pde.integral import Integral
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem


@final
@dataclass(frozen=True)
class Data:
    """Measured data, among the conditions of a problem: `Data("sensors", {"x": [0.1, 0.5], "t": [1, 1], "u": [3, 4]})`.

    Attributes:
        name: Name of its loss term.
        table: Columns of equal length: every coordinate, unknowns or others; `sigma_u` is the standard deviation of
            each value of u. A mapping, or anything of columns by name, such as a data frame.
        residual: Residual `[N]` of the points and the other columns, tensors `[N]` by name; by default u less its
            column for every unknown that has one, over sigma where there is one.
    """

    name: str
    table: Any
    residual: Callable[[Point, Mapping[str, Tensor]], Any] | None = None

    def condition(self, problem: Problem) -> Condition:
        """Return the data as a condition at their points.

        Raises:
            UserError: If a column is missing, has no use, is of another length or not finite, or a sigma not above 0.
        """
        names, columns = problem.domain.names, self.columns()
        for one in names:
            if one not in columns:
                raise UserError(f"data {self.name}: no column {one}; columns are {', '.join(columns)}")
        given = {key: column for key, column in columns.items() if key not in names}
        for key, column in given.items():
            if key.startswith("sigma_") and not (column > 0).all():
                raise UserError(f"data {self.name}: {key}: expected numbers above 0")
        measured = tuple(one for one in problem.unknowns if one in given)
        unused = [key for key in given if key.removeprefix("sigma_") not in measured]
        if self.residual is None and (unused or not measured):
            what = f"column {unused[0]} is no unknown, nor sigma_ of one" if unused else "no column of an unknown"
            raise UserError(f"data {self.name}: {what}; unknowns are {', '.join(problem.unknowns)}")
        points = Points(**{one: columns[one] for one in names})
        residual = self.residual or Difference(measured)
        return Condition(self.name, points, residual, given=given, loss=getattr(residual, "loss", None))

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns `[N]` by name; raises UserError where there are none of one length, of finite numbers."""
        keys: Iterable[str] = getattr(getattr(self.table, "dtype", None), "names", None) or self.table
        try:
            given = {str(key): np.atleast_1d(np.asarray(self.table[key])) for key in keys}
            columns = {key: column.astype(np.float64) for key, column in given.items() if column.dtype.kind != "c"}
        except (TypeError, ValueError, IndexError):
            raise UserError(f"data {self.name}: expected columns of numbers by name") from None
        if len(columns) < len(given):
            raise UserError(f"data {self.name}: expected real numbers, not complex ones")
        if (
            not columns
            or len({column.shape for column in columns.values()}) != 1
            or not all(column.ndim == 1 and len(column) and np.isfinite(column).all() for column in columns.values())
        ):
            raise UserError(f"data {self.name}: expected columns of one length, of finite numbers")
        return columns


@final
@dataclass(frozen=True)
class Difference:
    """Residual of data: each unknown less its value, over its standard deviation where that is given."""

    unknowns: tuple[str, ...]

    def __call__(self, p: Point, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return it `[N]` by unknown."""
        found = {one: getattr(p, one) - values[one] for one in self.unknowns}
        return {one: row / values[f"sigma_{one}"] if f"sigma_{one}" in values else row for one, row in found.items()}


def conditions_of(problem: Problem, part: Problem | None = None) -> list[Condition]:
    """Return a problem's conditions, data and integrals among them, and the data that it was given besides.

    Integrals are those of a part of the problem, such as a time slab, if one is given.
    """
    both = [*problem.conditions(), *problem.observed]
    both = [one.condition(part or problem) if isinstance(one, Integral) else one for one in both]
    return [one.condition(problem) if isinstance(one, Data) else one for one in both]
