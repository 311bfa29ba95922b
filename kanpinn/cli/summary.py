"""The tables of a sweep: `summary.csv` and `summary.md`, one line per job."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATUS = {0: "done", 2: "refused", 3: "diverged"}


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        folder: Its run folder.
        overrides: The values it was started with, by key.
        code: Its exit code.
        message: What went wrong, "" if nothing did.
    """

    folder: Path
    overrides: dict[str, str]
    code: int
    message: str = ""

    def metrics(self) -> dict[str, Any]:
        """What its metrics.json holds, {} where there is none."""
        try:
            content = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def write_summary(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    """Write `summary.csv` and `summary.md`, each in one atomic step.

    Args:
        folder: The sweep's folder.
        jobs: The jobs so far.
        swept: Keys that were given several values; those that differ among jobs are added.
    """
    from kanpinn.io.atomic import write_text

    header, rows = table(jobs, swept)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    write_text(folder / "summary.csv", stream.getvalue())
    write_text(folder / "summary.md", markdown(header, rows))


def table(jobs: Sequence[Job], swept: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The summary as text cells.

    Args:
        jobs: The jobs.
        swept: Keys that were given several values.

    Returns:
        The column names and one row per job; numbers in full precision, empty where there is none.
    """
    keys = list(swept)
    for key in dict.fromkeys(key for job in jobs for key in job.overrides):
        if key not in keys and len({job.overrides.get(key) for job in jobs}) > 1:
            keys.append(key)
    metrics = [job.metrics() for job in jobs]
    unknowns = list(dict.fromkeys(u for m in metrics for norm in _norms(m) for u in m[norm]))
    errors = [(norm, u) for u in unknowns for norm in ("relative_l2", "linf")]
    plain = ["loss", "parameters", "work", "wall_time_s"]
    rows = []
    for job, found in zip(jobs, metrics, strict=True):
        status = "interrupted" if job.code >= 128 else found.get("status", _STATUS.get(job.code, "crashed"))
        cells: list[Any] = [job.folder.name, *(job.overrides.get(key) for key in keys), status]
        cells += [(found.get(norm) or {}).get(u) for norm, u in errors]
        cells += [found.get(name) for name in plain]
        rows.append([_cell(cell) for cell in [*cells, job.message]])
    return ["folder", *keys, "status", *(f"{norm}_{u}" for norm, u in errors), *plain, "message"], rows


def _norms(metrics: dict[str, Any]) -> list[str]:
    return [norm for norm in ("relative_l2", "linf") if isinstance(metrics.get(norm), dict)]


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers rounded to four digits; the column of messages only where there is one."""
    width = len(header) if any(row[-1] for row in rows) else len(header) - 1
    lines = [header[:width], ["---"] * width, *([_rounded(cell) for cell in row[:width]] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rounded(cell: str) -> str:
    try:
        number = float(cell)
    except ValueError:
        return cell.replace("|", "\\|")
    return cell if number.is_integer() else f"{number:.4g}"
