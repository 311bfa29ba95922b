"""Collocation points: the rules a config may choose with `sampler=<name>`."""

from kanpinn.samplers.base import Sampler
from kanpinn.samplers.placing import CollocationSample, PointSet
from kanpinn.samplers.quasi import Adaptive, Halton, LatinHypercube, Sobol, Uniform
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

__all__ = ["SAMPLERS", "CollocationSample", "PointSet", "Sampler"]
