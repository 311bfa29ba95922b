"""Solve an equation of your own: a class in this script (or in a notebook cell), no file, no config."""

from dataclasses import dataclass

import torch

import kanpinn


@dataclass(frozen=True)
class Fisher(kanpinn.Problem):
    """Fisher's equation u_t = u_xx + rate u (1 - u), with a travelling wave as its solution."""

    rate: float = 6.0

    domain = kanpinn.Box(x=(-5, 5), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        return p.u_t - p.u_xx - self.rate * p.u * (1 - p.u)

    def conditions(self):
        return [kanpinn.Condition("edge", ("t-", "x-", "x+"), lambda p: p.u - self.reference(p))]

    def reference(self, p):  # Ablowitz and Zeppetella 1979
        return (1 + torch.exp((self.rate / 6) ** 0.5 * p.x - 5 / 6 * self.rate * p.t)) ** -2


solution = kanpinn.solve(
    Fisher(rate=4.0),
    kanpinn.Kan(width=[6], degree=5, grid=4),
    kanpinn.Nested(levels=3, steps=40),
    "sampler.interior=800",
    "sampler.resample_every=5",
)
print(f"relative L2 error {solution.metrics['relative_l2']['u']:.1e}")
solution.plot().savefig("fisher.png")
