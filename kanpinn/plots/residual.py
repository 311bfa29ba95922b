"""Residual of every equation over the domain, and the collocation points by the size of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.panels import Cuts, bar, blank, cuts, frame, image, panels
from kanpinn.plots.style import (
    COLOURS,
    RESIDUAL,
    axis_label,
    colours,
    finite,
    fit_horizontally,
    heading,
    new_figure,
    note_not_finite,
    number,
    plain,
    residual_norm,
    styled,
)

_POINTS = "points"  # the panel of collocation points, among names of fields


@styled
def residual_figure(data: SolutionFile, asked: Sequence[float] | None = None) -> Figure | None:
    """Draw the modulus of each equation's residual on a logarithmic scale, and the collocation points on the same.

    The modulus, because a residual spans decades and a signed scale shows only its peak. There is one panel per
    equation (or one row of cuts, at times asked for) and one of the last collocation points inside, each by the size
    of the residual there. None where the file holds no residual.
    """
    names = list(data.residuals)
    if not names:
        return None
    titles = {}
    for name in names:
        values = finite(data.fields[name])
        title = f"residual: {plain(name.partition('_')[2])}" if "_" in name else "residual"
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
    figure, grid = panels(data, layout, list(norms), titles)
    figure.suptitle(heading(data))
    sizes = {name: np.abs(columns["residual"] if name == _POINTS else data.fields[name]) for name in norms}
    for name, row in zip(norms, grid, strict=True):
        norm, colourmap = norms[name], colours(RESIDUAL)
        for k, axes in enumerate(row):
            if name == _POINTS:
                _dots(axes, data, layout, k, norm, colourmap)
            else:
                image(axes, data, layout, sizes[name], k, norm, colourmap)
        shared = [v for other, v in sizes.items() if norms[other] is norm]
        below, above = finite(*shared).min() < norm.vmin, finite(*shared).max() > norm.vmax
        extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
        if name != names[0] or not dots or len(names) > 1 or len(layout.titles) > 1:
            bar(figure, row[-1], norm, colourmap, r"$|\,\mathrm{residual}\,|$", extend=extend)
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
        along = data.axes.index(layout.along)
        places = data.coordinates[layout.along][[index[along] for index in layout.indices]]
        near = np.abs(columns[layout.along][:, None] - places).argmin(axis=1) == k
    size = np.abs(columns["residual"])
    order = np.flatnonzero(near)[np.argsort(size[near], kind="stable")]
    axes.set_facecolor("0.86")
    blank(axes, data, layout, layout.take(data.outside, k))
    axes.scatter(
        columns[layout.horizontal][order], columns[layout.vertical][order], c=size[order],
        norm=norm, cmap=colourmap, s=min(7.0, max(1.2, 9000 / max(1, len(order)))), linewidths=0, rasterized=True,
    )  # fmt: skip
    frame(axes, data, layout)


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
