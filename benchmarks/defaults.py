"""What `kanpinn solve problem=P` gives with defaults only: error, time and memory over seeds, against the floors.

    python benchmarks/defaults.py [--backbone mlp] [--problems poisson burgers] [--seeds 0 1 2]

One process per run, one at a time, timed from start to exit. Every finished run is appended to a CSV file at once; runs
already there are not repeated. Exit code 0 if every floor is met, 1 if one is missed, 2 if the input is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import math
import re
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import machine
import process
import rows
from table import PROBLEMS, markdown

from kanpinn.io.atomic import write_text

ROOT = Path(__file__).resolve().parent.parent
CSV = ROOT / "outputs" / "benchmarks" / "defaults.csv"
USER_ERROR = 2


@dataclass(frozen=True)
class Run:
    """One line of the CSV file.

    Attributes:
        problem: What was solved.
        backbone: By which network; default for what the problem chooses.
        seed: With which seed.
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
        """What tells runs apart; of several the newest counts."""
        return self.problem, self.backbone, self.seed, self.overrides


def fingerprint(problem: str) -> str:
    """A hash of all files a run of this problem can depend on; other problems' files are left out."""
    digest = hashlib.sha256()
    files = [*ROOT.glob("kanpinn/**/*.py"), *ROOT.glob("conf/**/*.yaml"), *ROOT.glob("problems/*.py")]
    for file in sorted(files):
        if file.parent.name in ("problem", "problems") and file.stem not in (problem, "__init__"):
            continue
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def solve(problem: str, backbone: str, seed: int, overrides: list[str], folder: Path, limit: float) -> Run:
    """Run the command in a process of its own and measure it.

    Args:
        problem: What to solve.
        backbone: By which network; default for what the problem chooses.
        seed: With which seed.
        overrides: Further overrides.
        folder: The run folder to be.
        limit: Seconds after which it is killed.

    Returns:
        What came of it.

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
    """What a run folder says of the run; numbers that are missing become NaN, or 0 where they count something."""
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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Solve the built-in problems with defaults; hold them to the floors.")
    add = parser.add_argument
    add("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS, metavar="P", help="default: all")
    add("--seeds", nargs="+", type=int, default=list(range(5)), metavar="N", help="default: 0 1 2 3 4")
    add("--backbone", default="default", help="by default what the problem itself chooses")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides", help="further overrides")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--keep", type=Path, help="keep the run folders, inside this folder")
    add("--limit", type=float, default=600, help="seconds after which a run is killed (default: %(default)s)")
    add("--table", action="store_true", help="run nothing: only the table of what is in the file")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    overrides = " ".join(given.overrides)
    wanted = [(p, given.backbone, seed, overrides) for p in given.problems for seed in given.seeds]
    done = set() if given.again else {run.key for run in rows.read(given.csv, Run)}
    for key in [] if given.table else [key for key in wanted if key not in done]:
        problem, backbone, seed, _ = key
        with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
            stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S_%f")
            folder = (given.keep or Path(temporary)).absolute() / f"{problem}-{backbone}-{seed}-{stamp}"
            run = solve(problem, backbone, seed, given.overrides, folder, given.limit)
        rows.append(given.csv, run)
        print(
            f"{problem} {backbone} seed {seed}: {run.status}, relative L2 {run.relative_l2:.2e}, "
            f"{run.wall_s:.1f} s, {run.peak_mib:.0f} MiB",
            file=sys.stderr,
            flush=True,
        )
    newest = {run.key: run for run in rows.read(given.csv, Run)}
    runs = [newest[key] for key in wanted if key in newest]
    stale = sorted({run.problem for run in runs if run.sources != fingerprint(run.problem)})
    text, passed = markdown(runs, given.problems, given.backbone, given.seeds, overrides, stale)
    write_text(given.csv.with_name(f"{given.csv.stem}-{given.backbone}.md"), text)
    print(text, end="")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
