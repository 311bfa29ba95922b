"""Check of run folders and files: whatever a reader refuses, or the schema does not know, is a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py

from kanpinn.errors import UserError
from kanpinn.io.checkpoint import checkpoint_of
from kanpinn.io.hdf5 import FAULTS, existing_file, unchanged
from kanpinn.io.metrics import check_metrics
from kanpinn.io.same_run import disagreements
from kanpinn.io.solution import solution_of
from kanpinn.io.violations import metrics_violations, violations

RESULTS = ("solution.h5", "metrics.json")
"""Files that a run writes when it ends."""

_READERS: Mapping[str, Callable[[h5py.File], Any]] = {
    "kanpinn-solution": solution_of,
    "kanpinn-checkpoint": checkpoint_of,
}


def check(path: Path) -> list[str]:
    """Hold a run folder or one file against the schema.

    Returns:
        One line per violation, "place: what is expected; what was found"; none for a file that is right.

    Raises:
        UserError: If there is nothing to check, or a file is not ours or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        return [f"{path}:{line}" for line in _check_file(path)]
    files = checked(path)
    if not files:
        raise UserError(f"{path}: is not a run folder: no solution.h5, metrics.json or checkpoints in it.")
    lines: list[str] = []
    for file in files:
        found = _check_metrics_file(file) if file.suffix == ".json" else _check_file(file)
        lines += [f"{file}:{line}" for line in found]
    return lines + disagreements(path)


def checked(path: Path) -> list[Path]:
    """List the files that `check` looks at: those of a run folder that are there, or the one file."""
    if not path.is_dir():
        return [path]
    files = [file for file in (path / name for name in RESULTS) if file.exists()]
    return files + sorted((path / "checkpoints").glob("*.h5"))


def _check_file(path: Path) -> list[str]:
    """Violations of one HDF5 file."""
    with existing_file(path, changed=True) as file:
        lines = violations(file)
        if not lines or not violations(file, whole=False):
            try:
                _READERS.get(str(file.attrs["schema"]), violations)(file)
            except FAULTS as error:
                if not (lines and isinstance(error, KeyError)):  # what is missing has been named
                    lines.append(f"/: expected what fits together; {' '.join(str(error).split())}")
        if not unchanged(path):
            lines.append("/: expected the bytes that its checksum stands for; the file was changed since")
        return lines


def _check_metrics_file(path: Path) -> list[str]:
    """Violations of metrics.json."""

    def refuse(word: str) -> float:
        raise ValueError(f"{word} is not strict JSON")

    try:
        metrics = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError) as error:
        return [f" expected strict JSON; {' '.join(str(error).split())}"]
    lines = list(metrics_violations(metrics))
    if not lines:
        try:
            check_metrics(metrics)
        except ValueError as error:
            lines.append(str(error))
    return [f" {line}" for line in lines]
