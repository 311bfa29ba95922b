"""Function that the linearised equations and conditions of a problem see least: a null function where one is free.

With rows A of equations and conditions and rows M of the unknowns' values inside the domain, it is the v of least
ρ = ‖A v‖/‖M v‖, the smallest generalised singular value of A and M (Golub and Van Loan, Matrix Computations, 4th ed.,
sec. 8.7.4). Found by locally optimal conjugate gradients (Knyazev, SIAM J. Sci. Comput. 23, 2001, 517–541) with the
Cholesky factor of AᵀA as preconditioner; ρ itself comes from A v and M v, free of the square of A's condition.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from scipy.sparse import csr_array, vstack

from kanpinn.estimate.band_least_squares import Inverse, Rows, factored
from kanpinn.estimate.linearized import Linearized
from kanpinn.estimate.polynomial_space import PolynomialSpace
from kanpinn.estimate.spline_space import SplineSpace
from kanpinn.geometry.chart import Array
from kanpinn.pde.condition import Condition
from kanpinn.pde.problem import Problem

GRAY = 1e-5
"""Rate ρ/√N beneath which a function may be free."""

GROWTH = 50.0
"""Logarithm of growth along a coordinate, from conditions at one end, that makes no function free."""

ITERATIONS = 6


@final
@dataclass(frozen=True)
class Unseen:
    """The function that equations and conditions see least.

    Attributes:
        rate: Root mean square of its residuals, relative to that of the function.
        moves: Root mean squares of the function, by unknown, in their sizes.
    """

    rate: float = math.inf
    moves: Mapping[str, float] = field(default_factory=dict)


NOTHING = Unseen()
"""No function is looked for."""


def unseen(
    rows: Sequence[Rows], values: csr_array, inverse: Inverse, heights: Array | None, unknowns: Sequence[str]
) -> Unseen:
    """Return the function seen least; where it grows from an end with conditions, beside weights that fall.

    Args:
        rows: Rows of A.
        values: Rows of M, `[unknowns N, S]`.
        inverse: Approximate (AᵀA)⁻¹.
        heights: Logarithms of the weights of each function of the space, `[M]`; None without any.
        unknowns: Their names.
    """
    points = (len(values.indptr) - 1) // len(unknowns)
    seen = least_seen(rows, values, inverse)
    if seen and heights is not None and seen[1] <= GRAY * math.sqrt(points):
        rows, values = weighted(rows, values, np.repeat(heights, len(seen[0]) // len(heights)))
        again = factored(rows, len(seen[0]))
        seen = least_seen(rows, values, again) if again else None
    if seen is None:
        return NOTHING
    moved = np.linalg.norm((values @ seen[0]).reshape(len(unknowns), -1), axis=1)
    return Unseen(seen[1] / math.sqrt(points), dict(zip(unknowns, moved.tolist(), strict=True)))


def value_rows(
    about: Linearized,
    space: SplineSpace | PolynomialSpace,
    nodes: tuple[Array, Array],
    units: Mapping[str, float],
    sizes: Mapping[str, float],
) -> csr_array:
    """Rows M of the changes of all unknowns at nodes, `[unknowns N, S]`, such that ‖M v‖ is their root mean square.

    Args:
        about: The problem and network.
        space: Functions of the leaves.
        nodes: Points `[N, d]` and their shares `[N]`.
        units: Units of the leaves' coefficients.
        sizes: Sizes of the unknowns, to which their changes are relative.
    """
    points, shares = nodes
    cell, places = space.located(points)
    found = space.values(cell, places, (0,) * points.shape[1])
    found = found * np.sqrt(shares / shares.sum())[:, None]
    local, width = space.local[space.numbered(cell)], len(about.leaves)
    ends = np.arange(len(points) + 1) * found.shape[1]
    parts = dict.fromkeys(sizes, csr_array((len(points), space.size * width)))
    zero = dict.fromkeys(about.leaves, np.zeros(len(points)))
    for k, leaf in enumerate(about.leaves):
        step = np.full(len(points), units[leaf])
        above, below = (about.changes(points, {**zero, leaf: sign * step}) for sign in (1, -1))
        for name, size in sizes.items():
            slope = (above[name] - below[name]) / (2 * size)
            if slope.any():
                entries = (found * slope[:, None]).ravel()
                parts[name] = parts[name] + csr_array((entries, (local * width + k).ravel(), ends), parts[name].shape)
    return csr_array(vstack(list(parts.values())))


def fall(space: SplineSpace | PolynomialSpace, problem: Problem, conditions: Sequence[Condition]) -> Array | None:
    """Return logarithms of weights `[M]` that fall from ends with more conditions than their opposites; None without.

    Along n intervals they fall by at most 2n: splines represent no growth that is faster.
    """
    domain = problem.domain
    ends = Counter(
        piece.name
        for condition in conditions
        for on in condition.supports
        if isinstance(on, str) and "=" not in on
        for piece in domain.support(on)
    )
    heights = np.zeros((1,) * len(domain))
    for k, name in enumerate(domain.names):
        own = space.breaks[k]
        middles = ((own[1:] + own[:-1]) / 2 - own[0]) / (own[-1] - own[0])
        slope = np.sign(ends[f"{name}+"] - ends[f"{name}-"]) * min(GROWTH, 2 * len(middles))
        heights = heights + slope * middles.reshape([-1 if j == k else 1 for j in range(len(domain))])
    if not heights.any() or space.cells == 1:
        return None
    sums, counts = np.zeros(space.size), np.zeros(space.size)
    np.add.at(sums, space.local, heights.reshape(-1, 1))
    np.add.at(counts, space.local, 1.0)
    return sums / counts


def weighted(rows: Sequence[Rows], values: csr_array, logarithms: Array) -> tuple[list[Rows], csr_array]:
    """Return W A V⁻¹ and W M V⁻¹ for weights V = exp(logarithms) of columns `[S]`, those of rows like their columns'.

    What is zero stays so, whatever the weights. Growth with time is none where they fall as fast as it grows.
    """
    found = []
    for part in rows:
        middle = logarithms[part.columns].mean(1, keepdims=True)  # (G, 1)
        entries = part.values * np.exp(middle - logarithms[part.columns])[:, None, :]
        far = None if part.far is None else _conjugated(part.far, middle.repeat(part.right.shape[1]), logarithms)
        found.append(replace(part, values=entries, far=far))
    many = np.diff(values.indptr)
    sums = np.add.reduceat(np.append(logarithms[values.indices], 0.0), values.indptr[:-1]) * (many > 0)
    return found, _conjugated(values, sums / np.maximum(many, 1), logarithms)


def _conjugated(matrix: csr_array, rows: Array, columns: Array) -> csr_array:
    """Multiply rows and divide columns by the exponentials of these numbers."""
    factors = np.exp(np.repeat(rows, np.diff(matrix.indptr)) - columns[matrix.indices])
    return csr_array((matrix.data * factors, matrix.indices, matrix.indptr), matrix.shape)


def least_seen(
    rows: Sequence[Rows], values: csr_array, inverse: Inverse, iterations: int = ITERATIONS
) -> tuple[Array, float] | None:
    """Return the coefficients v `[S]` of least ρ = ‖A v‖/‖M v‖, with ‖M v‖ = 1, and ρ.

    Args:
        rows: Rows of A.
        values: Rows of M, `[N, S]`.
        inverse: Approximate (AᵀA)⁻¹.
        iterations: Number of iterations.

    Returns:
        v and ρ; None where numbers overflow.
    """
    start = values.T @ np.random.default_rng(0).standard_normal(len(values.indptr) - 1)
    size = len(start)
    basis = _with([], inverse(start), values)
    if not basis:
        return None
    for _ in range(iterations):
        v = basis[0]
        seen = _times(rows, v)
        gradient = sum(part.transposed(r, size) for part, r in zip(rows, _split(rows, seen), strict=True))
        gradient = gradient - float(seen @ seen) * (values.T @ (values @ v))
        wider = _with(basis, inverse(gradient), values)
        if len(wider) == len(basis):
            break
        every = np.stack([seen, *(_times(rows, one) for one in wider[1:])], 1)
        if not np.isfinite(every).all():
            return None
        _, _, right = np.linalg.svd(every, full_matrices=False)
        new = right[-1] @ np.stack(wider)
        basis = _with(_with([], new, values), new - (right[-1][0] * v), values)
        if not basis:
            return None
    return basis[0], float(np.linalg.norm(_times(rows, basis[0])))


def _times(rows: Sequence[Rows], v: Array) -> Array:
    """A v, all rows in one."""
    return np.concatenate([part.times(v).ravel() for part in rows])


def _split(rows: Sequence[Rows], seen: Array) -> list[Array]:
    ends = np.cumsum([part.right.size for part in rows])[:-1]
    return [own.reshape(part.right.shape) for part, own in zip(rows, np.split(seen, ends), strict=True)]


def _with(basis: list[Array], v: Array, values: csr_array) -> list[Array]:
    """Add v, made orthogonal to a basis in M and of norm 1 there; not where nothing is left of it."""
    for _ in range(2):
        before = values @ v
        size = float(np.linalg.norm(before))
        if not (size > 0 and math.isfinite(size)):
            return basis
        v, before = v / size, before / size
        for one in basis:
            v = v - float((values @ one) @ before) * one
    size = float(np.linalg.norm(values @ v))
    return [*basis, v / size] if size > 1e-12 and math.isfinite(size) else basis
