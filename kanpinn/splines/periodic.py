"""Transfer between two nested spaces of periodic splines, whose systems are circulant."""

from __future__ import annotations

from functools import cache, cached_property

import torch
from torch import Tensor

from kanpinn.splines import bspline
from kanpinn.splines.nesting import Nesting, dyadic_nesting, on_cpu
from kanpinn.splines.piecewise import mass_matrix


class PeriodicNesting(Nesting):
    """Every interval of uniform knots on a period halved: n coarse coefficients, 2n fine ones.

    Coefficients i and i + n belong to one periodic function, so that `DyadicNesting`'s two-scale relation goes on
    around the period. The coefficients of the nearest function (in L2 of the period) come from a circulant system,
    solved by Fourier transforms (de Boor 2001, ch. XI).

    Attributes:
        n: Number of coarse intervals, above the degree.
        degree: Spline degree k.
    """

    def __init__(self, n: int, degree: int) -> None:
        self.n, self.degree = n, degree
        self.coarse, self.fine = n, 2 * n
        self._open = dyadic_nesting(n, degree)

    def prolong(self, c: Tensor) -> Tensor:
        """P c, `[..., n]` to `[..., 2n]`."""
        return self._open.prolong(wrapped(c, self.degree))[..., : self.fine]

    def prolong_transpose(self, g: Tensor) -> Tensor:
        """Pᵀ g, `[..., 2n]` to `[..., n]`."""
        padding = g.new_zeros(*g.shape[:-1], self.degree)
        return folded(self._open.prolong_transpose(torch.cat([g, padding], dim=-1)), self.n)

    def restrict(self, c: Tensor) -> Tensor:
        """R c = M_c⁻¹ Pᵀ M_f c, `[..., 2n]` to `[..., n]`."""
        fine = _circulant(on_cpu(c), self._mass[1])
        return _circulant(self.prolong_transpose(fine), 1 / self._mass[0]).to(c)

    def restrict_transpose(self, g: Tensor) -> Tensor:
        """Rᵀ g = M_f P M_c⁻¹ g, `[..., n]` to `[..., 2n]`."""
        coarse = _circulant(on_cpu(g), 1 / self._mass[0])
        return _circulant(self.prolong(coarse), self._mass[1]).to(g)

    @cached_property
    def _mass(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues of the coarse and the fine mass matrix, both circulant."""
        found = []
        for n in (self.n, 2 * self.n):
            # The row of a function in the middle of an interval long enough for all its neighbours.
            bands = mass_matrix(bspline.knot_vector("uniform", 4 * self.degree + 4, self.degree), self.degree)
            scale = (4 * self.degree + 4) / n
            row = torch.zeros(n, dtype=torch.float64)
            for d, band in enumerate(bands):
                for place in (d % n, -d % n) if d else (0,):
                    row[place] += scale * float(band[2 * self.degree + 2])
            found.append(torch.fft.rfft(row).real)
        return found[0], found[1]


periodic_nesting = cache(PeriodicNesting)
"""`PeriodicNesting(n, degree)`, kept with its factorisations."""


def wrapped(c: Tensor, degree: int) -> Tensor:
    """Coefficients of periodic splines `[..., n]` on the extended knots, `[..., n + k]`, n at least k."""
    return torch.cat([c, c[..., :degree]], dim=-1)


def folded(g: Tensor, n: int) -> Tensor:
    """The transpose of `wrapped`: `[..., n + k]` to `[..., n]`."""
    out = g[..., :n].clone()
    out[..., : g.shape[-1] - n] += g[..., n:]
    return out


def _circulant(c: Tensor, eigenvalues: Tensor) -> Tensor:
    """A symmetric circulant matrix, given by its eigenvalues, times `[..., n]`."""
    return torch.fft.irfft(torch.fft.rfft(c) * eigenvalues, n=c.shape[-1])
