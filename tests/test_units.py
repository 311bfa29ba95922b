"""Units do not matter: the same problem in other units is, for every optimiser, the same function of the parameters."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.problems import Wave
from support.units import UNITS, InUnits, changed, configured
from torch import Tensor, exp, sin

import kanpinn
from kanpinn import Box, Condition, Coordinates, Data, Jet, Kan, LevenbergMarquardt, Nested, Point, Problem
from kanpinn.least_squares.scales import scales_of
from kanpinn.run import run as runs
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.discovery import load_problem_class, problem_names
from kanpinn.solver.setup import Setup

CONF = Path(__file__).resolve().parents[1] / "conf" / "problem"
SHIPPED = sorted(file.stem for file in CONF.glob("*.yaml") if file.stem != "table")
"""All but the one that needs a table of the user's."""
OTHERS = [name for name in UNITS if name != "given"]
TEXTS = [name for name in SHIPPED if name not in problem_names()]


def shipped(name: str) -> Problem:
    """A shipped problem with its defaults."""
    return validate(compose([f"problem={name}"])[0]).setup.problem if name in TEXTS else load_problem_class(name)()


def others(problem: Problem, name: str) -> list[str]:
    """Other units of a problem; what is round stays so where all lengths change alike."""
    with_round_parts = not isinstance(problem.domain, Box) or name == "inclusion"
    return [units for units in OTHERS if not (with_round_parts and units == "uneven")]


def small(problem: Problem, *, exact: bool = False) -> Setup:
    sampler = SAMPLERS["sobol"](interior=32, boundary=12)
    network, schedule = Kan(width=[3], degree=5, grid=2), Nested(levels=2, steps=[3, 3])
    conditions = "exact" if exact else "soft"
    return Setup(problem, network, schedule, LevenbergMarquardt(), sampler, conditions=conditions)


def posed(setup: Setup) -> tuple[float, Tensor, Tensor]:
    """Loss, gradient and the parameters after a Levenberg-Marquardt step, from the seed's random network."""
    backbone = setup.network()
    objective = setup.objective(backbone)
    objective.set_points(setup.sampler.draw(setup.problem, 0, setup.random("points")))
    theta = backbone.initial(setup.random("initial"))
    loss, gradient, _ = objective.loss_and_gradient(theta)
    optimizer = setup.optimizers()[0]
    optimizer.start(backbone.size, 3)
    return loss, gradient, optimizer.step(objective, theta).theta


def changes() -> Iterator[Any]:
    """Other units of every shipped problem: of one coordinate or of time, then of all, also with its own form."""
    for name in problem_names():
        kind = load_problem_class(name)
        if box := isinstance(kind.domain, Box):
            yield name, "micrometres" if "t" in kind.domain.names else "uneven", False
        yield pytest.param(name, "small", False, marks=pytest.mark.slow if box else [])
        if kind.exact is not Problem.exact:
            yield name, "small", True
    quick = ("inclusion", "klein_gordon")
    yield from (pytest.param(n, "small", False, marks=[] if n in quick else pytest.mark.slow) for n in TEXTS)


@pytest.mark.parametrize(("name", "units", "exact"), list(changes()))
def test_shipped_problems_are_the_same_function_of_the_parameters_in_other_units(name, units, exact):
    problem = shipped(name)
    loss, gradient, moved = posed(small(problem, exact=exact))
    other, slope, there = posed(small(changed(problem, units), exact=exact))
    assert other == pytest.approx(loss, rel=1e-9)
    assert torch.allclose(slope, gradient, rtol=0, atol=1e-8 * float(gradient.abs().max()))
    assert torch.allclose(there, moved, rtol=0, atol=1e-6 * float(moved.abs().max()))


@dataclass(frozen=True)
class Square(Problem):
    """Poisson's equation on [0, L]², u = A sin(πx/L) sin(πy/L)."""

    L: float = 1.0
    A: float = 1.0

    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(domain=Box(x=(0, self.L), y=(0, self.L)))

    def residual(self, p: Point) -> Tensor:
        return p.u_xx + p.u_yy + 2 * (math.pi / self.L) ** 2 * self.reference(p)

    def conditions(self) -> list[Condition]:
        return [Condition("edge", ("x-", "x+", "y-", "y+"), lambda p: p.u)]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return p.x * (self.L - p.x) * p.y * (self.L - p.y) * raw.u

    def reference(self, p: Coordinates | Point) -> Tensor:
        return self.A * sin(math.pi / self.L * p.x) * sin(math.pi / self.L * p.y)


@dataclass(frozen=True)
class Rod(Problem):
    """The heat equation on a rod, of amplitude A."""

    A: float = 1.0

    domain = Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p: Point) -> Tensor:
        return p.u_t - 0.4 * p.u_xx

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - self.A * sin(math.pi * p.x)),
            Condition("ends", ("x-", "x+"), lambda p: p.u),
        ]

    def reference(self, p: Coordinates) -> Tensor:
        return self.A * exp(-0.4 * math.pi**2 * p.t) * sin(math.pi * p.x)


