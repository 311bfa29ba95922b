"""Ways to divide a function by one of its properties: sums, products, generalised sums, nested functions.

Each test appends what it has measured to the findings of an `Asked` function and returns the parts, if there are any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from kanpinn.explain.structure import Array, Field, Finding, change_along, corners, gradients

VALUES = 4.0
"""Differences of values count from so many times the function's error."""

SLOPES = 16.0
"""Angles between gradients count from so many times the function's error, relative to its change by each coordinate."""

COUNT = 1000
"""Places at which properties are tested."""

SLICES = 16
"""Random values of the other coordinates among which those are taken that show most of a part."""

MOST = 6
"""Most coordinates for which all ways to divide them are tried; of more, those that take out one, or two together."""


@final
@dataclass(frozen=True)
class Split:
    """A function divided.

    Attributes:
        kind: "sum", "product", "combination", "general" or "nested".
        text: What it is, in words.
        parts: The parts, as functions; of a nested function the inner one first.
    """

    kind: str
    text: str
    parts: list[Field]


@final
@dataclass
class Asked:
    """A function that is asked for its properties.

    Attributes:
        whole: The function.
        error: Its error, in its own units.
        tests: Properties tested so far.
    """

    whole: Field
    error: float
    tests: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Measure the function and its changes by each coordinate."""
        self.values = self.whole.value(self.whole.points(COUNT, 0))
        self.spread = float(self.values.std())
        self.changes = {name: rms(change_along(self.whole, name, COUNT)) / np.sqrt(2) for name in self.whole.names}

    def holds(self, text: str, measured: float, tolerance: float) -> bool:
        """Keep a finding; return True if the property holds."""
        self.tests.append(Finding(text, measured, tolerance))
        return self.tests[-1].holds

    def slopes_tolerance(self, *names: str) -> float:
        """Tolerance of the direction of a gradient by some coordinates."""
        return SLOPES * self.error / min(self.changes[name] for name in names)


def rms(values: Array) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def slice_of(whole: Field, names: Sequence[str]) -> Field:
    """Return the function of some coordinates, the others where it varies most."""
    slices = (whole.at(names, fixed) for fixed in whole.points(SLICES, 6))
    return max(slices, key=lambda one: one.value(one.points(COUNT // 5, 0)).std())


def inner_points(whole: Field, count: int, seed: int) -> Array:
    """Return places away from the faces, where derivatives are best known."""
    width = whole.upper - whole.lower
    return whole.lower + 0.04 * width + 0.92 * (whole.points(count, seed) - whole.lower)


def _slices(whole: Field, blocks: Sequence[Sequence[str]]) -> list[Field]:
    return [slice_of(whole, block) for block in blocks]


def blocks_of(names: Sequence[str], joined: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Divide names into the finest groups that keep pairs together."""
    group = {name: {name} for name in names}
    for one, other in joined:
        both = group[one] | group[other]
        group.update(dict.fromkeys(both, both))
    found: list[list[str]] = []
    for name in names:
        if all(name not in block for block in found):
            found.append([one for one in names if one in group[name]])
    return found


def _listed(blocks: Sequence[Sequence[str]]) -> str:
    return "; ".join(", ".join(block) for block in blocks)


def split_sum(asked: Asked) -> Split | None:
    """Σ of functions of blocks of coordinates: the Hessian's mixed entries between blocks vanish."""
    whole, joined = asked.whole, []
    for one, other in itertools.combinations(whole.names, 2):
        a, b, c, d = corners(whole, (one,), (other,), COUNT)
        measured = rms(a - b - c + d) / (2 * asked.spread)
        if not asked.holds(f"{one} and {other} add up", measured, VALUES * asked.error / asked.spread):
            joined.append((one, other))
    blocks = blocks_of(whole.names, joined)
    if len(blocks) == 1:
        return None
    return Split("sum", f"sum of functions of {_listed(blocks)}", _slices(whole, blocks))


def split_product(asked: Asked) -> Split | None:
    """Π of functions of blocks of coordinates, the same of log |f|; or that and a constant κ.

    With κ, a d − b c of the corners of rectangles is κ (a + d − b − c), which gives κ.
    """
    whole = asked.whole
    pairs = list(itertools.combinations(whole.names, 2))
    known = [corners(whole, (one,), (other,), COUNT) for one, other in pairs]
    shifts = [float((a * d - b * c) @ (a + d - b - c) / np.sum((a + d - b - c) ** 2)) for a, b, c, d in known]
    for shift in (0.0, float(np.median(shifts))):
        joined, words = [], " beside a constant" if shift else ""
        own = rms(asked.values - shift)
        for (one, other), (a, b, c, d) in zip(pairs, known, strict=True):
            measured = rms((a - shift) * (d - shift) - (b - shift) * (c - shift)) / (2 * own**2)
            if not asked.holds(f"{one} and {other} multiply{words}", measured, VALUES * asked.error / own):
                joined.append((one, other))
        blocks = blocks_of(whole.names, joined)
        if len(blocks) > 1:
            text = f"product of functions of {_listed(blocks)}{words}"
            return Split("product", text, _slices(whole, blocks))
    return None


