"""The Korteweg–de Vries equation from u(x, 0) = cos πx, by a Fourier method and exponential Runge–Kutta steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import UserError, invalid
from kanpinn.references.cache import Arrays, cached

METHOD = "Fourier, ETDRK4, Legendre pieces in t; version 1"
CHUNK = 8192
"""Points evaluated at once."""
CONTOUR = 64
"""Points on the circle over which the coefficients of ETDRK4 are averaged."""
TAIL = 1e-9
"""Largest Fourier and Legendre coefficients at the ends of their series with which a solution is accepted."""
MODES = 170
"""Fourier modes at δ = 0.022; solitons are about δ wide, so that their number grows as 1/δ."""
STEPS = 16384
"""Time steps, a power of two."""
TIME_DEGREE = 16
"""Polynomial degree of the stored pieces in t; the reference is then right to 1e-9 for δ ≥ 0.02, 2e-8 at 0.01."""
Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]


@dataclass(frozen=True)
class KdvSolution:
    """The solution as a Fourier series in x with piecewise polynomials in t as its coefficients.

    Attributes:
        coefficients: Legendre coefficients of the amplitudes of cos mπx (m = 0 … M), then of sin mπx (m = 0 … M), on
            equal pieces of [0, 1], `[S, time_degree+1, 2(M+1)]`.
    """

    coefficients: Tensor

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Evaluate u `[N]` at x, float64, and t in [0, 1]; differentiable in both."""
        return torch.cat([self._evaluate(a, b) for a, b in zip(x.split(CHUNK), t.split(CHUNK), strict=True)])

    def _evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        device, x, t = x.device, x.cpu(), t.cpu()
        pieces, count = self.coefficients.shape[:2]
        piece = (t.detach() * pieces).long().clamp(0, pieces - 1)
        z = 2 * (t * pieces - piece) - 1
        in_t = [torch.ones_like(z), z]
        for k in range(1, count - 1):
            in_t.append(((2 * k + 1) * z * in_t[k] - k * in_t[k - 1]) / (k + 1))
        basis = torch.stack(in_t, dim=1)
        phase = x[:, None] * (math.pi * torch.arange(self.coefficients.shape[2] // 2, dtype=x.dtype))
        waves = torch.cat([torch.cos(phase), torch.sin(phase)], dim=1)
        out = torch.zeros_like(x)
        for k in torch.unique(piece):
            here = (piece == k).nonzero()[:, 0]
            amplitudes = basis[here] @ self.coefficients[k]
            out = out.index_put((here,), (amplitudes * waves[here]).sum(1))
        return out.to(device)


@lru_cache(maxsize=8)
def kdv(delta: float) -> KdvSolution:
    """The solution of u_t + u u_x + δ² u_xxx = 0, u(x, 0) = cos πx, 2-periodic in x, for t in [0, 1], kept on disk.

    Raises:
        UserError: If δ is so large or small that the solution is not resolved.
    """
    delta = float(delta)
    key = f"{METHOD}; {MODES} modes, {STEPS} steps, degree {TIME_DEGREE}; delta={delta!r}"
    arrays = cached("kdv", key, lambda: _solve(delta))
    return KdvSolution(torch.from_numpy(arrays["coefficients"]))


def _solve(delta: float) -> Arrays:
    """Step in time, keep every spectrum, and fit polynomials in t, on shorter pieces until their series end small."""
    modes = max(64, math.ceil(MODES * 0.022 / delta))
    if modes > 4 * MODES:
        raise _unsolved(delta)
    spectra = fourier_steps(delta, modes, STEPS)
    if not np.isfinite(spectra).all() or np.abs(spectra[:, -1]).max() > TAIL:
        raise _unsolved(delta)
    pieces = 32
    while pieces * TIME_DEGREE**2 <= 2 * STEPS:  # else Chebyshev points fall on one step
        coefficients = _pieces(spectra, pieces, TIME_DEGREE)
        if np.abs(coefficients[:, -1]).sum(1).max() <= TAIL / 10:
            return {"coefficients": coefficients}
        pieces *= 2
    raise _unsolved(delta)


def _unsolved(delta: float) -> UserError:
    return invalid("problem.delta", delta, "a value for which the reference can be computed, 0.01 to 0.1")


def fourier_steps(delta: float, modes: int, steps: int) -> Spectrum:
    """ETDRK4 for the Fourier coefficients (Cox and Matthews 2002; Kassam and Trefethen, SIAM J. Sci. Comput. 26, 2005).

    The quadratic term is computed without aliasing, on a grid of more than three points per mode. Gives û with
    u = Re Σ_m û_m e^{iπmx}, `[steps+1, M+1]`, at equal steps from 0 to 1, M the highest mode kept.
    """
    size = 2 ** math.ceil(math.log2(3 * modes + 1))
    k, h = math.pi * np.arange(modes + 1), 1 / steps
    linear = 1j * delta**2 * k**3 * h
    # Contour integrals: near 0 the closed forms lose all their digits (Kassam and Trefethen, sec. 3).
    z = linear[:, None] + np.exp(2j * math.pi * (np.arange(CONTOUR) + 0.5) / CONTOUR)
    e, half = np.exp(linear), np.exp(linear / 2)
    q = h * ((np.exp(z / 2) - 1) / z).mean(1)
    f1 = h * ((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3).mean(1)
    f2 = h * ((2 + z + np.exp(z) * (z - 2)) / z**3).mean(1)
    f3 = h * ((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3).mean(1)
    slope = -0.5j * k / size

    def rate(v: Spectrum) -> Spectrum:
        """−(u²/2)_x."""
        u = np.fft.irfft(v, size) * size
        return slope * np.fft.rfft(u * u)[: modes + 1]

    v = np.zeros(modes + 1, dtype=complex)
    v[1] = 0.5
    out = [v]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            n0 = rate(v)
            a = half * v + q * n0
            n1 = rate(a)
            b = half * v + q * n1
            n2 = rate(b)
            n3 = rate(half * a + q * (2 * n2 - n0))
            v = e * v + f1 * n0 + 2 * f2 * (n1 + n2) + f3 * n3
            out.append(v)
    spectra = np.stack(out)
    spectra[:, 1:] *= 2
    return spectra


def _pieces(spectra: Spectrum, pieces: int, degree: int) -> Array:
    """Interpolate spectra at equal steps, `[steps+1, M+1]`, on the steps nearest to Chebyshev points of each piece."""
    steps = (len(spectra) - 1) // pieces
    chosen = np.rint(steps * (1 - np.cos(np.pi * np.arange(degree + 1) / degree)) / 2).astype(int)
    to_legendre = np.linalg.inv(legendre.legvander(2 * chosen / steps - 1, degree))
    values = spectra[np.arange(pieces)[:, None] * steps + chosen]
    found = np.einsum("lk,skm->slm", to_legendre, values)
    return np.concatenate([found.real, -found.imag], axis=2)
