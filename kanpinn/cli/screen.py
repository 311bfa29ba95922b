"""Screen of a command: standard streams that take any text and cannot fail, so that they decide about nothing."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

_PATIENCE_S = 10.0
"""Seconds that a reader which does not want to be waited for is waited for."""


class _Stream(io.RawIOBase):
    """Standard stream whose faults are kept, not raised.

    Attributes:
        fault: The last one, None before any; a reader that has gone is none.
    """

    def __init__(self, text: Any) -> None:
        self.fault: OSError | None = None
        self._text = text  # kept, or its end would close the descriptor
        self._raw = getattr(text.buffer, "raw", text.buffer)

    def write(self, data: Any, /) -> int:
        """Write some bytes; those that find no place count as written."""
        try:
            written = self._raw.write(data)
            if written is None:  # a pipe that is full, and set to refuse rather than to wait
                select.select([], [self._raw], [], _PATIENCE_S)
                written = self._raw.write(data)
        except BrokenPipeError:
            written = None
        except OSError as error:
            self.fault, written = error, None
        return len(data) if written is None else written

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()


def open_streams() -> None:
    """Put streams that cannot fail in the place of stdout and stderr, and an empty device in that of a closed one.

    Otherwise the next file opened would get its number, and all that is printed there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8"))  # noqa: SIM115
    sys.stdout, sys.stderr = _sturdy(sys.stdout), _sturdy(sys.stderr)


def _sturdy(stream: Any) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_Stream(stream))
    lines, through = stream.line_buffering, stream.write_through
    return io.TextIOWrapper(buffer, stream.encoding, "replace", line_buffering=lines, write_through=through)


def fault() -> OSError | None:
    """Return why some of what was printed on stdout has found no place; None if it has, or if its reader has gone."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Stream):
        return None
    sys.stdout.flush()
    return raw.fault
