"""Integrals in residuals and conditions: their values and Jacobian against naive ones, and problems that need them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dct, idct
from scipy.integrate import dblquad, quad, solve_ivp
from support.networks import WIDE
from support.problems import NONE, draw_for
from torch import Tensor

from kanpinn import Integral
from kanpinn.backbones import Kan, Mlp
from kanpinn.errors import UserError
from kanpinn.geometry import Ball, Box, Disk, Ellipse, Polygon, Region
from kanpinn.geometry.quadrature import chart_rule, region_rule
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.claims import few_points, undetermined
from kanpinn.least_squares.integrals import Integrals
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.scales import scales_of
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Condition, Point, Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.formulas import formula
from kanpinn.pde.grammar import Names
from kanpinn.pde.integration import Quadrature
from kanpinn.pde.text_problem import text_problem


@dataclass(frozen=True)
class Coupled(Problem):
    """Every kind of integral in one problem of two unknowns."""

    k: float = 0.7

    domain = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
    unknowns = ("u", "v")
    derivatives = ("t", "xx")

    def residual(self, p: Point) -> dict[str, Tensor]:
        mean = p.integral(lambda q: q.u**2 * q.v_x, over="x", nodes=9)
        kernel = p.integral(lambda q: torch.exp(p.x - q.x) * q.u * p.v + self.k, over=("x",), nodes=7)
        past = p.integral(lambda q: torch.exp(q.t - p.t) * q.u_t, over="t", upper=p.t, nodes=12)
        return {"one": p.u_t - p.u_xx + mean * p.u + kernel, "two": p.v - past, "three": p.u - p.v**2}

    def conditions(self) -> list[Condition | Integral]:
        return [
            Condition("initial", "t-", lambda p: p.u - p.integral(lambda q: q.v_x + p.x, "x+")),
            Integral("mass", lambda p: p.u * p.v, 2.0, nodes=9),
            Integral("rows", lambda p: p.u**2, lambda p: torch.sin(p.t), over="x", nodes=5),
            Integral("left", lambda p: p.v * p.x, 0.3, over=Box(x=(-1, 0), t=(1, 2)), nodes=4),
            Integral("flux", lambda p: p.u_n, 0.1, over=("x-", "x+"), nodes=5),
            Integral("times", lambda p: p.u, over="x", at=(0.5, 1.25), nodes=5),
        ]


def objective(problem: Problem, options: Kan | Mlp) -> tuple[Objective, Tensor]:
    embedding = options.embedding.build(problem.domain, problem.periodic, np.random.default_rng(0))
    backbone = options.build(embedding, len(problem.unknowns))
    generator = np.random.default_rng(1)
    theta = backbone.initial(generator)
    found = Objective(Residuals(problem, backbone), Fixed({"interior": 0.7}))
    found.set_points(draw_for(problem))
    return found, theta + 0.1 * torch.from_numpy(generator.standard_normal(len(theta)))


NETWORKS = {
    "kan": replace(WIDE, width=[2], embedding=NONE),
    "mlp": Mlp(width=[4], embedding=NONE),
}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_jacobian_and_its_products_are_those_of_automatic_differentiation(options: Kan | Mlp) -> None:
    problem, theta = objective(Coupled(), options)
    exact = torch.autograd.functional.jacobian(lambda at: problem.residual(at)[0], theta)
    r, _ = problem.residual(theta)
    found, size = problem.linearize(theta), float(exact.abs().max())
    v, w = (torch.from_numpy(np.random.default_rng(5).standard_normal(n)) for n in reversed(exact.shape))
    assert torch.allclose(found.residual, r, rtol=0, atol=1e-13)
    assert torch.allclose(found.dense().jacobian, exact, rtol=0, atol=1e-12 * size)
    assert torch.allclose(found.jvp(v), exact @ v, rtol=0, atol=1e-11 * size)
    assert torch.allclose(found.vjp(w), exact.T @ w, rtol=0, atol=1e-11 * size)
    assert torch.allclose(problem.loss_and_gradient(theta)[1], 2 * exact.T @ r, rtol=0, atol=1e-11 * size)
    normal, rows = found.gram(), torch.cat(list(found.blocks()))
    for matrix, gradient in ((normal.matrix, normal.gradient), (rows.T @ rows, found.gradient)):
        assert torch.allclose(matrix, exact.T @ exact, rtol=0, atol=1e-11 * size**2 * len(r))
        assert torch.allclose(gradient, exact.T @ r, rtol=0, atol=1e-11 * size)
    assert normal.terms == pytest.approx(found.terms, rel=1e-12)
    where = problem.backbone.last_layer
    assert torch.allclose(found.columns(where), exact[:, where], rtol=0, atol=1e-12 * size)
    parts = list(problem.pieces(3))
    assert math.fsum(part.loss(theta)[0] for part in parts) == pytest.approx(problem.loss(theta)[0], rel=1e-12)


def test_terms_without_integrals_keep_their_own_way_to_the_normal_equations(monkeypatch) -> None:
    @dataclass(frozen=True)
    class Mean(Problem):
        domain = Box(x=(0, 1), y=(0, 1))
        derivatives = ("xx", "yy")

        def residual(self, p: Point) -> Tensor:
            return p.u_xx + p.u_yy

        def conditions(self) -> list[Condition | Integral]:
            return [Condition("wall", "boundary", lambda p: p.u_x), Integral("mean", lambda p: p.u)]

    problem, theta = objective(Mean(), Kan(width=[2], degree=3, grid=16))
    j = problem.linearize(theta).dense().jacobian
    seen: list[int] = []
    from kanpinn.least_squares import gram_local

    kept = gram_local.products
    monkeypatch.setattr(gram_local, "products", lambda *a: seen.append(len(a[2].rows)) or kept(*a))
    found = problem.linearize(theta).gram()
    assert seen == [2] and torch.allclose(found.matrix, j.T @ j, rtol=0, atol=1e-12 * float(j.square().sum()))


def test_integrals_are_those_of_scipy() -> None:
    problem, theta = objective(Coupled(), replace(WIDE, width=[2], grid=4, embedding=NONE))
    network, space = problem.backbone, JetSpace(("x", "t"), ("t", "x"))

    def at(x: float, t: float, unknown: int, derivative: str) -> float:
        with torch.no_grad():
            jet = network.forward(theta, torch.tensor([[x, t]], dtype=torch.float64), space)
        return float(jet[derivative][0, unknown])

    states = problem.residuals.integrals(theta)
    points = torch.tensor([[0.3, 0.9], [-0.6, 1.7]], dtype=torch.float64)
    p = Point(("x", "t"), points, {}, None, states)
    found = {
        "over": p.integral(lambda q: q.u**2 * torch.exp(p.x * q.x), over="x"),
        "past": p.integral(lambda q: torch.exp(q.t - p.t) * q.u_t, over="t", upper=p.t),
        "next": p.integral(lambda q: torch.exp(p.t - q.t) * q.u, over="t", lower=p.t, nodes=48),
    }
    root = p.integral(lambda q: torch.sqrt(p.t - q.t), over="t", upper=p.t, nodes=96)  # NaN beyond the limit
    assert root.tolist() == pytest.approx([2 / 3 * (t - 0.5) ** 1.5 for t in (0.9, 1.7)], abs=1e-3)
    for k, (x, t) in enumerate(points.tolist()):
        kinks = np.linspace(-1, 1, 5).tolist()
        over = quad(lambda y, x=x, t=t: at(y, t, 0, "") ** 2 * math.exp(x * y), -1, 1, points=kinks, epsabs=1e-6)[0]
        past = quad(lambda s, x=x, t=t: math.exp(s - t) * at(x, s, 0, "t"), 0.5, t, epsabs=1e-6)[0]
        assert float(found["over"][k]) == pytest.approx(over, abs=1e-5)  # splines have kinks in their derivatives
        assert float(found["past"][k]) == pytest.approx(past, abs=1e-5)
        after = quad(lambda s, x=x, t=t: math.exp(t - s) * at(x, s, 0, ""), t, 2, epsabs=1e-6)[0]
        assert float(found["next"][k]) == pytest.approx(after, abs=1e-5)


def smooth(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    return np.exp(0.7 * x - 0.3 * y) * np.cos(2 * x + y)


def disk_integral(center: tuple[float, float], radius: float) -> float:
    def half(x: float) -> float:
        return math.sqrt(max(radius**2 - (x - center[0]) ** 2, 0))

    low, high = (lambda x: center[1] - half(x)), (lambda x: center[1] + half(x))
    ends = center[0] - radius, center[0] + radius
    return dblquad(lambda y, x: float(smooth(x, y)), *ends, low, high, epsabs=1e-10, epsrel=1e-10)[0]


HOLE = Disk([0.2, 0.1], 0.3, name="hole")
REGIONS: dict[str, tuple[Region, float]] = {
    "disk": (Disk(), disk_integral((0, 0), 1)),
    "ring": (Disk(name="rim") - HOLE, disk_integral((0, 0), 1) - disk_integral((0.2, 0.1), 0.3)),
    "half": (
        Disk(name="rim") - Box(x=(-2, 0), y=(-2, 2), name="cut"),
        dblquad(
            lambda y, x: float(smooth(x, y)), 0, 1, lambda x: -math.sqrt(1 - x * x), lambda x: math.sqrt(1 - x * x)
        )[0],
    ),
    "triangle with a hole": (
        Polygon([(-1, -1), (2, -1), (0, 2)]) - HOLE,
        dblquad(lambda x, y: float(smooth(x, y)), -1, 2, lambda y: -1 + (y + 1) / 3, lambda y: 2 - 2 * (y + 1) / 3)[0]
        - disk_integral((0.2, 0.1), 0.3),
    ),
}


@pytest.mark.parametrize(("region", "exact"), REGIONS.values(), ids=REGIONS)
def test_rules_of_plane_regions_are_exact_for_smooth_functions(region: Region, exact: float) -> None:
    points, weights = region_rule(region, 24, {})
    assert region.contains(points).all() and (weights > 0).all()
    assert weights @ smooth(*points.T) == pytest.approx(exact, rel=1e-8)


def test_rules_of_balls_boundaries_and_products() -> None:
    points, weights = region_rule(Ball(), 14, {})
    assert weights @ np.exp(points[:, 2]) == pytest.approx(4 * math.pi / math.e, rel=1e-13)  # 4π(cosh 1 − sinh 1)
    points, weights = region_rule(Disk() * Box(t=(0, 2)), 12, {})
    assert weights @ (points[:, 0] ** 2 * points[:, 2]) == pytest.approx(math.pi / 2, rel=1e-13)
    for region in (Disk(radius=2), Ellipse([0, 0], [2, 1], 0.3), Polygon([(0, 0), (2, 0), (1, 1)])):
        (piece,) = region.pieces.values()
        points, weights = chart_rule(piece.chart, 96, {})
        assert piece.normal is not None
        inside = weights @ (points * piece.normal(points)).sum(axis=1) / 2  # ∮ x·n = 2 |Ω|
        assert inside == pytest.approx(region_rule(region, 24, {})[1].sum(), rel=1e-10)


@dataclass(frozen=True)
class Volterra(Problem):
    """u' + u = ∫₀ᵗ exp(s − t) u(s) ds, u(0) = 1: u = exp(−t) cosh t."""

    domain = Box(t=(0, 5))
    derivatives = ("t",)

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u - p.integral(lambda q: torch.exp(q.t - p.t) * q.u, over="t", upper=p.t)

    def conditions(self) -> list[Condition]:
        return [Condition("start", "t-", lambda p: p.u - 1)]

    def reference(self, p) -> Tensor:
        return torch.exp(-p.t) * torch.cosh(p.t)


