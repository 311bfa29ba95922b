"""Residuals that jump as the unknowns change are told, though most of their terms have derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kanpinn import Box, Condition, Kan, Problem
from kanpinn.backbones.embedding import Embedding
from kanpinn.errors import UserError
from kanpinn.least_squares.claims import every_term, few_points
from kanpinn.least_squares.jumps import jumps
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import trials
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


class Line(Problem):
    """A residual of u alone, at points on a line; notes the values of u that it is asked for."""

    domain = Box(x=(0, 1))
    derivatives = ("x",)

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule: Callable[[Tensor], Tensor]
        self.asked: list[Tensor]
        object.__setattr__(self, "rule", rule)
        object.__setattr__(self, "asked", [])

    def residual(self, p: Point) -> Tensor:
        self.asked.append(p.u.clone())
        return self.rule(p.u)

    def conditions(self) -> list[Condition]:
        return []


def searched(rule: Callable[[Tensor], Tensor], base: list[float], other: list[float]) -> tuple[list[str], list[Tensor]]:
    """What the search says of outputs base + s other at points on a line, and the values of u that it looks at."""
    problem = Line(rule)
    residuals = Residuals(problem, Kan(width=[2]).build(Embedding({"x": (0.0, 1.0)}), 1))
    sample = few_points(problem, torch.float64, torch.device("cpu"), len(base))
    (trial,) = trials(residuals, every_term(residuals, sample))
    outputs = (torch.tensor([one, [0.0] * len(one)], dtype=torch.float64)[:, None, :, None] for one in (base, other))
    found = list(jumps(trial, *outputs))
    return found, problem.asked


def test_the_search_divides_the_interval_that_holds_the_jump_in_eight() -> None:
    found, asked = searched(lambda u: 2 - torch.sign(u - 0.3), [5.0, 0.7], [0.0, 0.2])
    assert len(found) == 1 and found[0].startswith("residual jumps as u passes 0.3 ")
    at = np.sinh(np.linspace(-7.6, 7.6, 65))
    assert asked[0].tolist() == pytest.approx([*[5.0] * 65, *(0.7 + 0.2 * at)], rel=1e-6, abs=1e-6)
    where = int(np.searchsorted(at, -2.0))
    first = sorted(asked[1].view(-1, 9).tolist())
    around = [np.linspace(at[k], at[k + 1], 9) for k in range(where - 2, where + 1)]
    assert np.array(first) == pytest.approx(0.7 + 0.2 * np.array(around), rel=1e-6)
    low, high, rounds = at[where - 1], at[where], 1
    while True:
        ends = np.linspace(low, high, 9)
        k = int(np.searchsorted(ends, -2.0))
        low, high = ends[k - 1], ends[k]
        if high - low < 64 * np.finfo(float).eps * (1 + abs(low)):
            break
        rounds += 1
        assert len(asked[rounds]) == 9 and np.ptp(asked[rounds].numpy()) == pytest.approx(0.2 * (high - low), rel=0.1)
        assert float(asked[rounds].min()) <= 0.3 <= float(asked[rounds].max()) + 1e-15
    beside = asked[rounds + 1].numpy()
    assert len(beside) == 4 and beside[2] - beside[1] < 1e-13 and beside[1] <= 0.3 <= beside[2]
    assert np.diff(beside)[[0, 2]] == pytest.approx(200 * (high - low), rel=0.1)


@pytest.mark.parametrize(("size", "seen"), [(1.1, True), (0.9, False)])
def test_jumps_within_rounding_are_none(size: float, seen: bool) -> None:
    """Of 0.4 of the digits of the largest residual at lines' beginnings."""
    step = size * torch.finfo(torch.float64).eps ** 0.4
    largest = math.sinh(3 * 7.6 / 32)  # of the places up to 1
    for scale in (1.0, 1e6):
        assert bool(searched(lambda u, scale=scale: scale * (1 + step * (u > 0.3).to(u)), [0.0], [1.0])[0]) is seen
        assert (
            bool(searched(lambda u, scale=scale: scale * (u + largest * step * (u > 0.3).to(u)), [0.0], [1.0])[0])
            is seen
        )


@pytest.mark.parametrize(("power", "rounds"), [(0.5, 15), (0.58, 4), (0.7, 3), (1.0, 1)])
def test_roots_are_followed_further_than_kinks(power: float, rounds: int) -> None:
    """An eighth of an interval holds at least 8^−p of the change of |u|^p; 0.3 of it must stay."""
    found, asked = searched(lambda u: torch.sign(u - 0.3) * (u - 0.3).abs() ** power, [0.0], [1.0])
    assert not found and [len(one) for one in asked] == [65, 27, 27, *[9] * 12][:rounds]
