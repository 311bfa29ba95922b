"""Terms of laws: products of powers of the inputs, functions of such products, and sums with 1, by the thousand.

A term is a text and its values at the rows of a table, with a price that grows with its parts. Numbers written as
decimals are constants to be refined; whole numbers and fractions stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from kanpinn.symbolic.library import Array, further

POWERS = {1: 1.0, -1: 1.2, 2: 1.5, -2: 1.7, 3: 2.2, -3: 2.4, 0.5: 1.5, -0.5: 1.7, 4: 2.6, -4: 2.8}
"""Powers of an input with their prices."""

FACTORS = {1: 0.0, 2: 1.0, 0.5: 1.0}
"""Factors of an argument that are tried first, with their prices."""


@final
@dataclass(frozen=True)
class Terms:
    """Terms with their values.

    Attributes:
        texts: Formulas of the inputs.
        costs: Their prices `[n]`.
        values: Their values `[n, N]`.
    """

    texts: list[str]
    costs: Array
    values: Array

    def __len__(self) -> int:
        return len(self.texts)

    def usable(self) -> Terms:
        """Return those whose values are finite and not all the same, each once."""
        with np.errstate(all="ignore"):
            norms = np.linalg.norm(self.values, axis=1)
            mean = self.values.mean(1)
            spread = norms**2 / self.values.shape[1] - mean**2
            good = np.isfinite(norms) & (spread > 1e-14 * mean**2) & (norms < 1e12)
        order = np.flatnonzero(good)[np.argsort(self.costs[good], kind="stable")]
        with np.errstate(all="ignore"):
            scaled = self.values[order, :6] / norms[order, None]
        seen: dict[bytes, int] = {}
        for k, row in zip(order, np.round(scaled * np.sign(scaled[:, :1]), 9) + 0.0, strict=True):
            seen.setdefault(row.tobytes(), int(k))
        return self.taken(np.fromiter(seen.values(), dtype=int, count=len(seen)))

    def taken(self, numbers: Sequence[int] | np.ndarray) -> Terms:
        """Return some of them."""
        rows = np.asarray(numbers, dtype=int)
        return Terms([self.texts[k] for k in rows], self.costs[rows], self.values[rows])

    def cheapest(self, count: int) -> Terms:
        """Return so many at most, the cheapest first."""
        return self.taken(np.argsort(self.costs, kind="stable")[:count])

    def __add__(self, other: Terms) -> Terms:
        values = np.concatenate([self.values, other.values])
        return Terms(self.texts + other.texts, np.concatenate([self.costs, other.costs]), values)


def exponents(count: int, signs: Sequence[bool], limit: float) -> Iterator[tuple[tuple[float, ...], float]]:
    """Yield powers of the inputs, one each, with their price up to a limit; all 0 not among them.

    `signs` tells which inputs have one sign only: others have no roots, and no negative powers.
    """

    def grow(k: int, known: tuple[float, ...], cost: float) -> Iterator[tuple[tuple[float, ...], float]]:
        if k == count:
            if any(known):
                yield known, cost
            return
        yield from grow(k + 1, (*known, 0), cost)
        for power, price in POWERS.items():
            if cost + price <= limit and (signs[k] or (power > 0 and power == int(power))):
                yield from grow(k + 1, (*known, power), cost + price)

    yield from grow(0, (), 0.0)


def power_text(name: str, power: float) -> str:
    """Return a power as text, such as "x**(-1/2)"."""
    if power == 1:
        return name
    return f"{name}**({int(2 * power)}/2)" if power != int(power) else f"{name}**({int(power)})"


def products(names: Sequence[str], points: Array, most: int, *, whole: bool = False) -> Terms:
    """Return the cheapest products of powers of inputs `[N, d]`, so many at most.

    With `whole` there are no roots, but negative powers of inputs of both signs too.
    """
    one_sign = [whole or bool((column > 0).all() or (column < 0).all()) for column in points.T]
    positive = [bool((column > 0).all()) for column in points.T]
    limit, found = 1.5, list(exponents(len(names), one_sign, 1.5))
    while limit < 9:
        more = list(exponents(len(names), one_sign, limit + 0.5))
        if len(more) > 3 * most:
            break
        limit, found = limit + 0.5, more
    table = np.array([powers for powers, _ in found])
    roots = table != np.round(table)
    kept = ~(roots & ~np.array(positive)).any(1) & (~roots.any(1) if whole else True)
    costs = np.array([cost for _, cost in found])[kept]
    order = np.argsort(costs, kind="stable")[:most]
    table, costs = table[kept][order], costs[order]
    with np.errstate(all="ignore"):
        sizes = np.exp(table @ np.log(np.abs(points)).T)
    odd = (np.abs(table) % 2 == 1).astype(float)
    signs = 1.0 - 2.0 * ((odd @ (points < 0).T.astype(float)) % 2)
    texts = ["*".join(power_text(n, p) for n, p in zip(names, row, strict=True) if p) for row in table]
    return Terms(texts, costs, sizes * signs)


def units(names: Sequence[str], points: Array, most: int) -> Terms:
    """Return products and quotients of inputs `[N, d]`, none to a power, so many at most; of few inputs first."""
    rows = itertools.product((0, 1, -1), repeat=min(len(names), 8))
    table = np.array([row + (0,) * (len(names) - len(row)) for row in rows if any(row)], dtype=float)
    costs = 0.8 * np.abs(table).sum(1)
    order = np.argsort(costs, kind="stable")[:most]
    with np.errstate(all="ignore"):
        values = np.array([np.prod(points**row, axis=1) for row in table[order]])
    texts = ["*".join(power_text(n, p) for n, p in zip(names, row, strict=True) if p) for row in table[order]]
    return Terms(texts, costs[order], values)


def single_inputs(names: Sequence[str], points: Array) -> Terms:
    """Return the inputs themselves."""
    return Terms(list(names), np.ones(len(names)), points.T)


def differences(names: Sequence[str], points: Array) -> Terms:
    """Return sums and differences of two inputs."""
    texts, values = [], []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            texts += [f"({names[i]} - {names[j]})", f"({names[i]} + {names[j]})"]
            values += [points[:, i] - points[:, j], points[:, i] + points[:, j]]
    return Terms(texts, np.full(len(texts), 1.5), np.array(values).reshape(len(texts), len(points)))


OUTER = {"sin": (np.sin, 1.5), "cos": (np.cos, 1.5), "exp": (np.exp, 1.5), "tanh": (np.tanh, 2.5), "log": (np.log, 2.0)}
"""Functions of a product, with their prices."""


def outer_functions(forms: Sequence[str] = ()) -> dict[str, tuple[Callable[[Array], Array], float]]:
    """Return functions with their prices by their texts with "{}" for the argument, the user's of x among them."""
    own = {form.of_text("{}"): (form.value, 2.0) for form in further(forms)}
    return {f"{name}({{}})": known for name, known in OUTER.items()} | own


