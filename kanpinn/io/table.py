"""Tables of numbers in CSV files, and columns in HDF5 files, read from anyone."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from kanpinn.errors import DECIMAL, UserError, printable, warn
from kanpinn.options import decimal

LONGEST_LINE = 100_000
MOST_LETTERS, MOST_LINES = 100_000_000, 2_000_000
"""The largest table read: kept as Python's texts, it takes a GiB of memory."""


@dataclass(frozen=True)
class Table:
    """A CSV file as text.

    Attributes:
        header: Column names.
        rows: Cells, row by row.
        lines: The line of the file each row ends on.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]


def read_table(file: Path, key: str = "--points") -> Table:
    """Read the header and rows of a CSV file; blank lines are skipped.

    Raises:
        UserError: If it cannot be read, is empty, or a row has too many or too few cells.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(_lines(stream, file, key))
            read = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except UserError:
        raise
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a text file in CSV format"
        raise UserError(f"{key}={file}: {reason}; expected a CSV file.") from error
    if len(read) < 2:
        raise UserError(f"{key}={file}: no points in it; expected a header such as x,y and one point per line.")
    header = read[0][1]
    marks = (";", "\t", "|", " ") if len(header) == 1 else (";", "\t", "|")
    if marks := [mark for mark in marks if mark in header[0]]:
        raise UserError(
            f"{key}={file}: the cells of its first line, {printable(header[0])[:80]}, are separated by {marks[0]!r}; "
            "expected commas between cells, and points in numbers."
        )
    if all(DECIMAL.fullmatch(cell) for cell in header):
        raise UserError(f"{key}={file}: line {read[0][0]} holds numbers; expected the names of the columns there.")
    for line, row in read[1:]:
        if len(row) != len(header):
            raise UserError(f"{key}={file}: line {line} has {len(row)} cells; expected {len(header)}.")
    # Commas at the ends of all lines make no columns.
    width = max(next((k for k in range(len(row), 0, -1) if row[k - 1]), 1) for _, row in read)
    rows = [row[:width] for _, row in read[1:]]
    return Table(header[:width], rows, [line for line, _ in read[1:]])


def _lines(stream: TextIO, file: Path, key: str) -> Iterator[str]:
    """The lines of a file; raises UserError where one of them, or their number or sum, is longer than any table."""
    total = count = 0
    while line := stream.readline(LONGEST_LINE + 1):
        total, count = total + len(line), count + 1
        if len(line) > LONGEST_LINE:
            raise UserError(f"{key}={file}: line {count} has more than {LONGEST_LINE:,} letters; expected one point.")
        if total > MOST_LETTERS or count > MOST_LINES:
            raise UserError(f"{key}={file}: more than {MOST_LINES:,} lines or 100 MB; expected several smaller files.")
        yield line


def coordinates(table: Table, names: Sequence[str], file: Path, key: str = "--points") -> np.ndarray:
    """The coordinate columns of a table, in any order, as points `[N, d]` in the domain's order.

    Raises:
        UserError: If a column is missing or there twice, or a cell is not a finite number.
    """
    for name in names:
        if table.header.count(name) != 1:
            fault = "missing" if name not in table.header else "there twice"
            raise UserError(
                f"{key}={file}: column '{name}' is {fault}; found {printable(', '.join(table.header))[:200]}; "
                f"expected the columns {', '.join(names)}."
            )
    points = np.empty((len(table.rows), len(names)))
    for k, name in enumerate(names):
        column = table.header.index(name)
        for n, row in enumerate(table.rows):
            points[n, k] = decimal(row[column])
            if math.isnan(points[n, k]):
                raise UserError(
                    f"{key}={file}: line {table.lines[n]}: {name}={row[column]!r}: expected a finite number "
                    "in decimal digits, such as -1.5e-3."
                )
    return points


def read_columns(file: Path, key: str, needed: Sequence[str] = (), aside: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read all columns of a CSV file, or the one-dimensional datasets at the root of an HDF5 file, `[N]` by name.

    Columns of which no cell is a number, such as names of places, are left out, in a line on stderr.

    Args:
        file: The file; HDF5 if its name ends on .h5 or .hdf5.
        key: Key it was given under, for messages.
        needed: Columns that must be numbers.
        aside: Columns to leave out without a word.

    Raises:
        UserError: If it cannot be read, or a cell is not a finite number.
    """
    if file.suffix in (".h5", ".hdf5"):
        import h5py

        try:
            with h5py.File(file) as data:
                items: dict[str, Any] = {str(name): data[str(name)] for name in data}
                found = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
                return {name: np.asarray(item, dtype=np.float64) for name, item in found.items() if item.ndim == 1}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{key}={file}: cannot be read as HDF5 ({str(error)[:80]})") from None
    table = read_table(file, key)
    texts = [k for k in range(len(table.header)) if all(math.isnan(decimal(row[k])) for row in table.rows)]
    names = [name for k, name in enumerate(table.header) if k not in texts or name in needed]
    left = [table.header[k] for k in texts if table.header[k] not in (*needed, *aside)]
    if not names:
        raise UserError(f"{key}={file}: no column of numbers among {printable(', '.join(table.header))[:200]}")
    if left:
        warn(f"{key}={file}: {printable(', '.join(left))[:200]}: no numbers there, left out")
    values = coordinates(table, names, file, key)
    return {name: values[:, k] for k, name in enumerate(names)}
