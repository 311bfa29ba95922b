"""Does cycling pay? Schedules against each other at equal work, over problems, optimisers and seeds.

    python benchmarks/cycles.py [--jobs 2] [--problems poisson] [--optimizers adam] [--seeds 0]

Work is Σ steps × points × parameters of the network evaluated, as metrics.json counts it; a coarse problem of the
Galerkin kind evaluates the fine network. Nested iteration sets the budget, and the steps and cycles of every other
schedule are chosen to use it up. Every finished run is appended to a CSV file at once; runs already there are not
repeated. Writes a Markdown table beside the CSV file, and a figure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import machine
import rows
from defaults import ROOT, fingerprint

import kanpinn
from kanpinn.errors import DivergedError
from kanpinn.io.atomic import write_text
from kanpinn.multilevel import SCHEDULES, Stage

CSV = ROOT / "outputs" / "benchmarks" / "cycles.csv"
FIGURE = ROOT / "benchmarks" / "cycles.png"
PROBLEMS = ("poisson", "helmholtz", "burgers", "allen_cahn")
LEVELS = 3
TOLERANCE = 0.02
"""Share of the budget by which a schedule's work may miss it."""
TRANSFER = "+transfer"
"""Suffix of a schedule whose optimiser carries its state from level to level."""
COMMON = ("output.points=101", "output.figures=false", "output.progress=false", "threads=1")


@dataclass(frozen=True)
class Smoother:
    """How an optimiser is used in the study.

    Attributes:
        steps: Steps of nested iteration, as a multiple of the problem's own.
        points: Collocation points, as a share of the problem's own.
        visit: Steps before and after a coarse correction, about.
        coarsest: Steps on level 0 within a cycle, about.
        overrides: Further overrides.
    """

    steps: float
    points: float
    visit: int
    coarsest: int
    overrides: tuple[str, ...] = ()


OPTIMIZERS = {
    # A constant rate: one that decays within every stage would anneal cycles at each visit and the others once a level.
    "adam": Smoother(1.5, 0.25, visit=40, coarsest=50, overrides=("optimizer.decay=none", "optimizer.lr=3e-3")),
    "lbfgs": Smoother(1.25, 0.5, visit=12, coarsest=25, overrides=("sampler.resample_every=0",)),
    "levenberg_marquardt": Smoother(0.35, 0.5, visit=4, coarsest=8),
}
KINDS = {"v": "v_cycle", "w": "w_cycle", "fmg": "fmg", "fmg_top": "fmg"}
STUDY = (
    *("single", "nested", "v_galerkin", "v_fas", "w_galerkin", "fmg_galerkin", "fmg_fas", "fmg_top_galerkin"),
    *(f"{name}{TRANSFER}" for name in ("nested",)),
)


def planned_work(plan: Sequence[Stage], costs: Sequence[float], coarse: str) -> float:
    """Work of a schedule.

    Args:
        plan: Its stages.
        costs: Points × parameters of each level.
        coarse: "galerkin", whose coarse problems evaluate the finest network that waits, or "fas", whose do not.

    Returns:
        Σ steps × cost of the network evaluated.
    """
    total, level = 0.0, plan[0].level
    waiting: list[int] = []
    for stage in plan:
        while level > stage.level:
            waiting.append(level)
            level -= 1
        while level < stage.level:
            level += 1
            if waiting:
                waiting.pop()
        evaluated = waiting[0] if waiting and coarse == "galerkin" else level
        total += stage.steps * costs[evaluated]
    return total


def _work(name: str, options: Mapping[str, Any], costs: Sequence[float]) -> float:
    return planned_work(SCHEDULES[name](**options).plan(), costs, options.get("coarse", ""))


