"""Pursuit: sums of a few terms out of many thousands that come closest to a target, all likely pairs compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kanpinn.symbolic.library import Array
from kanpinn.symbolic.terms import Terms

PRICE = 3.0
"""Price of a part of a term in nats: the logarithm of about as many parts as there are to choose from."""

PAIRED = 1500
"""Terms of which all pairs are compared."""

FOLLOWED = 40
"""Sums that are followed at each further term."""

TERMS = 4
"""Most terms of a sum."""

SIGNIFICANT = 2.0
"""Standard deviations below which terms are taken away together."""

Sum = tuple[float, tuple[int, ...]]


def pursued(
    base: Array, pool: Terms, target: Array, weights: Array, price: float, once: Array | None = None
) -> list[Sum]:
    """Return sums of few terms of a pool beside a base, the best first.

    Args:
        base: Columns that every sum has, `[b, N]`.
        pool: The terms.
        target: What they are to sum up to `[N]`.
        weights: Weight of each row `[N]`.
        price: Price of every sum beside its terms'.
        once: Terms of which a sum has one at most, beside others, `[n]`; none by default.

    Returns:
        The score of each in nats, half a row's weight for the logarithm of the square of what is left, and the numbers
        of its terms.
    """
    scale = weights / np.sqrt(np.mean(weights**2))
    q = np.linalg.qr((base * scale).T)[0].T if len(base) else np.zeros((0, len(target)))
    t = target * scale
    size = float(t @ t)
    t = t - (t @ q.T) @ q
    columns = _beside(q, pool.values * scale)
    rows = len(t)

    def scores(left: Array, costs: Array) -> Array:
        return rows * 0.5 * np.log(np.maximum(left, 1e-20 * size) / rows) + PRICE * (costs + price)

    once = np.zeros(len(pool)) if once is None else once
    gain = columns @ t
    single = scores(t @ t - gain**2, pool.costs)
    alone = np.where(once > 0, np.inf, single)
    ranked: list[Sum] = [(float(alone[k]), (int(k),)) for k in np.argsort(alone)[:FOLLOWED]]
    cheap = np.argsort(pool.costs, kind="stable")[: PAIRED // 4]
    best = np.unique(np.concatenate([np.argsort(single)[:PAIRED], cheap]))
    explained = _explained(columns[best], gain[best])
    pair = scores(t @ t - explained, pool.costs[best][:, None] + pool.costs[best][None] + 1)
    pair[np.tril_indices(len(best))] = np.inf
    pair[np.outer(once[best], once[best]) > 0] = np.inf
    flat = np.argsort(pair, axis=None)[: 2 * FOLLOWED]
    level = [(float(pair.flat[k]), (int(best[k // len(best)]), int(best[k % len(best)]))) for k in flat]
    ranked += level
    for _ in range(TERMS - 2):
        if min(ranked)[0] < 0.5 * rows * np.log(1e-18 * size / rows):
            break
        level = _longer(level[:FOLLOWED], columns, t, pool.costs, scores, once)
        ranked += level[:FOLLOWED]
    known = {numbers: score for score, numbers in ranked}
    for numbers in sorted(known, key=lambda one: known[one])[:FOLLOWED]:
        for one in numbers if len(numbers) > 1 else ():
            rest = tuple(k for k in numbers if k != one)
            if rest not in known and not once[list(rest)].all():
                q = np.linalg.qr(columns[list(rest)].T)[0].T
                left = t @ t - np.sum((q @ t) ** 2)
                known[rest] = float(scores(left, pool.costs[list(rest)].sum() + len(rest) - 1))
    return sorted((score, numbers) for numbers, score in known.items())


def _beside(q: Array, columns: Array) -> Array:
    """Parts `[n, N]` of columns orthogonal to orthonormal ones `q`, of norm 1; 0 where that is but rounding."""
    before = np.linalg.norm(columns, axis=1)
    columns = columns - (columns @ q.T) @ q
    norms = np.linalg.norm(columns, axis=1)
    with np.errstate(all="ignore"):
        columns = np.where((norms > 1e-7 * before)[:, None], columns / norms[:, None], 0.0)
    return np.nan_to_num(columns)


def _explained(columns: Array, gain: Array) -> Array:
    """Squares `[n, n]` of the part of a target that each pair of columns of norm 1 explains, from their `gain`."""
    gram = columns @ columns.T
    with np.errstate(all="ignore"):
        explained = (gain[:, None] ** 2 + gain[None] ** 2 - 2 * gain[:, None] * gain[None] * gram) / (1 - gram**2)
    return np.where(np.abs(gram) < 1 - 1e-7, explained, 0.0)


def _longer(
    level: list[Sum],
    columns: Array,
    t: Array,
    costs: Array,
    scores: Callable[[Array, Array], Array],
    once: Array,
) -> list[Sum]:
    """Every sum with one more term, the best first."""
    bases = [np.linalg.qr(columns[list(numbers)].T)[0].T for _, numbers in level]
    rests = np.array([t - (t @ q.T) @ q for q in bases])
    gains = (columns @ rests.T) ** 2
    within = ((columns @ np.concatenate(bases).T) ** 2).reshape(len(columns), len(level), -1).sum(2)
    found: dict[tuple[int, ...], float] = {}
    for k, (_, numbers) in enumerate(level):
        left = 1 - within[:, k]
        with np.errstate(all="ignore"):
            gain = np.where(left > 1e-7, gains[:, k] / left, 0.0)
        score = scores(rests[k] @ rests[k] - gain, costs + costs[list(numbers)].sum() + len(numbers))
        score[list(numbers)] = np.inf
        score = np.where((once > 0) & (once[list(numbers)].sum() > 0), np.inf, score)
        for one in np.argpartition(score, 6)[:6]:
            found[tuple(sorted((*numbers, int(one))))] = float(score[one])
    return [(score, numbers) for numbers, score in sorted(found.items(), key=lambda one: one[1])]


def eliminated(pool: Terms, target: Array, weights: Array, price: float) -> Sum | None:
    """Return the sum that is left of all of a small pool's terms when those that do not matter are taken away.

    For sums of so many terms that no few of them come close. Arguments as of `pursued`; None where all terms together
    explain little.
    """
    scale = weights / np.sqrt(np.mean(weights**2))
    columns, t = (pool.values * scale).T, target * scale
    rows, norms = len(t), np.linalg.norm(columns, axis=0)
    columns = columns / norms
    kept = np.arange(len(pool))
    best: Sum | None = None
    while True:
        found, _, rank, _ = np.linalg.lstsq(columns[:, kept], t, rcond=1e-13)
        left = float(np.sum((t - columns[:, kept] @ found) ** 2))
        if left > 0.04 * (t @ t):
            return best
        spread = np.linalg.norm(np.linalg.pinv(columns[:, kept], rcond=1e-13), axis=1)
        noise = np.sqrt(max(left / max(rows - rank, 1), 1e-28 * (t @ t) / rows))
        seen = np.abs(found) / (noise * np.maximum(spread, 1e-300))
        cost = float(pool.costs[kept].sum()) + len(kept) - 1 + price
        score = rows * 0.5 * np.log(max(left, 1e-20 * (t @ t)) / rows) + PRICE * cost
        if best is None or score < best[0]:
            best = (float(score), tuple(int(k) for k in kept))
        if len(kept) == 1:
            break
        order = np.argsort(seen)
        weak = int((seen < SIGNIFICANT).sum())
        kept = np.delete(kept, order[: max(1, min(weak, len(kept) // 2))])
    return best
