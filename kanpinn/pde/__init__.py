"""PDE problems: domain, unknowns, equations, conditions, reference."""

from kanpinn.pde.condition import Condition
from kanpinn.pde.data import Data
from kanpinn.pde.integral import Integral
from kanpinn.pde.parameter import Parameter
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem
from kanpinn.pde.unknown import Unknown

__all__ = ["Condition", "Data", "Integral", "Parameter", "Point", "Problem", "Unknown"]
