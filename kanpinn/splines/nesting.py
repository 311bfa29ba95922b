"""Transfer between two nested spline spaces of one edge: prolongation, restrictions and their transposes.

The coarse space is contained in the fine one, so that every coarse spline has fine coefficients P c. All operators act
on the last axis of tensors `[..., n + k]` of any dtype and device; none stores a dense matrix.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, cached_property, lru_cache

import numpy as np
import torch
from scipy.linalg import cho_solve_banded, cholesky_banded
from torch import Tensor

from kanpinn.splines import bspline
from kanpinn.splines.bspline import Knots
from kanpinn.splines.piecewise import mass_matrix


class Nesting(ABC):
    """The operators between a coarse space and a fine one that contains it.

    Attributes:
        coarse: Number of coarse coefficients.
        fine: Number of fine coefficients.
    """

    coarse: int
    fine: int

    @abstractmethod
    def prolong(self, c: Tensor) -> Tensor:
        """P: `[..., coarse]` to the coefficients `[..., fine]` of the same function; autograd passes through."""

    @abstractmethod
    def prolong_transpose(self, g: Tensor) -> Tensor:
        """Pᵀ: `[..., fine]` to `[..., coarse]`, the restriction of gradients and residual functionals."""

    @abstractmethod
    def restrict(self, c: Tensor) -> Tensor:
        """R: `[..., fine]` to the coefficients `[..., coarse]` of the nearest coarse function; R P = 1. No autograd."""

    @abstractmethod
    def restrict_transpose(self, g: Tensor) -> Tensor:
        """Rᵀ: `[..., coarse]` to `[..., fine]`. No autograd."""


class SplineNesting(Nesting):
    """Two nested spline spaces of one degree on one interval [a, b].

    Nearest is meant in L2(a, b): R = M_c⁻¹ Pᵀ M_f with the mass matrices of both bases.

    Attributes:
        coarse_knots: Extended knots of the coarse space.
        fine_knots: Extended knots of the fine space.
        degree: Spline degree k.
    """

    def __init__(self, coarse_knots: Knots, fine_knots: Knots, degree: int) -> None:
        self.coarse_knots, self.fine_knots, self.degree = coarse_knots, fine_knots, degree
        self.coarse = len(coarse_knots) - degree - 1
        self.fine = len(fine_knots) - degree - 1

    def restrict(self, c: Tensor) -> Tensor:
        fine = on_cpu(c)
        coarse = self._project(fine)
        # The basis functions that hardly reach into [a, b] make M_c ill-conditioned at high degrees; one step of
        # iterative refinement brings R P = 1 back to rounding.
        coarse = coarse + self._project(fine - self.prolong(coarse))
        return coarse.to(c)

    def restrict_transpose(self, g: Tensor) -> Tensor:
        coarse = on_cpu(g)
        fine = self._project_transpose(coarse)
        fine = fine + self._project_transpose(coarse - self.prolong_transpose(fine))
        return fine.to(g)

    def _project(self, c: Tensor) -> Tensor:
        """M_c⁻¹ Pᵀ M_f c, `[..., fine]` to `[..., coarse]`."""
        return _along_last(self._solve_mass, self.prolong_transpose(_along_last(self._apply_mass, c)))

    def _project_transpose(self, g: Tensor) -> Tensor:
        """M_f P M_c⁻¹ g, `[..., coarse]` to `[..., fine]`."""
        return _along_last(self._apply_mass, self.prolong(_along_last(self._solve_mass, g)))

    def _apply_mass(self, c: np.ndarray) -> np.ndarray:
        """M_f c for columns `[fine, N]`."""
        bands = mass_matrix(self.fine_knots, self.degree)
        out = bands[0][:, None] * c
        for d, band in enumerate(bands[1:, :, None], start=1):
            out[d:] += band[:-d] * c[:-d]
            out[:-d] += band[:-d] * c[d:]
        return out

    def _solve_mass(self, g: np.ndarray) -> np.ndarray:
        """M_c⁻¹ g for columns `[coarse, N]`."""
        return cho_solve_banded((self._cholesky, True), g)

    @cached_property
    def _cholesky(self) -> np.ndarray:
        """Lower banded Cholesky factor of M_c."""
        return cholesky_banded(mass_matrix(self.coarse_knots, self.degree), lower=True)


class DyadicNesting(SplineNesting):
    """Every interval of uniform knots on [−1, 1] halved.

    P[j, i] = 2^(−k) C(k+1, s) with j = 2i + s − k, s = 0 … k + 1, rows outside the fine range dropped. This is the
    two-scale relation of the cardinal B-spline (de Boor 2001, ch. XI; Southworth et al. 2026, eq. 21, whose printed
    factor 2^(−r), r = k + 1, halves the function). The shift by k counts both index ranges from their own first knot.
    Applied as two stencils, one for even and one for odd j, in ⌊k/2⌋ + 1 and ⌊(k + 1)/2⌋ + 1 shifted additions.

    Attributes:
        n: Number of coarse intervals.
    """

    def __init__(self, n: int, degree: int) -> None:
        super().__init__(
            bspline.knot_vector("uniform", n, degree), bspline.knot_vector("uniform", 2 * n, degree), degree
        )
        self.n = n
        mask = [math.comb(degree + 1, s) / 2**degree for s in range(degree + 2)]
        self._stencils = (mask[degree::-2], mask[degree + 1 :: -2])

    def prolong(self, c: Tensor) -> Tensor:
        parity = []
        for first, stencil in enumerate(self._stencils):
            count = (self.fine - first + 1) // 2  # rows j = 2m + first, which need c_m, c_{m+1}, …
            total = c[..., :count] * stencil[0]
            for r, weight in enumerate(stencil[1:], start=1):
                total = total.add(c[..., r : r + count], alpha=weight)
            parity.append(total)
        out = c.new_empty(*c.shape[:-1], self.fine)
        out[..., 0::2], out[..., 1::2] = parity
        return out

    def prolong_transpose(self, g: Tensor) -> Tensor:
        out = g.new_zeros(*g.shape[:-1], self.coarse)
        for first, stencil in enumerate(self._stencils):
            rows = g[..., first::2]
            for r, weight in enumerate(stencil):
                out[..., r : r + rows.shape[-1]].add_(rows, alpha=weight)
        return out


class KnotInsertion(SplineNesting):
    """Any strictly increasing knots, and finer ones that contain those on [a, b].

    Fine coefficient j is the blossom of a polynomial piece of the coarse spline within the support of the fine B_j, at
    the fine knots τ_{j+1} … τ_{j+k} (Ramshaw 1989; the Oslo algorithm of Cohen, Lyche and Riesenfeld 1980 and Boehm
    1980 evaluate the same). Pieces from [a, b] only are used: equality holds there whatever the knots beyond the ends.

    Args:
        coarse_knots: n + 2k + 1 knots, [a, b] = [t_k, t_{n+k}].
        fine_knots: The fine knots, with the same a and b.
        degree: Spline degree k.

    Raises:
        ValueError: If either knots do not increase strictly or the coarse ones on [a, b] are not among the fine.
    """

    def __init__(self, coarse_knots: Knots, fine_knots: Knots, degree: int) -> None:
        super().__init__(tuple(map(float, coarse_knots)), tuple(map(float, fine_knots)), degree)
        t, tau = np.asarray(self.coarse_knots), np.asarray(self.fine_knots)
        if min(len(t), len(tau)) < 2 * degree + 2 or not bool((np.diff(t) > 0).all() and (np.diff(tau) > 0).all()):
            raise ValueError(f"expected at least {2 * degree + 2} strictly increasing knots for degree {degree}")
        inside, among = t[degree : len(t) - degree], tau[degree : len(tau) - degree]
        gaps = [*np.abs(inside[:, None] - among).min(1), abs(inside[0] - among[0]), abs(inside[-1] - among[-1])]
        if max(gaps) > 1e-13 * (inside[-1] - inside[0]):
            raise ValueError("the coarse knots are not among the fine ones with the same ends")
        start, weights = _blossoms(t, tau, degree)
        self._start, self._weights = torch.from_numpy(start), torch.from_numpy(weights)

    def prolong(self, c: Tensor) -> Tensor:
        start, weights = self._start.to(c.device), self._weights.to(c)
        total = c[..., start] * weights[0]
        for r in range(1, self.degree + 1):
            total = total + c[..., start + r] * weights[r]
        return total

    def prolong_transpose(self, g: Tensor) -> Tensor:
        start, weights = self._start.to(g.device), self._weights.to(g)
        out = g.new_zeros(*g.shape[:-1], self.coarse)
        for r in range(self.degree + 1):
            out.index_add_(-1, start + r, g * weights[r])
        return out


def _blossoms(t: np.ndarray, tau: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of P for coarse knots t and fine knots τ.

    Returns the first coarse coefficient of each row, `[fine]`, and the weights of k + 1 from there, `[k + 1, fine]`.
    """
    k = degree
    arguments = np.lib.stride_tricks.sliding_window_view(tau[1:-1], k)  # (fine, k)
    # The piece in the middle of the support, where the blossom extrapolates least.
    piece = np.clip(np.searchsorted(t, arguments.mean(1), side="right") - 1, k, len(t) - k - 2)
    # De Boor's algorithm with another argument in every step, on the unit vectors: row i of `weights` is d_i.
    weights = np.broadcast_to(np.eye(k + 1)[:, None, :], (k + 1, len(piece), k + 1)).copy()
    for r in range(1, k + 1):
        u = arguments[:, r - 1]
        for i in range(k, r - 1, -1):
            left, right = t[piece - k + i], t[piece + i - r + 1]
            a = ((u - left) / (right - left))[:, None]
            weights[i] = (1 - a) * weights[i - 1] + a * weights[i]
    return piece - k, np.ascontiguousarray(weights[k].T)


