"""An evolution, or a parameter's values, frame by frame: solution, reference and error, all on scales that stay."""

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
from kanpinn.plots.panels import cuts
from kanpinn.plots.style import formula, heading, places, styled, unit

Show = Callable[[int], None]
"""Puts the k-th value of a coordinate of the output grid into a figure."""

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


def _place(data: SolutionFile, name: str, k: int) -> str:
    return f"{formula(name)} = {data.coordinates[name][k]:.3f} {unit(data, name)}".rstrip()


def frames(data: SolutionFile, unknown: str, along: str = "t") -> tuple[Figure, Show]:
    """Draw the first time, or value of another coordinate, and give what shows any other one.

    Parameters, and of further space coordinates all but two, are held at their middle.
    """
    others = [name for name in data.axes if name != along]
    shown = [name for name in others if name not in data.parameters][-2:] or others[-2:]
    middle = {name: len(data.coordinates[name]) // 2 for name in others if name not in shown}
    cut = data.at(middle)
    axis = cut.axes.index(along)
    names = [name for name in (unknown, f"{unknown}_ref") if name in data.fields]
    tables = {name: np.moveaxis(cut.fields[name], axis, 0) for name in names}
    if len(names) == 2:
        tables[f"{unknown}_error"] = tables[names[0]] - tables[names[1]]

    def frame(k: int) -> SolutionFile:
        return replace(cut.at({along: k}), fields={name: table[k] for name, table in tables.items()})

    figure = solution_figure(frame(0), unknown, scales=data)
    turned = len(shown) == 2 and cuts(frame(0)).transposed
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    if len(shown) == 2:
        artists = [next(c for c in axes.collections if isinstance(c, QuadMesh)) for axes in panels]
    else:
        artists = [*panels[0].lines, *(axes.lines[-1] for axes in panels[1:])]
    for axes in panels:
        axes.set_title(axes.get_title().partition(",  ")[0])  # without the numbers of the first time
    held = places(data, middle)

    def show(k: int) -> None:
        figure.suptitle(",   ".join(filter(None, (heading(data), held, _place(data, along, k)))))
        for artist, table in zip(artists, tables.values(), strict=True):
            if isinstance(artist, QuadMesh):
                artist.set_array(np.ma.masked_invalid(table[k].T if turned else table[k]))
            else:
                artist.set_ydata(table[k])

    return figure, show
