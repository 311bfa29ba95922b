"""Symmetry built into networks: exact whatever the parameters are, nothing lost by it, and wrong claims refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from support.gram import agree
from torch import Tensor, cos, sin

from kanpinn.backbones import Kan, Mlp, Separable
from kanpinn.backbones.coefficients import with_coefficients
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.time_slabs import in_sequence
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Condition, Point, Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import output_names
from kanpinn.pde.unknown import free_coefficients
from kanpinn.run.preflight import check_class
from kanpinn.run.symmetry_check import check_symmetry
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.discovery import load_problem_class, problem_names

NETWORKS = {
    "kan": Kan(width=[3], degree=5, grid=4),
    "mlp": Mlp(width=[5]),
    "separable": Separable(width=[3], rank=2, degree=5, grid=4),
}
DOMAIN = Box(x=(-1, 3), t=(0, 2))
SPACE = JetSpace(("x", "t"), ("xxx", "xt"))
RNG = np.random.default_rng(0)


def embedding_of(parity: str, periodic: bool, rounding: float = 0.1) -> Embedding:
    options = EmbeddingOptions(rounding=rounding)
    return options.build(DOMAIN, ("x",) if periodic else (), RNG, symmetry={"x": parity})


@dataclass(frozen=True)
class Wave(Problem):
    """Burgers' equation, or with another sign one that keeps no such symmetry."""

    parity: str = "odd"
    drift: float = 0.0
    start: float = 0.0

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("xx", "t")
    periodic = ("x",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(symmetry={"x": self.parity})

    def residual(self, p: Point) -> Tensor:
        return p.u_t + (p.u + self.drift) * p.u_x - 0.1 * p.u_xx

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u + sin(math.pi * p.x) + self.start * cos(math.pi * p.x)),
            Condition("boundary", ("x-", "x+"), lambda p: p.u, symmetry="x"),
        ]


def objective_of(problem: Problem, options: Any = NETWORKS["kan"], *, exact: bool = False) -> tuple[Objective, Tensor]:
    embedding = options.embedding.of(problem, RNG)
    backbone = with_coefficients(options.build(embedding, len(output_names(problem))), free_coefficients(problem))
    objective = Objective(Residuals(problem, backbone, exact=exact), Fixed({}))
    draw = SAMPLERS["uniform"](interior=9, boundary=5)
    objective.set_points(draw.draw(problem, 0, np.random.default_rng(1)))
    return objective, objective.backbone.initial(np.random.default_rng(2))


