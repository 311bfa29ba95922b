"""Style of figures: fonts, colours, limits, ticks, words; drawn on a canvas of their own, never through pyplot."""

from __future__ import annotations

import functools
import io
import logging
import math
import os
import re
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from kanpinn.axes import norm
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
# Okabe and Ito's palette, told apart by colour-blind readers and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#882255")
_NOT_FINITE_GREY = "0.75"
_OWN: Any = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")} | STYLE
_DRAWING, _LOGGER = threading.RLock(), logging.getLogger("matplotlib")


def styled(build: Callable[P, R]) -> Callable[P, R]:
    """Run a function that draws under the house style alone; the caller's settings of matplotlib count for nothing.

    They are left as they were. Matplotlib has one set of them per process, so one thread draws at a time.
    """

    @functools.wraps(build)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        # Numbers of a run that has diverged overflow on the way to the screen.
        with _DRAWING, mpl.rc_context(_OWN), _quiet(), np.errstate(all="ignore"):
            return build(*args, **kwargs)

    return drawn


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep matplotlib's remarks, on every letter that no font has, from the screen and from the caller's filters."""
    level = _LOGGER.level
    _LOGGER.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        _LOGGER.setLevel(level)


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, of a size in inches, with constrained layout and a canvas of its own."""
    figure = _Shown(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class _Shown(Figure):
    """Figure that a notebook shows, with pyplot or without."""

    def _repr_png_(self) -> bytes:
        """Picture as PNG."""
        return png(self, 120)


@styled
def png(figure: Figure, dpi: int) -> bytes:
    """Draw a figure as PNG: the content of the file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


@styled
def save(figure: Figure, path: str | os.PathLike[str], dpi: int) -> None:
    """Write a figure as PNG in one atomic step."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def colours(name: str) -> Colormap:
    """Take a colour map by its name; values that are not finite show grey."""
    return mpl.colormaps[name].with_extremes(bad=_NOT_FINITE_GREY)


def finite(*arrays: np.ndarray) -> np.ndarray:
    """Join the finite values of some arrays, `[N]`; a single zero where there are none."""
    values = np.concatenate([np.ravel(array) for array in arrays])
    values = values[np.isfinite(values)]
    return values if values.size else np.zeros(1)


def solution_colours(*arrays: np.ndarray) -> tuple[Normalize, Colormap]:
    """Choose limits and colours shared by some arrays: diverging about 0 where both signs matter, else sequential."""
    values = finite(*arrays)
    low, high = float(values.min()), float(values.max())
    if low < 0 < high and min(-low, high) > 0.25 * max(-low, high):
        limit = max(-low, high)
        return Normalize(-limit, limit), colours(DIVERGING)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    return Normalize(low, high), colours(SEQUENTIAL)


def symmetric_limit(values: np.ndarray) -> float:
    """Largest modulus of the finite values, for limits ±it; tiny but positive where all of them vanish."""
    return float(np.abs(finite(values)).max()) or 1e-16


def residual_norm(*arrays: np.ndarray) -> LogNorm:
    """Logarithmic limits in whole decades for moduli: at most five decades, the lowest twentieth cut off.

    A few points a thousand times above all others, such as corners where the data jump, do not set the scale.
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
    """Return ‖values − reference‖₂/‖reference‖₂ over all points with a reference; NaN where that cannot be said."""
    inside = ~np.isnan(reference)
    values, reference = values[inside], reference[inside]
    size = norm(reference)
    return norm(values - reference) / size if size else math.nan


def fit_horizontally(axes: Axes, values: np.ndarray) -> None:
    """Let the horizontal axis end where the values `[n]` do; a single value keeps matplotlib's margins."""
    if values.min() < values.max():
        axes.set_xlim(values.min(), values.max())


def log_ticks(axis: Axis, decades: float) -> None:
    """Label a logarithmic axis of some decades: whole decades where there are several, else 1, 2 and 5 as well."""
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
    axis.set_minor_formatter(NullFormatter())
    if decades <= 2:  # matplotlib's own would label the decades only
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))


def grid_lines(axes: Axes, which: Literal["both", "x", "y"] = "both", grey: str = "0.92") -> None:
    """Draw thin lines at the ticks, behind everything else."""
    axes.grid(axis=which, color=grey, linewidth=0.6)
    axes.set_axisbelow(True)


def note_not_finite(axes: Axes, values: np.ndarray, outside: np.ndarray) -> None:
    """Say on a panel how much of what it shows is NaN or infinite, if any is, without what lies outside the domain."""
    values = values[~outside]
    share = 1 - np.isfinite(values).mean() if values.size else 0.0
    if share > 0:
        text = f"{max(share * 100, 0.1):.2g}% not finite"
        backing = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "color": "crimson", "bbox": backing}
        axes.text(0.5, 0.02, text, transform=axes.transAxes, **look)


