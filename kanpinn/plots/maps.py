"""Solution, reference and error over the whole domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.panels import bar, cuts, image, panels
from kanpinn.plots.style import (
    COLOURS,
    ERROR,
    axis_label,
    colours,
    finite,
    fit_horizontally,
    formula,
    heading,
    new_figure,
    note_not_finite,
    number,
    relative_l2,
    solution_colours,
    styled,
    symmetric_limit,
    with_unit,
)

_MARGIN = 0.06  # of the range of values, above and below lines


def error_of(data: SolutionFile, unknown: str) -> np.ndarray | None:
    """Return the error u − u_ref of an unknown on the grid, or None without a reference."""
    if f"{unknown}_error" in data.fields:
        return data.fields[f"{unknown}_error"]
    reference = data.fields.get(f"{unknown}_ref")
    return None if reference is None else data.fields[unknown] - reference


def _shown_error(data: SolutionFile, unknown: str) -> tuple[str, np.ndarray, tuple[str, ...]] | None:
    """Return the error's name, its values and a title: by the reference, else the estimate; None without either."""
    error, name = error_of(data, unknown), f"{unknown}_error"
    values = data.fields[unknown]
    reference = data.fields.get(f"{unknown}_ref")
    if error is None or reference is None:
        error, name = data.fields.get(f"{unknown}_error_estimate"), f"{unknown}_error_estimate"
        if error is None or not np.isfinite(error).any():
            return None
        reference = values - error
    largest = f"max {number(float(np.abs(finite(error)).max()))}"
    said = "error" if name.endswith("_error") else "estimated error"
    return name, error, (said, largest, f"relative $L_2$ {number(relative_l2(values, reference))}")


@styled
def solution_figure(
    data: SolutionFile, unknown: str, asked: Sequence[float] | None = None, scales: SolutionFile | None = None
) -> Figure:
    """Draw an unknown, its reference and its error; without a reference the unknown and its estimated error.

    Times asked for are where to cut, of a problem in time and two or more space coordinates. Solution and reference
    share one colour scale, set by the values of `scales` or those drawn; that of the error is symmetric about 0. The
    scale of a table's target is that of its rows: between them a network may go far beyond.
    """
    if len(data.axes) == 1:
        return _solution_lines(data, unknown, scales or data)
    layout = cuts(data, asked=asked)
    names = [name for name in (unknown, f"{unknown}_ref") if name in data.fields]
    shown = {name: np.asarray(data.fields[name], dtype=float) for name in names}
    whole = scales or data
    values = [whole.fields[name] for name in names]
    given = [part[unknown] for part in data.measured.values() if unknown in part] if "train" in data.measured else []
    painted = dict.fromkeys(names, solution_colours(*(given or values)))
    beyond = _beyond(painted[unknown][0], finite(*values))
    title: dict[str, tuple[str, ...]] = {unknown: (f"network {formula(unknown)}",), f"{unknown}_ref": ("reference",)}
    solutions = len(names)
    if (found := _shown_error(data, unknown)) is not None:
        names.append(found[0])
        shown[names[-1]], title[names[-1]] = found[1:]
        limit = symmetric_limit((_shown_error(whole, unknown) or found)[1])
        painted[names[-1]] = Normalize(-limit, limit), colours(ERROR)
    figure, grid = panels(data, layout, names, title)
    figure.suptitle(heading(data))
    for name, row in zip(names, grid, strict=True):
        for k, axes in enumerate(row):
            image(axes, data, layout, shown[name], k, *painted[name])
    # Network and reference share their scale, so where they stand side by side one bar, after the second, serves both.
    shared = range(len(names)) if len(layout.titles) > 1 else range(solutions - 1, len(names))
    for k in shared:
        label = axis_label(data, unknown) if k < solutions else with_unit(title[names[k]][0], data, unknown)
        bar(figure, grid[k][-1], *painted[names[k]], label, extend=beyond if k < solutions else "neither")
    return figure


def _beyond(norm: Normalize, values: np.ndarray) -> str:
    """Name the ends of a colour scale that values go beyond, as a colour bar calls them."""
    below, above = bool((values < norm.vmin).any()), bool((values > norm.vmax).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")


def _solution_lines(data: SolutionFile, unknown: str, scales: SolutionFile) -> Figure:
    """Draw an unknown of one variable, its reference above it, its error below."""
    (name,) = data.axes
    x, values, found = data.coordinates[name], data.fields[unknown], _shown_error(data, unknown)
    figure = new_figure(5.6, 4.6 if found else 3.2)
    figure.suptitle(heading(data))
    rows = figure.subplots(2 if found else 1, 1, sharex=True, squeeze=False)[:, 0]
    rows[0].plot(x, values, color=COLOURS[0], linewidth=1.8, label=f"network {formula(unknown)}")
    rows[0].set_ylabel(axis_label(data, unknown))
    note_not_finite(rows[0], values, data.outside)
    if scales is not data:
        everything = finite(*(scales.fields[name] for name in (unknown, f"{unknown}_ref") if name in scales.fields))
        margin = _MARGIN * (np.ptp(everything) or 1.0)
        rows[0].set_ylim(everything.min() - margin, everything.max() + margin)
    if f"{unknown}_ref" in data.fields:
        rows[0].plot(x, data.fields[f"{unknown}_ref"], color="black", linestyle=(0, (4, 3)), label="reference")
        rows[0].legend()
    if found:
        _, error, title = found
        limit = 1.08 * symmetric_limit((_shown_error(scales, unknown) or found)[1])
        rows[1].axhline(0, color="0.6", linewidth=0.6)
        rows[1].plot(x, error, color=COLOURS[1])
        rows[1].set(ylim=(-limit, limit), ylabel=title[0], title=",  ".join(title))
    rows[-1].set_xlabel(axis_label(data, name))
    fit_horizontally(rows[-1], x)
    return figure
