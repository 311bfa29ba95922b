"""What is said of parameters at which something is not finite: which, and where first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kanpinn as kp
from kanpinn.backbones.embedding import Embedding
from kanpinn.least_squares import diagnosis
from kanpinn.least_squares.diagnosis import pointwise, what_is_wrong
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.least_squares.weighting import Fixed
from kanpinn.samplers import CollocationSample, Uniform


@dataclass(frozen=True)
class Odd(kp.Problem):
    """Two equations and a condition, each with a further factor."""

    one: Callable[[Any], Any] = lambda _: 1.0
    two: Callable[[Any], Any] = lambda _: 1.0
    edge: Callable[[Any], Any] = lambda _: 1.0
    domain = kp.Box(x=(0, 1), y=(-1, 2))
    derivatives = ("x", "y")

    def residual(self, p: Any) -> Any:
        return {"one": (p.u_x + p.u) * self.one(p), "two": (p.u_y - 1) * self.two(p)}

    def conditions(self) -> list[kp.Condition]:
        return [kp.Condition("left", "x-", lambda p: (p.u - p.y) * self.edge(p))]


def posed(problem: Odd) -> tuple[Objective, Tensor, CollocationSample]:
    network = kp.Kan(width=[2], degree=3, grid=2).build(Embedding({"x": (0.0, 1.0), "y": (-1.0, 2.0)}), 1)
    scales = Scales((2.0,), {("interior", "one"): 4.0, ("interior", "two"): 0.25, ("left", ""): 10.0})
    found = Objective(Residuals(problem, network, scales=scales), Fixed())
    sample = Uniform(interior=31, boundary=8).draw(problem, 0, np.random.default_rng(0))
    found.set_points(sample)
    return found, network.initial(np.random.default_rng(1)), sample


@dataclass
class Late:
    """A factor 1 whose derivative, or value, is not finite where a rule holds."""

    where: Callable[[Any], Tensor]
    value: float = 0.0

    def __call__(self, p: Any) -> Tensor:
        bad = self.where(p)
        if self.value:
            return torch.where(bad, self.value, 1.0)
        zero = torch.where(bad, 0 * p.u, 1.0)
        return 1 + torch.sqrt(zero) - torch.sqrt(zero).detach()


def first(points: Tensor, rule: Callable[[Tensor, Tensor], Tensor]) -> tuple[int, str]:
    """The number of points at which a rule holds, and the first one in words."""
    bad = torch.nonzero(rule(points[:, 0], points[:, 1]))[:, 0]
    x, y = points[bad[0]].tolist()
    return len(bad), f"x={x:.6g}, y={y:.6g}"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["one", "two", "edge"])
@pytest.mark.parametrize("rows", [4, 1000])
def test_where_a_residual_or_its_derivative_is_not_finite(name: str, value: float, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(diagnosis, "block_rows", lambda _: rows)
    term = "left" if name == "edge" else "interior"

    def rule(x: Tensor, y: Tensor) -> Tensor:
        return (y > 0.7) & (x < 2)

    def where(p: Any) -> Tensor:
        return rule(p.x, p.y)

    found, theta, _ = posed(Odd(**{name: Late(where, value)}))
    points = next(one.coordinates for one in found.collocation.terms if one.name == term)
    bad, at = first(points, rule)
    assert 1 < bad < len(points)
    told = what_is_wrong(found, theta)
    assert told == f"the residual of '{term}' is not finite at {bad} of {len(points)} points, the first at {at}"
    found, theta, _ = posed(Odd(**{name: Late(where)}))
    assert what_is_wrong(found, theta) == f"the Jacobian of the residual of '{term}' is not finite at {at}"


def test_numbers_that_overflow_only_when_they_are_squared() -> None:
    found, theta, _ = posed(Odd(one=lambda _: 1e180, edge=lambda p: 1e190 * (1 + p.y)))
    with torch.no_grad():
        rows = {(term.name, equation): (term, value) for term, equation, value in found.rows(theta)}
    term, value = max(rows.values(), key=lambda one: float(one[1].abs().max()))
    x, y = term.coordinates[value.abs().argmax()].tolist()
    assert term.name == "left"
    told = f"the largest, {float(value.abs().max()):.3g}, is that of 'left' at x={x:.6g}, y={y:.6g}"
    assert what_is_wrong(found, theta) == f"residuals are finite but their squares overflow; {told}"
    theta[[1, 3]] = torch.nan
    assert what_is_wrong(found, theta) == f"2 of {len(theta)} parameters are not finite"
    found, theta, _ = posed(Odd())
    assert what_is_wrong(found, theta) is None


def test_the_size_of_residuals_is_that_of_all_equations_in_the_problems_units() -> None:
    found, theta, _ = posed(Odd())
    told = pointwise(found, theta)
    assert list(told) == ["interior", "left"] and not told["left"].requires_grad
    for term in found.collocation.terms:
        fields = found.residuals.fields(theta, term.coordinates)["u"]
        y = term.coordinates[:, 1]
        if term.name == "left":
            assert torch.allclose(told["left"], (fields[""] - y).abs())
        else:
            own = torch.hypot(fields["x"] + fields[""], fields["y"] - 1)
            assert torch.allclose(told["interior"], own)
