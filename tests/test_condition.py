"""Conditions: their supports, and normals and normal derivatives of a point, against closed forms."""

import math

import numpy as np
import pytest
import torch

from kanpinn.errors import UserError
from kanpinn.geometry import Box, Points
from kanpinn.jets.jet import JetSpace
from kanpinn.pde import Condition, Point
from kanpinn.pde.condition import pieces_of

DOMAIN = Box(x=(-1, 2), y=(0, 0.5), t=(1, 4))
SPACE = JetSpace(DOMAIN.names, ("x", "y", "t"))


def value(p):
    return p.u


def point(points, normals, derivatives=("x", "y", "t"), names=DOMAIN.names, unknown="u"):
    """The field u = sin x cos 2y exp(t/3) with its derivatives."""
    points, normals = torch.as_tensor(points), None if normals is None else torch.as_tensor(normals)
    x, y, t = JetSpace(names, derivatives).variables(points)
    return Point(names, points, {unknown: torch.sin(x) * torch.cos(2 * y) * torch.exp(t / 3)}, normals)


def gradient(points):
    x, y, t = points.T
    e = np.exp(t / 3)
    return np.stack([np.cos(x) * np.cos(2 * y), -2 * np.sin(x) * np.sin(2 * y), np.sin(x) * np.cos(2 * y) / 3]) * e


@pytest.mark.parametrize("name", DOMAIN.pieces)
def test_normal_derivatives_on_every_face(name):
    piece = DOMAIN.piece(name)
    points = piece.chart.stretched(np.random.default_rng(0).random((50, 2)))
    p = point(points, piece.normal(points))
    sign, column = {"-": -1.0, "+": 1.0}[name[1]], DOMAIN.names.index(name[0])
    for k, other in enumerate(DOMAIN.names):
        assert (getattr(p, f"n_{other}") == (sign if k == column else 0)).all()
    assert p.u_n.numpy() == pytest.approx(sign * gradient(points)[column], abs=1e-13)


def test_normal_derivative_along_a_slanted_normal():
    points = np.random.default_rng(0).random((50, 3))
    angle = np.linspace(0, 6, 50)
    normals = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    expected = (gradient(points) * normals.T).sum(axis=0)
    assert point(points, normals).u_n.numpy() == pytest.approx(expected, abs=1e-13)
    assert point(points, normals, ("x", "y")).u_n.numpy() == pytest.approx(expected, abs=1e-13)
    with pytest.raises(UserError, match=r"p\.u_n is not computed: add 'y' to the problem's derivatives"):
        _ = point(points, normals, ("x",)).u_n


def test_points_without_a_normal_say_so():
    p = point(np.zeros((2, 3)), None)
    for name in ("n_x", "u_n"):
        with pytest.raises(UserError, match=rf"p\.{name}: there is no normal here"):
            getattr(p, name)
    with pytest.raises(UserError, match=r"p\.n_z: no such coordinate or unknown; known are x, y, t, u"):
        _ = p.n_z


def test_an_unknown_or_a_coordinate_called_n_keeps_its_name():
    points = np.random.default_rng(0).random((5, 3))
    normals = np.ones((5, 3))
    assert point(points, normals, unknown="n").n_x.numpy() == pytest.approx(gradient(points)[0])
    named = point(points, normals, ("n",), names=("x", "n", "t"))
    assert named.u_n.numpy() == pytest.approx(gradient(points)[1])


def test_other_fields_at_the_same_points_keep_the_normals():
    p = point(np.zeros((1, 3)), np.array([[0.0, 1.0, 0.0]]))
    other = p.with_fields({"v": SPACE.variables(torch.full((1, 3), 2.0))[1]})
    assert (other.x.item(), other.n_y.item(), other.v.item(), other.v_n.item()) == (0, 1, 2, 1)


def supports(on, **options):
    return pieces_of(Condition("c", on, value, **options), DOMAIN)


def test_supports_are_faces_planes_regions_or_several_of_them():
    assert [piece.name for piece in supports("x-")] == ["x-"]
    assert [piece.name for piece in supports(("t-", "y+"))] == ["t-", "y+"]
    assert [piece.beside is not None for piece in supports(("x=0", "y=0.25"))] == [True, True]
    (given,) = supports(Points(t=[2.0, 3.0], y=[0.1, 0.2], x=[0.5, 0.6]))
    assert given.chart.all_points().tolist() == [[0.5, 0.1, 2.0], [0.6, 0.2, 3.0]]
    assert given.normal is None
    (part,) = supports(Box(t=(1, 2), x=(0, 4), y=(0, 1)))
    assert part.chart.measure == pytest.approx(2 * 0.5 * 1)
    # Parameters are in the order of the region's coordinates, points in that of the domain's.
    assert part.chart.stretched(np.array([[0.25, 0.5, 0.125]])).tolist() == [[2.0, 0.125, 1.25]]
    (half,) = supports("x-", where=lambda p: p.t < 2.5)
    assert half.chart.measure == pytest.approx(0.5 * 1.5)


@pytest.mark.parametrize(
    ("on", "options", "words"),
    [
        (5, {}, "condition c: on=5: expected a piece of the boundary"),
        ((), {}, r"condition c: on=\(\): expected a piece"),
        (("x-", 3), {}, "expected a piece"),
        ("x", {}, r"condition c: on=x: unknown.*Valid choices: t\+, t-, x\+"),
        ("x=7", {}, "condition c: plane x=7: expected a number between -1 and 2"),
        (("x-", "x=0"), {}, "inner planes need conditions of their own"),
        ("x+", {"periodic": "x"}, "periodic in x needs on='x-'"),
        (Points(x=[0.5]), {}, "condition c: its region has the coordinates x, not x, y, t"),
        (Points(x=[0.5, 3], y=[0, 0], t=[1, 1]), {}, "condition c: its point x=3, y=0, t=1 lies outside the domain"),
        (Box(x=(5, 6), y=(0, 1), t=(0, 1)), {}, "no point of its support lies inside the domain"),
        ("x-", {"where": lambda p: p.t > 9}, "no point of its support lies inside the domain"),
        ("x-", {"where": lambda p: p.t}, "condition c: where returned .* expected booleans"),
    ],
)
def test_wrong_supports_are_refused_in_one_line(on, options, words):
    with pytest.raises(UserError, match=words) as refused:
        supports(on, **options)
    assert "\n" not in str(refused.value)


def test_measure_is_kept_by_charts():
    """Every part of the unit cube is stretched alike, as points of equal weight need."""
    for region in (DOMAIN, *DOMAIN.pieces.values(), DOMAIN.piece("t=2")):
        chart = region.chart
        sides = chart.stretched(np.vstack([np.zeros(chart.dimension), np.eye(chart.dimension)]))
        lengths = np.linalg.norm(sides[1:] - sides[0], axis=1)
        assert math.prod(lengths) == pytest.approx(chart.measure)
