"""Content of the page of a sweep."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kanpinn.compare.comparison import Run, differing, read_run
from kanpinn.errors import UserError
from kanpinn.report.charts import COLOURS, SHAPES, as_number, parallel, scatter
from kanpinn.report.page import Picture, picture

_MANY = 24  # runs whose curves one figure can hold
_GROUPS = ("problem", "backbone", "schedule", "optimizer")
_CHOICES = (*_GROUPS, "seed")
_FIXED = (
    "job", "folder", "status", "flags", "reason", "message", "parameters", "loss", "work", "wall_time_s", *_CHOICES
)  # fmt: skip
_DONE = ("converged", "step_limit", "time_limit")
_ERROR = "relative_l2_"


def is_sweep(folder: Path) -> bool:
    """Say whether a folder holds a sweep's jobs: a summary, or folders of runs."""
    return folder.is_dir() and ((folder / "summary.csv").is_file() or bool(_runs_in(folder)))


def _runs_in(folder: Path) -> list[Path]:
    from kanpinn.io.inspect import is_run

    found = [child for child in folder.iterdir() if child.is_dir() and is_run(child)]
    return sorted(
        found,
        key=lambda child: (not child.name.isdecimal(), int(child.name) if child.name.isdecimal() else 0, child.name),
    )


def sweep_content(folder: Path, base: Path, dpi: int) -> dict[str, Any]:
    """Gather the content of a sweep's page; links to runs start at the folder `base` that it will lie in.

    Raises UserError if the summary or a run's file is damaged.
    """
    jobs, keys = _summarised(folder) if (folder / "summary.csv").is_file() else _collected(folder)
    for job in jobs:
        place = folder / job["folder"] if job["folder"] else None
        there = place is not None and place.is_dir()
        job["href"] = _link(place, base) if there and place is not None else None
        report = place / "report.html" if there and place is not None else None
        job["report"] = _link(report, base) if report is not None and report.is_file() else None
        figures = sorted((place / "figures").glob("solution_*.png")) if there and place is not None else []
        job["figure"] = _link(figures[0], base) if figures else None
        told = [job["keys"].get(key, "") if key in _GROUPS else f"{key}={job['keys'].get(key, '')}" for key in keys]
        job["name"] = ", ".join(told) or str(job["job"])
    several = {key: len({job["keys"].get(key) for job in jobs}) for key in keys}
    shape = "problem" if 1 < several.get("problem", 0) <= len(SHAPES) and len(keys) > 1 else None
    colour = next((key for key in keys if key != shape and several[key] <= COLOURS), None)
    best: list[dict[str, Any]] = []
    for problem in dict.fromkeys(job["problem"] for job in jobs):
        own = [job for job in jobs if job["problem"] == problem and job["error"] is not None and job["status"] in _DONE]
        best += [min(own, key=lambda job: job["error"])] if own else []
    return {
        "folder": folder.resolve().name,
        "path": str(folder),
        "jobs": jobs,
        "keys": keys,
        "unknowns": list(dict.fromkeys(u for job in jobs for u in job["errors"])),
        "states": Counter(job["status"] for job in jobs),
        "done": sum(job["status"] in _DONE for job in jobs),
        "failed": [job for job in jobs if job["reason"]],
        "reasons": _grouped(jobs),
        "best": best,
        "total": sum(job["seconds"] or 0.0 for job in jobs),
        "scatter": scatter(jobs, colour, shape),
        "shape": shape,
        "colour": colour,
        "parallel": parallel(jobs, keys),
        "picture": _curves(folder, jobs, dpi),
    }


def _grouped(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Status and reason of jobs that did not end well with all their jobs, the most frequent first."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for job in jobs:
        if job["reason"]:
            groups.setdefault((job["status"], job["reason"]), []).append(job)
    found = [{"status": status, "reason": reason, "jobs": own} for (status, reason), own in groups.items()]
    return sorted(found, key=lambda group: -len(group["jobs"]))


def _link(target: Path, base: Path) -> str:
    """A relative link, percent-encoded."""
    return quote(os.path.relpath(target.resolve(), base.resolve()).replace(os.sep, "/"))


def _summarised(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The jobs of summary.csv, failed ones included, and the keys that differ."""
    file = folder / "summary.csv"
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [dict(row) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as a CSV file ({' '.join(str(error).split())[:100]}).") from error
    header = list(rows[0]) if rows else []
    swept = [name for name in header if name and name not in _FIXED and not name.startswith((_ERROR, "linf_"))]
    plain = [name for name in _CHOICES if name in header and len({row[name] for row in rows if row[name]}) > 1]
    jobs = [_job(k, row, [*plain, *swept]) for k, row in enumerate(rows)]
    keys = [key for key in [*plain, *swept] if len({job["keys"][key] for job in jobs}) > 1]
    return jobs, keys


def _whole(value: Any) -> int | None:
    found = as_number(value)
    return None if found is None else int(found)


def _collected(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The runs found in a folder without a summary, and the keys that differ."""
    runs = []
    for path in _runs_in(folder):
        try:
            runs.append(read_run(path, history=False))
        except UserError as error:
            runs.append(Run(path, path.name, {"status": "damaged"}, {}, message=str(error)))
    keys = differing(runs)
    rows = [
        {
            **{key: str(run.config.get(key, "")) for key in keys},
            **{f"{_ERROR}{unknown}": value for unknown, value in run.errors().items()},
            **{name: run.metrics.get(name) for name in ("parameters", "loss", "wall_time_s")},
            "folder": run.folder.name,
            "problem": run.problem,
            "status": run.status,
            "flags": run.flags,
            "reason": run.message,
        }
        for run in runs
    ]
    return [_job(k, row, keys) for k, row in enumerate(rows)], keys


def _job(k: int, row: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A job as the page shows it, from its row of the summary."""
    known = {name.removeprefix(_ERROR): as_number(row[name]) for name in row if name.startswith(_ERROR)}
    errors = {unknown: value for unknown, value in known.items() if value is not None}
    return {
        "job": row.get("job") or str(k),
        "folder": row.get("folder") or "",
        "problem": row.get("problem") or "",
        "status": row.get("status") or "unfinished",
        "flags": row.get("flags") or "",
        "reason": row.get("reason") or row.get("message") or "",
        "keys": {key: row.get(key) or "" for key in keys},
        "errors": errors,
        "error": max(errors.values(), default=None),
        "parameters": _whole(row.get("parameters")),
        "loss": as_number(row.get("loss")),
        "seconds": as_number(row.get("wall_time_s")),
    }


def _curves(folder: Path, jobs: Sequence[dict[str, Any]], dpi: int) -> Picture | None:
    """Error against seconds, a curve per run; None where there are too many or none."""
    from kanpinn.plots.comparison import comparison_figure

    places = {job["name"]: folder / job["folder"] for job in jobs if job["folder"]}
    places = {name: place for name, place in places.items() if (place / "solution.h5").is_file()}
    if not 1 < len(places) <= _MANY:
        return None
    runs = []
    for name, place in places.items():
        with suppress(UserError):  # a file cut short by a kill; its job is in the table all the same
            runs.append(replace(read_run(place), name=name))
    figure = comparison_figure(runs)
    if figure is None:
        return None
    caption = "Relative error after every step against seconds of training; dots: at the end, over the output grid."
    return picture(figure, "Error against seconds", caption, f"A curve for each of {len(runs)} runs. {caption}", dpi)
