"""Text of figures: names and equations as formulas, labels of axes, numbers, titles."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.mathtext import MathTextParser

from kanpinn.io.solution import SolutionFile

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
    tex = re.sub(r"_(\w+)", lambda found: f"_{{{spelled(found[1], lambda name: f'{{{chr(92)}{name}}}')}}}", tex)
    tex = re.sub(r"_\{(ref|\w{4,})\}", r"_{\\mathrm{\1}}", tex)
    tex = re.sub(r"\b(sin|cos|tan|tanh|sinh|cosh|exp|log)\b", r"\\\1", tex)
    tex = re.sub(rf"(?<![\\\w])({NAMES})(?![^\W_])", r"\\\1", tex)
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
