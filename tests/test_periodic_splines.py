"""Periodic splines, networks that begin as Legendre polynomials in time, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre
from scipy.interpolate import BSpline
from support.gram import agree, cut
from torch import Tensor, cos

from kanpinn import api
from kanpinn.backbones import ChebyKan, Kan, Mlp, Separable
from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.separable.factors import LEGENDRE
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.io.solution import read_solution
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares import gram_local
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Condition, Point, Problem
from kanpinn.plots.activations import edge_layers
from kanpinn.samplers import GaussLegendre
from kanpinn.splines.nesting import PeriodicNesting, folded, periodic_nesting, wrapped

SIZES = [(degree, n) for degree in range(1, 8) for n in (degree + 1, 2 * degree, 15, 16) if n > degree]
sizes = pytest.mark.parametrize(("degree", "n"), SIZES)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def spline(c: Tensor, degree: int) -> BSpline:
    """The periodic spline on [−1, 1] with coefficients `[n]`, by scipy; B_0 ends first, as the layers count."""
    n = len(c)
    knots = -1 + 2 / n * np.arange(-degree, n + degree + 1)
    return BSpline(knots, np.concatenate([c.numpy(), c.numpy()[:degree]]), degree)


@sizes
def test_refinement_leaves_the_function_as_it_is(degree: int, n: int) -> None:
    c = random(n)
    x = np.linspace(-1, 1, 501)
    fine = periodic_nesting(n, degree).prolong(c)
    assert len(fine) == 2 * n
    assert np.abs(spline(fine, degree)(x) - spline(c, degree)(x)).max() < 1e-13 * float(c.abs().max())


@sizes
def test_restrictions_undo_refinement_and_transposes_are_such(degree: int, n: int) -> None:
    nesting = PeriodicNesting(n, degree)
    coarse, fine = torch.eye(n, dtype=torch.float64), torch.eye(2 * n, dtype=torch.float64)
    p, r = nesting.prolong(coarse).T, nesting.restrict(fine).T
    assert torch.allclose(r @ p, coarse, rtol=0, atol=1e-11)
    assert torch.allclose(nesting.prolong_transpose(fine), p, rtol=0, atol=0)
    assert torch.allclose(nesting.restrict_transpose(coarse), r, rtol=0, atol=1e-11)


@sizes
def test_restriction_is_the_nearest_function(degree: int, n: int) -> None:
    nesting, c = PeriodicNesting(n, degree), random(2 * n)
    nodes, weights = legendre.leggauss(degree + 1)
    width = 1 / n  # of a fine interval
    x = (-1 + width * (np.arange(2 * n)[:, None] + 0.5) + width / 2 * nodes).ravel()
    left = spline(c, degree)(x) - spline(nesting.restrict(c), degree)(x)
    for unit in torch.eye(n, dtype=torch.float64):  # what is left is orthogonal to the coarse space
        assert abs((np.tile(weights, 2 * n) * width / 2 * left * spline(unit, degree)(x)).sum()) < 1e-11


def test_wrapping_and_folding_are_transposes() -> None:
    c, g = random(9), random(13, seed=1)
    assert float(wrapped(c, 4) @ g) == pytest.approx(float(c @ folded(g, 9)), rel=1e-14)


def layer_network(n: int = 7, degree: int = 4) -> tuple[Backbone, Tensor]:
    """One layer of periodic splines of x alone, with three outputs."""
    embedding = EmbeddingOptions(periodic="spline").build(Box(x=(0.0, 3.0)), ("x",), np.random.default_rng(0))
    layer = SplineLayer(1, 3, SplineSpec(n, degree, scale=1.0, periodic=True))
    backbone = Backbone(embedding, (layer,), grid=n)
    return backbone, backbone.initial(np.random.default_rng(1))


def test_a_layer_is_that_of_scipy_and_has_its_derivatives() -> None:
    backbone, theta = layer_network()
    space = JetSpace(("x",), ("xxx",))
    x = torch.linspace(0, 3, 91, dtype=torch.float64)[:, None]
    jet = backbone.forward(theta, x, space)
    for k, c in enumerate(theta.view(3, 7)):
        function = spline(c, 4)
        for order, name in enumerate(("", "x", "xx", "xxx")):
            expected = function(x[:, 0].numpy() * 2 / 3 - 1, nu=order) * (2 / 3) ** order
            assert np.abs((jet.value if not name else jet[name])[:, k].numpy() - expected).max() < 1e-11
    ends = jet.data[:, [0, -1]]
    assert torch.allclose(ends[:, 0], ends[:, 1], rtol=0, atol=1e-11)


def test_jacobian_and_its_products_are_those_of_automatic_derivatives() -> None:
    backbone, theta = layer_network()
    layer, space = backbone.layers[0], JetSpace(("x",), ("xx",))
    x = torch.from_numpy(np.random.default_rng(2).uniform(0, 3, (40, 1)))
    weights = random(len(space), 40, 3, seed=3)

    def residual(parameters: Tensor) -> Tensor:
        return (weights * backbone.forward(parameters, x, space).data ** 2).sum((0, 2))

    expected = torch.autograd.functional.jacobian(residual, theta)
    tape = Tape()
    scalar = (weights * backbone.forward(theta, x, space, tape).data ** 2).sum()
    (cotangent,) = backbone.cotangents(tape, scalar)
    arrays, (features,) = backbone.arrays(theta)[0], tape.features
    out = torch.full((40, backbone.size), torch.nan, dtype=torch.float64)
    layer.jacobian(arrays, features, cotangent, out)
    bound = 1e-12 * float(expected.abs().max())
    assert torch.allclose(out, expected, rtol=0, atol=bound)
    tangent, many = random(backbone.size, seed=4), random(40, seed=5)
    change = backbone.arrays(tangent)[0]
    assert torch.allclose(layer.jvp(arrays, features, cotangent, change), expected @ tangent, rtol=0, atol=10 * bound)
    found = layer.vjp(arrays, features, cotangent, many)["coefficients"].reshape(-1)
    assert torch.allclose(found, many @ expected, rtol=0, atol=10 * bound)


@dataclass(frozen=True)
class Around(Problem):
    """Burgers' equation on a period, which has a nonlinear term and two derivatives."""

    domain = Box(x=(-1, 1), t=(0, 0.5))
    derivatives = ("t", "xx")
    periodic = ("x",)
    equation = "u_t + u u_x - 0.1 u_xx = 0"

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u * p.u_x - 0.1 * p.u_xx

    def conditions(self) -> list[Condition]:
        return [Condition("initial", "t-", lambda p: p.u - cos(pi * p.x))]


