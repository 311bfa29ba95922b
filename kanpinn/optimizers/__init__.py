"""Optimisers behind one protocol."""

from kanpinn.optimizers.adam import Adam
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.lbfgs import Lbfgs
from kanpinn.optimizers.levenberg_marquardt import LevenbergMarquardt

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "levenberg_marquardt": LevenbergMarquardt,
    "lbfgs": Lbfgs,
    "adam": Adam,
}

__all__ = ["OPTIMIZERS", "Adam", "Lbfgs", "LevenbergMarquardt", "Optimizer", "Step"]