def functions(inner: Terms, outer: Mapping[str, tuple[Callable[[Array], Array], float]]) -> Terms:
    """Return functions of terms times small factors."""
    texts, costs, values = [], [], []
    for name, (function, price) in outer.items():
        for factor, more in FACTORS.items() if not name.startswith("log") else [(1, 0.0)]:
            for sign in (1, -1) if name.startswith("exp") else (1,):
                scale = {1: "", 2: "2*", 0.5: "1/2*"}[factor]
                texts += [name.format(f"{'-' if sign < 0 else ''}{scale}{text}") for text in inner.texts]
                costs.append(inner.costs + price + more)
                with np.errstate(all="ignore"):
                    values.append(function(sign * factor * inner.values))
    return Terms(texts, np.concatenate(costs), np.concatenate(values))


def waves(names: Sequence[str], points: Array) -> Terms:
    """Return sines, cosines and exponentials of single inputs with constants of many sizes, to be refined."""
    texts, values = [], []
    for name, x in zip(names, points.T, strict=True):
        half = (x.max() - x.min()) / 2 or 1.0
        for size in np.arange(0.6, 20.0, 0.4):
            a = float(f"{size / half:.6g}")
            texts += [f"sin({a!r}*{name})", f"cos({a!r}*{name})"]
            values += [np.sin(a * x), np.cos(a * x)]
        for size in np.geomspace(0.3, 6.0, 8):
            for a in (float(f"{size / half:.6g}"), -float(f"{size / half:.6g}")):
                texts.append(f"exp({a!r}*{name})")
                with np.errstate(all="ignore"):
                    values.append(np.exp(a * x))
    return Terms(texts, np.full(len(texts), 5.0), np.array(values))


def multiplied(left: Terms, right: Terms, most: int) -> Terms:
    """Return the cheapest products of terms of two kinds, so many at most."""
    costs = left.costs[:, None] + right.costs[None]
    cheapest = np.argsort(costs, axis=None, kind="stable")[:most]
    i, j = np.unravel_index(cheapest, costs.shape)
    texts = [f"{left.texts[a]}*{right.texts[b]}" for a, b in zip(i, j, strict=True)]
    with np.errstate(all="ignore"):
        return Terms(texts, costs[i, j], left.values[i] * right.values[j])


def logarithms(inner: Terms, most: int) -> Terms:
    """Return what a law may hold as a factor to some power: 1 + k m and functions of terms m; values are logarithms."""
    inner = inner.cheapest(most)
    texts, costs, values = [], [], []
    with np.errstate(all="ignore"):
        for factor, more in FACTORS.items():
            scale = {1: "", 2: "2*", 0.5: "1/2*"}[factor]
            for sign in "+-":
                texts += [f"(1 {sign} {scale}{text})" for text in inner.texts]
                costs.append(inner.costs + 1.0 + more)
                values.append(np.log(np.abs(1 + (1 if sign == "+" else -1) * factor * inner.values)))
            for text, function, price in (
                ("(exp({}) - 1)", np.expm1, 2.5),
                ("(exp({}) + 1)", lambda m: np.exp(m) + 1, 2.5),
                ("cosh({})", np.cosh, 2.0),
                ("tanh({})", np.tanh, 2.0),
                ("sin({})", np.sin, 1.5),
                ("cos({})", np.cos, 1.5),
            ):
                texts += [text.format(scale + one) for one in inner.texts]
                costs.append(inner.costs + price + more)
                values.append(np.log(np.abs(function(factor * inner.values))))
        texts += [f"log({one})" for one in inner.texts]
        costs.append(inner.costs + 1.5)
        values.append(np.log(np.abs(np.log(inner.values))))
    return Terms([f"@{text}" for text in texts], np.concatenate(costs), np.concatenate(values))


def nearest_half(power: float) -> float:
    """Return the nearest multiple of ½."""
    return round(2 * power) / 2


def power_of(power: float) -> str:
    """Return a power as text, halves as fractions."""
    return f"{int(2 * power)}/2" if 2 * power == int(2 * power) else decimal(power)


def decimal(value: float) -> str:
    """Return a constant as text that SymPy takes for a float."""
    text = f"{value:.12g}"
    return text if any(mark in text for mark in ".en") else f"{text}.0"
