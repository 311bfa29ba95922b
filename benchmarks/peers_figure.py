"""The figure of `make bench`: error against seconds, one panel per problem."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from peers_run import Run
from peers_suite import CASES, SOLVERS, TITLES

from kanpinn.plots.style import COLOURS, new_figure, save, styled

COLUMNS = 4
MARKERS = ("o", "s", "^", "D", "v", "<", ">")
STYLES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (6, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (2, 2)),
)


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw medians over seeds at the time limits, with thin lines for the way there.

    Args:
        runs: The newest run of each problem, solver, seed and time limit.
        path: The PNG file.
    """
    save(figure_of(runs), path, dpi=150)


def way(runs: Sequence[Run]) -> list[tuple[float, float]]:
    """The median error over the seeds' longest runs at every time at which one was measured.

    Between measurements a run's error is read off the straight line of a log-log plot.

    Args:
        runs: Runs of one problem and solver.

    Returns:
        Pairs of seconds and error, by seconds.
    """
    longest: dict[int, Run] = {}
    for run in runs:
        if run.seed not in longest or run.limit > longest[run.seed].limit:
            longest[run.seed] = run
    logs = [[(math.log(s), math.log(e)) for s, e in run.points() if 0 < e < math.inf] for run in longest.values()]
    curves = [list(zip(*curve, strict=True)) for curve in logs if curve]
    if not curves:
        return []
    times = sorted({t for x, _ in curves for t in x if t >= max(x[0] for x, _ in curves)})
    medians = np.median([np.interp(times, x, y) for x, y in curves], axis=0)
    return [(math.exp(t), math.exp(m)) for t, m in zip(times, medians, strict=True)]


@styled
def figure_of(runs: Sequence[Run]) -> Any:
    """The figure.

    Args:
        runs: As in `draw`.

    Returns:
        A matplotlib figure.
    """
    problems = [case for case in CASES if any(run.problem == case for run in runs)]
    solvers = [solver for solver in SOLVERS if any(run.solver == solver for run in runs)]
    limits = sorted({run.limit for run in runs})
    columns = min(COLUMNS, len(problems))
    lines = -(-len(problems) // columns)
    figure = new_figure(0.9 + 2.05 * columns, 1.0 + 1.95 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, problem in zip(grid.flat, problems, strict=False):
        _panel(axes, [run for run in runs if run.problem == problem], limits)
        axes.set_title(TITLES[problem])
    for axes in grid.flat[len(problems) :]:
        axes.set_visible(False)
    first = grid[0, 0]
    first.set_xscale("log")
    first.set_yscale("log")
    first.set_xlim(1, 1.25 * limits[-1])
    low, high = first.get_ylim()
    first.set_ylim(max(low, 1e-16), min(high, 10.0))
    first.xaxis.set_major_locator(FixedLocator([1, *limits]))
    first.xaxis.set_minor_locator(NullLocator())
    first.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    first.yaxis.set_major_locator(LogLocator(10, numticks=9))
    first.yaxis.set_minor_formatter(NullFormatter())
    for number, axes in enumerate(grid.flat[: len(problems)]):
        axes.label_outer()
        if number + columns >= len(problems):  # nothing below it
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("seconds of training (s)")
        if number % columns == 0:
            axes.set_ylabel("relative $L_2$ error")
    handles = [
        Line2D([], [], color=COLOURS[k], linestyle=STYLES[k], marker=MARKERS[k], markersize=4, mew=0, linewidth=1.0)
        for k, solver in enumerate(SOLVERS)
        if solver in solvers
    ]
    figure.legend(
        handles, [SOLVERS[s].name for s in solvers], loc="outside lower center", ncols=min(len(solvers), 1 + columns)
    )
    return figure


def _panel(axes: Any, runs: Sequence[Run], limits: Sequence[int]) -> None:
    """Draw the runs of one problem: per solver the way of its median, and median, least and worst at the limits."""
    for k, solver in enumerate(SOLVERS):
        mine = [run for run in runs if run.solver == solver]
        if not mine:
            continue
        shade = COLOURS[k]
        curve = way(mine)
        axes.plot([s for s, _ in curve], [e for _, e in curve], color=shade, linewidth=1.0, linestyle=STYLES[k])
        marks = {}
        for limit in limits:
            errors = [run.error for run in mine if run.limit == limit and math.isfinite(run.error)]
            if errors:
                marks[limit] = statistics.median(errors)
                axes.vlines(limit, min(errors), max(errors), color=shade, linewidth=0.8, alpha=0.6)
        axes.plot(list(marks), list(marks.values()), MARKERS[k], color=shade, markersize=4, mew=0)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
