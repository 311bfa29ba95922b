"""Constants of a closed form: refined together, in the whole expression, then replaced by exact numbers where they fit.

A constant is held against p/q times 1, π, π², 1/π, √2, √3 and e with small p and q. The simplest such number within a
few of its standard deviations (from JᵀJ and what is left) takes its place, if with all others refined again the whole
expression misses no more than before. Judging each constant in the whole is what choosing edge by edge cannot do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.optimize import least_squares

from kanpinn.errors import needed
from kanpinn.symbolic.exact_numbers import exact_numbers
from kanpinn.symbolic.library import Array
from kanpinn.symbolic.merging import merged
from kanpinn.symbolic.patience import within

DEVIATIONS = 6.0
"""Standard deviations of a constant within which exact numbers are tried."""

MISSED = 30.0
"""The same as a multiple of what is left: that is not as random as the deviations take it."""

WIDEST = 1e-3
"""Largest relative change of a constant to an exact number."""

WORSE = 3.0
"""Factor by which an exact number may raise what is left, above the tolerance only."""

CHANCE = 0.1
"""Exact numbers as simple as one that would be as near by chance, at most."""

FITS = 10.0
"""Multiple of the tolerance up to which an expression fits; the constants of one that does not stay as they are."""

ALIKE = 1e-3
"""Largest relative difference of constants that are taken for one."""

DEGENERATE = 1e-10
"""Singular values of the Jacobian, relative to the largest, below which constants undo each other."""

FINEST = 1e-11
"""Relative rounding of constants and values that is never told from 0."""

TRIED = 4
"""Exact numbers that are tried for a constant."""


@final
@dataclass(frozen=True)
class Fit:
    """A closed form with constants refined.

    Attributes:
        expression: SymPy's expression.
        residual: Root mean square of what it misses, relative to the values'.
        free: Constants that are no exact numbers, with their standard deviations.
    """

    expression: Any
    residual: float
    free: dict[str, tuple[float, float]]


def refined(
    expression: Any,
    names: tuple[str, ...],
    points: Array,
    values: Array,
    tolerance: float,
    *,
    rounded: bool = True,
    random: bool = False,
) -> Fit | None:
    """Refine an expression's constants and make exact numbers of those that are.

    Args:
        expression: SymPy's expression; its floats are the constants.
        names: Names of the coordinates.
        points: Points `[N, d]`.
        values: Values there `[N]`.
        tolerance: Relative root mean square up to which nothing is missed.
        rounded: False to leave all constants as they are fitted, and all terms.
        random: True where what is missed is random from point to point: an exact number must then be within a few
            standard deviations, and may raise χ² by the square of `DEVIATIONS` halved.

    Returns:
        The fit; None where the expression has no finite values.
    """
    sympy = needed("sympy", "a closed form", "formulas")
    model, theta, rms = Model(expression, (names, points, values)).solved()
    if not rms < 1e5:
        return None
    rounded = rounded and rms <= FITS * tolerance
    limit = _limit(rms, tolerance, len(values) if random else 0)
    if rounded and not random:
        like = Model(merged(expression, min(1e3 * tolerance, ALIKE)), (names, points, values)).solved()
        if like[2] <= limit:
            model, theta, rms = like
    if rounded:
        model, theta, rms = _without_small((model, theta, rms), tolerance, limit if random else 0.0)
    limit = max(limit, _limit(rms, tolerance, len(values) if random else 0))
    for symbol in _order(model, theta) if rounded else ():
        for number in _numbers(model, theta, symbol, random=random) if symbol in model.symbols else ():
            trial, moved, left = model.with_exact({symbol: number}).solved()
            if left <= limit:
                model, theta = trial.with_values(moved), moved
                break
    out = model.expression
    for symbol, value in zip(model.symbols, theta, strict=True):
        out = out.subs(symbol, sympy.Float(float(value)))
    whole = within(lambda: sympy.powsimp(out), out)
    return Fit(whole, _rms(model.residual(theta)), shown_constants(whole, names, points, values))


def shown_constants(
    expression: Any, names: tuple[str, ...], points: Array, values: Array
) -> dict[str, tuple[float, float]]:
    """Return the constants that stand in an expression with their standard deviations, for `Fit.free`.

    They need not be those that were fitted: 2 exp(a + x) becomes one factor of exp(x), and signs move.

    Args:
        expression: SymPy's expression with its constants as fitted.
        names: Names of the coordinates.
        points: Points `[N, d]`.
        values: Values there `[N]`.
    """
    model = Model(expression, (names, points, values))
    pairs = zip(model.start, model.deviations(model.start), strict=True)
    return {f"{value:.12g}": (float(value), float(deviation)) for value, deviation in pairs}


def _limit(rms: float, tolerance: float, random_rows: int) -> float:
    """Return what may be left after a simplification, of so many rows where what is left is random."""
    if random_rows:
        return max(rms * float(np.sqrt(1 + (DEVIATIONS / 2) ** 2 / random_rows)), min(tolerance, FINEST))
    return max(WORSE * rms, tolerance)


def fitted_constants(
    expression: Any, names: tuple[str, ...], points: Array, values: Array
) -> tuple[Any, float, float, int] | None:
    """Fit an expression's floats to values `[N]` at points `[N, d]`, and leave them what they become.

    Returns:
        The expression, the relative root mean square of what it misses, that of what each row is missed by when the
        others are fitted, and the number of its floats; None where it has no finite values.
    """
    sympy = needed("sympy", "a closed form", "formulas")
    model, theta, rms = Model(expression, (names, points, values)).solved()
    if not rms < 1e5:
        return None
    known = {one: sympy.Float(float(value)) for one, value in zip(model.symbols, theta, strict=True)}
    return model.expression.xreplace(known), rms, model.left_out(theta), len(known)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


Data = tuple[tuple[str, ...], Array, Array]
"""Names of the coordinates, points `[N, d]` and values `[N]`."""


class Model:
    """An expression with its floats as parameters, or with symbols that have a start, held against values.

    Attributes:
        symbols: The parameters.
        start: Their values.
    """

    def __init__(self, expression: Any, data: Data, start: dict[Any, float] | None = None) -> None:
        sympy = needed("sympy", "a closed form", "formulas")
        floats = sorted(expression.atoms(sympy.Float), key=float) if start is None else []
        known = {one: sympy.Symbol(f"c{k}_", real=True) for k, one in enumerate(floats)}
        self._size = _rms(data[2])
        self._data = *data[:2], data[2] / self._size
        self._make(expression.xreplace(known), start or dict(zip(known.values(), map(float, known), strict=True)))

    def _make(self, expression: Any, start: dict[Any, float]) -> None:
        sympy = needed("sympy", "a closed form", "formulas")
        names, points, _ = self._data
        self.expression, self.symbols = expression, [one for one in start if one in expression.free_symbols]
        self.start = np.array([start[one] for one in self.symbols])
        given = [*(sympy.Symbol(name, real=True) for name in names), *self.symbols]
        parts = [expression, *(expression.diff(one) for one in self.symbols)]
        made = sympy.lambdify(given, parts, ["numpy", "scipy"], cse=True)
        self._made: Callable[..., Any] = lambda theta: made(*points.T, *theta)

    def _columns(self, theta: Array) -> list[Array]:
        with np.errstate(all="ignore"):
            return [np.broadcast_to(np.asarray(one, float), len(self._data[1])) for one in self._made(theta)]

    def residual(self, theta: Array) -> Array:
        """Return the misfit relative to the values' rms, `[N]`."""
        found = self._columns(theta)[0] / self._size - self._data[2]
        return np.where(np.isfinite(found), found, 1e6)

    def _jacobian(self, theta: Array) -> Array:
        return np.nan_to_num(np.stack(self._columns(theta)[1:], 1) / self._size, posinf=0, neginf=0)

    def solved(self) -> tuple[Model, Array, float]:
        """Return itself, with the best parameters and the rms that is left."""
        if not self.symbols:
            return self, self.start, _rms(self.residual(self.start))
        options: dict[str, Any] = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 40, "jac": self._jacobian}
        with np.errstate(all="ignore"):
            theta = least_squares(self.residual, self.start, x_scale="jac", **options).x
            return self, theta, _rms(self.residual(theta))

    def with_values(self, theta: Array) -> Model:
        """Return the same model with other values to start from."""
        return self.with_exact({}, dict(zip(self.symbols, theta, strict=True)))

    def with_exact(self, exact: dict[Any, Any], start: dict[Any, float] | None = None) -> Model:
        """Return the model with some parameters replaced by exact numbers."""
        return self._like(self.expression.subs(exact), start or dict(zip(self.symbols, self.start, strict=True)))

    def _like(self, expression: Any, start: dict[Any, float]) -> Model:
        other = object.__new__(Model)
        other._data, other._size = self._data, self._size
        other._make(expression, start)
        return other

    def left_out(self, theta: Array) -> float:
        """Rms of what each row is missed by when the constants are fitted to the others: e_i/(1 − h_i).

        Of the leverages h, the diagonal of J J⁺ (Allen 1974, doi:10.1080/00401706.1974.10489157). A term that is large
        at one row alone, such as 1/x² where x is nearly 0, takes that row's noise for its own; here it gains nothing.
        """
        missed = self.residual(theta)
        jacobian = self._jacobian(theta) if self.symbols else np.zeros((len(missed), 1))
        scale = np.linalg.norm(jacobian, axis=0)
        u, s, _ = np.linalg.svd(jacobian / np.where(scale > 0, scale, 1.0), full_matrices=False)
        leverage = (u[:, s > 1e-12 * s[0]] ** 2).sum(1)
        return _rms(missed / np.maximum(1 - leverage, 1e-6))

    def effect(self, theta: Array, k: int) -> float:
        """Relative rms by which the values change with a constant."""
        return _rms(self._jacobian(theta)[:, k])

    def deviations(self, theta: Array) -> Array:
        """Standard deviations of the parameters; infinite where nothing determines them."""
        if not self.symbols:
            return np.zeros(0)
        jacobian = self._jacobian(theta)
        scale = np.linalg.norm(jacobian, axis=0)
        scale[scale == 0] = 1.0
        _, s, v = np.linalg.svd(jacobian / scale, full_matrices=False)
        noise = max(_rms(self.residual(theta)), 1e-15)
        with np.errstate(divide="ignore"):
            return noise * np.sqrt(((v / np.maximum(s, 1e-12 * s[0])[:, None]) ** 2).sum(0)) / scale * np.sqrt(3)

    def undetermined(self, theta: Array) -> list[Any]:
        """Return the parameters that others undo to rounding."""
        jacobian = self._jacobian(theta)
        scale = np.linalg.norm(jacobian, axis=0)
        _, s, v = np.linalg.svd(jacobian / np.where(scale > 0, scale, 1.0), full_matrices=False)
        share = np.abs(v[s < DEGENERATE * s[0]]).max(0, initial=0.0)
        return [one for one, part in zip(self.symbols, share, strict=True) if part > 0.1]

    def terms(self, theta: Array) -> list[tuple[float, Any]]:
        """Relative rms of each term of a sum, and the term."""
        sympy = needed("sympy", "a closed form", "formulas")
        names, points, _ = self._data
        found = []
        given = [*(sympy.Symbol(name, real=True) for name in names), *self.symbols]
        for term in sympy.Add.make_args(self.expression):
            with np.errstate(all="ignore"):
                values = np.broadcast_to(
                    sympy.lambdify(given, term, ["numpy", "scipy"])(*points.T, *theta), len(points)
                )
            found.append((_rms(values) / self._size, term))
        return found

    def without(self, term: Any) -> Model:
        """Return the model without one of its terms."""
        return self._like(self.expression - term, dict(zip(self.symbols, self.start, strict=True)))


