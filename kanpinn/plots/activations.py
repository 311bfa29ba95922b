"""The learned functions on a network's edges, layer by layer, with their knots."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure

from kanpinn.io.solution import SolutionFile
from kanpinn.plots.style import COLOURS, formula, heading, new_figure, styled

_COLUMNS = 8
_POINTS = 401
_MANY_KNOTS = 33
_MOST_KNOTS = 150


@dataclass(frozen=True)
class EdgeLayer:
    """A layer's activations φ[q, p], from input p to output q.

    Attributes:
        factor: The network it belongs to, of those side by side, and the factor network, a coordinate: "u/x", "u", "x",
            or "" for a network of one part.
        number: Its place there, from 1.
        x: Points on the range of the knots `[n]`.
        values: `[out, in, n]`.
        knots: The knots within the range; empty for polynomials.
        outputs: Numbers of its outputs `[out]`; not all of the layer's where that is without some of its edges.
        inputs: Numbers of its inputs `[in]`.
    """

    factor: str
    number: int
    x: np.ndarray
    values: np.ndarray
    knots: np.ndarray
    outputs: np.ndarray
    inputs: np.ndarray


def edge_layers(data: SolutionFile) -> Iterator[EdgeLayer]:
    """Evaluate the activations of all layers of splines or polynomials; with time slabs those of the first slab."""
    paths = [re.fullmatch(r"(.*layer_(\d+)(?:/\w+)?)/(relu_|chebyshev_)?coefficients", name) for name in data.model]
    # Parts of a layer without some of its edges, "layer_0/node_2", stand where the layer would.
    for found in sorted(filter(None, paths), key=lambda one: (one[1].partition("/node_")[0].count("/"), one[1])):
        place = found[1]
        if re.search(r"slab_[1-9]", place):
            continue
        factor = [part for part in place.split("/")[:-1] if not re.match(r"(layer|slab)_\d+$", part)]
        if found[3] == "chebyshev_":
            x = np.linspace(-1, 1, _POINTS)
            values = np.polynomial.chebyshev.chebval(x, np.moveaxis(data.model[found[0]], -1, 0))
            inner = np.empty(0)
        else:
            degree = int(data.model_attributes.get("degree", 0))
            x, values, inner = _splines(
                data.model[found[0]], data.model[f"{place}/knots"], degree, relu=found[3] == "relu_"
            )
        if f"{place}/base_weight" in data.model:
            silu = x / (1 + np.exp(-x))
            values = values * data.model[f"{place}/spline_scale"][..., None]
            values = values + data.model[f"{place}/base_weight"][..., None] * silu
        outputs, inputs = (
            data.model[f"{place}/{key}"] if f"{place}/{key}" in data.model else np.arange(count)
            for key, count in (("outputs", values.shape[0]), ("inputs", values.shape[1]))
        )
        yield EdgeLayer("/".join(factor), int(found[2]) + 1, x, values, inner, outputs, inputs)


def _splines(
    coefficients: np.ndarray, knots: np.ndarray, known: int, *, relu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splines `[out, in, n + k]` on knots `[n + 2k + 1]`: points, values, the knots between the ends.

    Periodic ones have n coefficients and n + 1 knots, and the degree `known` from elsewhere.
    """
    from scipy.interpolate import BSpline

    degree = len(knots) - coefficients.shape[-1] - 1
    if not degree:  # periodic splines, with the knots of one period
        return _periodic(coefficients, known)
    if relu:
        import torch

        from kanpinn.splines.power_relu import spline_coefficients

        n = coefficients.shape[-1] - degree
        coefficients = spline_coefficients(torch.from_numpy(coefficients), n, degree).numpy()
    inner = knots[degree : len(knots) - degree]
    x = np.linspace(inner[0], inner[-1], _POINTS)
    values = BSpline(knots, np.moveaxis(coefficients, -1, 0), degree)(x)
    return x, np.moveaxis(values, 0, -1), inner


