"""Tables of data as problems: read from the file that a config names, or from what a run has stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kanpinn.errors import UserError, caution
from kanpinn.io.data_files import COLOURS, FORMATS, Column, is_image, read_data_file
from kanpinn.options import Options, build, option
from kanpinn.pde.data import Data
from kanpinn.pde.table import PARTS, TASKS, Table, table_of
from kanpinn.settings.discovery import problem_file

NAME = "table"
"""Name of the problem in configs."""


@dataclass(frozen=True)
class TableOptions(Options):
    """A table of data, some columns of which are fitted as functions of the others."""

    key: ClassVar[str] = "problem"

    file: str | None = option(None, f"the table: {FORMATS}")
    target: list[str] = option([], "columns to be fitted; of an image all, if empty")
    inputs: list[str] = option([], "columns they are functions of; all others if empty")
    split: list[float] = option(
        [0.8, 0.1, 0.1], "shares of the rows for training, validation and test, at random by the seed", at_least=0
    )
    test: str | None = option(None, "a table of the test rows, in place of their share")
    task: str = option("auto", "regression, or classification: a target of texts or few whole numbers", one_of=TASKS)


def is_table(values: Mapping[str, Any]) -> bool:
    """Tell whether a config's problem group is a table, not a problem of the user's of that name."""
    return values.get("name") == NAME and problem_file(NAME) is None


def read_table_problem(values: Mapping[str, Any], seed: int) -> Table:
    """Read the table that a config's problem group names; raises UserError where it is none."""
    given = _options(values)
    if given.file is None:
        raise UserError("problem.file: missing; give a table: kanpinn fit TABLE.csv --target y")
    return _read(given, given.file, seed)


def _read(given: TableOptions, file: str, seed: int) -> Table:
    """Read a file, and that of the test rows if there is one, as a table; raises UserError where it is none."""
    columns, test = read_data_file(Path(file), "problem.file", given.target, given.inputs), None
    target = given.target or [name for name in ("grey", *COLOURS) if name in columns and is_image(file)]
    if given.test is not None:
        other = read_data_file(Path(given.test), "problem.test", given.target, given.inputs)
        columns = _joined(columns, other, f"problem.test={given.test}")
        test = (given.test, len(next(iter(other.values()))))
    return table_of(columns, target, given.inputs, given.split, task=given.task, seed=seed, file=file, test=test)


def _joined(columns: Mapping[str, Column], other: Mapping[str, Column], who: str) -> dict[str, Column]:
    """Return the rows of two tables, one after the other; raises UserError where the second lacks a column."""
    for name, column in columns.items():
        if name not in other or (other[name].dtype.kind in "US") != (column.dtype.kind in "US"):
            raise UserError(f"{who}: column {name!r} is {'of another kind' if name in other else 'missing'} there")
    return {name: np.concatenate([column, other[name]]) for name, column in columns.items()}


def given_table(table: Any, target: Any, inputs: Sequence[str], split: Sequence[float], seed: int) -> Table:
    """Return the table of a file, of columns by name, or of inputs `[N, d]` and targets; see `kanpinn.fit`.

    Raises:
        UserError: If it is none.
    """
    names = [target] if isinstance(target, str) else target
    if isinstance(table, str | Path):
        values = {"file": str(table), "target": list(names), "inputs": list(inputs), "split": list(split)}
        return read_table_problem(values, seed)
    plain = not hasattr(table, "keys") and getattr(getattr(table, "dtype", None), "names", None) is None
    if plain and not isinstance(target, str):
        arrays = _by_number("x", table) | _by_number("y", target)
        names, table = list(_by_number("y", target)), arrays
    return table_of(_given_columns(table), names, list(inputs), list(split), seed=seed)


def _given_columns(table: Any) -> dict[str, np.ndarray]:
    """Return columns of numbers, or texts, from anything of columns by name; raises UserError where it is none."""
    keys = getattr(getattr(table, "dtype", None), "names", None) or table
    try:
        columns = {str(key): np.asarray(table[key]) for key in keys}
    except (TypeError, ValueError, IndexError):
        raise UserError("fit: expected a file, columns by name, or inputs [N, d] and targets") from None
    texts = {key: column.astype(str) for key, column in columns.items() if column.dtype.kind in "OUS"}
    numbers = {key: column for key, column in columns.items() if key not in texts}
    found = {**Data("table", numbers).columns(), **texts} if numbers else texts
    if len({len(column) for column in found.values()}) > 1:
        raise UserError("fit: expected columns of one length")
    return {key: found[key] for key in columns}


def _by_number(letter: str, values: Any) -> dict[str, Any]:
    """Return arrays `[N]` or `[N, d]` as columns: x, or x1 … xd."""
    array = np.asarray(values)
    if array.ndim == 1:
        return {letter: array}
    if array.ndim != 2:
        raise UserError(f"fit: an array of shape {array.shape}: expected (N,) or (N, columns)")
    return {letter if array.shape[1] == 1 else f"{letter}{k + 1}": column for k, column in enumerate(array.T)}


def _options(values: Mapping[str, Any]) -> TableOptions:
    return build(TableOptions, {key: value for key, value in values.items() if key not in ("name", "tuned")}, "problem")


def described_table(table: Table) -> dict[str, Any]:
    """Return the problem group of a config that stands for a table."""
    lists = {"target": list(table.target), "inputs": list(table.features), "split": list(table.split)}
    files = {"file": table.file, "test": table.test}
    return {"name": NAME, **files, **lists, "task": "classification" if table.classes else "regression"}


def table_arrays(table: Table) -> dict[str, np.ndarray]:
    """Return all arrays of a table by slash path, for a run to store."""
    columns = {f"table/columns/{k}": table.columns[key] for k, key in enumerate(table.columns)}
    return {**columns, **{f"table/parts/{part}": rows for part, rows in table.parts.items()}}


def table_record(table: Table) -> dict[str, Any]:
    """Return what else a run stores of a table: the names of its columns, its options and its hash."""
    return {
        **described_table(table),
        "columns": list(table.columns),
        "classes": list(table.classes),
        "sha256": table.sha256,
    }


def stored_table(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Table:
    """Return the table that a run has stored; warns if its file is another one now.

    Raises:
        KeyError, TypeError, ValueError: If it is none.
        UserError: If it does not fit its options.
    """
    wanted = {key: record[key] for key in ("file", "target", "inputs", "split")}
    given = _options({**wanted, "test": record.get("test")})
    columns = {str(key): arrays[f"table/columns/{k}"] for k, key in enumerate(record["columns"])}
    parts = {part: arrays[f"table/parts/{part}"] for part in PARTS}
    count = {len(column) for column in columns.values()}
    rows = np.sort(np.concatenate(list(parts.values())))
    if len(count) != 1 or not np.array_equal(rows, np.arange(count.pop())):
        raise ValueError("a table whose parts are not its rows")
    classes = tuple(map(str, record["classes"]))
    lists = (tuple(given.target), tuple(given.inputs), tuple(given.split))
    table = Table(given.file, *lists, columns, parts, classes, given.test)
    if table.sha256 != record["sha256"]:
        raise ValueError("a table that is not the one its hash stands for")
    with suppress(UserError, OSError):
        again = _read(given, given.file or "", 0)
        if again.sha256 != table.sha256:
            caution(f"problem.file={given.file}: has changed since; the table stored in the run is used")
    return table
