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

TRIPLED = 160
"""Terms of which all triples are compared: the cheapest, half of them, and those that explain most."""

FOLLOWED = 40
"""Sums that are followed at each further term."""

TERMS = 4
"""Most terms of a sum."""

DEPENDENT = 1e-9
"""Relative size of what others leave of a term below which it is a sum of them."""

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
    explained = _explained(columns[best] @ columns[best].T, gain[best])
    pair = scores(t @ t - explained, pool.costs[best][:, None] + pool.costs[best][None] + 1)
    pair[np.tril_indices(len(best))] = np.inf
    pair[np.outer(once[best], once[best]) > 0] = np.inf
    flat = np.argsort(pair, axis=None)[: 2 * FOLLOWED]
    level = [(float(pair.flat[k]), (int(best[k // len(best)]), int(best[k % len(best)]))) for k in flat]
    ranked += level
    for count in range(3, TERMS + 1):
        if min(ranked)[0] < 0.5 * rows * np.log(1e-18 * size / rows):
            break
        level = _longer(level[:FOLLOWED], columns, t, pool.costs, scores, once)
        if count == 3:
            level = sorted({*level, *_triples(columns, t, pool.costs, scores, once)})
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


def _explained(gram: Array, gain: Array) -> Array:
    """Squares `[n, n]` of the part of a target that pairs of columns of norm 1 explain, by `gram` and their `gain`."""
    with np.errstate(all="ignore"):
        explained = (gain[:, None] ** 2 + gain[None] ** 2 - 2 * gain[:, None] * gain[None] * gram) / (1 - gram**2)
    return np.where(np.abs(gram) < 1 - 1e-7, explained, 0.0)


def _triples(columns: Array, t: Array, costs: Array, scores: Callable[[Array, Array], Array], once: Array) -> list[Sum]:
    """The best sums of three of the likeliest terms, all compared: none need have a pair within that comes close."""
    gain = columns @ t
    order = np.argsort(costs, kind="stable")
    quarter = TRIPLED // 4
    most = np.argsort(scores(t @ t - gain**2, costs), kind="stable")[:quarter]
    some = np.unique(np.concatenate([order[once[order] == 0][: 2 * quarter], order[once[order] > 0][:quarter], most]))
    c, gain, price, only = columns[some], gain[some], costs[some], once[some]
    gram = c @ c.T
    rest = np.tril_indices(len(some))
    found: list[Sum] = []
    for i in range(len(some)):
        beside = 1 - gram[i] ** 2
        good = beside > 1e-7
        norms = np.sqrt(np.where(good, beside, 1.0))
        one_less = (gram - np.outer(gram[i], gram[i])) / np.outer(norms, norms)
        explained = gain[i] ** 2 + _explained(one_less, np.where(good, (gain - gram[i] * gain[i]) / norms, 0.0))
        score = scores(t @ t - explained, price[i] + price[:, None] + price[None] + 2)
        score[rest] = np.inf
        score[: i + 1] = np.inf
        score[~good] = np.inf
        score[:, ~good] = np.inf
        score[(only[:, None] + only[None] + only[i]) > 1] = np.inf
        flat = np.argpartition(score, 8, axis=None)[:8]
        found += [(float(score.flat[k]), (i, int(k // len(some)), int(k % len(some)))) for k in flat]
    exact = []
    for score, local in sorted(found)[: 3 * FOLLOWED]:  # Gram matrices square rounding
        if np.isfinite(score):
            numbers = tuple(sorted(int(some[k]) for k in local))
            q = np.linalg.qr(columns[list(numbers)].T)[0].T
            exact.append((float(scores(t @ t - np.sum((q @ t) ** 2), costs[list(numbers)].sum() + 2)), numbers))
    return sorted(exact)[: 2 * FOLLOWED]


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
    order = np.argsort(pool.costs, kind="stable")[:rows]
    kept = order[np.abs(np.diag(np.linalg.qr(columns[:, order])[1])) > DEPENDENT]  # none that is a sum of cheaper ones
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
