"""Growth of a Levenberg–Marquardt step: seconds and peak memory against parameters, points, depth and dimension.

    python benchmarks/growth.py [--threads 1] [--rounds 5]      # a minute, on a machine of its own

One thing varies at a time; parameters stay the same in all series but their own. Every step starts from the same
random parameters. The members of a series are timed by turns, medians count; seconds are CPU time, which other
processes disturb least; memory is the peak of torch's CPU allocator within one step. Slopes are least-squares fits
of the logarithms: seconds ~ x^slope.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import pi
from pathlib import Path
from typing import Any

import machine
import numpy as np
import rows
import torch
from jets import peak_memory
from sources import ROOT
from torch import Tensor

from kanpinn.geometry import Box, Coordinates
from kanpinn.io.atomic import write_text
from kanpinn.jets.jet import Jet
from kanpinn.pde import Condition, Point, Problem
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve

CSV = ROOT / "outputs" / "benchmarks" / "growth.csv"
FIGURE = ROOT / "benchmarks" / "growth.png"
NAMES = "xyzwv"
POINTS, DEGREE = 2000, 5


def cube(dim: int) -> Problem:
    """Poisson's equation on [-1, 1]^dim with u = Π sin πx, conditions met by construction.

    Args:
        dim: Dimensions, 1 to 5.

    Returns:
        The problem.
    """
    names = NAMES[:dim]

    class Cube(Problem):
        domain = Box(**dict.fromkeys(names, (-1, 1)))
        derivatives = tuple(2 * name for name in names)

        def residual(self, p: Point) -> Tensor:
            laplacian = sum((getattr(p, f"u_{2 * name}") for name in names), start=0 * p.u)
            return laplacian + dim * pi**2 * self.reference(p)

        def conditions(self) -> list[Condition]:
            return [Condition("boundary", tuple(name + end for name in names for end in "-+"), lambda p: p.u)]

        def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
            return math.prod(1 - getattr(p, name) ** 2 for name in names) * raw.u

        def reference(self, p: Coordinates | Point) -> Tensor:
            return math.prod(torch.sin(pi * getattr(p, name)) for name in names)

    return Cube()


@dataclass(frozen=True)
class Member:
    """One network with its points.

    Attributes:
        series: What varies.
        x: Its value; for parameters their number, known when built.
        width: Hidden widths.
        grid: Spline intervals.
        points: Collocation points.
        dim: Dimensions.
    """

    series: str
    x: int
    width: tuple[int, ...]
    grid: int
    points: int = POINTS
    dim: int = 2


MEMBERS = [
    *(Member("parameters", 24 * (n + DEGREE), (8,), n) for n in (4, 10, 24, 48, 80)),
    *(Member("points", n, (8,), 10, points=n) for n in (500, 1000, 2000, 4000, 8000)),
    # 88 to 90 edges of 13 coefficients each.
    *(Member("depth", len(w), w, 8) for w in ((30,), (8, 8), (6, 6, 6), (5, 5, 5, 5))),
    # 60 edges of 13 coefficients each.
    *(Member("dimension", d, (60 // (d + 1),), 8, dim=d) for d in (2, 3, 4, 5)),
]


@dataclass(frozen=True)
class Cost:
    """One line of the CSV file: what a step of one member cost.

    Attributes:
        series: What varies.
        x: Its value.
        parameters: Of the network.
        points: Collocation points.
        seconds: CPU time of one step, all threads together, the median.
        mebibytes: Peak of torch's allocator.
        threads: Threads it had.
        load: Load of the machine when the benchmark began.
        cpu: Processor.
        torch: Version.
    """

    series: str
    x: int
    parameters: int
    points: int
    seconds: float
    mebibytes: float
    threads: int
    load: float | None
    cpu: str
    torch: str


def prepare(member: Member, threads: int) -> tuple[Callable[[], object], int]:
    """Build a member's network and points.

    Args:
        member: What to build.
        threads: Threads of torch.

    Returns:
        One Levenberg–Marquardt step as a call that always starts from the same state, and the number of parameters.
    """
    chosen = {
        "backbone.width": list(member.width),
        "backbone.degree": DEGREE,
        "backbone.grid": member.grid,
        "sampler.interior": member.points,
        "schedule.levels": 1,
        "schedule.steps": 1,
        "threads": threads,
    }
    words = [
        "problem=poisson",
        "backbone=kan",
        "sampler=sobol",
        *(f"{key}={value}".replace(" ", "") for key, value in chosen.items()),
    ]
    setup = replace(validate(compose(words)[0]).setup, problem=cube(member.dim))
    training = SlabSolve(replace(setup, points=2))
    enter(training, setup.plan()[0])
    theta = training.hierarchy.theta
    training.resample(theta)
    optimizer = setup.optimizer

    def step() -> object:
        optimizer.start(training.least_squares.size, 1)
        return optimizer.step(training.least_squares, theta)

    return step, training.least_squares.size


def measure(members: Sequence[Member], rounds: int, threads: int) -> list[Cost]:
    """Time the members of one series by turns.

    Args:
        members: The series.
        rounds: Steps timed of each.
        threads: Threads of torch.

    Returns:
        One line per member.
    """
    load = machine.load()
    calls = [prepare(member, threads) for member in members]
    seconds: list[list[float]] = [[] for _ in members]
    for call, _ in calls:
        call()
    for _ in range(rounds):
        for (call, _), times in zip(calls, seconds, strict=True):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
    return [
        Cost(
            m.series, m.x, size, m.points, statistics.median(times), round(peak_memory(call), 2), threads, load,
            machine.cpu_model(), torch.__version__,
        )
        for m, (call, size), times in zip(members, calls, seconds, strict=True)
    ]  # fmt: skip


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent b of y ~ x^b, fitted by least squares to the logarithms.

    Args:
        x: Positive values `[n]`.
        y: Positive values `[n]`.

    Returns:
        The exponent.
    """
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def markdown(costs: Sequence[Cost]) -> str:
    """The table with its slopes.

    Args:
        costs: All lines.

    Returns:
        Markdown text.
    """
    lines = ["| varied | value | parameters | points | CPU s per step | peak MiB | slope of s | slope of MiB |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    for series in dict.fromkeys(cost.series for cost in costs):
        mine = [cost for cost in costs if cost.series == series]
        x = [cost.x for cost in mine]
        fits = [f"{slope(x, [getattr(cost, name) for cost in mine]):.2f}" for name in ("seconds", "mebibytes")]
        for k, c in enumerate(mine):
            shown = fits if k == len(mine) - 1 else ["", ""]
            cells = [series if k == 0 else "", f"{c.x}", f"{c.parameters}", f"{c.points}", f"{c.seconds:.4f}"]
            lines.append(f"| {' | '.join([*cells, f'{c.mebibytes:.1f}', *shown])} |")
    first = costs[0]
    busy = "" if first.load is None else f", load {max(c.load or 0 for c in costs):.1f} when a series began"
    lines += ["", f"{first.cpu}, {first.threads} thread(s){busy}, torch {first.torch}, float64."]
    return "\n".join(lines) + "\n"


def figure_of(costs: Sequence[Cost]) -> Any:
    """Seconds and memory against what varies, with the fitted lines.

    Args:
        costs: All lines.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    from kanpinn.plots.style import COLOURS, new_figure, styled

    @styled
    def build() -> Any:
        series = list(dict.fromkeys(cost.series for cost in costs))
        figure = new_figure(0.8 + 2.1 * len(series), 4.4)
        grid = figure.subplots(2, len(series), sharex="col", sharey="row", squeeze=False)
        kinds = (("seconds", "CPU time per step (s)"), ("mebibytes", "peak memory (MiB)"))
        for i, (name, label) in enumerate(kinds):
            for j, kind in enumerate(series):
                axes = grid[i, j]
                mine = [cost for cost in costs if cost.series == kind]
                x, y = [c.x for c in mine], [getattr(c, name) for c in mine]
                b = slope(x, y)
                scale = np.exp(np.mean(np.log(y)) - b * np.mean(np.log(x)))
                ends = np.array([x[0], x[-1]], dtype=float)
                axes.plot(ends, scale * ends**b, "-", color="0.6", linewidth=0.9)
                axes.plot(x, y, "o", color=COLOURS[i], markersize=4, mew=0)
                axes.set_xscale("log")
                axes.set_yscale("log")
                axes.text(0.94, 0.06, f"slope {b:.2f}", transform=axes.transAxes, ha="right")
                axes.xaxis.set_major_locator(FixedLocator(x))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.grid(color="0.92", linewidth=0.6)
                axes.set_axisbelow(True)
                if i == 1:
                    axes.set_xlabel({"depth": "hidden layers"}.get(kind, kind))
                    axes.tick_params(axis="x", labelrotation=45 if max(x) > 99 else 0)
                if j == 0:
                    axes.set_ylabel(label)
        return figure

    return build()


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of a Levenberg–Marquardt step and its growth.")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="steps timed of each network (default: %(default)s)")
    parser.add_argument("--csv", type=Path, default=CSV, help="default: %(default)s")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="default: %(default)s")
    given = parser.parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # some builds of torch narrate every use of the profiler
    torch.set_num_threads(given.threads)
    costs: list[Cost] = []
    for series in dict.fromkeys(member.series for member in MEMBERS):
        members = [member for member in MEMBERS if member.series == series]
        costs += measure(members, given.rounds, given.threads)
    rows.write(given.csv, Cost, costs)
    text = markdown(costs)
    write_text(given.csv.with_suffix(".md"), text)
    from kanpinn.plots.style import save

    save(figure_of(costs), given.figure, dpi=150)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
