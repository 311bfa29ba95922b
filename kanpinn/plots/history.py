"""The course of the optimisation: loss, terms and error against steps and seconds, levels below; the cycle diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import COLOURS, formula, grid_lines, heading, level_name, log_ticks, new_figure, plain, styled

_CROWDED = 0.045  # level labels closer than this share of the axis are left out
_FEW = 12  # more level changes than this are not marked by lines
_PALE = 0.35  # share of its colour that a pale line keeps
_STAIRS = 0.3  # height of the staircase, in panels


def level_changes(data: SolutionFile) -> list[tuple[int, str]]:
    """Find each level's beginning: its row of the history and its name."""
    levels = np.asarray(data.history.get("level", []))
    if not levels.size:
        return []
    grids = {record.get("level"): record.get("grid") for record in data.levels}
    starts = [0, *(np.flatnonzero(np.diff(levels)) + 1)]
    return [(int(k), level_name(int(levels[k]), grids.get(int(levels[k])))) for k in starts]


def coarse_visits(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Mask of the visits of a coarse problem, while a finer level waits for its correction, `[n_visits]`."""
    change = {"restrict": 1, "correct": -1}
    return np.cumsum([change.get(str(record.get("entered")), 0) for record in records], dtype=int) > 0


def coarse_steps(data: SolutionFile) -> np.ndarray:
    """Mask of the steps on a coarse problem, `[n_steps]`; all False where the levels do not account for every step."""
    many = len(data.history.get("step", []))
    visits = [int(record.get("steps") or 0) for record in data.levels]
    if sum(visits) != many:
        return np.zeros(many, bool)
    return np.repeat(coarse_visits(data.levels), visits)


@styled
def history_figure(data: SolutionFile) -> Figure | None:
    """Draw loss, loss terms and relative L2 errors on logarithmic axes, against steps and against seconds.

    Where there are several levels, a staircase below shows the one under work; steps on coarse problems in between are
    drawn pale. None where the history is empty.
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
    pale = coarse_steps(data)
    stairs = len(set(np.asarray(history.get("level", [])).tolist())) > 1
    heights = [1.0] * (2 if errors else 1) + [_STAIRS] * stairs
    figure = new_figure(4.0 * len(against) + 0.4, 2.4 * sum(heights) + 1.1)
    figure.suptitle(heading(data))
    grid = figure.subplots(len(heights), len(against), sharex="col", sharey="row", squeeze=False, height_ratios=heights)
    for column, (label, abscissa) in enumerate(against.items()):
        _draw(grid[0, column], abscissa, {"total": history["loss"], **terms}, pale, total=True)
        if errors:
            _draw(grid[1, column], abscissa, errors, pale, total=False)
        if stairs:
            _draw_levels(grid[-1, column], data, abscissa)
        grid[-1, column].set_xlabel(label)
        for row in range(len(heights) - stairs):
            _mark_levels(grid[row, column], data, abscissa, labelled=row == 0)
    grid[0, 0].set_ylabel("loss")
    if errors:
        grid[1, 0].set_ylabel("relative $L_2$ error" + (" on the time slab" if "slab" in data.history else ""))
        if len(errors) > 1:
            grid[1, 0].legend()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if pale.any():
        handles, labels = [*handles, Line2D([], [], color="0.7", linewidth=1.6)], [*labels, "on coarse problems"]
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(handles)))
    return figure


def _draw(axes: Axes, abscissa: np.ndarray, lines: dict[str, np.ndarray], pale: np.ndarray, total: bool) -> None:
    """Draw the finite positive values of some columns, pale steps in a lighter tone; the total bold."""
    # Errors take the colours from the other end: none of them is one of the loss terms above.
    palette = ("black", *COLOURS) if total else ("black", *reversed(COLOURS))
    # A pale piece reaches out to the steps before and after it, so that no gap is left.
    around = pale | np.append(pale[1:], False) | np.append(False, pale[:-1])
    for k, (name, values) in enumerate(lines.items()):
        values = np.asarray(values, dtype=float)
        keep = np.isfinite(values) & (values > 0)
        bold = total and k == 0
        colour = palette[k % len(palette)]
        style = {
            "linewidth": 1.6 if bold else 1.0,
            "marker": "o" if not total and keep.sum() <= 60 else None,
            "markersize": 2.5,
        }
        axes.plot(
            abscissa[keep],
            np.where(pale, np.nan, values)[keep],
            color=colour,
            zorder=3 if bold else 2,
            label=plain(name.replace("_", " ")) if total else name,
            **style,
        )
        if pale.any():
            axes.plot(
                abscissa[keep],
                np.where(around, values, np.nan)[keep],
                color=_PALE * np.array(to_rgb(colour)) + 1 - _PALE,
                zorder=2 if bold else 1.5,
                **style,
            )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    log_ticks(axes.yaxis, float(np.log10(high / low)))
    if len(abscissa) > 1 and abscissa[-1] > abscissa[0]:
        axes.set_xlim(min(float(abscissa[0]), 0.0), float(abscissa[-1]))
    grid_lines(axes, "y", grey="0.9")


def _changes(data: SolutionFile, abscissa: np.ndarray, low: float) -> list[tuple[float, str]]:
    """Beginning of each level on an axis, halfway between the old level's last step and its first, and its name."""
    return [(low if k == 0 else 0.5 * float(abscissa[k - 1] + abscissa[k]), name) for k, name in level_changes(data)]


def _draw_levels(axes: Axes, data: SolutionFile, abscissa: np.ndarray) -> None:
    """Draw the level under work as a staircase."""
    low, high = axes.get_xlim()
    places = [place for place, _ in _changes(data, abscissa, low)]
    levels = [int(data.history["level"][k]) for k, _ in level_changes(data)]
    names = dict(zip(levels, (name for _, name in level_changes(data)), strict=True))
    bottom, top = min(levels), max(levels)
    axes.stairs(levels, [*places, high], baseline=bottom - 0.5, fill=True, color="0.88", zorder=1)
    axes.stairs(levels, [*places, high], baseline=None, color="0.25", linewidth=1.0, zorder=2)
    axes.set_ylim(bottom - 0.5, top + 0.5)
    ticks = range(bottom, top + 1, 1 + (top - bottom) // 5)
    axes.set_yticks(ticks, [names.get(level, f"level {level}") for level in ticks])
    axes.tick_params(axis="y", length=0)


def _mark_levels(axes: Axes, data: SolutionFile, abscissa: np.ndarray, labelled: bool) -> None:
    """Mark where levels begin by thin lines, with their names above the axes where there is room.

    Cycles are left to the staircase: dozens of lines would hide the curves.
    """
    low, high = axes.get_xlim()
    changes = _changes(data, abscissa, low)
    levels = np.asarray(data.history.get("level", []))
    if len(changes) > _FEW or (np.diff(levels) < 0).any():
        return
    last = -np.inf
    for k, (place, name) in enumerate(changes):
        if k > 0:
            axes.axvline(place, color="0.45", linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
        share = (place - low) / (high - low)
        if labelled and share - last > _CROWDED * len(name) / 4:
            axes.annotate(
                name, (place, 1), xycoords=axes.get_xaxis_transform(), xytext=(1, 3), textcoords="offset points",
                fontsize=8.5, color="0.3",
            )  # fmt: skip
            last = share


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
