"""Optimisers behind one protocol."""

from kanpinn.optimizers.base import Optimizer
from kanpinn.optimizers.first_order import Adam, GradientDescent
from kanpinn.optimizers.gauss_newton_cg import GaussNewtonCg
from kanpinn.optimizers.lbfgs import Lbfgs
from kanpinn.optimizers.levenberg_marquardt import LevenbergMarquardt
from kanpinn.optimizers.relaxation import Relaxation
from kanpinn.optimizers.ssbroyden import SsBroyden
from kanpinn.optimizers.variable_projection import VariableProjection

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "levenberg_marquardt": LevenbergMarquardt,
    "gauss_newton_cg": GaussNewtonCg,
    "variable_projection": VariableProjection,
    "lbfgs": Lbfgs,
    "ssbroyden": SsBroyden,
    "adam": Adam,
    "gradient_descent": GradientDescent,
    "relaxation": Relaxation,
}