def claims_hold(objective: Objective, theta: Tensor) -> None:
    """The check that a run makes before it begins, at the interior points."""
    check_symmetry(objective.residuals, theta, objective.collocation.by_term()["interior"])


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("parity", ["even", "odd"])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_outputs_are_mirrored_and_jets_are_their_derivatives(options, parity, periodic):
    backbone = options.build(embedding_of(parity, periodic), 2)
    theta = backbone.initial(np.random.default_rng(1))
    points = torch.from_numpy(np.random.default_rng(2).uniform((-1, 0), (3, 2), (7, 2)))
    points[0, 0] = 1.0  # on the mirror
    mirrored = points * torch.tensor([-1.0, 1.0], dtype=torch.float64) + torch.tensor([2.0, 0.0], dtype=torch.float64)
    jet, other = (backbone.forward(theta, p, SPACE) for p in (points, mirrored))
    sign = -1 if parity == "odd" else 1
    for name in SPACE.indices:
        flip = sign * (-1) ** name.count("x")
        assert other[name].numpy() == pytest.approx(flip * jet[name].numpy(), rel=1e-9, abs=1e-9)
    if parity == "odd":
        assert jet.value[0].abs().max() < 1e-14
    if periodic:
        beyond = backbone.forward(theta, points + torch.tensor([4.0, 0.0]), SPACE)
        assert beyond.data.numpy() == pytest.approx(jet.data.numpy(), rel=1e-8, abs=1e-8)

    x = points[:, 0].clone().requires_grad_(True)
    moving = backbone.forward(theta, torch.stack([x, points[:, 1]], 1), SPACE)
    for name in ("", "x", "xx"):
        (expected,) = torch.autograd.grad(moving[name].sum(), x, retain_graph=True)
        assert jet[name + "x"].sum(-1).numpy() == pytest.approx(expected.numpy(), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("parity", ["even", "odd"])
def test_no_smooth_function_of_that_symmetry_is_lost(parity, periodic):
    """Over the factor it is a smooth function of the input: polynomials of that converge to it, also at the mirror."""
    embedding = embedding_of(parity, periodic, rounding=0.2)
    points = torch.stack([torch.linspace(-1, 3, 801, dtype=torch.float64), torch.ones(801, dtype=torch.float64)], 1)
    space = JetSpace(("x", "t"), ())
    g = embedding.forward(points, space)[0, :, 0].numpy()
    factor = embedding.factor(points, space)
    s = np.ones(801) if factor is None else factor.value[:, 0].numpy()
    x = (points[:, 0].numpy() - 1) * math.pi / 2
    wanted = {
        ("even", True): np.exp(np.cos(x)),
        ("odd", True): np.sin(x) * np.exp(np.cos(x)),
        ("even", False): np.exp(-(x**2) / 4),
        ("odd", False): x * np.exp(-(x**2) / 4),
    }[parity, periodic]
    assert g.min() >= -1 - 1e-12
    assert g.max() <= 1 + 1e-12
    assert np.abs(s).max() <= 1 + 1e-12
    errors = []
    for degree in (10, 20, 40):
        matrix = chebyshev.chebvander(g, degree) * s[:, None]
        errors.append(np.abs(matrix @ np.linalg.lstsq(matrix, wanted, rcond=None)[0] - wanted).max())
    assert errors[2] < 1e-9
    assert errors[2] < 1e-2 * errors[0]


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("parity", ["even", "odd"])
def test_a_separable_network_on_a_mirrored_grid_is_that_at_single_points(parity, periodic):
    """Points that share a folded value, and so their output, have slopes of opposite signs."""
    backbone = NETWORKS["separable"].build(embedding_of(parity, periodic), 1)
    theta = backbone.initial(np.random.default_rng(1))
    axes = [torch.linspace(a, b, 9, dtype=torch.float64) for a, b in ((-1, 3), (0, 2))]
    grid = torch.cartesian_prod(*axes)
    together = backbone.forward(theta, grid, SPACE).data
    for k in range(0, len(grid), 7):
        alone = backbone.forward(theta, grid[k : k + 1], SPACE).data
        assert torch.allclose(together[:, k : k + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [NETWORKS["kan"], NETWORKS["separable"]], ids=["kan", "separable"])
def test_normal_equations_on_a_mirrored_grid_are_those_of_autograd(options):
    objective, theta = objective_of(Wave(), options)
    sampler = SAMPLERS["grid"](interior=81, boundary=9)
    objective.set_points(sampler.draw(Wave(), 0, np.random.default_rng(1)))
    expected = torch.autograd.functional.jacobian(lambda p: objective.residual(p)[0], theta)
    assert isinstance(expected, Tensor)
    found = objective.linearize(theta).dense().jacobian
    assert float((found - expected).abs().max()) < 1e-11 * float(expected.abs().max())
    agree(objective, theta, 1e-12)


def test_the_jacobian_of_an_odd_network_is_that_of_autograd():
    objective, theta = objective_of(Wave())
    linearization = objective.linearize(theta)
    found = linearization.dense().jacobian
    expected = torch.autograd.functional.jacobian(lambda p: objective.residual(p)[0], theta)
    assert isinstance(expected, Tensor)
    assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())
    where = objective.backbone.last_layer
    assert torch.equal(linearization.columns(where), found[:, where])


@pytest.mark.parametrize(("kind", "exact", "kept"), [
    ("auto", False, ["initial"]),
    ("auto", True, []),
    ("periodic", False, ["initial", "boundary"]),
    ("none", True, ["boundary"]),
])  # fmt: skip
def test_a_condition_that_symmetry_implies_goes_only_with_a_symmetric_network(kind, exact, kept):
    problem = Wave()
    options = replace(NETWORKS["kan"], embedding=EmbeddingOptions(kind=kind))
    embedding = options.embedding.build(problem.domain, problem.periodic, RNG, None, problem.symmetry)
    objective = Objective(Residuals(problem, options.build(embedding, 1), exact=exact), Fixed({}))
    assert list(objective.residuals.conditions) == kept


@pytest.mark.parametrize("exact", [False, True])
def test_symmetric_networks_meet_what_symmetry_implies_whatever_their_parameters_are(exact):
    for name in problem_names():
        problem = load_problem_class(name)()
        objective, theta = objective_of(problem, exact=exact) if problem.symmetry else (None, None)
        if objective is None or theta is None:
            continue
        claims_hold(objective, theta)
        draw = SAMPLERS["uniform"](interior=9, boundary=50).draw(problem, 0, np.random.default_rng(1))
        for condition in conditions_of(problem):
            if condition.symmetry:
                points = draw.conditions[condition.name].points
                fields = objective.residuals.fields(theta, points)
                value = condition.residual(Point(problem.domain.names, points, fields))
                assert float(value.abs().max()) < 1e-12


def test_the_network_of_all_time_slabs_finds_its_time_beside_a_folded_coordinate():
    parts = [Box(x=(-1, 3), t=(0, 1)), Box(x=(-1, 3), t=(1, 2))]
    options = NETWORKS["kan"]
    bodies = tuple(options.build(options.embedding.build(box, ("x",), RNG, symmetry={"x": "odd"}), 1) for box in parts)
    whole = in_sequence(options.embedding.build(DOMAIN, ("x",), RNG, symmetry={"x": "odd"}), bodies)
    thetas = [body.initial(np.random.default_rng(k)) for k, body in enumerate(bodies)]
    for body, theta, t in zip(bodies, thetas, (0.3, 1.7), strict=True):
        points = torch.tensor([[0.2, t], [1.0, t], [2.5, t]], dtype=torch.float64)
        expected = body.forward(theta, points, SPACE).data
        assert torch.allclose(whole.forward(torch.cat(thetas), points, SPACE).data, expected, rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Plate(Problem):
    """Laplace's equation with values on both ends in x."""

    left: float = 0.0
    half: bool = False

    domain = Box(x=(0, 2), y=(0, 1))
    derivatives = ("xx", "yy")
    symmetry = {"x": "even"}

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy

    def conditions(self) -> list[Condition]:
        where = (lambda p: p.x < 1) if self.half else None
        return [
            Condition("left", "x-", lambda p: p.u - self.left),
            Condition("right", "x+", lambda p: p.u),
            Condition("sides", ("y-", "y+"), lambda p: p.u, where=where),
        ]


class Bent(Plate):
    """With an input that is not mirrored."""

    def inputs(self, p: Any) -> Any:
        return [p.x - 1]


class Cut(Plate):
    """On a part that is not mirrored."""

    def inside(self, p: Any) -> Tensor:
        return (p.x < 1.5) | (p.y < 0.5)


class Small(Plate):
    """With an equation of tiny numbers."""

    def residual(self, p: Point) -> Tensor:
        return 1e-9 * (p.u_xx + p.u_yy - p.x)


class Implied(Plate):
    """Says that being even implies the values at the ends."""

    def conditions(self) -> list[Condition]:
        return [Condition("ends", ("x-", "x+"), lambda p: p.u, symmetry="x")]


@pytest.mark.parametrize(("problem", "message"), [
    (Wave(parity="even"), "the equations are others"),
    (Wave(drift=0.5), "the equations are others"),
    (Wave(start=0.5), r"the conditions on t- are others"),
    (Plate(left=1.0), "the conditions on x- are others"),
    (Plate(half=True), "the conditions on y- are others"),
    (Bent(), "inputs are others"),
    (Cut(), "the domain is another"),
    (Small(), "the equations are others"),
    (Implied(), "condition ends on x- is not implied by the symmetry in x"),
])  # fmt: skip
def test_a_problem_without_the_symmetry_it_claims_is_refused(problem, message):
    with pytest.raises(UserError, match=message):
        claims_hold(*objective_of(problem))


@pytest.mark.parametrize("problem", [Wave(), Plate()])
def test_a_problem_with_the_symmetry_it_claims_passes(problem):
    claims_hold(*objective_of(problem))


@pytest.mark.parametrize("symmetry", [{"y": "odd"}, {"x": "mirrored"}, ("x",)])
def test_a_symmetry_that_makes_no_sense_is_refused(symmetry):
    wrong = Wave()
    wrong.adapt(symmetry=symmetry)
    with pytest.raises(UserError, match="symmetry must map coordinates"):
        check_class(wrong)


def test_the_radius_is_checked():
    with pytest.raises(UserError, match=r"backbone\.embedding\.rounding=0\.0: expected a number from 0\.001 to 1"):
        EmbeddingOptions(rounding=0)