def fitted(schedule: str, steps: Sequence[int], costs: Sequence[float], visit: int, coarsest: int) -> dict[str, Any]:
    """Options with which a schedule does the work of nested iteration.

    Full multigrid spends half the work on its ascent. Of all cycles that use up the budget within `TOLERANCE`, those
    whose visits are nearest to what is asked for are taken.

    Args:
        schedule: One of `STUDY`.
        steps: Nested iteration's steps per level.
        costs: Points × parameters of each level.
        visit: Steps before and after a coarse correction, about.
        coarsest: Steps on level 0 within a cycle, about.

    Returns:
        Options of `schedule.*`, with the name.
    """
    name, _, suffix = schedule.partition("+")
    common: dict[str, Any] = {"levels": len(costs)}
    if suffix:
        common["optimizer_state"] = suffix
    if name == "nested":
        return {"name": "nested", "steps": list(steps), **common}
    budget = _work("nested", {"steps": list(steps), "levels": len(costs)}, costs)
    if name == "single":
        return {"name": "single", "steps": max(1, round(budget / costs[-1])), **common}
    shape, _, coarse = name.rpartition("_")
    common["coarse"] = coarse
    if shape.startswith("fmg"):
        common["steps"] = [max(1, round(k / 2)) for k in steps]
    best: tuple[float, float, dict[str, Any]] = (math.inf, math.inf, {})
    for many in range(1, 200):
        per_level = [0] * (len(costs) - 1) + [many] if shape == "fmg_top" else many
        options = {**common, "cycles": per_level, "pre": 0, "post": 0, "coarsest": 1}
        # Work is affine in the numbers of steps.
        base = _work(KINDS[shape], options, costs)
        slope = _work(KINDS[shape], {**options, "pre": 1, "post": 1}, costs) - base
        foot = _work(KINDS[shape], {**options, "coarsest": 2}, costs) - base
        if many > 1 and base + slope * visit + foot * coarsest > 4 * budget:
            break  # so many cycles would have to be far shorter than asked for
        for smoothing in range(1, 2 * visit + 1):
            left = budget - base - slope * smoothing
            ground = min(max(1, 1 + round(left / foot)), 3 * coarsest)
            miss = abs(left - foot * (ground - 1)) / budget
            strange = abs(math.log(smoothing / visit)) + abs(math.log(ground / coarsest))
            found = (miss if miss > TOLERANCE else 0.0, strange)
            if found < best[:2]:
                best = (*found, {**options, "pre": smoothing, "post": smoothing, "coarsest": ground})
    return {"name": KINDS[shape], **best[2]}


