"""Several runs side by side: what tells their configs apart, what they reached and what it cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kanpinn.errors import UserError
from kanpinn.io.metrics import read_metrics
from kanpinn.loggers.base import leaves

GROUPS = ("problem", "backbone", "sampler", "schedule", "optimizer", "weighting", "experiment")
_FIRST = ("problem", "backbone", "schedule", "optimizer", "sampler", "weighting", "seed", "dtype")
_IGNORED = ("output.", "checkpoint.", "hydra.", "problem.tuned.", "logger", "threads")
_LABEL_KEYS, _LABEL_LENGTH = 3, 44


@dataclass(frozen=True)
class Run:
    """Facts of one run, from whichever of its files are there.

    Attributes:
        folder: Its folder.
        name: Its name where space is short; given once the others are known.
        metrics: The content of metrics.json; empty for a run that wrote none.
        config: The resolved config, keys joined by dots, groups by their choice (`problem`: "poisson"); width and
            rank of the network as they have become.
        history: Columns over the steps `[n_steps]`; empty where there is no solution file.
        message: Reason that there is no result, if somebody said so.
    """

    folder: Path
    name: str
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    history: Mapping[str, np.ndarray] = field(default_factory=dict)
    message: str = ""

    @property
    def problem(self) -> str:
        """The problem's name, "" if unknown."""
        return str(self.metrics.get("problem") or self.config.get("problem") or "")

    @property
    def status(self) -> str:
        """As in metrics.json; "unfinished" for a run without (killed, or still under way)."""
        return str(self.metrics.get("status") or "unfinished")

    @property
    def levels(self) -> list[dict[str, Any]]:
        """One record per visit of a level."""
        return list(self.metrics.get("levels") or [])

    @property
    def steps(self) -> int | None:
        """Optimiser steps in all; None if unknown."""
        return sum(int(record.get("steps") or 0) for record in self.levels) if self.metrics else None

    def errors(self, norm: str = "relative_l2") -> dict[str, float]:
        """The error of each unknown; empty without a reference or where it is not a number."""
        return {k: float(v) for k, v in (self.metrics.get(norm) or {}).items() if isinstance(v, int | float)}

    @property
    def flags(self) -> str:
        """Kinds of the warnings that the run ended with, joined by commas; "" for none."""
        return ",".join(dict.fromkeys(str(flag["kind"]) for flag in self.metrics.get("warnings") or []))

    @property
    def error(self) -> float | None:
        """The largest relative L2 error of all unknowns; None without a reference."""
        return max(self.errors().values(), default=None)


def flat_config(config: Any) -> dict[str, Any]:
    """Join a config's keys by dots; lists stay, the name of a group's choice stands under the group's own."""
    found = leaves(config) if isinstance(config, Mapping) else {}
    names = {f"{group}.name": group for group in GROUPS}
    return {names.get(key, key): value for key, value in found.items()}


def grown(config: Mapping[str, Any], visits: int) -> dict[str, Any]:
    """Return a config joined by dots with the width and rank of the network after so many of its schedule's stages."""
    found = {key: config[f"backbone.{key}"] for key in ("width", "rank") if config.get(f"backbone.{key}") is not None}
    with suppress(TypeError, ValueError, KeyError, AttributeError):  # a config that nothing was solved with
        for stage in (config.get("schedule.stages") or [])[:visits]:
            for kind, amount in stage.items():
                if kind == "widen":
                    each = amount if isinstance(amount, list) else [amount] * len(found["width"])
                    found["width"] = [old + new for old, new in zip(found["width"], each, strict=True)]
                elif kind == "deepen":
                    found["width"] = found["width"] + found["width"][-1:] * min(amount, 1000)
                elif kind == "rank":
                    found["rank"] += amount
    return {**config, **{f"backbone.{key}": value for key, value in found.items()}}


def read_run(path: Path, history: bool = True, message: str = "") -> Run:
    """Read what there is of a run, from its folder or its solution.h5, and name it by its folder.

    Without history the whole solution file need not be read. The message is the reason that there is no result, if
    known. Raises UserError if the path is no run, or its files are damaged.
    """
    from kanpinn.io.config_text import read_config
    from kanpinn.io.inspect import is_run
    from kanpinn.io.solution import read_solution
    from kanpinn.io.unfinished import told, unfinished

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected a run folder.")
    if path.is_dir() and not is_run(path):
        raise UserError(f"{path}: not a run; expected a run folder, with solution.h5 or metrics.json in it.")
    folder, file = (path, path / "solution.h5") if path.is_dir() else (path.parent, path)
    metrics, text, steps = {}, "", {}
    if file.is_file() and (history or not (folder / "metrics.json").is_file()):
        data = read_solution(file)
        metrics, text, steps = data.metrics, data.config, data.history
    metrics = metrics or read_metrics(folder / "metrics.json") or {}
    try:
        if not text and (folder / "config.yaml").is_file():
            text = (folder / "config.yaml").read_text(encoding="utf-8")
        config = read_config(text) if text else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot be read ({' '.join(str(error).split())[:120]}).") from error
    if not metrics and not message:
        message = told(folder, unfinished(folder))
    made = grown(flat_config(config), len(metrics.get("levels") or []))
    return Run(folder, folder.resolve().name, metrics, made, steps, message)


