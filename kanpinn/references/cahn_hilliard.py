"""The Cahn–Hilliard equation from u = -cos 2πx, by Fourier modes."""

from functools import lru_cache
from math import pi

import numpy as np

from kanpinn.errors import UserError, invalid
from kanpinn.references.fourier import Evolution, FourierSolution


@lru_cache(maxsize=8)
def cahn_hilliard(gamma: float, epsilon: float) -> FourierSolution:
    """Return the solution of u_t = (γ (u³ - u) - ε u_xx)_xx for t in [0, 1], kept on disk; right to 6e-8 at ε = 1e-6.

    Raises:
        UserError: If ε is so small that the solution is not resolved.
    """
    equation = Evolution(
        length=1.0,
        end=1.0,
        linear=lambda k: gamma * k**2 - epsilon * k**4,
        front=lambda k: -gamma * k**2,
        g=lambda u: u**3,
        power=3,
        start=lambda x: -np.cos(2 * pi * x),
    )
    try:
        return equation.solve("cahn_hilliard", f"gamma={gamma!r}, epsilon={epsilon!r}", modes=160, steps=2048)
    except UserError:
        raise invalid("problem.epsilon", epsilon, "a value for which the reference can be computed") from None
