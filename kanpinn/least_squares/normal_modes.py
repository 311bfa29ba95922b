"""Numbers of conditions that equations ask for at points of the boundary, by their normal modes.

Near a point with the inward normal ν, small changes of the unknowns are sums of modes e^{λs + iζ·x}, s being the
distance from the boundary, ζ real and tangential: those with det Σ_α s_α Π_k (λν_k + iζ_k)^α_k = 0, s_α = ∂r/∂(∂_α u).
A mode that decays inwards, Re λ < 0, is free unless a condition holds it, for |ζ| → ∞: elliptic equations ask for as
many conditions as there are such λ (Lopatinskii), and so do those that evolve in time, where modes grow like e^{ηt}
with η > 0 (Hersh, Mixed problems in several variables, 1963; Kreiss, Initial boundary value problems for hyperbolic
systems, 1970). η < 0 turns time round, and e^{η x} takes another coordinate for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from kanpinn.geometry import Region
from kanpinn.jets.jet import JetSpace

NOTHING = 1e-10
"""Coefficient of the determinant, relative to its largest one, up to which it is rounding."""

LARGE, LARGER = 1e3, (1e5, 1e4)
"""Frequencies in half-widths of the domain, at its sides and at the first and last time: up to order 2, above it."""

REAL = 1e-3
"""Real part relative to |λ| up to which a mode neither grows nor decays."""

ROUNDING = 1e-12
"""Real part relative to |λ| up to which it is rounding."""

SLOW = 1e-2
"""Size of λ up to which a mode neither grows nor decays within the domain."""

Complex = NDArray[np.complex128]
Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Weight:
    """Growth that modes are given: none, along a coordinate, or along characteristics.

    Attributes:
        name: The coordinate; "" for none.
        sign: 1 or −1.
        damping: Value added to the symbol of one equation of first order, its largest value being 1.
    """

    name: str = ""
    sign: int = 1
    damping: float = 0.0


def asked(
    slopes: Floats, normals: Floats, weights: Sequence[Weight], domain: Region, space: JetSpace, fixed: Sequence[str]
) -> NDArray[np.int64]:
    """Return the numbers of conditions asked for `[W, N]`, the least over some frequencies; 0 where that is unknown.

    Args:
        slopes: Derivatives s `[N, equations, unknowns, C]` of the equations at points of the boundary.
        normals: Outward unit normals `[N, d]`.
        weights: W kinds of growth.
        domain: The region.
        space: Derivatives in the order of C.
        fixed: Coordinates in which there are no frequencies, such as parameters.
    """
    names, half = domain.names, (np.array(domain.upper) - np.array(domain.lower)) / 2
    columns = [[names.index(one) for one in index] for index in space.indices]
    inward = -normals * half
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    time = np.array([name == "t" for name in names])
    early = (np.abs(normals) * time).sum(1) > 0.5  # the first time or the last
    orders = [max(sum(of[k] for k in one) for one in columns) for of in (~time, time)]
    power = float(np.clip(orders[0] / max(orders[1], 1), 1, 4))
    fast, larger = LARGE**power, LARGER[int(power > 2)]
    drawn = np.random.default_rng(1).standard_normal((2, len(names))) * [name not in fixed for name in names]
    others, damping = [], []
    for weight in weights:
        growth = weight.sign * np.array([name == weight.name for name in names])
        growth = np.where(early[:, None], 0.01 * larger, np.where(time, 0.5 * fast, 0.01 * LARGE)) * growth
        for turn, one in zip((1.0, -1.1), drawn, strict=True):
            flat = one * ~time - inward * (inward @ (one * ~time))[:, None]
            length = np.linalg.norm(flat, axis=1, keepdims=True)
            flat = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-9)
            waves = np.where(early, larger, LARGE)[:, None] * flat + turn * fast * (time & ~early[:, None])
            others.append((growth + 1j * waves) / half)
            damping.append(np.full(len(normals), weight.damping))
    many, size = len(others), np.where(early, larger, LARGE) ** power
    given = np.tile(slopes, (many, 1, 1, 1)), np.tile(inward / half, (many, 1)), np.concatenate(others)
    modes = _modes(*given, np.concatenate(damping), np.tile(size, many), columns)
    # What oscillates the faster the shorter it is, as in Schrödinger's equation, grows by what it is given alone.
    own = np.concatenate(
        [np.where(early & (one.name == "t"), 0.003 * larger, np.inf) for one in weights for _ in drawn]
    )
    sizes = np.abs(modes)
    least = np.minimum(REAL * sizes, np.maximum(own[:, None], ROUNDING * sizes))
    decay = (modes.real < -least) & (sizes > SLOW)
    return decay.sum(1).reshape(len(weights), len(drawn), -1).min(1)


def _modes(
    slopes: Floats, along: Floats, others: Complex, damping: Floats, radius: Floats, columns: Sequence[Sequence[int]]
) -> Complex:
    """Return the roots λ of the determinant `[N, M]` for ∂_k → λ along_k + others_k `[N, d]`, NaN for none."""
    rows = np.concatenate([slopes.reshape(len(slopes), -1), along, others.real, others.imag, damping[:, None]], axis=1)
    _, first, back = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    slopes, along, others, radius, damping = slopes[first], along[first], others[first], radius[first], damping[first]
    most = slopes.shape[2] * max(map(len, columns))
    circle, roots = np.exp(2j * np.pi * np.arange(most + 1) / (most + 1)), np.full((len(first), most), np.nan + 0j)
    begun = np.zeros(len(first))
    for turn in range(3):  # the circle on which the determinant is taken finds the size of the roots
        steps = (radius[:, None] * circle)[..., None] * along[:, None] + others[:, None]
        symbols = np.stack([np.prod(steps[..., index], axis=2) for index in columns], axis=2)
        matrices = symbols @ slopes.reshape(len(slopes), -1, len(columns)).transpose(0, 2, 1)
        matrices = matrices.reshape(*symbols.shape[:2], *slopes.shape[1:3])
        norms = np.linalg.norm(matrices, axis=3, keepdims=True).max(1, keepdims=True)
        matrices = np.divide(matrices, norms, out=np.zeros_like(matrices), where=norms > 0)
        largest = norms[:, 0, 0, 0]
        begun = begun if turn else largest  # the damping's measure stays
        damped = damping * np.divide(begun, largest, out=np.zeros_like(largest), where=largest > 0)
        values = np.linalg.det(matrices) if matrices.shape[-1] > 1 else matrices[..., 0, 0]
        roots = _roots(np.fft.fft(values + damped[:, None], axis=1) / (most + 1)) * radius[:, None]
        sizes = np.abs(roots)
        known = sizes > 1e-12 * radius[:, None]
        logs = np.log(np.where(known, sizes, 1.0)).sum(1) / np.maximum(known.sum(1), 1)
        radius = np.where(known.any(1), np.exp(logs), radius)
    return roots[back.ravel()]


def _roots(factors: Complex) -> Complex:
    """Return the roots `[N, M]` of polynomials of coefficients `[N, M + 1]`, NaN where there are fewer."""
    count, most = factors.shape[0], factors.shape[1] - 1
    roots, sizes = np.full((count, most), np.nan + 0j), np.abs(factors)
    held = sizes > np.maximum(NOTHING * sizes.max(1, keepdims=True), NOTHING)
    degrees = np.where(held, np.arange(most + 1), 0).max(1)
    for degree in set(degrees.tolist()) - {0}:
        which = degrees == degree
        companion = np.zeros((int(which.sum()), degree, degree), complex)
        companion[:, 1:, :-1] = np.eye(degree - 1)
        companion[:, :, -1] = -factors[which, :degree] / factors[which, degree, None]
        roots[which, :degree] = np.linalg.eigvals(companion)
    return roots