AROUND = Separable(
    width=[], degree=5, grid=24, rank=3, grids={"t": 2}, embedding=EmbeddingOptions(periodic="spline"), scale=1.0
)


def objective_of(options: Separable, sampler: GaussLegendre) -> tuple[Objective, Tensor]:
    problem = Around()
    backbone = options.build(options.embedding.of(problem, np.random.default_rng(0)), 1)
    objective = Objective(Residuals(problem, backbone), Fixed({"initial": 10.0}))
    generator = np.random.default_rng(2)
    objective.set_points(
        sampler.draw(
            problem, 0, generator, cells=backbone.cells, residual=None, dtype=torch.float64, device=torch.device("cpu")
        )
    )
    return objective, backbone.initial(np.random.default_rng(1))


SHAPES = {
    "fewest intervals": replace(AROUND, grid=6),
    "many intervals": AROUND,
    "a linear layer behind": replace(AROUND, last="linear"),
    "a hidden layer": replace(AROUND, width=[2]),
    "biases": replace(AROUND, bias=True),
    "cosine and sine": replace(AROUND, embedding=EmbeddingOptions(), grid=8),
}


@pytest.mark.parametrize("many", [1, 7], ids=["one part", "seven random parts"])
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_products_of_any_parts_are_those_of_the_jacobian(
    options: Separable, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One part sees the whole period, and so some parameters by several columns.
    objective, theta = objective_of(options, GaussLegendre(order=3, orders={"t": 4}))
    count = len(objective.points)
    mixed = torch.from_numpy(np.random.default_rng(8).permutation(count))
    monkeypatch.setattr(gram_local, "parts", lambda *_: [p.sort().values for p in mixed.tensor_split(many)])
    found = gram_local.products(objective.backbone, theta, objective.forward_pass(theta), objective.points, CostTable())
    assert found is not None
    jacobian = objective.linearize(theta).dense().jacobian
    expected, right = jacobian.T @ jacobian, jacobian.T @ objective.residual(theta)[0]
    assert float((found[0] - expected).abs().max() / expected.abs().max()) < 1e-13
    assert float((found[1] - right).abs().max() / right.abs().max()) < 1e-13


def test_normal_equations_of_fine_grids_are_those_of_the_jacobian() -> None:
    objective, theta = objective_of(replace(AROUND, grid=96), GaussLegendre(order=3, orders={"t": 4}))
    assert cut(objective, theta)
    agree(objective, theta, 1e-13)


def test_fine_grids_are_taken_apart() -> None:
    objective, theta = objective_of(replace(AROUND, grid=96), GaussLegendre(order=3, orders={"t": 4}))
    found = cut(objective, theta)
    assert found is not None
    assert len(found) > 4


def test_points_and_intervals_may_differ_by_coordinate() -> None:
    objective, _ = objective_of(AROUND, GaussLegendre(order=3, orders={"t": 4}))
    x, t = objective.collocation.by_term()["interior"].T
    assert len(torch.unique(x)) == 72
    assert len(torch.unique(t)) == 8
    backbone = objective.backbone
    assert backbone.cells == {"x": 24, "t": 2}
    assert backbone.refined().cells == {"x": 48, "t": 4}


def test_refined_networks_are_the_same_function() -> None:
    objective, theta = objective_of(AROUND, GaussLegendre())
    backbone, space = objective.backbone, objective.residuals.space
    points = torch.from_numpy(np.random.default_rng(4).uniform([-1, 0], [1, 0.5], (200, 2)))
    before = backbone.forward(theta, points, space).data
    after = backbone.refined().forward(refinement(backbone)(theta), points, space).data
    assert torch.allclose(before, after, rtol=0, atol=1e-11 * float(before.abs().max()))


STARTED = replace(AROUND, start="legendre", rank=5)


def test_networks_begin_as_zero_with_legendre_polynomials_in_time() -> None:
    objective, theta = objective_of(STARTED, GaussLegendre())
    backbone = objective.backbone
    space, time = backbone.arrays(theta)[0].values()
    assert not space.any()
    t = torch.linspace(-1, 1, 33, dtype=torch.float64)
    body = backbone.layers[0].networks[1]
    values = body.carry(time.reshape(-1), t[None, :, None], JetSpace(("t",), ()))[0]
    expected = LEGENDRE * legendre.legvander(t.numpy(), 4)
    assert np.abs(values.numpy() - expected).max() < 1e-9
    assert torch.equal(theta, backbone.initial(np.random.default_rng(7)))  # nothing is random


def test_a_resumed_network_holds_what_was_last() -> None:
    objective, theta = objective_of(STARTED, GaussLegendre())
    backbone, x = objective.backbone, torch.linspace(-1, 1, 41, dtype=torch.float64)
    theta = theta + 0.1 * random(len(theta))
    held = backbone.resumed(theta)
    none = JetSpace(backbone.embedding.names, ())
    last = backbone.forward(theta, torch.stack([x, torch.full_like(x, 0.5)], 1), none).value
    for t in (0.0, 0.2, 0.5):
        now = backbone.forward(held, torch.stack([x, torch.full_like(x, t)], 1), none).value
        assert torch.allclose(now, last, rtol=0, atol=1e-10 * float(last.abs().max()))
    random_start, other = objective_of(AROUND, GaussLegendre())
    assert torch.equal(random_start.backbone.resumed(other), other)


WRAPPED = EmbeddingOptions(periodic="spline")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Kan(embedding=WRAPPED), "backbone.embedding.periodic=spline"),
        (ChebyKan(embedding=WRAPPED), "backbone.embedding.periodic=spline"),
        (Mlp(embedding=WRAPPED), "backbone.embedding.periodic=spline"),
        (replace(AROUND, grids={"y": 3}), "backbone.grids=y"),
        (replace(AROUND, grid=5), "backbone.grid=5: expected at least 6"),
        (replace(AROUND, grids={"x": 4}), "backbone.grids.x=4: expected at least 6"),
        (replace(AROUND, knots="cosine"), "backbone.knots=cosine: expected uniform"),
        (replace(AROUND, base=True), "backbone.base=true: expected false"),
        (replace(AROUND, width=[2], first="linear"), "backbone.first=linear: expected spline"),
    ],
)
def test_what_does_not_fit_the_problem_is_refused(options: Separable | Kan | ChebyKan | Mlp, words: str) -> None:
    with pytest.raises(UserError, match=words):
        options.build(options.embedding.of(Around(), np.random.default_rng(0)), 1)


