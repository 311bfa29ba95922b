"""Entry point: choose the command, and turn every outcome into an exit code."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import kanpinn
from kanpinn.cli.screen import fault, open_streams
from kanpinn.errors import (
    EXIT_DONE,
    EXIT_SOLVE_FAILED,
    EXIT_USER_ERROR,
    DivergedError,
    Interrupted,
    KanpinnWarning,
    UserError,
    complain,
    say,
)
from kanpinn.options import decimal

COMMANDS = {
    "solve": "solve one problem, or a sweep of them with -m",
    "fit": "fit a network to a table of data",
    "resume": "go on with a run that was stopped or killed",
    "tune": "search for the best config",
    "inspect": "show what a run folder or an HDF5 file holds",
    "plot": "draw the figures of a run",
    "compare": "show runs side by side, and error against seconds",
    "report": "write one HTML page of a run or of a sweep",
    "evaluate": "evaluate a run's network at the points of a CSV file",
    "list": "list what can be chosen",
    "new": "write a problem file to start from",
    "explain": "say what a network has learned: what matters, how it splits, a drawing",
    "prune": "take out what a network can do without, and train on",
    "symbolic": "look for the solution in closed form",
}
"""Commands by name, each a module `kanpinn.cli.<name>` with `run(arguments) -> int`; and what they do."""

STORED: dict[str, Any] = {
    "action": argparse.BooleanOptionalAction,
    "help": "run the problem's program stored in the run, even if ./problems has a file of that name; or never run it "
    "(default: if ./problems has none)",
}
"""The option `--stored` of commands that need a run's problem."""

BEGUN = "kanpinn.run.run"
"""A module that is at work once there is something to take back."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are user errors of one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint instead of printing the usage and leaving."""
        raise UserError(f"{message} (see {self.prog} --help)")


def number(text: str) -> float:
    """Read an argument that is a decimal number; raises ArgumentTypeError, which becomes a UserError."""
    value = decimal(text)
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text}: expected a finite number in decimal digits, such as 1e-3")
    return value


def whole(text: str) -> int:
    """Read an argument that is a whole number; raises ArgumentTypeError, which becomes a UserError."""
    if not re.fullmatch("[-+]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text[:40]}: expected a whole number")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 wrong input, 3 diverged, 128 + n interrupted by signal n."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", KanpinnWarning)
            show = warnings.showwarning
            warnings.showwarning = lambda message, kind, *place: (
                complain("warning", message) if issubclass(kind, KanpinnWarning) else show(message, kind, *place)
            )
            return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        complain("error", error)
        return EXIT_USER_ERROR
    except DivergedError as error:
        complain("diverged", error)
        return EXIT_SOLVE_FAILED
    except Interrupted as error:
        return 128 + error.signal
    except KeyboardInterrupt:
        say("kanpinn: interrupted", error=True)
        return 130
    except OSError as error:
        complain("error", UserError(f"{error.filename}: {error.strerror}" if error.filename else str(error)))
        return EXIT_USER_ERROR
    except MemoryError as error:
        complain("error", UserError(f"not enough memory ({error})" if str(error) else "not enough memory"))
        return EXIT_USER_ERROR


def script() -> NoReturn:
    """The installed command."""
    signal.signal(signal.SIGINT, _leave)
    open_streams()
    try:
        code = main()
    except SystemExit as end:  # of a parser that has printed its help
        code = end.code
    except KeyboardInterrupt:  # before or after `main` minds it
        code = 130
    lost = fault()
    if lost is not None and code == EXIT_DONE:
        complain("warning", f"stdout: {lost.strerror}; some of what was printed is lost")
    sys.exit(code)


def _leave(_: int, frame: FrameType | None) -> NoReturn:
    """Leave at once in the middle of an import before any work; later let every block take back what it has begun."""
    names = []
    while frame is not None:
        names.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    if BEGUN in names or "importlib._bootstrap" not in names:
        raise KeyboardInterrupt
    with contextlib.suppress(OSError):
        os.write(2, b"kanpinn: interrupted, before anything was begun\n")
    os._exit(130)


def _dispatch(argv: list[str]) -> int:
    parser = Parser(
        prog="kanpinn",
        description="Physics-informed Kolmogorov-Arnold networks, trained level by level on exactly nested splines.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
        + "\n\n`kanpinn COMMAND --help` tells more. First try: kanpinn solve problem=poisson",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="what to do, see below")
    # Only what stands before the command is parsed here; the rest is the command's own.
    position = next((k for k, word in enumerate(argv) if not word.startswith("-")), len(argv))
    arguments = parser.parse_args(argv[: position + 1])
    if arguments.version:
        print(f"kanpinn {kanpinn.__version__}")
        return EXIT_DONE
    if arguments.command is None:
        parser.print_help()
        return EXIT_DONE if not argv else EXIT_USER_ERROR
    if arguments.command not in COMMANDS:
        from kanpinn.errors import unknown_choice

        raise unknown_choice("command", arguments.command, COMMANDS)
    return importlib.import_module(f"kanpinn.cli.{arguments.command}").run(argv[position + 1 :])
