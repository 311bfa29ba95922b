"""Laplace's and the screened Poisson equation in a box with round holes, by multipoles: a boundary method.

Δv = κ² v in [−h, h]² outside discs is met term by term by r^−k cos kθ, log r (κ = 0) or K_k(κr) cos kθ about each
disc, and by r^k cos kθ or I_k(κr) cos kθ about the middle; multipoles of a disc come with their odd mirror images in
the sides, where v = 0 is wanted, so that few of them are needed. Coefficients follow from boundary values by least
squares. Both equations have a maximum principle: nowhere is the error larger than on the boundary, where it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ive, k0e, k1e, kve

Array = NDArray[np.float64]
Disc = tuple[float, float, float]
"""Centre x, y and radius."""


@final
@dataclass(frozen=True)
class AroundDiscs:
    """Solution of Δv = κ² v in a box without discs, v = 0 on the box and given on the discs.

    Attributes:
        half: Half the side of the box, h.
        kappa: κ, 0 or above.
        discs: The discs.
        order: Highest order of the multipoles.
        regular: Highest order of the terms about the middle.
        coefficients: Those of all terms.
        error: Largest error at points of the boundary between those it was fitted at: nowhere is it larger.
    """

    half: float
    kappa: float
    discs: tuple[Disc, ...]
    order: int
    regular: int
    coefficients: Array
    error: float

    def __call__(self, x: Array, y: Array) -> Array:
        """Return v at points `[N]` outside the discs."""
        parts = np.array_split(np.stack([x, y]), max(1, len(x) // 500), axis=1)  # terms of so many stay in the cache
        return np.concatenate([_terms(self, *part) @ self.coefficients for part in parts])


def around_discs(
    half: float,
    kappa: float,
    discs: Sequence[Disc],
    values: Callable[[Array, Array], Array],
    order: int = 20,
    regular: int = 40,
) -> AroundDiscs:
    """Solve Δv = κ² v in [−h, h]² without discs, v = 0 on the sides and `values(x, y)` `[N]` on the discs."""
    known = AroundDiscs(half, kappa, tuple(discs), order, regular, np.zeros(0), 0.0)
    x, y, given = _boundary(known, values, 0.5)
    terms = _terms(known, x, y)
    sizes = np.linalg.norm(terms, axis=0)
    found = np.linalg.lstsq(terms / sizes, given, rcond=1e-15)[0] / sizes
    x, y, given = _boundary(known, values, 0.0)
    error = float(np.abs(_terms(known, x, y) @ found - given).max())
    return AroundDiscs(half, kappa, tuple(discs), order, regular, found, error)


def _boundary(known: AroundDiscs, values: Callable[[Array, Array], Array], shift: float) -> tuple[Array, Array, Array]:
    """Return points `[N]` on all discs and the sides, and v there."""
    count = 6 * known.order
    angle = (np.arange(count) + shift) * 2 * np.pi / count
    rims = [(cx + r * np.cos(angle), cy + r * np.sin(angle)) for cx, cy, r in known.discs]
    s = known.half * np.cos((np.arange(8 * known.regular) + shift) * np.pi / (8 * known.regular))
    edge = np.full_like(s, known.half)
    sides = [(s, edge), (s, -edge), (edge, s), (-edge, s)]
    x, y = (np.concatenate([part[k] for part in rims + sides]) for k in (0, 1))
    inner = count * len(rims)
    return x, y, np.concatenate([values(x[:inner], y[:inner]), np.zeros(len(x) - inner)])


def _terms(known: AroundDiscs, x: Array, y: Array) -> Array:
    """Return the terms at points `[N]`: multipoles of each disc with its images, then those about the middle."""
    h, columns = known.half, []
    for cx, cy, radius in known.discs:
        total = 0.0
        for i in (-1, 0, 1):  # images further away are smooth enough for the terms about the middle
            for j in (-1, 0, 1):
                # The image in cell (i, j): turned over along x for odd i, along y for odd j, its sign (−1)^(i + j).
                dx, dy = (x - 2 * h * i) * (-1) ** i - cx, (y - 2 * h * j) * (-1) ** j - cy
                total = total + (-1) ** (i + j) * _multipoles(known, dx, dy, radius)
        columns.append(total)
    angle, r = np.arctan2(y, x), np.hypot(x, y)
    k = np.arange(known.regular + 1)
    edge = np.sqrt(2) * h
    if known.kappa:
        size = ive(k, known.kappa * r[:, None]) / ive(k, known.kappa * edge) * np.exp(known.kappa * (r[:, None] - edge))
    else:
        size = (r[:, None] / edge) ** k
    columns += [size * np.cos(k * angle[:, None]), size[:, 1:] * np.sin(k[1:] * angle[:, None])]
    return np.concatenate(columns, axis=1)


def _multipoles(known: AroundDiscs, dx: Array, dy: Array, radius: float) -> Array:
    """Return the multipoles `[N, 2 order + 1]` at distances from a centre, of size 1 on its disc."""
    r = np.maximum(np.hypot(dx, dy), radius)
    turn = np.ones((known.order + 1, len(r)), dtype=np.complex128)
    turn[1:] = (dx + 1j * dy) / np.hypot(dx, dy)
    size = np.ones((known.order + 1, len(r)))
    if known.kappa:
        # K_{k+1} = K_{k−1} + 2k/z K_k (DLMF 10.29.1), stable upwards; each over its value on the disc.
        z, rim = known.kappa * r, kve(np.arange(known.order + 1), known.kappa * radius)
        before, here = k0e(z), k1e(z)
        for k in range(known.order + 1):
            size[k] = before / rim[k]
            before, here = here, before + 2 * (k + 1) / z * here
        size *= np.exp(known.kappa * (radius - r))
    else:
        turn[1:] *= radius / r
        size[0] = np.log(r / (4 * known.half))
    waves = np.cumprod(turn, axis=0) * size
    return np.asarray(np.concatenate([waves.real, waves.imag[1:]]).T, np.float64)
