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


def _error_numbers(data: SolutionFile, unknown: str, error: np.ndarray) -> tuple[str, str]:
    """Two numbers that say how large an error is."""
    total = relative_l2(data.fields[unknown], data.fields[f"{unknown}_ref"])
    return f"max {number(float(np.abs(finite(error)).max()))}", f"relative $L_2$ {number(total)}"


@styled
def solution_figure(
    data: SolutionFile, unknown: str, asked: Sequence[float] | None = None, scales: SolutionFile | None = None
) -> Figure:
    """Draw an unknown, its reference and its error; without a reference the unknown alone.

    Times asked for are where to cut, of a problem in time and two or more space coordinates. Solution and reference
    share one colour scale, set by the values of `scales` or those drawn; that of the error is symmetric about 0.
    """
    if len(data.axes) == 1:
        return _solution_lines(data, unknown, scales or data)
    layout = cuts(data, asked=asked)
    names = [name for name in (unknown, f"{unknown}_ref") if name in data.fields]
    shown = {name: np.asarray(data.fields[name], dtype=float) for name in names}
    whole = scales or data
    painted = dict.fromkeys(names, solution_colours(*(whole.fields[name] for name in names)))
    title: dict[str, tuple[str, ...]] = {unknown: (f"network {formula(unknown)}",), f"{unknown}_ref": ("reference",)}
    error = error_of(data, unknown)
    if error is not None and len(names) == 2:
        names.append(f"{unknown}_error")
        largest = error_of(whole, unknown)
        limit = symmetric_limit(error if largest is None else largest)
        shown[names[-1]], painted[names[-1]] = error, (Normalize(-limit, limit), colours(ERROR))
        title[names[-1]] = ("error", *_error_numbers(data, unknown, error))
    figure, grid = panels(data, layout, names, title)
    figure.suptitle(heading(data))
    for name, row in zip(names, grid, strict=True):
        for k, axes in enumerate(row):
            image(axes, data, layout, shown[name], k, *painted[name])
    # Network and reference share their scale, so where they stand side by side one bar, after the second, serves both.
    shared = range(len(names)) if len(layout.titles) > 1 else range(min(len(names), 2) - 1, len(names))
    for k in shared:
        label = with_unit("error", data, unknown) if names[k].endswith("_error") else axis_label(data, unknown)
        bar(figure, grid[k][-1], *painted[names[k]], label)
    return figure


def _solution_lines(data: SolutionFile, unknown: str, scales: SolutionFile) -> Figure:
    """Draw an unknown of one variable, its reference above it, its error below."""
    (name,) = data.axes
    x, values, error = data.coordinates[name], data.fields[unknown], error_of(data, unknown)
    with_error = error is not None and f"{unknown}_ref" in data.fields
    figure = new_figure(5.6, 4.6 if with_error else 3.2)
    figure.suptitle(heading(data))
    rows = figure.subplots(2 if with_error else 1, 1, sharex=True, squeeze=False)[:, 0]
    rows[0].plot(x, values, color=COLOURS[0], linewidth=1.8, label=f"network {formula(unknown)}")
    rows[0].set_ylabel(axis_label(data, unknown))
    note_not_finite(rows[0], values, data.outside)
    if scales is not data:
        everything = finite(*(scales.fields[name] for name in (unknown, f"{unknown}_ref") if name in scales.fields))
        margin = _MARGIN * (np.ptp(everything) or 1.0)
        rows[0].set_ylim(everything.min() - margin, everything.max() + margin)
    if with_error and error is not None:
        rows[0].plot(x, data.fields[f"{unknown}_ref"], color="black", linestyle=(0, (4, 3)), label="reference")
        rows[0].legend()
        largest = error_of(scales, unknown)
        limit = 1.08 * symmetric_limit(error if largest is None else largest)
        rows[1].axhline(0, color="0.6", linewidth=0.6)
        rows[1].plot(x, error, color=COLOURS[1])
        rows[1].set(
            ylim=(-limit, limit), ylabel="error", title=",  ".join(["error", *_error_numbers(data, unknown, error)])
        )
    rows[-1].set_xlabel(axis_label(data, name))
    fit_horizontally(rows[-1], x)
    return figure
