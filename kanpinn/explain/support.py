"""Support of a table's rows: whether there are any where a network is asked how its function is built.

Structure is asked all over the box of the inputs, and shares of the variance with columns shuffled. Where two inputs go
together, or one follows from the others, many of these places are far from any row, and what the network says there is
its own: the data do not say it. Far is measured by rows whose inputs are shuffled, so that few values, or values that
crowd in some places, are no cause for a warning.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Array = NDArray[np.float64]

EMPTY = 0.4
"""Share of places far from any row, these made of inputs of different rows, from which on a warning is given."""

FAR = 1.5
"""Far is so many times the distance within which there is a row for 95 % of places, if the inputs are independent."""

FOLLOWS = 0.98
"""Share of an input's variance that a linear function of the others says, from which on it follows from them."""

ROWS = 2000
"""Most rows among which the nearest is looked for, drawn at random."""

PAIRS = 100
"""Most pairs of inputs that are looked at."""


def warnings_of(rows: Array, names: Sequence[str]) -> list[str]:
    """Return a sentence for every pair of inputs that goes together, and every input that follows from the others.

    Args:
        rows: Inputs `[N, d]`.
        names: Their names.
    """
    generator = np.random.default_rng(3)
    some = rows if len(rows) <= ROWS else rows[generator.permutation(len(rows))[:ROWS]]
    low, width = some.min(0), np.ptp(some, axis=0)
    unit = (some - low) / np.where(width > 0, width, 1.0)
    found, known = [], set[str]()
    for i, j in itertools.islice(itertools.combinations(range(len(names)), 2), PAIRS):
        empty = empty_share(unit[:, [i, j]])
        if empty > EMPTY:
            known |= {names[i], names[j]}
            found.append(
                f"{names[i]} and {names[j]} go together in the rows: {100 * empty:.0f} % of the places asked lie far "
                "from any row, and shares, scores and structure in both are the network's guess there"
            )
    for name, share in zip(names, followed(unit), strict=True):
        if share > FOLLOWS and name not in known:
            others = ", ".join(one for one in names if one != name) if len(names) < 6 else "the other inputs"
            found.append(
                f"{name} follows from {others} in the rows ({100 * share:.1f} % of its variance): they do not say what "
                "it does by itself, and shares, scores and structure in it are the network's guess"
            )
            break  # the others of the same relation follow just as well
    return found


def empty_share(unit: Array) -> float:
    """Return the share of places that is far from any row `[N, d]`, the places made of inputs of different rows."""
    generator = np.random.default_rng(4)
    places, spread = generator.permuted(unit, axis=0), generator.permuted(unit, axis=0)
    limit = FAR * float(np.quantile(KDTree(spread).query(places)[0], 0.95))
    return float(np.mean(KDTree(unit).query(places)[0] > limit))


def followed(unit: Array) -> list[float]:
    """Return the share of every input's variance that a linear function of the others says `[d]`; 0 for constants."""
    centred, found = unit - unit.mean(0), []
    for k in range(unit.shape[1]):
        others = np.delete(centred, k, 1)
        size = float(centred[:, k] @ centred[:, k])
        if not size or not others.shape[1] or len(unit) <= 2 * unit.shape[1]:
            found.append(0.0)
            continue
        rest = centred[:, k] - others @ np.linalg.lstsq(others, centred[:, k], rcond=None)[0]
        found.append(1 - float(rest @ rest) / size)
    return found
