"""Drawing of a network: its nodes, and on its edges the functions they have learned, as pykan draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kanpinn.plots.style import COLOURS, formula, new_figure, plain, styled

WIDTH = 7.0
"""Width of the figure in inches: a page's, or two columns'."""

FADE = 3.0
"""An edge of the score B is drawn with the opacity tanh 3B, as in pykan."""

FAINT = 0.01
"""Smallest score of an edge that is drawn."""

MOST = 72
"""Most edges that are drawn of a layer."""

_BOX, _GAP = 0.46, 0.10
"""Largest size of a small plot and the gap between two, in inches."""


@styled
def network_figure(network: Mapping[str, Any], title: str = "") -> Figure | None:
    """Draw a network from the entry `network` of explanation.json, inputs below, outputs above; None without edges.

    Every small plot shows one edge's function over the range of values that really reach it, on a scale of its own.
    Edges are the fainter the less they matter. A curve with a symbolic form is drawn in the second colour.
    """
    layers = network["layers"]
    if not layers:
        return None
    rows = [_rows(layer) for layer in layers]
    heights = [count * (_size(layer, count) + _GAP) + (0.9 if layer["products"] else 0.62) for layer, count in
               zip(layers, rows, strict=True)]  # fmt: skip
    figure = new_figure(WIDTH, sum(heights) + (0.95 if title else 0.65))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, figure.get_figheight()))
    axes.axis("off")
    bottom = 0.38
    below = _places(len(network["inputs"]), None)
    for x, name in zip(below, network["inputs"], strict=True):
        axes.text(x, bottom - 0.09, formula(name), ha="center", va="top", fontsize=10)
    _nodes(axes, below, bottom, network["nodes"][0])
    for number, (layer, count, height) in enumerate(zip(layers, rows, heights, strict=True), start=1):
        top = bottom + height
        nodes = network["nodes"][number], network["order"][number]
        above = _draw_layer(axes, layer, count, (below, bottom), top, *nodes)
        below, bottom = above, top
    for x, name in zip(below, network["outputs"], strict=True):
        axes.text(x, bottom + 0.09, formula(name), ha="center", va="bottom", fontsize=10)
    if title:
        axes.text(WIDTH / 2, figure.get_figheight() - 0.06, plain(title), ha="center", va="top", fontsize=10)
    return figure


def _shown(layer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The edges that are drawn."""
    edges = [edge for edge in layer["edges"] if edge["score"] >= FAINT]
    return sorted(edges, key=lambda edge: -edge["score"])[:MOST]


def _rows(layer: Mapping[str, Any]) -> int:
    """Number of rows in which a layer's small plots stand."""
    count = len(_shown(layer))
    return 1 if count <= 14 else 2 if count <= 30 else 4


def _size(layer: Mapping[str, Any], rows: int) -> float:
    """Size of a layer's small plots, in inches."""
    count = -(-len(_shown(layer)) // rows) or 1
    return min(_BOX if rows == 1 else 0.38, (WIDTH - 0.3) / count - 0.06)


def _places(count: int, order: Sequence[int] | None) -> np.ndarray:
    """Horizontal places of a layer's nodes; node k stands where `order` has k."""
    places = WIDTH * (np.arange(count) + 0.5) / count
    if order is None:
        return places
    found = np.empty(count)
    found[list(order)] = places
    return found


def _nodes(axes: Axes, x: np.ndarray, y: float, scores: Sequence[float], products: int = 0) -> None:
    """Draw nodes, those of products with a cross."""
    for k, (place, score) in enumerate(zip(x, scores, strict=True)):
        shade = f"{0.8 * (1 - np.tanh(FADE * score)):.3f}"
        if k < len(x) - products:
            axes.plot(place, y, "o", color=shade, markersize=4.5, zorder=4)
        else:
            axes.plot(place, y, "o", color="white", markeredgecolor=shade, markersize=9, zorder=4)
            axes.plot(place, y, "x", color=shade, markersize=4.5, markeredgewidth=1.1, zorder=5)


def _draw_layer(
    axes: Axes,
    layer: Mapping[str, Any],
    rows: int,
    below: tuple[np.ndarray, float],
    top: float,
    scores: Sequence[float],
    order: Sequence[int],
) -> np.ndarray:
    """Draw a layer's edges and the nodes above them; return the places of these."""
    (source, bottom), products = below, layer["products"]
    above = _places(len(scores), order)
    passed = len(scores) - products
    pairs = [above[k] + side for k in range(passed, len(scores)) for side in (-0.11, 0.11)]
    sums, joint = np.array([*above[:passed], *pairs]), top - 0.24 if products else top
    edges, size = _shown(layer), _size(layer, rows)
    edges.sort(key=lambda edge: (source[edge["from"]] + sums[edge["to"]], source[edge["from"]]))
    margin = size / 2 + 0.06
    middles = margin + (WIDTH - 2 * margin) * (np.arange(len(edges)) + 0.5) / max(len(edges), 1)
    for k, (edge, x) in enumerate(zip(edges, middles, strict=True)):
        y = bottom + 0.31 + size / 2 + (k % rows) * (size + _GAP)
        end = joint if edge["to"] >= passed else top
        opacity = float(np.tanh(FADE * edge["score"]))
        line: dict[str, Any] = {"color": "black", "linewidth": 0.7, "alpha": opacity, "zorder": 1}
        axes.plot([source[edge["from"]], x], [bottom, y - size / 2], **line)
        axes.plot([x, sums[edge["to"]]], [y + size / 2, end], **line)
        _small_plot(axes, edge, (x, y), size, opacity)
    for k in range(products):
        for side in (0, 1):
            x = sums[passed + 2 * k + side]
            axes.plot([x, above[passed + k]], [joint, top], color="0.3", linewidth=0.7, zorder=1)
            axes.plot(x, joint, "o", color="0.3", markersize=2.5, zorder=4)
    _nodes(axes, above, top, scores, products)
    return above


def _small_plot(axes: Axes, edge: Mapping[str, Any], middle: tuple[float, float], size: float, opacity: float) -> None:
    """Draw one edge's function in a box about a place."""
    x, y = (np.asarray(edge[key], dtype=float) for key in ("x", "y"))
    left, low = middle[0] - size / 2, middle[1] - size / 2
    symbol = edge.get("symbol")
    frame = {"edgecolor": "black", "linewidth": 0.5, "alpha": opacity, "zorder": 2.5}
    axes.add_patch(Rectangle((left, low), size, size, facecolor="white", edgecolor="none", zorder=2))
    axes.add_patch(Rectangle((left, low), size, size, facecolor="none", **frame))
    across = (x - x[0]) / (np.ptp(x) or 1.0)
    up = (y - y.min()) / (np.ptp(y) or 1.0)
    colour = COLOURS[1] if symbol else COLOURS[0]
    margin = 0.1 * size
    axes.plot(
        left + margin + across * (size - 2 * margin),
        low + margin + up * (size - 2 * margin),
        color=colour,
        linewidth=1.1 if size > 0.3 else 0.8,
        alpha=opacity,
        zorder=3,
    )
    if symbol and size > 0.3:
        text: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": colour, "zorder": 3}
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        axes.text(middle[0], low + size + 0.03, formula(symbol), bbox=box, **text)
