"""Residual-based adaptive points: more of them where the equation is met worst (RAD; Wu et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from kanpinn.errors import invalid
from kanpinn.geometry.chart import Array, Chart
from kanpinn.options import option
from kanpinn.samplers.base import Sampler
from kanpinn.samplers.placing import Request
from kanpinn.samplers.quasi import equal, sobol_points


def density(residual: Array, exponent: float, offset: float) -> Array:
    """Return the density of points, |r|^k / mean(|r|^k) + c (Wu et al. 2023, eq. 2), for finite |r| `[M]`.

    Likelihoods relative to each other, not normalised, `[M]`; constant where every residual is zero.
    """
    largest = residual.max()
    # Scaled by the largest first, so that no power of a large or tiny residual leaves the floating-point range.
    powers = (residual / largest) ** exponent if largest > 0 else np.ones_like(residual)
    return powers / powers.mean() + offset


def inclusion(density: Array, count: int) -> Array:
    """Probabilities proportional to a density `[M]`, at most 1, with which points must be kept for `count` to remain.

    They sum to `count`, at most M. Points whose proportional share exceeds 1 are kept for certain and the rest share
    what is left; where too few have a density at all, those without share what they leave.
    """
    certain = np.zeros(len(density), dtype=bool)
    while True:
        open_ = ~certain
        total, left = density[open_].sum(), count - certain.sum()
        if left == 0 or total == 0:
            shares = np.full(open_.sum(), left / max(1, open_.sum()))
        else:
            shares = density[open_] * (left / total)
        above = shares > 1 + 1e-12
        if not above.any():
            probabilities = np.ones(len(density))
            probabilities[open_] = shares
            return np.minimum(probabilities, 1.0)
        certain[np.flatnonzero(open_)[above]] = True


def systematic_choice(probabilities: Array, generator: np.random.Generator) -> np.ndarray:
    """Choose n points without replacement, each with its own probability `[M]`, at most 1; they sum to n.

    Systematic sampling in random order (Madow 1949); successive draws without replacement, as of
    `numpy.random.Generator.choice`, would keep likely points less often than stated and unlikely ones more. Gives
    indices `[n]`, all different.
    """
    count = round(float(probabilities.sum()))
    order = generator.permutation(len(probabilities))
    ends = np.cumsum(probabilities[order])
    ends *= count / ends[-1]
    ticks = generator.random() + np.arange(count)
    return order[np.minimum(np.searchsorted(ends, ticks, side="right"), len(order) - 1)]


@final
@dataclass
class Adaptive(Sampler):
    """Residual-based adaptive points: drawn in proportion to |r|^k / mean|r|^k + c (RAD, Wu et al. 2023).

    The candidates are scrambled Sobol points, and so are those on pieces and, without a residual, those inside.
    They follow the residual only when drawn anew, hence a `resample_every` that is not 0.
    """

    candidates: int = option(5, "candidate points per point kept", at_least=1, at_most=10_000)
    exponent: float = option(1.0, "k in |r|^k / mean|r|^k + c; 0: uniform points", at_least=0, at_most=100)
    offset: float = option(1.0, "c in |r|^k / mean|r|^k + c; the larger, the more even", at_least=0, at_most=1e12)
    unbiased: bool = option(False, "weigh points so that sums estimate integrals over the box")

    def check(self) -> None:
        super().check()
        if self.unbiased and self.offset == 0:
            raise invalid("sampler.offset", self.offset, "a number above 0 with sampler.unbiased=true")

    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        if request.residual is None:
            return equal(chart, sobol_points(chart, count, request.generator))
        pool = sobol_points(chart, self.candidates * count, request.generator)
        probabilities = inclusion(density(request.residual(pool), self.exponent, self.offset), count)
        kept = systematic_choice(probabilities, request.generator)
        if not self.unbiased:
            return equal(chart, pool[kept])
        return pool[kept], chart.measure / len(pool) / probabilities[kept]
