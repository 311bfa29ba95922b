"""`kanpinn plot RUN [-o DIR] [--times T,…] [--animate]`: the figures of a run, drawn again from its solution file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser, number, whole
from kanpinn.errors import EXIT_DONE, UserError


def run(argv: Sequence[str]) -> int:
    """Draw the figures and print their paths; raises UserError if the path is not a run or a time not one of its."""
    parser = Parser(prog="kanpinn plot", description="Draw everything a run can show as PNG.")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder or its solution.h5")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the figures (default RUN/figures)")
    parser.add_argument("--times", type=numbers, metavar="T,T,…", help="cut an evolution at these times")
    parser.add_argument("--animate", action="store_true", help="also write an evolution as an animated GIF")
    parser.add_argument("--dpi", type=_dpi, default=160, help="dots per inch (default 160)")
    arguments = parser.parse_args(argv)
    file = solution_file(arguments.run)
    folder = arguments.output or file.parent / "figures"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: this is a file; expected a folder for the figures.")
    from kanpinn.io.solution import read_solution
    from kanpinn.plots import animate, plot_all

    data, times = read_solution(file), arguments.times
    if times and "t" not in data.coordinates:
        raise UserError(f"--times: {data.problem} has no time; its coordinates are {', '.join(data.coordinates)}.")
    if arguments.animate and (data.axes[0] != "t" or len(data.axes) < 2):
        raise UserError(f"--animate: {data.problem} does not evolve in time; expected a problem with t and space.")
    for path in plot_all(data, folder, arguments.dpi, times):
        print(path)
    if arguments.animate:
        for path in animate(data, folder, min(100, arguments.dpi)):
            print(path)
    return EXIT_DONE


def solution_file(run: Path) -> Path:
    """The solution file of a run, given its folder or that file.

    Raises:
        UserError: If there is none.
    """
    file = run / "solution.h5" if run.is_dir() else run
    if not file.is_file():
        raise UserError(f"{run}: not a run; expected a run folder with solution.h5 in it, or that file.")
    return file


def numbers(text: str) -> list[float]:
    """Read "0.25,0.5"; raises ArgumentTypeError, which becomes a UserError, unless all are decimal numbers."""
    return [number(word.strip()) for word in text.split(",")]


def _dpi(text: str) -> int:
    """Read dots per inch; raises ArgumentTypeError unless 20 … 1200."""
    if not 20 <= whole(text) <= 1200:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 20 to 1200")
    return whole(text)
