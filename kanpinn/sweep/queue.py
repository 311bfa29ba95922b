"""Jobs of a sweep in a SLURM queue: what submitit leaves to the user."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

QUEUES = ("submitit_slurm", "slurm")
"""Launchers whose jobs run on other machines, each with its own share of them."""

SECONDS = 60.0


def cancel(launcher: DictConfig, *, waiting: bool = False) -> None:
    """Take a sweep's jobs out of the queue: SIGTERM for those that run, or only those that wait.

    submitit keeps a folder for each job, named by its number in the queue, or by its array's and its own in that.
    """
    place = Path(str(launcher.submitit_folder).partition("%j")[0] + "0")
    prefix = place.name[:-1]
    found = {path.name.removeprefix(prefix).partition("_")[0] for path in place.parent.glob(f"{prefix}*")}
    numbers = sorted(text for text in found if text.isdecimal())
    if numbers:
        _call(["scancel", "--quiet", *(["--state=PENDING"] if waiting else []), *numbers])


def longest_array() -> int:
    """Return the number of jobs that the queue takes as one array; a large number where it does not say."""
    told = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call(["scontrol", "show", "config"]), re.MULTILINE)
    return max(1, int(told[1]) - 1) if told else 2**31


def _call(command: Sequence[str]) -> str:
    """Call a command of SLURM's; returns its output, "" if that fails: the ledger knows what is left."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
