"""The Gray–Scott equations from one pulse, 100-periodic, by Fourier modes."""

from functools import lru_cache
from math import pi

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError, invalid
from kanpinn.references.fourier import Evolution, FourierSolution


@lru_cache(maxsize=8)
def gray_scott(diffusion: float, feed: float, decay: float) -> FourierSolution:
    """Return u and v of `problems/gray_scott.py` for t in [0, 100], kept on disk; right to 1e-8 at its coefficients.

    Raises:
        UserError: If they are such that the solution is not resolved.
    """

    def reaction(fields: NDArray) -> NDArray:
        u, v = fields
        return np.stack([feed - u * v**2, u * v**2])

    def start(x: NDArray) -> NDArray:
        pulse = np.exp(-((20 / pi * np.sin(pi / 100 * x)) ** 2))
        return np.stack([1 - pulse / 2, pulse / 4])

    equation = Evolution(
        length=100.0,
        end=100.0,
        linear=lambda k: -np.stack([diffusion * k**2 + feed, diffusion / 2 * k**2 + feed + decay]),
        front=np.ones_like,
        g=reaction,
        power=3,
        start=start,
    )
    try:
        return equation.solve("gray_scott", f"D={diffusion!r}, F={feed!r}, k={decay!r}", modes=80, steps=2048)
    except UserError:
        raise invalid("problem.D", diffusion, "coefficients for which the reference can be computed") from None
