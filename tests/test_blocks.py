"""Parameter blocks: named views of one vector, and a block beside the layers that no optimiser has to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kanpinn.backbones import Kan
from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.edits import edited, refinement
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.layer import Blocks, Layer, Parameters, packed
from kanpinn.jets.jet import JetSpace

POINTS, SPACE = torch.rand(20, 1, dtype=torch.float64), JetSpace(("x",), ("xx",))


def test_blocks_stand_one_after_the_other_in_the_vector() -> None:
    blocks = Blocks({"a": (2, 3), "b": (), "c": (4,)})
    assert blocks.size == 11
    assert blocks.slices == {"a": slice(0, 6), "b": slice(6, 7), "c": slice(7, 11)}
    vector = torch.arange(11.0)
    views = blocks.view(vector)
    assert views["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert views["b"].item() == 6
    views["c"][0] = -1.0  # a view, no copy
    assert vector[7] == -1
    assert torch.equal(blocks.pack(views), vector)


def test_blocks_of_many_vectors_are_packed_along_the_last_axis() -> None:
    blocks, vectors = Blocks({"a": (2, 3), "b": ()}), torch.rand(4, 5, 7)
    views = blocks.view(vectors)
    assert views["a"].shape == (4, 5, 2, 3)
    assert torch.equal(packed(views.values(), batch=2), vectors)


@dataclass(frozen=True)
class Constants(Layer):
    """Coefficients beside the network's outputs: (u_1, …) to (u_1, …, c_1, …), the same at all points."""

    count: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"constants": (self.count,)}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"constants": np.full(self.count, 0.1)}

    def forward(
        self,
        parameters: Parameters,
        data: Tensor,
        space: JetSpace,
        prepared: Any = None,  # noqa: ARG002
    ) -> tuple[Tensor, None]:
        values = parameters["constants"].expand(1, data.shape[1], -1)
        nothing = values.new_zeros(len(space) - 1, *values.shape[1:])
        return torch.cat([data, torch.cat([values, nothing])], dim=-1), None

    def jacobian(self, parameters: Parameters, features: None, cotangent: Tensor, out: Tensor) -> None:  # noqa: ARG002
        out.copy_(cotangent[0, :, -self.count :])

    @property
    def kept(self) -> int:
        return self.count


@pytest.fixture
def network() -> Backbone:
    kan = Kan(width=[3], degree=4, grid=3).build(Embedding({"x": (0.0, 1.0)}), 1)
    return Backbone(kan.embedding, (*kan.layers, Constants(1)), kan.grid)


def residual(network: Backbone, theta: Tensor, tape: Tape | None = None) -> Tensor:
    """u″ + (c² + 1) u at the points: nonlinear in the coefficient c."""
    u, c = network.forward(theta, POINTS, SPACE, tape).data.unbind(-1)
    return u[SPACE.position("xx")] + (c[0] ** 2 + 1) * u[0]


def test_a_constant_beside_the_network_has_its_part_of_the_jacobian_and_products(network: Backbone) -> None:
    theta = network.initial(np.random.default_rng(0))
    tape, rows = Tape(), torch.empty(20, network.size, dtype=torch.float64)
    network.jacobian(theta, tape, residual(network, theta, tape).sum(), rows)
    exact = torch.autograd.functional.jacobian(lambda t: residual(network, t), theta)
    assert torch.allclose(rows, exact, rtol=1e-12, atol=1e-12)
    tape = Tape()
    cotangents = network.cotangents(tape, residual(network, theta, tape).sum())
    tangent, weights = torch.rand(network.size, dtype=torch.float64), torch.rand(20, dtype=torch.float64)
    assert torch.allclose(network.jvp(theta, tape, cotangents, tangent), exact @ tangent, rtol=1e-11)
    assert torch.allclose(network.vjp(theta, tape, cotangents, weights), weights @ exact, rtol=1e-10, atol=1e-12)


def test_a_constant_is_copied_by_refinement_and_edits(network: Backbone) -> None:
    theta = network.initial(np.random.default_rng(0))
    for edit in (refinement(network), edited(network, "widen", 2, np.random.default_rng(0))):
        new = edit(theta)
        assert edit.after.blocks.view(new)["layer_2/constants"].tolist() == [0.1]
        assert torch.allclose(residual(edit.after, new), residual(network, theta), rtol=1e-11, atol=1e-11)


@pytest.mark.slow
def test_gauss_newton_steps_find_the_constant(network: Backbone) -> None:
    """u = sin(2x) solves u″ + (c² + 1) u = 0 with c² = 3: values of u and the residual together tell c."""
    theta, u = network.initial(np.random.default_rng(1)), torch.sin(2 * POINTS[:, 0])

    def every(theta: Tensor) -> Tensor:
        data = network.forward(theta, POINTS, SPACE).data
        return torch.cat([0.1 * residual(network, theta), data[0, :, 0] - u])

    theta[-1] = 1.5
    for step in range(60):
        rows, r = torch.autograd.functional.jacobian(every, theta), every(theta)
        damping = (1e-3 * 0.7**step) ** 0.5 * torch.eye(len(theta), dtype=torch.float64)
        both = torch.cat([rows, damping])
        theta = theta - torch.linalg.lstsq(both, torch.cat([r, r.new_zeros(len(theta))])).solution
    assert abs(float(theta[-1])) == pytest.approx(3**0.5, rel=1e-3)  # only its square counts
