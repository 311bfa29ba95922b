"""Error against seconds of several runs, one panel per problem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kanpinn.compare.comparison import Run
from kanpinn.plots.style import COLOURS, grid_lines, new_figure, plain, problem_title, styled

_PREFIX = "relative_l2_"
_WIDE = 20.0  # a logarithmic axis of seconds where the longest run took so many times the shortest
_DASHES: tuple = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


@styled
def comparison_figure(runs: Sequence[Run]) -> Figure | None:
    """Draw each run's largest error against seconds, its loss where none has a reference; None without a history."""
    curves = {id(run): curve for run in runs if (curve := error_curve(run)) is not None}
    losses = not curves
    if losses:
        curves = {id(run): curve for run in runs if (curve := _curve(run, "loss")) is not None}
    problems = list(dict.fromkeys(run.problem for run in runs if id(run) in curves))
    if not problems:
        return None
    columns = min(3, len(problems))
    rows = -(-len(problems) // columns)
    legends = [sum(run.problem == problem for run in runs) for problem in problems]
    figure = new_figure(4.1 * columns + 0.9, rows * (3.0 + 0.19 * max(legends)) + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=False)
    for axes, problem in zip(grid.flat, problems, strict=False):
        own = [run for run in runs if run.problem == problem]
        _draw(axes, own, curves, final=not losses)
        axes.set_title(problem_title(problem))
        slabs = any("slab" in run.history for run in own)
        axes.set_ylabel("loss" if losses else "relative $L_2$ error" + (" on the time slab" if slabs else ""))
        axes.set_xlabel("seconds of training")
    for axes in grid.flat[len(problems) :]:
        axes.remove()
    return figure


def error_curve(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Return seconds and largest error after each step, both `[n_steps]`; None without a reference or a history."""
    columns = [values for name, values in run.history.items() if name.startswith(_PREFIX)]
    columns = [np.asarray(values, float) for values in columns if np.isfinite(np.asarray(values, float)).any()]
    if not columns or "wall_time" not in run.history:
        return None
    return np.asarray(run.history["wall_time"], float), np.max(columns, axis=0)


def _curve(run: Run, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    values = np.asarray(run.history.get(name, []), float)
    if "wall_time" not in run.history or not (np.isfinite(values) & (values > 0)).any():
        return None
    return np.asarray(run.history["wall_time"], float), values


def _draw(axes: Axes, runs: Sequence[Run], curves: dict, final: bool) -> None:
    """Draw the runs of one problem; where each ended is marked by its error over the whole output grid."""
    missing, spans = [], []
    for k, run in enumerate(runs):
        if id(run) not in curves:
            missing.append(run)
            continue
        seconds, values = curves[id(run)]
        colour, dashes = COLOURS[k % len(COLOURS)], _DASHES[k // len(COLOURS) % len(_DASHES)]
        good = np.isfinite(values) & (values > 0)
        ended = "" if run.status in ("converged", "step_limit") else f"  ({run.status.replace('_', ' ')})"
        ended += "  (doubtful)" if run.flags else ""
        axes.plot(seconds[good], values[good], color=colour, linestyle=dashes, label=plain(f"{run.name}{ended}"))
        last, total = run.error, run.metrics.get("wall_time_s")
        if final and last and np.isfinite(last) and total:
            failed = run.status in ("diverged", "interrupted")
            axes.plot(
                total, last, marker="X" if failed else "o", color=colour, markersize=6.5, linestyle="none",
                markeredgecolor="white", markeredgewidth=0.6, zorder=4, clip_on=False,
            )  # fmt: skip
        spans.append((float(seconds[0]), max(float(seconds[-1]), float(total or 0))))
    axes.set_yscale("log")
    ends = [end for _, end in spans if end > 0]
    if ends and max(ends) > _WIDE * min(ends):
        axes.set_xscale("log")
    elif ends:
        axes.set_xlim(0, 1.02 * max(ends))
    grid_lines(axes)
    handles, labels = axes.get_legend_handles_labels()
    for run in missing:
        handles.append(Line2D([], [], linestyle="none"))
        why = "no history" if not run.history else "no reference"
        labels.append(plain(f"{run.name}  ({run.status.replace('_', ' ')}, {why})"))
    if final and any(run.error for run in runs):
        handles.append(Line2D([], [], linestyle="none", marker="o", color="0.4", markersize=5.5))
        labels.append("at the end, on the whole output grid")
    axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8, handlelength=2.2)
