"""Finished runs as rows of a CSV file: frozen dataclasses of int, float, str and float | None in and out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from kanpinn.io.atomic import write_text

Row = TypeVar("Row")
_CONVERT: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "float | None": lambda text: float(text) if text else None,
}


def read(path: Path, cls: type[Row]) -> list[Row]:
    """The rows of a CSV file, oldest first; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {item.name: _CONVERT[str(item.type)] for item in fields(cls)}
    return [cls(**{name: convert(row[name]) for name, convert in columns.items()}) for row in rows]


def write(path: Path, cls: type[Row], rows: Iterable[Row]) -> None:
    """Write rows to a CSV file, in one atomic step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(cls)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def append(path: Path, row: Any) -> None:
    """Add one row to a CSV file, in one atomic step."""
    write(path, type(row), [*read(path, type(row)), row])
