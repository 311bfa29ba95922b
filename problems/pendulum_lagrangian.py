"""A law of motion from accelerations: the Lagrangian of a pendulum."""

from dataclasses import dataclass

from torch import Tensor, cos, sin

from kanpinn import Box, Condition, Coordinates, Point, Problem
from kanpinn.geometry import Points


@dataclass(frozen=True)
class PendulumLagrangian(Problem):
    """Find L = T(v) - V(q) with d/dt ∂L/∂v = ∂L/∂q from accelerations q'' = -ω² sin q of a pendulum.

    The Lagrangian of Liu et al. 2024 (KAN 2.0, arXiv:2408.10205), sec. 5. In one dimension every function of the
    energy gives the same motion; a sum of a function of v and one of q is determined up to a factor, here the mass, and
    constants.

    Attributes:
        omega: Angular frequency ω of small oscillations; positive.
        kinetic: True if T = v²/2 is given, false if only the mass, T'' = 1 at rest.
    """

    omega: float = 1.0
    kinetic: bool = False

    domain = Box(q=(-3, 3), v=(-2, 2))
    unknowns = ("T", "V")
    depends = {"T": ("v",), "V": ("q",)}
    derivatives = ("vv", "q")
    equation = "d/dt dL/dv = dL/dq, L = T - V"
    kind = "laws"
    labels = {
        "q": ("angle", "1"),
        "v": ("angular velocity", "1"),
        "T": ("kinetic energy", "1"),
        "V": ("potential", "1"),
    }
    positive = ("omega",)

    def residual(self, p: Point) -> Tensor:
        return p.T_vv * self.measured(p) + p.V_q

    def conditions(self) -> list[Condition]:
        rest = Points(q=[0.0], v=[0.0])
        if self.kinetic:
            kinetic = Condition("kinetic", "domain", lambda p: p.T - p.v**2 / 2)
        else:
            kinetic = Condition("mass", rest, lambda p: {"T": p.T, "momentum": p.T_v, "mass": p.T_vv - 1})
        return [kinetic, Condition("rest", rest, lambda p: p.V)]

    def measured(self, p: Coordinates | Point) -> Tensor:
        """The acceleration at states q, v `[N]`."""
        return -(self.omega**2) * sin(p.q)

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        return {"T": p.v**2 / 2, "V": self.omega**2 * (1 - cos(p.q))}