@dataclass(frozen=True)
class Fredholm(Problem):
    """u = f + ∫₀¹ exp(xy) u(y) dy of the second kind, with f such that u = exp x."""

    domain = Box(x=(0, 1))
    derivatives = ()

    def residual(self, p: Point) -> Tensor:
        f = torch.exp(p.x) - torch.expm1(p.x + 1) / (p.x + 1)
        return p.u - f - p.integral(lambda q: torch.exp(p.x * q.x) * q.u, over="x")

    def conditions(self) -> list[Condition]:
        return []

    def reference(self, p) -> Tensor:
        return torch.exp(p.x)


@pytest.mark.parametrize(("problem", "error"), [(Volterra(), 5e-3), (Fredholm(), 1e-4)], ids=["volterra", "fredholm"])
def test_integral_equations_are_solved(problem: Problem, error: float) -> None:
    from kanpinn import solve

    found = solve(
        problem,
        "threads=1",
        "output.progress=false",
        "backbone.width=[3]",
        "schedule.levels=1",
        "schedule.steps=12",
        "sampler.interior=40",
    )
    assert found.metrics["relative_l2"]["u"] < error


CONSERVED = {
    "domain": {"x": [0, 1], "t": [0, 1]},
    "D": 0.05,
    "equations": "u_t = D*u_xx + u - u**3 - integral(u - u**3, x)",
    "conditions": {
        "start": {"on": "t-", "equation": "u = cos(pi*x)/2 + 1/4"},
        "ends": {"on": ["x-", "x+"], "equation": "u_x = 0"},
        "mass": {"integral": "u", "equals": "1/4", "over": "x"},
    },
}


