"""Measured data against the solution: values beside values, what is left over a coordinate, and its distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import COLOURS, axis_label, formula, heading, new_figure, number, styled, with_unit

_BINS = 30


@styled
def data_figure(data: SolutionFile, unknown: str) -> Figure | None:
    """Draw the data of an unknown against the solution, with their standard deviations where these are given.

    Three panels: measured against computed values; measured less computed ones over the first of time and space;
    their distribution beside the normal one of the same width. None where the unknown was not measured.
    """
    order = sorted(data.measured, key=lambda name: ("train", "validation", "test", name).index(name))
    tables = {name: data.measured[name] for name in order if f"solution_{unknown}" in data.measured[name]}
    if not tables:
        return None
    figure = new_figure(10.2, 3.6)
    figure.suptitle(heading(data))
    values, rest, shares = figure.subplots(1, 3)
    for k, (name, table) in enumerate(tables.items()):
        _draw(data, unknown, (values, rest, shares), name if len(tables) > 1 else "", table, COLOURS[k % len(COLOURS)])
    low, high = values.dataLim.intervalx
    values.axline((low, low), (high, high), color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    values.set(xlabel=f"computed {_quantity(data, unknown)}", ylabel=f"measured {_quantity(data, unknown)}")
    rest.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    over = "t" if "t" in data.coordinates else next(iter(data.coordinates))
    rest.set(xlabel=axis_label(data, over), ylabel=with_unit("measured − computed", data, unknown))
    shares.set(xlabel="(measured − computed) / standard deviation", ylabel="density")
    at = np.linspace(-4, 4, 201)
    shares.plot(at, np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=0.9, label="normal")
    shares.set(xlim=(-4.5, 4.5))
    shares.legend(loc="upper left", handlelength=1.2)
    return figure


def _quantity(data: SolutionFile, unknown: str) -> str:
    return with_unit(formula(unknown), data, unknown)


def _draw(
    data: SolutionFile,
    unknown: str,
    panels: tuple[Axes, Axes, Axes],
    name: str,
    table: Mapping[str, np.ndarray],
    colour: str,
) -> None:
    """Draw one set of data into the three panels."""
    values, rest, shares = panels
    measured, computed, sigma = (table.get(key) for key in (unknown, f"solution_{unknown}", f"sigma_{unknown}"))
    assert measured is not None and computed is not None
    kept = np.isfinite(computed)
    left, over = measured - computed, "t" if "t" in data.coordinates else next(iter(data.coordinates))
    rms = float(np.sqrt(np.mean(left[kept] ** 2))) if kept.any() else 0.0
    width = np.full_like(left, rms or 1.0) if sigma is None else sigma
    few = len(left) <= 400
    marks: dict[str, Any] = {
        "fmt": "o", "markersize": 3 if few else 1.5, "color": colour, "elinewidth": 0.7, "alpha": 0.8 if few else 0.4,
        "markeredgewidth": 0,
    }  # fmt: skip
    values.errorbar(computed, measured, yerr=sigma, **marks)
    rest.errorbar(table[over], left, yerr=sigma, **marks)
    if sigma is None:
        rest.axhspan(-rms, rms, color=colour, alpha=0.12, linewidth=0)
    bins = min(_BINS, max(5, round(2 * len(left) ** (1 / 3))))  # Rice's rule
    shown = np.clip(left[kept] / width[kept], -4.4, 4.4)
    shares.hist(
        shown, np.linspace(-4.5, 4.5, 2 * bins + 1).tolist(), density=True, color=colour, alpha=0.45, label=name or None
    )
    called = f"{name}: " if name else ""
    scaled = float(np.mean((left[kept] / width[kept]) ** 2)) if kept.any() else 0.0
    told = f"rms {number(rms)}" if sigma is None else rf"mean square in $\sigma$: {number(scaled)}"
    before = f"{rest.get_title()}\n" if rest.get_title() else ""
    rest.set_title(f"{before}{called}{len(left)} values, {told}")
