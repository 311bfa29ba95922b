"""Properties of a function of several variables, asked of its values: what splits, what depends on a combination only.

Differences over random places of a box tell what does, as in AI Feynman (Udrescu and Tegmark 2020,
doi:10.1126/sciadv.aay2631) and KAN 2.0 (Liu et al. 2024, arXiv:2408.10205, sec. 4.3), for x split into groups y, z:

    f = g(y) + h(z)            f(y, z) − f(y, z') − f(y', z) + f(y', z') = 0
    f = g(y) h(z)              f(y, z) f(y', z') − f(y, z') f(y', z) = 0
    f = F(g(y) + h(z))         ∂_i f / ∂_j f is a function of y times one of z, for i in y, j in z
    f = g(h(y), z)             the direction of ∇_y f does not depend on z

The first difference is the integral of the mixed blocks of the Hessian over a rectangle, the second the same of log |f|
but for the sign and the poles: no derivative of a noisy function is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]

PLACES = 200
"""Places at which a property is tested, and points of a curve."""


@final
@dataclass(frozen=True)
class Field:
    """A function on a box.

    Attributes:
        value: Its values `[N]` at points `[N, d]`.
        names: Names of the coordinates.
        lower: Lower ends of the box `[d]`.
        upper: Upper ends.
        tolerance: Size below which a difference relative to the function's rms is no difference.
    """

    value: Callable[[Array], Array]
    names: tuple[str, ...]
    lower: Array
    upper: Array
    tolerance: float

    def points(self, count: int, seed: int) -> Array:
        """Draw points `[count, d]`, uniformly."""
        return np.random.default_rng(seed).uniform(self.lower, self.upper, (count, len(self.names)))

    def at(self, names: Sequence[str], fixed: Array) -> Field:
        """Return the function of some coordinates, the others held at those of a point `[d]`."""
        columns = [self.names.index(name) for name in names]

        def value(points: Array) -> Array:
            whole = np.repeat(fixed[None], len(points), 0)
            whole[:, columns] = points
            return self.value(whole)

        return replace(self, value=value, names=tuple(names), lower=self.lower[columns], upper=self.upper[columns])

    def mapped(self, change: Callable[[Array], Array], tolerance: float) -> Field:
        """Return a function of this one's values."""
        return replace(self, value=lambda points: change(self.value(points)), tolerance=tolerance)


@final
@dataclass(frozen=True)
class Finding:
    """A property of a function, tested.

    Attributes:
        text: The property in words.
        measured: Size of the difference that should vanish, relative to the function.
        tolerance: The size it was held against.
    """

    text: str
    measured: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """True if the function has the property, as far as the tolerance tells."""
        return bool(self.measured <= self.tolerance)


def change_along(field: Field, name: str, count: int = PLACES) -> Array:
    """Return changes of a function `[count]` as one coordinate moves to another random value."""
    points, others = field.points(count, 2), field.points(count, 3)
    k = field.names.index(name)
    moved = points.copy()
    moved[:, k] = others[:, k]
    return field.value(moved) - field.value(points)


def corners(
    field: Field, one: Collection[str], other: Collection[str] | None = None, count: int = PLACES
) -> tuple[Array, Array, Array, Array]:
    """Return the function at the corners of rectangles, f(y, z), f(y, z'), f(y', z), f(y', z'), each `[count]`.

    The groups of names are y and z, all but y by default; coordinates of neither stay.
    """
    first, second = field.points(count, 4), field.points(count, 5)
    names = np.array(field.names)
    own = np.isin(names, list(one))
    others = ~own if other is None else np.isin(names, list(other))
    moved = [np.where(own * a | others * b, second, first) for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))]
    a, b, c, d = (field.value(points) for points in moved)
    return a, b, c, d


def gradients(field: Field, points: Array, step: float = 5e-3) -> Array:
    """Return central differences of sixth order `[N, d]` at points `[N, d]`, by coordinates scaled to the box.

    Points nearer to a face than three steps, relative to the box, are moved there.
    """
    width = field.upper - field.lower
    points = np.clip(points, field.lower + 3 * step * width, field.upper - 3 * step * width)
    columns = []
    for k in range(len(field.names)):
        shift = np.zeros(len(field.names))
        shift[k] = step * width[k]
        by = [field.value(points + m * shift) - field.value(points - m * shift) for m in (1, 2, 3)]
        columns.append((45 * by[0] - 9 * by[1] + by[2]) / (60 * step))
    return np.stack(columns, 1)


def _signed_root(value: Array, like: Array) -> Array:
    return np.copysign(np.sqrt(value), like)


def _signed_exp(value: Array, like: Array) -> Array:
    return np.copysign(np.exp(value), like)


COMBINATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "linear": (lambda x: x, lambda value, like: value),  # noqa: ARG005
    "power": (lambda x: np.log(np.abs(x)), _signed_exp),
    "square": (np.square, _signed_root),
}
"""φ in combinations φ(x_i) + r φ(x_j), with its inverse of the sign of another number."""


def refined_ratio(field: Field, i: int, j: int, start: float, kind: str = "linear") -> tuple[float, Array, float]:
    """Refine r in f = g(φ(x_i) + r φ(x_j), rest) by moving along φ(x_i) + r φ(x_j) = const.

    Args:
        field: The function f.
        i: Number of the first coordinate.
        j: Number of the second.
        start: A value near r.
        kind: One of `COMBINATIONS`.

    Returns:
        r; the changes of f that are left `[n]`, at those of `PLACES` random places from where a step stays inside; and
        the rms by which these change with r.
    """
    points, (there, back) = field.points(PLACES, 8), COMBINATIONS[kind]
    width = field.upper - field.lower
    steps = np.random.default_rng(9).uniform(-0.3, 0.3, PLACES) * width[j]
    if kind == "linear":
        steps = np.where(np.abs(start * steps) > 0.4 * width[i], 0.4 * width[i] * np.sign(steps) / abs(start), steps)
    moved = points.copy()
    moved[:, j] = np.clip(points[:, j] + steps, field.lower[j], field.upper[j])
    same = kind == "linear" or moved[:, j] * points[:, j] > 0
    values = field.value(points)

    def change(ratio: Array) -> tuple[Array, NDArray[np.bool_]]:
        with np.errstate(all="ignore"):
            level = there(points[:, i]) - ratio[0] * (there(moved[:, j]) - there(points[:, j]))
            target = back(level, points[:, i])
        inside = same & (target >= field.lower[i]) & (target <= field.upper[i])
        moved[:, i] = np.where(inside, target, points[:, i])
        return np.where(inside, field.value(moved) - values, 0.0), inside

    found = least_squares(
        lambda ratio: change(ratio)[0], [start], xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale=abs(start)
    )
    left, inside = change(found.x)
    count = max(int(np.count_nonzero(inside)), 1)
    return float(found.x[0]), left[np.flatnonzero(inside)], float(np.sqrt(np.sum(found.jac**2) / count))
