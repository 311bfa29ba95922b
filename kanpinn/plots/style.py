"""How figures look: fonts, colours, labels, colour limits; drawn on their own canvas, never through pyplot."""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from kanpinn.io.atomic import atomic_path
from kanpinn.io.solution import SolutionFile

P = ParamSpec("P")
R = TypeVar("R")

STYLE: Any = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "figure.titlesize": 11,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-3, 4),
    "axes.grid": False,
}
SEQUENTIAL, DIVERGING, ERROR, RESIDUAL = "viridis", "RdBu_r", "PuOr_r", "magma"
GREEK = "alpha|beta|gamma|delta|epsilon|kappa|lambda|mu|nu|rho|sigma|tau|omega"
# Okabe and Ito's palette, told apart by colour-blind readers and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#882255")
_NOT_FINITE_GREY = "0.75"


def styled(build: Callable[P, R]) -> Callable[P, R]:
    """Run a function under the house style, leaving matplotlib's settings as they were.

    Args:
        build: A function that builds or draws a figure.

    Returns:
        The same function under the style.
    """

    @functools.wraps(build)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(STYLE):
            return build(*args, **kwargs)

    return wrapped


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure with constrained layout and a canvas of its own.

    Args:
        width: Width in inches.
        height: Height in inches.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def png(figure: Figure, dpi: int) -> bytes:
    """Draw a figure as PNG.

    Args:
        figure: The figure.
        dpi: Dots per inch.

    Returns:
        The file's content.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


@styled
def save(figure: Figure, path: str | os.PathLike[str], dpi: int) -> None:
    """Write a figure as PNG in one atomic step.

    Args:
        figure: The figure.
        path: The file.
        dpi: Dots per inch.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


@functools.cache
def _parses(text: str) -> bool:
    """Say whether matplotlib can typeset a formula."""
    try:
        MathTextParser("path").parse(text)
    except (ValueError, RuntimeError):
        return False
    return True


def formula(text: str) -> str:
    """Typeset one line of plain text as a formula: subscripts, upright functions, Greek letters (`u_t = nu u_xx`).

    Args:
        text: A name such as `u_xx`, or an equation.

    Returns:
        Text for matplotlib: the formula where it can be typeset, else the text as it is.
    """
    tex = re.sub(r"[²³]", lambda match: {"²": "^2", "³": "^3"}[match.group()], text)
    tex = re.sub(r"_(\w+)", r"_{\1}", tex)
    tex = re.sub(r"_\{(ref|\w{4,})\}", r"_{\\mathrm{\1}}", tex)
    tex = re.sub(r"\b(sin|cos|tan|tanh|sinh|cosh|exp|log)\b", r"\\\1", tex)
    tex = re.sub(rf"(?<![\\\w])({GREEK})\b", r"\\\1", tex)
    tex = re.sub(r"(?<![\\{\w])([A-Za-z]{3,})\b(?!_)", r"\\mathrm{\1}", tex)
    tex = re.sub(r"(?<=[\w})]) (?=[\w\\(])", r"\\,", tex.replace("·", r"\cdot "))
    tex = f"${tex}$"
    return tex if "$" not in text and _parses(tex) else text.replace("$", r"\$")


def number(value: float) -> str:
    """Write a number with two digits, powers of ten typeset.

    Args:
        value: The number.

    Returns:
        Text for matplotlib.
    """
    if not np.isfinite(value):
        return "not finite"
    if value == 0 or 1e-2 <= abs(value) < 1e3:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return rf"${digits}\times10^{{{int(exponent)}}}$"


def axis_label(data: SolutionFile, name: str) -> str:
    """Label an axis or colour bar: "position $x$ (m)"; a bare symbol where nothing more is known.

    Args:
        data: The solution.
        name: A coordinate or field.

    Returns:
        Text for matplotlib.
    """
    long_name, units = data.label(name)
    symbol = formula(name)
    text = symbol if long_name in ("", name) else f"{long_name} {symbol}"
    return text if units in ("", "1") else f"{text} ({units})"


_TITLES = {
    "allen_cahn": "Allen–Cahn",
    "kdv": "Korteweg–de Vries",
    "poisson_lshape": "Poisson on an L-shaped domain",
    "poisson_nd": "Poisson in several dimensions",
}
"""Names of problems that do not follow from their files'."""


def heading(data: SolutionFile) -> str:
    """The line above a figure: the problem and its equation.

    Args:
        data: The solution.

    Returns:
        Text for matplotlib.
    """
    title = problem_title(data.problem)
    return f"{title}:  {formula(data.equation)}" if data.equation else title


