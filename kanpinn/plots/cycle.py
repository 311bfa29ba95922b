"""The cycle diagram: which level was under work when, for how many steps, and what error each visit left."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.history import coarse_visits
from kanpinn.plots.style import COLOURS, formula, grid_lines, heading, level_name, log_ticks, new_figure, styled

_FULL, _COARSE = COLOURS[0], COLOURS[1]
_MOST = 60  # visits with their numbers of steps beside them


@styled
def cycle_figure(data: SolutionFile) -> Figure | None:
    """Draw the visits of levels as the multigrid literature does, with the errors they left; None without levels."""
    records = [record for record in data.levels if record.get("slab", 0) == 0]
    if not records:
        return None
    slabs = len({record.get("slab", 0) for record in data.levels})
    levels = np.array([int(record["level"]) for record in records])
    errors = _errors(records)
    height = 0.55 * (levels.max() - levels.min()) + 1.5
    figure = new_figure(min(11.0, max(4.8, 0.32 * len(records) + 2.4)), height + (1.9 if errors else 0.4))
    slab_note = f",  first of {slabs} time slabs" if slabs > 1 else ""
    figure.suptitle(f"{heading(data)}{slab_note}")
    panels = figure.subplots(
        2 if errors else 1, 1, sharex=True, squeeze=False, height_ratios=[height, 1.8] if errors else [1]
    )[:, 0]
    _draw_visits(panels[0], records, levels)
    if errors:
        _draw_errors(panels[1], records, errors)
        prefix = "relative $L_2$ error"
        panels[1].set_ylabel(prefix if len(errors) > 1 else f"{prefix} of {formula(next(iter(errors)))}")
        if len(errors) > 1:
            panels[1].legend(ncols=3)
    panels[-1].set_xlabel("visit")
    panels[-1].set_xlim(0.4, len(records) + 0.6)
    panels[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return figure


def _errors(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The error each visit left, by unknown `[n_visits]`, NaN where there is none; without those never known."""
    names = dict.fromkeys(name for record in records for name in record.get("relative_l2") or {})
    table = {
        name: np.array([(record.get("relative_l2") or {}).get(name) or np.nan for record in records], dtype=float)
        for name in names
    }
    return {name: values for name, values in table.items() if np.isfinite(values).any()}


def _draw_visits(axes: Axes, records: list[dict[str, Any]], levels: np.ndarray) -> None:
    """Draw one dot per visit, joined in their order; steps beside the dots."""
    coarse = coarse_visits(records)
    place = np.arange(1, len(records) + 1)
    axes.plot(place, levels, color="0.6", linewidth=1.0, zorder=1)
    steps = [int(record.get("steps") or 0) for record in records]
    for x, level, number, below in zip(place, levels, steps, coarse, strict=True):
        colour = _COARSE if below else _FULL
        size = 5.5 if number else 3.5
        axes.plot(x, level, "o", color=colour, markersize=size, markerfacecolor=colour if number else "white", zorder=2)
        if number and len(records) <= _MOST:
            axes.annotate(
                str(number), (x, level), xytext=(0, 5.5), textcoords="offset points", ha="center", fontsize=7.5
            )
    grids = {int(record["level"]): record.get("grid") for record in records}
    ticks = range(levels.min(), levels.max() + 1)
    names = [f"level {k}" + ("" if grids.get(k) is None else f",  {level_name(k, grids[k])}") for k in ticks]
    axes.set_yticks(list(ticks), names)
    axes.set_ylim(levels.min() - 0.4, levels.max() + 0.65)
    axes.tick_params(axis="y", length=0)
    grid_lines(axes, "y")
    axes.set_title("numbers: optimiser steps", loc="left", fontsize=8.5, color="0.3")
    if coarse.any():
        handles = [
            Line2D([], [], color=colour, marker="o", linestyle="none", markersize=5.5, label=label)
            for colour, label in ((_FULL, "network of this level"), (_COARSE, "coarse problem"))
        ]
        axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1, fontsize=8.5)


def _draw_errors(axes: Axes, records: list[dict[str, Any]], errors: dict[str, np.ndarray]) -> None:
    """Draw the error at the end of each visit; those with steps as dots."""
    place = np.arange(1, len(records) + 1)
    everything = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in errors.values()])
    for k, (name, values) in enumerate(errors.items()):
        colour = "0.2" if len(errors) == 1 else COLOURS[(k + 2) % len(COLOURS)]
        known = np.isfinite(values) & (values > 0)
        axes.semilogy(place[known], values[known], color=colour, marker="o", markersize=3, label=formula(name))
    if len(everything):
        log_ticks(axes.yaxis, float(np.log10(everything.max() / everything.min())))
    grid_lines(axes, "y")
