"""Solution, reference, error and residual over the whole domain."""

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

from kanpinn.errors import invalid
from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import (
    COLOURS,
    ERROR,
    RESIDUAL,
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
    residual_norm,
    solution_colours,
    styled,
    symmetric_limit,
)

_POINTS = "points"  # the panel of collocation points, among names of fields
_SMOOTH_UP_TO = 20_000  # grid points; with more, cells are smaller than the eye minds and smoothing only costs time


@dataclass(frozen=True)
class Cuts:
    """How fields of two or more axes are laid out as flat panels.

    Attributes:
        horizontal: The coordinate that runs to the right.
        vertical: The coordinate that runs upwards.
        titles: Where each panel lies, such as "t = 0.5"; one empty title where the domain itself is flat.
        indices: One index per panel, giving an array `[vertical, horizontal]` or its transpose.
        transposed: Whether it gives the transpose.
    """

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
    """Find the output grid's times nearest to some times.

    Args:
        data: The solution, of a problem with time.
        asked: The times.

    Returns:
        Their places on the grid, ascending, each once.

    Raises:
        UserError: If one lies outside the time interval.
    """
    times = data.coordinates["t"]
    low, high = float(times[0]), float(times[-1])
    for time in asked:
        if not low <= time <= high:
            raise invalid("--times", f"{time:g}", f"times from {low:g} to {high:g}, those of the run")
    return np.unique([int(np.abs(times - time).argmin()) for time in asked])


