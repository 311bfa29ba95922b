"""Classes of a table against those that a network gives: a confusion matrix of each part."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import heading, new_figure, styled

PARTS = ("train", "validation", "test")
MOST_NAMES = 20
"""Classes up to which their names and numbers of rows are written."""


@styled
def classes_figure(data: SolutionFile) -> Figure | None:
    """Draw how many rows of each class go to which, a panel for each part; None where there are no classes."""
    tables = {part: data.measured[part] for part in PARTS if "predicted" in data.measured.get(part, {})}
    if not tables:
        return None
    names = [data.label(name)[0] or name for name in data.unknowns]
    size = 2.2 + 0.16 * min(len(names), MOST_NAMES)
    figure = new_figure(size * len(tables) + 0.6, size + 1.0)
    figure.suptitle(heading(data))
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (part, table) in zip(panels, tables.items(), strict=True):
        own, given = (table[key].astype(int) for key in ("class", "predicted"))
        counts = np.zeros((len(names), len(names)), int)
        np.add.at(counts, (own, given), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(title=f"{part}: {np.mean(own == given):.1%} of {len(own)}", xlabel="class by the network")
        axes.tick_params(length=0)
        if len(names) <= MOST_NAMES:
            axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
            axes.set_yticks(range(len(names)), names)
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)
    panels[0].set_ylabel("class")
    return figure