def _halves(names: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """All ways to divide names in two; for many, only those that take one out."""
    largest = len(names) // 2 if len(names) <= MOST else 1
    for count in range(1, largest + 1):
        for one in itertools.combinations(names, count):
            rest = [name for name in names if name not in one]
            if 2 * count < len(names) or names[0] in one:
                yield list(one), rest


def _directions(whole: Field, one: Sequence[str], two: Sequence[str]) -> tuple[Array, Array, Array, Array]:
    """Directions of the gradient `[COUNT, d]` at the corners of rectangles in y and z; small ones stay small."""
    first, second = inner_points(whole, COUNT // 2, 4), inner_points(whole, COUNT // 2, 5)
    own, other = np.isin(whole.names, list(one)), np.isin(whole.names, list(two))
    at = [np.where(own * a | other * b, second, first) for a, b in ((0, 0), (0, 1), (1, 1), (1, 0))]
    slopes = np.stack([gradients(whole, points) for points in at])
    slopes /= np.sqrt(np.mean(slopes**2, axis=(0, 1)))
    return slopes[0], slopes[1], slopes[2], slopes[3]


def _unit(i: int, j: int, *slopes: Array) -> list[tuple[Array, Array]]:
    """The derivatives by two coordinates as a direction, those of small gradients shortened."""
    found = []
    for one in slopes:
        length = np.hypot(one[:, i], one[:, j])
        length = np.hypot(length, 0.3 * np.median(length))
        found.append((one[:, i] / length, one[:, j] / length))
    return found


def _unequal(one: Array, other: Array) -> float:
    return rms(one - other) / max(rms(np.abs(one) + np.abs(other)), 1e-300)


def split_general(asked: Asked) -> Split | None:
    """F(g(y) + h(z)): ∂_i f/∂_j f is a function of y times one of z."""
    whole, kept = asked.whole, []
    for one, rest in _halves(whole.names):
        slopes, measured = _directions(whole, one, rest), 0.0
        for i, j in itertools.product(map(whole.names.index, one), map(whole.names.index, rest)):
            (a, b), (c, d), (e, f), (g, h) = _unit(i, j, *slopes)
            measured = max(measured, _unequal(a * d * e * h, b * c * f * g))
        text = f"F(g({', '.join(one)}) + h({', '.join(rest)}))"
        if asked.holds(text, measured, asked.slopes_tolerance(*whole.names)):
            kept.append(set(one))
    if not kept:
        return None
    pairs = itertools.combinations(whole.names, 2)
    together = [(a, b) for a, b in pairs if all((a in half) == (b in half) for half in kept)]
    blocks = blocks_of(whole.names, together)
    return Split("general", f"a function of a sum of functions of {_listed(blocks)}", _slices(whole, blocks))


def inner_name(names: Sequence[str]) -> str:
    """Return the name of the inner function of some coordinates."""
    return f"h({', '.join(names)})"


def split_nested(asked: Asked) -> Split | None:
    """g(h(y), z): the direction of the gradient by y does not depend on z."""
    whole, names = asked.whole, asked.whole.names
    for count in range(2, len(names) if len(names) <= MOST else 3):
        found: list[tuple[float, list[str]]] = []
        for inner in itertools.combinations(names, count):
            rest = [name for name in names if name not in inner]
            slopes, measured = _directions(whole, (), rest), 0.0
            for i, j in itertools.combinations(map(names.index, inner), 2):
                (a, b), (c, d) = _unit(i, j, slopes[0], slopes[1])
                measured = max(measured, _unequal(a * d, b * c))
            text = f"g({inner_name(inner)}, {', '.join(rest)})"
            if asked.holds(text, measured, asked.slopes_tolerance(*inner)):
                found.append((measured, list(inner)))
        if found:
            _, block = min(found)
            rest = [name for name in names if name not in block]
            outer = replace(slice_of(whole, [block[0], *rest]), names=(inner_name(block), *rest))
            text = f"function of {inner_name(block)} and {', '.join(rest)}"
            return Split("nested", text, [slice_of(whole, block), outer])
    return None