@pytest.mark.slow
def test_phases_that_keep_their_mass_are_those_of_the_method_of_lines() -> None:
    """Rubinstein and Sternberg 1992: what the reaction makes is taken away evenly."""
    from kanpinn import solve

    x = (np.arange(48) + 0.5) / 48

    def change(_: float, u: np.ndarray) -> np.ndarray:
        reaction = u - u**3
        return 0.05 * idct(-((np.arange(48) * np.pi) ** 2) * dct(u)) + reaction - reaction.mean()

    lines = solve_ivp(change, (0, 1), np.cos(np.pi * x) / 2 + 0.25, method="LSODA", rtol=1e-9, atol=1e-11).y[:, -1]
    words = ("backbone.width=[4]", "backbone.grid=2", "schedule.levels=1", "schedule.steps=12", "sampler.interior=150")
    found = solve(text_problem("conserved", CONSERVED), "threads=1", "output.progress=false", *words)
    u = found(np.stack([x, np.ones(48)], axis=1))["u"]
    assert np.linalg.norm(u - lines) < 5e-3 * np.linalg.norm(lines)
    assert u.mean() == pytest.approx(0.25, abs=1e-3) and np.abs(u - 0.25).max() > 0.5


def refused(over=None, integrand=lambda q: q.u, **options) -> str:
    problem, theta = objective(Coupled(), NETWORKS["mlp"])
    points = torch.tensor([[0.3, 0.9], [-0.6, 1.7]], dtype=torch.float64)
    p = Point(("x", "t"), points, {}, None, problem.residuals.integrals(theta))
    with pytest.raises(UserError) as error:
        p.integral(integrand, over, **options)
    return str(error.value)


