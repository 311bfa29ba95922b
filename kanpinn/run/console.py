"""Terminal of a solve: lines, warnings, progress bars and tables that can never fail a run."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from kanpinn.errors import say
from kanpinn.multilevel import Stage
from kanpinn.solver.history import LevelRecord, Progress

PAUSE_S, SHORT_PAUSE_S = 10.0, 3.0
"""Seconds between two lines of progress where there is no bar; and before the first one, or one at a level's end."""


class StageView(Protocol):
    """Display of one stage while it is trained."""

    def tell(self, progress: Progress) -> None:
        """Show one step."""

    def close(self) -> None:
        """Leave the display as it is."""


def stage_view(stage: Stage, grid: int | None, last: StageView | None = None, *, show: bool) -> StageView:
    """Return the display that suits stderr, after the last stage's: a bar if it can be drawn anew, else lines."""
    name = f"level {stage.level}" + (f" (grid {grid})" if grid else "")
    if stage.trial is not None:
        name += f" start {stage.trial + 1}"
    if not show or sys.stderr is None or os.environ.get("TQDM_DISABLE", "0").lower() not in ("", "0", "false"):
        return StageLines(stage, name, math.inf)
    with contextlib.suppress(Exception):  # a stream of someone's own that is less than a file
        if _in_notebook():
            if importlib.util.find_spec("ipywidgets") is not None:
                return StageBar(stage, name, widgets=True)
        elif sys.stderr.isatty():
            return StageBar(stage, name)
    said = last.said if isinstance(last, StageLines) else time.monotonic() + SHORT_PAUSE_S - PAUSE_S
    return StageLines(stage, name, said)


def _in_notebook() -> bool:
    """Tell whether this is the process of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _reached(progress: Progress) -> str:
    """The loss and the error of a step."""
    error = progress.error
    return f"loss {progress.row['loss']:.2e}" + ("" if error is None else f", rel. L2 {error:.2e}")


class StageBar:
    """Progress bar of one stage: level, loss, error and the seconds left."""

    def __init__(self, stage: Stage, name: str, *, widgets: bool = False) -> None:
        bar: Any = tqdm
        options: dict[str, Any] = {"file": sys.stderr}
        if widgets:
            from tqdm.notebook import tqdm as bar

            options = {}
        else:
            options["bar_format"] = (
                "{desc:<22}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            )
        self.bar = bar(total=stage.steps, desc=name, leave=stage.trial is None, mininterval=0.2, **options)

    def tell(self, progress: Progress) -> None:
        """Show one step."""
        with contextlib.suppress(Exception):
            self.bar.set_postfix_str(_reached(progress), refresh=False)
            self.bar.update(progress.step - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        with contextlib.suppress(Exception):
            self.bar.close()


class StageLines:
    """Progress of one stage as a line every so often.

    Attributes:
        said: When the last line was printed, by the monotonic clock.
    """

    def __init__(self, stage: Stage, name: str, said: float) -> None:
        self.said = said
        self._name, self._steps = name, stage.steps
        self._begun, self._last = time.monotonic(), Progress(stage, 0, {})

    def tell(self, progress: Progress) -> None:
        """Print a line if the last one is long ago."""
        self._last = progress
        self._say(self.said + PAUSE_S)

    def close(self) -> None:
        """Print where the stage has ended, unless it has passed in no time."""
        self._say(max(self.said, self._begun) + SHORT_PAUSE_S)

    def _say(self, due: float) -> None:
        if time.monotonic() >= due and self._last.row:
            self.said = time.monotonic()
            reached = f"step {self._last.step} of {self._steps}, {_reached(self._last)}"
            say(f"{self._name}: {reached}", error=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain text table, columns right-aligned but the first."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("─" * w for w in widths), *(line(row) for row in rows)])


def _number(value: float | None, style: str = ".2e") -> str:
    return "–" if value is None or math.isnan(value) else format(value, style)


def summary(levels: Sequence[LevelRecord], metrics: dict[str, Any], message: str, folder: Path | None) -> str:
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
    if "data" in metrics:
        lines += _parts(metrics["data"])
    for n in names if "data" not in metrics else ():
        relative = "undefined" if metrics["relative_l2"][n] is None else f"{metrics['relative_l2'][n]:.2e}"
        lines.append(f"{n}: relative L2 error {relative}, largest error {_number(metrics['linf'][n])}")
    if not names and "data" not in metrics:
        found = ", ".join(metrics.get("coefficients", {}))
        lines.append(f"no reference{f' that is the same for every {found}' if found else ''}: errors not measured")
        trusted, by_levels = metrics["error_estimate_trusted"], metrics["error_estimate_by"] == "levels"
        for n, estimate in (metrics["error_estimate"] or {}).items():
            if by_levels:
                meaning = "an estimate of the error" if trusted else "no estimate of the error (?)"
                lines.append(f"{n}: relative L2 change from the last level but one {_number(estimate)}, {meaning}")
            else:
                lines.append(f"{n}: estimated relative L2 error {_number(estimate)}{'' if trusted else ' (?)'}")
    for n, found in metrics.get("coefficients", {}).items():
        lines.append(f"{n} = {_found(found)}")
    lines.append(f"status: {metrics['status']}" + (f" ({message})" if message else ""))
    if metrics["warnings"]:
        lines.append(f"doubtful: {', '.join(dict.fromkeys(flag['kind'] for flag in metrics['warnings']))}; see below")
    lines.append(f"time:   {metrics['wall_time_s']:.1f} s of training")
    if folder is not None:
        lines.append(f"folder: {folder}")
    return "\n".join(lines)


def _parts(data: Mapping[str, Any]) -> list[str]:
    """Errors of a fit at each part of its table."""
    parts = {part: found for part, found in data.items() if isinstance(found, Mapping)}
    kinds = [("rmse", "rmse", ".2e"), ("r2", "R²", ".6f"), ("accuracy", "accuracy", ".2%")]
    kinds = [kind for kind in [*kinds, ("cross_entropy", "cross-entropy", ".2e")] if kind[0] in data["train"]]
    names = list(data["train"][kinds[0][0]])
    rows = [
        [part, str(found["rows"]), *(_number(found[kind][n], style) for n in names for kind, _, style in kinds)]
        for part, found in parts.items()
    ]
    lines = [table(["part", "rows", *(f"{told} {n}" for n in names for _, told, _ in kinds)], rows)]
    outside = sum(found["outside"] for found in parts.values())
    return [*lines, f"{outside} rows lie outside the box of the training rows: taken at its face"] if outside else lines


def _found(coefficient: Mapping[str, Any]) -> str:
    """A coefficient with its standard deviation and interval."""
    value, std, interval = coefficient["value"], coefficient["std"], coefficient["interval_95"]
    told = f"{value:.6g}" + ("" if coefficient["bound"] is None else ", at its bound")
    if std is None:
        return told + ("" if coefficient["determined"] else " (not determined)")
    open_end = f"; not settled, {coefficient['step']:+.2g} to go" if coefficient["settled"] is False else ""
    return f"{told} ± {std:.2g} (95 %: {interval[0]:.6g} to {interval[1]:.6g}{open_end})"
