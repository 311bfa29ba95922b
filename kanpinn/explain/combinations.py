"""Combinations of coordinates in place of them: a function that knows only such has a symmetry."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kanpinn.explain.splits import COUNT, SLICES, VALUES, Asked, Split, blocks_of, inner_points, rms
from kanpinn.explain.structure import COMBINATIONS, Array, Field, gradients, refined_ratio

ENOUGH = 40
"""Fewest steps along a combination that can tell whether it is one."""

_RATIOS = {
    "linear": lambda slopes, _, i, j: (slopes[:, i], slopes[:, j]),
    "power": lambda slopes, x, i, j: (slopes[:, i] * x[:, i], slopes[:, j] * x[:, j]),
    "square": lambda slopes, x, i, j: (slopes[:, i] * x[:, j], slopes[:, j] * x[:, i]),
}
"""Derivatives by two coordinates times what makes their ratio constant if f knows only a combination of both."""


def split_combination(asked: Asked) -> Split | None:
    """One of a x + b y, x^a y^b, a x² + b y² in place of several coordinates.

    The gradient gives the ratio of a and b; the function's values decide, as they must stay along the combination.
    """
    whole, changes = asked.whole, asked.changes
    points = inner_points(whole, COUNT, 7)
    slopes = gradients(whole, points) / (whole.upper - whole.lower)
    best: tuple[float, str, list[str], dict[tuple[str, str], float]] | None = None
    for kind in COMBINATIONS:
        found: dict[tuple[str, str], float] = {}
        ratios: dict[tuple[str, str], float] = {}
        for (i, one), (j, other) in itertools.combinations(enumerate(whole.names), 2):
            a, b = _RATIOS[kind](slopes, points, i, j)
            start = float(np.copysign(rms(b) / rms(a), a @ b))
            ratio, left, slope = refined_ratio(whole, i, j, start, kind)
            ratios[one, other] = simplest(ratio, np.sqrt(2) * asked.error / max(slope, 1e-300))
            if len(left) < ENOUGH:
                continue
            text = f"{_named(kind, (one, other), (1.0, ratios[one, other]))} in place of {one}, {other}"
            least = min(changes[one], changes[other])
            measured = rms(left) / (np.sqrt(2) * least)
            if asked.holds(text, measured, VALUES * asked.error / least):
                found[one, other] = measured
        if found and (best is None or max(found.values()) < best[0]):
            best = max(found.values()), kind, max(blocks_of(whole.names, list(found)), key=len), ratios
    if best is None:
        return None
    _, kind, block, ratios = best
    name = _named(kind, block, [1.0, *(ratios[block[0], one] for one in block[1:])])
    inner = _combined(whole, kind, {one: ratios.get((block[0], one), 1.0) for one in block}, name)
    return Split("combination", f"function of {', '.join(inner.names)}", [inner])


def _combined(whole: Field, kind: str, weights: dict[str, float], name: str) -> Field:
    """The function of s and the coordinates not combined, along the first of those that are while the others stay.

    s is the combination by its weights, without the sign of what is raised to powers.
    """
    first, *others = weights
    names = [first, *(one for one in whole.names if one not in weights)]
    (there, back), k = COMBINATIONS[kind], whole.names.index(first)
    low, high = float(whole.lower[k]), float(whole.upper[k])
    if kind != "linear" and low * high < 0:  # one side of 0, the wider one
        low, high = (1e-3 * high, high) if high > -low else (low, 1e-3 * low)
    found: list[tuple[bool, float, Field]] = []
    for fixed in whole.points(SLICES, 6):
        level = sum(weights[one] * float(there(fixed[whole.names.index(one)])) for one in others)
        ends = np.sort(there(np.array([low, high])) + level)
        along = whole.at(names, fixed)

        def value(points: Array, along: Field = along, level: float = level) -> Array:
            s = np.log(points[:, 0]) if kind == "power" else points[:, 0]
            x = back(np.maximum(s - level, 0) if kind == "square" else s - level, np.full(len(points), low + high))
            return along.value(np.column_stack([x, points[:, 1:]]))

        lower, upper = along.lower.copy(), along.upper.copy()
        lower[0], upper[0] = np.exp(ends) if kind == "power" else ends
        one = replace(along, value=value, names=(name, *names[1:]), lower=lower, upper=upper)
        odd = [fixed[whole.names.index(o)] for o in others if round(weights[o]) % 2]
        positive = bool((low + high) * np.prod(np.sign(odd)) > 0)
        found.append((positive, float(one.value(one.points(COUNT // 5, 0)).std()), one))
    return max(found, key=lambda entry: entry[:2])[2]


def simplest(value: float, error: float) -> float:
    """Return the simplest number within an error of a value, a tenth of it at most; the value where there is none.

    Integers come first, then halves, thirds, tenths, quarters, hundredths and thousandths.
    """
    for parts in (1, 2, 3, 10, 4, 100, 1000):
        near = round(value * parts) / parts
        if near and abs(near - value) <= min(error, 0.1 * abs(value)):
            return near
    return value


def _named(kind: str, names: Sequence[str], weights: Sequence[float]) -> str:
    """The combination of coordinates as a formula."""
    rounded = [float(f"{one:.3g}") for one in weights]
    if kind == "power":
        return " ".join(one if w == 1 else f"{one}^{w:g}" for one, w in zip(names, rounded, strict=True))
    square = "^2" if kind == "square" else ""
    terms = [f"{w:g} {one}{square}".removeprefix("1 ") for one, w in zip(names, rounded, strict=True)]
    return " + ".join(terms).replace("+ -1 ", "- ").replace("+ -", "- ")