def problem_title(name: str) -> str:
    """A problem's name as a title.

    Args:
        name: Its name, such as "allen_cahn".

    Returns:
        Text for matplotlib.
    """
    return _TITLES.get(name, " ".join(word.capitalize() for word in plain(name).split("_")))


def plain(text: str) -> str:
    """Keep matplotlib from reading a formula into somebody's text.

    Args:
        text: The text.

    Returns:
        The same with every dollar sign escaped.
    """
    return text.replace("$", r"\$")


def colours(name: str) -> Colormap:
    """Take a colour map in which values that are not finite show grey.

    Args:
        name: Its name.

    Returns:
        The colour map.
    """
    return mpl.colormaps[name].with_extremes(bad=_NOT_FINITE_GREY)


def finite(*arrays: np.ndarray) -> np.ndarray:
    """Join the finite values of some arrays.

    Args:
        arrays: Arrays of any shape.

    Returns:
        Their finite values `[N]`; a single zero where there are none.
    """
    values = np.concatenate([np.ravel(array) for array in arrays])
    values = values[np.isfinite(values)]
    return values if values.size else np.zeros(1)


def solution_colours(*arrays: np.ndarray) -> tuple[Normalize, Colormap]:
    """Choose limits and colours for a solution: diverging about 0 where both signs matter, else sequential.

    Args:
        arrays: Everything that shares the colour scale.

    Returns:
        The norm and the colour map.
    """
    values = finite(*arrays)
    low, high = float(values.min()), float(values.max())
    if low < 0 < high and min(-low, high) > 0.25 * max(-low, high):
        limit = max(-low, high)
        return Normalize(-limit, limit), colours(DIVERGING)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    return Normalize(low, high), colours(SEQUENTIAL)


def symmetric_limit(values: np.ndarray) -> float:
    """The largest modulus of the finite values, for limits ±it; tiny but positive where all of them vanish.

    Args:
        values: Errors, any shape.

    Returns:
        The limit.
    """
    return float(np.abs(finite(values)).max()) or 1e-16


def residual_norm(*arrays: np.ndarray) -> LogNorm:
    """Logarithmic limits in whole decades for moduli: at most five decades, the lowest twentieth cut off.

    A few points a thousand times above all others, such as corners where the data jump, do not set the scale.

    Args:
        arrays: Residuals, any shape and sign.

    Returns:
        The norm.
    """
    values = np.abs(finite(*arrays))
    highest, common = float(values.max()) or 1e-16, float(np.percentile(values, 99.9))
    if 0 < 1e3 * common < highest:
        highest = common
    top = np.ceil(np.log10(highest))
    positive = values[values > 0]
    low = np.log10(np.percentile(positive, 5)) if positive.size else top - 1
    bottom = max(np.floor(low), top - 5)
    return LogNorm(10.0 ** min(bottom, top - 1), 10.0**top, clip=True)


def relative_l2(values: np.ndarray, reference: np.ndarray) -> float:
    """‖values − reference‖₂ / ‖reference‖₂ over all points with a reference; NaN where that cannot be said.

    Args:
        values: Any shape.
        reference: The same shape.

    Returns:
        The relative error.
    """
    inside = ~np.isnan(reference)
    values, reference = values[inside], reference[inside]
    with np.errstate(all="ignore"):
        return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))


def fit_horizontally(axes: Axes, values: np.ndarray) -> None:
    """Let the horizontal axis end where the values do; a single value keeps matplotlib's margins.

    Args:
        axes: The panel.
        values: Coordinates `[n]`.
    """
    if values.min() < values.max():
        axes.set_xlim(values.min(), values.max())


def log_ticks(axis: Axis, decades: float) -> None:
    """Label a logarithmic axis: whole decades where there are several, else 1, 2 and 5 as well.

    Args:
        axis: The axis.
        decades: How many decades it shows.
    """
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
    axis.set_minor_formatter(NullFormatter())
    if decades <= 2:  # matplotlib's own would label the decades only
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))


def note_not_finite(axes: Axes, values: np.ndarray, outside: np.ndarray | None = None) -> None:
    """Say on a panel how much of what it shows is NaN or infinite, if any is.

    Args:
        axes: The panel.
        values: What it shows.
        outside: Which of the values lie outside the domain and do not count, if any do.
    """
    if outside is not None:
        values = values[~outside]
    backing = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    share = 1 - np.isfinite(values).mean() if values.size else 0.0
    if share > 0:
        text = f"{max(share * 100, 0.1):.2g}% not finite"
        axes.text(
            0.5,
            0.02,
            text,
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            fontsize=8,
            color="crimson",
            bbox=backing,
        )
