"""Flat panels of fields with two or more axes: cuts through the domain, images, colour bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from matplotlib.tri import Triangulation

from kanpinn.errors import invalid
from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import axis_label, new_figure, note_not_finite, places

_SMOOTH_UP_TO = 20_000  # grid points; with more, cells are smaller than the eye minds and smoothing only costs time
_CUT_UP_TO = 100_000  # of a region, whose edge would show the cells as stairs: a third of a second for 201²
_SQUARE = ((0, 0), (0, 1), (1, 1), (1, 0))  # corners of a cell, in a round


@dataclass(frozen=True)
class Cuts:
    """Layout of fields of two or more axes as flat panels.

    Attributes:
        along: The coordinate that panels are cut along; "" where the domain itself is flat.
        horizontal: The coordinate that runs to the right.
        vertical: The coordinate that runs upwards.
        titles: The place of each panel, such as "t = 0.5"; one empty title where the domain itself is flat.
        indices: One index per panel, giving an array `[vertical, horizontal]` or its transpose.
        transposed: True if it gives the transpose.
    """

    along: str
    horizontal: str
    vertical: str
    titles: tuple[str, ...]
    indices: tuple[tuple[Any, ...], ...]
    transposed: bool

    def take(self, values: np.ndarray, k: int) -> np.ndarray:
        """Panel k of a field, `[vertical, horizontal]`."""
        panel = values[self.indices[k]]
        return panel.T if self.transposed else panel


def nearest_times(data: SolutionFile, asked: Sequence[float]) -> np.ndarray:
    """Find the output grid's times nearest to some, ascending, each once; raises UserError outside the interval."""
    times = data.coordinates["t"]
    low, high = float(times[0]), float(times[-1])
    for time in asked:
        if not low <= time <= high:
            raise invalid("--times", f"{time:g}", f"times from {low:g} to {high:g}, those of the run")
    return np.unique([int(np.abs(times - time).argmin()) for time in asked])