def words(value: Any) -> str:
    """A value as an override writes it."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


@cache
def tuned(problem: str) -> tuple[int, int, tuple[int, ...]]:
    """Interior and boundary points and steps per level that a problem comes with."""
    from kanpinn.settings.compose import compose
    from kanpinn.settings.config import resolve

    values = resolve(compose([f"problem={problem}", "backbone=kan"])[0])
    steps = tuple(values["schedule"]["steps"])[:LEVELS]
    return values["sampler"]["interior"], values["sampler"]["boundary"], steps


def setting(problem: str, smoother: Smoother) -> list[str]:
    """Overrides that all runs of a problem by an optimiser share."""
    interior, boundary, _ = tuned(problem)
    counts = {"interior": interior, "boundary": boundary}
    points = [f"sampler.{name}={max(1, round(smoother.points * n))}" for name, n in counts.items()]
    return [f"problem={problem}", "backbone=kan", *points, *smoother.overrides]


@cache
def costs_of(problem: str, optimizer: str) -> list[float]:
    """Points × parameters of each level, from a run of one step per level."""
    chosen = [*setting(problem, OPTIMIZERS[optimizer]), f"optimizer={optimizer}", f"schedule.levels={LEVELS}"]
    found = _metrics([*chosen, "schedule.steps=1"])
    return [float(record["points"] * record["parameters"]) for record in found["levels"]]


def overrides_of(problem: str, optimizer: str, schedule: str, scale: float) -> list[str]:
    """All overrides of a run but its seed."""
    smoother = OPTIMIZERS[optimizer]
    steps = [max(1, round(scale * smoother.steps * k)) for k in tuned(problem)[2]]
    options = fitted(schedule, steps, costs_of(problem, optimizer), smoother.visit, smoother.coarsest)
    chosen = [f"schedule={options.pop('name')}"]
    chosen += [f"schedule.{key}={words(value)}" for key, value in options.items()]
    return [*setting(problem, smoother), f"optimizer={optimizer}", *chosen]


@dataclass(frozen=True)
class Result:
    """One line of the CSV file.

    Attributes:
        problem: What was solved.
        optimizer: By which optimiser.
        schedule: By which schedule, as `STUDY` names it.
        seed: With which seed.
        overrides: All overrides but the seed, separated by blanks.
        status: From metrics.json; "failed" without one.
        relative_l2: Of the finest network at the end; the largest over the unknowns; NaN without.
        loss: Its loss.
        work: Work done.
        seconds: Wall time of training.
        corrections: Coarse corrections that were taken.
        refused: Coarse corrections that no step length made worth taking.
        load: Load of the machine when it began.
        cpu: Processor.
        sources: Fingerprint of the code and configs it ran on.
    """

    problem: str
    optimizer: str
    schedule: str
    seed: int
    overrides: str
    status: str
    relative_l2: float
    loss: float
    work: float
    seconds: float
    corrections: int
    refused: int
    load: float | None
    cpu: str
    sources: str

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """What tells runs apart; of several the newest counts."""
        return self.problem, self.optimizer, self.schedule, self.seed, self.overrides


def _metrics(overrides: Sequence[str]) -> dict[str, Any]:
    """The metrics of a run whose folder is thrown away; empty if it left none."""
    with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
        folder = Path(temporary) / "run"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(DivergedError):
            kanpinn.solve([*overrides, *COMMON, f"hydra.run.dir={folder}"])
        file = folder / "metrics.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def solve(problem: str, optimizer: str, schedule: str, seed: int, overrides: str) -> Result:
    """One run, and what came of it.

    Args:
        problem: What to solve.
        optimizer: By which optimiser.
        schedule: What the schedule is called in the study.
        seed: With which seed.
        overrides: All overrides but the seed, separated by blanks.

    Returns:
        Its line of the CSV file.
    """
    load, sources = machine.load(), fingerprint(problem)
    found = _metrics([*overrides.split(), f"seed={seed}"])
    errors = [math.nan if v is None else v for v in (found.get("relative_l2") or {"": None}).values()]
    lengths = [r["correction"] for r in found.get("levels", []) if r.get("correction") is not None]
    loss = found.get("loss")
    return Result(
        problem,
        optimizer,
        schedule,
        seed,
        overrides,
        status=found.get("status", "failed"),
        relative_l2=math.nan if any(map(math.isnan, errors)) else max(errors),
        loss=math.nan if loss is None else loss,
        work=found.get("work", math.nan),
        seconds=round(found.get("wall_time_s", math.nan), 2),
        corrections=sum(length > 0 for length in lengths),
        refused=sum(length == 0 for length in lengths),
        load=load,
        cpu=machine.cpu_model(),
        sources=sources,
    )


def badness(result: Result) -> float:
    """The error; infinite where there is none, or the run diverged."""
    return result.relative_l2 if math.isfinite(result.relative_l2) and result.status != "diverged" else math.inf


@dataclass(frozen=True)
class Cell:
    """What the seeds of one problem, optimiser and schedule gave.

    Attributes:
        errors: One per seed.
        seconds: Their median.
        work: Their median.
        corrections: Coarse corrections taken, all seeds together.
        refused: Coarse corrections refused.
    """

    errors: list[float]
    seconds: float
    work: float
    corrections: int
    refused: int

    @property
    def median(self) -> float:
        """The median error."""
        return statistics.median(self.errors)


def cells(results: Sequence[Result]) -> dict[tuple[str, str, str], Cell]:
    """Results by problem, optimiser and schedule."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.problem, result.optimizer, result.schedule), []).append(result)
    return {
        key: Cell(
            [badness(r) for r in mine],
            statistics.median(r.seconds for r in mine),
            statistics.median(r.work for r in mine),
            sum(r.corrections for r in mine),
            sum(r.refused for r in mine),
        )
        for key, mine in groups.items()
    }


def _ratio(cell: Cell, nested: Cell | None) -> float:
    """Median error over that of nested iteration; NaN where either is missing."""
    if nested is None or not (0 < nested.median < math.inf and math.isfinite(cell.median)):
        return math.nan
    return cell.median / nested.median


