"""Periodic evolution equations by Fourier modes and exponential Runge–Kutta steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.references.cache import cached
from kanpinn.references.in_time import LegendrePieces, pieces_of_steps

METHOD = "Fourier, ETDRK4, pieces in t of degree 16; version 3"
CHUNK = 8192
"""Points evaluated at once."""
DEGREE = 16
"""Polynomial degree of the pieces in t."""
CONTOUR = 64
"""Points on the circle over which the coefficients of ETDRK4 are averaged."""
TAIL = 1e-9
"""Largest Fourier and Legendre coefficients at the ends of their series with which a solution is accepted."""
Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]


@dataclass(frozen=True)
class Evolution:
    """The equation û_t = L(k) û + F(k) G^ of fields in x, periodic, with G = g(u) computed without aliasing.

    Attributes:
        length: Period in x.
        end: Last time; the first is 0.
        linear: L `[M]` or `[fields, M]` of wavenumbers k `[M]`.
        front: F of the same.
        g: G `[fields, n]` of the fields `[fields, n]`, a polynomial.
        power: Degree of g.
        start: Fields `[fields, n]` at t = 0 of x `[n]` in [0, length): real, or complex, whose real and imaginary
            parts are then two fields.
    """

    length: float
    end: float
    linear: Callable[[NDArray[Any]], NDArray[Any]]
    front: Callable[[NDArray[Any]], NDArray[Any]]
    g: Callable[[NDArray[Any]], NDArray[Any]]
    power: int
    start: Callable[[NDArray[Any]], NDArray[Any]]

    def spectra(self, modes: int, steps: int) -> Spectrum:
        """Return û `[steps+1, fields, modes+1]` at equal steps, with u = Re Σ_m û_m exp(2πi m x / length)."""
        size = 2 ** math.ceil(math.log2((self.power + 1) * modes + 1))
        values = np.atleast_2d(self.start(self.length * np.arange(size) / size))
        real = not np.iscomplexobj(values)
        m = np.arange(modes + 1) if real else np.r_[0 : modes + 1, -modes:0]
        k = 2 * math.pi / self.length * m
        front = self.front(k) / size

        def rate(v: Spectrum) -> Spectrum:
            if real:
                return front * np.fft.rfft(self.g(np.fft.irfft(v, size) * size))[:, : modes + 1]
            full = np.zeros((len(v), size), complex)
            full[:, m] = v
            return front * np.fft.fft(self.g(np.fft.ifft(full) * size))[:, m]

        transform = np.fft.rfft if real else np.fft.fft
        found = etdrk4(self.linear(k), rate, transform(values)[:, m] / size, self.end / steps, steps)
        if not real:
            ahead, behind = found[..., : modes + 1], found[..., -np.arange(modes + 1)].conj()
            found = np.concatenate([(ahead + behind) / 2, (ahead - behind) / 2j], axis=1)
        found[..., 1:] *= 2
        return found

    def solve(self, name: str, key: str, modes: int, steps: int, finer: int = 4) -> FourierSolution:
        """Return the solution, kept on disk under a name and what it depends on besides modes and steps.

        Its accuracy is that of the steps; modes and steps are doubled, `finer` times as many at most, until the series
        in x end small, and those in t on ever shorter pieces.

        Raises:
            UserError: If they do not.
        """

        def compute() -> dict[str, Array]:
            more = 1
            while more <= finer:
                spectra = self.spectra(more * modes, more * steps)
                size = np.abs(spectra[0]).max()
                if np.isfinite(spectra).all() and np.abs(spectra[..., -8:]).max() <= TAIL * size:
                    rows = np.concatenate([spectra.real, -spectra.imag], axis=2).reshape(len(spectra), -1)
                    found = pieces_of_steps(rows, DEGREE, TAIL / 10 * size)
                    if found is not None:
                        return {"coefficients": found, "modes": np.array(float(more * modes))}
                more *= 2
            raise UserError("the reference is not resolved")

        arrays = cached(name, f"{METHOD}; {modes} modes, {steps} steps, at most {finer} times; {key}", compute)
        pieces = LegendrePieces(0.0, self.end, torch.from_numpy(arrays["coefficients"]))
        return FourierSolution(self, int(arrays["modes"]), pieces)


@dataclass(frozen=True)
class FourierSolution:
    """The solution as Fourier series in x with piecewise polynomials in t as their coefficients.

    Attributes:
        equation: The equation that it solves.
        modes: Highest mode M.
        amplitudes: Of each field the amplitudes of cos 2πmx/length (m = 0 … M), then of the sines, as functions of t.
    """

    equation: Evolution
    modes: int
    amplitudes: LegendrePieces

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Evaluate the fields `[fields, N]` at x and t, float64; differentiable in both."""
        return torch.cat([self._evaluate(a, b) for a, b in zip(x.split(CHUNK), t.split(CHUNK), strict=True)], dim=1)

    def _evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        numbers = torch.arange(self.modes + 1, dtype=x.dtype, device=x.device)
        phase = x[:, None] * (2 * math.pi / self.equation.length * numbers)
        waves = torch.cat([torch.cos(phase), torch.sin(phase)], dim=1)
        return (self.amplitudes(t).reshape(len(x), -1, waves.shape[1]) * waves[:, None]).sum(2).T


def etdrk4(
    linear: NDArray[Any], rate: Callable[[Spectrum], Spectrum], start: Spectrum, h: float, steps: int
) -> Spectrum:
    """ETDRK4 for v_t = linear v + rate(v) (Cox and Matthews 2002; Kassam and Trefethen, SIAM J. Sci. Comput. 26, 2005).

    Returns:
        v at equal steps h, `[steps+1, *start.shape]`; numbers that are not finite where the step is too long.
    """
    linear = linear * h
    # Contour integrals: near 0 the closed forms lose all their digits (Kassam and Trefethen, sec. 3).
    z = linear[..., None] + np.exp(2j * math.pi * (np.arange(CONTOUR) + 0.5) / CONTOUR)
    e, half = np.exp(linear), np.exp(linear / 2)
    q = h * ((np.exp(z / 2) - 1) / z).mean(-1)
    f1 = h * ((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3).mean(-1)
    f2 = h * ((2 + z + np.exp(z) * (z - 2)) / z**3).mean(-1)
    f3 = h * ((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3).mean(-1)
    out = np.empty((steps + 1, *start.shape), complex)
    out[0] = v = start
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            n0 = rate(v)
            a = half * v + q * n0
            n1 = rate(a)
            n2 = rate(half * v + q * n1)
            n3 = rate(half * a + q * (2 * n2 - n0))
            out[step + 1] = v = e * v + f1 * n0 + 2 * f2 * (n1 + n2) + f3 * n3
    return out
