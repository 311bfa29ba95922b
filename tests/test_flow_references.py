"""References of flows and of domains with holes: equations by differences, values on boundaries, balances."""

from __future__ import annotations

import numpy as np
import pytest

from kanpinn.references.cavity import cavity
from kanpinn.references.channels import over_step, past_cylinder
from kanpinn.references.discs import around_discs
from kanpinn.references.steady_flow import grid, steady_flow


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep the tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


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


@pytest.mark.slow
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


def test_flow_on_curved_elements_is_that_of_a_channel() -> None:
    """Poiseuille's flow, u = 4y(1 - y), p = 8 nu (2 - x), on elements whose inner sides are bent."""
    x, y = grid(np.linspace(0, 2, 4), np.linspace(0, 1, 3), 8, lambda x, _: x > 0)
    bent = np.sin(np.pi * y) * np.sin(np.pi * x / 2)
    nodes = (x + 0.1 * bent, y + 0.1 * bent * (1 - y) * y)

    def given(x, y):
        wall = (x < 1e-9) | (y < 1e-9) | (y > 1 - 1e-9)
        return wall, 4 * y * (1 - y), 0 * y

    flow = steady_flow("channel", "bent", nodes, 0.05, given)
    x, y = np.random.default_rng(0).uniform([[0], [0]], [[2], [1]], (2, 300))
    u, v, p = flow(x, y)
    assert u == pytest.approx(4 * y * (1 - y), abs=1e-6)
    assert v == pytest.approx(0 * y, abs=1e-6)
    assert p == pytest.approx(0.4 * (2 - x), abs=1e-5)
    assert np.array_equal(steady_flow("channel", "bent", nodes, 0.0, given)(x, y)[0], u)  # read from the cache


@pytest.mark.parametrize(
    ("order", "error"),
    [(4, 3e-3), pytest.param(6, 2e-5, marks=pytest.mark.slow), pytest.param(8, 1e-7, marks=pytest.mark.slow)],
)
def test_cylinder_has_the_drag_and_lift_of_the_literature(order: int, error: float) -> None:
    """Schäfer and Turek's test 2D-1, values of Nabh 1998 and John and Matthies 2001."""
    flow = past_cylinder(order=order)
    drag, lift = flow.on(lambda x, y: np.hypot(x - 0.2, y - 0.2) < 0.051)
    p = flow(np.array([0.15, 0.25]), np.array([0.2, 0.2]))[2]
    assert 500 * drag == pytest.approx(5.57953523384, rel=error)
    assert 500 * lift == pytest.approx(0.010618948146, rel=10 * error)
    assert p[0] - p[1] == pytest.approx(0.11752016697, rel=10 * error)


def test_flow_over_a_step_loses_no_mass_and_is_attached_again_where_higher_order_finds_it() -> None:
    flow = over_step(order=5, finest=4e-3)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for x, low in ((-0.5, 0.0), (0.3, -0.5), (3.0, -0.5)):
        y = (low + 0.5) / 2 + (0.5 - low) / 2 * nodes
        assert (0.5 - low) / 2 * weights @ flow(np.full(40, x), y)[0] == pytest.approx(0.5, rel=1e-4)
    x = np.linspace(0.5, 3, 251)
    u = [flow(x, np.full_like(x, -0.5 + k * 1e-3))[0] for k in (1, 2)]
    shear = 4 * u[0] - u[1]
    first = np.flatnonzero(shear > 0)[0]
    length = np.interp(0, shear[first - 1 : first + 1], x[first - 1 : first + 1])
    assert 2 * length == pytest.approx(2.91857, abs=0.01)  # of order 8, in step heights
    assert (shear[first:] > 0).all()
