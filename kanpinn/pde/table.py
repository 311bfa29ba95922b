"""Tables: columns of numbers, some of which a network gives as functions of the others."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import UserError, printable, unknown_choice, warn
from kanpinn.geometry import Box
from kanpinn.geometry.chart import Array
from kanpinn.pde.condition import Condition, Terms
from kanpinn.pde.data import Data
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem

Numbers = NDArray[np.int64]

PARTS = ("train", "validation", "test")
"""Parts of a table: rows that are fitted, rows that choose among fits, rows that neither has seen."""


CLASS = "class"
"""Column of the numbers of classes."""


@final
@dataclass(frozen=True)
class CrossEntropy:
    """Residual of classes by the logits z of each: that of a generalised Gauss–Newton step for −log p_y, p = softmax z.

    Schraudolph 2002 (Neural Comput. 14, 1723), sec. 3: the curvature of the loss in z is H = diag p − p pᵀ = L Lᵀ with
    L = diag √p − p √pᵀ. So the rows are Lᵀ ∂z/∂θ/√2 (the loss of a least-squares problem has no ½), their value s/√2
    with L s = p − e_y, the gradient in z: of all such s the shortest, s_k = √p_k − δ_ky/√p_y. Its square is 1/p_y − 1,
    which gives the loss back: −log p_y = log(1 + |s|²).
    """

    unknowns: tuple[str, ...]

    def __call__(self, p: Point, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the rows `[N]` by logit."""
        logits = torch.stack([getattr(p, name) for name in self.unknowns], dim=1)  # (N, K)
        logs = torch.log_softmax(logits.detach(), dim=1)
        root = (logs / 2).exp()
        own = values[CLASS].long()[:, None]
        value = root.scatter_add(1, own, -(-logs.gather(1, own) / 2).clamp_max(LARGEST_LOG).exp())
        change = logits - logits.detach()
        rows = value + root * (change - (root.square() * change).sum(1, keepdim=True))
        return dict(zip(self.unknowns, (rows / math.sqrt(2)).unbind(1), strict=True))

    @staticmethod
    def loss(square: Tensor) -> Tensor:
        """Return −log p_y `[N]` from the sum of the squares of the rows `[N]`."""
        return torch.log1p(2 * square)


LARGEST_LOG = 300.0
"""Largest −log √p_y that is told from others: its square, and the sum over rows, must be numbers."""