def cuts(data: SolutionFile, count: int = 4, asked: Sequence[float] | None = None) -> Cuts:
    """Cut the domain into flat panels along its slowest axis, through the middle of any further one.

    Args:
        data: The solution, of two or more axes.
        count: How many panels where there is an axis to cut along.
        asked: At which times, where that axis is time; each becomes the nearest of the output grid.

    Returns:
        The cuts.
    """
    *leading, second, first = data.axes
    if not leading:
        over_time = second == "t"  # space-time diagrams are read with time to the right
        horizontal, vertical = (second, first) if over_time else (first, second)
        return Cuts(horizontal, vertical, ("",), ((slice(None), slice(None)),), over_time)
    along = data.coordinates[leading[0]]
    if asked and leading[0] == "t":
        chosen = nearest_times(data, asked)
    else:
        chosen = np.linspace(0, len(along) - 1, count if leading[0] == "t" else count + 2)
        chosen = np.unique(np.round(chosen if leading[0] == "t" else chosen[1:-1]).astype(int))
    middle = {name: len(data.coordinates[name]) // 2 for name in leading[1:]}
    titles = tuple(
        ", ".join(
            f"{formula(name)} = {data.coordinates[name][k]:.3g}" for name, k in [(leading[0], i), *middle.items()]
        )
        for i in chosen
    )
    return Cuts(first, second, titles, tuple((int(i), *middle.values()) for i in chosen), False)


def _panel_size(data: SolutionFile, layout: Cuts) -> tuple[float, float, bool]:
    """Width and height of a panel in inches, and whether both of its axes are space with one scale."""
    if layout.horizontal == "t":
        return 2.7, 2.3, False
    spans = [float(np.ptp(data.coordinates[name])) or 1.0 for name in (layout.horizontal, layout.vertical)]
    ratio = spans[1] / spans[0]
    return 2.5, 2.5 * min(max(ratio, 0.3), 2.0), 0.1 <= ratio <= 10


def _image(
    axes: Axes, data: SolutionFile, layout: Cuts, values: np.ndarray, k: int, norm: Normalize, colourmap: Colormap
) -> None:
    """Draw panel k of a field, coarse ones smoothed; its edge is the box's, so the outermost cells show half."""
    panel, outside = layout.take(values, k), layout.take(data.outside, k)
    x, y = data.coordinates[layout.horizontal], data.coordinates[layout.vertical]
    masked = np.ma.masked_invalid(panel)
    smooth = panel.size <= _SMOOTH_UP_TO and min(panel.shape) > 1 and not np.ma.is_masked(masked)
    shading = "gouraud" if smooth else "nearest"
    axes.pcolormesh(x, y, masked, norm=norm, cmap=colourmap, shading=shading, rasterized=True)
    _blank(axes, data, layout, outside)
    if len(x) > 1 and len(y) > 1:
        axes.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    if _panel_size(data, layout)[2]:
        axes.set_aspect("equal")
    axes.tick_params(color="0.25", length=3)
    note_not_finite(axes, panel, outside)


def _blank(axes: Axes, data: SolutionFile, layout: Cuts, outside: np.ndarray) -> None:
    """Leave white what lies outside the domain."""
    if outside.any():
        x, y = data.coordinates[layout.horizontal], data.coordinates[layout.vertical]
        blank = np.ma.masked_where(~outside, np.zeros(outside.shape))
        axes.pcolormesh(x, y, blank, cmap=ListedColormap(["white"]), shading="nearest", rasterized=True)


def _bar(figure: Figure, axes: Axes, norm: Normalize, colourmap: Colormap, label: str, **how: Any) -> None:
    """Add a colour bar to the right of a panel, as tall as it; powers of ten go into one factor at its top."""
    beside = axes.inset_axes((1.04, 0, 0.05, 1))
    bar = figure.colorbar(ScalarMappable(norm, colourmap), cax=beside, label=label, **how)
    beside.tick_params(which="both", direction="out", left=False)
    if isinstance(bar.formatter, ScalarFormatter):
        bar.formatter.set_powerlimits((-2, 3))
        beside.yaxis.get_offset_text().set_horizontalalignment("left")


def error_of(data: SolutionFile, unknown: str) -> np.ndarray | None:
    """The error of an unknown on the grid, or None without a reference.

    Args:
        data: The solution.
        unknown: The unknown.

    Returns:
        u − u_ref, shaped as the fields are.
    """
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

    Args:
        data: The solution.
        unknown: Which unknown.
        asked: At which times to cut a problem in time and two or more space coordinates.
        scales: Whose values set the colour scales; by default those drawn.

    Returns:
        The figure. Solution and reference share one colour scale; that of the error is symmetric about 0.
    """
    if len(data.axes) == 1:
        return _solution_lines(data, unknown)
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
    figure, grid = _panels(data, layout, names, title)
    figure.suptitle(heading(data))
    for name, row in zip(names, grid, strict=True):
        for k, axes in enumerate(row):
            _image(axes, data, layout, shown[name], k, *painted[name])
    # Network and reference share their scale, so where they stand side by side one bar, after the second, serves both.
    shared = range(len(names)) if len(layout.titles) > 1 else range(min(len(names), 2) - 1, len(names))
    units = data.label(unknown)[1]
    for k in shared:
        error_label = "error" if units in ("", "1") else f"error ({units})"
        label = error_label if names[k].endswith("_error") else axis_label(data, unknown)
        _bar(figure, grid[k][-1], *painted[names[k]], label)
    return figure


def _panels(
    data: SolutionFile, layout: Cuts, names: Sequence[str], titles: Mapping[str, tuple[str, ...]]
) -> tuple[Figure, list[list[Axes]]]:
    """Lay out panels, one list per field: side by side where the domain is flat, else one row of cuts per field."""
    width, height, _ = _panel_size(data, layout)
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


def _solution_lines(data: SolutionFile, unknown: str) -> Figure:
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
    if with_error and error is not None:
        rows[0].plot(x, data.fields[f"{unknown}_ref"], color="black", linestyle=(0, (4, 3)), label="reference")
        rows[0].legend()
        limit = 1.08 * symmetric_limit(error)
        rows[1].axhline(0, color="0.6", linewidth=0.6)
        rows[1].plot(x, error, color=COLOURS[1])
        rows[1].set(
            ylim=(-limit, limit), ylabel="error", title=",  ".join(["error", *_error_numbers(data, unknown, error)])
        )
    rows[-1].set_xlabel(axis_label(data, name))
    fit_horizontally(rows[-1], x)
    return figure


@styled
def residual_figure(data: SolutionFile, asked: Sequence[float] | None = None) -> Figure | None:
    """Draw the modulus of each equation's residual on a logarithmic scale, and the collocation points on the same.

    The modulus, because a residual spans decades and a signed scale shows only its peak.

    Args:
        data: The solution.
        asked: At which times to cut a problem in time and two or more space coordinates.

    Returns:
        The figure, one panel (or one row of cuts) per equation and one of the last collocation points inside, each by
        the size of the residual there; None where the file holds no residual.
    """
    names = list(data.residuals)
    if not names:
        return None
    titles = {}
    for name in names:
        values = finite(data.fields[name])
        title = f"residual: {name.partition('_')[2]}" if "_" in name else "residual"
        titles[name] = (title, *_residual_numbers(np.abs(values)))
    if len(data.axes) == 1:
        return _residual_lines(data, names, titles)
    layout = cuts(data, asked=asked)
    columns = data.points.get("interior", {})
    # Through the middle of a fourth coordinate there is hardly a point.
    dots = len(data.axes) <= 3 and len(columns.get("residual", [])) > 0 and set(data.axes) <= set(columns)
    norms = {name: residual_norm(data.fields[name]) for name in names}
    if dots:
        # With several equations a point's size is over all of them, and has a scale of its own.
        norms[_POINTS] = norms[names[0]] if len(names) == 1 else residual_norm(columns["residual"])
        titles[_POINTS] = (f"the {len(columns['residual'])} collocation points",)
    figure, grid = _panels(data, layout, list(norms), titles)
    figure.suptitle(heading(data))
    sizes = {name: np.abs(columns["residual"] if name == _POINTS else data.fields[name]) for name in norms}
    for name, row in zip(norms, grid, strict=True):
        norm, colourmap = norms[name], colours(RESIDUAL)
        for k, axes in enumerate(row):
            if name == _POINTS:
                _dots(axes, data, layout, k, norm, colourmap)
            else:
                _image(axes, data, layout, sizes[name], k, norm, colourmap)
        shared = [v for other, v in sizes.items() if norms[other] is norm]
        below, above = finite(*shared).min() < norm.vmin, finite(*shared).max() > norm.vmax
        extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
        if name != names[0] or not dots or len(names) > 1 or len(layout.titles) > 1:
            _bar(figure, row[-1], norm, colourmap, r"$|\,\mathrm{residual}\,|$", extend=extend)
    return figure


def _residual_numbers(sizes: np.ndarray) -> tuple[str, str]:
    """Root mean square and maximum; a few points far above all others, as the colour scale knows them, stay out."""
    largest, common = float(sizes.max()), float(np.percentile(sizes, 99.9))
    few = 0 < 1e3 * common < largest
    kept = sizes[sizes <= common] if few else sizes
    scale = float(kept.max()) or 1.0
    rms = scale * float(np.sqrt(np.mean((kept / scale) ** 2)))
    return f"rms {number(rms)}" + (" but for 0.1% of the points" if few else ""), f"max {number(largest)}"


def _dots(axes: Axes, data: SolutionFile, layout: Cuts, k: int, norm: Normalize, colourmap: Colormap) -> None:
    """Draw the collocation points nearest to panel k by the size of the residual, the largest on top."""
    columns = data.points["interior"]
    near = np.ones(len(columns["residual"]), bool)
    if len(layout.titles) > 1:
        name = data.axes[0]
        places = data.coordinates[name][[index[0] for index in layout.indices]]
        near = np.abs(columns[name][:, None] - places).argmin(axis=1) == k
    size = np.abs(columns["residual"])
    order = np.flatnonzero(near)[np.argsort(size[near], kind="stable")]
    axes.set_facecolor("0.86")
    _blank(axes, data, layout, layout.take(data.outside, k))
    axes.scatter(
        columns[layout.horizontal][order], columns[layout.vertical][order], c=size[order],
        norm=norm, cmap=colourmap, s=min(7.0, max(1.2, 9000 / max(1, len(order)))), linewidths=0, rasterized=True,
    )  # fmt: skip
    x, y = data.coordinates[layout.horizontal], data.coordinates[layout.vertical]
    if len(x) > 1 and len(y) > 1:
        axes.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    if _panel_size(data, layout)[2]:
        axes.set_aspect("equal")
    axes.tick_params(color="0.25", length=3)


def _residual_lines(data: SolutionFile, names: Sequence[str], titles: Mapping[str, tuple[str, ...]]) -> Figure:
    """Draw the modulus of the residuals of a problem in one variable."""
    (name,) = data.axes
    x = data.coordinates[name]
    figure = new_figure(5.6, 2.4 * len(names) + 0.8)
    figure.suptitle(heading(data))
    rows = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, field in zip(rows, names, strict=True):
        values, norm = np.abs(data.fields[field]), residual_norm(data.fields[field])
        axes.semilogy(x, np.where(values > 0, values, np.nan), color=COLOURS[1])
        axes.set(ylim=(norm.vmin, norm.vmax), ylabel=r"$|\,\mathrm{residual}\,|$", title=",  ".join(titles[field]))
        points = data.points.get("interior", {})
        if len(names) == 1 and name in points:
            size = np.abs(points["residual"])
            label = f"the {len(size)} collocation points"
            axes.plot(points[name], np.where(size > 0, size, np.nan), ".", color=COLOURS[0], markersize=3, label=label)
            axes.legend()
        note_not_finite(axes, values, data.outside)
    rows[-1].set_xlabel(axis_label(data, name))
    fit_horizontally(rows[-1], x)
    return figure
