"""What a solve shows while it runs and when it is done."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kanpinn.io.atomic import write_text
from kanpinn.multilevel import Stage
from kanpinn.solver.history import LevelRecord, Progress

LARGEST_LOG = 16 * 2**20
"""Bytes of an earlier log that are kept."""


def warn(text: str) -> None:
    """Say on stderr, in one line, what a solve could not do though it goes on."""
    print(f"kanpinn: warning: {text}", file=sys.stderr, flush=True)


class RunLog:
    """Lines of log.txt, those of earlier processes too; rewritten in one atomic step whenever lines are added.

    Attributes:
        lines: Everything logged so far.
        failed: Whether some of it could not be written; the next lines are tried again, with all before them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = _last_lines(path) if path.is_file() else []
        self.failed = False

    def add(self, *lines: str) -> None:
        """Add lines and write the file; if it cannot be written, say so once and let the solve go on."""
        self.lines += lines
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


class StageBar:
    """A progress bar for one stage: level, loss, error and the seconds left."""

    def __init__(self, stage: Stage, grid: int | None, *, show: bool) -> None:
        name = f"level {stage.level}" + (f" (grid {grid})" if grid else "")
        if stage.trial is not None:
            name += f" start {stage.trial + 1}"
        self.bar = tqdm(
            total=stage.steps,
            desc=name,
            disable=not show,
            file=sys.stderr,
            leave=stage.trial is None,
            bar_format="{desc:<22}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            mininterval=0.2,
        )

    def tell(self, progress: Progress) -> None:
        """Show one step."""
        text = f"loss {progress.loss:.2e}"
        if progress.error is not None:
            text += f", rel. L2 {progress.error:.2e}"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(progress.step - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain text table, columns right-aligned but the first."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("─" * w for w in widths), *(line(row) for row in rows)])


def _number(value: float | None, style: str = ".2e") -> str:
    return "–" if value is None or math.isnan(value) else format(value, style)


def summary(levels: Sequence[LevelRecord], metrics: dict[str, Any], message: str, folder: Path) -> str:
    """The closing table: what each level reached, the final errors, the status with advice, and where it all is."""
    names = list((metrics["relative_l2"] or {}).keys())
    errors = [f"rel. L2 {n}" for n in names]
    corrected = any(r.correction is not None for r in levels)
    extra = ["correction"] if corrected else []
    many = any(r.slab for r in levels)
    header = [
        *(["slab"] if many else []),
        "level",
        "grid",
        "parameters",
        "steps",
        "loss",
        *errors,
        *extra,
        "transfer gap",
        "seconds",
    ]
    rows = []
    for r in levels:
        reached = [_number(r.loss), *(_number((r.relative_l2 or {}).get(n)) for n in names)]
        grid = "–" if r.grid is None else str(r.grid)
        cost = [_number(r.correction, ".2g")] if corrected else []
        cost += [_number(r.transfer_gap, ".0e"), f"{r.wall_time_s:.1f}"]
        rows.append(
            [*([str(r.slab)] if many else []), str(r.level), grid, str(r.parameters), str(r.steps), *reached, *cost]
        )
    lines = [table(header, rows), ""]
    if corrected:
        lines[1:1] = ["correction: length at which the coarse correction was added, 0 where it was refused"]
    for n in names:
        lines.append(f"{n}: relative L2 error {metrics['relative_l2'][n]:.2e}, largest error {metrics['linf'][n]:.2e}")
    if not names:
        lines.append("no reference: errors not measured")
        for n, estimate in (metrics.get("error_estimate") or {}).items():
            lines.append(
                f"{n}: relative L2 change from the last level but one {estimate:.2e}, an estimate of the error"
            )
    lines.append(f"status: {metrics['status']}" + (f" ({message})" if message else ""))
    lines.append(f"time:   {metrics['wall_time_s']:.1f} s of training")
    lines.append(f"folder: {folder}")
    return "\n".join(lines)