def test_starts_and_grids_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match=r"backbone.start=warm"):
        replace(AROUND, start="warm")
    with pytest.raises(UserError, match=r"backbone.start=legendre"):
        replace(STARTED, width=[3])
    for word in ("base", "bias"):
        with pytest.raises(UserError, match=r"backbone.start=legendre"):
            replace(STARTED, **{word: True})
    with pytest.raises(UserError, match=r"backbone.start=legendre"):
        replace(STARTED, knots="cosine")
    both = EmbeddingOptions().build(Around.domain, ("x", "t"), np.random.default_rng(0))
    with pytest.raises(UserError, match=r"backbone.start=legendre"):
        STARTED.build(both, 1)
    with pytest.raises(UserError, match=r"backbone.grids.t=0"):
        replace(AROUND, grids={"t": 0})
    box = Box(x=(-1, 1), y=(-1, 1))
    with pytest.raises(UserError, match=r"backbone.start=legendre"):
        Separable(width=[], start="legendre").build(EmbeddingOptions().build(box, (), np.random.default_rng(0)), 1)
    with pytest.raises(UserError, match=r"backbone.embedding.periodic=wrap"):
        EmbeddingOptions(periodic="wrap")
    with pytest.raises(UserError, match=r"sampler.orders=y"):
        GaussLegendre(orders={"y": 3}).check_problem(Around())
    with pytest.raises(UserError, match=r"sampler.orders.t=0"):
        GaussLegendre(orders={"t": 0})


