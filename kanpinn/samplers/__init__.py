"""Collocation points: the rules a config may choose with `sampler=<name>`."""

from kanpinn.samplers.adaptive import Adaptive
from kanpinn.samplers.base import Draw, PointSet, Sampler
from kanpinn.samplers.quasi import Halton, LatinHypercube, Sobol, Uniform
from kanpinn.samplers.tensor import GaussLegendre, Grid

SAMPLERS: dict[str, type[Sampler]] = {
    "grid": Grid,
    "uniform": Uniform,
    "latin_hypercube": LatinHypercube,
    "sobol": Sobol,
    "halton": Halton,
    "gauss_legendre": GaussLegendre,
    "adaptive": Adaptive,
}

__all__ = ["SAMPLERS", "Draw", "PointSet", "Sampler"]
