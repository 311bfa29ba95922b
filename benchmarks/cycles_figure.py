"""The figure of `cycles.py`: errors at equal work, a panel per problem and optimiser."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cycles_run import Result
from cycles_table import Cell, cells
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from kanpinn.plots.style import COLOURS, new_figure, save, styled

COLOUR = {"galerkin": COLOURS[0], "fas": COLOURS[1]}


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw errors by schedule, a dot per seed and a bar for their median, one panel per problem and optimiser.

    Args:
        results: The newest run of each problem, optimiser, schedule and seed.
        path: The PNG file.
    """
    save(figure_of(results), path, dpi=150)


@styled
def figure_of(results: Sequence[Result]) -> Any:
    """Build the figure of `draw` and return it."""
    found = cells(results)
    problems, optimizers, schedules = (list(dict.fromkeys(key[k] for key in found)) for k in range(3))
    figure = new_figure(0.8 + (0.7 + 0.19 * len(schedules)) * len(problems), 1.3 + 1.9 * len(optimizers))
    # One scale per problem, so that optimisers compare too.
    grid = figure.subplots(len(optimizers), len(problems), sharex=True, sharey="col", squeeze=False)
    for (i, optimizer), (j, problem) in itertools.product(enumerate(optimizers), enumerate(problems)):
        _panel(grid[i, j], found, (problem, optimizer), schedules)
        if i == 0:
            grid[i, j].set_title(problem.replace("_", " "))
        if j == 0:
            grid[i, j].set_ylabel(optimizer.replace("_", " "))
    figure.suptitle("Relative $L_2$ error at equal work; bars: medians; dashed: nested iteration")
    marks = [Line2D([], [], color=shade, linewidth=1.6) for shade in (*COLOUR.values(), "0.15")]
    names = ["Galerkin coarse problem", "full approximation scheme", "no coarse problem"]
    figure.legend(marks, names, loc="outside lower center", ncols=3)
    return figure


def _panel(
    axes: Any, found: Mapping[tuple[str, str, str], Cell], where: tuple[str, str], schedules: Sequence[str]
) -> None:
    """Draw the errors of one problem and optimiser, a dot per seed and a bar for their median."""
    for k, schedule in enumerate(schedules):
        cell = found.get((*where, schedule))
        if cell is None:
            continue
        shade = COLOUR.get(schedule.partition("+")[0].rpartition("_")[2], "0.15")
        errors = [e for e in cell.errors if math.isfinite(e)]
        spread = np.linspace(-0.18, 0.18, len(errors)) if len(errors) > 1 else [0.0]
        axes.plot(k + np.asarray(spread), errors, "o", color=shade, markersize=2.6, alpha=0.65, mew=0)
        if math.isfinite(cell.median):
            axes.hlines(cell.median, k - 0.36, k + 0.36, color=shade, linewidth=1.6)
    nested = found.get((*where, "nested"))
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
