"""One network for all values of a coefficient: the error over them, and beside solves of single values.

    python benchmarks/parametric.py waves [overrides …] [--seeds 0 1 2 3 4]
    python benchmarks/parametric.py heat [overrides …] [--seeds 0]

`waves` is u'' = −(kπ)² sin kπx, u(0) = 0, u(1) = sin kπ for k from 1 to 4. `heat` is the shipped problem for alpha from
0.1 to 0.5, and solves of nine single values besides.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from math import pi

import numpy as np
from torch import sin

import kanpinn as kp

GIVEN = ("threads=1", "output.figures=false", "output.progress=false")
WAVES = (
    kp.Separable(width=[], rank=16, degree=7, grid=4),
    "schedule.levels=5",
    "schedule.steps=[40,40,40,60,60]",
    "sampler.growth=1.5",
)
HEAT = ("problem=heat", "backbone.rank=12", "schedule.levels=2", "schedule.steps=60")


@dataclass(frozen=True)
class Waves(kp.Problem):
    """u'' = −(kπ)² sin kπx, u(0) = 0, u(1) = sin kπ."""

    k: float = kp.Parameter(1, 4)

    domain = kp.Box(x=(0, 1))
    derivatives = ("xx",)
    equation = "u_xx = -(k pi)^2 sin(k pi x)"

    def residual(self, p):
        return p.u_xx + (self.k * pi) ** 2 * self.reference(p)

    def conditions(self):
        return [kp.Condition("ends", "boundary", lambda p: p.u - self.reference(p))]

    def reference(self, p):
        return sin(self.k * pi * p.x)


def waves(seed: int, more: list[str]) -> str:
    """Solve the waves and return a line of results."""
    network, *own = WAVES
    if any(text.startswith("backbone") for text in more):
        network = kp.Kan()
    began = time.perf_counter()
    solution = kp.solve(Waves(), network, *own, *GIVEN, f"seed={seed}", *more)
    found = solution.metrics
    return f"{found['relative_l2']['u']:.1e}, {time.perf_counter() - began:.0f} s, {found['parameters']} parameters"


def heat(seed: int, more: list[str]) -> str:
    """Solve the heat equation for all values and for nine of them; return a line of results."""
    values = np.linspace(0.1, 0.5, 9)
    x, t = np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41))
    points = np.stack([x.ravel(), t.ravel()], axis=1)
    began = time.perf_counter()
    whole = kp.solve([*HEAT, *GIVEN, "parameters={alpha: [0.1, 0.5]}", f"seed={seed}", *_place("all"), *more])
    seconds, errors, single, each = time.perf_counter() - began, [], [], 0.0
    for value in values:
        exact = np.exp(-value * pi**2 * points[:, 1]) * np.sin(pi * points[:, 0])
        began = time.perf_counter()
        one = kp.solve([*HEAT, *GIVEN, f"problem.alpha={value}", f"seed={seed}", *_place(f"{value:g}"), *more])
        each += time.perf_counter() - began
        at = np.column_stack([points, np.full(len(points), value)])
        for found, kept in ((whole(at)["u"], errors), (one(points)["u"], single)):
            kept.append(float(np.linalg.norm(found - exact) / np.linalg.norm(exact)))
    one, nine = (f"{max(found):.1e} (median {np.median(found):.1e})" for found in (errors, single))
    return f"one network {one}, {seconds:.0f} s; nine solves {nine}, {each:.0f} s"


def _place(name: str) -> list[str]:
    return [f"hydra.run.dir=outputs/parametric/{name}_{time.time_ns()}"]


def main() -> None:
    """Solve for every seed and print a line for each."""
    parser = argparse.ArgumentParser(description="One network for all values of a coefficient.")
    parser.add_argument("problem", choices=["waves", "heat"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given, more = parser.parse_known_args()
    for seed in given.seeds:
        print(f"{given.problem}, seed {seed}: {(waves if given.problem == 'waves' else heat)(seed, more)}", flush=True)


if __name__ == "__main__":
    main()