def test_mistakes_in_integrals_are_refused_in_a_line() -> None:
    assert "piece" in refused("y") or "y" in refused("y")
    assert "limits belong to an integral over one coordinate" in refused(upper=1.0)
    assert "a limit lies outside the domain, t from 0.5 to 2" in refused("t", upper=3.0)
    assert "a lower limit lies above the upper one" in refused("t", lower=1.5, upper=1.0)
    assert "the integrand returned str" in refused(integrand=lambda _: "u")
    assert "the integrand returned (5,)" in refused(integrand=lambda _: torch.ones(5))
    assert "the integrand returned (1, " in refused(integrand=lambda q: q.u[None])
    assert "p.u_xxx is not computed" in refused(integrand=lambda q: q.u_xxx)
    with pytest.raises(UserError, match="there is none here"):
        Point(("x",), torch.zeros(1, 1), {}).integral(lambda q: q.x)
    with pytest.raises(UserError, match="values of one coordinate, but it integrates over all"):
        Integral("mass", lambda p: p.u, at=[0.1]).condition(Coupled())


VALUES = {
    "integral(u**2, x)": lambda p: p.integral(lambda q: q.u**2, over="x"),
    "k*integral(exp(x - s)*u(s, t)*v_x(s, t) + u, s)": lambda p: (
        0.7 * p.integral(lambda q: torch.exp(p.x - q.x) * q.u * q.v_x + p.u, over="x")
    ),
    "u_t - integral(exp(s - t)*u_t(x, s), s, 0.5, t)": lambda p: (
        p.u_t - p.integral(lambda q: torch.exp(q.t - p.t) * q.u_t, over="t", lower=0.5, upper=p.t)
    ),
    "sin(x)*integral(u*v) - integral(v, (x, t))": lambda p: (
        torch.sin(p.x) * p.integral(lambda q: q.u * q.v) - p.integral(lambda q: q.v)
    ),
}


