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
from kanpinn.plots.maps import solution_figure
from kanpinn.plots.style import formula, heading, places, styled, unit

Show = Callable[[int], None]
"""Puts the k-th time of the output grid into a figure."""

MOST_FRAMES = 60


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
    chosen = np.unique(np.round(np.linspace(0, len(times) - 1, min(MOST_FRAMES, len(times)))).astype(int))
    figure, show = frames(data, unknown)
    figure.set_dpi(dpi)
    show(int(chosen[0]))
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the layout of the first frame stays, else panels would jitter
    images = [_image(figure, show, int(k)) for k in chosen]
    each = max(20, round(1000 * seconds / len(chosen)))  # milliseconds; viewers slow down what is shorter
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


def frames(data: SolutionFile, unknown: str) -> tuple[Figure, Show]:
    """Draw the first time, of further space coordinates than two their middle, and give what shows any other time."""
    shown = data.axes[1:][-2:]
    middle = tuple(len(data.coordinates[axis]) // 2 for axis in data.axes[1 : -len(shown)])
    names = [name for name in (unknown, f"{unknown}_ref") if name in data.fields]
    tables = {name: data.fields[name][(slice(None), *middle)] for name in names}
    if len(names) == 2:
        tables[f"{unknown}_error"] = tables[names[0]] - tables[names[1]]
    coordinates = {axis: data.coordinates[axis] for axis in shown}

    def frame(k: int) -> SolutionFile:
        return replace(data, coordinates=coordinates, fields={name: table[k] for name, table in tables.items()})

    figure = solution_figure(frame(0), unknown, scales=data)
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    if len(shown) == 2:
        artists = [next(c for c in axes.collections if isinstance(c, QuadMesh)) for axes in panels]
    else:
        artists = [*panels[0].lines, *(axes.lines[-1] for axes in panels[1:])]
    for axes in panels:
        axes.set_title(axes.get_title().partition(",  ")[0])  # without the numbers of the first time
    held = places(data, dict(zip(data.axes[1:], middle, strict=False)))

    def show(k: int) -> None:
        figure.suptitle(",   ".join(filter(None, (heading(data), held, _time(data, k)))))
        for artist, table in zip(artists, tables.values(), strict=True):
            if isinstance(artist, QuadMesh):
                artist.set_array(np.ma.masked_invalid(table[k]))
            else:
                artist.set_ydata(table[k])

    return figure, show
