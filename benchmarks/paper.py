"""The four experiments of Southworth et al. 2026 as `kanpinn solve` runs: equal work, five seeds, tables and figures.

    python benchmarks/paper.py [--experiments burgers] [--variants multilevel] [--seeds 0 1] [--jobs 2] [--readings all]

One process per run. Every finished run is appended to a CSV file at once and its folder kept for the figures; runs
already there are not repeated. All experiments get seed 0 first, so that an interrupted study is a smaller study.
Exit code 0 when everything has run, 1 if a run crashed, 2 if its input is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import machine
import rows
from default_run import USER_ERROR
from paper_figures import draw
from paper_run import Run
from paper_study import EXPERIMENTS, Experiment, Reading, Variant
from paper_table import markdown
from sources import ROOT, fingerprint

from kanpinn.io.atomic import write_text

FOLDER = ROOT / "outputs" / "benchmarks" / "paper"
DIVERGED, INTERRUPTED = 3, (130, 143)


@dataclass(frozen=True)
class Task:
    """A run to be made."""

    experiment: Experiment
    variant: Variant
    reading: Reading
    seed: int
    scale: float

    @property
    def key(self) -> tuple[str, str, str, int, float]:
        """As `Run.key`."""
        return self.experiment.name, self.variant.name, self.reading.name, self.seed, self.scale

    def folder(self, base: Path) -> Path:
        """Its run folder, with nothing in its name that a shell or Hydra would read as syntax."""
        names = [self.experiment.name, self.reading.name, f"{self.variant.name} {self.seed}"]
        if self.scale != 1:
            names.insert(0, f"scale {self.scale:g}")
        return base.joinpath(*("".join(c if c.isalnum() or c in "._" else "-" for c in name) for name in names))

    def overrides(self) -> list[str]:
        """Overrides of the command line."""
        return [*self.variant.overrides(self.scale), *self.reading.overrides(self.variant), f"seed={self.seed}"]


def tasks(
    experiments: list[str], readings: list[str], words: list[str], seeds: list[int], scale: float = 1.0
) -> list[Task]:
    """The runs of a study in the order they are made: seed by seed.

    Args:
        experiments: Names of experiments.
        readings: Names of readings; "standard" or "all" of each experiment's.
        words: Variants whose names contain any of these; all if there are none.
        seeds: The seeds.
        scale: What all steps are multiplied by.

    Returns:
        The runs to be made.
    """
    out = []
    for seed in seeds:
        for name in experiments:
            experiment = EXPERIMENTS[name]
            for reading in experiment.readings:
                standard = "standard" in readings and reading.name in experiment.standard
                if not (standard or "all" in readings or reading.name in readings):
                    continue
                for variant in experiment.variants():
                    if reading.covers(variant) and (not words or any(word in variant.name for word in words)):
                        out.append(Task(experiment, variant, reading, seed, scale))
    return out


class Study:
    """A list of runs under way, several at a time.

    Attributes:
        base: Folder of the run folders; the CSV file lies beside it.
        jobs: Processes at a time; with more than one, each has one thread.
        failed: Runs that gave nothing to record.
    """

    def __init__(self, base: Path, jobs: int) -> None:
        self.base, self.jobs = base, jobs
        self.failed: list[Task] = []
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._refused = False

    @property
    def csv(self) -> Path:
        """The file of finished runs."""
        return self.base.with_name("paper.csv")

    def run(self, wanted: list[Task]) -> int:
        """Make the runs in this order; returns the exit code."""
        pool = ThreadPoolExecutor(self.jobs)
        try:
            for future in [pool.submit(self._one, task, k, len(wanted)) for k, task in enumerate(wanted, start=1)]:
                future.result()
        finally:  # interrupted: leave no solve running behind
            self._stopped = True
            for process in list(self._processes):
                process.terminate()
            pool.shutdown(cancel_futures=True)
        return USER_ERROR if self._refused else int(bool(self.failed))

    def _one(self, task: Task, number: int, count: int) -> None:
        """Make one run in a process of its own and record it."""
        if self._stopped or self._refused:
            return
        folder, mark = task.folder(self.base), fingerprint(task.experiment.problem)
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
        quiet = ["output.progress=false", "output.figures=false", "checkpoint.keep=1000", f"hydra.run.dir={folder}"]
        command = [sys.executable, "-m", "kanpinn", "solve", *task.overrides(), *quiet]
        threads = 1 if self.jobs > 1 else machine.cores()
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._processes.add(process)
        if self._stopped:  # just now: the others have been told already
            process.terminate()
        assert process.stderr is not None
        complaint = process.stderr.read().decode(errors="replace").strip()
        _, state, usage = os.wait4(process.pid, 0)
        process.stderr.close()
        process.returncode = code = os.waitstatus_to_exitcode(state)
        self._processes.discard(process)
        if self._stopped or code in INTERRUPTED:
            return
        label = " · ".join(map(str, task.key[:3])) + f" · seed {task.seed}"
        with self._lock:
            if code not in (0, DIVERGED):
                self.failed.append(task)
                self._refused |= code == USER_ERROR
                print(f"{label}: exit code {code}, nothing recorded\n{complaint}", file=sys.stderr, flush=True)
                return
            run = outcome(task, folder, usage.ru_utime + usage.ru_stime, threads, mark)
            rows.append(self.csv, run)
        print(
            f"[{number}/{count}] {label}: {run.status}, loss {run.loss:.2e}, relative L2 {run.relative_l2:.2e}, "
            f"{run.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )


def outcome(task: Task, folder: Path, cpu_s: float, threads: int, mark: str) -> Run:
    """Read the results of a run from its folder.

    Args:
        task: The run.
        folder: The run folder.
        cpu_s: Seconds of processor time it took.
        threads: Threads it had.
        mark: Fingerprint of the code.

    Returns:
        The line for the CSV file; numbers that are missing are NaN.
    """
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    levels = metrics["levels"]
    name, variant, reading, seed, scale = task.key
    return Run(
        experiment=name,
        variant=variant,
        reading=reading,
        seed=seed,
        scale=scale,
        status=metrics["status"],
        parameters=metrics["parameters"],
        steps=sum(level["steps"] for level in levels),
        loss=_number(metrics["loss"]),
        relative_l2=_number((metrics["relative_l2"] or {}).get("u")),
        linf=_number((metrics["linf"] or {}).get("u")),
        seconds=round(metrics["wall_time_s"], 2),
        cpu_s=round(cpu_s, 2),
        work=metrics["work"],
        losses=" ".join(f"{_number(level['loss']):.4e}" for level in levels),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        cpu=machine.cpu_model(),
        threads=threads,
        fingerprint=mark,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The experiments of Southworth et al. 2026, equal work, all variants.")
    add = parser.add_argument
    add("--experiments", nargs="+", default=list(EXPERIMENTS), choices=EXPERIMENTS, metavar="E", help="default: all")
    add("--variants", nargs="+", default=[], metavar="V", help='those whose names contain V, such as "relu" "fine"')
    add("--readings", nargs="+", default=["standard"], metavar="R", help='names, "standard" (default) or "all"')
    add("--seeds", nargs="+", type=int, default=list(range(5)), metavar="N", help="default: 0 1 2 3 4")
    add("--jobs", type=int, default=machine.cores(), metavar="N", help="runs at a time (default: %(default)s)")
    add("--scale", type=float, default=1.0, metavar="F", help="multiply all steps by F; kept apart from full runs")
    add("--folder", type=Path, default=FOLDER, help="of the run folders (default: %(default)s)")
    add("--figures", type=Path, default=ROOT / "benchmarks", help="where figures go (default: %(default)s)")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--list", action="store_true", help="run nothing: the command lines that would run")
    add("--table", action="store_true", help="run nothing: table and figures of what is there")
    given = parser.parse_args()
    known = {reading.name for name in given.experiments for reading in EXPERIMENTS[name].readings}
    for name in given.readings:
        if name not in known | {"standard", "all"}:
            parser.error(f"--readings {name!r}; valid choices: standard, all, {', '.join(sorted(map(repr, known)))}")
    if given.jobs < 1 or not given.scale > 0:
        parser.error("--jobs and --scale: expected numbers above 0")
    return given


def main() -> int:
    given = arguments()
    study = Study(given.folder.absolute(), given.jobs)
    every = tasks(given.experiments, given.readings, given.variants, given.seeds, given.scale)
    if not every:
        print(f"--variants {' '.join(given.variants)}: no variant has such a name", file=sys.stderr)
        return USER_ERROR
    done = set() if given.again else {run.key for run in rows.read(study.csv, Run)}
    wanted = [task for task in every if task.key not in done]
    if given.list:
        for task in wanted:
            print("kanpinn solve", " ".join(task.overrides()))
        return 0
    code = 0 if given.table else study.run(wanted)
    newest = {run.key: run for run in rows.read(study.csv, Run)}
    runs = [run for run in newest.values() if run.experiment in given.experiments and run.scale == given.scale]
    text = markdown(
        runs, given.experiments, {name: fingerprint(EXPERIMENTS[name].problem) for name in given.experiments}
    )
    suffix = "" if given.scale == 1 else f"-scale-{given.scale:g}"
    write_text(study.csv.with_name(f"paper{suffix}.md"), text)
    print(text, end="")
    folders = {task.key: task.folder(study.base) for task in tasks(given.experiments, ["all"], [], [0], given.scale)}
    drawn = {run.key[:3]: folders[run.key] for run in runs if run.seed == 0}
    for path in draw(drawn, given.experiments, given.figures if given.scale == 1 else study.base):
        print(path, file=sys.stderr)
    return code


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: shells start background jobs with it ignored
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from here")
