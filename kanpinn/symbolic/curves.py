"""Curves: functions of one variable fitted by polynomials, sums of c f(a x + b), and one beside a polynomial.

Places a and b are scanned, c and d are linear; the best start of every form is refined by Levenberg–Marquardt in all
constants. Sums are found by pursuit: the form that explains most of what is left is added, then all constants are
refined together (Mallat and Zhang 1993, Matching pursuits with time-frequency dictionaries).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.optimize import least_squares

from kanpinn.errors import needed
from kanpinn.symbolic.library import Array, Form

DEGREE = 6
"""Highest degree of a polynomial."""

BESIDE = 3
"""Highest degree of a polynomial beside another function."""

TERMS = 3
"""Most terms of a sum."""

BEAM = 3
"""Forms that are followed at each term of a sum, and starts that are refined of each form."""

SMALLEST, LARGEST = 0.05, 150.0
"""Range of |a|, for x scaled to [−1, 1]: below it every function is a polynomial, above it points are too few."""

SCANNED = 64
"""About how many points the starts are compared at."""

CANCELLING = 1e3
"""Largest size of a term, relative to the curve: larger ones cancel each other."""


@final
@dataclass(frozen=True)
class Curve:
    """A closed form of one variable.

    Attributes:
        expression: SymPy's expression of `VARIABLE`, its constants as they were fitted.
        residual: Root mean square of what it misses, relative to the curve's.
        complexity: The sum of its terms'.
    """

    expression: Any
    residual: float
    complexity: float


@dataclass(frozen=True)
class _Sum:
    """Σ c_i f_i(a_i X + b_i) + Σ d_k X^k in the scaled variable X."""

    forms: tuple[Form, ...]
    places: Array  # a_1, b_1, a_2, …
    factors: Array  # c_1, …, d_0, d_1, …
    residual: float


def fitted(
    x: Array, y: Array, tolerance: float, forms: Sequence[Form], symbol: Any, end: float = math.inf
) -> Curve | None:
    """Return the simplest closed form within the tolerance, an rms relative to that of y; None if there is none.

    Args:
        x: Places `[N]`, at least some fifty.
        y: Values `[N]`.
        tolerance: Largest relative root mean square of what it may miss.
        forms: The library.
        symbol: SymPy's variable.
        end: Processor time at which the search ends.
    """
    middle, half = (x.max() + x.min()) / 2, (x.max() - x.min()) / 2
    scaled, size = (x - middle) / half, float(np.sqrt(np.mean(y**2)))
    if not size:
        return Curve(needed("sympy", "a closed form", "formulas").Integer(0), 0.0, 0)
    found = _polynomial(x, y / size, tolerance, size, symbol)
    if found is not None and found.complexity <= 2:
        return found
    several, single = [found] if found else [], []
    for form in sorted(forms, key=lambda one: one.complexity):
        if (several and min(one.complexity for one in several) <= form.complexity) or time.process_time() > end:
            break
        single += _single(form, scaled, y / size)
        several += [_curve(one, middle, half, size, symbol) for one in single[-1:] if one.residual <= tolerance]
    scaling = middle, half, size
    several = several or _beside_polynomials(scaled, y / size, tolerance, forms, scaling, symbol, end)
    several = several or _pursuit(single, scaled, y / size, tolerance, forms, scaling, symbol, end)
    return min(several, key=lambda one: (one.complexity, one.residual), default=None)


def single_fits(
    x: Array, y: Array, forms: Sequence[Form]
) -> list[tuple[Form, tuple[float, float, float, float], float]]:
    """Return the best c f(a x + b) + d of every form: a, b, c, d and its rms relative to the deviation of y.

    Takes places `[N]` and values `[N]`; the best form first, those that do not fit at all left out.
    """
    middle, half, size = (x.max() + x.min()) / 2, (x.max() - x.min()) / 2, float(y.std())
    if not size or not half:
        return []
    found = []
    for form in forms:
        for one in _single(form, (x - middle) / half, y / size):
            (a, b), (c, d) = one.places, one.factors
            numbers = (float(a / half), float(b - a * middle / half), float(c * size), float(d * size))
            found.append((form, numbers, one.residual))
    return sorted(found, key=lambda one: one[2])


def _polynomial(x: Array, y: Array, tolerance: float, size: float, symbol: Any) -> Curve | None:
    domain = [float(x.min()), float(x.max())]
    for degree in range(DEGREE + 1):
        found = np.polynomial.Chebyshev.fit(x, y, degree, domain=domain)
        residual = float(np.sqrt(np.mean((found(x) - y) ** 2)))
        if residual <= tolerance:
            powers = np.asarray(found.convert(kind=np.polynomial.Polynomial).coef, dtype=float) * size
            largest = np.abs(powers).max()
            kept = [(k, float(c)) for k, c in enumerate(powers) if abs(c) > tolerance * largest]
            return Curve(sum(c * symbol**k for k, c in kept), residual, degree)
    return None


def _starts(form: Form) -> tuple[Array, Array]:
    """Places a `[K]` and b `[K]` at which a form is tried."""
    sizes = np.geomspace(SMALLEST * 2, 30.0, 24)
    if form.shift == "none":
        a = np.concatenate([sizes, -sizes])
        return a, np.zeros_like(a)
    if form.shift == "phase":
        a = np.concatenate([np.geomspace(0.2, 2, 12), np.arange(2, LARGEST / 2, 0.5)])
        return a, np.zeros_like(a)
    a, zero = np.meshgrid(np.concatenate([sizes, -sizes]), np.linspace(-2.1, 2.1, 43))
    return a.ravel(), (-a * zero).ravel()


def _single(form: Form, x: Array, y: Array) -> list[_Sum]:
    """The best fits of one form alone, refined; none where it does not fit at all."""
    places = _scanned(form, x, y)
    found = [_refined((form,), place, x, y) for place in places]
    return sorted((one for one in found if one is not None), key=lambda one: one.residual)[:1]


def _scanned(form: Form, x: Array, y: Array) -> list[Array]:
    """The best starts (a, b) of a form for values y `[N]`."""
    a, b = _starts(form)
    few = slice(None, None, max(1, len(x) // SCANNED))
    x, y = x[few], y[few]
    rest = y - y.mean()
    arguments = a[:, None] * x + b[:, None]
    with np.errstate(all="ignore"):
        values = form.value(arguments)
        values = values - values.mean(1, keepdims=True)
        gain = (values @ rest) ** 2 / (values**2).sum(1)
    if form.shift == "phase":  # both the function and its quarter turn, orthogonalised
        turned = form.value(arguments + np.pi / 2)
        turned = turned - turned.mean(1, keepdims=True)
        with np.errstate(all="ignore"):
            turned = turned - values * ((turned * values).sum(1) / (values**2).sum(1))[:, None]
            gain = gain + (turned @ rest) ** 2 / (turned**2).sum(1)
    gain = np.where(np.isfinite(gain), gain, -1.0)
    best: list[int] = []
    for k in np.argsort(-gain)[: 40 * BEAM]:
        near = any(abs(a[k] / a[j] - 1) < 0.2 and abs(b[k] / a[k] - b[j] / a[j]) < 0.25 for j in best)
        if gain[k] > 0 and not near:
            best.append(int(k))
        if len(best) == BEAM:
            break
    shifts = [_phase(form, a[k], x, rest) if form.shift == "phase" else b[k] for k in best]
    return [np.array([a[k], shift]) for k, shift in zip(best, shifts, strict=True)]


def _phase(form: Form, a: float, x: Array, y: Array) -> float:
    """The angle b of the best c f(a x + b) + d, for a sine f."""
    columns = np.stack([form.value(a * x), form.value(a * x + np.pi / 2), np.ones_like(x)], 1)
    s, c, _ = np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(np.arctan2(c, s))


def _columns(forms: Sequence[Form], places: Array, x: Array, degree: int = 0) -> Array:
    pairs = places.reshape(-1, 2)
    values = (form.value(a * x + b) for form, (a, b) in zip(forms, pairs, strict=True))
    return np.stack([*values, *(x**k for k in range(degree + 1))], 1)


def _refined(forms: tuple[Form, ...], places: Array, x: Array, y: Array, degree: int = 0) -> _Sum | None:
    """Refine all constants of a sum together; None where it leaves its functions' domains or cancels."""
    columns = _columns(forms, places, x, degree)
    if not np.isfinite(columns).all():
        return None
    factors = np.linalg.lstsq(columns, y, rcond=None)[0]
    count = len(forms)
    bound = [k for k, form in enumerate(forms) if form.shift == "none"]

    def residual(constants: Array) -> Array:
        found = _columns(forms, constants[: 2 * count], x, degree) @ constants[2 * count :] - y
        return np.where(np.isfinite(found), found, 1e3)

    def jacobian(constants: Array) -> Array:
        pairs, c = constants[: 2 * count].reshape(-1, 2), constants[2 * count :]
        parts = []
        for k, (form, (a, b)) in enumerate(zip(forms, pairs, strict=True)):
            slope = c[k] * form.slope(a * x + b)
            parts += [slope * x, np.zeros_like(x) if k in bound else slope]
        known = _columns(forms, constants[: 2 * count], x, degree).T
        return np.nan_to_num(np.stack([*parts, *known], 1), posinf=0, neginf=0)

    start = np.concatenate([places, factors])
    options: dict[str, Any] = {
        "xtol": 1e-15,
        "ftol": 1e-15,
        "gtol": 1e-15,
        "max_nfev": 60,
        "x_scale": "jac",
        "jac": jacobian,
    }
    with np.errstate(all="ignore"):
        found = least_squares(residual, start, method="lm", **options).x
    a = np.abs(found[: 2 * count : 2])
    terms = np.abs(found[2 * count :]) * np.abs(_columns(forms, found[: 2 * count], x, degree)).max(0)
    if not (np.isfinite(found).all() and (a >= SMALLEST).all() and (a <= LARGEST).all() and (terms < CANCELLING).all()):
        return None
    return _Sum(forms, found[: 2 * count], found[2 * count :], float(np.sqrt(np.mean(residual(found) ** 2))))


