"""`kanpinn plot RUN [-o DIR]`: the figures of a run, drawn again from its solution file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE, UserError


def run(argv: Sequence[str]) -> int:
    """Draw the figures and print their paths; raises UserError if the path is not a run."""
    parser = Parser(prog="kanpinn plot", description="Draw solution, reference, error and loss history as PNG.")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder or its solution.h5")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the figures (default RUN/figures)")
    arguments = parser.parse_args(argv)
    file = arguments.run / "solution.h5" if arguments.run.is_dir() else arguments.run
    if not file.is_file():
        raise UserError(f"{arguments.run}: not a run; expected a run folder with solution.h5 in it, or that file.")
    folder = arguments.output or file.parent / "figures"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: this is a file; expected a folder for the figures.")
    from kanpinn.io.solution import read_solution
    from kanpinn.plots import plot_all

    for path in plot_all(read_solution(file), folder) or []:
        print(path)
    return EXIT_DONE
