"""Regions: measures, containment, boundary pieces and their normals against closed forms and SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from kanpinn.errors import UserError
from kanpinn.geometry import Box, Points, Restricted

BOX = Box(x=(-1, 2), y=(0, 0.5), t=(1, 4))
RNG = np.random.default_rng(0)
UNIT = RNG.random((200, 3))
ELL = Restricted(Box(x=(-1, 1), y=(-1, 1)), lambda p: (p[:, 0] <= 0) | (p[:, 1] >= 0))


def on(piece, count=200):
    """Points that fill a piece."""
    return piece.chart.stretched(RNG.random((count, piece.chart.dimension)))


def test_measures_of_a_box_and_its_faces_are_those_of_its_hull():
    corners = np.array(np.meshgrid(*zip(BOX.lower, BOX.upper, strict=True))).reshape(3, -1).T
    hull = ConvexHull(corners)
    assert BOX.measure == pytest.approx(hull.volume)
    assert sum(piece.chart.measure for piece in BOX.pieces.values()) == pytest.approx(hull.area)
    assert list(BOX.pieces) == ["x-", "x+", "y-", "y+", "t-", "t+"]


@pytest.mark.parametrize("name", BOX.pieces)
def test_normals_of_a_box_are_those_of_its_hull(name):
    """SciPy's hull has the outward normal n and offset c of every facet: n · p + c = 0 on it."""
    corners = np.array(np.meshgrid(*zip(BOX.lower, BOX.upper, strict=True))).reshape(3, -1).T
    facets = ConvexHull(corners).equations
    piece = BOX.piece(name)
    points = on(piece)
    normals = piece.normal(points)
    assert normals.shape == points.shape == (200, 3)
    onto = facets[np.abs(points @ facets[:, :3].T + facets[:, 3]).max(axis=0) < 1e-12]
    assert len(onto)
    assert normals == pytest.approx(np.tile(onto[0, :3], (200, 1)), abs=1e-12)
    assert BOX.contains(points).all()
    assert not BOX.contains(points + 1e-9 * normals).any()
    assert BOX.contains(points - 1e-9 * normals).mean() > 0.99


@pytest.mark.parametrize("name", BOX.pieces)
def test_what_is_opposite_a_face_lies_on_the_other_one(name):
    piece, other = BOX.piece(name), BOX.piece(name[0] + {"-": "+", "+": "-"}[name[1]])
    points = on(piece)
    across = piece.across(points)
    column = BOX.names.index(name[0])
    assert (across[:, column] == on(other)[:, column]).all()
    assert (np.delete(across, column, 1) == np.delete(points, column, 1)).all()
    assert (other.across(across) == points).all()
    assert (other.normal(across) == -piece.normal(points)).all()


def test_points_fill_a_box_evenly():
    points = BOX.chart.stretched(UNIT)
    assert BOX.contains(points).all()
    assert (points - BOX.lower) / (np.array(BOX.upper) - BOX.lower) == pytest.approx(UNIT)
    assert BOX.contains(np.array([BOX.lower, BOX.upper])).all()
    assert not BOX.contains(np.array([[-1.1, 0.1, 2], [0, 0.6, 2], [0, 0.1, 5]])).any()


def test_planes_inside_lie_between_the_faces():
    plane = BOX.piece("y=0.125")
    points = on(plane)
    assert plane.chart.measure == 9
    assert (points[:, 1] == 0.125).all()
    assert BOX.contains(points).all()
    assert (plane.normal(points) == [0, 1, 0]).all()
    below, above = (plane.beside(torch.from_numpy(points), side) for side in (-1, 1))
    assert (below[:, 1] == math.nextafter(0.125, 0)).all()
    assert (above[:, 1] == math.nextafter(0.125, 1)).all()
    assert torch.equal(below[:, [0, 2]], above[:, [0, 2]])


