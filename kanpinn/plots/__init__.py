"""Figures of a run, from its solution file alone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

try:
    from matplotlib.figure import Figure
except (ValueError, OSError):  # a backend that is not there, settings that are no text: figures here need neither
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]
    package = Path(str(getattr(importlib.util.find_spec("matplotlib"), "origin", ""))).parent
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        with contextlib.chdir(package / "mpl-data"):  # the settings of the current folder come first
            from matplotlib.figure import Figure
    finally:
        os.environ.update({} if backend is None else {"MPLBACKEND": backend})

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.activations import activations_figure
from kanpinn.plots.classes import classes_figure
from kanpinn.plots.data import data_figure
from kanpinn.plots.history import cycle_figure, history_figure
from kanpinn.plots.maps import solution_figure
from kanpinn.plots.panels import nearest_times
from kanpinn.plots.residual import residual_figure
from kanpinn.plots.slices import slices_figure
from kanpinn.plots.spectrum import spectrum_figure
from kanpinn.plots.style import save


def figures(
    data: SolutionFile, times: Sequence[float] | None = None, every: bool = True
) -> dict[str, Callable[[], Figure | None]]:
    """Name the figures that a solution may give, each with its builder, which returns None for one it does not give.

    Without times the figures choose where to cut; without `every` those that a run does not draw by itself are left
    out.
    """
    found: dict[str, Callable[[], Figure | None]] = {}
    classes = any("predicted" in table for table in data.measured.values())
    for unknown in data.unknowns:
        if data.axes == ("row",):  # a table of many inputs: nothing to draw it over
            if not classes:
                found[f"data_{unknown}"] = lambda name=unknown: data_figure(data, name)
            continue
        found[f"solution_{unknown}"] = lambda name=unknown: solution_figure(data, name, times)
        found[f"slices_{unknown}"] = lambda name=unknown: slices_figure(data, name, asked=times)
        for one in data.parameters[:1]:
            found[f"parameter_{unknown}"] = lambda name=unknown, one=one: slices_figure(data, name, along=one)
        if any(f"solution_{unknown}" in table for table in data.measured.values()):
            found[f"data_{unknown}"] = lambda name=unknown: data_figure(data, name)
    if classes:
        found["classes"] = lambda: classes_figure(data)
    found["residual"] = lambda: residual_figure(data, times)
    found["history"] = lambda: history_figure(data)
    if every:
        found["cycle"] = lambda: cycle_figure(data)
        for unknown in data.unknowns:
            found[f"spectrum_{unknown}"] = lambda name=unknown: spectrum_figure(data, name)
        found["activations"] = lambda: activations_figure(data)
    return found


def plot_all(
    data: SolutionFile,
    folder: str | os.PathLike[str],
    dpi: int = 160,
    times: Sequence[float] | None = None,
    every: bool = True,
) -> list[Path]:
    """Draw every figure that a solution gives, as PNG in a folder, created where missing; returns the files.

    They are `solution_<u>.png`, `slices_<u>.png` for problems in time and space, `parameter_<u>.png` for those over a
    parameter, `data_<u>.png` for data, `classes.png` for classes, `residual.png`, `history.png` and,
    with `every`, those that a run does not draw by itself: `cycle.png`, `spectrum_<u>.png`, `activations.png`. Raises
    UserError if a time to cut at lies outside the time interval.
    """
    if times:
        nearest_times(data, times)  # complains before anything is written
    folder = Path(folder)
    written = []
    for name, build in figures(data, times, every).items():
        figure = build()
        if figure is not None:
            save(figure, folder / f"{name}.png", dpi)
            written.append(folder / f"{name}.png")
    return written


def animate(data: SolutionFile, folder: str | os.PathLike[str], dpi: int = 100) -> list[Path]:
    """Write every unknown's evolution as `animation_<u>.gif`; returns the files, none without time or without space."""
    from kanpinn.plots.frames import save_animation

    paths = {unknown: Path(folder) / f"animation_{unknown}.gif" for unknown in data.unknowns}
    return [path for unknown, path in paths.items() if save_animation(data, unknown, path, dpi)]