def markdown(results: Sequence[Result]) -> str:
    """One table per optimiser: a line per schedule, a column per problem.

    Args:
        results: The newest run of each problem, optimiser, schedule and seed.

    Returns:
        Markdown text.
    """
    found = cells(results)
    problems, optimizers, schedules = (list(dict.fromkeys(key[k] for key in found)) for k in range(3))
    seeds = sorted({result.seed for result in results})
    lines = [f"Relative L2 error, median (worst) of seeds {' '.join(map(str, seeds))}; ×: median over that of nested."]
    for optimizer in optimizers:
        lines += ["", f"**{optimizer}**", "", f"| schedule | {' | '.join(problems)} | × nested | corrections taken |"]
        lines.append("|---|" + "---|" * len(problems) + "--:|--:|")
        for schedule in schedules:
            row, ratios = [schedule], []
            mine = {p: found[p, optimizer, schedule] for p in problems if (p, optimizer, schedule) in found}
            for problem in problems:
                if problem not in mine:
                    row.append("–")
                    continue
                cell, nested = mine[problem], found.get((problem, optimizer, "nested"))
                least = min(c.median for (p, o, _), c in found.items() if (p, o) == (problem, optimizer))
                bold = "**" if cell.median == least else ""
                ratio = _ratio(cell, nested)
                ratios.append(ratio)
                text = f"{bold}{cell.median:.1e}{bold} ({max(cell.errors):.0e}), ×{ratio:.2f}, {cell.seconds:.1f} s"
                row.append(text + f", {cell.work / nested.work - 1:+.0%} work" * _differs(cell, nested))  # type: ignore[union-attr]
            known = [math.log(r) for r in ratios if r > 0]
            row.append(f"{math.exp(statistics.fmean(known)):.2f}" if known and len(known) == len(problems) else "–")
            taken, refused = sum(c.corrections for c in mine.values()), sum(c.refused for c in mine.values())
            row.append(f"{taken} of {taken + refused}" if taken + refused else "–")
            lines.append(f"| {' | '.join(row)} |")
        works = [f"{p} {found[p, optimizer, 'nested'].work:.1e}" for p in problems if (p, optimizer, "nested") in found]
        lines += ["", f"Work: {', '.join(works)}." if works else "Work: nested iteration was not run."]
    cpus, loads = sorted({r.cpu for r in results}), [r.load for r in results if r.load is not None]
    busy = f"; load when a run began up to {max(loads):.1f}" if loads else ""
    lines += ["", f"The last but one column is the geometric mean over the problems. {', '.join(cpus)}{busy}."]
    if any(result.sources != fingerprint(result.problem) for result in results):
        lines += ["", "**Code or configs have changed since some of these runs: repeat them with --again.**"]
    return "\n".join(lines) + "\n"