def told(problem: Problem, *overrides: str) -> dict[str, Any]:
    return kanpinn.solve(
        *(problem, "threads=1", "backbone.width=[4]", "backbone.grid=2", "sampler.interior=120", "sampler.boundary=40"),
        *("schedule.levels=2", "schedule.steps=8", "output.points=21", "output.progress=false", *overrides),
    ).metrics


def solved(problem: Problem, *overrides: str) -> tuple[float, list[int], float]:
    found = told(problem, *overrides)
    return found["relative_l2"]["u"], [level["steps"] for level in found["levels"]], found["loss"]


@pytest.mark.parametrize(
    "cases", [[Square(), Square(L=1e6), Square(L=1e-9)], [Rod(), Rod(A=1e6), Rod(A=1e-12)]], ids=["length", "amplitude"]
)
def test_solves_are_the_same_whatever_length_and_amplitude(cases):
    error, steps, loss = solved(cases[0])
    assert error < 0.05
    for problem in cases[1:]:
        other, taken, found = solved(problem)
        assert taken == steps
        assert other == pytest.approx(error, rel=0.1)
        assert found == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("amplitude", [1e165, 1e-175])
def test_squares_that_no_float_holds_change_nothing(amplitude):
    expected = told(Rod(), "schedule.steps=3")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = told(Rod(A=amplitude), "schedule.steps=3")
    kinds = ([warning["kind"] for warning in metrics["warnings"]] for metrics in (found, expected))
    assert next(kinds) == next(kinds)
    for name in ("relative_l2", "error_estimate"):
        assert found[name]["u"] == pytest.approx(expected[name]["u"], rel=1e-6)
    assert found["linf"]["u"] == pytest.approx(amplitude * expected["linf"]["u"], rel=1e-6)


def test_sizes_have_the_units_of_what_they_scale():
    whole, other = scales_of(Square(), exact=True), scales_of(Square(L=1e3, A=1e-6), exact=True)
    assert other.outputs[0] == pytest.approx(whole.outputs[0] * 1e-6 / 1e3**4, rel=1e-9)
    assert other.of("interior", "") == pytest.approx(whole.of("interior", "") * 1e-6 / 1e3**2, rel=1e-9)
    assert other.of("edge", "") == pytest.approx(whole.of("edge", "") * 1e-6, rel=1e-9)
    # Half a wave in each direction; the trial functions have a whole one, their second derivatives 4 times as large.
    assert scales_of(Square(), exact=False).outputs[0] == pytest.approx(0.25 * math.sqrt(2), rel=0.2)


@dataclass(frozen=True)
class Channel(Problem):
    """Flow in a driven cavity, Stokes's without density: nothing but balance says how large v and the pressure are."""

    viscosity: float = 1e-3
    speed: float = 2.0
    density: float = 0.0

    domain = Box(x=(0, 1), y=(0, 1))
    unknowns = ("u", "v", "q")
    derivatives = ("xx", "yy")

    def residual(self, p: Point) -> dict[str, Tensor]:
        return {
            "x": self.density * (p.u * p.u_x + p.v * p.u_y) - self.viscosity * (p.u_xx + p.u_yy) + p.q_x,
            "y": self.density * (p.u * p.v_x + p.v * p.v_y) - self.viscosity * (p.v_xx + p.v_yy) + p.q_y,
            "mass": p.u_x + p.v_y,
        }

    def conditions(self) -> list[Condition]:
        return [
            Condition("lid", "y+", lambda p: {"u": p.u - self.speed, "v": p.v}),
            Condition("walls", ("x-", "x+", "y-"), lambda p: {"u": p.u, "v": p.v}),
        ]


def test_sizes_that_no_data_give_follow_by_balance():
    u, v, q = scales_of(Channel(), exact=False).outputs
    assert u == pytest.approx(2.0 * math.sqrt(2), rel=0.5)
    assert v == pytest.approx(u, rel=0.2)
    # q_x = viscosity Δu, with derivatives of order 2π per unit: q is of the order of 2π √2 viscosity u
    assert q == pytest.approx(2 * math.pi * math.sqrt(2) * 1e-3 * u, rel=0.2)
    assert scales_of(Channel(viscosity=7.0, speed=3e-9), exact=False).outputs[2] == pytest.approx(
        q * 7e3 * 1.5e-9, rel=1e-9, abs=0
    )


@pytest.mark.parametrize(
    ("problem", "exact"), [(Wave(), False), (Wave(), True), (Channel(density=1.0), False)], ids=["wave", "form", "flow"]
)
@pytest.mark.parametrize("seed", range(3))
def test_sizes_change_by_the_factors_of_what_they_scale(problem, exact, seed):
    x, t, c, d = (10 ** np.random.default_rng(seed).uniform(-9, 9, 4)).tolist()
    here, there = (scales_of(one, exact=exact) for one in (problem, InUnits(problem, {"x": x, "t": t, "y": t}, c, d)))
    assert there.outputs == pytest.approx([c * size for size in here.outputs], rel=1e-9, abs=0)
    assert there.terms == pytest.approx({row: d * size for row, size in here.terms.items()}, rel=1e-9, abs=0)


