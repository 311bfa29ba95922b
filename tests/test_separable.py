"""Separable networks: points that share coordinates, what the bodies are asked for, and their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from support.naive_network import at_points, network
from torch import Tensor

from kanpinn.backbones import Backbone, Separable
from kanpinn.backbones.base import Tape
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.separable.factors import Factors
from kanpinn.backbones.separable.product import distinct
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import model_arrays, model_attributes
from kanpinn.geometry import Box, Coordinates
from kanpinn.jets.jet import Jet, JetSpace

DOMAIN = Box(x=(-1.0, 1.0), y=(0.0, 3.0), t=(0.5, 2.0))
SPACE = JetSpace(DOMAIN.names, ("xx", "yy", "xt"))
BASIC = Separable(width=[3], degree=4, grid=3, scale=1.0, rank=2)
NETWORKS = {
    "basic": BASIC,
    "single layers, shared products": replace(BASIC, width=[], last="linear"),
    "periodic": replace(BASIC, embedding=EmbeddingOptions("periodic")),
}
each = pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)


def build(options: Separable, outputs: int = 2, domain: Box = DOMAIN) -> tuple[Backbone, Tensor]:
    backbone = options.build(options.embedding.build(domain, (), np.random.default_rng(0)), outputs)
    return backbone, backbone.initial(np.random.default_rng(1))


def axes(counts: tuple[int, ...]) -> list[Tensor]:
    generator = np.random.default_rng(3)
    return [
        torch.from_numpy(generator.uniform(a, b, n)) for a, b, n in zip(DOMAIN.lower, DOMAIN.upper, counts, strict=True)
    ]


def tensor_grid(counts: tuple[int, ...]) -> Tensor:
    """The points of a tensor grid in no order, `[Π counts, 3]`."""
    points = torch.cartesian_prod(*axes(counts))
    return points[torch.from_numpy(np.random.default_rng(4).permutation(len(points)))]


def jacobian(backbone: Backbone, theta: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """The per-point Jacobian of Σ weights · jets², `[N, P]`."""
    tape = Tape()
    data = backbone.forward(theta, points, SPACE, tape).data
    out = torch.full((len(points), backbone.size), torch.nan, dtype=torch.float64)
    backbone.jacobian(theta, tape, (weights * data**2).sum(), out)
    return out


@each
def test_points_on_a_tensor_grid_are_like_any_others(options: Separable) -> None:
    backbone, theta = build(options)
    points = tensor_grid((5, 40, 6))
    weights = torch.from_numpy(np.random.default_rng(9).standard_normal((len(SPACE), len(points), 2)))
    together = backbone.forward(theta, points, SPACE).data
    block = jacobian(backbone, theta, points, weights)
    leaf = theta.clone().requires_grad_(True)
    data = backbone.forward(leaf, points, SPACE).data
    (gradient,) = torch.autograd.grad((weights * data**2).sum(), leaf)
    assert float((gradient - block.sum(0)).abs().max()) <= 1e-12 * float(gradient.abs().max())
    for n in range(0, len(points), 97):  # one by one, no two points share a coordinate
        alone = backbone.forward(theta, points[n : n + 1], SPACE).data
        assert torch.allclose(together[:, n : n + 1], alone, rtol=0, atol=1e-12 * float(together.abs().max()))
        row = jacobian(backbone, theta, points[n : n + 1], weights[:, n : n + 1])
        assert float((row - block[n]).abs().max()) <= 1e-12 * float(block.abs().max())


def test_jets_on_a_tensor_grid_equal_nested_automatic_derivatives() -> None:
    options = NETWORKS["periodic"]
    backbone, theta = build(options)
    points = tensor_grid((3, 3, 2))
    jet = backbone.forward(theta, points, SPACE)
    for name in SPACE.indices:
        for k in range(2):
            expected = at_points(lambda p, k=k: network(options, backbone, theta, p)[k], DOMAIN.names, name, points)
            assert float((jet[name][:, k] - expected).abs().max()) <= 1e-10 * max(1.0, float(expected.abs().max()))


@each
def test_bodies_see_each_coordinates_distinct_values_only(options: Separable, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, theta = build(options)
    factors = backbone.layers[0]
    assert isinstance(factors, Factors)
    seen: list[Tensor] = []
    carry = Backbone.carry

    def record(body: Backbone, parameters: Tensor, data: Tensor, *rest: Any, **named: Any) -> Tensor:
        if body in factors.networks:
            seen.append(data)
        return carry(body, parameters, data, *rest, **named)

    monkeypatch.setattr(Backbone, "carry", record)
    counts = (7, 9, 8)
    backbone.forward(theta, tensor_grid(counts), SPACE)
    assert [data.shape[1] for data in seen] == list(counts)
    assert sum(counts) < prod(counts) / 20
    # u, u_x, u_xx of x and y; u, u_t of t
    assert [data.shape[0] for data in seen] == [3, 3, 2]


def test_distinct_rows_are_found_whatever_the_columns() -> None:
    kinds = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (200, 2))).double()
    for columns, many in ((kinds[:, :1], 3), (kinds, 9)):
        first, kind = distinct(columns)
        assert len(first) == len(torch.unique(kind)) == many
        assert torch.equal(columns[first][kind], columns)
    scattered = torch.from_numpy(np.random.default_rng(0).uniform(size=(20, 2)))
    first, kind = distinct(scattered)
    assert torch.equal(first, torch.arange(20))
    assert torch.equal(kind, torch.arange(20))


def test_a_single_term_is_the_product_of_its_bodies() -> None:
    backbone, theta = build(replace(BASIC, rank=1), outputs=1)
    factors, x = backbone.layers[0], tensor_grid((2, 3, 2))
    assert isinstance(factors, Factors)
    expected, start = torch.ones(len(x), dtype=torch.float64), 0
    for k, body in enumerate(factors.networks):
        own = JetSpace(body.embedding.names, ())
        values = body.forward(theta[start : start + body.size], x[:, k : k + 1], own)
        expected, start = expected * values.value[:, 0], start + body.size
    assert start == backbone.size
    assert torch.allclose(backbone.forward(theta, x, SPACE).value[:, 0], expected, rtol=1e-13, atol=0)


def test_solution_files_hold_the_knots_and_coefficients_of_every_body() -> None:
    domain = Box(x=(-1.0, 1.0), y=(0.0, 3.0))
    backbone, theta = build(replace(BASIC, width=[], knots="cosine", grid=4), outputs=1, domain=domain)
    model = model_arrays(backbone, theta)
    arrays = ("coefficients", "knots")
    assert set(model) == {f"layer_0/{name}/layer_0/{array}" for name in "xy" for array in arrays}
    points = np.random.default_rng(0).uniform(domain.lower, domain.upper, (20, 2))
    unit = (points - [0.0, 1.5]) / [1.0, 1.5]
    total = np.zeros(20)
    for r in range(2):
        knots, coefficients = (
            [model[f"layer_0/{name}/layer_0/{array}"] for name in "xy"] for array in ("knots", "coefficients")
        )
        total += prod(BSpline(knots[k], coefficients[k][r, 0], 4)(unit[:, k]) for k in range(2))
    ours = backbone.forward(theta, torch.from_numpy(points), JetSpace(domain.names, ())).value[:, 0].numpy()
    assert np.allclose(ours, total, rtol=0, atol=1e-13)
    attributes = model_attributes(backbone.refined())
    assert (attributes["grid"], attributes["degree"], attributes["coordinates"], attributes["terms"]) == (
        8,
        4,
        "x,y",
        2,
    )


def _kink(p: Coordinates) -> list[Jet]:
    return [abs(p.x) * 2 - 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(BASIC, rank=0), r"^backbone\.rank=0: expected a whole number of at least 1"),
        (lambda: replace(BASIC, last="sume"), r"^backbone\.last=sume: unknown\. Did you mean 'sum'\?"),
        (
            lambda: replace(BASIC, embedding=EmbeddingOptions("fourier")),
            r"^backbone\.embedding\.kind=fourier: expected auto, none or periodic",
        ),
        (
            lambda: BASIC.build(BASIC.embedding.build(DOMAIN, (), np.random.default_rng(0), _kink), 1),
            r"^backbone\.embedding\.inputs=true: expected false",
        ),
    ],
)
def test_senseless_options_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