def _without_small(solved: tuple[Model, Array, float], tolerance: float, limit: float) -> tuple[Model, Array, float]:
    """Drop terms that the values do not tell from 0, smallest first, as long as nothing more is missed."""
    model, theta, rms = solved
    while model.expression.is_Add:
        model = model.with_values(theta)
        size, smallest = min(model.terms(theta), key=lambda pair: pair[0])
        if size > 30 * max(rms, tolerance):
            break
        other, moved, left = model.without(smallest).solved()
        if left > (limit or max(WORSE * rms, tolerance)):
            break
        model, theta, rms = other, moved, left
    return model.with_values(theta), theta, rms


def _numbers(model: Model, theta: Array, symbol: Any, *, random: bool) -> Iterable[Any]:
    """Exact numbers near a parameter, simplest first; 0 and 1 where others undo it, as in log(a x) + d."""
    sympy = needed("sympy", "a closed form", "formulas")
    if symbol in model.undetermined(theta):
        return [sympy.Integer(0), sympy.Integer(1)]
    k = model.symbols.index(symbol)
    value, deviation = float(theta[k]), float(model.deviations(theta)[k])
    missed, effect = _rms(model.residual(theta)), max(model.effect(theta, k), 1e-300)
    window = max(DEVIATIONS * deviation, MISSED * missed / effect)
    window = min(window, WIDEST * (abs(value) or 1.0)) if abs(value) > window else window
    if random:  # deviations hold a factor √3
        window = max(DEVIATIONS / np.sqrt(3) * deviation, FINEST * abs(value))
    near = [(0, 0)] if abs(value) <= window else []
    sign = 1 if value >= 0 else -1
    table = exact_numbers()
    sizes = np.array([one[0] for one in table])
    first, last = np.searchsorted(sizes, [abs(value) - window, abs(value) + window])
    low, high = np.searchsorted(sizes, [abs(value) / np.e, abs(value) * np.e])
    costs = np.sort([cost for _, cost, _ in table[low:high]])
    share = window / (abs(value) or 1.0)
    for _, cost, number in table[first:last]:
        if np.searchsorted(costs, cost, side="right") * share <= CHANCE:
            near.append((cost, sign * number))
    return [number for _, number in sorted(near, key=lambda one: one[0])[:TRIED]]


def _order(model: Model, theta: Array) -> list[Any]:
    """Parameters, the best determined first."""
    share = model.deviations(theta) / np.maximum(np.abs(theta), 1e-300)
    return [model.symbols[k] for k in np.argsort(share)]
