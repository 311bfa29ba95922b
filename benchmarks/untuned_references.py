"""References of the problems in `untuned.yaml` that have no closed one: by SciPy to 1e-10, by Fourier modes to 1e-8."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import pi

import numpy as np
import torch
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq
from torch import Tensor

from kanpinn.geometry import Coordinates
from kanpinn.references.fourier import Evolution, FourierSolution
from kanpinn.references.in_time import LegendrePieces, ordinary

RATES: dict[str, Callable] = {
    "lorenz": lambda _, y: [10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]],
    "brusselator": lambda _, y: [1 + y[0] ** 2 * y[1] - 4 * y[0], 3 * y[0] - y[0] ** 2 * y[1]],
    "kepler": lambda _, y: [y[2], y[3], *(-y[:2] / np.hypot(y[0], y[1]) ** 3)],
    "blasius": lambda _, y: [y[1], y[2], -y[0] * y[2] / 2],
    "troesch": lambda _, y: [y[1], 10 * np.sinh(10 * y[0])],
    "duffing": lambda t, y: [y[1], 0.37 * np.cos(1.2 * t) - 0.3 * y[1] + y[0] - y[0] ** 3],
}
"""Rates y' of systems of the first order, by problem."""


def slope_of_troesch() -> float:
    """Return u'(0), by the first integral u'² = u'(0)² + 2 (cosh 10u - 1)."""

    def length(log_slope: float) -> float:
        slope = np.exp(log_slope)
        # u = slope/10 sinh v: the integrand is then smooth
        end = np.arcsinh(10 / slope)
        f = lambda v: np.cosh(v) / np.sqrt(1 + (2 / slope * np.sinh(slope / 2 * np.sinh(v))) ** 2)  # noqa: E731
        return quad(lambda v: f(v) / 10, 0, end, epsabs=0, epsrel=1e-13, limit=500)[0] - 1

    return float(np.exp(brentq(length, -12, 0, xtol=1e-14)))


def curvature_of_blasius() -> float:
    """Return u''(0), by shooting."""

    def missed(curvature: float) -> float:
        found = solve_ivp(RATES["blasius"], (0, 8), [0, 0, curvature], method="DOP853", rtol=1e-13, atol=1e-13)
        return found.y[1, -1] - 1

    return float(brentq(missed, 0.2, 0.5, xtol=1e-14))


def _start(problem: str) -> tuple[list[float], float]:
    """Return y at the start and the last time."""
    if problem == "blasius":
        return [0, 0, curvature_of_blasius()], 8
    if problem == "troesch":
        return [0, slope_of_troesch()], 1
    return {
        "lorenz": ([-8.0, 7.0, 27.0], 3.0),
        "brusselator": ([1.5, 3.0], 15.0),
        "kepler": ([0.5, 0.0, 0.0, 3**0.5], 2 * pi),
        "duffing": ([1.0, 0.0], 20.0),
    }[problem]


@cache
def _in_time(problem: str) -> LegendrePieces:
    return ordinary(RATES[problem], *_start(problem))


@cache
def _in_modes(problem: str) -> FourierSolution:
    if problem == "swift_hohenberg":
        start = lambda x: 0.5 * np.cos(x) + 0.2 * np.sin(x / 4)  # noqa: E731
        linear = lambda k: 0.5 - (1 - k**2) ** 2  # noqa: E731
        equation = Evolution(8 * pi, 10.0, linear, lambda k: -np.ones_like(k), lambda u: u**3, 3, start)
        return equation.solve("untuned-swift", "r = 0.5; 1", 64, 4096)
    speed = lambda n: 1 + 0.5 * np.sin(2 * pi * np.arange(n) / n)  # noqa: E731
    transport = Evolution(
        *(2 * pi, 4.0, lambda k: 0j * k, lambda k: -1j * k, lambda u: speed(u.shape[1]) * u, 2),
        start=lambda x: np.exp(np.cos(x)),
    )
    return transport.solve("untuned-speed", "1", 96, 8192)


def computed(problem: str, unknowns: tuple[str, ...], p: Coordinates) -> dict[str, Tensor]:
    """Return the solution `[N]` by unknown at points."""
    if problem in RATES:
        rows = _in_time(problem)(next(iter(vars(p).values())).double()).T
    else:
        rows = _in_modes(problem)(p.x.double(), p.t.double())
    return dict(zip(unknowns, torch.atleast_2d(rows), strict=False))
