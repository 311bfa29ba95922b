"""Problems with integrals: conditions that fix a constant, a mass or a norm, and integral equations.

    python benchmarks/integrals.py [--problems square disk] [--seeds 0 1 2] [--set KEY=VALUE …]

One thread, one solve after the other in this process; each row is printed when it is done: relative L2 error of u,
median over seeds and the worst, that of the coefficient where one is found, and seconds of training.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import jv
from torch import Tensor, cos, exp, sin

import kanpinn
from kanpinn import Box, Condition, Coordinates, Integral, KanpinnWarning, Point, Problem, Unknown
from kanpinn.geometry import Disk


@dataclass(frozen=True)
class Square(Problem):
    """Poisson's equation on the unit square, fluxes on the whole boundary, ∫u = 0; u = e^(x/2) sin(2x + 3y) − mean."""

    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")

    def residual(self, p: Point) -> Tensor:
        s, c = (exp(p.x / 2) * f(2 * p.x + 3 * p.y) for f in (sin, cos))
        return p.u_xx + p.u_yy - (2 * c - (4 + 9 - 0.25) * s)

    def conditions(self) -> list[Condition | Integral]:
        return [Condition("flux", "boundary", self.flux), Integral("mean", lambda p: p.u)]

    def flux(self, p: Point) -> Tensor:
        s, c = (exp(p.x / 2) * f(2 * p.x + 3 * p.y) for f in (sin, cos))
        return p.u_n - p.n_x * (s / 2 + 2 * c) - p.n_y * 3 * c

    def reference(self, p) -> Tensor:
        z = 0.5 + 2j
        mean = ((torch.exp(torch.tensor(z)) - 1) / z * (torch.exp(torch.tensor(3j)) - 1) / 3j).imag
        return exp(p.x / 2) * sin(2 * p.x + 3 * p.y) - mean


@dataclass(frozen=True)
class Plate(Problem):
    """The same in the unit disk; u = (1 − r²) sin(2x + 3y + 1/2) − mean, the mean 4 sin(1/2) J₂(√13)/13."""

    domain = Disk(name="rim")
    derivatives = ("xx", "yy")

    def residual(self, p: Point) -> Tensor:
        f, s, c = self.parts(p)
        return p.u_xx + p.u_yy + 4 * s + 4 * (2 * p.x + 3 * p.y) * c + 13 * f * s

    def conditions(self) -> list[Condition | Integral]:
        flux = Condition("flux", "rim", lambda p: p.u_n + 2 * self.parts(p)[1])
        return [flux, Integral("mean", lambda p: p.u)]

    def parts(self, p) -> tuple[Tensor, Tensor, Tensor]:
        """Return 1 − r², and sine and cosine of the argument."""
        at = 2 * p.x + 3 * p.y + 0.5
        return 1 - p.x**2 - p.y**2, sin(at), cos(at)

    def reference(self, p) -> Tensor:
        f, s, _ = self.parts(p)
        return f * s - 4 * math.sin(0.5) * float(jv(2, math.sqrt(13))) / 13


@dataclass(frozen=True)
class Fredholm(Problem):
    """u = f + ∫₀¹ exp(xy) u(y) dy, of the second kind, with f such that u = exp x."""

    domain = Box(x=(0, 1))
    derivatives = ()

    def residual(self, p: Point) -> Tensor:
        f = exp(p.x) - torch.expm1(p.x + 1) / (p.x + 1)
        return p.u - f - p.integral(lambda q: exp(p.x * q.x) * q.u, over="x")

    def conditions(self) -> list[Condition]:
        return []

    def reference(self, p) -> Tensor:
        return exp(p.x)


