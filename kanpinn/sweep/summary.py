"""The tables of a sweep: `summary.csv`, `summary.md` and `summary.h5`, one row per job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanpinn.compare.comparison import cell, csv_text
from kanpinn.errors import EXIT_USER_ERROR
from kanpinn.io.metrics import metrics_of, undetermined
from kanpinn.sweep.ledger import Job, Ledger

SCHEMA = "kanpinn-sweep"
NAMES = ("problem", "backbone", "schedule", "optimizer", "seed")
NUMBERS = ("parameters", "loss")
COSTS = ("work", "wall_time_s")
TEXTS = ("folder", "status", "flags", "reason", "problem", "backbone", "schedule", "optimizer")
"""Columns that are text even where all cells look like numbers, or are empty."""
_STATES = {"waiting": "missing", "running": "running", "killed": "killed"}
_CODES = {0: "done", 2: "refused", 3: "diverged"}


def write_summary(ledger: Ledger) -> list[Job]:
    """Write the three files, each in one atomic step, and return the sweep's jobs."""
    jobs = ledger.jobs()
    save(ledger.folder, *table(ledger.folder, jobs, ledger.swept))
    return jobs


def save(folder: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table as `summary.csv`, `summary.md` and `summary.h5`, each in one atomic step."""
    from kanpinn.io.atomic import write_text

    write_text(folder / "summary.csv", csv_text(header, rows))
    write_text(folder / "summary.md", markdown(header, rows))
    _write_hdf5(folder / "summary.h5", header, rows)


def table(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Return the summary's column names and one row per job: texts, numbers, None where there is nothing.

    Keys that differ among jobs are added to those swept.
    """
    pairs = [job.pairs for job in jobs]
    keys = list(swept)
    for key in dict.fromkeys(key for pair in pairs for key in pair):
        if key not in keys and len({pair.get(key) for pair in pairs}) > 1:
            keys.append(key)
    found = [metrics(folder, job) for job in jobs]
    names = [name for name in NAMES if name not in keys]
    unknowns = list(dict.fromkeys(u for m in found for norm in ("relative_l2", "linf") for u in m.get(norm) or {}))
    errors = [(norm, u) for u in unknowns for norm in ("relative_l2", "linf")]
    rows = [
        [
            job.number,
            job.folder,
            status(job, m),
            ",".join(dict.fromkeys(flag["kind"] for flag in m.get("warnings") or [])),
            job.reason,
            *(pair.get(key) for key in keys),
            *(m.get(name, pair.get(name, job.chosen.get(name))) for name in names),
            *(m.get(name) for name in NUMBERS),
            *((m.get(norm) or {}).get(u) for norm, u in errors),
            *(m.get(name) for name in COSTS),
        ]
        for job, pair, m in zip(jobs, pairs, found, strict=True)
    ]
    measured = [*NUMBERS, *(f"{norm}_{u}" for norm, u in errors), *COSTS]
    return ["job", "folder", "status", "flags", "reason", *keys, *names, *measured], rows


def metrics(folder: Path, job: Job) -> dict[str, Any]:
    """Return the content of a job's metrics.json, {} if it has none of its own."""
    found = metrics_of(folder / job.folder)
    if job.state == "ended" and job.code == EXIT_USER_ERROR and not job.reason.startswith(undetermined(found) or "\n"):
        return {}  # refused: what lies in the folder is somebody else's
    return found


def status(job: Job, found: dict[str, Any]) -> str:
    """Return that of metrics.json, or `refused`, `crashed`, `killed`, `running` or `missing`."""
    if job.state != "ended":
        return _STATES[job.state]
    if job.code is not None and job.code >= 128:
        return "interrupted"
    return str(found.get("status") or _CODES.get(job.code or 0, "crashed"))


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, numbers rounded to four digits; columns of flags and reasons only where there are some."""
    kept = [k for k, name in enumerate(header) if name not in ("flags", "reason") or any(row[k] for row in rows)]
    lines = [[header[k] for k in kept], ["---"] * len(kept)]
    lines += [[_rounded(cell(row[k])) for k in kept] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rounded(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text.replace("|", "\\|")
    return text if number.is_integer() or not math.isfinite(number) else f"{number:.4g}"


def _write_hdf5(file: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """One dataset `[jobs]` per column, all along the dimension scale `job`; numbers as float64, NaN for none."""
    from kanpinn.io.arrays import write_array
    from kanpinn.io.hdf5 import new_file

    with new_file(file, SCHEMA) as out:
        scale = write_array(out, "job", np.array([row[0] for row in rows], dtype=np.int64))
        scale.make_scale("job")
        for k, name in enumerate(header[1:], start=1):
            cells = [row[k] for row in rows]
            write_array(out, name, _texts(cells) if name in TEXTS else _column(cells), [scale])


def _column(cells: Sequence[Any]) -> np.ndarray:
    """Cells `[jobs]` as float64, NaN where there is none, if all of them are numbers; else as text."""
    try:
        numbers = [math.nan if cell is None else float(cell) for cell in cells]
    except ValueError:
        return _texts(cells)
    return np.array(numbers)


def _texts(cells: Sequence[Any]) -> np.ndarray:
    return np.array([cell(each) for each in cells], dtype=object)
