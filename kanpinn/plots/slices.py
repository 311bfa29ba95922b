"""A solution at a few times, or values of a parameter, its error there, and the relative error of every slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.maps import error_of
from kanpinn.plots.panels import nearest_times
from kanpinn.plots.style import (
    axis_label,
    finite,
    fit_horizontally,
    formula,
    heading,
    log_ticks,
    new_figure,
    note_not_finite,
    places,
    relative_l2,
    styled,
    unit,
    with_unit,
)


def relative_l2_slices(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Relative error of each slice along the first axis `[n]`; NaN where the reference is 0 or a value not finite."""
    errors = np.array([relative_l2(a, b) for a, b in zip(values, reference, strict=True)])
    return np.where(np.isfinite(errors), errors, np.nan)


@styled
def slices_figure(
    data: SolutionFile, unknown: str, count: int = 5, asked: Sequence[float] | None = None, along: str = "t"
) -> Figure | None:
    """Draw an unknown and its reference against the last coordinate at a few times, the error beneath.

    Times asked for become the nearest of the output grid; `along` is time, or a parameter. Further coordinates are held
    at their middle; the relative L2 error is over the whole slice. None where the problem has no time or no space.
    """
    others = [name for name in data.axes if name != along]
    if along not in data.axes or not set(others) - set(data.parameters):
        return None
    times, name = data.coordinates[along], next(one for one in reversed(others) if one not in data.parameters)
    if asked and along == "t":
        chosen = nearest_times(data, asked)
    else:
        chosen = np.unique(np.round(np.linspace(0, len(times) - 1, count)).astype(int))
    middle = {one: len(data.coordinates[one]) // 2 for one in others if one != name}
    cut = data.at(middle)
    sides = [np.moveaxis(field, cut.axes.index(along), 0) for field in (cut.fields[unknown], cut.outside)]
    known, error = cut.fields.get(f"{unknown}_ref"), error_of(cut, unknown)
    reference = None if known is None else np.moveaxis(known, cut.axes.index(along), 0)
    error = None if error is None else np.moveaxis(error, cut.axes.index(along), 0)
    x, (values, outside) = data.coordinates[name], sides
    shades = mpl.colormaps["viridis"](np.linspace(0.12, 0.95, len(chosen)))
    with_error = error is not None and reference is not None
    figure = new_figure(7.6 if with_error else 5.2, 4.8 if with_error else 3.4)
    held = places(data, middle)
    figure.suptitle(heading(data) + (f"  (at {held})" if held else ""))
    mosaic: Any = [["values", "over time"], ["error", "over time"]] if with_error else [["values"]]
    panels = figure.subplot_mosaic(mosaic, width_ratios=[1.5, 1] if with_error else [1])
    for k, shade in zip(chosen, shades, strict=True):
        label = f"{formula(along)} = {times[k]:.3g} {unit(data, along)}".rstrip()
        panels["values"].plot(x, values[k], color=shade, linewidth=3, alpha=0.75, label=label)
    panels["values"].set_ylabel(axis_label(data, unknown))
    fit_horizontally(panels["values"], x)
    if reference is not None:
        for k in chosen:
            dashes = panels["values"].plot(x, reference[k], color="black", linewidth=0.9, linestyle=(0, (3, 3)))
        dashes[0].set_label("reference")
    lowest = "error" if with_error else "values"
    panels[lowest].set_xlabel(axis_label(data, name))
    note_not_finite(panels["values"], values[chosen], outside[chosen])
    if error is not None and reference is not None:
        _draw_errors(data, unknown, figure, chosen, shades, error, (along, name))
        panels["values"].tick_params(labelbottom=False)
    figure.legend(
        *panels["values"].get_legend_handles_labels(), loc="outside lower center", ncols=min(6, len(chosen) + 1)
    )
    return figure


def _draw_errors(
    data: SolutionFile,
    unknown: str,
    figure: Figure,
    chosen: np.ndarray,
    shades: np.ndarray,
    line: np.ndarray,
    names: tuple[str, str],
) -> None:
    """Fill the panels "error", |error| along a line `[n_t, n_x]` at chosen times, and "over time", of all slices."""
    panels = {axes.get_label(): axes for axes in figure.axes}
    along, name = names
    x, times = data.coordinates[name], data.coordinates[along]
    for k, shade in zip(chosen, shades, strict=True):
        size = np.abs(line[k])
        panels["error"].semilogy(x, np.where(size > 0, size, np.nan), color=shade, linewidth=1.1)
    sizes = [size[size > 0] for size in (np.abs(finite(line[k])) for k in chosen) if (size > 0).any()]
    highest = max((float(size.max()) for size in sizes), default=1e-16)
    # Where an error changes sign its logarithm dives: the lowest tenth of each line says nothing more.
    lowest = min((float(np.percentile(size, 10)) for size in sizes), default=highest)
    panels["error"].set(ylim=(max(lowest / 4, highest * 1e-6), highest * 2))
    fit_horizontally(panels["error"], x)
    panels["error"].set_ylabel(with_unit(r"$|\,\mathrm{error}\,|$", data, unknown))
    axis = data.axes.index(along)
    relative = relative_l2_slices(*(np.moveaxis(data.fields[f"{unknown}{end}"], axis, 0) for end in ("", "_ref")))
    drawn = np.where(relative > 0, relative, np.nan)
    panels["over time"].semilogy(times, drawn, color="0.35", linewidth=1)
    panels["over time"].scatter(times[chosen], drawn[chosen], c=shades, s=30, zorder=3, clip_on=False)
    kind = "of each time slice" if along == "t" else f"at each {formula(along)}"
    panels["over time"].set(xlabel=axis_label(data, along), title=f"relative $L_2$ error {kind}")
    fit_horizontally(panels["over time"], times)
    decades = np.log10(drawn[np.isfinite(drawn)]) if np.isfinite(drawn).any() else np.array([-16.0, 0.0])
    panels["over time"].set_ylim(10 ** (decades.min() - 0.1), 10 ** (decades.max() + 0.1))
    log_ticks(panels["over time"].yaxis, float(np.ptp(decades)) + 0.2)
