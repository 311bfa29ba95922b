"""Steady flows in channels: over a backward-facing step and past a cylinder, by spectral elements."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import invalid
from kanpinn.references.steady_flow import Array, SteadyFlow, grid, lobatto, steady_flow

ORDER = 8
"""Order of the velocity's polynomials."""

NEAR = 1e-9
"""Distance from a wall of nodes that lie on it."""


@cache
def over_step(reynolds: float = 100.0, order: int = ORDER, finest: float = 1e-3) -> SteadyFlow:
    """Solve for the flow over a step of height 1/2 in a channel of height 1, −1 < x < 4, u = 24 y (1/2 − y) coming in.

    Elements shrink to the finest one at the step's edge by 4, as the velocity is r^0.54 there. At Re 100 polynomials of
    order 6 change u by 1e-5 and smaller elements at the edge by 7e-8, and it is attached again at x = 1.459285.

    Raises:
        UserError: If no steady flow was found: at too large a Reynolds number.
    """
    sizes = 0.25 * 0.25 ** np.arange(round(np.log(0.25 / finest) / np.log(4)) + 1)[::-1]
    near = np.r_[0, sizes]
    x = np.r_[-1, -0.625, -near[::-1], near[1:], np.linspace(0.25, 4, 9)[1:]]
    y = np.r_[-0.5, -near[::-1], near[1:], 0.5]

    def given(x: Array, y: Array) -> tuple[NDArray[np.bool_], Array, Array]:
        inflow, walls = _at(x, -1), _at(np.abs(y), 0.5) | ((x < NEAR) & (y < NEAR))
        return inflow | walls, np.where(inflow, 24 * y * (0.5 - y), 0), np.zeros_like(y)

    nodes = grid(x, y, order, lambda x, y: (x > 0) | (y > 0))
    key = f"Re={reynolds!r} order={order} finest={finest!r}"
    try:
        return steady_flow("backward_step", key, nodes, 1 / reynolds, given)
    except ArithmeticError:
        raise invalid(
            "problem.Re", reynolds, "a Reynolds number at which the steady flow is found, up to 400"
        ) from None


@cache
def past_cylinder(viscosity: float = 1e-3, peak: float = 0.3, order: int = ORDER) -> SteadyFlow:
    """Solve for the flow past a cylinder of diameter 0.1 about (0.2, 0.2) in the channel 0 < x < 2.2, 0 < y < 0.41.

    The inflow is a parabola of this peak velocity. At Re 20 drag and lift are those of the literature to 3e-9 and
    1e-11 (John and Matthies 2001), and the pressure difference over the cylinder to 2e-8; polynomials of order 10
    change u by 2e-7, v by 3e-6 and p by 1e-6, relative in L2.

    Raises:
        UserError: If no steady flow was found: at too small a viscosity.
    """
    half, ring = 0.1, 4
    side = 0.2 + np.linspace(-half, half, ring + 1)
    x = np.r_[0, 0.05, side, 0.3 + 1.9 * (np.arange(1, 13) / 12) ** 1.6]
    y = np.r_[0, 0.05, side, 0.355, 0.41]
    plain = grid(x, y, order, lambda x, y: (np.abs(x - 0.2) > half) | (np.abs(y - 0.2) > half))
    around = _ring(0.05, half, ring, 4, order)
    nodes = (np.concatenate([plain[0], 0.2 + around[0]]), np.concatenate([plain[1], 0.2 + around[1]]))

    def given(x: Array, y: Array) -> tuple[NDArray[np.bool_], Array, Array]:
        inflow, walls = _at(x, 0), _at(y, 0) | _at(y, 0.41) | _at(np.hypot(x - 0.2, y - 0.2), 0.05)
        return inflow | walls, np.where(inflow, 4 * peak * y * (0.41 - y) / 0.41**2, 0), np.zeros_like(y)

    try:
        return steady_flow("cylinder", f"nu={viscosity!r} U={peak!r} order={order}", nodes, viscosity, given)
    except ArithmeticError:
        raise invalid(
            "problem.nu", viscosity, "a viscosity at which the steady flow is found, 0.0003 or more"
        ) from None


def _at(values: Array, place: float) -> NDArray[np.bool_]:
    return np.abs(values - place) < NEAR


def _ring(radius: float, half: float, around: int, outward: int, order: int) -> tuple[Array, Array]:
    """Return the nodes `[E, n, n]` between a circle and a square about the origin, on straight lines outwards."""
    s = (lobatto(order) + 1) / 2
    ends = np.linspace(0, 1, outward + 1) ** 1.3
    share = (ends[:-1, None] + np.diff(ends)[:, None] * s)[:, None, :, None]  # (outward, 1, n, 1)
    along = (2 * (np.arange(around)[:, None] + s) / around - 1)[None, :, None, :]  # (1, around, 1, n)
    x = (1 - share) * radius * np.cos(np.pi / 4 * along) + share * half
    y = (1 - share) * radius * np.sin(np.pi / 4 * along) + share * half * along
    turns = [(x, y), (-y, x), (-x, -y), (y, -x)]
    n = order + 1
    first, second = (np.concatenate([turn[k].reshape(-1, n, n) for turn in turns]) for k in (0, 1))
    return first, second
