"""Random and low-discrepancy points of equal weight: uniform, Latin hypercube, Sobol and Halton."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any, final

import numpy as np
from scipy.stats import qmc

from kanpinn.samplers.base import ArrayResidual, Sampler
from kanpinn.samplers.faces import Array, Region

# SciPy renamed the generator argument of its engines in 1.15.
_GENERATOR = "rng" if "rng" in signature(qmc.Sobol).parameters else "seed"


def _drawn_by(generator: np.random.Generator) -> dict[str, Any]:
    """The keyword that hands a generator to a SciPy engine."""
    return {_GENERATOR: generator}


def equal(region: Region, points: Array) -> tuple[Array, Array]:
    """Give points `[N, d]` of a region the equal weights `[N]` that sum to its measure."""
    return points, np.full(len(points), region.measure / len(points))


def sobol_points(region: Region, count: int, generator: np.random.Generator) -> Array:
    """The first `count` points `[count, d]` of a scrambled Sobol sequence (Owen 1998), stretched into a region.

    A power of two is drawn and cut: a Sobol sequence is balanced over its leading powers of two, and any leading part
    of it fills the box as evenly as the sequence does.
    """
    engine = qmc.Sobol(region.dimension, scramble=True, **_drawn_by(generator))
    return region.stretch(engine.random_base2((count - 1).bit_length())[:count])


@final
@dataclass
class Uniform(Sampler):
    """Independent uniform random points (plain Monte Carlo)."""

    def place(
        self, region: Region, count: int, generator: np.random.Generator, residual: ArrayResidual | None
    ) -> tuple[Array, Array]:
        return equal(region, region.stretch(generator.random((count, region.dimension))))


@final
@dataclass
class LatinHypercube(Sampler):
    """Latin hypercube: in every coordinate, one random point in each of N equal strata."""

    def place(
        self, region: Region, count: int, generator: np.random.Generator, residual: ArrayResidual | None
    ) -> tuple[Array, Array]:
        engine = qmc.LatinHypercube(region.dimension, **_drawn_by(generator))
        return equal(region, region.stretch(engine.random(count)))


@final
@dataclass
class Sobol(Sampler):
    """Scrambled Sobol points, evenly spread; best balanced when the number is a power of two."""

    def place(
        self, region: Region, count: int, generator: np.random.Generator, residual: ArrayResidual | None
    ) -> tuple[Array, Array]:
        return equal(region, sobol_points(region, count, generator))


@final
@dataclass
class Halton(Sampler):
    """Scrambled Halton points, evenly spread for any number of them."""

    def place(
        self, region: Region, count: int, generator: np.random.Generator, residual: ArrayResidual | None
    ) -> tuple[Array, Array]:
        engine = qmc.Halton(region.dimension, scramble=True, **_drawn_by(generator))
        return equal(region, region.stretch(engine.random(count)))
