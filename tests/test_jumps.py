"""Residuals that jump as the unknowns change are told, though most of their terms have derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from kanpinn import Box, Condition, Problem
from kanpinn.errors import UserError
from kanpinn.pde import Point
from kanpinn.run import preflight
from kanpinn.settings.objects import configuration_of_objects


@dataclass(frozen=True)
class Poisson(Problem):
    """Poisson's equation with any further term, in the equation or in the condition."""

    further: Callable[[Point], Any] = lambda _: 0.0
    edge: Callable[[Point], Any] = lambda _: 0.0

    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy - 1 + self.further(p)

    def conditions(self) -> list[Condition]:
        return [Condition("edge", "boundary", lambda p: p.u + self.edge(p))]


def told(problem: Problem, *words: str) -> list[str]:
    return [flag.message for flag in preflight.check(configuration_of_objects(problem, words).setup)]


STEPS: dict[str, tuple[Callable[[Point], Any], str]] = {
    "round": (lambda p: -torch.round(p.u), "u passes "),
    "indicator": (lambda p: (p.u > 0.3).double(), "u passes 0.3 "),
    "negative indicator": (lambda p: 1e-3 * (p.u <= 0).to(p.u), "u passes 0 "),
    "sign of a derivative": (lambda p: p.u**2 * torch.sign(p.u_x), "u_x passes 0 "),
    "floor": (lambda p: torch.floor(3 * p.u) * p.x, "u passes "),
    "ceil, small": (lambda p: 1e-5 * torch.ceil(p.u), "u passes "),
    "rounded finely": (lambda p: torch.round(1e3 * p.u) / 1e3, "u passes "),
    "fraction": (lambda p: torch.frac(p.u), "u passes "),
    "remainder": (lambda p: torch.remainder(p.u_xx, 0.5), "u_xx passes "),
    "whole numbers": (lambda p: p.u.long(), "u passes "),
    "the larger one's number": (lambda p: torch.stack([p.u, p.x]).argmax(0), "u passes "),
    "table": (lambda p: torch.bucketize(p.u.contiguous(), torch.tensor([0.2, 0.7])), "u passes "),
    "pieces that do not meet": (lambda p: p.u_xx * torch.where(p.u > 0.1, 1.0, 2.0), "u passes 0.1 "),
    "beside what is not linear": (lambda p: torch.exp(p.u) - p.u**3 + 0.1 * torch.sign(p.u), "u passes 0 "),
    "a sum of unknowns": (lambda p: torch.sign(p.u_xx - 3 * p.u_yy - 0.5), ""),
}

CONTINUOUS: dict[str, Callable[[Point], Any]] = {
    "abs": lambda p: p.u.abs() - torch.relu(p.u_x),
    "abs and relu by hand": lambda p: torch.sign(p.u) * p.u + (p.u > 0).double() * p.u,
    "pieces that meet": lambda p: torch.where(p.u > 0.2, p.u * p.u_x, 0.2 * p.u_x),
    "clamp, min, max": lambda p: p.u.clamp(-0.1, 0.1) + torch.minimum(p.u, p.u_x) * torch.maximum(p.u, p.x),
    "a steep step": lambda p: torch.tanh(p.u / 1e-6) + torch.erf(50 * p.u) + torch.sigmoid(1e4 * (p.u - 0.2)),
    "a step in x": lambda p: p.u_xx * torch.where(p.x > 0.5, 1.0, 2.0),
    "poles": lambda p: 1 / p.u + torch.log(p.u_x.abs()) + torch.tan(p.u_xx),
    "waves": lambda p: torch.sin(100 * p.u) * torch.cos(3 * p.u_x),
    "rounding": lambda p: (p.u_xx + 1e6) - 1e6 - 1e12 * torch.sin(p.x),
    "powers": lambda p: p.u * p.u_x * p.u_xx + torch.exp(200 * p.u) - (p.u**2 + 1e-12).sqrt(),
}


@pytest.mark.parametrize(("further", "where"), STEPS.values(), ids=STEPS)
def test_a_part_without_derivative_is_told(further: Callable, where: str) -> None:
    (line,) = told(Poisson(further))
    assert line.startswith(f"problem=Poisson: residual jumps as {where}") and "\n" not in line
    (line,) = told(Poisson(edge=further))
    assert line.startswith("problem=Poisson: condition 'edge' jumps as ")


@pytest.mark.parametrize("further", CONTINUOUS.values(), ids=CONTINUOUS)
def test_kinks_poles_and_steep_slopes_are_no_jumps(further: Callable) -> None:
    assert told(Poisson(further, further)) == []


@pytest.mark.parametrize("amplitude", [1e-9, 1e7])
def test_jumps_are_seen_in_any_units_and_precision(amplitude: float) -> None:
    @dataclass(frozen=True)
    class Scaled(Poisson):
        def residual(self, p: Point) -> Tensor:
            return p.u_xx + p.u_yy - amplitude * torch.cos(p.x) + amplitude * torch.sign(p.u - amplitude / 20)

        def conditions(self) -> list[Condition]:
            return [Condition("edge", "boundary", lambda p: p.u - amplitude * p.x)]

    for precision in ("float64", "float32"):
        (line,) = told(Scaled(), f"dtype={precision}")
        assert float(line.partition("jumps as u passes ")[2].split()[0]) == pytest.approx(amplitude / 20, rel=0.01)


def test_a_function_without_a_derivative_in_torch_is_refused() -> None:
    zero = torch.zeros((), dtype=torch.float64)
    with pytest.raises(UserError, match=r"residual has no derivative \(derivative for aten::heaviside is not impl"):
        told(Poisson(lambda p: torch.heaviside(p.u, zero)))


def test_the_search_costs_hardly_more_than_the_examination_before() -> None:
    sizes: list[int] = []
    told(Poisson(lambda p: sizes.append(len(p.x)) or torch.sign(p.u)))
    assert len(sizes) < 80 and sum(sizes) < 12_000
