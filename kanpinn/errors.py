"""Errors a user can cause, each one clear line, and the exit codes that go with them."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)
"""Texts that read as numbers."""

EXIT_DONE = 0
EXIT_USER_ERROR = 2
EXIT_SOLVE_FAILED = 3


class UserError(ValueError):
    """The input is wrong; the message is one line that says what to change."""


class UndeterminedError(UserError):
    """The data do not determine a coefficient that was to be found, which only the solve has shown.

    Attributes:
        solution: That of the solve, whose results are all written.
    """

    def __init__(self, message: str, solution: Any = None) -> None:
        super().__init__(message)
        self.solution = solution


class KanpinnWarning(UserWarning):
    """Something the user should know though the command goes on; the message is one line."""


_HEARD: ContextVar[tuple[list[str], ...]] = ContextVar("heard", default=())


def caution(text: str, stacklevel: int = 2) -> None:
    """Give a `KanpinnWarning`; whoever gathers them by `heard` has its text too."""
    for texts in _HEARD.get():
        texts.append(text)
    try:
        warnings.warn(text, KanpinnWarning, stacklevel=stacklevel + 1)
    except KanpinnWarning:  # where the caller makes errors of warnings
        raise
    except Exception:
        pass


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Gather the texts of cautions given meanwhile in this thread, as for a log that is not open yet."""
    texts: list[str] = []
    token = _HEARD.set((*_HEARD.get(), texts))
    try:
        yield texts
    finally:
        _HEARD.reset(token)


class DivergedError(RuntimeError):
    """The optimisation left the finite numbers; the message says at which step.

    Attributes:
        solution: The best state so far, where a whole solve has ended so.
    """

    def __init__(self, message: str, solution: Any = None) -> None:
        super().__init__(message)
        self.solution = solution


class Interrupted(KeyboardInterrupt):
    """A signal stopped the run after its state was written; not an Exception, so that no loop goes on by accident.

    Attributes:
        signal: The number of the signal, 2 for SIGINT or 15 for SIGTERM.
        solution: The state reached.
    """

    def __init__(self, signal: int, solution: Any = None) -> None:
        super().__init__(f"interrupted by signal {signal}")
        self.signal, self.solution = int(signal), solution


def shown(value: Any) -> str:
    """A value as it is written in a config: null, true, [5,5], ['5']."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_entry, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_entry(item)}" for key, item in value.items()) + "}"
    return str(value)


def needed(package: str, who: str, extra: str) -> Any:
    """Import a library that comes with an extra; raises UserError with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"{who} needs {package}: pip install 'kanpinn[{extra}]'") from error


def _entry(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) and DECIMAL.fullmatch(value) else shown(value)


def unknown_choice(key: str, value: object, choices: Iterable[object]) -> UserError:
    """Build the error for a value that is not among the valid ones, nearest valid one first."""
    names = sorted(str(choice) for choice in choices)
    nearest = [name for name in difflib.get_close_matches(str(value), names, n=1, cutoff=0.5) if name != str(value)]
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return UserError(f"{key}={_short(value)}: unknown.{hint} Valid choices: {', '.join(names)}.")


def invalid(key: str, value: object, expected: str) -> UserError:
    """Build the error for a value of the wrong type or range; `expected` says in words what is valid."""
    return UserError(f"{key}={_short(value)}: expected {expected}.")


def _short(value: object) -> str:
    return shown(value).replace("\n", " ")[:80]


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def complain(kind: str, error: BaseException | str) -> None:
    """Print one line on stderr, whatever line breaks the message has."""
    say(f"kanpinn: {kind}: {printable(' '.join(str(error).split()))}", error=True)


def printable(text: str) -> str:
    """Return a text without control characters, by which a file could steer the terminal; line breaks stay."""
    return "".join(letter if letter == "\n" or letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def nearest(key: str, valid: Iterable[str], others: Iterable[str] = ()) -> str | None:
    """The full dotted key most like `key`, or None if none is alike.

    Valid are last parts in its place; others are full dotted keys elsewhere, for a key written in the wrong place, and
    count a little less.
    """
    prefix, dot, last = key.rpartition(".")
    scored = [(_likeness(last, name), f"{prefix}{dot}{name}") for name in valid]
    scored += [(0.95 * _likeness(last, other.rpartition(".")[2]), other) for other in others if other != key]
    score, best = max(scored, default=(0.0, ""))
    return best if score >= 0.6 else None


def _likeness(word: str, other: str) -> float:
    return difflib.SequenceMatcher(None, word.lower(), other.lower()).ratio()


def unknown_key(key: str, value: Any, valid: Iterable[str], others: Iterable[str] = ()) -> UserError:
    """Build the error for a full dotted key that does not exist, nearest valid one first.

    Valid keys are those in its place, without the dotted prefix; others full dotted keys elsewhere in the config, for
    a key written in the wrong place.
    """
    prefix = key.rpartition(".")[0]
    names = sorted(valid)
    hint = nearest(key, names, others)
    advice = f" Did you mean '{hint}'?" if hint else ""
    listed = f" Valid keys{' of ' + prefix if prefix else ''}: {', '.join(names)}." if names else ""
    return UserError(f"{key}={shown(value)[:80]}: unknown key.{advice}{listed}")


def say(text: str = "", *, error: bool = False) -> None:
    """Print a text on stdout or stderr, as far as there is one that takes it; letters it lacks are replaced."""
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # A closed pipe, a full device or a window that is gone must not decide what is computed.
    with contextlib.suppress(Exception):
        stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        stream.flush()


def warn(text: str) -> None:
    """Say on stderr, in one line, what a solve could not do though it goes on."""
    say(f"kanpinn: warning: {text}", error=True)
