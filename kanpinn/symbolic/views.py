"""Views of values: functions T of them over a factor, in which a law may be a sum of a few terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from kanpinn.symbolic.library import Array
from kanpinn.symbolic.terms import (
    Terms,
    differences,
    functions,
    logarithms,
    multiplied,
    power_text,
    products,
    single_inputs,
    units,
    waves,
)

ELIMINATED = 120
"""Terms of which all together are a start: the cheapest, and a third as many most like the target."""


@final
@dataclass(frozen=True)
class Kind:
    """A function T of the values over a factor, and how it is undone."""

    name: str
    price: float
    change: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    undone: str


KINDS = (
    Kind("y", 0.0, lambda y: y, np.ones_like, "({})"),
    Kind("1/y", 1.0, lambda y: 1 / y, lambda y: 1 / y**2, "1/({})"),
    Kind("y**2", 1.0, np.square, lambda y: 2 * np.abs(y), "sqrt({})"),
    Kind("1/y**2", 1.5, lambda y: y**-2.0, lambda y: 2 / np.abs(y) ** 3, "1/sqrt({})"),
    Kind("sqrt(y)", 1.0, np.sqrt, lambda y: 0.5 / np.sqrt(y), "({})**2"),
    Kind("sin(y)", 1.0, np.sin, np.cos, "asin({})"),
    Kind("cos(y)", 1.0, np.cos, lambda y: np.abs(np.sin(y)), "acos({})"),
    Kind("tan(y)", 1.0, np.tan, lambda y: 1 + np.tan(y) ** 2, "atan({})"),
    Kind("exp(y)", 1.0, np.exp, np.exp, "log({})"),
)


def possible(kind: Kind, y: Array) -> bool:
    """Tell whether values are such as this function undone has."""
    if kind.name in ("y**2", "1/y**2", "sqrt(y)"):
        return bool((y > 0).all()) or bool((y > -0.05 * y.std()).all())
    if kind.name in ("sin(y)", "tan(y)"):
        return bool(np.abs(y).max() < np.pi / 2)
    if kind.name == "cos(y)":
        return bool(y.min() > 0 and 0.5 < y.max() < np.pi)
    if kind.name == "exp(y)":
        return bool(0.1 < np.ptp(y) < 20 and np.abs(y).max() < 20)
    return True


SHARED = ("y", "y**2", "sin(y)", "cos(y)", "tan(y)", "exp(y)")
"""Functions T of the values that are sought as quotients of sums too: T = Σ c m + T Σ d m."""


@final
@dataclass(frozen=True)
class View:
    """Terms held against a function of the values: columns always there, the pool, the target, all weighted."""

    kind: Kind
    factor: str
    base: Array
    pool: Terms
    target: Array
    weights: Array


def likely(view: View) -> list[int]:
    """Numbers of the cheapest terms of a view, and of those most like the target, without constants of their own."""
    scale = view.weights / np.sqrt(np.mean(view.weights**2))
    columns = view.pool.values * scale
    like = np.abs(columns @ (view.target * scale)) / np.linalg.norm(columns, axis=1)
    fixed = np.array([text[0] != "#" and "." not in text for text in view.pool.texts])
    cheap = np.argsort(np.where(fixed, view.pool.costs, np.inf), kind="stable")[:ELIMINATED]
    best = np.argsort(np.where(fixed, -like + 1e-9 * view.pool.costs, np.inf), kind="stable")[: ELIMINATED // 3]
    return list(dict.fromkeys([*cheap.tolist(), *best.tolist()]))


class Views:
    """All views of values in which a law is sought.

    Attributes:
        tested: Terms of the effort last asked for.
        single: Functions of single inputs, and of sums and differences of two.
        few: Products, and products with such functions, of which denominators are made.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        size: float,
        names: tuple[str, ...],
        outer: Mapping[str, tuple[Callable[[Array], Array], float]],
    ) -> None:
        """Keep inputs `[N, d]`, values `[N]` over their size, names of the inputs and functions of terms."""
        self._x, self._y, self.size, self.names, self.outer = x, y, size, names, outer
        self._logarithmic = self._powers()
        self.single = functions(single_inputs(names, x) + differences(names, x), outer).usable()
        plain = products(names, x, 200)
        few = plain + self.single.cheapest(60) + multiplied(plain.cheapest(30), self.single, 500)
        self.few = few.usable()
        self.tested = Terms([], np.zeros(0), np.zeros((0, len(y))))

    def _powers(self) -> Array:
        """Powers of the inputs in the product of powers that comes closest to the values, `[d]`."""
        base = np.stack([np.ones(len(self._x)), *np.log(np.maximum(np.abs(self._x), 1e-300)).T])
        weights = np.abs(self._y)
        target = np.log(np.maximum(weights, 1e-300))
        return np.asarray(np.linalg.lstsq((base * weights).T, target * weights, rcond=None)[0][1:], dtype=float)

    def _factors(self) -> list[tuple[float, ...]]:
        """Products of powers that the law may have as a factor, as powers `[d]`; none first."""
        near = np.round(self._logarithmic)
        close = np.abs(self._logarithmic - near) < 0.2
        whole = tuple(float(p) if c else 0.0 for p, c in zip(near, close, strict=True))
        found = [tuple(0.0 for _ in whole), whole]
        used = [k for k, p in enumerate(whole) if p]
        found += [tuple(0.0 if k == one else p for k, p in enumerate(whole)) for one in used if len(used) > 1]
        found += [tuple(p if k == one else 0.0 for k, p in enumerate(whole)) for one in used if len(used) > 2]
        return list(dict.fromkeys(found))

    def of(self, effort: float) -> Iterator[View]:
        """Yield all views, with so great a share of all terms."""
        x, names = self._x, self.names
        plain = products(names, x, int(3000 * effort))
        apart = differences(names, x)
        outer = functions((plain.cheapest(int(120 * effort) + 10) + apart).usable(), self.outer)
        pool = plain + outer + multiplied(plain.cheapest(int(1000 * effort)), outer, int(20000 * effort))
        single = self.single
        pool = pool + multiplied(units(names, x, int(2500 * effort)), single, int(10000 * effort))
        if len(apart):
            squares = Terms([f"{t}**2" for t in apart.texts], apart.costs + 1, apart.values**2)
            pool = pool + apart + squares + multiplied(plain, apart + squares, int(5000 * effort))
        pool = (pool + waves(names, x)).usable()
        self.tested = pool
        yield from self._logarithms(plain, pool, outer, apart, single, effort)
        for factor in self._factors():
            for kind in KINDS:
                found = self._linear(kind, factor, pool)
                if found is not None:
                    yield found

    def shared(self, target: Array) -> Terms:
        """Return terms times the target itself, "#" before them: of the denominator of a quotient."""
        return Terms([f"#{text}" for text in self.few.texts], self.few.costs + 1.5, self.few.values * target)

    def plain(self, kind: Kind) -> View | None:
        """Return a function of the values alone, without terms; None where it has none."""
        none = Terms([], np.zeros(0), np.zeros((0, len(self._y))))
        return self._linear(kind, tuple(0.0 for _ in self.names), none)

    def _logarithms(
        self, plain: Terms, pool: Terms, outer: Terms, apart: Terms, single: Terms, effort: float
    ) -> Iterator[View]:
        """The logarithm of the values, with those of the inputs always there."""
        y = self._y
        if not (np.abs(y) > 0).all():
            return
        laurent = products(self.names, self._x, int(2500 * effort), whole=True)
        waved = [k for k, text in enumerate(outer.texts) if text.startswith(("sin", "cos"))]
        inner = laurent + apart + multiplied(plain.cheapest(60), outer.taken(waved).cheapest(40), int(400 * effort))
        whole = units(self.names, self._x, int(2500 * effort))
        special = multiplied(plain.cheapest(60), apart + single, int(400 * effort))
        atoms = logarithms((whole + inner).usable(), int(1500 * effort)) + logarithms(special.usable(), len(special))
        with np.errstate(all="ignore"):
            atoms = atoms + Terms([f"@{t}" for t in apart.texts], apart.costs, np.log(np.abs(apart.values)))
        both = (atoms + whole + pool.cheapest(int(8000 * effort))).usable()
        weights = np.abs(y)
        logs = [np.log(np.abs(column)) for column in self._x.T]
        kind = Kind("log(y)", 0.0, np.log, lambda v: 1 / v, "")
        base = np.stack([np.ones_like(y), *logs])
        yield View(kind, "", base, both, np.log(weights), weights)

    def _linear(self, kind: Kind, factor: tuple[float, ...], pool: Terms) -> View | None:
        """A function of the values over a factor."""
        with np.errstate(all="ignore"):
            over = np.prod(self._x ** np.array(factor), axis=1)
            y = self._y / over
            if not np.isfinite(y).all() or not possible(kind, y * (self.size if "(y)" in kind.name else 1)):
                return None
            y = y * self.size if kind.name in ("sin(y)", "cos(y)", "tan(y)", "exp(y)") else y
            target, weights = kind.change(np.abs(y) if "y**2" in kind.name or "sqrt" in kind.name else y), None
            weights = np.abs(over) / np.maximum(kind.slope(np.abs(y) if "sqrt" in kind.name else y), 1e-3)
        if not np.isfinite(target * weights).all():
            return None
        if kind.name in SHARED:
            pool = pool + self.shared(target)
        text = "*".join(power_text(n, p) for n, p in zip(self.names, factor, strict=True) if p)
        one = Terms(["1"], np.zeros(1), np.ones((1, len(y))))
        return View(kind, text, np.zeros((0, len(y))), one + pool, target, weights)