@pytest.mark.parametrize("text", VALUES)
def test_integrals_as_text_are_those_in_python(text: str) -> None:
    problem, theta = objective(Coupled(), NETWORKS["mlp"])
    found = formula(text, Names(("x", "t"), ("u", "v"), ("k",)), "problem.equations")
    points = torch.tensor([[0.3, 0.9], [-0.6, 1.7], [0.1, 0.9]], dtype=torch.float64)
    fields = problem.residuals.fields(theta, points)
    p = Point(("x", "t"), points, fields, None, problem.residuals.integrals(theta))
    assert torch.allclose(found(p, {"k": 0.7}), VALUES[text](p), rtol=0, atol=1e-13)
    assert found.derivatives == {one for one in ("x", "t") if f"_{one}" in text}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("integral(u(s), s)", "letter 10: u(s): expected the coordinates with s in place of one, such as u(s, t)"),
        ("integral(s*x, s)", "holds no unknown at s, such as u(s)"),
        ("integral(u, x, 0)", "expected integral(f)"),
        ("integral(u(k, t), k)", "has a meaning already"),
        ("laplace(integral(u*x, t))", "derivative of an integral"),
        ("integral(integral(u, x), t)", "expected integral(f)"),
    ],
)
def test_integrals_as_text_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        formula(text, Names(("x", "t"), ("u", "v"), ("k",)), "problem.equations")
    assert message in str(error.value)


def test_integral_conditions_as_text() -> None:
    given = {
        "domain": {"x": [-1, 1], "t": [0.5, 2]},
        "unknowns": ["u", "v"],
        "k": 2.0,
        "equations": {"one": "u_t = u_xx", "two": "v_t = 0"},
        "conditions": {
            "mass": {"integral": "k*u*v_x", "equals": "sin(t)", "over": "x", "at": [0.75, 1.5]},
            "mean": {"integral": "u", "equals": "k"},
        },
    }
    mass, mean = conditions_of(text_problem("balance", given))
    problem, theta = objective(Coupled(), NETWORKS["mlp"])
    points = torch.tensor([[0.0, 0.75], [0.0, 1.5]], dtype=torch.float64)
    p = Point(("x", "t"), points, {}, None, problem.residuals.integrals(theta))
    assert torch.allclose(mass.residual(p), 2 * p.integral(lambda q: q.u * q.v_x, over="x") - torch.sin(p.t))
    assert torch.allclose(mean.residual(p), p.integral(lambda q: q.u) - 2)
    wrong = Integral("mass", lambda p: p.u, lambda p: p.x * p.t, over="x").condition(text_problem("balance", given))
    with pytest.raises(UserError, match=r"mass: its value depends on p\.x, but x is integrated over"):
        wrong.residual(p)
    given["conditions"]["mass"]["on"] = "x-"
    with pytest.raises(UserError, match="on=x-: unknown key"):
        text_problem("balance", given)


def test_an_unknown_of_which_only_derivatives_are_told_is_named() -> None:
    @dataclass(frozen=True)
    class Flux(Problem):
        domain = Box(x=(0, 1), t=(0, 1))
        derivatives = ("xx", "t")
        mean: bool = False

        def residual(self, p: Point) -> Tensor:
            return p.u_t - p.u_xx

        def conditions(self) -> list[Condition | Integral]:
            ends = Condition("flux", ("x-", "x+"), lambda p: p.u_x)
            turn = Condition("turn", "t-", lambda p, q: p.u - q.u, periodic="t")
            return [ends, turn, *([Integral("mean", lambda p: p.u)] if self.mean else [])]

    for mean in (False, True):
        problem, _ = objective(Flux(mean), NETWORKS["mlp"])
        lines = undetermined(problem.residuals, few_points(Flux(mean), torch.float64, torch.device("cpu")))
        assert ["no term depends on the value of u, only" in line for line in lines] == [True] * (not mean)


@pytest.mark.parametrize("unit", [1e-6, 1e9])
def test_sizes_of_integral_conditions_follow_the_units(unit: float) -> None:
    @dataclass(frozen=True)
    class Norm(Problem):
        size: float

        domain = Box(x=(0, 1))
        derivatives = ("x",)

        def residual(self, p: Point) -> Tensor:
            return p.u_x

        def conditions(self) -> list[Condition | Integral]:
            return [Integral("mean", lambda p: p.u * p.x, self.size), Integral("none", lambda p: p.u)]

    plain, other = scales_of(Norm(1.0), exact=False), scales_of(Norm(unit), exact=False)
    assert other.outputs[0] == pytest.approx(unit * plain.outputs[0], rel=1e-12)
    assert other.of("mean", "") == pytest.approx(unit * plain.of("mean", ""), rel=1e-12)
    assert other.of("none", "") == pytest.approx(unit * plain.of("none", ""), rel=1e-12)


