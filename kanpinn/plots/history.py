"""The course of the optimisation: loss, its terms and the error, against steps and seconds, level changes marked."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import COLOURS, formula, heading, new_figure, styled

_CROWDED = 0.045  # level labels closer than this share of the axis are left out


def level_changes(data: SolutionFile) -> list[tuple[int, str]]:
    """Find where each level begins and what to call it.

    Args:
        data: The solution.

    Returns:
        Row of the history and label of each level's beginning: its grid as "G = 8", else "level 1".
    """
    levels = np.asarray(data.history.get("level", []))
    if not levels.size:
        return []
    grids = {record.get("level"): record.get("grid") for record in data.levels}
    starts = [0, *(np.flatnonzero(np.diff(levels)) + 1)]

    def name(level: int) -> str:
        grid = grids.get(level)
        return f"level {level}" if grid is None else f"$G$ = {grid}"

    return [(int(k), name(int(levels[k]))) for k in starts]


@styled
def history_figure(data: SolutionFile) -> Figure | None:
    """Draw loss, loss terms and relative L2 errors on logarithmic axes, against steps and against seconds.

    Args:
        data: The solution.

    Returns:
        The figure; None where the history is empty.
    """
    history = data.history
    if not len(history.get("step", [])) or "loss" not in history:
        return None
    terms = {name[len("term_") :]: values for name, values in history.items() if name.startswith("term_")}
    if len(terms) == 1:
        terms = {}  # it is the total
    prefix = "relative_l2_"
    errors = {formula(name[len(prefix) :]): v for name, v in history.items() if name.startswith(prefix)}
    errors = {name: values for name, values in errors.items() if np.isfinite(values).any()}
    against = {"optimiser step": history["step"]}
    if "wall_time" in history:
        against["wall time (s)"] = history["wall_time"]
    rows = 2 if errors else 1
    figure = new_figure(4.0 * len(against) + 0.4, 2.4 * rows + 1.1)
    figure.suptitle(heading(data))
    grid = figure.subplots(rows, len(against), sharex="col", sharey="row", squeeze=False)
    for column, (label, abscissa) in enumerate(against.items()):
        _draw(grid[0, column], abscissa, {"total": history["loss"], **terms}, total=True)
        if errors:
            _draw(grid[1, column], abscissa, errors, total=False)
        grid[-1, column].set_xlabel(label)
        for row in range(rows):
            _mark_levels(grid[row, column], data, abscissa, labelled=row == 0)
    grid[0, 0].set_ylabel("loss")
    if errors:
        grid[1, 0].set_ylabel("relative $L_2$ error")
        if len(errors) > 1:
            grid[1, 0].legend()
    if terms:
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=min(6, 1 + len(terms)))
    return figure


def _draw(axes: Axes, abscissa: np.ndarray, lines: dict[str, np.ndarray], total: bool) -> None:
    """Draw the finite positive values of some columns; the first one bold where it is the total."""
    # Errors take the colours from the other end: none of them is one of the loss terms above.
    palette = ("black", *COLOURS) if total else ("black", *reversed(COLOURS))
    for k, (name, values) in enumerate(lines.items()):
        keep = np.isfinite(values) & (np.asarray(values) > 0)
        bold = total and k == 0
        axes.plot(
            abscissa[keep],
            np.asarray(values)[keep],
            color=palette[k % len(palette)],
            linewidth=1.6 if bold else 1.0,
            zorder=3 if bold else 2,
            marker="o" if not total and keep.sum() <= 60 else None,
            markersize=2.5,
            label=name.replace("_", " ") if total else name,
        )
    axes.set_yscale("log")
    if len(abscissa) > 1 and abscissa[-1] > abscissa[0]:
        axes.set_xlim(min(float(abscissa[0]), 0.0), float(abscissa[-1]))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _mark_levels(axes: Axes, data: SolutionFile, abscissa: np.ndarray, labelled: bool) -> None:
    """Mark where levels begin by thin lines, with their names above the axes where there is room."""
    low, high = axes.get_xlim()
    last = -np.inf
    for k, name in level_changes(data):
        # The step before is the last of the old level, so the change lies between the two.
        place = low if k == 0 else 0.5 * float(abscissa[k - 1] + abscissa[k])
        if k > 0:
            axes.axvline(place, color="0.45", linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
        share = (place - low) / (high - low)
        if labelled and share - last > _CROWDED * len(name) / 4:
            axes.annotate(
                name, (place, 1), xycoords=axes.get_xaxis_transform(), xytext=(1, 3), textcoords="offset points",
                fontsize=8.5, color="0.3",
            )  # fmt: skip
            last = share
