"""DeepXDE, jaxKAN, pykan, an SSBroyden perceptron and kanpinn: error against seconds, on the same cores by turns.

    make bench            # the whole suite, hours; goes on where it was interrupted
    make bench-quick      # two problems, seed 0, 10 and 30 s: under ten minutes
    python benchmarks/peers.py [--problems burgers heat] [--solvers kanpinn deepxde] [--seeds 0 1] [--limits 10 30]
    python benchmarks/peers.py --to-end --problems poisson burgers --seeds 0  # to their own ends, float32 and 64

One process at a time. A solver runs once per problem and seed and is measured on the way, but kanpinn anew for a time
limit with settings of its own, and where it solves in time slabs. Its clock starts right after the imports. Every
finished run is appended to a CSV file at once; runs already there are not repeated. Exit code 1 if a run failed, 2 if
the input is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import machine
import numpy as np
import process
import rows
from default_run import USER_ERROR
from peers_figure import draw
from peers_run import Run
from peers_suite import CASES, END, LIMITS, SEEDS, SOLVERS, Turn, present, turns
from peers_table import markdown
from sources import ROOT, fingerprint

from kanpinn.evaluate.grid_evaluation import OutputGrid
from kanpinn.io.atomic import write_text
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate

FOLDER = ROOT / "outputs" / "benchmarks"
SCRIPTS = ROOT / "benchmarks" / "peers"
FIGURE = ROOT / "benchmarks" / "peers.png"
GRACE_S = 900.0
"""Seconds beyond those of training after which a process is killed: imports, set-up, compilation."""


def settings_of(solver: str, case: str, limit: int) -> str:
    """The settings column."""
    return " ".join(SOLVERS[solver].settings(case, limit))


def measured_on_the_way(solver: str, case: str) -> bool:
    """Return whether one run tells the errors at all limits; in time slabs only its end has those of the solution."""
    return not SOLVERS[solver].ours or compose(list(SOLVERS[solver].settings(case, 0)))[0].schedule.slabs == 1


def sources_of(solver: str, case: str) -> str:
    """A hash of the files a run depends on."""
    chosen = SOLVERS[solver]
    files = [SCRIPTS / chosen.script, SCRIPTS / "stopwatch.py"]
    if not chosen.ours:
        files += [SCRIPTS / "equations.py", ROOT / "benchmarks" / "peers-constraints.txt"]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files))
    if chosen.ours:
        digest.update(fingerprint(CASES[case][0].partition("=")[2]).encode())
    return digest.hexdigest()[:12]


def reference(case: str, folder: Path) -> Path:
    """Write points and reference values for peers, as kanpinn measures its own error.

    Computing them here also fills the cache of references that take long, so that no run pays for that.

    Args:
        case: The case.
        folder: Where to.

    Returns:
        An .npz file with `points` `[N, d]` and `values` `[N]`.
    """
    configuration = validate(compose(list(CASES[case]))[0])
    grid = OutputGrid(configuration.setup.problem, configuration.settings.output.points)
    values = grid.reference[configuration.setup.problem.unknowns[0]].ravel()
    inside = np.isfinite(values)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{case}.npz", points=grid.points.numpy()[inside], values=values[inside])
    return folder / f"{case}.npz"


def at_limit(result: dict[str, Any], limit: float) -> tuple[float, float]:
    """Seconds and error of a result when a time limit was up; of its end where it had ended before."""
    later = [pair for pair in result["curve"] if pair[0] >= limit]
    seconds, error = later[0] if later else result["curve"][-1]
    return float(seconds), float(error)


class Contest:
    """All runs of one machine.

    Attributes:
        csv: The file of finished runs.
        python: Interpreter of the peers' environment.
        references: Files of reference values by case.
        threads: Threads of every run.
    """

    def __init__(self, csv: Path, python: Path, references: dict[str, Path], threads: int) -> None:
        self.csv, self.python, self.references, self.threads = csv, python, references, threads
        self.cores = machine.cores()
        if hasattr(os, "sched_setaffinity"):  # libraries that ask for cores shall find no more than they may use
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        self.failed = False

    def play(self, turn: Turn, limits: Sequence[int], *, again: bool = False) -> None:
        """Do what is missing of one turn.

        Args:
            turn: Solver, case and seed.
            limits: Time limits, s.
            again: Repeat what is there.
        """
        wanted = {limit: (turn.case, turn.solver, turn.seed, limit, settings_of(turn.solver, turn.case, limit))
                  for limit in sorted(limits)}  # fmt: skip
        done = {run.key: run for run in rows.read(self.csv, Run)} if not again else {}
        together = measured_on_the_way(turn.solver, turn.case)
        groups: dict[str | int, list[int]] = {}
        for limit, key in wanted.items():
            groups.setdefault(key[4] if together else limit, []).append(limit)
        for group in groups.values():
            missing = [limit for limit in group if wanted[limit] not in done]
            if not missing:
                continue
            same = [run for run in done.values() if run.key[:3] == wanted[group[0]][:3]]
            same = [run for run in same if run.settings == wanted[group[0]][4]]
            over = next((run for run in same if run.status == "ended" and run.limit < min(missing)), None)
            if over is not None:  # it ended by itself: with more time it would be the same run
                for limit in missing:
                    rows.append(self.csv, replace(over, limit=limit))
                continue
            for run in self.record(turn, group):
                done[run.key] = run

    def command(self, turn: Turn, seconds: int, out: Path) -> list[str]:
        """The words of one process.

        Args:
            turn: Solver, case and seed.
            seconds: Of training.
            out: The JSON file it writes.

        Returns:
            The command.
        """
        solver = SOLVERS[turn.solver]
        script = str(SCRIPTS / solver.script)
        time = ["--to-end"] if seconds == END and not solver.ours else ["--seconds", str(seconds)]
        common = [*time, "--threads", str(self.threads), "--out", str(out)]
        if solver.ours:
            return [sys.executable, script, *common, *solver.settings(turn.case, seconds), f"seed={turn.seed}"]
        which = ["--problem", turn.case, "--seed", str(turn.seed), "--reference", str(self.references[turn.case])]
        return [str(self.python), script, *common, *which, *solver.options]

    def record(self, turn: Turn, limits: list[int]) -> list[Run]:
        """Run one process and append a line per time limit.

        Args:
            turn: Solver, case and seed.
            limits: Time limits, s.

        Returns:
            The lines.
        """
        count = str(self.threads)
        env = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        env |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        load = machine.load()
        with tempfile.TemporaryDirectory(prefix="kanpinn-bench-") as temporary:
            out = Path(temporary) / "result.json"
            usage = process.measured(self.command(turn, max(limits), out), ROOT, max(limits) + GRACE_S, env)
            result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else None
        if result is None:
            self.failed = True
            print(usage.complaint, file=sys.stderr)
            result = {"curve": [(math.nan, math.nan)], "ended": False, "seconds": math.nan, "version": ""}
        texts = {
            "curve": " ".join(f"{s:.3f}:{e:.6e}" for s, e in result["curve"]),
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "cpu": machine.cpu_model(),
            "version": result["version"],
            "sources": sources_of(turn.solver, turn.case),
        }
        costs = {"wall_s": usage.wall_s, "cpu_s": usage.cpu_s, "peak_mib": usage.peak_mib, "load": load}
        counts = {name: int(result.get(name, 0)) for name in ("steps", "parameters")}
        times = {name: round(float(result.get(name, math.nan)), 3) for name in ("setup_s", "compile_s")}
        out_rows = []
        for limit in limits:
            seconds, error = at_limit(result, limit)
            ended = result["ended"] and seconds < limit
            status = "failed" if not texts["version"] else "ended" if ended else "time_limit"
            settings = settings_of(turn.solver, turn.case, limit)
            known = {"error": error, "seconds": round(seconds, 3), "cores": self.cores, "threads": self.threads}
            run = Run(
                turn.case, turn.solver, turn.seed, limit, settings, status, **known, **texts, **costs, **counts, **times
            )
            rows.append(self.csv, run)
            out_rows.append(run)
            print(
                f"{run.date[11:19]} {run.problem} {run.solver} seed {run.seed}, {limit} s: "
                f"{status}, relative L2 {error:.2e}",
                file=sys.stderr,
                flush=True,
            )
        return out_rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="kanpinn and its peers: error against seconds.")
    add = parser.add_argument
    add("--problems", nargs="+", default=[], choices=CASES, metavar="P", help=f"of {', '.join(CASES)}; default: all")
    add("--solvers", nargs="+", default=[], choices=SOLVERS, metavar="S", help=f"of {', '.join(SOLVERS)}; default: all")
    add("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="N", help="default: 0 1 2 3 4")
    add("--limits", nargs="+", type=int, default=list(LIMITS), metavar="SECONDS", help="default: 10 30 60 120")
    add("--to-end", action="store_true", help="peers to the end of their own examples instead, whatever the time")
    add("--threads", type=int, default=machine.cores(), help="cores and threads of every run (default: %(default)s)")
    add("--peers-python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python", help="default: %(default)s")
    add("--csv", type=Path, default=FOLDER / "peers.csv", help="default: %(default)s")
    add("--figure", type=Path, default=FIGURE, help="default: %(default)s")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--table", action="store_true", help="run nothing: only the table and the figure of what is in the file")
    given = parser.parse_args()
    given.limits = [END] if given.to_end else given.limits
    return given


def chosen_solvers(*, to_end: bool) -> list[str]:
    """The solvers that run unless others are named: all but float64 arms, or, to their own ends, all peers."""
    if to_end:
        return [key for key, solver in SOLVERS.items() if not solver.ours]
    return [key for key, solver in SOLVERS.items() if present(solver.overrides) and not solver.options]


def main() -> int:
    given = arguments()
    cases = given.problems or [case for case, overrides in CASES.items() if present(overrides)]
    solvers = given.solvers or chosen_solvers(to_end=given.to_end)
    plan = list(turns(cases, solvers, given.seeds))
    failed = False
    if not given.table:
        if any(not SOLVERS[key].ours for key in solvers) and not given.peers_python.exists():
            print(f"{given.peers_python}: no such file; `make bench` installs the peers", file=sys.stderr)
            return USER_ERROR
        references = {case: reference(case, FOLDER / "references") for case in cases}
        contest = Contest(given.csv, given.peers_python.absolute(), references, given.threads)
        for turn in plan:
            contest.play(turn, given.limits, again=given.again)
        failed = contest.failed
    newest = {run.key: run for run in rows.read(given.csv, Run)}
    wanted = [
        (t.case, t.solver, t.seed, limit, settings_of(t.solver, t.case, limit)) for t in plan for limit in given.limits
    ]
    runs = [newest[key] for key in wanted if key in newest]
    if not runs:
        print("no runs", file=sys.stderr)
        return 1
    stale = sorted({run.problem for run in runs if run.sources != sources_of(run.solver, run.problem)})
    text = markdown(runs, stale)
    write_text(given.csv.with_suffix(".md"), text)
    if not given.to_end:
        draw(runs, given.figure)
    print(text, end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