def _beside_polynomials(
    x: Array,
    y: Array,
    tolerance: float,
    forms: Sequence[Form],
    scaling: tuple[float, float, float],
    symbol: Any,
    end: float,
) -> list[Curve]:
    """One function beside a polynomial of the lowest degree within the tolerance."""
    for degree in range(1, BESIDE + 1):
        basis = np.linalg.qr(np.stack([x**k for k in range(degree + 1)], 1))[0]
        rest, good = y - basis @ (basis.T @ y), []
        for form in forms:
            if time.process_time() > end:
                return []
            tried = [_refined((form,), place, x, y, degree) for place in _scanned(form, x, rest)]
            good += [one for one in tried if one is not None and one.residual <= tolerance]
        if good:
            return [_curve(one, *scaling, symbol) for one in good]
    return []


def _pursuit(
    found: list[_Sum],
    x: Array,
    y: Array,
    tolerance: float,
    forms: Sequence[Form],
    scaling: tuple[float, float, float],
    symbol: Any,
    end: float,
) -> list[Curve]:
    """Sums of several forms within the tolerance, those of the fewest terms."""
    for count in range(1, TERMS):
        ranked = sorted(found, key=lambda one: one.residual)
        simple = [one for one in ranked[BEAM:] if count == 1 and one.forms[0].complexity <= 2]
        followed = ranked[:BEAM] + simple
        found = []
        for one in followed:
            rest = y - _columns(one.forms, one.places, x) @ one.factors
            for form in forms if time.process_time() < end else ():
                for place in _scanned(form, x, rest)[:1]:
                    more = _refined((*one.forms, form), np.concatenate([one.places, place]), x, y)
                    found += [] if more is None else [more]
        good = [_curve(one, *scaling, symbol) for one in found if one.residual <= tolerance]
        if good:
            return good
    return []


def _curve(one: _Sum, middle: float, half: float, size: float, symbol: Any) -> Curve:
    """Return a sum as an expression of the unscaled variable."""
    total: Any = 0
    powers = np.polynomial.Polynomial(one.factors[len(one.forms) :] * size, domain=[middle - half, middle + half])
    for k, d in enumerate(powers.convert(domain=[-1, 1]).coef):
        total += float(d) * symbol**k if abs(one.factors[len(one.forms) :]).max() > one.residual else 0
    for form, (a, b), c in zip(one.forms, one.places.reshape(-1, 2), one.factors, strict=False):
        total += float(c * size) * form.of(float(a / half) * symbol + float(b - a * middle / half))
    constants = np.count_nonzero(one.factors[len(one.forms) :])
    return Curve(total, one.residual, sum(form.complexity for form in one.forms) + constants * 0.5)
