"""Interfaces inside a domain: points on both sides of curves and surfaces, normals, and a solve over one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import kanpinn
from kanpinn.errors import UserError
from kanpinn.geometry import Ball, Box, Coordinates, Disk, Interface
from kanpinn.pde import Condition
from kanpinn.samplers import SAMPLERS

CORE = Disk([0.1, 0.2], 0.5, name="core")


@dataclass(frozen=True)
class Media(kanpinn.Problem):
    """Laplace's equation in a square with a disk of another conductivity, in a uniform field."""

    k: float = 3.0
    interface: Interface = Interface(CORE)  # noqa: RUF009

    domain = Box(x=(-1, 1), y=(-1, 1))
    derivatives = ("xx", "yy")
    outputs = ("core", "around")

    def residual(self, p):
        return p.u_xx + p.u_yy

    def conditions(self):
        return [
            Condition("value", self.interface, lambda p, q: p.u - q.u),
            Condition("flux", self.interface, lambda p, q: self.k * p.u_n + q.u_n),
            Condition("edge", "boundary", lambda p: p.u - self.reference(p)),
        ]

    def ansatz(self, p, raw):
        return torch.where(CORE.inside(p), raw.core, raw.around)

    def reference(self, p):
        x, y = p.x - 0.1, p.y - 0.2
        around = x * (1 - (self.k - 1) / (self.k + 1) * 0.25 / (x**2 + y**2))
        return torch.where(CORE.inside(p), 2 / (self.k + 1) * x, around)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_lie_on_both_sides_of_a_circle_and_normals_point_out_of_it(dtype) -> None:
    sample = SAMPLERS["uniform"](interior=9, boundary=200).draw(Media(), 0, np.random.default_rng(0), dtype=dtype)
    inner, outer = sample.conditions["flux"].points, sample.paired["flux"]
    distance = [np.hypot(*(points.double().numpy() - CORE.center).T) for points in (inner, outer)]
    assert (distance[0] < 0.5).all()
    assert (distance[1] > 0.5).all()
    assert np.abs(np.array(distance) - 0.5).max() < (1e-5 if dtype == torch.float32 else 1e-11)
    assert CORE.inside(Coordinates(("x", "y"), inner.unbind(1))).all()
    assert not CORE.inside(Coordinates(("x", "y"), outer.unbind(1))).any()
    outward = (inner.double().numpy() - CORE.center) / distance[0][:, None]
    assert sample.conditions["flux"].normals.numpy() == pytest.approx(outward, abs=1e-5)
    assert float(sample.conditions["flux"].weights.sum()) == pytest.approx(np.pi, rel=1e-6)


def test_only_what_lies_in_the_domain_counts_and_time_is_filled() -> None:
    domain = Box(t=(0, 2), y=(-1, 1), x=(0.1, 1))
    (piece,) = Interface(CORE).pieces(domain)
    assert piece.chart.measure == pytest.approx(2 * np.pi / 2, rel=1e-4)
    points = piece.chart.stretched(np.random.default_rng(0).random((50, 2)))
    assert np.hypot(points[:, 2] - 0.1, points[:, 1] - 0.2) == pytest.approx(0.5)
    assert points[:, 0].min() < 0.3 < 1.7 < points[:, 0].max()
    assert piece.normal is not None
    away = piece.normal(points)
    assert away[:, 0] == pytest.approx(0)
    assert away[:, 2] == pytest.approx((points[:, 2] - 0.1) / 0.5)


def test_some_faces_of_a_body_are_an_interface() -> None:
    slab = Box(x=(0, 0.5), y=(-1, 1), z=(-1, 1), name="slab")
    (face,) = Interface(slab, "slab.x+").pieces(Ball())
    assert face.chart.measure == pytest.approx(np.pi * 0.75, rel=1e-2)
    assert len(Interface(slab, ("slab.x-", "slab.x+")).pieces(Ball())) == 2


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        (Interface(Disk(names=("x", "z"))), "condition value: Interface.*the domain has no coordinate z"),
        (Interface(CORE, "rim"), "condition value: on=rim: unknown"),
        (Interface(Disk([5, 5])), "condition value: no point of its support lies inside the domain"),
    ],
)
def test_interfaces_that_do_not_fit_are_refused_in_one_line(interface, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        SAMPLERS["uniform"](interior=9, boundary=9).draw(Media(interface=interface), 0, np.random.default_rng(0))
    assert "\n" not in str(refused.value)


def test_two_media_are_solved_over_their_circle() -> None:
    network = kanpinn.Kan(width=[5], degree=5, grid=3)
    given = ["sampler.interior=300", "sampler.boundary=60", "output.figures=false", "output.progress=false"]
    solution = kanpinn.solve(Media(), network, "schedule.levels=1", "schedule.steps=40", *given)
    assert solution.metrics["relative_l2"]["u"] < 0.05
    sides = solution([[0.1 + 0.4999999, 0.2], [0.1 + 0.5000001, 0.2]])["u"]
    assert sides[0] == pytest.approx(sides[1], abs=0.02)
    slopes = solution.derivative([[0.1 + 0.4999999, 0.2], [0.1 + 0.5000001, 0.2]], "u", "x")
    assert slopes[1] / slopes[0] == pytest.approx(3, rel=0.1)
