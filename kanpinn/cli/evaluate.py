"""`kanpinn evaluate RUN --points FILE.csv [-o OUT.csv]`: the trained network at the user's own points."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kanpinn.cli.main import STORED, Parser
from kanpinn.cli.screen import fault
from kanpinn.errors import EXIT_DONE, UserError, complain
from kanpinn.io.atomic import check_replaceable, write_text
from kanpinn.io.table import Table as TextTable
from kanpinn.io.table import coordinates, read_table

if TYPE_CHECKING:
    import numpy as np


def run(argv: Sequence[str]) -> int:
    """Evaluate and write a CSV file; raises UserError if the run or the points are not what is needed."""
    parser = Parser(prog="kanpinn evaluate", description="Evaluate a run's network at the points of a CSV file.")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--points", type=Path, required=True, metavar="FILE.csv", help="one column per coordinate")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.csv", help="where to write (default: to the screen)")
    parser.add_argument("--stored", **STORED)
    arguments = parser.parse_args(argv)
    check_replaceable("-o", arguments.output, ".csv", ".txt")
    table = read_table(arguments.points)

    from kanpinn.api import load
    from kanpinn.pde.table import Table
    from kanpinn.solution import within_box

    solution = load(arguments.run, stored=arguments.stored)
    domain = solution.problem.domain
    fit = solution.problem if isinstance(solution.problem, Table) else None
    named = replace(table, header=[fit.names.get(name, name) for name in table.header]) if fit else table
    points = coordinates(named, domain.names, arguments.points)
    within_box(domain, points, lambda n: f"--points={arguments.points}: line {table.lines[n]}")
    values: dict[str, np.ndarray] = solution(points)
    if fit:
        values = fit.decoded(values)
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


def written(table: TextTable, values: Mapping[str, np.ndarray]) -> str:
    """The table with one more column per unknown, in 17 significant digits, which give back the same float64."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*table.header, *values])
    for n, row in enumerate(table.rows):
        writer.writerow([*row, *(_cell(column[n]) for column in values.values())])
    return stream.getvalue()


def _cell(value: float | str) -> str:
    """A number in 17 significant digits; the name of a class as it is."""
    return value if isinstance(value, str) else f"{float(value):.17g}"


def _save(file: Path, text: str) -> None:
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            file.write_text(text, encoding="utf-8")  # /dev/stdout, or a pipe
        else:
            write_text(file.resolve(), text)  # through a link to its file
    except OSError as error:
        raise UserError(f"-o {file}: {error.strerror or error}; expected a file that can be written.") from error
