"""The spectrum of the error along each coordinate, as every level left it."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import formula, grid_lines, heading, level_name, log_ticks, new_figure, styled, unit

_DECADES = 5  # shown below the highest power of the most accurate level
_SMOOTH_FROM = 24  # wave numbers; more are averaged in bands, else neighbours that differ by parity fill the panel


def shown_visits(data: SolutionFile) -> dict[str, list[int]]:
    """Choose the visits to show, as rows of the level table by name: as each level was first left, and the end.

    There are several rows where there are time slabs, one of each.
    """
    chosen: dict[str, list[int]] = {}
    for k, record in enumerate(data.levels):
        if record.get("entered", "start") in ("start", "refine"):
            rows = chosen.setdefault(level_name(record.get("level"), record.get("grid")), [])
            if not any(data.levels[row].get("slab", 0) == record.get("slab", 0) for row in rows):
                rows.append(k)
    slabs = [record.get("slab", 0) for record in data.levels]
    last = [len(slabs) - 1 - slabs[::-1].index(slab) for slab in dict.fromkeys(slabs)]
    if last and last not in chosen.values():
        chosen["at the end"] = last
    return chosen


def banded(wave_numbers: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a spectrum in bands of equal width on the logarithmic axis; the lowest wave numbers stay single.

    From wave numbers `[K]` ascending from 0 and their power, mean wave number and mean power of each band without 0.
    """
    k, power = wave_numbers[1:], power[1:]
    if len(k) <= _SMOOTH_FROM:
        return k, power
    index = np.arange(1, len(k) + 1)
    band = np.floor(8 * np.log2(index)).astype(int)
    _, starts, counts = np.unique(band, return_index=True, return_counts=True)
    return np.add.reduceat(k, starts) / counts, np.add.reduceat(power, starts) / counts


def _guide(axes: Axes, values: np.ndarray, wave_numbers: np.ndarray, start: float) -> None:
    """Draw the slope of the tail that comes from the error's slope at the ends, where the axis is not periodic."""
    if len(wave_numbers) < len(values):  # periodic: wave numbers in steps of 1/L, the others in half of that
        return
    k = wave_numbers[len(wave_numbers) // 8 :: max(1, len(wave_numbers) // 8)]
    k = k[k > 0]
    if len(k) > 1:
        axes.loglog(k, start * (k / k[0]) ** -4.0, color="0.55", linewidth=0.9, linestyle=(0, (2, 2)), label="$k^{-4}$")


def _draw(axes: Axes, data: SolutionFile, unknown: str, name: str, visits: dict[str, list[int]]) -> list[float]:
    """Draw the spectrum along one coordinate as each visit left it; returns the highest power of each."""
    shades = mpl.colormaps["viridis"](np.linspace(0.9, 0.05, len(visits)))
    wave_numbers, peaks = data.spectra[f"wave_number_{name}"], []
    for (label, chosen), shade in zip(visits.items(), shades, strict=True):
        table = data.spectra[f"{unknown}_{name}"][chosen]
        known = table[np.isfinite(table).all(axis=1)]
        if not len(known):
            continue
        k, power = banded(wave_numbers, known.mean(axis=0))
        power = np.where(power > 0, power, np.nan)
        axes.loglog(k, power, color=shade, label=label, linewidth=1.3, marker="o", markersize=2.2)
        if np.isfinite(power).any():
            peaks.append(float(np.nanmax(power)))
    axes.set_xlabel(f"wave number along {formula(name)} (cycles per {unit(data, name) or 'unit'})")
    grid_lines(axes)
    log_ticks(axes.xaxis, float(np.log10(wave_numbers[-1] / wave_numbers[1])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    return peaks


@styled
def spectrum_figure(data: SolutionFile, unknown: str) -> Figure | None:
    """Draw the power of an unknown's relative error against the wave number, a panel per coordinate, a curve per level.

    None where the file holds no spectrum of that unknown.
    """
    names = [name for name in reversed(data.axes) if f"{unknown}_{name}" in data.spectra]
    names = [name for name in names if len(data.spectra[f"wave_number_{name}"]) > 1]
    visits = {
        label: rows
        for label, rows in shown_visits(data).items()
        if names and np.isfinite(data.spectra[f"{unknown}_{names[0]}"][rows]).any()
    }
    if not visits:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(max(3.1 * columns + 1.2, 4.6), 2.7 * rows + 1.0)
    figure.suptitle(heading(data))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    panels = dict(zip(names, grid.flat, strict=False))
    peaks = [peak for name, axes in panels.items() for peak in _draw(axes, data, unknown, name, visits)]
    if peaks:
        low, high = np.floor(np.log10(min(peaks))) - _DECADES, np.ceil(np.log10(max(peaks)) + 0.3)
        grid[0, 0].set_ylim(10.0**low, 10.0**high)
        for name, axes in panels.items():
            wave_numbers = data.spectra[f"wave_number_{name}"]
            _guide(axes, data.coordinates[name], wave_numbers, 10.0 ** (low + 0.3 * (high - low)))
    for row in grid:
        row[0].set_ylabel(f"power of the relative error of {formula(unknown)}")
    for axes in grid.flat[len(names) :]:
        axes.remove()
    several = max(map(len, visits.values())) > 1
    found = [pair for axes in panels.values() for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles, labels = zip(*{label: (handle, label) for handle, label in found}.values(), strict=True)
    title = "mean over the time slabs, as each left" if several else "as the level was first left"
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), title=title)
    return figure
