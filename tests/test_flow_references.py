"""References of flows and of domains with holes: equations by differences, values on boundaries, balances."""

from __future__ import annotations

import numpy as np
import pytest

from kanpinn.references.cavity import cavity
from kanpinn.references.discs import around_discs

HOLES = [(-0.3, 0.2, 0.1), (0.2, -0.1, 0.25)]


def five_points(f, x: np.ndarray, y: np.ndarray, h: float) -> np.ndarray:
    """Δf by second differences, to O(h⁴) by Richardson's extrapolation."""

    def plain(h: float) -> np.ndarray:
        return (f(x + h, y) + f(x - h, y) + f(x, y + h) + f(x, y - h) - 4 * f(x, y)) / h**2

    return (4 * plain(h) - plain(2 * h)) / 3


@pytest.mark.parametrize(("kappa", "order"), [(0.0, 30), (8.0, 30)])
def test_multipoles_solve_their_equation_and_meet_their_boundary(kappa: float, order: int) -> None:
    v = around_discs(0.5, kappa, HOLES, lambda x, y: 1 + x * y, order, 30)
    assert v.error < 1e-8
    x, y = np.array([0.0, 0.45, -0.05, -0.4]), np.array([0.3, 0.4, 0.2, -0.45])
    assert five_points(v, x, y, 2e-3) == pytest.approx(kappa**2 * v(x, y), abs=2e-5)
    angle = np.linspace(0, 6, 50)
    for cx, cy, r in HOLES:
        x, y = cx + r * np.cos(angle), cy + r * np.sin(angle)
        assert v(x, y) == pytest.approx(1 + x * y, abs=1e-8)
    s = np.linspace(-0.5, 0.5, 41)
    assert np.abs([v(s, 0 * s + 0.5), v(0 * s - 0.5, s)]).max() < 1e-8


def test_cavity_flow_has_no_divergence_meets_its_walls_and_settles_with_the_order() -> None:
    flow, coarse = cavity(100.0), cavity(100.0, 24)
    s, zero = np.linspace(0, 1, 33), np.zeros(33)
    for x, y, lid in ((s, zero + 1, 4 * s * (1 - s)), (s, zero, zero), (zero, s, zero), (zero + 1, s, zero)):
        u, v = flow(x, y)
        assert u == pytest.approx(lid, abs=1e-10)
        assert v == pytest.approx(zero, abs=1e-10)
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0.1, 0.9, 9), np.linspace(0.1, 0.9, 9)))
    h = 1e-4
    divergence = (flow(x + h, y)[0] - flow(x - h, y)[0] + flow(x, y + h)[1] - flow(x, y - h)[1]) / (2 * h)
    assert np.abs(divergence).max() < 1e-6
    change = np.array(flow(x, y)) - np.array(coarse(x, y))
    assert np.linalg.norm(change) < 2e-3 * np.linalg.norm(flow(x, y))


def test_cavity_flow_dissipates_what_its_lid_does() -> None:
    """ν ∫ ω² = ν ∫ u u_y over the lid: what the shear of the lid does is lost in the whole cavity."""
    flow, h = cavity(100.0), 1e-5
    nodes, weights = np.polynomial.legendre.leggauss(48)
    nodes, weights = (nodes + 1) / 2, weights / 2
    x, y = (axis.ravel() for axis in np.meshgrid(nodes, nodes, indexing="ij"))
    v_x = (flow(x + h, y)[1] - flow(x - h, y)[1]) / (2 * h)
    u_y = (flow(x, y + h)[0] - flow(x, y - h)[0]) / (2 * h)
    lost = np.outer(weights, weights).ravel() @ (v_x - u_y) ** 2
    one = np.ones_like(nodes)
    u = [flow(nodes, one - k * h)[0] for k in range(3)]
    done = weights @ (u[0] * (3 * u[0] - 4 * u[1] + u[2]) / (2 * h))
    assert lost == pytest.approx(done, rel=1e-4)
