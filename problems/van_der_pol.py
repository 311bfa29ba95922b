"""Van der Pol's equation: an oscillation that charges slowly and discharges fast."""

from dataclasses import dataclass
from functools import cache

from torch import Tensor

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.in_time import LegendrePieces, ordinary


@dataclass(frozen=True)
class VanDerPol(Problem):
    """Van der Pol's equation u'' = μ (1 - u²) u' - u, u = 2, u' = 0 at first.

    Van der Pol, Phil. Mag. 2 (1926) 978.

    Attributes:
        mu: Damping μ; the greater, the faster u changes sign.
    """

    mu: float = 2.0

    domain = Box(t=(0, 15))
    derivatives = ("tt",)
    equation = "u'' = mu (1 - u^2) u' - u"
    kind = "ODEs"
    labels = {"t": ("time", "1"), "u": ("current", "1")}
    positive = ("mu",)

    def residual(self, p: Point) -> Tensor:
        return p.u_tt - self.mu * (1 - p.u**2) * p.u_t + p.u

    def conditions(self) -> list[Condition]:
        return [Condition("initial", "t-", lambda p: p.u - 2), Condition("initial_slope", "t-", lambda p: p.u_t)]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return 2 + p.t**2 * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        return solution(self.mu)(p.t)[:, 0]


@cache
def solution(mu: float) -> LegendrePieces:
    """The solution and its slope by an integrator of order 8, right to 1e-9."""
    return ordinary(lambda _, y: [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]], [2, 0], 15.0)
