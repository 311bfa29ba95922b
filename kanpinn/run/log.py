"""Log of a run: log.txt in its folder."""

from __future__ import annotations

from pathlib import Path

from kanpinn.errors import warn
from kanpinn.io.atomic import write_text

LARGEST_LOG = 16 * 2**20
"""Bytes of an earlier log that are kept."""


class RunLog:
    """Lines of log.txt, those of earlier processes too; rewritten in one atomic step whenever lines are added.

    Attributes:
        lines: Everything logged so far.
        failed: True if some of it could not be written; the next lines are tried again, with all before them.
    """

    def __init__(self, path: Path | None) -> None:
        """Go on with the file's lines, if there is one; without a path they are only kept."""
        self.path = path
        self.lines = _last_lines(path) if path is not None and path.is_file() else []
        self.failed = False

    def add(self, *lines: str) -> None:
        """Add lines and write the file; if it cannot be written, say so once and let the solve go on."""
        self.lines += lines
        if self.path is None:
            return
        try:
            self.path.parent.stat()  # a run folder that somebody has removed is not made anew for a log
            write_text(self.path, "\n".join(self.lines) + "\n")
        except OSError as error:
            if not self.failed:
                warn(f"{self.path}: {error.strerror}; the log is not written, the solve goes on")
            self.failed = True


def _last_lines(path: Path) -> list[str]:
    """The lines of a text, or those in its last `LARGEST_LOG` bytes; bytes that are no UTF-8 show as such."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - LARGEST_LOG))
        lines = file.read(LARGEST_LOG).decode(errors="replace").splitlines()
    return lines if size <= LARGEST_LOG else [f"… the first {size - LARGEST_LOG} bytes are left out", *lines[1:]]
