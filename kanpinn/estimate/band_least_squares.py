"""Sparse least squares min ‖A c − b‖ of rows with few columns each, by the band of AᵀA and its Cholesky factor.

The factor solves the normal equations up to the square of A's condition; conjugate gradients for them (CGLS, Björck,
Numerical Methods for Least Squares Problems, 1996, sec. 7.4), preconditioned by it, take that square back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cho_solve_banded, cholesky_banded
from scipy.sparse import csr_array

from kanpinn.geometry.chart import Array

RIDGE = 1e-13
"""Share of the diagonal that is added to it: it bounds functions that no row has seen."""

NOTHING = 1e-13
"""Share of the largest entry of a row up to which another is rounding."""

FILLED = 4
"""Rows, those of zeros counted, relative to the rows there are, up to which groups of the same columns are joined."""

FULL = 0.02
"""Share of entries that are not zero from which rows are squared as a full matrix."""

PRODUCTS = 2**21
"""Products of columns that are added up at a time."""


@final
@dataclass(frozen=True)
class Rows:
    """Rows of A with their right-hand sides, by groups that share their columns.

    Attributes:
        columns: Numbers of columns, `[G, W]`.
        values: Entries, `[G, m, W]`.
        right: Right-hand sides, `[G, m]`.
        border: Entries `[G, m, B]` in the last B columns, in which every row may have one.
        far: Further entries in any columns, `[G m, S]`, as integrals have; None without.
    """

    columns: NDArray[np.int64]
    values: Array
    right: Array
    border: Array
    far: csr_array | None = None

    def cleared(self) -> Rows:
        """The same without entries that are rounding beside others of their row.

        A column of nothing else, such as a spline that ends at a condition's point, would take up that row alone.
        """
        largest = np.abs(self.values).max(2, keepdims=True, initial=0.0)
        return replace(self, values=np.where(np.abs(self.values) > NOTHING * largest, self.values, 0.0))

    @property
    def finite(self) -> bool:
        """Whether all entries and right-hand sides are finite."""
        return bool(np.isfinite(self.values).all() and np.isfinite(self.right).all())

    @property
    def span(self) -> int:
        """Largest distance of two columns of one group; polynomials have all columns in one."""
        return int(np.ptp(self.columns, axis=1).max(initial=0)) if self.columns.size else 0

    def times(self, c: Array) -> Array:
        """A c `[G, m]`."""
        many = self.border.shape[2]
        found = np.matmul(self.values, c[self.columns][:, :, None])[:, :, 0]
        found = found + self.border @ c[len(c) - many :] if many else found
        return found if self.far is None else found + (self.far @ c).reshape(found.shape)

    def transposed(self, r: Array, size: int) -> Array:
        """Aᵀ r `[size]` for r `[G, m]`."""
        many = self.border.shape[2]
        found = np.matmul(r[:, None, :], self.values)[:, 0, :]
        out = np.zeros(size)
        np.add.at(out, self.columns, found)
        out[size - many :] += np.einsum("gm,gmb->b", r, self.border)
        return out if self.far is None else out + self.far.T @ r.ravel()

    def matrix(self, size: int) -> csr_array:
        """A `[G m, size]`."""
        groups, each, width = self.values.shape
        many = self.border.shape[2]
        last = np.broadcast_to(np.arange(size - many, size), self.border.shape)
        columns = np.concatenate([np.broadcast_to(self.columns[:, None], self.values.shape), last], 2)
        entries = np.concatenate([self.values, self.border], 2)
        ends = np.arange(groups * each + 1) * (width + many)
        found = csr_array((entries.ravel(), columns.ravel(), ends), shape=(groups * each, size))
        return found if self.far is None else found + self.far


Inverse = Callable[[Array], Array]
"""Approximate inverse of AᵀA, applied to a vector `[S]`."""


@final
@dataclass(frozen=True)
class Fit:
    """Solution of a least-squares problem.

    Attributes:
        coefficients: c `[S]`.
        left: ‖A c − b‖/‖b‖.
        size: ‖b‖.
    """

    coefficients: Array
    left: float
    size: float


@final
class _NormalEquations:
    """Approximate inverse of AᵀA, whose last columns may meet all rows: block elimination of these."""

    def __init__(self, rows: Sequence[Rows], size: int) -> None:
        """Factor AᵀA; raises LinAlgError where that breaks down."""
        many = rows[0].border.shape[2]
        inner = self._inner = size - many
        width = max(int(np.ptp(part.columns, axis=1).max()) for part in rows if len(part.columns))
        band = np.zeros(inner * (width + 1))
        for part in _merged(rows):
            _add_band(band, part, width)
        band = band.reshape(inner, width + 1)  # LAPACK's lower band, transposed
        scale = np.sqrt(band[:, 0])
        scale[scale == 0] = 1.0
        ahead = np.append(scale, np.ones(width))
        band /= scale[:, None] * sliding_window_view(ahead, width + 1)
        band[:, 0] += RIDGE + (band[:, 0] == 0)
        self._scale = scale
        self._factor = cholesky_banded(band.T, lower=True, overwrite_ab=True, check_finite=False)
        units = [[part.border[:, :, b] for part in rows] for b in range(many)]
        across = [sum(p.transposed(r, size) for p, r in zip(rows, unit, strict=True)) for unit in units]
        self._across = np.array(across).reshape(many, size)[:, :inner]  # (B, inner)
        self._solved = np.array([self._band_solved(row) for row in self._across]).reshape(many, inner)
        corner = sum(np.einsum("gmb,gmc->bc", part.border, part.border) for part in rows)
        self._corner = np.linalg.pinv(corner - self._across @ self._solved.T, hermitian=True) if many else corner

    def _band_solved(self, right: Array) -> Array:
        return cho_solve_banded((self._factor, True), right / self._scale, check_finite=False) / self._scale

    def __call__(self, right: Array) -> Array:
        """(AᵀA)⁻¹ b `[S]`, but for rounding."""
        own, last = right[: self._inner], right[self._inner :]
        first = self._band_solved(own)
        border = self._corner @ (last - self._across @ first)
        return np.concatenate([first - border @ self._solved, border])


def _squared(entries: Array) -> Array:
    return entries.T @ entries


def _dense_inverse(rows: Sequence[Rows], size: int) -> Callable[[Array], Array]:
    """Return the inverse of AᵀA with all its entries; raises LinAlgError where it breaks down."""
    gram = np.zeros((size, size))
    for part in rows:
        if part.far is None and len(part.columns) == 1:
            every = np.append(part.columns[0], np.arange(size - part.border.shape[2], size))
            entries = np.concatenate([part.values[0], part.border[0]], 1)
            np.add.at(gram, np.ix_(every, every), entries.T @ entries)  # a column may stand twice in a group
        else:
            own = part.matrix(size)
            filled = own.nnz > FULL * part.right.size * size
            gram += _squared(own.toarray()) if filled else (own.T @ own).toarray()
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0] = 1.0
    gram = gram / np.outer(scale, scale)
    gram[np.diag_indices(size)] += RIDGE + (np.diag(gram) == 0)
    factor = cho_factor(gram, lower=True, check_finite=False)
    return lambda right: cho_solve(factor, right / scale, check_finite=False) / scale


def factored(rows: Sequence[Rows], size: int) -> Inverse | None:
    """Return (AᵀA)⁻¹ of cleared rows but for rounding; None where the factor breaks down."""
    dense = any(part.far is not None or part.span > size // 2 for part in rows)
    try:
        return _dense_inverse(rows, size) if dense else _NormalEquations(rows, size)
    except LinAlgError:
        return None


def solved(rows: Sequence[Rows], size: int, inverse: Inverse | None = None, iterations: int = 6) -> Fit | None:
    """Minimise ‖A c − b‖ over c `[size]`; None where the factor breaks down."""
    rows = [part.cleared() for part in rows]
    residual = [part.right for part in rows]
    start = _norm(residual)
    c = np.zeros(size)
    if not start:
        return Fit(c, 0.0, 0.0)
    inverse = inverse or factored(rows, size)
    if inverse is None:
        return None
    gradient = _transposed(rows, residual, size)
    direction = z = inverse(gradient)
    slope = float(gradient @ z)
    for _ in range(iterations):
        moved = [part.times(direction) for part in rows]
        curvature = _norm(moved) ** 2
        if not (slope > 0 and curvature > 0):
            break
        step = slope / curvature
        c = c + step * direction
        residual = [r - step * a for r, a in zip(residual, moved, strict=True)]
        gradient = _transposed(rows, residual, size)
        z = inverse(gradient)
        before, slope = slope, float(gradient @ z)
        if not slope > 1e-20 * start**2:
            break
        direction = z + slope / before * direction
    return Fit(c, _norm(residual) / start, start) if np.isfinite(c).all() else None


def _transposed(rows: Sequence[Rows], residual: Sequence[Array], size: int) -> Array:
    found = np.zeros(size)
    for part, r in zip(rows, residual, strict=True):
        found += part.transposed(r, size)
    return found


def _norm(parts: Iterable[Array]) -> float:
    return math.sqrt(sum(float(np.vdot(part, part)) for part in parts))


def _merged(rows: Sequence[Rows]) -> Iterator[Rows]:
    """Yield rows without borders, those of the same groups of columns in one."""
    alike: list[list[Rows]] = []
    for part in rows:
        same = (parts for parts in alike if np.array_equal(parts[0].columns, part.columns))
        if (found := next(same, None)) is None:
            alike.append([part])
        else:
            found.append(part)
    for parts in alike:
        values, right = (np.concatenate([getattr(one, name) for one in parts], 1) for name in ("values", "right"))
        yield _gathered(Rows(parts[0].columns, values, right, np.zeros((*right.shape, 0))))


def _gathered(rows: Rows) -> Rows:
    """Join groups that have the same columns, as points of a condition in one cell; rows of zeros fill them up."""
    columns, group, counts = np.unique(rows.columns, axis=0, return_inverse=True, return_counts=True)
    most, each = int(counts.max(initial=0)), rows.values.shape[1]
    if most <= 1 or most * len(counts) > FILLED * len(group):
        return rows
    order = np.argsort(group, kind="stable")
    place = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.zeros((len(counts), most, *rows.values.shape[1:]))
    right = np.zeros((len(counts), most, each))
    values[group[order], place], right[group[order], place] = rows.values[order], rows.right[order]
    values, right = (one.reshape(len(counts), most * each, *one.shape[3:]) for one in (values, right))
    return Rows(columns, values, right, np.zeros((*right.shape, 0)))


def _add_band(band: Array, rows: Rows, width: int) -> None:
    """Add a lower band of AᵀA to `[size·(width + 1)]`: entry (i, j), i ≥ j, at j·(width + 1) + i − j."""
    many = rows.columns.shape[1]
    step = max(1, PRODUCTS // (many * many))
    for start in range(0, len(rows.columns), step):
        columns, values = rows.columns[start : start + step], rows.values[start : start + step]
        gram = np.matmul(values.transpose(0, 2, 1), values)
        places = columns[:, None, :] * width + columns[:, :, None]
        lower = columns[:, :, None] >= columns[:, None, :]
        np.add.at(band, places[lower], gram[lower])
