"""The Allen–Cahn equation from u(x, 0) = x² cos πx, solved by spectral elements and a stiff time integrator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, pairwise
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import UserError, invalid
from kanpinn.references.cache import Arrays, cached

METHOD = "kink subtracted, Legendre elements, Radau IIA; version 1"
CHUNK = 8192
"""Points evaluated at once."""
MOST_CALLS = 60_000
"""Evaluations of the right-hand side before giving up; sound coefficients need 2,000 to 10,000."""
T_BREAKS = np.concatenate([[0.0], 0.5 ** np.arange(21.0, 3, -1), np.arange(1, 9) / 8])
"""Pieces halved towards t = 0, where v varies as t^(3/2), and at most 1/8 long: there are poles at Im t = π/10."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Resolution:
    """Resolution of the reference; the defaults are right to 1e-9 (tests/test_references.py compares).

    Attributes:
        degree: Polynomial degree of the elements in x.
        time_degree: Polynomial degree of the stored pieces in t.
        smallest: Length of the shortest elements in units of √D.
        tolerance: Absolute and relative tolerance of the time integrator.
        method: The integrator, by the name `scipy.integrate.solve_ivp` gives it.
    """

    degree: int = 14
    time_degree: int = 12
    smallest: float = 0.02
    tolerance: float = 1e-10
    method: str = "Radau"


def kink(x: Tensor, t: Tensor, diffusion: float) -> Tensor:
    """Kinks of x² cos πx at x = ±1, where its periodic continuation has slope ∓2, once diffusion alone rounds them.

    Each kink |s| becomes |s| + ℓ ierfc(|s|/ℓ) with ℓ = √(4Dt) (Carslaw and Jaeger, Conduction of Heat in Solids,
    §2.9); this is the added part `[N]`, for both ends, 0 where t = 0, at x in [-1, 1] and times t ≥ 0.
    """
    started = t > 0
    length = torch.sqrt(4 * diffusion * torch.where(started, t, torch.ones_like(t)))
    total = torch.zeros_like(x)
    for s in (1 - x, 1 + x):
        z = s / length
        total = total + 2 * length * (torch.exp(-z.square()) / math.sqrt(math.pi) - z * torch.erfc(z))
    return torch.where(started, total, torch.zeros_like(x))


@dataclass(frozen=True)
class AllenCahnSolution:
    """The solution as piecewise polynomials on [0, 1]², to which the kink layers are added.

    Attributes:
        diffusion: The coefficient D.
        x_breaks: Ends of the elements in x, `[E+1]`.
        t_breaks: Ends of the pieces in t, `[S+1]`.
        coefficients: Legendre coefficients `[S, E, time_degree+1, degree+1]`.
    """

    diffusion: float
    x_breaks: Tensor
    t_breaks: Tensor
    coefficients: Tensor

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Evaluate u `[N]` at x in [-1, 1], float64, and t in [0, 1]; differentiable in x and (for t > 0) in t."""
        pieces = [self._evaluate(a, b) for a, b in zip(x.split(CHUNK), t.split(CHUNK), strict=True)]
        return torch.cat(pieces).to(x.device)

    def _evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        x, t = x.cpu(), t.cpu()
        i, in_t = _legendre(t, self.t_breaks, self.coefficients.shape[2])
        j, in_x = _legendre(x.abs(), self.x_breaks, self.coefficients.shape[3])
        smooth = torch.einsum("nlk,nl,nk->n", self.coefficients[i, j], in_t, in_x)
        return torch.where(t > 0, smooth + kink(x, t, self.diffusion), x.square() * torch.cos(math.pi * x))


def _legendre(values: Tensor, breaks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The piece each value lies in, `[n]`, and the Legendre polynomials of that piece at the value, `[n, count]`."""
    piece = (torch.searchsorted(breaks, values.detach().contiguous(), right=True) - 1).clamp(0, len(breaks) - 2)
    lower, upper = breaks[piece], breaks[piece + 1]
    z = (2 * values - lower - upper) / (upper - lower)
    out = [torch.ones_like(z), z]
    for k in range(1, count - 1):
        out.append(((2 * k + 1) * z * out[k] - k * out[k - 1]) / (k + 1))
    return piece, torch.stack(out, dim=1)


@lru_cache(maxsize=8)
def allen_cahn(diffusion: float, resolution: Resolution | None = None) -> AllenCahnSolution:
    """The solution of u_t = D u_xx + 5(u - u³), u(x, 0) = x² cos πx, 2-periodic in x, for t in [0, 1].

    The default resolution is kept on disk.

    Raises:
        UserError: If D is so large or small that the time integration does not succeed.
    """
    diffusion = float(diffusion)
    if resolution is None:
        key = f"{METHOD}; {Resolution()}; D={diffusion!r}"
        arrays = cached("allen_cahn", key, lambda: _solve(diffusion, Resolution()))
    else:
        arrays = _solve(diffusion, resolution)
    names = ("x_breaks", "t_breaks", "coefficients")
    return AllenCahnSolution(diffusion, *(torch.from_numpy(arrays[name]) for name in names))


