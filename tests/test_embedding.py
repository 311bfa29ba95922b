"""The further inputs of a problem: every network gets them, and with |x| among them a kink and nothing worse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kanpinn.backbones import Kan, Mlp
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.errors import UserError
from kanpinn.geometry import Box, Coordinates
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Condition, Point, Problem
from kanpinn.samplers import SAMPLERS

NETWORKS = {"kan": Kan(width=[3], degree=4, grid=4), "mlp": Mlp(width=[5])}


@dataclass(frozen=True)
class Joint(Problem):
    """Two media that meet at x = 0.5, with a kink there by a further input, and a second one in t."""

    domain = Box(x=(0, 2), t=(0, 1))
    derivatives = ("xx", "t")

    def residual(self, p: Point) -> Tensor:
        return p.u_xx - p.u_t

    def conditions(self) -> list[Condition]:
        return [
            Condition("joint", "x=0.5", lambda p, q: {"flux": p.u_x - 3 * q.u_x, "value": p.u - q.u}),
            Condition("initial", "t-", lambda p: p.u),
        ]

    def inputs(self, p: Coordinates) -> list[Jet]:
        return [abs(p.x - 0.5) / 1.5, p.t * p.t]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return p.t * raw.u


def embedding_of(options: Kan | Mlp, problem: Problem):
    generator = np.random.default_rng(0)
    return options.embedding.build(problem.domain, problem.periodic, generator, problem.inputs)


def objective_of(options: Kan | Mlp, *, exact: bool = False) -> tuple[Objective, Tensor]:
    problem = Joint()
    backbone = options.build(embedding_of(options, problem), 1)
    objective = Objective(Residuals(problem, backbone, exact=exact), Fixed({"joint": 2.0}))
    draw = SAMPLERS["uniform"](interior=9, boundary={"joint": 6, "initial": 4})
    objective.set_points(draw.draw(problem, 0, np.random.default_rng(1)))
    return objective, backbone.initial(np.random.default_rng(2))


@pytest.mark.parametrize("kind", ["none", "fourier"])
def test_inputs_come_last_with_their_derivatives(kind):
    problem, options = Joint(), Mlp(embedding=EmbeddingOptions(kind, features=2))
    points = torch.tensor([[0.25, 0.5], [2.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    space = JetSpace(("x", "t"), ("xx", "t"))
    embedding = embedding_of(options, problem)
    data = embedding.forward(points, space)
    assert data.shape == (len(space), 3, embedding.width)
    assert embedding.width == {"none": 2, "fourier": 6}[kind] + 2
    distance, square = (Jet(space, data[..., k]) for k in (-2, -1))
    assert distance[""].numpy() == pytest.approx([1 / 6, 1.0, 0.0])
    assert distance["x"].numpy() == pytest.approx([-2 / 3, 2 / 3, 2 / 3])
    assert square["t"].tolist() == [1.0, 2.0, 0.0]
    assert not distance["xx"].any()
    without = embedding_of(replace(options, embedding=replace(options.embedding, inputs=False)), problem)
    assert torch.equal(without.forward(points, space), data[..., :-2])


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_the_network_has_a_kink_and_its_jets_the_slopes_of_both_sides(options):
    objective, theta = objective_of(options)
    t, h = torch.linspace(0.1, 0.9, 5, dtype=torch.float64), 1e-6

    def value(x: float) -> Tensor:
        return objective.residuals.fields(theta, torch.stack([torch.full_like(t, x), t], 1))["u"].value

    slopes = {side: side * (value(0.5 + side * h) - value(0.5)) / h for side in (-1, 1)}
    assert (slopes[1] - slopes[-1]).abs().min() > 1e-3
    for side, slope in slopes.items():
        x = float(np.nextafter(0.5, 0.5 + side))
        jet = objective.residuals.fields(theta, torch.stack([torch.full_like(t, x), t], 1))["u"]
        assert jet["x"].numpy() == pytest.approx(slope.numpy(), abs=1e-4)
        assert jet.value.numpy() == pytest.approx(value(0.5).numpy(), abs=1e-14)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_conditions_on_inner_planes_compare_both_sides(options, exact):
    """Also when the other conditions are built in; rows, gradient and Jacobian are those of the two points."""
    objective, theta = objective_of(options, exact=exact)
    assert list(objective.residuals.conditions) == (["joint"] if exact else ["joint", "initial"])
    r, terms = objective.residual(theta)
    points = objective.collocation.by_term()["joint"]
    other = points.clone()
    other[:, 0] = float(np.nextafter(0.5, 1))
    below, above = (objective.residuals.fields(theta, p)["u"] for p in (points, other))
    flux = (below["x"] - 3 * above["x"]) * (2 / 6) ** 0.5
    assert r[9:15].detach().numpy() == pytest.approx(flux.detach().numpy(), abs=1e-14)
    assert terms["joint"] == pytest.approx(float(flux.square().sum()), rel=1e-12)
    expected = torch.autograd.functional.jacobian(lambda p: objective.residual(p)[0], theta)
    assert isinstance(expected, Tensor)
    found = objective.linearize(theta).dense().jacobian
    assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda p: [p.x], r"inputs of the problem: one runs from 0 to 2, not within \[-1, 1\]"),
        (lambda p: [3.0 * len(vars(p))], "inputs of the problem: expected jets, got float"),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(inputs: Any, message: str):
    with pytest.raises(UserError, match=message):
        EmbeddingOptions().build(Joint.domain, (), np.random.default_rng(0), inputs)
