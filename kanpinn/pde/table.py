"""Tables: columns of numbers, some of which a network gives as functions of the others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError, printable, unknown_choice
from kanpinn.geometry import Box
from kanpinn.geometry.chart import Array
from kanpinn.pde.condition import Condition, Terms
from kanpinn.pde.data import Data
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem

Numbers = NDArray[np.int64]

PARTS = ("train", "validation", "test")
"""Parts of a table: rows that are fitted, rows that choose among fits, rows that neither has seen."""


@final
@dataclass(frozen=True)
class Table(Problem):
    """A table of data: its targets are the unknowns, over the box of the inputs of its training rows.

    Attributes:
        file: Name of its file; None for arrays.
        target: Columns to be fitted.
        features: Columns they are functions of.
        split: Shares of the rows for training, validation and test.
        columns: Columns `[N]` by the name they have in the table: inputs, targets and `sigma_<target>`, the standard
            deviations of these.
        parts: Numbers of the rows of each of `PARTS`; empty arrays for those without any.

    Raises:
        UserError: If an input or a target is constant in the training rows.
    """

    file: str | None
    target: tuple[str, ...]
    features: tuple[str, ...]
    split: tuple[float, ...]
    columns: Mapping[str, Array]
    parts: Mapping[str, Numbers]

    derivatives = ()
    kind = "regression"
    has_equations: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        names = dict(zip((*self.features, *self.target), short_names((*self.features, *self.target)), strict=True))
        for key in (*self.features, *self.target):
            values = self.columns[key][self.parts["train"]]
            if not np.ptp(values) > 0:
                told = "there is nothing to fit" if key in self.target else "it says nothing; leave it out of --inputs"
                raise UserError(f"{self.called}: column {printable(key)!r} has one value in all rows trained: {told}")
        box = Box(**{names[key]: self._interval(key) for key in self.features})
        unknowns = tuple(names[key] for key in self.target)
        self.adapt(
            domain=box,
            unknowns=unknowns,
            labels={name: (printable(key), "") for key, name in names.items() if key != name},
            equation=f"{', '.join(unknowns)} = f({', '.join(box.names)})",
            names=names,
        )
        self.adapt(observed=(Data("data", self.rows("train")),))

    def _interval(self, key: str) -> tuple[float, float]:
        values = self.columns[key][self.parts["train"]]
        return float(values.min()), float(values.max())

    names: ClassVar[Mapping[str, str]] = {}
    """Names of coordinates and unknowns by column."""

    @property
    def called(self) -> str:
        """Name of the table, for messages."""
        return self.file or "table"

    def rows(self, part: str) -> dict[str, Array]:
        """Return the columns of a part by the names of coordinates, unknowns and `sigma_<unknown>`."""
        chosen = self.parts[part]
        found = {name: self.columns[key][chosen] for key, name in self.names.items()}
        sigmas = {f"sigma_{self.names[key]}": f"sigma_{key}" for key in self.target}
        return found | {name: self.columns[key][chosen] for name, key in sigmas.items() if key in self.columns}

    def points(self, part: str) -> Array:
        """Return the inputs of a part's rows `[n, d]`; of those outside the domain the nearest points in it."""
        rows = self.rows(part)
        points = np.stack([rows[name] for name in self.domain.names], axis=1)
        return np.clip(points, self.domain.lower, self.domain.upper)

    def outside(self, part: str) -> int:
        """Return how many rows of a part lie outside the box of the training rows."""
        rows = self.rows(part)
        points = np.stack([rows[name] for name in self.domain.names], axis=1)
        return int(((points < self.domain.lower) | (points > self.domain.upper)).any(axis=1).sum())

    @property
    def sha256(self) -> str:
        """Hash of the columns with their names."""
        found = hashlib.sha256()
        for key, column in sorted(self.columns.items()):
            found.update(f"{key}\n".encode())
            found.update(np.ascontiguousarray(column, dtype="<f8").tobytes())
        return found.hexdigest()

    def residual(self, p: Point) -> Terms:  # noqa: ARG002
        """Return nothing: there is no equation."""
        return {}

    def conditions(self) -> list[Condition]:
        """Return nothing beside the data observed."""
        return []


