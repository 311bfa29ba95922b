"""One `kanpinn solve` in a process of its own: its errors and its costs as a line of a CSV file."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import machine
import process
from sources import ROOT, fingerprint

USER_ERROR = 2


@dataclass(frozen=True)
class Run:
    """One line of the CSV file of default solves.

    Attributes:
        problem: Name of the problem.
        backbone: Name of the network; "default" for the problem's own.
        seed: The seed.
        overrides: Further overrides, separated by blanks; none for defaults only.
        exit_code: Of the process; negative for a signal.
        status: From metrics.json; "failed" without one, "timeout" if it was stopped.
        relative_l2: The largest over the unknowns; NaN without.
        linf: The same.
        parameters: On the finest level.
        transfer_gap: The largest over the level changes, 0 without any; NaN if unknown.
        wall_s: From the start of the process to its exit.
        cpu_s: User and system time of the process.
        peak_mib: Its peak resident memory.
        load: Load of the machine when it began; well above 0 means that the time was not its own.
        date: When it ended.
        cpu: Processor.
        cores: Cores it could use.
        threads: Threads of torch, as the run's log says.
        torch: Version of torch.
        sources: Fingerprint of the code and configs it ran on.
    """

    problem: str
    backbone: str
    seed: int
    overrides: str
    exit_code: int
    status: str
    relative_l2: float
    linf: float
    parameters: int
    transfer_gap: float
    wall_s: float
    cpu_s: float
    peak_mib: float
    load: float | None
    date: str
    cpu: str
    cores: int
    threads: int
    torch: str
    sources: str

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Identity of a run; of several equal ones the newest counts."""
        return self.problem, self.backbone, self.seed, self.overrides


def solve(problem: str, backbone: str, seed: int, overrides: list[str], folder: Path, limit: float) -> Run:
    """Run the command in a process of its own and measure it.

    Args:
        problem: Name of the problem.
        backbone: Name of the network; "default" for the problem's own.
        seed: The seed.
        overrides: Further overrides.
        folder: The run folder to be.
        limit: Seconds after which it is killed.

    Returns:
        The line of the CSV file.

    Raises:
        SystemExit: If the command refused its input, after printing what it said.
    """
    words = [f"problem={problem}", f"seed={seed}", f"hydra.run.dir={folder}", "output.progress=false", *overrides]
    if backbone != "default":
        words.insert(1, f"backbone={backbone}")
    load, sources = machine.load(), fingerprint(problem)
    command = [sys.executable, "-m", "kanpinn", "solve", *words]
    usage = process.measured(command, ROOT, limit)
    if usage.exit_code == USER_ERROR:
        print(f"{usage.complaint}\n(nothing recorded)", file=sys.stderr)
        raise SystemExit(USER_ERROR)
    if usage.exit_code:
        print(usage.complaint, file=sys.stderr)
    measured = {
        "exit_code": usage.exit_code,
        "wall_s": usage.wall_s,
        "cpu_s": usage.cpu_s,
        "peak_mib": usage.peak_mib,
        "load": load,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": machine.cpu_model(),
        "cores": machine.cores(),
        "torch": importlib.metadata.version("torch"),
        "sources": sources,
    }
    result = outcome(folder)
    if usage.timeout:
        result["status"] = "timeout"
    return Run(problem, backbone, seed, " ".join(overrides), **measured, **result)


def outcome(folder: Path) -> dict[str, Any]:
    """Read a run folder's results; numbers that are missing become NaN, or 0 where they count something."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metrics = {}
    levels = metrics.get("levels", [])
    refined = [level for level in levels if level["entered"] == "refine"]
    return {
        "status": metrics.get("status", "failed"),
        "relative_l2": _largest((metrics.get("relative_l2") or {}).values()),
        "linf": _largest((metrics.get("linf") or {}).values()),
        "parameters": metrics.get("parameters", 0),
        # A null is one that was not finite.
        "transfer_gap": _largest([0.0, *(level["transfer_gap"] for level in refined)]) if levels else math.nan,
        "threads": _threads(folder / "log.txt"),
    }


def _largest(values: Any) -> float:
    numbers = [math.nan if value is None else float(value) for value in values]
    return math.nan if not numbers or any(math.isnan(x) for x in numbers) else max(numbers)


def _threads(log: Path) -> int:
    found = re.search(r"threads=(\d+)", log.read_text(encoding="utf-8")) if log.exists() else None
    return int(found[1]) if found else 0
