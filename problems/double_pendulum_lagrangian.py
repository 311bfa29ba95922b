"""A law of motion from accelerations: the Lagrangian of a double pendulum."""

from dataclasses import dataclass

from numpy import linspace, zeros
from torch import Tensor, cos, sin

from kanpinn import Box, Condition, Coordinates, Point, Problem
from kanpinn.geometry import Points


@dataclass(frozen=True)
class DoublePendulumLagrangian(Problem):
    """Find L = A v1²/2 + B v1 v2 + C v2²/2 - V, functions of angles q1, q2, from accelerations of a double pendulum.

    The Lagrangian of Liu et al. 2024 (KAN 2.0, arXiv:2408.10205), sec. 5, with masses, lengths and gravity 1. Angles
    are from the vertical.

    Attributes:
        kinetic: True if the kinetic energy, A, B and C, is given, false if it is where both angles are equal.
    """

    kinetic: bool = False

    domain = Box(q1=(-2, 2), q2=(-2, 2), v1=(-1, 1), v2=(-1, 1))
    unknowns = ("A", "B", "C", "V")
    depends = dict.fromkeys(("A", "B", "C", "V"), ("q1", "q2"))
    derivatives = ("q1", "q2")
    equation = "d/dt dL/dv = dL/dq, L = A v1^2/2 + B v1 v2 + C v2^2/2 - V"
    kind = "laws"
    labels = {"V": ("potential", "1")}

    def residual(self, p: Point) -> dict[str, Tensor]:
        a1, a2 = self.measured(p)
        first = p.A * a1 + p.B * a2 + p.A_q1 * p.v1**2 / 2 + p.A_q2 * p.v1 * p.v2 + p.B_q2 * p.v2**2
        second = p.B * a1 + p.C * a2 + p.C_q2 * p.v2**2 / 2 + p.C_q1 * p.v1 * p.v2 + p.B_q1 * p.v1**2
        return {"first": first - p.C_q1 * p.v2**2 / 2 + p.V_q1, "second": second - p.A_q2 * p.v1**2 / 2 + p.V_q2}

    def conditions(self) -> list[Condition]:
        rest = Points(q1=[0.0], q2=[0.0], v1=[0.0], v2=[0.0])
        angle, zero = linspace(-2, 2, 21), zeros(21)
        where = "domain" if self.kinetic else Points(q1=angle, q2=angle, v1=zero, v2=zero)
        inertia = {"A": lambda p: p.A - 2, "B": lambda p: p.B - cos(p.q1 - p.q2), "C": lambda p: p.C - 1}
        kinetic = Condition("kinetic", where, lambda p: {name: residual(p) for name, residual in inertia.items()})
        return [kinetic, Condition("rest", rest, lambda p: p.V)]

    def measured(self, p: Coordinates | Point) -> tuple[Tensor, Tensor]:
        """The accelerations at states q1, q2, v1, v2 `[N]`: the solution of A a1 + B a2 = f1, B a1 + C a2 = f2."""
        c, s = cos(p.q1 - p.q2), sin(p.q1 - p.q2)
        f1, f2 = -s * p.v2**2 - 2 * sin(p.q1), s * p.v1**2 - sin(p.q2)
        return (f1 - c * f2) / (2 - c * c), (2 * f2 - c * f1) / (2 - c * c)

    def reference(self, p: Coordinates | Point) -> dict[str, Tensor]:
        one = 1 + 0 * p.q1
        return {"A": 2 * one, "B": cos(p.q1 - p.q2), "C": one, "V": 3 - 2 * cos(p.q1) - cos(p.q2)}
