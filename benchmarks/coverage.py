"""Coverage of the 95 % intervals of coefficients found from noisy data: many draws of the noise, one process.

    python benchmarks/coverage.py [--draws 200] [--problem decay|heat] [--noise 0.01] [--first 0]

Every draw is a solve of its own, from the same start: the network, the coefficient and the interval. Prints how many
intervals hold the true value, with the binomial standard error, and the scatter of the estimates in units of the
standard deviations given.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import curve_fit

import kanpinn as kp

TRUE = {"decay": 1.7, "heat": 0.3}
TABLE: dict[str, np.ndarray] = {}
"""Data of the draw under way."""


@dataclass(frozen=True)
class Decay(kp.Problem):
    """u' = −k u from 1, at 40 times: u = exp(−k t)."""

    k: float = kp.Unknown(1.0, lower=0)

    domain = kp.Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + self.k * p.u

    def conditions(self):
        return [kp.Condition("start", "t-", lambda p: p.u - 1), kp.Data("sensors", TABLE)]


@dataclass(frozen=True)
class Heat(kp.Problem):
    """u_t = k u_xx, u = 0 at both ends, sin πx at first, at 100 points: u = exp(−k π² t) sin πx."""

    k: float = kp.Unknown(0.15, lower=0)

    domain = kp.Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        return p.u_t - self.k * p.u_xx

    def conditions(self):
        return [
            kp.Condition("initial", "t-", lambda p: p.u - torch.sin(math.pi * p.x)),
            kp.Condition("boundary", ("x-", "x+"), lambda p: p.u),
            kp.Data("sensors", TABLE),
        ]


NETWORKS = {"decay": kp.Kan(width=[3], degree=5, grid=4), "heat": kp.Kan(width=[4], degree=5, grid=4)}
GIVEN = {
    "decay": ("schedule.levels=1", "schedule.steps=40", "sampler.interior=400"),
    "heat": ("schedule.levels=1", "schedule.steps=60", "sampler.interior=600", "sampler.boundary=100"),
}


CLOSED = {
    "decay": lambda table, k: np.exp(-k * table["t"]),
    "heat": lambda table, k: np.exp(-k * math.pi**2 * table["t"]) * np.sin(math.pi * table["x"]),
}
"""Solutions for any k."""


def closed(problem: str) -> tuple[float, float]:
    """Return k and its standard deviation by nonlinear least squares with the closed form, for the draw under way."""
    (value,), covariance = curve_fit(CLOSED[problem], TABLE, TABLE["u"], p0=[TRUE[problem]])
    return float(value), math.sqrt(covariance[0, 0])


def rms(values: list[float]) -> float:
    """Return the root of the mean square."""
    return math.sqrt(float(np.mean(np.square(values))))


def drawn(problem: str, noise: float, draw: int) -> dict[str, np.ndarray]:
    """Data of one draw: values at points that stay, with noise of a share of the largest value."""
    places, k = np.random.default_rng(2026), TRUE[problem]
    points = {"t": places.uniform(0, 1, 40)}
    if problem == "heat":
        points = {"x": places.uniform(0, 1, 100), "t": places.uniform(0, 1, 100)}
    values = CLOSED[problem](points, k)
    return {**points, "u": values + noise * np.random.default_rng(draw).standard_normal(len(values))}


def main() -> None:
    """Solve every draw and print the coverage."""
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals.")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw, its seed")
    parser.add_argument("--problem", choices=sorted(TRUE), default="decay")
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("more", nargs="*", help="further overrides, such as weighting.terms.interior=100")
    given = parser.parse_args()
    problem = {"decay": Decay, "heat": Heat}[given.problem]()
    inside, scores, widths, ratios, shifts, began = 0, [], [], [], [], time.perf_counter()
    for draw in range(given.first, given.first + given.draws):
        TABLE.update(drawn(given.problem, given.noise, draw))
        settings = (*GIVEN[given.problem], "threads=1", "output.points=11", "output.progress=false", *given.more)
        found = kp.solve(problem, NETWORKS[given.problem], *settings).metrics["coefficients"]["k"]
        low, high = found["interval_95"]
        inside += low <= TRUE[given.problem] <= high
        scores.append((found["value"] - TRUE[given.problem]) / found["std"])
        widths.append(found["std"])
        value, std = closed(given.problem)
        ratios.append(found["std"] / std)
        shifts.append((found["value"] - value) / std)
    share = inside / given.draws
    error = math.sqrt(share * (1 - share) / given.draws)
    seconds = (time.perf_counter() - began) / given.draws
    print(f"{given.problem}, {given.draws} draws at {100 * given.noise:g} % noise, {seconds:.2f} s each")
    print(f"{100 * share:.1f} ± {100 * error:.1f} % of the 95 % intervals hold k; median std {np.median(widths):.3g}")
    print(f"(estimate - k)/std: mean {np.mean(scores):+.2f}, deviation {np.std(scores):.2f}")
    print(f"std over that of least squares with the closed form: median {np.median(ratios):.3f}")
    print(f"estimate - closed form's, in its std: largest {np.max(np.abs(shifts)):.2f}, rms {rms(shifts):.3f}")


if __name__ == "__main__":
    main()