def differing(runs: Sequence[Run]) -> list[str]:
    """List the config keys that differ between runs, groups' choices and the seed first; null is as good as missing."""
    keys = dict.fromkeys(key for run in runs if run.config for key in run.config)
    found = [
        key
        for key in keys
        if not key.startswith(_IGNORED) and len({repr(r.config.get(key)) for r in runs if r.config}) > 1
    ]
    return sorted(found, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))


def named(runs: Sequence[Run]) -> list[Run]:
    """Give every run a short name of its own: by what tells the configs apart, or else by its folder."""
    from dataclasses import replace

    keys: list[str] = []
    for key in differing(runs)[:_LABEL_KEYS]:
        keys.append(key)
        names = [", ".join(_pair(k, run.config.get(k)) for k in keys) for run in runs]
        if len(set(names)) == len(runs) and max(map(len, names)) <= _LABEL_LENGTH:
            return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]
    folders = [run.folder.resolve() for run in runs]
    for depth in range(1, 1 + max((len(folder.parts) for folder in folders), default=0)):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(runs):
            break
    else:  # the same folder twice
        names = [f"{folder.name} ({k})" for k, folder in enumerate(folders, start=1)]
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _pair(key: str, value: Any) -> str:
    """A config entry in few letters; a group's choice speaks for itself."""
    return str(value) if key in GROUPS else f"{key.rpartition('.')[2]}={cell(value) or 'null'}"


def cell(value: Any) -> str:
    """A value as a cell of a CSV file: numbers in full precision, nothing for null."""
    return "" if value is None else " ".join(str(value).split())


def table(runs: Sequence[Run], keys: Iterable[str] | None = None) -> tuple[list[str], list[list[Any]]]:
    """All numbers of some runs: column names, and one row per run of plain values, None where something is not known.

    They are the config keys given, by default those that differ, errors (`relative_l2_<u>`, `linf_<u>`), `parameters`,
    `steps`, `wall_time_s`, `loss`, and error and seconds of each level's first visits.
    """
    keys = [key for key in (differing(runs) if keys is None else keys) if key != "problem"]
    unknowns = list(dict.fromkeys(u for run in runs for u in run.errors()))
    deepest = max((record.get("level", 0) for run in runs for record in run.levels), default=-1)
    head = ["run", "folder", "problem", *keys, "status", "flags"]
    head += [f"{norm}_{u}" for u in unknowns for norm in ("relative_l2", "linf")]
    head += ["parameters", "steps", "wall_time_s", "loss", "work", "levels"]
    head += [f"level_{k}_{what}" for k in range(deepest + 1) for what in ("grid", "relative_l2", "wall_time_s")]
    rows = []
    for run in runs:
        row: list[Any] = [run.name, str(run.folder), run.problem, *(run.config.get(key) for key in keys)]
        row += [run.status, run.flags or None]
        row += [run.errors(norm).get(u) for u in unknowns for norm in ("relative_l2", "linf")]
        row += [run.metrics.get("parameters"), run.steps, run.metrics.get("wall_time_s"), run.metrics.get("loss")]
        row += [run.metrics.get("work"), len({r.get("level") for r in run.levels}) or None]
        for level in by_level(run, deepest + 1):
            row += [level.get("grid"), level.get("error"), level.get("seconds")]
        rows.append(row)
    return [*head, "message"], [[*row, run.message or None] for row, run in zip(rows, runs, strict=True)]


def by_level(run: Run, count: int) -> list[dict[str, Any]]:
    """Error that a run reached on each of so many levels, and the cost of all visits of the level.

    Per level `grid`, `error` (the largest of all unknowns after the last visit; with time slabs the mean square of the
    slabs' last ones, rooted), `seconds`; {} for a level not visited.
    """
    out: list[dict[str, Any]] = []
    for level in range(count):
        records = [record for record in run.levels if record.get("level") == level]
        if not records:
            out.append({})
            continue
        last = {record.get("slab", 0): max((record.get("relative_l2") or {}).values(), default=None, key=_size)
                for record in records}  # fmt: skip
        known = [float(value) for value in last.values() if value is not None]
        error = float(np.sqrt(np.mean(np.square(known)))) if known and len(known) == len(last) else None
        seconds = sum(float(record.get("wall_time_s") or 0) for record in records)
        out.append({"grid": records[0].get("grid"), "error": error, "seconds": seconds})
    return out


def _size(value: Any) -> float:
    return -1.0 if value is None else float(value)


def csv_text(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table of plain values as CSV, numbers in full precision."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([head, *([cell(value) for value in row] for row in rows)])
    return stream.getvalue()
