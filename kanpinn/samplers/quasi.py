"""Random and low-discrepancy points, and of these, in proportion to the residual, adaptive ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, final

import numpy as np

from kanpinn.errors import UserError, invalid
from kanpinn.geometry.chart import Array, Chart
from kanpinn.options import option
from kanpinn.pde import Problem
from kanpinn.pde.problem import region_of
from kanpinn.samplers.base import Sampler
from kanpinn.samplers.placing import Request


def _engine(name: str, dimension: int, generator: np.random.Generator) -> Any:
    """One of SciPy's engines of scrambled low-discrepancy points, "Sobol", "Halton" or "LatinHypercube"."""
    # Imported here: scipy.stats takes as long to import as composing a config takes.
    from scipy.stats import qmc

    kind = getattr(qmc, name)
    # SciPy renamed the generator argument in 1.15.
    source = "rng" if "rng" in signature(kind).parameters else "seed"
    return kind(dimension, **{source: generator})


MOST = 30
"""Multiple of the points that should be enough up to which more are drawn."""


def equal(chart: Chart, points: Array) -> tuple[Array, Array]:
    """Give points `[N, d]` of a set the equal weights `[N]` that sum to its measure."""
    return points, np.full(len(points), chart.measure / len(points))


def fill(chart: Chart, count: int, draw: Callable[[int], Array]) -> Array:
    """Fill a set by a rule for the unit cube, `[count, d]`; where only a part of it counts, by rejection.

    `draw` gives any number of points `[n, k]` of the unit cube of the chart's k parameters, new ones on every call;
    taken is a leading part of those that count. Raises UserError where hardly any do, as by a rule that counts points.
    """
    part = chart.part
    if part is None:
        return chart.stretched(draw(count))
    asked = first = math.ceil(count / chart.share)
    while True:
        points = chart.stretched(draw(asked))
        points = points[part(points)]
        if len(points) >= count:
            return points[:count]
        if asked > MOST * first:
            raise UserError(
                f"only {len(points)} of {asked} points of the domain are in a part that holds {chart.share:.1g} of it; "
                "expected a rule (inside, where) that asks of every point the same"
            )
        asked += max(2, asked // 20 if asked < 2 * first else asked)


def sobol_points(chart: Chart, count: int, generator: np.random.Generator) -> Array:
    """Return the first `count` points `[count, d]` of a scrambled Sobol sequence (Owen 1998), mapped onto a set.

    A power of two is drawn and cut: a Sobol sequence is balanced over its leading powers of two, and any leading part
    of it fills the cube as evenly as the sequence does.
    """

    def draw(n: int) -> Array:
        engine = _engine("Sobol", chart.dimension, generator)
        return engine.random_base2((n - 1).bit_length())[:n]

    return fill(chart, count, draw)


@dataclass
class Even(Sampler):
    """Points of equal density; of an evolution equation some of them early, where errors have most time to grow."""

    early: float = option(
        0.0, "share of the interior points drawn early, for equations whose errors grow", at_least=0, below=1
    )
    early_rate: float = option(
        6.0, "rate at which the density of those falls, per length of the time interval", at_least=1e-3, at_most=1e3
    )

    def check_problem(self, problem: Problem) -> None:
        super().check_problem(problem)
        if self.early and "t" not in problem.domain.names:
            raise invalid("sampler.early", self.early, "0 for a problem without a time t")
        if self.early and region_of(problem).chart.part is not None:
            raise invalid("sampler.early", self.early, "0 for a problem on a part of its box")

    def moved(self, problem: Problem, points: Array, weights: Array) -> tuple[Array, Array]:
        if not self.early:
            return points, weights
        self.check_problem(problem)
        column = problem.domain.names.index("t")
        start, end = problem.domain.interval("t")
        rate = self.early_rate
        within = -math.expm1(-rate)
        tau = (points[:, column] - start) / (end - start)
        count = round(self.early * len(points))
        first, share = slice(0, count), count / len(points)  # a leading part of a sequence is even too
        tau[first] = -np.log1p(-tau[first] * within) / rate  # inverse of the distribution function
        points = points.copy()
        points[:, column] = start + (end - start) * tau
        density = 1 - share + share * rate * np.exp(-rate * tau) / within
        return points, weights / density


@final
@dataclass
class Uniform(Even):
    """Independent uniform random points (plain Monte Carlo)."""

    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        return equal(chart, fill(chart, count, lambda n: request.generator.random((n, chart.dimension))))


@final
@dataclass
class LatinHypercube(Even):
    """Latin hypercube: in every coordinate, one random point in each of N equal strata."""

    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        engine = _engine("LatinHypercube", chart.dimension, request.generator)
        return equal(chart, fill(chart, count, engine.random))


@final
@dataclass
class Sobol(Even):
    """Scrambled Sobol points, evenly spread; best balanced when the number is a power of two."""

    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        return equal(chart, sobol_points(chart, count, request.generator))


@final
@dataclass
class Halton(Even):
    """Scrambled Halton points, evenly spread for any number of them."""

    def place(self, chart: Chart, count: int, request: Request) -> tuple[Array, Array]:
        engine = _engine("Halton", chart.dimension, request.generator)
        return equal(chart, fill(chart, count, engine.random))


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
