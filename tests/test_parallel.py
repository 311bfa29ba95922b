"""Networks side by side: against a dense Jacobian, with zero derivatives, through levels, edits and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.naive_network import Options, at_points
from support.naive_network import network as plain
from torch import Tensor
from torch.func import jacrev

import kanpinn
from kanpinn.backbones import Backbone, ChebyKan, Kan, Mlp, MultKan, ReluKan, Separable
from kanpinn.backbones.base import Tape
from kanpinn.backbones.edits import edited, refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.parallel import joint_network, members_of
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.pde.text_problem import text_problem
from kanpinn.run.preflight import check_class

DOMAIN = Box(x=(-1.0, 1.0), y=(0.0, 1.0), t=(0.5, 2.0))
OUTPUTS = ("u", "a", "v")
DEPENDS = {"a": ("x", "y")}
SPACE = JetSpace(DOMAIN.names, ("xx", "t"))
QUICK = [
    *("schedule.levels=2", "schedule.steps=2", "backbone.width=[2]", "backbone.grid=2", "output.points=5"),
    *("sampler.interior=30", "sampler.boundary=8", "threads=1", "output.progress=false", "output.figures=false"),
]
INVERSE = {
    "domain": {"x": [0, 1], "t": [0, 1]},
    "unknowns": ["u", "a"],
    "depends": {"a": ["x"]},
    "equations": "u_t = d(a*u_x, x)",
    "conditions": {
        "initial": {"on": "t-", "equation": "u = sin(pi*x)"},
        "ends": {"on": ["x-", "x+"], "equation": {"u": "u = 0", "a": "a = 1"}},
    },
    "reference": {"a": "1 + 0*x"},
}
POINTS = torch.rand(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

NETWORKS: dict[str, Options] = {
    "kan": Kan(width=[2], degree=4, grid=2),
    "kan, base, bias, linear first": Kan(width=[3], degree=4, grid=2, base=True, bias=True, first="linear"),
    "relu_kan": ReluKan(width=[3], degree=4, grid=2),
    "multkan": MultKan(width=[2], mult=1, degree=4, grid=2),
    "chebykan": ChebyKan(width=[3], degree=4),
    "separable, hidden, linear last": Separable(width=[2], rank=2, degree=4, grid=2, last="linear"),
    "mlp": Mlp(width=[4]),
}
FAST = ("kan", "chebykan")
some = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in NETWORKS]
each = pytest.mark.parametrize("name", NETWORKS)


def build(options: Options, networks: str = "separate") -> tuple[Backbone, Tensor]:
    embedding = options.embedding.build(DOMAIN, (), np.random.default_rng(0))
    network = joint_network(options.build, embedding, OUTPUTS, DEPENDS, networks)
    generator = np.random.default_rng(1)
    return network, network.initial(generator) + 0.1 * torch.from_numpy(generator.standard_normal(network.size))


def naive(options: Options, network: Backbone, theta: Tensor, point: Tensor) -> Tensor:
    """The outputs `[3]` at one point by plain formulas, each network on its own coordinates."""
    blocks, out = network.blocks.view(theta), {}
    for one in members_of(network):
        embedding, _ = network.embedding.restricted(one.coordinates)
        single = options.build(embedding, len(one.outputs))
        own = torch.cat([value.reshape(-1) for path, value in blocks.items() if path.split("/")[1] == one.name])
        place = [DOMAIN.names.index(name) for name in one.coordinates]
        values = plain(options, single, own, torch.stack([point[k] for k in place]))
        out |= dict(zip(one.outputs, values, strict=True))
    return torch.stack([out[k] for k in range(len(out))])


def outputs_of(options: Options, network: Backbone, theta: Tensor, space: JetSpace, points: Tensor = POINTS) -> Tensor:
    """Every derivative carried of every output at points, `[C, N, 3]`, by automatic differentiation."""
    rows = [
        torch.stack(
            [
                at_points(lambda p, k=k: naive(options, network, theta, p)[k], DOMAIN.names, index, points)
                for k in range(len(OUTPUTS))
            ],
            dim=-1,
        )
        for index in space.indices
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("networks", ["shared", "separate"])
@pytest.mark.parametrize("name", some)
def test_derivatives_equal_those_of_the_formulas_and_are_zero_where_nothing_depends(name: str, networks: str) -> None:
    network, theta = build(NETWORKS[name], networks)
    jets = network.forward(theta, POINTS, SPACE).data
    expected = outputs_of(NETWORKS[name], network, theta, SPACE)
    assert torch.allclose(jets, expected, rtol=1e-11, atol=1e-11 * float(expected.abs().max()))
    assert bool((jets[SPACE.position("t"), :, 1] == 0).all())


@pytest.mark.parametrize("name", some)
def test_jacobian_and_its_products_equal_automatic_differentiation(name: str) -> None:
    network, theta = build(NETWORKS[name])
    space, tape = JetSpace(DOMAIN.names, ("x", "t")), Tape()
    mixed = torch.linspace(-1, 2, len(space) * len(OUTPUTS), dtype=torch.float64).view(len(space), 1, -1)

    def residual(jets: Tensor) -> Tensor:
        return (mixed * jets).sum((0, 2)) + jets[0, :, 0] * jets[1, :, 1]

    rows = jacrev(lambda th: residual(outputs_of(NETWORKS[name], network, th, space)))(theta)
    scale, scalar = float(rows.abs().max()), residual(network.forward(theta, POINTS, space, tape).data).sum()
    found = theta.new_empty(len(POINTS), network.size)
    network.jacobian(theta, tape, scalar, found, retain=True)
    assert float((found - rows).abs().max()) < 1e-11 * scale
    cotangents = network.cotangents(tape, scalar, retain=True)
    tangent, weights = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in (network.size, len(POINTS)))
    assert torch.allclose(network.jvp(theta, tape, cotangents, tangent), rows @ tangent, rtol=0, atol=1e-10 * scale)
    assert torch.allclose(network.vjp(theta, tape, cotangents, weights), weights @ rows, rtol=0, atol=1e-10 * scale)


@each
def test_refining_keeps_the_function_and_coarsening_leads_back(name: str) -> None:
    network, theta = build(NETWORKS[name])
    if not network.refinable:
        return
    edit, theta = refinement(network), network.initial(np.random.default_rng(0))
    assert edit.after.coarsened() == network
    one, two = (net.forward(th, POINTS, SPACE).value for net, th in ((network, theta), (edit.after, edit(theta))))
    assert float((one - two).abs().max()) <= 1e-13 * max(1.0, float(one.abs().max()))


@pytest.mark.parametrize("kind", ["widen", "deepen", "rank"])
@each
def test_edits_keep_the_function(name: str, kind: str) -> None:
    network, theta = build(NETWORKS[name])
    try:
        edit = edited(network, kind, 1, np.random.default_rng(2))
    except UserError:
        return
    assert [one.name for one in members_of(edit.after)] == list(OUTPUTS)
    one, two = network.forward(theta, POINTS, SPACE).data, edit.after.forward(edit(theta), POINTS, SPACE).data
    assert float((one - two).abs().max()) <= 1e-12 * max(1.0, float(one.abs().max()))


def test_equal_dependence_and_shared_networks_are_one_network() -> None:
    options = NETWORKS["kan"]
    embedding = options.embedding.build(DOMAIN, (), np.random.default_rng(0))
    assert joint_network(options.build, embedding, OUTPUTS, {}, "shared") == options.build(embedding, 3)
    assert [one.name for one in members_of(build(options, "shared")[0])] == ["u_v", "a"]


def test_random_features_mix_the_coordinates() -> None:
    options = replace(NETWORKS["mlp"], embedding=EmbeddingOptions("fourier", features=2))
    with pytest.raises(UserError, match="depends on some coordinates only"):
        build(options)


def test_refuses_what_depends_on_nothing_or_contradicts_a_symmetry() -> None:
    problem = text_problem("inverse", INVERSE)
    check_class(problem)
    for depends in ({"b": ("x",)}, {"a": ()}, {"a": ("z",)}, {"a": "x"}):
        problem.adapt(depends=depends)
        with pytest.raises(UserError, match="depends: "):
            check_class(problem)
    problem.adapt(depends={"a": ("x",)}, symmetry={"t": "odd"})
    with pytest.raises(UserError, match="a does not depend on t, in which the problem is odd"):
        check_class(problem)


def test_a_run_with_several_networks_is_stored_and_reopened(tmp_path: Path) -> None:
    solved = kanpinn.solve(
        text_problem("inverse", INVERSE), *QUICK, "backbone.networks=separate", folder=tmp_path / "a"
    )
    problem = text_problem("inverse", INVERSE)
    again, points = kanpinn.load(tmp_path / "a", problem=problem), np.random.default_rng(0).random((5, 2))
    for name, values in solved(points).items():
        assert np.array_equal(again(points)[name], values)
    assert np.array_equal(again.derivative(points, "a", "t"), np.zeros(5))
    with h5py.File(tmp_path / "a" / "solution.h5") as file:
        assert file["model/layer_0/a/coefficients"].shape[:2] == (2, 1)
        assert file["a"].shape == (5, 5)
        assert float(np.ptp(file["a"][:], axis=0).max()) == 0.0  # axes (t, x)
    assert set(solved.metrics["relative_l2"]) == {"a"}
