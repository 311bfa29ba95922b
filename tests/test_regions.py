"""Curved, polygonal and combined regions: measures, points, normals against closed forms, shapely and trimesh."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pyvista as pv
import shapely
import torch
import trimesh
import vtk
from scipy.special import ellipe

import kanpinn
from kanpinn.errors import UserError
from kanpinn.geometry import Ball, Box, Disk, Ellipse, Mesh, Polygon, Region
from kanpinn.pde.condition import Condition, pieces_of
from kanpinn.samplers import SAMPLERS

STAR = [(r * math.cos(a), r * math.sin(a)) for r, a in ((1 + 0.4 * (k % 2), math.pi * k / 5) for k in range(10))]
SQUARE_HOLE = [(-0.3, -0.2), (0.3, -0.2), (0.3, 0.2), (-0.3, 0.2)]
PLATE = Box(x=(-1, 1), y=(-1, 1))
HALF = 2 / 3 * math.pi - math.sqrt(3) / 2
"""Area of the intersection of two unit disks one apart."""

MEASURES: dict[str, tuple[Region, float, dict[str, float]]] = {
    "disk": (Disk([1, -2], 0.5), math.pi / 4, {"disk": math.pi}),
    "ellipse": (Ellipse([0, 1], [2, 0.5], 0.7), math.pi, {"ellipse": 8 * ellipe(1 - 1 / 16)}),
    "tall ellipse": (Ellipse([0, 1], [0.5, 2]), math.pi, {"ellipse": 8 * ellipe(1 - 1 / 16)}),
    "ball": (Ball([1, 0, 2], 0.5), math.pi / 6, {"ball": math.pi}),
    "star": (Polygon(STAR, name="star"), shapely.Polygon(STAR).area, {"star": shapely.Polygon(STAR).length}),
    "star with a hole": (
        Polygon(STAR, [SQUARE_HOLE]),
        shapely.Polygon(STAR, [SQUARE_HOLE]).area,
        {"polygon": shapely.Polygon(STAR).length, "polygon.hole0": 2.0},
    ),
    "ring": (Disk(name="outer") - Disk([0.2, 0], 0.3), math.pi * 0.91, {"outer": 2 * math.pi, "disk": 0.6 * math.pi}),
    "lens": (Disk(name="a") & Disk([1, 0], name="b"), HALF, {"a": 2 * math.pi / 3, "b": 2 * math.pi / 3}),
    "union": (
        Disk(name="a") | Disk([1, 0], name="b"),
        2 * math.pi - HALF,
        {"a": 4 * math.pi / 3, "b": 4 * math.pi / 3},
    ),
    "crescent": (Disk(name="a") - Disk([1, 0], name="b"), math.pi - HALF, {"a": 4 * math.pi / 3, "b": 2 * math.pi / 3}),
    "plate with a disk cut at its edge": (
        PLATE - Disk([1, 0], 0.5),
        4 - math.pi / 8,
        {"x-": 2.0, "x+": 1.0, "y-": 2.0, "y+": 2.0, "disk": math.pi / 2},
    ),
    "boxes side by side": (
        Box(x=(0, 1), y=(0, 1), name="a") | Box(x=(1, 3), y=(0, 1), name="b"),
        3.0,
        {"a.x-": 1, "a.x+": 0, "a.y-": 1, "a.y+": 1, "b.x-": 0, "b.x+": 1, "b.y-": 2, "b.y+": 2},
    ),
    "L": (
        PLATE - Box(x=(0, 1), y=(-1, 0), name="cut"),
        3.0,
        {"x-": 2, "x+": 1, "y-": 1, "y+": 2, "cut.x-": 1, "cut.y+": 1},
    ),
    "cylinder in time": (
        (Disk(radius=2) - Disk(radius=1, name="hole")) * Box(t=(0, 3)),
        9 * math.pi,
        {"disk": 12 * math.pi, "hole": 6 * math.pi, "t-": 3 * math.pi, "t+": 3 * math.pi},
    ),
    "ball minus a box": (
        Ball() - Box(x=(0, 2), y=(-2, 2), z=(-2, 2), name="half"),
        2 * math.pi / 3,
        {"ball": 2 * math.pi, "half.x-": math.pi},
    ),
}
CASES = pytest.mark.parametrize(("region", "measure", "sides"), MEASURES.values(), ids=MEASURES)


def drawn(region, count: int = 4000) -> np.ndarray:
    """Even points of a chart `[count, d]`, those it rejects left out."""
    points = region.chart.stretched(np.random.default_rng(1).random((count, region.chart.dimension)))
    return points if region.chart.part is None else points[region.chart.part(points)]


@CASES
def test_measures_are_those_of_closed_forms(region: Region, measure: float, sides: dict[str, float]) -> None:
    assert region.measure == pytest.approx(measure, rel=3e-3)
    found = {name: piece.chart.measure for name, piece in region.pieces.items()}
    assert {name: found.get(name, 0.0) for name in sides} == pytest.approx(sides, rel=5e-3, abs=1e-3)
    assert sum(found.values()) == pytest.approx(sum(sides.values()), rel=5e-3)


@CASES
def test_points_are_inside_their_box_and_pieces_have_outward_unit_normals(region: Region, measure, sides) -> None:
    points = drawn(region)
    assert region.contains(points).all()
    assert ((points >= region.lower) & (points <= region.upper)).all()
    for name in sides:
        if not region.piece(name).chart.measure:
            continue
        edge = drawn(region.piece(name))
        normal = region.piece(name).normal(edge)
        assert np.linalg.norm(normal, axis=1) == pytest.approx(1)
        assert region.contains(edge - 1e-6 * normal).mean() > 0.995  # but for points at corners
        assert not region.contains(edge + 1e-6 * normal).any()


@pytest.mark.parametrize("name", ["disk", "ellipse", "ball", "star with a hole", "crescent", "cylinder in time"])
def test_points_are_even(name: str) -> None:
    """First and second moments of points by the chart are those of points rejected from the box around."""
    region = MEASURES[name][0]
    points = drawn(region, 40_000)
    lower, upper = np.array(region.lower), np.array(region.upper)
    box = lower + (upper - lower) * np.random.default_rng(2).random((150_000, len(lower)))
    box = box[region.contains(box)]
    size = (upper - lower).max()
    assert points.mean(axis=0) == pytest.approx(box.mean(axis=0), abs=0.01 * size)
    assert np.cov(points.T) == pytest.approx(np.cov(box.T), abs=0.01 * size**2)


def test_points_on_an_ellipse_are_even_in_arc_length() -> None:
    chart = Ellipse([0, 0], [3, 1]).pieces["ellipse"].chart
    points = chart.points(np.linspace(0, chart.upper[0], 20_001)[:, None])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert steps == pytest.approx(np.full(20_000, chart.upper[0] / 20_000), rel=1e-5)


def test_edges_of_a_polygon_have_numbers_and_all_pieces_together_a_name() -> None:
    region = Polygon([(0, 0), (0, 1), (2, 0)], name="roof") - Disk([0.3, 0.3], 0.1)  # vertices given clockwise
    lengths = [region.piece(f"roof.{k}").chart.measure for k in range(3)]
    assert lengths == pytest.approx([1, math.sqrt(5), 2], rel=5e-3)
    assert [piece.name for piece in region.support("boundary")] == ["roof", "disk"]
    assert [piece.name for piece in Box(x=(0, 1), y=(0, 1), name="slot").support("slot")] == [
        "slot.x-",
        "slot.x+",
        "slot.y-",
        "slot.y+",
    ]
    with pytest.raises(UserError, match=r"on=rim: unknown\. Valid choices: disk, roof"):
        region.support("rim")


def test_a_box_taken_away_keeps_its_name_in_a_product() -> None:
    body = (Ball(name="ball") - Box(x=(-0.3, 0.3), y=(-0.4, 0.4), z=(-0.2, 0.5), name="box")) * Box(t=(0, 2))
    faces = body.support("box")
    assert [piece.name for piece in faces] == [f"box.{axis}{end}" for axis in "xyz" for end in "-+"]
    assert faces[0].chart.measure == pytest.approx(2 * 0.8 * 0.7, rel=1e-2)


def test_periodic_faces_of_a_box_with_holes_meet_points_of_the_domain() -> None:
    square = Box(x=(0, 1), y=(0, 1), name="square")
    domain = square - Disk([0, 0.5], 0.2, name="left") - Disk([1, 0.5], 0.3, name="right")
    (piece,) = pieces_of(Condition("sides", "square.x-", lambda p, q: p.u - q.u, periodic="x"), domain)
    assert piece.chart.measure == pytest.approx(0.4, rel=1e-2)
    assert piece.across is not None
    ends = piece.across(np.array([[0.0, 0.1]]))
    assert ends.tolist() == [[1.0, 0.1]]
    with pytest.raises(UserError, match="nothing lies opposite"):
        pieces_of(
            Condition("sides", "x-", lambda p, q: p.u - q.u, periodic="x"), Disk(name="a") - Box(x=(0, 1), y=(0, 1))
        )


def test_planes_inside_end_at_the_boundary() -> None:
    plane = (Disk() - Disk(radius=0.5, name="hole")).piece("x=0")
    assert plane.chart.measure == pytest.approx(1.0, rel=1e-3)
    assert (np.abs(drawn(plane)[:, 1]) >= 0.5).all()


def test_a_mesh_is_the_body_of_its_file(tmp_path: Path) -> None:
    torus = trimesh.creation.torus(1.0, 0.4, major_sections=24, minor_sections=12)
    torus.export(tmp_path / "torus.stl")
    region = Mesh(tmp_path / "torus.stl", name="skin")
    assert region.pieces["skin"].chart.measure == pytest.approx(torus.area)
    assert region.measure == pytest.approx(torus.volume)  # not the share of points within
    skin = drawn(region.pieces["skin"], 500)
    distance = np.hypot(np.hypot(skin[:, 0], skin[:, 1]) - 1, skin[:, 2])
    assert ((distance <= 0.41) & (distance >= 0.36)).all()  # chords
    normal = region.pieces["skin"].normal(skin)
    assert region.contains(skin - 1e-5 * normal).all()
    assert not region.contains(skin + 1e-5 * normal).any()
    assert region.contains(skin).all()


def test_surfaces_of_vtk_files_are_bodies(tmp_path: Path) -> None:
    sphere = pv.Sphere(theta_resolution=12, phi_resolution=8)
    sphere.save(tmp_path / "sphere.vtp")
    cubes = pv.ImageData(dimensions=(3, 3, 2)).cast_to_unstructured_grid()  # 2 × 2 × 1, of hexahedra
    cubes.save(tmp_path / "cubes.vtu")
    sphere.save(tmp_path / "sphere.vtk")
    for name, volume, area in (
        ("sphere.vtp", sphere.volume, sphere.area),
        ("sphere.vtk", sphere.volume, sphere.area),
        ("cubes.vtu", 4, 16),
    ):
        region = Mesh(tmp_path / name)
        assert region.pieces["mesh"].chart.measure == pytest.approx(area, rel=1e-5)
        assert region.measure == pytest.approx(volume, rel=0.02)
    (tmp_path / "text.vtk").write_text("nothing")
    for name in ("text.vtk", "none.vtp"):
        with pytest.raises(UserError, match=r"cannot be read|no triangles"):
            Mesh(tmp_path / name)


def test_files_that_bound_nothing_are_refused(tmp_path: Path) -> None:
    open_box = trimesh.creation.box()
    open_box.update_faces(np.arange(len(open_box.faces)) > 0)
    open_box.export(tmp_path / "open.stl")
    (tmp_path / "text.stl").write_text("nothing")
    for name, words in {
        "open.stl": "not closed",
        "text.stl": "no triangles|cannot be read",
        "none.stl": "cannot be read",
    }.items():
        with pytest.raises(UserError, match=words) as refused:
            Mesh(tmp_path / name)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Disk(radius=0), "Disk: radius=0: expected a positive number"),
        (lambda: Disk([0, math.nan]), "center=.*finite"),
        (lambda: Ellipse([0, 0, 0], [1, 1]), "center=.*expected 2"),
        (lambda: Ball([0, 0], 1), "center=.*expected 3"),
        (lambda: Ball(radius="far"), "radius='far': expected a positive number"),
        (lambda: Disk(names=("x", "y", "z")), "names=.*expected 2 coordinates"),
        (lambda: Polygon([(0, 0), (1, 1)]), "2 vertices"),
        (lambda: Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "no polygon: Self-intersection"),
        (lambda: Polygon([(0, 0), (1, 0), (2, 0)]), "no polygon"),
        (lambda: Polygon([(0, 0), (1, 0), (0, math.inf)]), "finite"),
        (lambda: Disk() - Disk([0.5, 0], 0.1), "both have a piece 'disk'"),
        (lambda: Disk() - Disk(radius=2, name="all"), "nothing is left"),
        (lambda: Disk() & Disk([5, 0], name="far"), "nothing is left"),
        (lambda: Disk() & Box(x=(0, 1), t=(0, 1)), "coordinates x, y and x, t"),
        (lambda: Disk() * Box(x=(0, 1)), "both have x"),
        (lambda: Disk(name="boundary"), "Disk: name='boundary': expected a text"),
        (lambda: Box(x=(0, 1), name=3), "Box: name=3: expected a text"),
        (lambda: Ellipse([0, 0], [2, 1], "up"), "Ellipse: angle='up': expected a finite number"),
        (lambda: Disk().between("x", 0, 1), r"write the domain as region \* Box\(x=…\)"),
    ],
)
def test_regions_that_are_none_are_refused_in_one_line(make, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_regions_are_equal_by_content() -> None:
    assert Disk([0, 0], 1) - Disk(radius=0.2, name="b") == Disk([0.0, 0.0], 1.0) - Disk(radius=0.2, name="b")
    assert Disk() != Disk(radius=2)
    assert Box(x=(0, 1)) != Box(x=(0, 1), name="a")
    assert Disk() * Box(t=(0, 1)) == (Disk() * Box(t=(0, 9))).between("t", 0.0, 1.0)


@dataclass(frozen=True)
class Ring(kanpinn.Problem):
    """Laplace's equation on a ring: flux 1 into the hole, heat transfer at the rim."""

    domain = Disk(radius=2, name="rim") - Disk(radius=1, name="hole")
    derivatives = ("xx", "yy")

    def residual(self, p):
        return p.u_xx + p.u_yy

    def conditions(self):
        flux = kanpinn.Condition("flux", "hole", lambda p: p.u_n - (p.n_x * p.x + p.n_y * p.y))
        return [flux, kanpinn.Condition("transfer", "rim", lambda p: p.u_n - 0.5 + 2 * (p.u - 1))]

    def reference(self, p):
        return 1 + torch.log((p.x**2 + p.y**2) / 4) / 2