@dataclass(frozen=True)
class Power(Problem):
    """An equation whose derivative vanishes at u = 0: u_x² = c²."""

    c: float = 1.0

    domain = Box(x=(0, 1))
    derivatives = ("x",)

    def residual(self, p: Point) -> Tensor:
        return p.u_x**2 - self.c**2

    def conditions(self) -> list[Condition]:
        return [Condition("start", "x-", lambda p: p.u)]


@pytest.mark.parametrize("c", [1e-20, 3.0, 1e15])
def test_a_nonlinear_equation_without_linear_part_sizes_its_unknown(c):
    one, other = scales_of(Power(), exact=False), scales_of(Power(c), exact=False)
    assert one.outputs[0] == pytest.approx(1 / (2 * math.pi), rel=0.5)
    assert other.outputs[0] == pytest.approx(c * one.outputs[0], rel=1e-6)
    assert other.of("interior", "") == pytest.approx(c**2 * one.of("interior", ""), rel=1e-6)


def test_an_equation_without_data_and_an_unknown_nobody_sizes_have_the_scale_one():
    @dataclass(frozen=True)
    class Nothing(Problem):
        domain = Box(x=(0, 1))
        derivatives = ()

        def residual(self, p: Point) -> Tensor:
            return 0 * p.u

        def conditions(self) -> list[Condition]:
            return []

    found = scales_of(Nothing(), exact=False)
    assert found.outputs == (1.0,)
    assert found.of("interior", "") == 1.0


def test_phases_of_trials_are_orthogonal_in_pairs_of_three_coordinates():
    """The mean over trials of Π_k sin²(π ξ_k + θ_mk) is 1/8 along the line ξ = (s, 0, 0): V of data c there is c √8."""

    @dataclass(frozen=True)
    class Measured(Problem):
        domain = Box(x=(-1, 1), y=(-1, 1), z=(-1, 1))
        derivatives = ("x",)

        def residual(self, p: Point) -> Tensor:
            return p.u_x

        def conditions(self) -> list[Any]:
            x = np.arange(16) / 8 - 1
            return [Data("line", {"x": x, "y": 0 * x, "z": 0 * x, "u": 0 * x + 3.0})]

    assert scales_of(Measured(), exact=False).outputs == (pytest.approx(3 * math.sqrt(8), rel=1e-12),)


def test_a_run_that_is_loaded_again_keeps_its_scales(tmp_path):
    overrides = (
        "backbone.width=[3]",
        "sampler.interior=50",
        "schedule.levels=1",
        "schedule.steps=2",
        "output.points=5",
    )
    made = kanpinn.solve(Square(L=1e6), *overrides, "output.figures=false", folder=tmp_path / "run")
    points = [[2e5, 3e5], [7e5, 1e5]]
    assert (kanpinn.load(tmp_path / "run", Square(L=1e6))(points)["u"] == made(points)["u"]).all()
    assert made.data.model_attributes["scales"]["outputs"] == pytest.approx(
        scales_of(Square(L=1e6), exact=False).outputs
    )


@cache
def short(name: str, units: str) -> dict:
    """Metrics of a short solve, which ends well above rounding."""
    words = ["schedule.levels=2", "schedule.steps=[12,6]", "sampler.interior=400", "sampler.boundary=60"]
    if name == "kdv":  # its separable network goes down to rounding in any number of steps
        words += ["backbone=kan", "schedule.slabs=1"]
    return runs.run(configured(name, units, *words, "output.figures=false"), None, spoken=False).metrics


@pytest.mark.slow
@pytest.mark.parametrize("units", OTHERS)
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_problems_are_solved_alike_in_other_units(name, units):
    if units not in others(shipped(name), name):
        pytest.skip("what is round stays so only where all lengths change alike")
    here, there = short(name, "given"), short(name, units)
    for unknown, error in here["relative_l2"].items():
        assert there["relative_l2"][unknown] == pytest.approx(error, rel=0.1)
    assert there["loss"] == pytest.approx(here["loss"], rel=0.2)
    assert [level["steps"] for level in there["levels"]] == [level["steps"] for level in here["levels"]]


@cache
def whole(name: str, units: str) -> dict:
    """Metrics of a default solve."""
    return runs.run(configured(name, units, "output.figures=false"), None, spoken=False).metrics


@pytest.mark.slow
@pytest.mark.parametrize("units", OTHERS)
@pytest.mark.parametrize("name", ["regression", "poisson_interface"])
def test_default_solves_that_end_above_rounding_are_alike_in_other_units(name, units):
    """All others are rows of `python benchmarks/units.py`."""
    here, there = whole(name, "given"), whole(name, units)
    assert there["relative_l2"]["u"] == pytest.approx(here["relative_l2"]["u"], rel=0.1)
    assert [level["steps"] for level in there["levels"]] == [level["steps"] for level in here["levels"]]
