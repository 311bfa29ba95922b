"""Steady flow by spectral elements: the Navier-Stokes equations with conditions on the velocity, Newton's method.

Elements are curved quadrangles; in each the velocity is a polynomial of order N in both of its coordinates, given at
Gauss-Lobatto nodes, and the pressure one of total degree N − 1, not continuous (Bernardi and Maday 1997, section 24).
On boundaries without a condition ν ∂u/∂n = p n. Inner velocities and all of the pressure but its means are eliminated
element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from kanpinn.references.cache import cached

Array = NDArray[np.float64]
Given = Callable[[Array, Array], tuple[NDArray[np.bool_], Array, Array]]
"""Gives, at points `[N]`, where the velocity is given, and u and v there."""

STEPS = 12
"""Most steps of Newton's method."""


@final
@dataclass(frozen=True)
class SteadyFlow:
    """Velocity and pressure of a steady flow.

    Attributes:
        x: Nodes of E elements `[E, n, n]`.
        y: The same.
        u: Velocity in x at the nodes `[E, n, n]`.
        v: Velocity in y.
        p: Coefficients of the pressure's Legendre polynomials, by degree `[E, n − 1, n − 1]`.
        force: What the fluid feels at the nodes where its velocity is given, their parts of ∫ (ν ∂u/∂n − p n): x, y
            and the two components `[4, M]`.
    """

    x: Array
    y: Array
    u: Array
    v: Array
    p: Array
    force: Array

    def __call__(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Return u, v and p at points `[N]`; of those outside all elements, that of the one they are least far off."""
        found, nearest = np.full((3, len(x)), np.nan), np.full(len(x), np.inf)
        for e in range(len(self.x)):
            box = [(c.min(), c.max(), np.ptp(c) / 10) for c in (self.x[e], self.y[e])]
            inside = [
                (c >= low - slack) & (c <= high + slack) for c, (low, high, slack) in zip((x, y), box, strict=True)
            ]
            here = np.flatnonzero(inside[0] & inside[1] & (nearest > 0))
            if not len(here):
                continue
            s, t = _inverse(self.x[e], self.y[e], x[here], y[here])
            excess = np.maximum(np.abs(s), np.abs(t)) - 1
            excess[excess < 1e-9] = 0
            better = excess < nearest[here]
            here, s, t = here[better], s[better], t[better]
            nearest[here] = excess[better]
            first, second = (_lagrange(self.x.shape[1] - 1, c)[0] for c in (s, t))
            found[:2, here] = [np.einsum("ni,nj,ij->n", first, second, field[e]) for field in (self.u, self.v)]
            found[2, here] = legendre.legval2d(s, t, self.p[e])
        return found[0], found[1], found[2]

    def on(self, rule: Callable[[Array, Array], NDArray[np.bool_]]) -> tuple[float, float]:
        """Return the force of the fluid, per unit depth, on a closed part of its boundary: where a rule holds."""
        x, y, *force = self.force
        kept = rule(x, y)
        return -float(force[0][kept].sum()), -float(force[1][kept].sum())


def grid(x: Array, y: Array, order: int, kept: Callable[[Array, Array], NDArray[np.bool_]]) -> tuple[Array, Array]:
    """Return the nodes `[E, n, n]` of rectangles between ends x and y, of those whose middles a rule keeps."""
    i, j = (index.ravel() for index in np.indices((len(x) - 1, len(y) - 1)))
    inner = kept((x[i] + x[i + 1]) / 2, (y[j] + y[j + 1]) / 2)
    i, j = i[inner], j[inner]
    s = (lobatto(order) + 1) / 2
    along, up = x[i, None] + (x[i + 1] - x[i])[:, None] * s, y[j, None] + (y[j + 1] - y[j])[:, None] * s
    n = order + 1
    return np.repeat(along[:, :, None], n, axis=2), np.repeat(up[:, None, :], n, axis=1)


def steady_flow(name: str, key: str, nodes: tuple[Array, Array], viscosity: float, given: Given) -> SteadyFlow:
    """Solve on elements with nodes `[E, n, n]`, or read the solution from the cache.

    Args:
        name: Of the file in the cache.
        key: What tells this flow from others of that name.
        nodes: x and y of the elements' nodes.
        viscosity: ν.
        given: The conditions.

    Raises:
        ArithmeticError: If Newton's method does not settle.
    """
    arrays = cached(name, f"spectral elements 1, {key}", lambda: _solve(*nodes, viscosity, given))
    return SteadyFlow(**arrays)


def _solve(x: Array, y: Array, viscosity: float, given: Given) -> dict[str, Array]:
    count, n = x.shape[:2]
    elements = _Elements(x, y, viscosity)
    places, number = np.unique(
        np.round(np.stack([x.ravel(), y.ravel()]) / np.ptp(x) * 1e9), axis=1, return_inverse=True
    )
    number = number.reshape(count, n * n)
    first = np.zeros(places.shape[1], dtype=int)
    first[number.ravel()] = np.arange(number.size)
    at_x, at_y = x.ravel()[first], y.ravel()[first]
    fixed, u, v = given(at_x, at_y)
    values = np.where(fixed, np.stack([u, v]), 0.0)
    pressure = np.zeros((count, elements.pressures))
    for _ in range(STEPS):
        residual, matrix = elements.linearised(values[0][number], values[1][number], pressure)
        size = elements.condensed(residual, matrix, number, fixed, values, pressure)
        if size < 1e-8 * np.abs(values).max():
            residual, _ = elements.linearised(values[0][number], values[1][number], pressure)
            force = np.zeros_like(values)
            for part in range(2):
                np.add.at(force[part], number, residual[:, part * n * n : (part + 1) * n * n])
            shown = np.zeros((count, n - 1, n - 1))
            shown[:, *elements.degrees] = pressure
            fields = {"u": values[0][number].reshape(x.shape), "v": values[1][number].reshape(x.shape), "p": shown}
            return {"x": x, "y": y, **fields, "force": np.stack([at_x, at_y, *force])[:, fixed]}
    raise ArithmeticError("Newton's method has not settled")


class _Elements:
    """Integrals over all elements at once; unknowns of one are u and v at its n² nodes, then the pressure's."""

    def __init__(self, x: Array, y: Array, viscosity: float) -> None:
        n = x.shape[1]
        points, weights = legendre.leggauss(n + 1)
        value, slope = _lagrange(n - 1, points)
        self.value = np.kron(value, value)  # (Q, n²)
        ds, dt = np.kron(slope, value), np.kron(value, slope)
        flat = [c.reshape(len(x), -1).T for c in (x, y)]
        x_s, x_t, y_s, y_t = (d @ c for c in flat for d in (ds, dt))  # (Q, E)
        area = x_s * y_t - x_t * y_s
        if area.min() <= 0:
            raise ValueError("an element is turned over")
        self.dx = np.einsum("qe,qk->eqk", y_t / area, ds) - np.einsum("qe,qk->eqk", y_s / area, dt)
        self.dy = np.einsum("qe,qk->eqk", x_s / area, dt) - np.einsum("qe,qk->eqk", x_t / area, ds)
        self.weights = (np.outer(weights, weights).ravel()[:, None] * area).T  # (E, Q)
        self.degrees = np.nonzero(np.add.outer(np.arange(n - 1), np.arange(n - 1)) < n - 1)
        s, t = (c.ravel() for c in np.meshgrid(points, points, indexing="ij"))
        self.modes = legendre.legvander2d(s, t, [n - 2, n - 2]).reshape(len(s), n - 1, n - 1)[:, *self.degrees]
        self.pressures = self.modes.shape[1]
        self.viscosity = viscosity
        weighted = self.weights[..., None]
        parts = [-np.swapaxes(d, 1, 2) @ (weighted * self.modes) for d in (self.dx, self.dy)]
        self.divergence = np.concatenate(parts, axis=1)  # (E, 2 n², P)
        self.diffusion = viscosity * sum(np.swapaxes(d, 1, 2) @ (weighted * d) for d in (self.dx, self.dy))

    def linearised(self, u: Array, v: Array, pressure: Array) -> tuple[Array, Array]:
        """Return residuals `[E, m]` of all equations at velocities `[E, n²]`, and their derivatives `[E, m, m]`."""
        weighted, k = self.weights[..., None], u.shape[1]
        at = [field @ self.value.T for field in (u, v)]  # (E, Q)
        slopes = [[np.einsum("eqk,ek->eq", d, field) for d in (self.dx, self.dy)] for field in (u, v)]
        carried = at[0][..., None] * self.dx + at[1][..., None] * self.dy
        common = self.diffusion + self.value.T @ (weighted * carried)
        m = 2 * k + self.pressures
        matrix, residual = np.zeros((len(u), m, m)), np.zeros((len(u), m))
        for i, field in enumerate((u, v)):
            rows = slice(i * k, (i + 1) * k)
            for j in range(2):
                turned = self.value.T @ ((weighted * slopes[i][j][..., None]) * self.value)
                matrix[:, rows, j * k : (j + 1) * k] = turned + (common if i == j else 0)
            residual[:, rows] = np.einsum("ekl,el->ek", common, field)
        matrix[:, : 2 * k, 2 * k :] = self.divergence
        matrix[:, 2 * k :, : 2 * k] = np.swapaxes(self.divergence, 1, 2)
        residual[:, : 2 * k] += np.einsum("ekp,ep->ek", self.divergence, pressure)
        residual[:, 2 * k :] = np.einsum("ekp,ek->ep", self.divergence, np.concatenate([u, v], axis=1))
        return residual, matrix

    def condensed(
        self,
        residual: Array,
        matrix: Array,
        number: NDArray[np.int64],
        fixed: NDArray[np.bool_],
        values: Array,
        pressure: Array,
    ) -> float:
        """Add Newton's step to velocities `[2, M]` by their `number` `[E, n²]` and pressures; return its size."""
        count, k = number.shape
        n, total = int(np.sqrt(k)), values.shape[1]
        nodes = np.arange(k).reshape(n, n)
        middle = nodes[1:-1, 1:-1].ravel()
        rim = np.setdiff1d(nodes, middle)
        outer, inner = np.r_[rim, k + rim, 2 * k], np.r_[middle, k + middle, 2 * k + 1 : 2 * k + self.pressures]
        right = np.concatenate([matrix[:, inner[:, None], outer], residual[:, inner, None]], axis=2)
        solved = np.linalg.solve(matrix[:, inner[:, None], inner], right)
        rest = np.concatenate([matrix[:, outer[:, None], outer], residual[:, outer, None]], axis=2)
        rest -= matrix[:, outer[:, None], inner] @ solved
        unknown = np.concatenate(
            [number[:, rim], total + number[:, rim], 2 * total + np.arange(count)[:, None]], axis=1
        )
        free = np.full(2 * total + count, -1)
        wanted = np.setdiff1d(np.unique(unknown), np.flatnonzero(np.r_[fixed, fixed]))
        free[wanted] = np.arange(len(wanted))
        own = free[unknown]
        rows, columns = np.broadcast_arrays(own[:, :, None], own[:, None, :])
        kept = (rows >= 0) & (columns >= 0)
        square = coo_array((rest[..., :-1][kept], (rows[kept], columns[kept])), shape=(len(wanted), len(wanted)))
        force = np.bincount(own[own >= 0], rest[..., -1][own >= 0], minlength=len(wanted))
        step = np.zeros(2 * total + count)
        step[wanted] = -splu(square.tocsc()).solve(force)
        outside = step[unknown]
        within = -solved[..., -1] - np.einsum("eio,eo->ei", solved[..., :-1], outside)
        step[number[:, middle]] = within[:, : len(middle)]
        step[total + number[:, middle]] = within[:, len(middle) : 2 * len(middle)]
        values += step[: 2 * total].reshape(2, total)
        pressure[:, 0] += outside[:, -1]
        pressure[:, 1:] += within[:, 2 * len(middle) :]
        return float(np.abs(step[: 2 * total]).max())


def lobatto(order: int) -> Array:
    """Return the Gauss-Lobatto nodes of an order `[order + 1]`: ends and extrema of a Legendre polynomial."""
    inner = legendre.legroots(legendre.legder(np.eye(order + 1)[order]))
    return np.r_[-1.0, inner, 1.0]


def _lagrange(order: int, s: Array) -> tuple[Array, Array]:
    """Return Lagrange polynomials of the Gauss-Lobatto nodes at points `[N]`, and their slopes, `[N, order + 1]`."""
    inverse = np.linalg.inv(legendre.legvander(lobatto(order), order))
    slopes = legendre.legvander(s, order - 1) @ legendre.legder(np.eye(order + 1))
    return legendre.legvander(s, order) @ inverse, slopes @ inverse


def _inverse(x: Array, y: Array, at_x: Array, at_y: Array) -> tuple[Array, Array]:
    """Return an element's own coordinates, mostly in [−1, 1], of points `[N]`, by Newton's method."""
    order = len(x) - 1
    s, t = np.zeros_like(at_x), np.zeros_like(at_y)
    for _ in range(12):
        (f, f_s), (g, g_t) = _lagrange(order, s), _lagrange(order, t)
        found = [np.einsum("ni,nj,ij->n", a, b, c) for c in (x, y) for a, b in ((f, g), (f_s, g), (f, g_t))]
        x0, x_s, x_t, y0, y_s, y_t = found
        area = x_s * y_t - x_t * y_s
        dx, dy = at_x - x0, at_y - y0
        step = (dx * y_t - dy * x_t) / area, (dy * x_s - dx * y_s) / area
        s, t = (np.clip(c + d, -1.5, 1.5) for c, d in zip((s, t), step, strict=True))
        if max(np.abs(d).max() for d in step) < 1e-13:
            break
    return s, t
