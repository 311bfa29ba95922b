"""Products with the Jacobian against the stored Jacobian."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.burgers import burgers
from support.networks import NETWORKS, WIDE
from support.networks import build as build_network
from support.problems import CASES, NONE, System, build, draw_for
from torch import Tensor

from kanpinn.backbones import Kan, Mlp, ReluKan, Separable
from kanpinn.backbones.base import Tape
from kanpinn.backbones.layer import Layer
from kanpinn.backbones.separable.factors import Factors
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.least_squares import gram_local, jacobian, linearization
from kanpinn.least_squares.jacobian import stores_jacobian
from kanpinn.least_squares.objective import LeastSquares, Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import ResidualAttention
from kanpinn.multilevel.correction import FasProblem, Transfer, galerkin

RELU = ReluKan(width=[2], degree=4, grid=4, base=True, bias=True)
MORE = {
    "wave, relu_kan": (CASES["wave, kan"][0], RELU, False),
    "wave, cosine knots": (CASES["wave, kan"][0], NETWORKS["kan, cosine knots, base, clamped"], False),
    "system, relu_kan, periodic pairs": (System(), replace(RELU, embedding=NONE), False),
}


SEPARABLE = Separable(width=[2], degree=3, grid=3, rank=2)
GRID_OR_NOT = [("grid", (400, 20)), ("uniform", (7, 6))]


def agree(problem: LeastSquares, theta: Tensor) -> None:
    """Every product of a linearisation, against the stored Jacobian."""
    found = problem.linearize(theta)
    stored = found.dense()
    j = stored.jacobian
    generator = np.random.default_rng(5)
    v, w = (torch.from_numpy(generator.standard_normal(n)) for n in (j.shape[1], j.shape[0]))
    size = max(1.0, float(j.abs().max()))
    assert float((found.jvp(v) - j @ v).abs().max()) <= 1e-12 * size * float(v.norm())
    assert float((found.vjp(w) - j.T @ w).abs().max()) <= 1e-12 * size * float(w.norm())
    assert torch.allclose(found.gradient, stored.gradient, rtol=0, atol=1e-12 * size * len(w))
    assert found.loss == pytest.approx(stored.loss, rel=1e-12)
    assert found.terms == pytest.approx(stored.terms, rel=1e-12)
    rows = torch.cat(list(found.blocks()))
    assert rows.shape == j.shape  # in another order
    sums = (rows.square().sum(0), j.square().sum(0))
    assert torch.allclose(*sums, rtol=1e-11, atol=1e-14 * size**2)
    assert torch.allclose(rows.T @ rows, j.T @ j, rtol=0, atol=1e-11 * float(sums[1].max()))


@pytest.mark.parametrize(("problem", "options", "exact"), (CASES | MORE).values(), ids=CASES | MORE)
def test_products_are_those_of_the_jacobian(problem, options: Kan | ReluKan | Mlp, exact: bool, monkeypatch) -> None:
    monkeypatch.setattr(linearization, "SMALLEST_BLOCK", 3)  # fewer rows than a term has
    monkeypatch.setattr(linearization, "BLOCK_BYTES", 1)
    objective, theta, _ = build(problem, options, exact=exact)
    agree(objective, theta)


@pytest.mark.parametrize(("sampler", "counts"), GRID_OR_NOT, ids=["tensor grid", "scattered"])
@pytest.mark.parametrize("options", [SEPARABLE, replace(SEPARABLE, width=[], last="linear")], ids=["sum", "linear"])
def test_products_of_separable_networks_form_no_rows(
    options: Separable, sampler: str, counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, theta, _ = build(System(), options)
    objective.set_points(draw_for(System(), sampler, counts))
    agree(objective, theta)
    found = objective.linearize(theta)
    monkeypatch.setattr(Factors, "jacobian", None)
    found.vjp(found.jvp(theta))


def test_products_see_the_multipliers(monkeypatch) -> None:
    monkeypatch.setattr(linearization, "SMALLEST_BLOCK", 4)
    monkeypatch.setattr(linearization, "BLOCK_BYTES", 1)
    weighting = ResidualAttention({"initial": 2.0}, decay=0.5, rate=0.5)
    objective, theta, _ = build(System(), replace(WIDE, width=[2], embedding=NONE), weighting)
    objective.update_multipliers(theta)
    agree(objective, theta)


@pytest.mark.parametrize("options", [WIDE, RELU, Mlp(width=[4])], ids=["kan", "relu_kan", "mlp"])
def test_a_layer_without_products_of_its_own_takes_its_jacobian(options: Kan | ReluKan | Mlp, monkeypatch) -> None:
    objective, theta, _ = build(CASES["wave, kan"][0], options)
    own = objective.linearize(theta)
    v = torch.linspace(-1, 1, len(theta), dtype=torch.float64)
    known = own.jvp(v), own.vjp(own.jvp(v))
    for layer in {type(layer) for layer in objective.backbone.layers}:
        monkeypatch.setattr(layer, "jvp", Layer.jvp)
        monkeypatch.setattr(layer, "vjp", Layer.vjp)
    dense = objective.linearize(theta)
    for a, b in zip(known, (dense.jvp(v), dense.vjp(dense.jvp(v))), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-12 * float(a.abs().max()))


@pytest.mark.parametrize("radius", [None, 0.1])
def test_coarse_problems_have_products_too(radius: float | None) -> None:
    coarse, theta, draw = build(CASES["wave, kan"][0], WIDE)
    fine = Objective(Residuals(coarse.residuals.problem, coarse.backbone.refined()), coarse.weighting)
    fine.set_points(draw)
    transfer = Transfer(coarse.backbone, fine.backbone)
    at = transfer.prolong(theta) + 0.01
    d = torch.linspace(-0.1, 0.1, len(theta), dtype=torch.float64)
    for layers in ("all", "last"):
        agree(galerkin(fine, at, transfer, layers), d)
    start = transfer.restrict(at)
    agree(FasProblem.pose(coarse, start, fine.loss_and_gradient(at)[1], transfer, radius), start + d)


@pytest.mark.parametrize("name", NETWORKS)
def test_coarsened_networks_are_those_refined(name: str) -> None:
    backbone, _ = build_network(NETWORKS[name])
    if not backbone.refinable:
        assert backbone.coarsened() is None
        return
    fine = backbone.refined()
    again = fine.coarsened()
    assert again is not None
    assert (again.grid, again.level, again.size) == (backbone.grid, backbone.level, backbone.size)
    Transfer(again, fine)  # refuses what is not the same network
    assert (backbone.coarsened() is None) == bool((backbone.grid or 0) % 2)


@pytest.mark.parametrize(("few", "step"), [(10, 3), (34, 1), (35, 1), (100, 1), (17, 2)])
def test_how_normal_equations_are_formed_is_foreseen_from_few_points(few: int, step: int, monkeypatch) -> None:
    """Every so many points, with what the network sees of them; a condition that compares points needs rows."""
    problem, theta = burgers(17)  # and nine on each of two sides
    points, network = problem.collocation, problem.backbone
    assert len(points) == 35
    seen, kept = [], gram_local.parts
    monkeypatch.setattr(jacobian, "FEW", few)
    monkeypatch.setattr(gram_local, "parts", lambda *given: seen.append(given) or kept(*given))
    assert stores_jacobian(network, theta, points)
    monkeypatch.setattr(gram_local, "parts", lambda *given: seen.append(given) or [])
    assert not stores_jacobian(network, theta, points)
    tape = Tape()
    network.forward(theta, points.points[::step], problem.residuals.space, tape)
    for some, supports, size, costs in seen:
        assert torch.equal(some, points.points[::step]) and size == network.size and costs == CostTable()
        assert [type(one) for one in supports] == [type(one) for one in network.supports(tape)]
    around, start, _ = build(System(), Mlp(width=[4], embedding=NONE))
    assert around.collocation.compares and len(seen) == 2
    assert stores_jacobian(around.backbone, start, around.collocation) and len(seen) == 2