def _periodic(coefficients: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Periodic splines `[out, in, n]`: points, values, the knots of one period, as those of any uniform splines."""
    import torch

    from kanpinn.splines.bspline import knot_vector
    from kanpinn.splines.nesting import wrapped

    extended = np.asarray(knot_vector("uniform", coefficients.shape[-1], degree))
    return _splines(wrapped(torch.from_numpy(coefficients), degree).numpy(), extended, degree, relu=False)


@styled
def activations_figure(data: SolutionFile, most: int = 16) -> Figure | None:
    """Draw the activations of every layer, the largest first, all of a layer on one scale, knots as ticks.

    Constants move freely among the edges into a node, so every curve is drawn about its own mean, and its size is its
    standard deviation on the range of the knots. None for a network without splines or polynomials on its edges, or
    one that is not finite.
    """
    layers = [layer for layer in edge_layers(data) if np.isfinite(layer.values).all()]
    if not layers:
        return None
    counts = [min(most, layer.values.shape[0] * layer.values.shape[1]) for layer in layers]
    columns = min(_COLUMNS, max(5, *counts))
    rows = [-(-count // columns) for count in counts]
    heights = [0.95 * count + 0.42 for count in rows]
    figure = new_figure(1.05 * columns + 0.4, sum(heights) + 0.5)
    slab = ",  first time slab" if any("slab_" in name for name in data.model) else ""
    figure.suptitle(f"{heading(data)}{slab}")
    parts = figure.subfigures(len(layers), 1, height_ratios=heights, squeeze=False)[:, 0]
    for k, (part, layer, count) in enumerate(zip(parts, layers, rows, strict=True)):
        _draw(part, layer, (count, columns), most, COLOURS[k % len(COLOURS)])
    return figure


def _draw(part: SubFigure, layer: EdgeLayer, shape: tuple[int, int], most: int, colour: str) -> None:
    """Draw one layer's largest edges."""
    outputs, inputs, _ = layer.values.shape
    values = layer.values - layer.values.mean(axis=-1, keepdims=True)
    size = values.std(axis=-1)
    order = np.argsort(-size, axis=None, kind="stable")[:most]
    edges = "edge" if outputs * inputs == 1 else "edges"
    shown = (
        f"{len(order)} largest of {outputs * inputs} {edges}" if most < outputs * inputs else f"{len(order)} {edges}"
    )
    factor = f"network {formula(layer.factor)}, " if layer.factor else ""
    intervals = len(layer.knots) - 1
    knots = f", {intervals} knot interval{'s' * (intervals != 1)}" if len(layer.knots) else ", polynomials"
    part.suptitle(
        f"{factor}layer {layer.number}:  {inputs} → {outputs}{knots},  {shown}", fontsize=9.5, x=0.01, ha="left"
    )
    grid = part.subplots(*shape, sharex=True, sharey=True, squeeze=False)
    limit = 1.1 * float(np.abs(values).max()) or 1.0
    for axes, edge in zip(grid.flat, order, strict=False):
        q, p = divmod(int(edge), inputs)
        axes.axhline(0, color="0.85", linewidth=0.6, zorder=1)
        axes.plot(layer.x, values[q, p], color=colour, linewidth=1.2, zorder=3)
        if 0 < len(layer.knots) <= _MOST_KNOTS:  # more could not be told apart
            few = len(layer.knots) <= _MANY_KNOTS
            axes.plot(
                layer.knots,
                np.zeros(len(layer.knots)),
                linestyle="none",
                marker=2,  # a tick upwards
                markersize=3.5,
                markeredgewidth=0.6 if few else 0.35,
                color="0.3",
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                zorder=2,
            )
        axes.set(xlim=(layer.x[0], layer.x[-1]), ylim=(-limit, limit))
        third = len(layer.x) // 3
        free = values[q, p, :third].max() <= values[q, p, -third:].max()  # the corner that the curve leaves free
        name = rf"$\varphi_{{{layer.outputs[q] + 1:.0f},{layer.inputs[p] + 1:.0f}}}$"
        axes.annotate(
            name, (0.04 if free else 0.96, 0.95), xycoords="axes fraction",
            ha="left" if free else "right", va="top", fontsize=8.5, zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )  # fmt: skip
        axes.tick_params(labelsize=7.5, length=2)
        axes.locator_params(axis="y", nbins=3)
        axes.set_xticks([layer.x[0], 0, layer.x[-1]], [f"${layer.x[0]:g}$", "0", f"${layer.x[-1]:g}$"])
    for axes in list(grid.flat)[len(order) :]:
        axes.axis("off")
