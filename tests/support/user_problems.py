"""Problems as a user writes them to a file of their own."""

DECAY = '''
from dataclasses import dataclass
from kanpinn.geometry import Box
from kanpinn.pde import Condition, Problem


@dataclass(frozen=True)
class Decay(Problem):
    """Decay u_t + rate u = 0."""

    rate: float = 1.0

    domain = Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + self.rate * p.u

    def conditions(self):
        return [Condition("initial", "t-", lambda p: p.u - 1)]
'''