def _differs(cell: Cell, nested: Cell | None) -> bool:
    """Whether the work done is not that of nested iteration, as where a run ended early."""
    return nested is not None and abs(cell.work / nested.work - 1) > 2 * TOLERANCE


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw errors by schedule, a dot per seed and a bar for their median, one panel per problem and optimiser.

    Args:
        results: The newest run of each problem, optimiser, schedule and seed.
        path: The PNG file.
    """
    from kanpinn.plots.style import save

    save(_figure(results), path, dpi=150)


def _figure(results: Sequence[Result]) -> Any:
    import numpy as np
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullFormatter

    from kanpinn.plots.style import COLOURS, new_figure, styled

    found = cells(results)
    problems, optimizers, schedules = (list(dict.fromkeys(key[k] for key in found)) for k in range(3))
    colour = {"galerkin": COLOURS[0], "fas": COLOURS[1]}

    @styled
    def build() -> Any:
        figure = new_figure(0.8 + (0.7 + 0.19 * len(schedules)) * len(problems), 1.3 + 1.9 * len(optimizers))
        # One scale per problem, so that optimisers compare too.
        grid = figure.subplots(len(optimizers), len(problems), sharex=True, sharey="col", squeeze=False)
        for (i, optimizer), (j, problem) in itertools.product(enumerate(optimizers), enumerate(problems)):
            axes = grid[i, j]
            for k, schedule in enumerate(schedules):
                cell = found.get((problem, optimizer, schedule))
                if cell is None:
                    continue
                shade = colour.get(schedule.partition("+")[0].rpartition("_")[2], "0.15")
                errors = [e for e in cell.errors if math.isfinite(e)]
                spread = np.linspace(-0.18, 0.18, len(errors)) if len(errors) > 1 else [0.0]
                axes.plot(k + np.asarray(spread), errors, "o", color=shade, markersize=2.6, alpha=0.65, mew=0)
                if math.isfinite(cell.median):
                    axes.hlines(cell.median, k - 0.36, k + 0.36, color=shade, linewidth=1.6)
            nested = found.get((problem, optimizer, "nested"))
            if nested is not None and math.isfinite(nested.median):
                axes.axhline(nested.median, color="0.6", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            if high > 10 * low:
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(-0.7, len(schedules) - 0.3)
            axes.set_xticks(range(len(schedules)), [s.replace("_", " ") for s in schedules], rotation=90)
            axes.tick_params(axis="x", length=0)
            axes.grid(axis="y", color="0.92", linewidth=0.6)
            axes.set_axisbelow(True)
            if i == 0:
                axes.set_title(problem.replace("_", " "))
            if j == 0:
                axes.set_ylabel(optimizer.replace("_", " "))
        figure.suptitle("Relative $L_2$ error at equal work; bars: medians; dashed: nested iteration")
        marks = [Line2D([], [], color=shade, linewidth=1.6) for shade in (*colour.values(), "0.15")]
        names = ["Galerkin coarse problem", "full approximation scheme", "no coarse problem"]
        figure.legend(marks, names, loc="outside lower center", ncols=3)
        return figure

    return build()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare schedules at equal work.")
    add = parser.add_argument
    add("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS, metavar="P", help="default: all")
    add("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS, metavar="O", help="default: all")
    known = sorted({*STUDY, *(name + TRANSFER for name in STUDY if TRANSFER not in name)})
    add("--schedules", nargs="+", default=list(STUDY), choices=known, metavar="S", help=f"of {', '.join(known)}")
    add("--seeds", nargs="+", type=int, default=list(range(5)), metavar="N", help="default: 0 1 2 3 4")
    add("--scale", type=float, default=1.0, help="multiplies the work of every run (default: %(default)s)")
    add("--jobs", type=int, default=2, help="runs at a time, one thread each (default: %(default)s)")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--figure", type=Path, default=FIGURE, help="default: %(default)s")
    add("--again", action="store_true", help="repeat runs that are already in the file")
    add("--table", action="store_true", help="run nothing: only the table and the figure of what is in the file")
    return parser.parse_args()


def run_all(wanted: Sequence[tuple[str, str, str, int, str]], path: Path, jobs: int) -> None:
    """Do some runs, a process per job, adding each to the CSV file as it ends."""
    results, began = rows.read(path, Result), time.perf_counter()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        pending = [pool.submit(solve, *key) for key in wanted]
        try:
            for done, future in enumerate(as_completed(pending), start=1):
                result = future.result()
                results.append(result)
                rows.write(path, Result, results)
                left = (time.perf_counter() - began) / done * (len(wanted) - done)
                print(
                    f"{done}/{len(wanted)} {result.problem} {result.optimizer} {result.schedule} seed {result.seed}: "
                    f"relative L2 {result.relative_l2:.2e}, {result.seconds:.1f} s; {left / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main() -> int:
    given = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through run_all, which leaves no worker behind
    runs = {
        key: " ".join(overrides_of(*key, given.scale))
        for key in itertools.product(given.problems, given.optimizers, given.schedules)
    }
    wanted = [(*key, seed, overrides) for seed in given.seeds for key, overrides in runs.items()]
    done = set() if given.again else {result.key for result in rows.read(given.csv, Result)}
    if not given.table:
        run_all([key for key in wanted if key not in done], given.csv, given.jobs)
    newest = {result.key: result for result in rows.read(given.csv, Result)}
    results = [newest[key] for key in wanted if key in newest]
    if not results:
        print("no runs", file=sys.stderr)
        return 1
    text = markdown(results)
    write_text(given.csv.with_suffix(".md"), text)
    draw(results, given.figure)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
