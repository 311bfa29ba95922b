"""A hard problem: a thin boundary layer. What to try, and how to see without a reference that it worked.

u_x - eps u_xx = 1 on [0, 1], u = 0 at both ends: a layer of width eps at x = 1 (a standard test of convection-dominated
methods; Roos, Stynes and Tobiska 2008, ch. I.1). Two signs tell a wrong solution from a right one: the residual at
points that the training has not seen, and a second run with another seed.
"""

import math
from dataclasses import dataclass

import numpy as np

import kanpinn


@dataclass(frozen=True)
class Layer(kanpinn.Problem):
    """Convection and diffusion with a boundary layer."""

    eps: float = 0.005

    domain = kanpinn.Box(x=(0, 1))
    derivatives = ("x", "xx")

    def residual(self, p):
        return p.u_x - self.eps * p.u_xx - 1

    def conditions(self):
        return [kanpinn.Condition("ends", ("x-", "x+"), lambda p: p.u)]


x = np.linspace(0, 1, 20_001)[:, None]
eps = Layer().eps
truth = x[:, 0] - (np.exp((x[:, 0] - 1) / eps) - math.exp(-1 / eps)) / (1 - math.exp(-1 / eps))


def relative(a, b):
    """Relative L2 difference."""
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def residual(solution):
    """Root mean square of the residual at 20 001 points."""
    u_x, u_xx = (solution.derivative(x, "u", name) for name in ("x", "xx"))
    return np.sqrt(np.mean((u_x - eps * u_xx - 1) ** 2))


attempts = {
    "40 fixed points": ["schedule.levels=1", "sampler=uniform", "sampler.interior=40", "sampler.resample_every=0"],
    "200 new ones every 5 steps": ["schedule.levels=1", "sampler.interior=200", "sampler.resample_every=5"],
    "and four levels": [
        "schedule.levels=4",
        "schedule.steps=[100,50,30,20]",
        "sampler.interior=200",
        "sampler.resample_every=5",
    ],
}
print("attempt                        loss  residual elsewhere  seeds differ by  error")
for name, overrides in attempts.items():
    common = ["weighting.terms.ends=0.01", *overrides]
    first, second = (kanpinn.solve(Layer(), *common, f"seed={seed}") for seed in (0, 1))
    u, v = first(x)["u"], second(x)["u"]
    loss, elsewhere = first.metrics["loss"], residual(first)
    print(f"{name:27s} {loss:.1e} {elsewhere:19.1e} {relative(v, u):16.1e} {relative(u, truth):6.1e}")
