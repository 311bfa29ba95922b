"""Conditions: their supports, and normals and normal derivatives of a point, against closed forms."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from kanpinn.backbones.kan import Kan
from kanpinn.errors import UserError
from kanpinn.geometry import Box, Points, Restricted
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Condition, Point, Problem
from kanpinn.pde.condition import pieces_of
from kanpinn.pde.problem_calls import problem_name
from kanpinn.pde.time_slab import TimeSlab
from kanpinn.samplers import SAMPLERS, CollocationSample

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


def test_operators_of_vector_calculus_are_sums_of_derivatives_in_space():
    points = torch.rand(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, y, t = JetSpace(DOMAIN.names, ("xx", "yy", "xy", "t")).variables(points)
    u, v = torch.sin(x) * torch.cos(2 * y) * torch.exp(t / 3), x * y**2
    p = Point(DOMAIN.names, points, {"u": u, "v": v})
    assert torch.stack(p.grad("u")).numpy() == pytest.approx(gradient(points.numpy())[:2], abs=1e-14)
    assert p.laplace("u").numpy() == pytest.approx(-5 * p.u.numpy(), abs=1e-14)
    assert torch.equal(p.div("u", "v"), p.u_x + p.v_y)
    assert torch.equal(p.grad("v_x")[1], p.v_xy)
    with_k = Point(DOMAIN.names, points, {"u": u}, parameters=("y",))
    assert torch.equal(with_k.laplace("u"), p.u_xx) and len(with_k.grad("u")) == 1
    assert torch.equal(with_k.turned().laplace("u"), p.u_xx)
    with pytest.raises(UserError, match=r"p\.div\('u'\): expected an unknown for each coordinate of space: x, y"):
        p.div("u")
    with pytest.raises(UserError, match=r"p\.u_xx is not computed: add 'xx' to the problem's derivatives"):
        point(points, None).laplace("u")
    with pytest.raises(UserError, match=r"p\.w_x: no such coordinate or unknown"):
        p.grad("w")


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
    ranged = Restricted(Box(t=(1, 2), x=(0, 4), y=(0, 1)), lambda p: p[:, 0] < 1.5)
    assert supports(ranged)[0].chart.measure == pytest.approx(2 * 0.5 * 0.5)
    (half,) = supports("x-", where=lambda p: p.t < 2.5)
    assert half.chart.measure == pytest.approx(0.5 * 1.5)


@pytest.mark.parametrize(
    ("on", "options", "words"),
    [
        (5, {}, "condition c: on=5: expected a piece of the boundary"),
        ((), {}, r"condition c: on=\(\): expected a piece"),
        (("x-", 3), {}, "expected a piece"),
        (("x-", "y-", "x-"), {}, "names a support twice"),
        ("x", {}, r"condition c: on=x: unknown.*Valid choices: t\+, t-, x\+"),
        ("x=7", {}, "condition c: plane x=7: expected a number between -1 and 2"),
        (("x-", "x=0"), {}, "inner planes and interfaces need conditions of their own"),
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


@dataclass(frozen=True)
class Fluxes(Problem):
    """Conditions on the normal derivative: on every face, at both ends in x, across a plane, at given points."""

    domain = DOMAIN
    derivatives = ("x", "y", "t")

    def residual(self, p):
        return p.u_t

    def conditions(self):
        return [
            Condition("all", tuple(DOMAIN.pieces), lambda p: p.u_n),
            Condition("wrap", "x-", lambda p, q: {"p": p.u_n, "q": q.u_n, "n": p.n_x - q.n_x}, periodic="x"),
            Condition("planes", ("x=0.5", "y=0.25"), lambda p, q: {"jump": p.u_n + q.u_n, "below": p.u_n}),
            Condition("gauge", Points(x=[0.5, 1.5], y=[0.1, 0.2], t=[2, 3]), lambda p: p.u - p.x),
        ]


@pytest.fixture(scope="module")
def fluxes():
    problem, rng = Fluxes(), np.random.default_rng(0)
    options = Kan(width=[3], degree=4, grid=3)
    backbone = options.build(options.embedding.build(DOMAIN, (), rng), 1)
    objective = Objective(Residuals(problem, backbone), Fixed())
    objective.set_points(SAMPLERS["sobol"](interior=16, boundary=60).draw(problem, 0, rng))
    return objective, backbone.initial(rng)


def test_normal_derivatives_of_a_network_have_the_sign_of_their_face(fluxes):
    objective, theta = fluxes
    points = objective.collocation
    fields = objective.residuals.fields(theta, points.points)
    found = objective.residuals.rows(points, fields, objective.residuals.integrals(theta))
    rows = {(term.name, equation): row for term, equation, row in found}
    terms = {term.name: term for term in points.terms}
    u = {name: fields["u"][name] for name in ("", "x", "y", "t")}

    x, y, t = points.points[terms["all"].points].T
    expected = torch.full_like(x, torch.nan)
    for values, end, sign, slope in [
        (x, -1, -1, "x"), (x, 2, 1, "x"), (y, 0, -1, "y"), (y, 0.5, 1, "y"), (t, 1, -1, "t"), (t, 4, 1, "t"),
    ]:  # fmt: skip
        expected = torch.where(values == end, sign * u[slope][terms["all"].points], expected)
    assert torch.equal(rows["all", ""], expected)

    below, above = terms["wrap"].points, terms["wrap"].paired
    assert torch.equal(rows["wrap", "p"], -u["x"][below])
    assert torch.equal(rows["wrap", "q"], u["x"][above])
    assert (rows["wrap", "n"] == -2).all()

    below = terms["planes"].points
    on_x = (points.points[below, 0] - 0.5).abs() < 1e-12
    assert 0 < on_x.sum() < len(on_x)
    assert torch.equal(rows["planes", "below"], torch.where(on_x, u["x"][below], u["y"][below]))
    assert rows["planes", "jump"].abs().max() < 1e-12

    gauge = points.points[terms["gauge"].points]
    assert gauge.tolist() == [[0.5, 0.1, 2], [1.5, 0.2, 3]]
    assert torch.equal(rows["gauge", ""], u[""][terms["gauge"].points] - gauge[:, 0])


def test_normals_go_with_their_points_into_parts_and_jacobians(fluxes):
    objective, theta = fluxes
    found = objective.linearize(theta).dense()
    start = theta.clone().requires_grad_()
    rows = objective.residual(start)[0]
    expected = torch.stack([torch.autograd.grad(row, start, retain_graph=True)[0] for row in rows])
    assert found.jacobian.numpy() == pytest.approx(expected.numpy(), abs=1e-12)
    parts = [part.loss(theta)[0] for part in objective.pieces(7)]
    assert len(parts) > 10
    assert sum(parts) == pytest.approx(objective.loss(theta)[0], rel=1e-12)


def test_normals_are_saved_with_their_points():
    sample = SAMPLERS["sobol"](interior=8, boundary=20).draw(Fluxes(), 0, np.random.default_rng(0))
    again = CollocationSample.from_state(sample.state(), torch.device("cpu"))
    for name, chosen in sample.conditions.items():
        normals = again.conditions[name].normals
        assert (chosen.normals is None) == (normals is None) == (name == "gauge")
        assert normals is None or torch.equal(normals, chosen.normals)
        assert normals is None or (normals.norm(dim=1) == 1).all()


def test_a_problem_with_a_coefficient_called_whole_keeps_its_name():
    @dataclass(frozen=True)
    class Parted(Fluxes):
        whole: float = 1.0

    assert problem_name(Parted()) == "Parted"
    assert problem_name(TimeSlab(Parted(), 1, 2)) == "Parted"


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_places_all_given_points(name):
    points = np.random.default_rng(0).random((5, 3)) * [3, 0.5, 3] + DOMAIN.lower

    class Gauges(Fluxes):
        def conditions(self):
            return [Condition("given", (Points(x=points[:, 0], y=points[:, 1], t=points[:, 2]), "t-"), value)]

    sample = SAMPLERS[name](interior=8, boundary=30).draw(Gauges(), 0, np.random.default_rng(0))
    given = sample.conditions["given"]
    assert given.points[:5].numpy() == pytest.approx(points, abs=0)
    assert (given.points[5:, 2] == 1).all()
    # Five points, and a face of measure 1 in lengths of the domain, share 5 + 1.5, the sum of all measures.
    assert given.weights[:5].numpy() == pytest.approx(np.full(5, 6.5 / 6))
    assert given.weights[5:].sum() == pytest.approx(6.5 / 6)
    assert given.normals is None
