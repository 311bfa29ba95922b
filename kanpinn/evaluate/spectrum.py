"""Power spectra of errors on a tensor grid, one coordinate at a time."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from kanpinn.axes import norm


def wave_numbers(values: np.ndarray, periodic: bool) -> np.ndarray:
    """The wave numbers that `power` tells apart on an axis of `[n]` equidistant values with both ends, n ≥ 2.

    In cycles per unit of the coordinate, ascending from 0: multiples of 1/L for a periodic axis of length L, whose
    ends are one point, `[(n + 1) // 2]`, else of 1/(2L), `[n]`.
    """
    length = float(values[-1] - values[0])
    return np.arange((len(values) + 1) // 2) / length if periodic else np.arange(len(values)) / (2 * length)


def power(error: np.ndarray, axis: int, periodic: Collection[int] = ()) -> np.ndarray:
    """Split the mean square of an error among the wave numbers along one axis, averaged over the others.

    Along a periodic axis by the discrete Fourier transform; along any other by a cosine transform, as Denis, Côté and
    Laprise 2002 do (Spectral decomposition of two-dimensional atmospheric fields on limited-area domains using the
    discrete cosine transform, Monthly Weather Review 130, 1812): the even continuation of the error has no jump at the
    ends, where a Fourier transform would see one and fill all wave numbers with it. Ours is of the first kind, whose
    points are the ends and what lies between. A kink of the continuation remains, from the error's slope at the ends;
    it gives a tail that falls like k⁻⁴, below which nothing is seen.

    The error is finite, on a grid with both ends of every axis; the two ends of a periodic one are one point. The
    values, one per wave number, add up to the error's mean square over the box by the trapezoidal rule, whatever the
    axis.
    """
    values = np.moveaxis(error, axis, -1)
    n = values.shape[-1]
    if axis in periodic:
        amplitudes = np.abs(np.fft.rfft(values[..., :-1], axis=-1)) / (n - 1)
        share = np.full(amplitudes.shape[-1], 2.0)  # a wave number and its negative
        share[0] = 1.0
        if (n - 1) % 2 == 0:
            share[-1] = 1.0
    else:
        # The cosine transform as the Fourier transform of the even continuation, of 2(n − 1) points.
        even = np.concatenate([values, values[..., -2:0:-1]], axis=-1)
        amplitudes = np.abs(np.fft.rfft(even, axis=-1)) / (n - 1)
        share = np.full(n, 0.5)
        amplitudes[..., [0, -1]] /= 2
        share[[0, -1]] = 1.0
    squares = share * amplitudes**2
    for _ in range(squares.ndim - 1):
        squares = _mean(squares)
    return squares


def _mean(values: np.ndarray) -> np.ndarray:
    """Average over the first axis by the trapezoidal rule."""
    if len(values) == 1:
        return values[0]
    weights = np.ones(len(values))
    weights[[0, -1]] = 0.5
    return np.tensordot(weights / weights.sum(), values, axes=1)


def error_spectra(
    fields: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    coordinates: Mapping[str, np.ndarray],
    axes: Collection[str],
    periodic: Collection[str],
) -> dict[str, np.ndarray]:
    """The power spectra of the errors of all unknowns, relative to their references, along each coordinate `[n_k]`.

    `wave_number_<coordinate>` in cycles per unit of the coordinate, and the power `<unknown>_<coordinate>` at each, in
    units of the mean square of the reference, or in those of the unknown where the reference is zero.
    Nothing for an unknown without a reference, or where it is not finite on the whole box (a domain that is only part
    of it): a spectrum needs all of it.
    """
    found: dict[str, np.ndarray] = {}
    wrapped = [k for k, name in enumerate(axes) if name in periodic and len(coordinates[name]) > 2]
    for unknown, exact in reference.items():
        error = fields[unknown] - exact
        if not np.isfinite(error).all():
            continue
        error = error / (norm(exact) / math.sqrt(exact.size) or 1.0)
        for k, name in enumerate(axes):
            if len(coordinates[name]) > 1:
                found[f"wave_number_{name}"] = wave_numbers(coordinates[name], k in wrapped)
                found[f"{unknown}_{name}"] = power(error, k, wrapped)
    return found


def unstacked(table: Mapping[str, np.ndarray]) -> dict[int, dict[str, np.ndarray]]:
    """Return `error_spectra` by visit from their `stacked` table; nothing for a visit without."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, values in table.items():
        if name.startswith("wave_number_"):
            continue
        axis = f"wave_number_{name.rpartition('_')[2]}"
        for visit in np.flatnonzero(~np.isnan(values).all(1)).tolist():
            found.setdefault(visit, {}).update({axis: table[axis], name: values[visit]})
    return found


def stacked(spectra: Mapping[int, Mapping[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Put `error_spectra` by visit into one table: wave numbers, and powers `[count, K]`, NaN for a visit without."""
    table: dict[str, np.ndarray] = {}
    for visit, columns in spectra.items():
        for name, values in columns.items():
            if name.startswith("wave_number_"):
                table[name] = values
            elif visit < count:
                table.setdefault(name, np.full((count, len(values)), np.nan))[visit] = values
    return table
