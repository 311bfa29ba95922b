"""Signomials: sums of two or three products of powers, their exponents sought as real numbers by least squares.

    T = Σ_k c_k G_k Π_j |x_j|^p_kj

with G_k the signs of the inputs, or a function of an input or of a difference of two, in the last product. Products of
many inputs are too many to be listed; here they cost one exponent for each input. Levenberg–Marquardt in all
exponents from many random starts at once, the coefficients c solved for at each step (Golub and Pereyra 1973,
doi:10.1137/0710036, in the simplified form of Kaufman 1975, doi:10.1007/BF01932995); then exponents are rounded to
halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.symbolic.library import Array
from kanpinn.symbolic.terms import POWERS, Terms, power_text

ROWS = 250
"""Rows that exponents are fitted to."""

STARTS, EACH = 1200, 3
"""Random starts at least, and of each function."""

BITS = 40
"""Inputs of both signs, at most, whose exponents may be odd."""

KEPT = 40
"""Those that go on after the first steps, and the texts that are returned at most."""

STEPS = (12, 40)
"""Steps of all starts, and of those kept."""

STEEPEST = 6.0
"""Largest exponent."""

CLOSE = 0.1
"""Relative size of what a sum of rounded products may miss."""

Found = tuple[float, Terms]


@final
@dataclass
class _Sums:
    """Sums of `K` products from `S` starts: exponents `[S, K, d]`, factors `[S, K, N]`, logarithms `[N, d]`.

    The last product's exponents of some starts stay as they are (`fixed`, `[S]`).
    """

    powers: Array
    fixed: NDArray[np.bool_]
    factors: Array
    logs: Array
    target: Array
    weights: Array

    def solved(self, powers: Array) -> tuple[Array, Array, Array]:
        """Return weighted products `[S, K, N]`, coefficients `[S, K]` and what is missed `[S, N]`."""
        with np.errstate(all="ignore"):
            columns = np.exp(np.clip(powers @ self.logs.T, -60, 60)) * self.factors * self.weights
        norms = np.maximum(np.linalg.norm(columns, axis=2, keepdims=True), 1e-300)
        unit = columns / norms
        gram = unit @ unit.swapaxes(1, 2) + 1e-13 * np.eye(powers.shape[1])
        c = np.linalg.solve(gram, (unit @ self.target)[..., None])[..., 0] / norms[..., 0]
        return columns, c, self.target - np.einsum("sk,skn->sn", c, columns)

    def step(self, damping: Array) -> Array:
        """Take a step of all starts; returns the squares of what is missed `[S]`, `damping` changed in place."""
        columns, c, missed = self.solved(self.powers)
        before = (missed**2).sum(1)
        q = np.linalg.qr(columns.swapaxes(1, 2))[0]
        slopes = (c[..., None] * columns)[:, :, None] * self.logs.T
        slopes[self.fixed, -1] = 0.0
        slopes = slopes.reshape(len(slopes), -1, slopes.shape[-1])
        slopes = slopes - (slopes @ q) @ q.swapaxes(1, 2)  # across the products, whose coefficients follow
        normal = slopes @ slopes.swapaxes(1, 2)
        size = np.diagonal(normal, axis1=1, axis2=2).max(1)
        normal += (damping * np.maximum(size, 1e-300))[:, None, None] * np.eye(normal.shape[1])
        moved = np.linalg.solve(normal, (slopes @ missed[..., None]))[..., 0].reshape(self.powers.shape)
        tried = np.clip(self.powers + np.clip(moved, -1, 1), -STEEPEST, STEEPEST)
        after = (self.solved(tried)[2] ** 2).sum(1)
        better = after < before
        self.powers = np.where(better[:, None, None], tried, self.powers)
        damping *= np.where(better, 0.2, 5.0)
        np.clip(damping, 1e-12, 1e3, out=damping)
        return np.where(better, after, before)

    def taken(self, rows: NDArray[np.intp]) -> _Sums:
        """Return some of the starts."""
        return _Sums(self.powers[rows], self.fixed[rows], self.factors[rows], self.logs, self.target, self.weights)


def signomials(
    names: tuple[str, ...], x: Array, target: Array, weights: Array, within: Terms, count: int
) -> list[Found]:
    """Return sums of so many products of powers that come close to a target, the best first.

    Args:
        names: Names of the inputs.
        x: Their values `[N, d]`.
        target: What the products sum up to `[N]`.
        weights: Weight of each row `[N]`.
        within: Functions that the last product may have as a factor, or that are its whole where they begin with "#".
        count: Products of a sum, K.

    Returns:
        Of each sum the relative root mean square of what it misses, and its products.
    """
    if not np.any(target * weights):
        return []
    ones = Terms(["", *within.texts], np.array([0.0, *within.costs]), np.stack([np.ones(len(x)), *within.values]))
    function, odd = _starts(x, len(ones), count)
    with np.errstate(all="ignore"):
        logs = np.log(np.maximum(np.abs(x), 1e-300))
        factors = np.prod(np.where(odd[:, :, :, None] > 0, np.sign(x[:ROWS].T), 1.0), axis=2)
    factors[:, -1] *= ones.values[function, :ROWS]
    scale = weights / np.sqrt(np.mean(weights**2))
    generator = np.random.default_rng(count)
    powers = generator.choice([-1.0, 0.0, 0.0, 1.0], odd.shape) + 0.2 * generator.standard_normal(odd.shape)
    fixed = np.array([text[:1] == "#" for text in ones.texts])[function]
    powers[fixed, -1], odd[fixed, -1] = 0.0, 0.0
    sums = _Sums(powers, fixed, factors, logs[:ROWS], (target * scale)[:ROWS], scale[:ROWS])
    for steps in STEPS:
        damping, left = np.full(len(sums.powers), 1e-2), np.zeros(0)
        for _ in range(steps):
            left = sums.step(damping)
        best = np.argsort(left)[:KEPT]
        sums, function, odd = sums.taken(best), function[best], odd[best]
    found: dict[str, Found] = {}
    for k, one in enumerate(sums.powers):
        terms = _terms(names, x, _rounded(one, odd[k], np.any(x < 0, axis=0)), ones.taken([int(function[k])]))
        columns = terms.values * scale
        if np.isfinite(columns).all() and np.linalg.norm(columns, axis=1).all():
            q, held = np.linalg.qr(columns.T)[0], target * scale
            missed = float(np.linalg.norm(held - q @ (q.T @ held)) / np.linalg.norm(held))
            if missed < CLOSE:
                found.setdefault(" + ".join(sorted(terms.texts)), (missed, terms))
    return sorted(found.values(), key=lambda one: one[0])


def _starts(x: Array, functions: int, count: int) -> tuple[NDArray[np.intp], Array]:
    """The function in the last product of each start, and which exponents are odd, `[S, K, d]`.

    A quarter has none of the functions; the others have each with each choice of odd exponents in turn.
    """
    signed = np.flatnonzero((x < 0).any(0))[:BITS]
    patterns = 2 ** len(signed)
    starts = max(STARTS, EACH * functions)
    number = np.arange(starts)
    function, last = np.divmod(number % (functions * patterns), patterns)
    generator = np.random.default_rng(0)
    others = generator.integers(patterns, size=(starts, count)) * (generator.uniform(size=(starts, count)) < 0.2)
    others[:, -1] = last
    odd = np.zeros((starts, count, x.shape[1]))
    odd[:, :, signed] = others[:, :, None] >> np.arange(len(signed))[::-1] & 1
    return np.where(number % 4 == 0, 0, function), odd


def _rounded(powers: Array, odd: Array, signed: NDArray[np.bool_]) -> Array:
    """Exponents `[K, d]` rounded to halves; of inputs of both signs to even or odd numbers."""
    return np.where(signed, 2 * np.round((powers - odd) / 2) + odd, np.round(2 * powers) / 2)


def _terms(names: tuple[str, ...], x: Array, powers: Array, last: Terms) -> Terms:
    """Products of powers `[K, d]` as terms, the last with a function as a factor."""
    texts, costs, values = [], [], []
    for row in powers:
        used = [k for k, p in enumerate(row) if p]
        texts.append("*".join(power_text(names[k], float(row[k])) for k in used))
        costs.append(sum(POWERS.get(float(row[k]), abs(float(row[k])) + 1) for k in used))
        with np.errstate(all="ignore"):
            values.append(np.prod(x[:, used] ** row[used], axis=1))
    texts[-1] = "*".join(text for text in (texts[-1], last.texts[0]) if text)
    costs[-1] += float(last.costs[0])
    values[-1] = values[-1] * last.values[0]
    return Terms([text or "1" for text in texts], np.array(costs), np.array(values))
