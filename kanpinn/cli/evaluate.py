"""`kanpinn evaluate RUN --points FILE.csv [-o OUT.csv]`: the trained network at the user's own points."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from kanpinn.cli.main import STORED, Parser
from kanpinn.cli.screen import fault
from kanpinn.errors import EXIT_DONE, UserError, complain, printable
from kanpinn.options import decimal

if TYPE_CHECKING:
    import numpy as np


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


def run(argv: Sequence[str]) -> int:
    """Evaluate and write a CSV file; raises UserError if the run or the points are not what is needed."""
    parser = Parser(prog="kanpinn evaluate", description="Evaluate a run's network at the points of a CSV file.")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--points", type=Path, required=True, metavar="FILE.csv", help="one column per coordinate")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.csv", help="where to write (default: to the screen)")
    parser.add_argument("--stored", **STORED)
    arguments = parser.parse_args(argv)
    table = read_table(arguments.points)

    from kanpinn.api import load
    from kanpinn.solution import within_box

    solution = load(arguments.run, stored=arguments.stored)
    domain = solution.problem.domain
    points = coordinates(table, domain.names, arguments.points)
    within_box(domain, points, lambda n: f"--points={arguments.points}: line {table.lines[n]}")
    values = solution(points)
    taken = [name for name in values if name in table.header]
    if taken:
        raise UserError(f"{arguments.points}: column '{taken[0]}' would be written twice; rename it in the header.")
    if solution.end is not None:
        late = sum(math.isnan(value) for value in next(iter(values.values())))
        if late:
            told = f"{late} of {len(points)} points lie in time slabs that the run did not begin (t ≥ {solution.end:g})"
            complain("warning", UserError(f"{told}; their values are nan."))
    text = written(table, values)
    if arguments.output is None:
        print(text, end="")
        lost = fault()
        if lost is not None:
            raise UserError(f"stdout: {lost.strerror}; the table is not whole")
    else:
        _save(arguments.output, text)
    return EXIT_DONE


def read_table(file: Path) -> Table:
    """Read the header and rows of a CSV file; blank lines are skipped.

    Raises:
        UserError: If it cannot be read, is empty, or a row has too many or too few cells.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(_lines(stream, file))
            read = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except UserError:
        raise
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a text file in CSV format"
        raise UserError(f"--points={file}: {reason}; expected a CSV file.") from error
    if len(read) < 2:
        raise UserError(f"--points={file}: no points in it; expected a header such as x,y and one point per line.")
    header = read[0][1]
    for line, row in read[1:]:
        if len(row) != len(header):
            raise UserError(f"--points={file}: line {line} has {len(row)} cells; expected {len(header)}.")
    return Table(header, [row for _, row in read[1:]], [line for line, _ in read[1:]])


def _lines(stream: TextIO, file: Path) -> Iterator[str]:
    """The lines of a file; raises UserError where one of them, or their number or sum, is longer than any table."""
    total = count = 0
    while line := stream.readline(LONGEST_LINE + 1):
        total, count = total + len(line), count + 1
        if len(line) > LONGEST_LINE:
            raise UserError(
                f"--points={file}: line {count} has more than {LONGEST_LINE:,} letters; expected one point."
            )
        if total > MOST_LETTERS or count > MOST_LINES:
            raise UserError(
                f"--points={file}: more than {MOST_LINES:,} lines or 100 MB; expected several smaller files."
            )
        yield line


def coordinates(table: Table, names: Sequence[str], file: Path) -> np.ndarray:
    """The coordinate columns of a table, in any order, as points `[N, d]` in the domain's order.

    Raises:
        UserError: If a column is missing or there twice, or a cell is not a finite number.
    """
    import numpy as np

    for name in names:
        if table.header.count(name) != 1:
            fault = "missing" if name not in table.header else "there twice"
            marks = [mark for mark in (";", "\t", "|") if mark in table.header[0]]
            commas = f", with commas between, not {marks[0]!r}" if marks else ""
            raise UserError(
                f"--points={file}: column '{name}' is {fault}; found {printable(', '.join(table.header))[:200]}; "
                f"expected the columns {', '.join(names)}{commas}."
            )
    points = np.empty((len(table.rows), len(names)))
    for k, name in enumerate(names):
        column = table.header.index(name)
        for n, row in enumerate(table.rows):
            points[n, k] = decimal(row[column])
            if math.isnan(points[n, k]):
                raise UserError(
                    f"--points={file}: line {table.lines[n]}: {name}={row[column]!r}: expected a finite number "
                    "in decimal digits, such as -1.5e-3."
                )
    return points


def written(table: Table, values: Mapping[str, np.ndarray]) -> str:
    """The table with one more column per unknown, in 17 significant digits, which give back the same float64."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*table.header, *values])
    for n, row in enumerate(table.rows):
        writer.writerow([*row, *(f"{float(column[n]):.17g}" for column in values.values())])
    return stream.getvalue()


def _save(file: Path, text: str) -> None:
    from kanpinn.io.atomic import write_text

    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            file.write_text(text, encoding="utf-8")  # /dev/stdout, or a pipe
        else:
            write_text(file.resolve(), text)  # through a link to its file
    except OSError as error:
        raise UserError(f"-o {file}: {error.strerror or error}; expected a file that can be written.") from error