def test_the_product_of_boxes_is_a_box():
    assert Box(x=(-1, 2), y=(0, 0.5)) * Box(t=(1, 4)) == BOX
    assert hash(Box(x=(-1, 2), y=(0, 0.5)) * Box(t=(1, 4))) == hash(BOX)
    assert Box(x=(0, 1)) != Box(x=(0, 2))
    assert repr(Box(x=(0, 1))) == "Box(x=(0.0, 1.0))"
    with pytest.raises(UserError, match="both have x"):
        Box(x=(0, 1)) * Box(x=(0, 1))


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ({"x": (1, 0)}, "the lower one first"),
        ({"x": (0, 0)}, "the lower one first"),
        ({"x": (0, math.inf)}, "finite ends"),
        ({"x": (-1e308, 1e308)}, "finite ends"),
        ({"x": (0, math.nan)}, "finite ends"),
        ({"my_x": (0, 1)}, "a name of letters and digits"),
        ({"x": (0, 1), "y": (0, 1), "xxy": (0, 1)}, "xxy reads like a derivative by x, y"),
        ({"x": 1}, "expected two numbers"),
        ({"x": (0, "far")}, "expected two numbers"),
        ({"x": (0, 1, 2)}, "expected two numbers"),
        ({"x": (1e16, 1e16 + 4)}, "too narrow so far from 0"),
        ({"x": (1, 1 + 1e-12)}, "too narrow so far from 0"),
        ({"x": (0, 1e-320)}, "too narrow so far from 0"),
    ],
)
def test_intervals_that_make_no_box_are_refused_in_one_line(intervals, words):
    with pytest.raises(UserError, match=words) as refused:
        Box(**intervals)
    assert "\n" not in str(refused.value)


def test_narrow_and_distant_intervals_that_can_be_resolved_are_boxes():
    assert Box(x=(1e-300, 2e-300)).measure == pytest.approx(1e-300)
    assert Box(t=(1.7e9, 1.7e9 + 60)).measure == 60


def test_given_points_are_their_own_region():
    points = Points(x=[0.2, 0.7, 0.7], t=[1.0, 0.5, -2.0])
    expected = np.array([[0.2, 1.0], [0.7, 0.5], [0.7, -2.0]])
    assert (points.chart.all_points() == expected).all()
    assert points.measure == 3
    assert (points.names, points.lower, points.upper) == (("x", "t"), (0.2, -2.0), (0.7, 1.0))
    assert points.contains(np.array([[0.7, 0.5], [0.2, 0.5], [0.2, 1.0]])).tolist() == [True, False, True]
    with pytest.raises(UserError, match="on=x-: unknown"):
        points.piece("x-")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [0.0, 1.0], "t": [0.0]}, "x: 2, t: 1.*as many numbers"),
        ({"x": []}, "at least one"),
        ({}, "at least one"),
        ({"x": [[0.0, 1.0]]}, "x: 1×2"),
        ({"x": [math.nan]}, "not finite"),
        ({"x": ["here"]}, "expected numbers"),
    ],
)
def test_points_that_are_none_are_refused_in_one_line(columns, words):
    with pytest.raises(UserError, match=words):
        Points(**columns)


def test_a_part_of_a_box_has_the_parts_of_its_faces():
    assert ELL.measure == 3
    assert {name: piece.chart.measure for name, piece in ELL.pieces.items()} == {"x-": 2, "x+": 1, "y-": 1, "y+": 2}
    assert ELL.piece("x=0.5").chart.measure == 1
    assert ELL.contains(np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [0, -1], [2, 2]])).tolist() == [1, 0, 1, 1, 0]
    disk = Restricted(Box(x=(-1, 1), y=(-1, 1)), lambda p: (p**2).sum(axis=1) <= 1)
    assert disk.measure == pytest.approx(math.pi, rel=1e-3)
    assert Restricted(disk, lambda p: p[:, 0] >= 0).measure == pytest.approx(math.pi / 2, rel=1e-3)