_LETTERS = "α β γ δ ε ζ η θ κ λ μ ν ξ ρ σ τ φ χ ψ ω"
GREEK = {unicodedata.name(letter).split()[-1].lower().replace("lamda", "lambda"): letter for letter in _LETTERS[::2]}
"""Greek letters by name."""

NAMES = "|".join(sorted(GREEK, key=len, reverse=True))
_CHAIN = re.compile(rf"(?:{NAMES}|[rstxyz]|_)+")


def spelled(word: str, letter: Callable[[str], str]) -> str:
    """Put letters for the Greek names in a chain of coordinates such as `thetatheta`; another word stays as it is."""
    return re.sub(NAMES, lambda found: letter(found[0]), word).replace("_", "") if _CHAIN.fullmatch(word) else word


@functools.cache
def _parses(text: str) -> bool:
    """Say whether matplotlib can typeset a formula."""
    try:
        MathTextParser("path").parse(text)
    except (ValueError, RuntimeError):
        return False
    return True


def formula(text: str) -> str:
    """Typeset a line such as `u_t = nu u_xx` as a formula, subscripts and Greek letters included; else as it is."""
    tex = re.sub(r"[²³]", lambda match: {"²": "^2", "³": "^3"}[match.group()], text)
    tex = re.sub(r"\^\(([^()]*)\)|\^(\w\w+)", r"^{\1\2}", re.sub(r" ?\*\* ?", "^", tex)).replace("*", " ")
    tex = re.sub(r"\blaplace\((\w+)\)", r"Δ \1", tex).replace("laplace(", "Δ (").replace("Δ ", r"{\Delta}")
    tex = re.sub(r"_(\w+)", lambda found: f"_{{{spelled(found[1], lambda name: f'{{{chr(92)}{name}}}')}}}", tex)
    tex = re.sub(r"_\{(ref|\w{4,})\}", r"_{\\mathrm{\1}}", tex)
    tex = re.sub(r"\b(sin|cos|tan|tanh|sinh|cosh|exp|log)\b", r"\\\1", tex)
    tex = re.sub(rf"(?<![\\\w])({NAMES}|pi)(?![^\W_])", r"\\\1", tex)
    tex = re.sub(r"(?<![\\{\w])([A-Za-z]{3,})\b(?!_)", r"\\mathrm{\1}", tex)
    tex = re.sub(r"(?<=[\w})]) (?=[\w\\(])", r"\\,", tex.replace("·", r"\cdot "))
    tex = f"${tex}$"
    return tex if "$" not in text and _parses(tex) else text.replace("$", r"\$")


def number(value: float) -> str:
    """Write a number with two digits, powers of ten typeset."""
    if not np.isfinite(value):
        return "not finite"
    if value == 0 or 1e-2 <= abs(value) < 1e3:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return rf"${digits}\times10^{{{int(exponent)}}}$"


def unit(data: SolutionFile, name: str) -> str:
    """Units of a coordinate or field; "" for a pure number."""
    found = data.label(name)[1]
    return "" if found in ("", "1") else plain(found)


def with_unit(text: str, data: SolutionFile, name: str) -> str:
    """Put the units of a coordinate or field behind a text, in brackets, if it has some."""
    found = unit(data, name)
    return f"{text} ({found})" if found else text


def axis_label(data: SolutionFile, name: str) -> str:
    """Label an axis or colour bar: "position $x$ (m)"; a bare symbol where nothing more is known."""
    long_name, symbol = data.label(name)[0], formula(name)
    return with_unit(symbol if long_name in ("", name) else f"{plain(long_name)} {symbol}", data, name)


def places(data: SolutionFile, indices: Mapping[str, int]) -> str:
    """Name points of the output grid's axes: "t = 0.5, z = 1"."""
    return ", ".join(f"{formula(name)} = {data.coordinates[name][k]:.3g}" for name, k in indices.items())


def level_name(level: object, grid: object) -> str:
    """Name a level by its number of intervals, "G = 8", or else by its own number."""
    return f"level {level}" if grid is None else f"$G$ = {grid}"


_TITLES = {
    "allen_cahn": "Allen–Cahn",
    "kdv": "Korteweg–de Vries",
    "poisson_lshape": "Poisson on an L-shaped domain",
    "poisson_nd": "Poisson in several dimensions",
}
"""Names of problems that do not follow from their files'."""


def heading(data: SolutionFile) -> str:
    """Line above a figure: the problem and its equation."""
    title = problem_title(data.problem)
    return f"{title}:  {formula(data.equation)}" if data.equation else title


def problem_title(name: str) -> str:
    """Write a problem's name such as "allen_cahn" as a title."""
    return _TITLES.get(name, " ".join(word[:1].upper() + word[1:] for word in plain(name).split("_")))


def plain(text: str) -> str:
    """Keep matplotlib from reading a formula into somebody's text: escape every dollar sign."""
    return text.replace("$", r"\$")