@final
@dataclass(frozen=True)
class Table(Problem):
    """A table of data, over the box of the inputs of its training rows: its targets are the unknowns.

    Where a target is one of K classes, there are K unknowns instead, its logits.

    Attributes:
        file: Name of its file; None for arrays.
        target: Columns to be fitted.
        features: Columns they are functions of.
        split: Shares of the rows for training, validation and test.
        columns: Columns `[N]` by the name they have in the table: inputs, targets and `sigma_<target>`, the standard
            deviations of these.
        parts: Numbers of the rows of each of `PARTS`; empty arrays for those without any.
        classes: Names of the classes, of which the one target has the numbers; none for targets that are numbers.
        test: Name of the file of the test rows; None where they are a share of the others.

    Raises:
        UserError: If an input or a target is constant in the training rows.
    """

    file: str | None
    target: tuple[str, ...]
    features: tuple[str, ...]
    split: tuple[float, ...]
    columns: Mapping[str, Array]
    parts: Mapping[str, Numbers]
    classes: tuple[str, ...] = ()
    test: str | None = None

    derivatives = ()
    kind = "regression"
    has_equations: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        outputs = [f"{self.target[0]} {label}" for label in self.classes] or self.target
        names = dict(zip((*self.features, *outputs), short_names((*self.features, *outputs)), strict=True))
        for key in (*self.features, *self.target):
            if not np.ptp(self.columns[key][self.parts["train"]]) > 0:
                told = "there is nothing to fit" if key in self.target else "it says nothing; leave it out of --inputs"
                raise UserError(f"{self.called}: column {printable(key)!r} has one value in all rows trained: {told}")
        box = Box(**{names[key]: self._interval(key) for key in self.features})
        unknowns = tuple(names[key] for key in outputs)
        told = f"P({printable(self.target[0])})" if self.classes else ", ".join(unknowns)
        labels = {names[key]: (printable(label), "") for key, label in zip(outputs, self.classes, strict=False)}
        self.adapt(
            domain=box,
            unknowns=unknowns,
            labels=labels or {name: (printable(key), "") for key, name in names.items() if key != name},
            equation=f"{told} = f({', '.join(box.names) if len(box) < 9 else f'{len(box)} inputs'})",
            names=names,
        )
        residual = CrossEntropy(unknowns) if self.classes else None
        self.adapt(observed=(Data("data", self.rows("train"), residual),))

    def _interval(self, key: str) -> tuple[float, float]:
        values = self.columns[key][self.parts["train"]]
        return float(values.min()), float(values.max())

    names: ClassVar[Mapping[str, str]] = {}
    """Names of coordinates and unknowns by column."""

    @property
    def called(self) -> str:
        """Name of the table, for messages."""
        return _called(self.file)

    def rows(self, part: str) -> dict[str, Array]:
        """Return the columns of a part by the names of coordinates, unknowns and `sigma_<unknown>`, or with `class`."""
        chosen = self.parts[part]
        found = {name: self.columns[key][chosen] for key, name in self.names.items() if key in self.columns}
        if self.classes:
            return found | {CLASS: self.columns[self.target[0]][chosen]}
        sigmas = {f"sigma_{self.names[key]}": f"sigma_{key}" for key in self.target}
        return found | {name: self.columns[key][chosen] for name, key in sigmas.items() if key in self.columns}

    def points(self, part: str) -> Array:
        """Return the inputs of a part's rows `[n, d]`; of those outside the domain the nearest points in it."""
        rows = self.rows(part)
        points = np.stack([rows[name] for name in self.domain.names], axis=1)
        return np.clip(points, self.domain.lower, self.domain.upper)

    def decoded(self, values: Mapping[str, Array]) -> dict[str, Any]:
        """Return what unknowns `[N]` by name say of the targets: themselves, or the likeliest class and all of p.

        The latter are called by the target and `p_<class>`.
        """
        if not self.classes:
            return dict(values)
        logits = torch.from_numpy(np.stack([values[name] for name in self.unknowns], axis=1))
        likeliest = np.array(self.classes)[logits.argmax(1).numpy()]
        shares = torch.softmax(logits, dim=1).numpy()
        return {self.target[0]: likeliest, **{f"p_{name}": shares[:, k] for k, name in enumerate(self.classes)}}

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
        found.update("\n".join(self.classes).encode())
        return found.hexdigest()

    def residual(self, p: Point) -> Terms:  # noqa: ARG002
        """Return nothing: there is no equation."""
        return {}

    def conditions(self) -> list[Condition]:
        """Return nothing beside the data observed."""
        return []


def table_of(
    columns: Mapping[str, Any],
    target: Sequence[str],
    inputs: Sequence[str] = (),
    split: Sequence[float] = (1.0,),
    *,
    task: str = "auto",
    seed: int = 0,
    file: str | None = None,
    test: tuple[str, int] | None = None,
) -> Table:
    """Return a table with its rows split at random.

    Args:
        columns: Columns `[N]` by name, finite numbers; a target may be texts.
        target: Columns to be fitted.
        inputs: Columns they are functions of; all others with more than one value if empty.
        split: Shares of the rows for training, validation and test, in proportion.
        task: One of `TASKS`; auto: classification of texts and of few whole numbers.
        seed: Seed of the split.
        file: Name of the table, for messages.
        test: Name and number of the test rows where these are the last ones, not a share.

    Raises:
        UserError: If a column is not there, is input and target, or not enough rows or columns are left.
    """
    who, names = _called(file), list(columns)
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
    if same := [name for name in target if len(np.unique(np.asarray(columns[name]))) == 1]:
        raise UserError(f"{who}: column {printable(same[0])!r} has one value in all rows: there is nothing to fit")
    tests, tested = test or (None, 0)
    parts = _split(count - tested, split[:2] if tested else split, seed)
    if tested:
        parts["test"] = np.arange(count - tested, count)
    if len(parts["train"]) < 2:
        raise UserError(
            f"problem.split={list(split)}: leaves {len(parts['train'])} of {count - tested} rows to train with"
        )
    columns, classes = _classes(columns, target, task, who)
    for name in inputs:
        if name not in columns:
            raise UserError(f"{who}: column {name} is text; expected numbers for an input")
    free = [name for name in columns if name not in target and name not in {f"sigma_{one}" for one in target}]
    varied = [name for name in free if np.ptp(columns[name][parts["train"]]) > 0]
    chosen = list(inputs) or varied
    if not chosen:
        raise UserError(f"{who}: no column of numbers that differ is left as an input beside {', '.join(target)}")
    if not inputs and (left := [printable(name) for name in free if name not in varied]):
        warn(f"{who}: {', '.join(left)[:200]}: one value in all rows trained, left out")
    for name in (f"sigma_{one}" for one in target):
        if name in columns and not (columns[name] > 0).all():
            raise UserError(f"{who}: column {name}: expected standard deviations above 0")
    kept = {*chosen, *target, *(f"sigma_{one}" for one in target)}
    own = {name: column for name, column in columns.items() if name in kept}
    for name, column in own.items():
        if (most := float(np.abs(column).max())) > LARGEST:
            raise UserError(f"{who}: column {printable(name)!r}: {most:g}: expected numbers up to {LARGEST:g}")
    return Table(file, tuple(target), tuple(chosen), tuple(map(float, split)), own, parts, classes, tests)


