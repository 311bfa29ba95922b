"""PDE problems: domain, unknowns, equations, conditions, reference."""

from kanpinn.pde.condition import Condition
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem

__all__ = ["Condition", "Point", "Problem"]