@dataclass(frozen=True)
class Plain(Problem):
    """A problem of two coordinates or one, of which only the domain matters."""

    line: bool = False
    derivatives = ("x", "t")

    def __post_init__(self) -> None:
        super().__post_init__()
        domain = {} if self.line else {"x": (-1.0, 2.0)}
        self.adapt(domain=Box(**domain, t=(0.5, 2.0)), derivatives=("t",) if self.line else ("x", "t"))

    def residual(self, p: Point) -> Tensor:
        return p.u

    def conditions(self) -> list[Condition]:
        return []


def known(points: Tensor, *, line: bool = False, record: bool = False) -> tuple[Point, Integrals]:
    """Points `[N, d]` where u = x²t + x, or t on a line, and integrals of it."""
    names = ("t",) if line else ("x", "t")
    space = JetSpace(names, names)

    def fields(at: Tensor) -> dict[str, Jet]:
        x, t = torch.ones_like(at[:, -1]) if line else at[:, 0], at[:, -1]
        by = {(): t if line else x**2 * t + x, ("x",): 2 * x * t + 1, ("t",): x**2}
        return {"u": Jet(space, torch.stack([by[tuple(index)] for index in space.indices]))}

    integrals = Integrals(Quadrature(Plain(line)), fields, record=record)
    return Point(names, points, fields(points), None, integrals), integrals


RANDOM = np.random.default_rng(0).uniform([-1, 0.5], [2, 2], (25, 2))
LOWER = np.random.default_rng(1).uniform(0.5, 2, 25)
LOWER[:9] = [0.5, 0.5, 1.25, 1.25, 0.5, 1.0, 2.0, 0.5 - 1e-10, 1.0]
UPPER = np.maximum(LOWER, np.random.default_rng(2).uniform(0.5, 2, 25))
UPPER[:9] = [2.0, 0.5, 2.0, 1.25, 1.25, 1.5, 2.0 + 1e-10, 2.0, 1.0 + 1e-12]
UPPER[9:13] = LOWER[9:13]


@pytest.mark.parametrize("nodes", [0, 1, 6, 7, 12, 18, 19])
def test_integrals_between_limits_are_exact_for_polynomials(nodes: int) -> None:
    """Six nodes a panel: up to degree 11; every node lies between the limits."""
    points, lower, upper = (torch.from_numpy(one) for one in (RANDOM, LOWER, UPPER))
    p, integrals = known(points)
    seen: list[Tensor] = []

    def between(a: Any, b: Any, power: int) -> Tensor:
        ends = (torch.as_tensor(one, dtype=torch.float64).clamp(0.5, 2) ** (power + 1) for one in (b, a))
        return (next(ends) - next(ends)) / (power + 1)

    def integrand(q: Point) -> Tensor:
        seen.append(q.t)
        return q.u * q.t**10 + p.x * q.u_x

    found = p.integral(integrand, "t", lower=lower, upper=upper, nodes=nodes)
    x = points[:, 0]
    exact = x**2 * between(lower, upper, 11) + x * between(lower, upper, 10)
    exact = exact + x * (2 * x * between(lower, upper, 1) + between(lower, upper, 0))
    assert torch.allclose(found, exact, rtol=1e-12, atol=1e-12)
    for at in seen:
        at = at.expand(-1, 25)
        inside = (at >= lower.clamp(0.5, 2) - 1e-12) & (at <= upper.clamp(0.5, 2) + 1e-12)
        assert inside[:, lower < upper].all()
    for given, a, b in (({"upper": 1.1}, 0.5, 1.1), ({"lower": p.t}, p.t, 2.0), ({"lower": 0.7, "upper": 1}, 0.7, 1)):
        found = p.integral(lambda q: q.t**4, "t", nodes=nodes, **given)
        assert torch.allclose(found, between(a, b, 4).expand(25), rtol=1e-13, atol=1e-13)
    one, _ = known(points[:, 1:], line=True)
    assert torch.allclose(
        one.integral(lambda q: q.u * one.t, "t", lower=lower, upper=upper), between(lower, upper, 1) * one.t
    )
    along = p.integral(lambda q: q.u * q.t, "x", upper=p.x)
    assert torch.allclose(along, p.t * (p.t * (p.x**3 + 1) / 3 + (p.x**2 - 1) / 2), rtol=1e-13, atol=1e-13)
    assert integrals.used == []