def on_cpu(c: Tensor) -> Tensor:
    """A copy in float64 on the CPU, where the banded solvers are."""
    return c.detach().to(device="cpu", dtype=torch.float64)


def _along_last(operation: Callable[[np.ndarray], np.ndarray], c: Tensor) -> Tensor:
    """Apply an operation on numpy columns `[n, N]` along the last axis of `[..., n]`."""
    columns = operation(c.reshape(-1, c.shape[-1]).numpy().T)
    return torch.from_numpy(np.ascontiguousarray(columns.T)).reshape(*c.shape[:-1], len(columns))


dyadic_nesting = cache(DyadicNesting)
"""`DyadicNesting(n, degree)`, kept with its factorisations."""

knot_insertion = lru_cache(maxsize=256)(KnotInsertion)
"""`KnotInsertion(coarse_knots, fine_knots, degree)`, kept with its factorisations."""


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
        return self._open.prolong(wrapped(c, self.degree))[..., : self.fine]

    def prolong_transpose(self, g: Tensor) -> Tensor:
        padding = g.new_zeros(*g.shape[:-1], self.degree)
        return folded(self._open.prolong_transpose(torch.cat([g, padding], dim=-1)), self.n)

    def restrict(self, c: Tensor) -> Tensor:
        fine = _circulant(on_cpu(c), self._mass[1])
        return _circulant(self.prolong_transpose(fine), 1 / self._mass[0]).to(c)

    def restrict_transpose(self, g: Tensor) -> Tensor:
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