@dataclass(frozen=True)
class Volterra(Problem):
    """u' + u = ∫₀ᵗ exp(s − t) u(s) ds, u(0) = 1, t ≤ 5 (DeepXDE's example); u = exp(−t) cosh t."""

    domain = Box(t=(0, 5))
    derivatives = ("t",)

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u - p.integral(lambda q: exp(q.t - p.t) * q.u, over="t", upper=p.t)

    def conditions(self) -> list[Condition]:
        return [Condition("start", "t-", lambda p: p.u - 1)]

    def reference(self, p) -> Tensor:
        return exp(-p.t) * torch.cosh(p.t)


@dataclass(frozen=True)
class Oscillator(Problem):
    """Ground state −u''/2 + x² u/2 = E u, ∫u² = 1, E to be found: u = π^(−1/4) exp(−x²/2), E = 1/2.

    Of ±u the nearer one counts.
    """

    energy: float = Unknown(0.3)

    domain = Box(x=(-7, 7))
    derivatives = ("xx",)
    symmetry = {"x": "even"}

    def residual(self, p: Point) -> Tensor:
        return -p.u_xx / 2 + p.x**2 * p.u / 2 - self.energy * p.u

    def conditions(self) -> list[Condition | Integral]:
        return [Condition("ends", ("x-", "x+"), lambda p: p.u), Integral("norm", lambda p: p.u**2, 1.0)]

    def reference(self, p) -> Tensor:
        return math.pi**-0.25 * exp(-(p.x**2) / 2)


PLANE = (
    *("backbone.width=[10]", "backbone.degree=7", "backbone.grid=3", "schedule.levels=4"),
    *("schedule.steps=[50,40,40,40]", "sampler.interior=600", "sampler.boundary=120", "sampler.growth=1.7"),
)
LINE = (
    *("backbone.width=[4]", "backbone.degree=7", "backbone.grid=4", "schedule.levels=3", "schedule.steps=30"),
    *("sampler.interior=200", "sampler.growth=1.5"),
)
PROBLEMS: dict[str, tuple[Callable[[], Problem], tuple[str, ...], dict[str, float]]] = {
    "square": (Square, PLANE, {}),
    "disk": (Plate, PLANE, {}),
    "fredholm": (Fredholm, LINE, {}),
    "volterra": (Volterra, LINE, {}),
    "oscillator": (Oscillator, LINE, {"energy": 0.5}),
}


def solved(name: str, seed: int, overrides: list[str]) -> tuple[float, float, float, float]:
    """Return the errors of u and of the coefficient, seconds of training, and of the processor in all."""
    make, settings, exact = PROBLEMS[name]
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KanpinnWarning)
        always = ("threads=1", f"seed={seed}", "output.progress=false")
        solution = kanpinn.solve(make(), *settings, *always, *overrides)
    metrics = solution.metrics
    found = [abs(metrics["coefficients"][one]["value"] / value - 1) for one, value in exact.items()]
    error = max(metrics["relative_l2"].values())
    if exact:  # an eigenfunction, of either sign
        x = torch.linspace(-7, 7, 1401, dtype=torch.float64)[:, None]
        known = make().reference(Coordinates(("x",), [x[:, 0]])).numpy()
        u = solution(x.numpy())["u"]
        error = min(np.linalg.norm(u - sign * known) for sign in (1, -1)) / np.linalg.norm(known)
    return error, max(found, default=math.nan), metrics["wall_time_s"], time.process_time() - begun


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    print(
        "| problem | median | worst | coefficient, worst | s, median | processor s |\n|---|--:|--:|--:|--:|--:|",
        flush=True,
    )
    for name in chosen.problems:
        runs = [solved(name, seed, chosen.overrides) for seed in chosen.seeds]
        errors, others, seconds, cpu = zip(*runs, strict=True)
        found = "" if math.isnan(max(others)) else f"{max(others):.1e}"
        times = f"{statistics.median(seconds):.0f} | {statistics.median(cpu):.0f}"
        print(f"| {name} | {statistics.median(errors):.1e} | {max(errors):.1e} | {found} | {times} |", flush=True)


if __name__ == "__main__":
    main()