def test_nodes_of_panels_are_shared_and_those_at_the_ends_are_not() -> None:
    """Twelve nodes are two panels, from 0.5 to 1.25 and on to 2."""
    points = torch.from_numpy(RANDOM[:3])
    points[1, 0] = points[0, 0]
    for lower, upper, panels, ends in (
        ([0.5] * 3, [2.0] * 3, [2], []),
        ([0.5] * 3, [1.25, 1.25, 2.0], [2], []),
        ([0.5] * 3, [1.5, 1.5, 2.0], [2], [2]),
        ([0.6, 0.6, 0.5], [1.5, 1.6, 2.0], [2], [2, 3]),
        ([0.6, 0.5, 0.5], [0.7, 0.5, 0.5], [], [3]),
        ([1.0] * 3, [1.0] * 3, [], []),
    ):
        p, integrals = known(points, record=True)
        low, high = (torch.tensor(one, dtype=torch.float64) for one in (lower, upper))
        found = p.integral(lambda q: q.u * 1.0, "t", lower=low, upper=high, nodes=12)
        assert found.tolist() == pytest.approx(
            (points[:, 0] ** 2 * (high**2 - low**2) / 2 + points[:, 0] * (high - low)).tolist()
        )
        assert [tuple(one.points.shape) for one in integrals.used] == [(12, 2, 2)] * len(panels) + [
            (6, one, 2) for one in ends
        ]


def test_what_an_integrand_may_be() -> None:
    points = torch.from_numpy(RANDOM)
    p, _ = known(points)
    for kind in (2, 2.0, torch.tensor(2.0), torch.tensor([2.0]), torch.full((1, 1), 2.0), torch.full((25,), 2.0)):
        for value in (kind, kind * torch.ones(1, 25)):
            assert p.integral(lambda _, value=value: value, "x").tolist() == pytest.approx([6.0] * 25)
            assert p.integral(lambda _, value=value: value).tolist() == pytest.approx([9.0] * 25)
            assert p.integral(lambda _, value=value: value, "t", upper=p.t).tolist() == pytest.approx(
                (2 * p.t - 1).tolist()
            )
    assert p.integral(lambda q: q.t, "x").tolist() == pytest.approx((3 * p.t).tolist())
    assert p.integral(lambda _: 0.1, "x").tolist() == pytest.approx([0.3] * 25, rel=1e-14)
    assert p.integral(lambda q: q.x, "x", upper=0.1).tolist() == pytest.approx([-0.495] * 25, rel=1e-14)
    for given in ({"upper": 2 + 3e-9}, {"lower": 0.5 - 3e-9}):
        with pytest.raises(UserError, match="a limit lies outside the domain, t from"):
            p.integral(lambda q: q.t, "t", **given)
    with pytest.raises(UserError, match="a limit depends on the unknowns"):
        p.integral(lambda q: q.t, "t", upper=p.t.clone().requires_grad_())
    for wrong in (torch.ones(48, 25, 1), torch.ones(48, 3), torch.ones(7, 25), None):
        with pytest.raises(UserError, match="the integrand returned"):
            p.integral(lambda _, wrong=wrong: wrong, "x")


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_integrals_have_the_type_of_the_points(kind: torch.dtype) -> None:
    p, _ = known(torch.from_numpy(RANDOM).to(kind))
    for found, exact in (
        (p.integral(lambda q: q.u_x), 10.125),
        (p.integral(lambda q: q.u, "x"), 3 * p.t + 1.5),
        (p.integral(lambda q: q.u * q.n_x, ("x-", "x+")), 10.125),
        (p.integral(lambda q: q.u_n, "boundary"), 11.25),
        (p.integral(lambda q: q.u, "t", lower=p.t), p.x**2 * (4 - p.t**2) / 2 + p.x * (2 - p.t)),
        (p.integral(lambda _: 1, "t", upper=1.1), 0.6),
    ):
        expected = torch.as_tensor(exact, dtype=kind).expand(25)
        assert found.dtype == kind and torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
