"""Figures of a run, from its solution file alone."""

from __future__ import annotations

import os
from pathlib import Path

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.history import history_figure, level_changes
from kanpinn.plots.maps import residual_figure, solution_figure
from kanpinn.plots.slices import relative_l2_slices, slices_figure
from kanpinn.plots.style import save

__all__ = [
    "history_figure",
    "level_changes",
    "plot_all",
    "relative_l2_slices",
    "residual_figure",
    "slices_figure",
    "solution_figure",
]


def plot_all(data: SolutionFile, folder: str | os.PathLike[str], dpi: int = 160) -> list[Path]:
    """Draw every figure that a solution gives and write it as PNG.

    Args:
        data: The solution.
        folder: Where the figures go; created where missing.
        dpi: Dots per inch.

    Returns:
        The files written: `solution_<u>.png`, `slices_<u>.png` for problems in time and space, `residual.png`,
        `history.png`.
    """
    folder = Path(folder)
    builders = {}
    for unknown in data.unknowns:
        builders[f"solution_{unknown}"] = lambda name=unknown: solution_figure(data, name)
        builders[f"slices_{unknown}"] = lambda name=unknown: slices_figure(data, name)
    builders["residual"] = lambda: residual_figure(data)
    builders["history"] = lambda: history_figure(data)
    written = []
    for name, build in builders.items():
        figure = build()
        if figure is not None:
            save(figure, folder / f"{name}.png", dpi)
            written.append(folder / f"{name}.png")
    return written