@pytest.mark.slow
def test_a_travelling_wave_is_solved_in_slabs_and_its_functions_are_drawn(tmp_path: Path) -> None:
    words = ["problem=advection", "problem.c=4", "backbone.embedding.periodic=spline", "backbone.start=legendre"]
    words += ["backbone.grid=32", "backbone.grids={t:1}", "backbone.rank=8", "optimizer.damping=1e-11"]
    words += ["sampler=gauss_legendre", "sampler.orders={t:10}", "optimizer.momentum=0"]
    words += ["schedule.slabs=4", "schedule.levels=1", "schedule.steps=[3]", "output.points=51", "output.figures=false"]
    solution = api.solve([*words, f"hydra.run.dir={tmp_path / 'run'}"])
    assert solution.metrics["relative_l2"]["u"] < 1e-7
    layers = list(edge_layers(read_solution(tmp_path / "run" / "solution.h5")))
    x = next(layer for layer in layers if len(layer.knots) == 33)
    assert x.values.shape[0] == 8
    assert np.abs(x.values[..., 0] - x.values[..., -1]).max() < 1e-12 * np.abs(x.values).max()


def test_the_number_of_points_is_known_before_they_are_drawn() -> None:
    sampler = GaussLegendre(interior=100, boundary=30, order=3, orders={"t": 4})
    objective, _ = objective_of(AROUND, sampler)
    drawn = {name: len(points) for name, points in objective.collocation.by_term().items()}
    assert sampler.sizes(0, ("x", "t"), objective.backbone.cells) == (drawn["interior"], drawn["initial"])
    assert sampler.sizes(0, ("x", "t"), {}) == (12 * 12, 32)  # eight intervals of four points in t, ten of three in x
    assert sampler.sizes(0, ("t",), {}) == (100, 1)