def table_of(
    columns: Mapping[str, Array],
    target: Sequence[str],
    inputs: Sequence[str] = (),
    split: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    file: str | None = None,
) -> Table:
    """Return a table with its rows split at random.

    Args:
        columns: Columns `[N]` by name, finite numbers.
        target: Columns to be fitted.
        inputs: Columns they are functions of; all others with more than one value if empty.
        split: Shares of the rows for training, validation and test, in proportion.
        seed: Seed of the split.
        file: Name of the table, for messages.

    Raises:
        UserError: If a column is not there, is input and target, or not enough rows or columns are left.
    """
    who, names = file or "table", list(columns)
    for key, given in (("--target", target), ("--inputs", inputs)):
        for name in given:
            if name not in columns:
                raise unknown_choice(key, name, names)
            if list(given).count(name) > 1:
                raise UserError(f"{key}={name}: is named twice")
    if not target:
        raise UserError(f"{who}: no target; give --target, one of the columns {', '.join(names)}")
    both = [name for name in inputs if name in target]
    if both:
        raise UserError(f"--inputs={both[0]}: is the target; expected other columns")
    count = len(columns[target[0]])
    if count < 2:
        raise UserError(f"{who}: has {count} row; expected at least 2")
    parts = _split(count, split, seed)
    if len(parts["train"]) < 2:
        raise UserError(f"problem.split={list(split)}: leaves {len(parts['train'])} of {count} rows to train with")
    free = [name for name in names if name not in target and name not in {f"sigma_{one}" for one in target}]
    varied = [name for name in free if np.ptp(columns[name][parts["train"]]) > 0]
    chosen = list(inputs) or varied
    if not chosen:
        raise UserError(f"{who}: no column is left as an input beside {', '.join(target)}, but such of one value")
    for name in (f"sigma_{one}" for one in target):
        if name in columns and not (columns[name] > 0).all():
            raise UserError(f"{who}: column {name}: expected standard deviations above 0")
    kept = {*chosen, *target, *(f"sigma_{one}" for one in target)}
    own = {name: column for name, column in columns.items() if name in kept}
    return Table(file, tuple(target), tuple(chosen), tuple(map(float, split)), own, parts)


def _split(count: int, split: Sequence[float], seed: int) -> dict[str, Numbers]:
    """Return the numbers of the rows of each part, in order; raises UserError for shares that are none."""
    if not 1 <= len(split) <= 3 or min(split) < 0 or not split[0] > 0:
        raise UserError(f"problem.split={list(split)}: expected shares of train, validation, test, the first above 0")
    shares = np.cumsum([*split, 0.0, 0.0][:3]) / sum(split)
    ends = [0, *np.rint(shares * count).astype(int)]
    order = np.random.default_rng([seed, count]).permutation(count)
    return {part: np.sort(order[a:b]) for part, a, b in zip(PARTS, ends, ends[1:], strict=False)}


def short_names(columns: Sequence[str]) -> list[str]:
    """Return names of letters and digits for columns, unlike each other and no chains of each other."""
    found: list[str] = ["row"]  # a coordinate of solution files
    for column in columns:
        name = re.sub(r"[^A-Za-z0-9]", "", column) or f"c{len(found)}"
        name = name if name[0].isalpha() else f"c{name}"
        while _clashes(name[:40], found):
            name = f"c{name[:30]}{len(found)}"
        found.append(name[:40])
    return found[1:]


def _clashes(name: str, others: Sequence[str]) -> bool:
    """Tell whether a name is another one but for capitals, or one of them is a chain of others."""
    if name.lower() in [other.lower() for other in others]:
        return True
    every = [*others, name]
    for one in every:
        rest = [re.escape(other) for other in every if other != one]
        if rest and re.fullmatch(f"(?:{'|'.join(rest)})+", one):
            return True
    return False
