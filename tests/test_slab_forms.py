"""Forms of networks in sequence: on each time slab that of its own problem, which begins where the one before ends."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kanpinn as kp
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.time_slabs import in_sequence
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.least_squares.slab_forms import by_slab
from kanpinn.pde.time_slab import time_slab


@dataclass(frozen=True)
class Heated(kp.Problem):
    """A wave whose value and velocity at the first time are given."""

    domain = kp.Box(x=(0, 2), t=(-1, 2))
    derivatives = ("t", "tt", "xx")

    def residual(self, p: Any) -> Any:
        return p.u_tt - p.u_xx

    def conditions(self) -> list[kp.Condition]:
        return [
            kp.Condition("start", "t-", lambda p: p.u - torch.sin(p.x)),
            kp.Condition("speed", "t-", lambda p: p.u_t - p.x),
        ]


INTERVALS = {"x": (0.0, 2.0), "t": (-1.0, 2.0)}
POINTS = torch.from_numpy(np.random.default_rng(0).uniform([0, -1], [2, 2], (40, 2)))


def sequence() -> tuple[Residuals, Tensor, list[Any]]:
    """The residuals of three networks in sequence, their parameters, and each network on its own slab."""
    embedding = Embedding(INTERVALS)
    networks = tuple(kp.Kan(width=[k + 1], grid=2, degree=4).build(embedding, 1) for k in range(3))
    theta = torch.cat([one.initial(np.random.default_rng(k)) for k, one in enumerate(networks)])
    residuals = Residuals(Heated(), in_sequence(embedding, networks), exact=True, scales=Scales((3.0,), {}))
    own = []
    for k, network in enumerate(networks):
        part = copy(embedding)
        part.intervals = {"x": (0.0, 2.0), "t": (k - 1.0, float(k))}
        own.append(replace(network, embedding=part))
    return residuals, theta, own


def expected(residuals: Residuals, theta: Tensor, own: list[Any]) -> list[Any]:
    """The unknowns on each slab, made one after the other by hand."""
    found: list[Any] = []
    for slab, (network, mine) in enumerate(zip(own, torch.split(theta, [one.size for one in own]), strict=True)):
        problem = time_slab(Heated(), 3, slab, found[-1] if found else None)
        part = Residuals(problem, network, exact=True, scales=residuals.scales)
        found.append(lambda points, space=None, part=part, mine=mine: part.fields(mine, points, space))
    return found


def test_every_slab_has_the_form_of_its_own_problem() -> None:
    residuals, theta, own = sequence()
    found = residuals.fields(theta, POINTS)["u"].data
    for k, fields in enumerate(expected(residuals, theta, own)):
        inside = (POINTS[:, 1] >= k - 1) & (POINTS[:, 1] < k)
        assert inside.sum() > 5
        one = fields(POINTS[inside], residuals.space)["u"].data
        assert torch.allclose(found[:, inside], one, rtol=1e-12, atol=1e-12)
    assert torch.equal(residuals.fields(theta, POINTS)["u"].data, found)
    other = residuals.fields(1.1 * theta, POINTS)["u"].data
    anew = Residuals(Heated(), residuals.backbone, exact=True, scales=residuals.scales)
    assert torch.equal(other, anew.fields(1.1 * theta, POINTS)["u"].data) and not torch.allclose(other, found)
    few = JetSpace(("x", "t"), ("t",))
    assert torch.allclose(residuals.fields(theta, POINTS, few)["u"]["t"], residuals.fields(theta, POINTS)["u"]["t"])


def test_value_and_velocity_go_on_over_the_joints() -> None:
    residuals, theta, _ = sequence()
    x = torch.linspace(0, 2, 9, dtype=torch.float64)

    def at(t: float) -> Jet:
        return residuals.fields(theta, torch.stack([x, torch.full_like(x, t)], 1))["u"]

    assert torch.allclose(at(-1.0)[""], torch.sin(x), rtol=0, atol=1e-12)
    assert torch.allclose(at(-1.0)["t"], x, rtol=0, atol=1e-12)
    for joint in (0.0, 1.0):
        before, after = at(joint - 1e-9), at(joint)
        assert torch.allclose(before[""], after[""], rtol=0, atol=1e-6)
        assert torch.allclose(before["t"], after["t"], rtol=0, atol=1e-6)
        assert not torch.allclose(before["tt"], after["tt"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_slabs_that_are_not_begun_have_no_values(begun: int) -> None:
    residuals, theta, own = sequence()
    whole = residuals.fields(theta, POINTS)["u"].data
    theta = theta.clone()
    theta[sum(one.size for one in own[:begun]) :] = torch.nan
    found = residuals.fields(theta, POINTS)
    if not begun:
        assert not found
        return
    data, late = found["u"].data, POINTS[:, 1] >= begun - 1
    assert data[:, late].isnan().all() and torch.allclose(data[:, ~late], whole[:, ~late], rtol=1e-12, atol=1e-12)


def test_points_belong_to_the_slab_of_their_time() -> None:
    space = JetSpace(("t",), ("t",))

    def constant(value: float) -> Any:
        return lambda points, _: {"u": Jet(space, torch.stack([value + points[:, 0], 0 * points[:, 0] - value]))}

    times = torch.tensor([3.1, 4.0, 4.999, 2.9, 3.0, 5.0, 5.5, 2.0, 3.5, 3.49], dtype=torch.float64)
    slabs = torch.tensor([0, 2, 3, 0, 0, 3, 3, 0, 1, 0])
    chain = [constant(10.0), constant(20.0), None, constant(40.0)]
    found = by_slab(chain, times, (3.0, 5.0), times[:, None], space)["u"].data
    base = torch.tensor([10.0, 20.0, torch.nan, 40.0], dtype=torch.float64)[slabs]
    assert torch.equal(found.nan_to_num(-1), torch.stack([base + times, -base]).nan_to_num(-1))
    short = by_slab(chain, times[3:], (3.0, 5.0), times[3:, None].float(), space)["u"].data
    assert short.dtype == torch.float32
    assert by_slab([None], times, (3.0, 5.0), times[:, None], space) == {}