@dataclass(frozen=True)
class Cooling(kanpinn.Problem):
    """The heat equation on the unit disk: u = J₀(j r) exp(−j² t), j the first zero of J₀."""

    domain = Disk(name="rim") * kanpinn.Box(t=(0, 0.1))
    derivatives = ("xx", "yy", "t")

    def residual(self, p):
        return p.u_t - p.u_xx - p.u_yy

    def conditions(self):
        start = kanpinn.Condition("start", "t-", lambda p: p.u - self.reference(p))
        return [start, kanpinn.Condition("rim", "rim", lambda p: p.u)]

    def reference(self, p):
        zero = 2.404825557695773
        radius = torch.sqrt(p.x**2 + p.y**2)
        return torch.special.bessel_j0(zero * radius) * torch.exp(-(zero**2) * p.t)


@pytest.mark.parametrize(
    ("problem", "given", "error"),
    [
        (Ring(), ["schedule.levels=2"], 2e-3),
        pytest.param(
            *(Ring(), ["schedule.levels=1", "sampler=gauss_legendre", "backbone=mlp"], 5e-2), marks=pytest.mark.slow
        ),
        pytest.param(
            *(Cooling(), ["schedule.levels=1", "backbone.width=[4]", "schedule.slabs=2"], 0.1), marks=pytest.mark.slow
        ),
    ],
    ids=["ring", "ring, Gauss points", "disk in time, two slabs"],
)
def test_equations_on_regions_are_solved_in_cartesian_coordinates(problem, given, error, tmp_path: Path) -> None:
    few = [*("sampler.interior=400", "sampler.boundary=60", "sampler.resample_every=5", "output.points=15")]
    few += ["schedule.steps=20", "threads=1", "output.figures=false", "backbone.degree=4", *given]
    few = [one for one in few if not ("backbone.degree" in one and "backbone=mlp" in given)]
    solution = kanpinn.solve(problem, *few, folder=tmp_path / "run")
    assert solution.metrics["relative_l2"]["u"] < error
    data = solution.data
    inside = np.isfinite(data.fields["u"])
    assert 0.4 < inside.mean() < 0.85
    assert (np.isfinite(data.fields["residual"]) == inside).all()
    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(tmp_path / "run" / "solution.h5"))
    reader.Update()
    shown = pv.wrap(reader.GetOutput())  # of the first time, cells whose corners all lie inside
    assert np.isfinite(shown.point_data["u"][shown.cells.reshape(-1, 5)[:, 1:]]).all()
    whole = problem.domain.measure / (0.1 if isinstance(problem, Cooling) else 1)
    assert 0.4 * whole < shown.compute_cell_sizes()["Area"].sum() < whole


