"""The Korteweg–de Vries equation from u(x, 0) = cos πx, by a Fourier method and exponential Runge–Kutta steps."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from kanpinn.errors import UserError, invalid
from kanpinn.references.fourier import Evolution, FourierSolution, Spectrum

MODES = 170
"""Fourier modes at δ = 0.022; solitons are about δ wide, so that their number grows as 1/δ."""
STEPS = 16384
"""Time steps, a power of two; the reference is then right to 1e-9 for δ ≥ 0.02, 2e-8 at 0.01."""


@lru_cache(maxsize=8)
def kdv(delta: float) -> FourierSolution:
    """The solution of u_t + u u_x + δ² u_xxx = 0, u(x, 0) = cos πx, 2-periodic in x, for t in [0, 1], kept on disk.

    Raises:
        UserError: If δ is so large or small that the solution is not resolved.
    """
    delta = float(delta)
    modes = max(64, math.ceil(MODES * 0.022 / delta))
    try:
        if modes <= 4 * MODES:
            return _evolution(delta).solve("kdv", f"delta={delta!r}", modes, STEPS, finer=1)
    except UserError:
        pass
    raise invalid("problem.delta", delta, "a value for which the reference can be computed, 0.01 to 0.1")


def fourier_steps(delta: float, modes: int, steps: int) -> Spectrum:
    """Return û with u = Re Σ_m û_m e^{iπmx}, `[steps+1, M+1]`, at equal steps from 0 to 1, M the highest mode kept."""
    return _evolution(delta).spectra(modes, steps)[:, 0]


def _evolution(delta: float) -> Evolution:
    return Evolution(
        length=2.0,
        end=1.0,
        linear=lambda k: 1j * delta**2 * k**3,
        front=lambda k: -0.5j * k,
        g=np.square,
        power=2,
        start=lambda x: np.cos(np.pi * x),
    )