def _solve(diffusion: float, how: Resolution) -> Arrays:
    """Integrate v = u - kink in time and fit polynomials in t.

    The solution is even, so [0, 1] suffices: u_x = 0 at both ends. The kink of u(x, 0) at x = 1 makes a layer of width
    √(Dt) that no mesh resolves for all t; `kink` carries it in closed form, and v keeps the smooth initial value and
    the boundary slope v_x(1, t) = -kink_x(1, t), a natural condition of the weak form.
    """
    # Imported here: scipy.integrate is slow to import, and every run that finds the cache does without it.
    from scipy.integrate import solve_ivp
    from scipy.sparse import diags

    x_breaks, t_breaks = _x_breaks(how.smallest * math.sqrt(diffusion)), T_BREAKS
    x, mass, laplacian = _spectral_elements(x_breaks, how.degree)
    nodes = torch.from_numpy(x)

    def full(t: float, v: Array) -> Array:
        return v + kink(nodes, torch.full_like(nodes, t), diffusion).numpy()

    calls = count()

    def rate(t: float, v: Array) -> Array:
        if next(calls) > MOST_CALLS:
            raise _unsolved(diffusion)
        u = full(t, v)
        out = diffusion * (laplacian @ v) + 5 * (u - u**3)
        slope = -2 * (1 - (math.erfc(1 / math.sqrt(diffusion * t)) if t > 0 else 0.0))
        out[-1] += diffusion * slope / mass[-1]
        return out

    with np.errstate(over="ignore", invalid="ignore"):  # a step that fails is tried again, shorter
        solution = solve_ivp(
            rate,
            (0.0, 1.0),
            x**2 * np.cos(np.pi * x),
            method=how.method,
            jac=lambda t, v: (diffusion * laplacian + diags(5 - 15 * full(t, v) ** 2)).tocsc(),
            rtol=how.tolerance,
            atol=how.tolerance,
            first_step=1e-10,
            dense_output=True,
        )
    if not solution.success:
        raise _unsolved(diffusion)
    z, fit_t = legendre.leggauss(how.time_degree + 1)[0], how.time_degree
    to_t = np.linalg.inv(legendre.legvander(z, fit_t))
    to_x = np.linalg.inv(legendre.legvander(_lobatto(how.degree)[0], how.degree))
    coefficients = []
    for a, b in pairwise(t_breaks):
        v = solution.sol(a + (b - a) * (z + 1) / 2)  # (nodes, times)
        local = np.stack([v[e * how.degree : (e + 1) * how.degree + 1] for e in range(len(x_breaks) - 1)])
        coefficients.append(np.einsum("kx,ext,lt->elk", to_x, local, to_t))
    return {"x_breaks": x_breaks, "t_breaks": t_breaks, "coefficients": np.stack(coefficients)}


def _unsolved(diffusion: float) -> UserError:
    return invalid("problem.D", diffusion, "a value for which the reference can be computed, such as 1e-6 to 10")


def _x_breaks(smallest: float) -> Array:
    """Elements graded to the front near x = 1/2 and to the layer at x = 1, none shorter than `smallest`.

    The front is at least 0.0086 wide for t ≤ 1 and any D, since reaction alone steepens it by e⁵. Elements shorter than
    diffusion's own scale would only add stiffness, whose rounding errors then stop the time integrator.
    """
    around = np.array([0.0, 0.008, 0.02, 0.045, 0.1, 0.18])
    last = 0.24
    layer = 1 - last * 3.0 ** -np.arange(0, max(1, math.ceil(math.log(last / min(smallest, last), 3))) + 1)
    breaks = [0.0]
    for end in np.concatenate([[0.05, 0.1, 0.16, 0.24], 0.5 - around[:0:-1], 0.5 + around, layer]):
        if end - breaks[-1] >= smallest and 1 - end >= min(smallest, last) / 2:
            breaks.append(float(end))
    return np.array([*breaks, 1.0])


def _lobatto(degree: int) -> tuple[Array, Array]:
    """Gauss–Lobatto–Legendre nodes and weights on [-1, 1], `[degree+1]` each."""
    last = np.eye(degree + 1)[degree]
    inner = legendre.legroots(legendre.legder(last)).real
    z = np.concatenate([[-1.0], np.sort(inner), [1.0]])
    return z, 2 / (degree * (degree + 1) * legendre.legval(z, last) ** 2)


def _spectral_elements(breaks: Array, degree: int) -> tuple[Array, Array, Any]:
    """Nodes `[n]`, lumped mass `[n]`, sparse Laplacian `[n, n]` of the weak form with natural end conditions."""
    from scipy.sparse import coo_matrix, diags

    z, weights = _lobatto(degree)
    unit = np.eye(degree + 1)
    slopes = np.stack([legendre.legval(z, legendre.legder(unit[k])) for k in range(degree + 1)], axis=1)
    derivative = slopes @ np.linalg.inv(legendre.legvander(z, degree))
    stiffness = derivative.T @ (weights[:, None] * derivative)

    lengths = np.diff(breaks)
    index = np.arange(len(lengths))[:, None] * degree + np.arange(degree + 1)  # (E, degree+1)
    n = index[-1, -1] + 1
    x, mass = np.empty(n), np.zeros(n)
    x[index] = breaks[:-1, None] + lengths[:, None] * (z + 1) / 2
    np.add.at(mass, index, lengths[:, None] * weights / 2)
    rows = np.broadcast_to(index[:, :, None], (len(lengths), degree + 1, degree + 1))
    blocks = stiffness * (2 / lengths)[:, None, None]
    total = coo_matrix((blocks.ravel(), (rows.ravel(), rows.transpose(0, 2, 1).ravel())), shape=(n, n))
    return x, mass, -(diags(1 / mass) @ total.tocsr())
