"""Physics-informed Kolmogorov-Arnold networks, trained level by level on exactly nested splines."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# The threads of torch wait for each other hundreds of times a step. By default they spin for milliseconds, which on a
# core that other work needs too more than doubles the time of a step; a short spin costs little on an idle machine.
# It has an effect only if torch is not imported yet.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from kanpinn import geometry
    from kanpinn.api import compile, fit, load, resume, solve
    from kanpinn.backbones import ChebyKan, Kan, Mlp, MultKan, ReluKan, Separable
    from kanpinn.errors import DivergedError, Interrupted, KanpinnWarning, UndeterminedError, UserError
    from kanpinn.geometry import Box, Coordinates
    from kanpinn.jets.jet import Jet
    from kanpinn.least_squares.weighting import Causal, Fixed, ResidualAttention
    from kanpinn.multilevel.schedules import Custom, Fmg, Nested, Single, VCycle, WCycle
    from kanpinn.optimizers import (
        Adam,
        GaussNewtonCg,
        GradientDescent,
        Lbfgs,
        LevenbergMarquardt,
        Relaxation,
        SsBroyden,
        VariableProjection,
    )
    from kanpinn.pde import Condition, Data, Integral, Parameter, Point, Problem, Unknown
    from kanpinn.samplers import Adaptive, GaussLegendre, Grid, Halton, LatinHypercube, Sobol, Uniform
    from kanpinn.solution import Solution

_HOMES = {
    "api": "compile fit load resume solve",
    "backbones": "ChebyKan Kan Mlp MultKan ReluKan Separable",
    "errors": "DivergedError Interrupted KanpinnWarning UndeterminedError UserError",
    "jets.jet": "Jet",
    "least_squares.weighting": "Causal Fixed ResidualAttention",
    "multilevel.schedules": "Custom Fmg Nested Single VCycle WCycle",
    "optimizers": "Adam GaussNewtonCg GradientDescent Lbfgs LevenbergMarquardt Relaxation SsBroyden VariableProjection",
    "geometry": "Box Coordinates",
    "pde": "Condition Data Integral Parameter Point Problem Unknown",
    "samplers": "Adaptive GaussLegendre Grid Halton LatinHypercube Sobol Uniform",
    "solution": "Solution",
}
_PLACES = {name: f"kanpinn.{module}" for module, names in _HOMES.items() for name in names.split()}

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `import kanpinn` alone does not load torch."""
    if name == "__all__":  # but for compile, which would hide Python's
        return [*_PLACES.keys() - {"compile"}, "geometry"]
    if name == "geometry":
        return importlib.import_module("kanpinn.geometry")
    if name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module 'kanpinn' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
