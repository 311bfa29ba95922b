"""Files of several runs in one folder, told by the configs that they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kanpinn.errors import UserError, caution
from kanpinn.io.arrays import group_of, read_record
from kanpinn.io.atomic import jsonable
from kanpinn.io.checkpoint import META, read_meta
from kanpinn.io.config_text import config_text, read_config
from kanpinn.io.hdf5 import FAULTS, existing_file
from kanpinn.io.metrics import metrics_of

RESUMABLE = ("time_limit_s", "processes", "checkpoint.every_s", "checkpoint.keep", "output.figures", "output.progress")
"""Keys that may have another value in a resumed run: its numbers depend on none, but for rounding on processes."""

Config = dict[str, Any]


def disagreements(folder: Path) -> list[str]:
    """Say what does not agree among the files of a run folder: their configs, and metrics.json with solution.h5."""
    return several_runs(folder) + _other_metrics(folder)


def check_one_run(folder: Path) -> None:
    """Refuse a folder with files of several runs, and warn of other metrics; raises UserError."""
    if lines := several_runs(folder):
        raise UserError(lines[0])
    for line in _other_metrics(folder):
        caution(line)


def _other_metrics(folder: Path) -> list[str]:
    told = metrics_of(folder)
    try:
        with existing_file(folder / "solution.h5", changed=True) as file:
            sure = jsonable(read_record(group_of(file, "metrics")))
    except (UserError, *FAULTS):
        return []
    keys = ", ".join(key for key in {**told, **sure} if told and told.get(key) != sure.get(key))[:80]
    text = f"{folder}: metrics.json and solution.h5 differ in {keys}; those of solution.h5 have a checksum"
    return [text] if keys else []


def several_runs(folder: Path) -> list[str]:
    """Say which files of a run folder hold another config than config.yaml, or than solution.h5 without one.

    A line for each, with the first key that differs; damaged files are left to those who read them. While a network is
    sought, checkpoints hold the config that the search was asked for beside the one that is tried.
    """
    first: tuple[str, Config] | None = None
    lines = []
    for name, configs in _configs(folder):
        if first is None:
            first = name, configs[0]
            continue
        differing = [sorted(_differing(first[1], config)) for config in configs]
        if all(differing):
            key = differing[0][0]
            here, there = (dict(_flat(config)).get(key) for config in (first[1], configs[0]))
            lines.append(f"{folder}: files of several runs: {key} is {here!r} in {first[0]}, and {there!r} in {name}")
    return lines


def _configs(folder: Path) -> Iterator[tuple[str, list[Config]]]:
    """Yield the files with the configs that each may stand for."""
    newest = sorted((folder / "checkpoints").glob("checkpoint_*.h5"))[-1:]
    for path in (folder / "config.yaml", folder / "solution.h5", *newest):
        try:
            if path.suffix == ".yaml":
                yield path.name, [read_config(path.read_text(encoding="utf-8"))]
                continue
            with existing_file(path, changed=True) as file:
                if META not in file:
                    found = [str(file.attrs["config"])]
                else:
                    meta = read_meta(file)
                    found = [config_text(meta[key]) for key in ("config", "asked") if meta.get(key)]
                configs = [read_config(text) for text in found]
        except (UserError, OSError, *FAULTS):
            continue
        if configs:
            yield path.name, configs


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a config with their values."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _differing(a: Config, b: Config) -> set[str]:
    """Return the keys in which two configs differ, but for those that a resumed run may change."""
    one, other = dict(_flat(a)), dict(_flat(b))
    return {key for key in {*one, *other} - {*RESUMABLE} if repr(one.get(key)) != repr(other.get(key))}