def _called(file: str | None) -> str:
    return f"problem.file={file}" if file else "table"


LARGEST = 1e290
"""The largest number of a table: between its rows a network goes beyond it, and solution files end at 1e300."""

TASKS = ("auto", "regression", "classification")
FEW, EACH = 20, 10
"""Whole numbers are classes where there are so few different ones, and so many rows of each in the mean."""


def _classes(
    columns: Mapping[str, Any], target: Sequence[str], task: str, who: str
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return columns of numbers, with numbers of classes for a target that has such, and their names.

    Raises:
        UserError: If a text is no class, or there are too many or too few.
    """
    found = {name: np.asarray(column) for name, column in columns.items()}
    texts = [name for name, column in found.items() if column.dtype.kind not in "fiub"]
    others = {name: column.astype(np.float64) for name, column in found.items() if name not in texts}
    values, labels = found[target[0]], ()
    few = len(np.unique(values)) if len(target) == 1 else 0
    whole = target[0] in others and np.array_equal(others[target[0]], np.round(others[target[0]]))
    chosen = task == "classification" or target[0] in texts or (whole and few <= FEW and len(values) >= EACH * few)
    if task == "regression" or not chosen or (len(target) > 1 and task == "auto"):
        if wrong := [name for name in target if name in texts]:
            raise UserError(f"{who}: column {wrong[0]} is text; expected numbers for regression of several targets")
        return others, ()
    if len(target) > 1:
        raise UserError(f"problem.task={task}: expected one target, not {', '.join(target)}")
    if not 1 < few <= min(1000, len(values) // 2):
        raise UserError(f"{who}: {target[0]} has {few} different values in {len(values)} rows: no classes")
    labels, numbers = np.unique(values, return_inverse=True)
    told = [f"{label:g}" for label in labels] if target[0] in others else [str(label) for label in labels]
    return {**others, target[0]: numbers.astype(np.float64)}, tuple(told)


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
    found: list[str] = []
    for column in columns:
        name = re.sub(r"[^A-Za-z0-9]", "", column) or f"c{len(found) + 1}"
        name = name if name[0].isalpha() else f"c{name}"
        while _clashes(name[:40], found):
            name = f"c{name[:30]}{len(found) + 1}"
        found.append(name[:40])
    return found


RESERVED = ("row", CLASS, "predicted")
"""Names of other columns in solution files."""


def _clashes(name: str, others: Sequence[str]) -> bool:
    """Tell whether a name is another one but for capitals, or one of them is a chain of others."""
    if name.lower() in (*RESERVED, *(other.lower() for other in others)):
        return True
    for one in (name, *(other for other in others if name in other)):
        rest = [re.escape(other) for other in (name, *others) if other != one and other in one]
        if rest and re.fullmatch(f"(?:{'|'.join(rest)})+", one):
            return True
    return False