@pytest.mark.parametrize("problem", [Ring(), Cooling()], ids=["ring", "disk in time"])
def test_adaptive_points_on_regions_follow_the_residual_and_estimate_integrals(problem) -> None:
    chart, centre = problem.domain.chart, 0.75 * problem.domain.upper[0]

    def residual(points):
        assert problem.domain.contains(points.numpy()).all()
        return torch.exp(-2 * ((points[:, 0] - centre) ** 2 + points[:, 1] ** 2))

    sampler = SAMPLERS["adaptive"](interior=1000, boundary=40, unbiased=True)
    draws = [sampler.draw(problem, 0, np.random.default_rng(k), residual=residual).interior for k in range(5)]
    even = torch.from_numpy(drawn(problem.domain, 50_000))
    size = residual(even)
    expected = ((size / size.mean() + 1) / 2)[size > 0.5].sum() / len(even)
    near = np.mean([(residual(one.points) > 0.5).double().mean() for one in draws])
    assert near == pytest.approx(expected.item(), rel=0.04)
    assert np.mean([one.weights.sum() for one in draws]) == pytest.approx(chart.measure, rel=0.02)
    squares = np.mean([one.weights @ one.points[:, 0] ** 2 for one in draws])
    assert squares == pytest.approx(chart.measure * (even[:, 0] ** 2).mean().item(), rel=0.03)


def test_the_whole_domain_is_a_support() -> None:
    region = Disk(name="rim") - Disk([0.2, 0.0], 0.3, name="hole")
    (piece,) = pieces_of(Condition("smooth", "domain", lambda p: p.u), region)
    assert piece.chart.measure == region.chart.measure
    assert piece.normal is None


@pytest.mark.slow
def test_a_level_change_is_measured_inside_only(tmp_path: Path) -> None:
    words = ("problem=poisson_holes", "threads=1", "output.points=21", "output.figures=false", "output.progress=false")
    tiny = ("backbone.width=[1]", "backbone.grid=1", "schedule.levels=2", "schedule.steps=1", "sampler.interior=60")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # u is infinite in the middle of the holes
        levels = kanpinn.solve([*words, *tiny], folder=tmp_path / "run").metrics["levels"]
    assert levels[1]["transfer_gap"] < 1e-12
