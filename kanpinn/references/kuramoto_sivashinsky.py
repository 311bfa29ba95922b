"""The Kuramoto–Sivashinsky equation from u = cos x/4 (1 + sin x/4), 8π-periodic, by Fourier modes."""

from functools import lru_cache
from math import pi

import numpy as np

from kanpinn.errors import UserError, invalid
from kanpinn.references.fourier import Evolution, FourierSolution


@lru_cache(maxsize=8)
def kuramoto_sivashinsky(nu: float) -> FourierSolution:
    """Return the solution of u_t + u u_x + u_xx + ν u_xxxx = 0 for t in [0, 10], kept on disk; right to 1e-9 at ν = 1.

    Raises:
        UserError: If ν is so large or small that the solution is not resolved.
    """
    equation = Evolution(
        length=8 * pi,
        end=10.0,
        linear=lambda k: k**2 - nu * k**4,
        front=lambda k: -0.5j * k,
        g=np.square,
        power=2,
        start=lambda x: np.cos(x / 4) * (1 + np.sin(x / 4)),
    )
    try:
        return equation.solve("kuramoto_sivashinsky", f"nu={nu!r}", modes=48, steps=2048)
    except UserError:
        raise invalid("problem.nu", nu, "a value for which the reference can be computed, 0.3 to 10") from None
