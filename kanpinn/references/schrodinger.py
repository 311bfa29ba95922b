"""The nonlinear Schrödinger equation from pulses 2 sech x, 10-periodic, by Fourier modes."""

from functools import cache
from math import pi

import numpy as np

from kanpinn.references.fourier import Evolution, FourierSolution


@cache
def schrodinger() -> FourierSolution:
    """Return u and v of i h_t + h_xx / 2 + |h|² h = 0, h = u + iv, for t in [0, π/2], kept on disk; right to 1e-8."""
    equation = Evolution(
        length=10.0,
        end=pi / 2,
        linear=lambda k: -0.5j * k**2,
        front=lambda k: np.full_like(k, 1j, dtype=complex),
        g=lambda h: h * np.abs(h) ** 2,
        power=3,
        start=lambda x: 2 * (1 / np.cosh(x - 10 * np.arange(-4, 6)[:, None])).sum(0) + 0j,
    )
    return equation.solve("schrodinger", "2 sech x", modes=128, steps=2048)
