"""Laws of tables: a closed form of several inputs looked for in rows of values, noisy or not.

The values, or a simple function T of them over a factor A, are sought as sums of a few terms out of many thousands,

    T(y / A) = Σ_k c_k F_k    for T(y) = y, y², 1/y, 1/y², log y, sin y, cos y, tan y, exp y,

and for T = log with powers of every input beside them, so that whole products of powers, of 1 ± k m and of functions of
products m are found as sums of logarithms. Singles, all pairs, triples of the likeliest, then further terms are
compared, and sums of two or three products whose exponents are fitted (`signomials`), by what they leave and what they
cost (Schwarz 1978, doi:10.1214/aos/1176344136: half the logarithm of the rows for a constant; so much for
a part as choosing it among some twenty takes). The best of every kind are refined in all constants by
Levenberg–Marquardt, in the values themselves, and compared again by what each row is missed by when the constants are
fitted to the others (Allen 1974, doi:10.1080/00401706.1974.10489157).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, final

import numpy as np

from kanpinn.errors import needed
from kanpinn.symbolic.constants import FINEST, Fit, fitted_constants, refined
from kanpinn.symbolic.library import Array, values_of
from kanpinn.symbolic.pursuit import PRICE, eliminated, pursued
from kanpinn.symbolic.signomials import signomials
from kanpinn.symbolic.terms import (
    decimal,
    nearest_half,
    outer_functions,
    power_of,
    power_text,
)
from kanpinn.symbolic.views import KINDS, View, Views, likely

SCREENED = 400
"""Rows at which terms are compared."""

REFINED = 12
"""Sums of a kind that are refined in all constants."""

EFFORTS = (0.25, 1.0)
"""Shares of all terms that are tried, one after the other."""

WITHIN = 100
"""Functions of single inputs and of differences that are tried as a factor of a product of fitted powers."""

LONGEST = 24
"""Most terms of a law."""

CLEAR = 0.05
"""Relative size of what a law may miss for the search to end with a part of the terms."""

CLOSE, LOOSE = 1.05, 10.0
"""How much more than the best law, price included, a sum may miss to be refined, without and with constants within."""

SHORTENED, LESS = 2, 0.1
"""Best laws that are tried with a term less, and the share of what they miss below which such a law is better."""

ROUNDING = 1e-12
"""Relative size of what is left below which nothing is."""


@final
@dataclass(frozen=True)
class Law:
    """A closed form of the inputs.

    Attributes:
        expression: SymPy's expression, its floats as they were fitted.
        residual: Root mean square of what it misses, relative to the values'.
        left_out: The same of what each row is missed by when the constants are fitted to the others.
        score: What it misses and what it costs, in nats; the smaller the better.
    """

    expression: Any
    residual: float
    left_out: float
    score: float


class LawSearch:
    """Search for the law of a table.

    Attributes:
        laws: Those found, refined, the best first.
    """

    def __init__(
        self,
        points: Array,
        values: Array,
        names: Sequence[str],
        seconds: float = 60.0,
        forms: Sequence[str] = (),
    ) -> None:
        """Keep rows of inputs `[N, d]` and values `[N]`, the processor time it may take, and functions to add."""
        self.sympy = needed("sympy", "a closed form", "formulas")
        self._sign = -1 if (values < 0).all() else 1
        self.points, self.values, self.names = points, self._sign * values, tuple(names)
        self.size = float(np.sqrt(np.mean(values**2)))
        self.end = time.process_time() + seconds
        self.laws: list[Law] = []
        self._seen: set[str] = set()
        rows = np.random.default_rng(0).permutation(len(values))[:SCREENED]
        self._rows = rows
        self._x, self._y = points[rows], self.values[rows] / (self.size or 1.0)
        self._views = Views(self._x, self._y, self.size, self.names, outer_functions(forms))

    def find(self) -> list[Law]:
        """Return laws, the best first, until the time is over or one leaves nothing."""
        if not self.size:
            self.laws.append(Law(self.sympy.Integer(0), 0.0, 0.0, 0.0))
        for effort in EFFORTS if self.size else ():
            for view in self._views.of(effort):
                self._try(view)
                if self.laws and (self.laws[0].residual < ROUNDING or time.process_time() > self.end):
                    return self.laws
            self.shorten()
            if effort == EFFORTS[0] and not (self.laws and self.laws[0].residual < ROUNDING):
                self._try_signomials()
                self.shorten()
            if self.complete() and self.laws[0].residual < CLEAR:
                break
        return self.laws

    def add(self, expression: Any) -> None:
        """Let a law found elsewhere compete, refined; its price is that of its operations."""
        self._refine(str(self._sign * expression), float(self.sympy.count_ops(expression)))

    def shorten(self) -> None:
        """Take terms and factors away from the best laws, as long as the rest, refined anew, is the better law.

        Terms that are nearly alike, such as sines of almost one frequency, end up sharing what one of them says alone;
        then the rest misses less by far. Others say no more than the noise of a row or two: without one, a law costs
        less by a part and a constant.
        """
        cheaper = PRICE + 0.5 * np.log(len(self.values))
        before: list[Law] = []
        while self.laws[:SHORTENED] != before:
            before = self.laws[:SHORTENED]
            for law, less in [(one, less) for one in before for less in self._shorter(one.expression)]:
                if self.laws[0].residual < ROUNDING or time.process_time() > self.end:
                    return
                found = fitted_constants(less, self.names, self.points, self.values) if self._fresh(less) else None
                if found is None:
                    continue
                gain = len(self.values) * np.log(max(found[2], ROUNDING) / max(law.left_out, ROUNDING))
                if found[1] < LESS * law.residual:
                    self.add(self._sign * found[0])
                elif gain < cheaper:
                    self.laws.append(Law(found[0], found[1], found[2], float(law.score + gain - cheaper)))
                    self.laws.sort(key=lambda law: law.score)

    def _fresh(self, expression: Any) -> bool:
        """Tell whether an expression of the inputs is met for the first time, whatever its constants."""
        shape = str(expression.xreplace(dict.fromkeys(expression.atoms(self.sympy.Float), self.sympy.Symbol("c_"))))
        fresh = shape not in self._seen and bool(expression.free_symbols)
        self._seen.add(shape)
        return fresh

    def _shorter(self, expression: Any) -> Iterator[Any]:
        """An expression without one of its terms or, where it has a constant, one of its factors, each once."""
        for whole in expression.atoms(self.sympy.Add, self.sympy.Mul):
            for part in whole.args:
                if part.free_symbols and (whole.is_Add or part.has(self.sympy.Float)):
                    yield expression.xreplace({whole: whole.func(*(one for one in whole.args if one is not part))})

    def complete(self) -> bool:
        """Tell whether the best law says all that the rows do: no term is like what it misses beyond chance."""
        return bool(self.laws) and (self.laws[0].residual < ROUNDING or self._nothing_left(self.laws[0]))

    def exact(self) -> Fit | None:
        """Return the best law with exact numbers for constants where they are as good; None without a law."""
        if not self.laws:
            return None
        best = self.laws[0]
        fit = refined(best.expression, self.names, self.points, self.values, max(best.residual, FINEST), random=True)
        return None if fit is None else replace(fit, expression=self._sign * fit.expression)

    def _nothing_left(self, law: Law) -> bool:
        """Tell whether no term of the pool is like what a law misses, more than chance makes one of so many."""
        rest = self._y - values_of(law.expression, self.names, self._x) / self.size
        with np.errstate(all="ignore"):
            columns = self._views.tested.values - self._views.tested.values.mean(1, keepdims=True)
            like = np.abs(columns @ rest) / np.linalg.norm(columns, axis=1) / max(np.linalg.norm(rest), 1e-300)
        return bool(np.nanmax(like) * np.sqrt(len(rest)) < np.sqrt(2 * np.log(len(columns))) + 1)

    # Sums of terms

    def _try(self, view: View) -> None:
        """Refine the best sums of a view, as long as they may be better than the best law."""
        once = np.array([float(text[0] == "#") for text in view.pool.texts])
        found = pursued(view.base, view.pool, view.target, view.weights, view.kind.price, once)
        found = [(-np.inf, ()), *found] if len(view.base) else found
        if not len(view.base):
            plain = likely(view)
            some = eliminated(view.pool.taken(plain), view.target, view.weights, view.kind.price)
            found = found if some is None else [(some[0], tuple(plain[k] for k in some[1])), *found]
        unit = 0.5 * np.log(np.mean(view.weights**2))  # from the size of weighted differences to that of the values
        count = 0
        for score, numbers in found:
            cost = view.kind.price + float(sum(view.pool.costs[list(numbers)]))
            score = len(self.values) * ((score - PRICE * cost) / len(self._y) + unit) + PRICE * cost
            loose = any("." in view.pool.texts[k] for k in numbers)
            if len(view.base) + len(numbers) > LONGEST:
                continue
            if self.laws and score > self.laws[0].score + len(self.values) * np.log(LOOSE if loose else CLOSE):
                continue
            text = self._text(view, numbers)
            if text is None or text in self._seen:
                continue
            self._seen.add(text)
            self._refine(text, cost)
            count += 1
            if count == REFINED or time.process_time() > self.end:
                break

    def _try_signomials(self) -> None:
        """Refine sums of two and three products of fitted powers, and quotients of such, by their values or squares."""
        single = self._views.single.cheapest(WITHIN)
        for (count, quotient), kind in product(((2, False), (3, False), (3, True)), KINDS[:4]):
            view = self._views.plain(kind)
            if view is None:
                continue
            within = self._views.shared(view.target) if quotient else single
            sums = signomials(self.names, self._x, view.target, view.weights, within, count)
            for missed, terms in sums[:REFINED]:
                over = time.process_time() > self.end or (self.laws and self.laws[0].residual < ROUNDING)
                if over or (self.laws and missed > LOOSE * max(self.laws[0].residual, ROUNDING)):
                    break
                text = self._text(View(kind, "", view.base, terms, view.target, view.weights), range(count))
                if text is not None and text not in self._seen:
                    self._seen.add(text)
                    self._refine(text, kind.price + float(terms.costs.sum()) + count - 1)

    def _text(self, view: View, numbers: Sequence[int]) -> str | None:
        """The law that a sum says, as text."""
        columns = np.concatenate([view.base, view.pool.values[list(numbers)]])
        scale = view.weights / np.sqrt(np.mean(view.weights**2))
        with np.errstate(all="ignore"):
            columns, wanted = columns * scale, view.target * scale
        known = np.isfinite(columns).all() and np.isfinite(wanted).all()  # values such as 1e9 + x leave no digits
        found = np.linalg.lstsq(columns.T, wanted, rcond=None)[0] if known else np.array([np.nan])
        if not np.isfinite(found).all():
            return None
        texts = [view.pool.texts[k] for k in numbers]
        if view.kind.name == "log(y)":
            return self._product(found, texts)
        size = 1.0 if view.kind.name in ("sin(y)", "cos(y)", "tan(y)", "exp(y)") else self.size
        factor = float(view.kind.change(np.array([size]))[0]) if size != 1.0 else 1.0
        above = [f"{decimal(c * factor)}*{t}" for c, t in zip(found, texts, strict=True) if t[0] != "#"]
        below = [f"{decimal(c)}*{t[1:]}" for c, t in zip(found, texts, strict=True) if t[0] == "#"]
        if not above:
            return None
        total = " + ".join(above)
        total = view.kind.undone.format(f"({total})/(1 - ({' + '.join(below)}))" if below else total)
        return f"{view.factor}*{total}" if view.factor else total

    def _product(self, found: Array, texts: list[str]) -> str:
        """The law that a sum of logarithms says."""
        parts, inside = [], []
        sign = self._y
        for name, power in zip(self.names, found[1 : len(self.names) + 1], strict=True):
            rounded = nearest_half(power)
            if rounded:
                parts.append(power_text(name, rounded))
        atoms = len(self.names) + 1
        for text, power in zip(texts, found[atoms:], strict=True):
            if text[0] == "@":
                parts.append(f"{text[1:]}**({power_of(nearest_half(power) or power)})")
            else:
                inside.append(f"{decimal(power)}*{text}")
        whole = "*".join([*parts, *([f"exp({' + '.join(inside)})"] if inside else [])]) or "1"
        shape = values_of(self._expression(whole), self.names, self._x)
        good = np.isfinite(shape)
        c = float((shape[good] @ sign[good]) / max(shape[good] @ shape[good], 1e-300)) * self.size
        return f"{decimal(c)}*{whole}"

    def _expression(self, text: str) -> Any:
        return self.sympy.sympify(text, {name: self.sympy.Symbol(name, real=True) for name in self.names})

    def _refine(self, text: str, cost: float) -> None:
        expression = self._expression(text)
        if expression.has(self.sympy.zoo, self.sympy.nan, self.sympy.I):
            return
        found = fitted_constants(expression, self.names, self.points, self.values)
        if found is None:
            return
        refined, residual, left_out, constants = found
        rows = len(self.values)
        score = rows * np.log(max(left_out, ROUNDING)) + PRICE * cost + 0.5 * np.log(rows) * constants
        self.laws.append(Law(refined, residual, left_out, float(score)))
        self.laws.sort(key=lambda law: law.score)
