"""An evolution as an animation: solution, reference and error frame by frame, all on scales that stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image

from kanpinn.io.atomic import atomic_path
from kanpinn.io.solution import SolutionFile
from kanpinn.plots.maps import error_of, solution_figure
from kanpinn.plots.style import COLOURS, finite, fit_horizontally, new_figure, styled, symmetric_limit
from kanpinn.plots.text import axis_label, formula, heading, places, unit

Show = Callable[[int], None]
"""Puts the k-th time of the output grid into a figure."""

MOST_FRAMES = 60
_MARGIN = 0.06  # of the range of values, above and below lines


@styled
def save_animation(
    data: SolutionFile, unknown: str, path: str | os.PathLike[str], dpi: int = 100, seconds: float = 6.0
) -> bool:
    """Write an unknown's evolution as an animated GIF of at most `MOST_FRAMES` evenly spaced times, in one atomic step.

    One round takes some seconds. Returns False, with nothing written, for a problem without time or without space.
    """
    if data.axes[0] != "t" or len(data.axes) < 2:
        return False
    times = data.coordinates["t"]
    frames = np.unique(np.round(np.linspace(0, len(times) - 1, min(MOST_FRAMES, len(times)))).astype(int))
    figure, show = (line_frames if len(data.axes) == 2 else map_frames)(data, unknown)
    figure.set_dpi(dpi)
    show(int(frames[0]))
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the layout of the first frame stays, else panels would jitter
    images = [_image(figure, show, int(k)) for k in frames]
    each = max(20, round(1000 * seconds / len(frames)))  # milliseconds; viewers slow down what is shorter
    with atomic_path(path) as temporary:
        images[0].save(temporary, format="GIF", save_all=True, append_images=images[1:], duration=each, loop=0)
    return True


def _image(figure: Figure, show: Show, k: int) -> Image.Image:
    """The figure at the k-th time, in the 256 colours that a GIF has."""
    show(k)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return Image.fromarray(np.ascontiguousarray(pixels)).quantize(256, dither=Image.Dither.NONE)


def _time(data: SolutionFile, k: int) -> str:
    return f"{formula('t')} = {data.coordinates['t'][k]:.3f} {unit(data, 't')}".rstrip()


def line_frames(data: SolutionFile, unknown: str) -> tuple[Figure, Show]:
    """One space coordinate: lines of network and reference, the error beneath."""
    name = data.axes[1]
    x, values, reference = data.coordinates[name], data.fields[unknown], data.fields.get(f"{unknown}_ref")
    error = error_of(data, unknown)
    figure = new_figure(5.6, 3.3 if error is None else 4.8)
    panels = figure.subplots(1 if error is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    everything = finite(values) if reference is None else finite(values, reference)
    margin = _MARGIN * (np.ptp(everything) or 1.0)
    lines = [
        (values, panels[0].plot(x, values[0], color=COLOURS[0], linewidth=2.2, label=f"network {formula(unknown)}"))
    ]
    if reference is not None:
        style = {"color": "black", "linewidth": 1.0, "linestyle": (0, (4, 3)), "label": "reference"}
        lines.append((reference, panels[0].plot(x, reference[0], **style)))
        panels[0].legend(loc="upper right")
    panels[0].set(ylim=(everything.min() - margin, everything.max() + margin), ylabel=axis_label(data, unknown))
    if error is not None:
        limit = 1.08 * symmetric_limit(error)
        panels[1].axhline(0, color="0.6", linewidth=0.6)
        lines.append((error, panels[1].plot(x, error[0], color=COLOURS[1])))
        panels[1].set(ylim=(-limit, limit), ylabel="error")
    panels[-1].set_xlabel(axis_label(data, name))
    fit_horizontally(panels[-1], x)

    def show(k: int) -> None:
        figure.suptitle(f"{heading(data)},   {_time(data, k)}")
        for table, (line,) in lines:
            line.set_ydata(table[k])

    return figure, show


def map_frames(data: SolutionFile, unknown: str) -> tuple[Figure, Show]:
    """Two space coordinates, or two with the middle of any further ones: maps side by side."""
    middle = tuple(len(data.coordinates[axis]) // 2 for axis in data.axes[1:-2])
    names = [name for name in (unknown, f"{unknown}_ref") if name in data.fields]
    tables = {name: data.fields[name][(slice(None), *middle)] for name in names}
    if len(names) == 2:
        tables[f"{unknown}_error"] = tables[names[0]] - tables[names[1]]
    coordinates = {axis: data.coordinates[axis] for axis in data.axes[-2:]}

    def frame(k: int) -> SolutionFile:
        return replace(data, coordinates=coordinates, fields={name: table[k] for name, table in tables.items()})

    figure = solution_figure(frame(0), unknown, scales=data)
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    meshes = [next(c for c in axes.collections if isinstance(c, QuadMesh)) for axes in panels]
    for axes, title in zip(panels, (f"network {formula(unknown)}", "reference", "error"), strict=False):
        axes.set_title(title)
    held = places(data, dict(zip(data.axes[1:-2], middle, strict=True)))

    def show(k: int) -> None:
        figure.suptitle(",   ".join(filter(None, (heading(data), held, _time(data, k)))))
        for mesh, table in zip(meshes, tables.values(), strict=True):
            mesh.set_array(np.ma.masked_invalid(table[k]))

    return figure, show