def cuts(data: SolutionFile, count: int = 4, asked: Sequence[float] | None = None) -> Cuts:
    """Cut a domain of two or more axes into flat panels along one, through the middle of any further one.

    That one is a parameter, else the slowest. Times asked for, then along time, each become the nearest of the output
    grid; else there are `count` panels.
    """
    order = [*data.parameters, *(name for name in data.axes if name not in data.parameters)]
    if asked and len(order) > 2:
        order = ["t", *(name for name in order if name != "t")]
    *leading, second, first = order
    over_time = second == "t"  # space-time diagrams are read with time to the right
    horizontal, vertical = (second, first) if over_time else (first, second)
    if not leading:
        return Cuts("", horizontal, vertical, ("",), ((slice(None), slice(None)),), over_time)
    along = data.coordinates[leading[0]]
    if asked and leading[0] == "t":
        chosen = nearest_times(data, asked)
    else:
        ends = leading[0] in ("t", *data.parameters)
        chosen = np.linspace(0, len(along) - 1, count if ends else count + 2)
        chosen = np.unique(np.round(chosen if ends else chosen[1:-1]).astype(int))
    middle = {name: len(data.coordinates[name]) // 2 for name in leading[1:]}
    held = [{leading[0]: int(i), **middle} for i in chosen]
    indices = tuple(tuple(one.get(name, slice(None)) for name in data.axes) for one in held)
    return Cuts(leading[0], horizontal, vertical, tuple(places(data, one) for one in held), indices, over_time)


def panel_size(data: SolutionFile, layout: Cuts) -> tuple[float, float, bool]:
    """Width and height of a panel in inches, and whether both of its axes are space with one scale."""
    if {layout.horizontal, layout.vertical} & {"t", *data.parameters}:
        return 2.7, 2.3, False
    spans = [float(np.ptp(data.coordinates[name])) or 1.0 for name in (layout.horizontal, layout.vertical)]
    ratio = spans[1] / spans[0]
    return 2.5, 2.5 * min(max(ratio, 0.3), 2.0), 0.1 <= ratio <= 10


def image(
    axes: Axes, data: SolutionFile, layout: Cuts, values: np.ndarray, k: int, norm: Normalize, colourmap: Colormap
) -> None:
    """Draw panel k of a field, coarse ones smoothed; its edge is the box's, so the outermost cells show half."""
    panel, outside = layout.take(values, k), layout.take(data.outside, k)
    x, y = data.coordinates[layout.horizontal], data.coordinates[layout.vertical]
    most = _CUT_UP_TO if outside.any() else _SMOOTH_UP_TO
    smooth = panel.size <= most and min(panel.shape) > 1 and bool(np.isfinite(panel[~outside]).all())
    how: dict[str, Any] = {"norm": norm, "cmap": colourmap, "rasterized": True}
    if smooth and outside.any() and not outside.all():
        mesh, shown = cut_mesh(x, y, panel, ~outside)
        axes.tripcolor(mesh, shown, shading="gouraud", **how)
    else:
        shading = "gouraud" if smooth and not outside.any() else "nearest"
        axes.pcolormesh(x, y, np.ma.masked_invalid(panel), shading=shading, **how)
        blank(axes, data, layout, outside)
    frame(axes, data, layout)
    note_not_finite(axes, panel, outside)


def cut_mesh(x: np.ndarray, y: np.ndarray, values: np.ndarray, inside: np.ndarray) -> tuple[Triangulation, np.ndarray]:
    """Return triangles that fill what lies inside, and the values at their corners.

    The edge runs half-way between points inside and outside, cutting corners as marching squares do (Lorensen and Cline
    1987); values there are the mean of those inside.

    Args:
        x: Values of the horizontal coordinate `[n]`.
        y: Values of the vertical one `[m]`.
        values: A field `[m, n]`, finite inside.
        inside: True inside `[m, n]`.
    """
    sums, counts = (_halved(part) for part in (np.where(inside, values, 0.0), inside.astype(float)))
    known = counts > 0
    known[1::2, 1::2] = counts[1::2, 1::2] > 1
    corners = [known[i : i - 1 or None, j : j - 1 or None] for i, j in _SQUARE]
    number = np.arange(known.size).reshape(known.shape)
    numbers = np.stack([number[i : i - 1 or None, j : j - 1 or None] for i, j in _SQUARE], axis=-1)
    total = np.sum(corners, axis=0)
    triangles = [numbers[total == 4][:, list(part)] for part in ((0, 1, 2), (0, 2, 3))]
    for k, corner in enumerate(corners):
        triangles.append(np.delete(numbers[(total == 3) & ~corner], k, axis=1))
    across, up = np.meshgrid(_halves(x), _halves(y))
    return (
        Triangulation(across.ravel(), up.ravel(), np.concatenate(triangles)),
        (sums / np.maximum(counts, 1)).ravel(),
    )


def _halves(values: np.ndarray) -> np.ndarray:
    """Return numbers `[n]` with the means of neighbours between them, `[2 n - 1]`."""
    return np.interp(np.arange(2 * len(values) - 1) / 2, np.arange(len(values)), values)


def _halved(values: np.ndarray) -> np.ndarray:
    """Return a grid's values `[m, n]` with the sums of neighbours between them, `[2 m - 1, 2 n - 1]`."""
    found = np.zeros((2 * values.shape[0] - 1, 2 * values.shape[1] - 1))
    found[::2, ::2] = values
    found[1::2, ::2] = values[1:] + values[:-1]
    found[:, 1::2] = found[:, 2::2] + found[:, :-2:2]
    return found


def frame(axes: Axes, data: SolutionFile, layout: Cuts) -> None:
    """Let a panel end where the domain does, space axes on one scale."""
    x, y = data.coordinates[layout.horizontal], data.coordinates[layout.vertical]
    if len(x) > 1 and len(y) > 1:
        axes.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    if panel_size(data, layout)[2]:
        axes.set_aspect("equal")
    axes.tick_params(color="0.25", length=3)


def blank(axes: Axes, data: SolutionFile, layout: Cuts, outside: np.ndarray) -> None:
    """Leave white what lies outside the domain."""
    if outside.any():
        x, y = data.coordinates[layout.horizontal], data.coordinates[layout.vertical]
        blank = np.ma.masked_where(~outside, np.zeros(outside.shape))
        axes.pcolormesh(x, y, blank, cmap=ListedColormap(["white"]), shading="nearest", rasterized=True)


def bar(figure: Figure, axes: Axes, norm: Normalize, colourmap: Colormap, label: str, **how: Any) -> None:
    """Add a colour bar to the right of a panel, as tall as it; powers of ten go into one factor at its top."""
    beside = axes.inset_axes((1.04, 0, 0.05, 1))
    bar = figure.colorbar(ScalarMappable(norm, colourmap), cax=beside, label=label, **how)
    beside.tick_params(which="both", direction="out", left=False)
    if isinstance(bar.formatter, ScalarFormatter):
        bar.formatter.set_powerlimits((-2, 3))
        beside.yaxis.get_offset_text().set_horizontalalignment("left")


def panels(
    data: SolutionFile, layout: Cuts, names: Sequence[str], titles: Mapping[str, tuple[str, ...]]
) -> tuple[Figure, list[list[Axes]]]:
    """Lay out panels, one list per field: side by side where the domain is flat, else one row of cuts per field."""
    width, height, _ = panel_size(data, layout)
    count = len(layout.titles)
    flat = count == 1
    rows, columns = (1, len(names)) if flat else (len(names), count)
    if not flat:
        width, height = 0.8 * width, 0.8 * height
    bars = 0.85 * (min(len(names), 2) if flat else 1)
    figure = new_figure(columns * width + bars + 0.7, rows * (height + 0.3) + (0.75 if flat else 0.7))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    per_field = [[axes] for axes in grid[0]] if flat else [list(row) for row in grid]
    for name, row in zip(names, per_field, strict=True):
        for k, axes in enumerate(row):
            what, *numbers = titles[name]
            if flat:
                where = [title for title in layout.titles if title]
                axes.set_title("\n".join([",  ".join([what, *where, *numbers[:1]]), *numbers[1:]]))
            else:  # the numbers go first: above, they have the room over the neighbouring panels
                over_all = f"over the whole domain: {', '.join(numbers)}\n" if numbers else ""
                axes.set_title(f"{over_all}{what},  {layout.titles[0]}" if k == 0 else layout.titles[k], loc="left")
    for axes in grid[-1]:
        axes.set_xlabel(axis_label(data, layout.horizontal))
    for axes in grid[:, 0]:
        axes.set_ylabel(axis_label(data, layout.vertical))
    return figure, per_field
