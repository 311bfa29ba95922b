"""Estimate of the error by the defect equation: its splines, its least squares, and the true errors of short solves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.linalg import eigh
from scipy.sparse import csr_array

import kanpinn
from kanpinn import Box, Condition, Integral, Problem, Unknown
from kanpinn.estimate import estimate as estimates
from kanpinn.estimate.band_least_squares import Rows, factored, solved
from kanpinn.estimate.estimate import estimated
from kanpinn.estimate.least_seen import least_seen
from kanpinn.estimate.polynomial_space import PolynomialSpace
from kanpinn.estimate.refinement import leftover, refined
from kanpinn.estimate.spline_space import SplineSpace
from kanpinn.geometry import Disk

RANDOM = np.random.default_rng(3)


def dense(space: SplineSpace, points: np.ndarray, orders: tuple[int, ...]) -> np.ndarray:
    """Derivatives of all products `[N, M]`."""
    cell, places = space.located(points)
    found = np.zeros((len(points), space.size))
    columns = space.local[space.numbered(cell)]
    np.add.at(found, (np.arange(len(points))[:, None], columns), space.values(cell, places, orders))
    return found


EQUAL = np.linspace(-1, 2, 5), np.linspace(0, 0.5, 8)
GRADED = np.array([-1, -0.9, -0.7, 0, 2.0]), np.array([0, 0.1, 0.3, 0.35, 0.375, 0.4, 0.45, 0.5])


@pytest.mark.parametrize("orders", [(0, 0), (1, 0), (0, 2), (2, 1)])
@pytest.mark.parametrize("breaks", [EQUAL, GRADED], ids=["equal", "graded"])
def test_products_of_splines_are_those_of_scipy(breaks, orders) -> None:
    space = SplineSpace(breaks, (False, False))
    points = np.stack([RANDOM.uniform(-1, 2, 40), RANDOM.uniform(0, 0.5, 40)], 1)
    parts = []
    for k, own in enumerate(breaks):
        ahead, beyond = np.arange(-5, 0) * (own[1] - own[0]), np.arange(1, 6) * (own[-1] - own[-2])
        splines = BSpline(np.concatenate([own[0] + ahead, own, own[-1] + beyond]), np.eye(len(own) + 4), 5)
        parts.append((splines.derivative(orders[k]) if orders[k] else splines)(points[:, k]))
    expected = (parts[0][:, :, None] * parts[1][:, None, :]).reshape(40, -1)
    own = dense(space, points, orders)
    coefficients = RANDOM.normal(size=space.size)
    ours = np.linalg.lstsq(own, expected @ coefficients, rcond=None)  # the same space, whatever the numbering
    assert np.allclose(own @ ours[0], expected @ coefficients, atol=1e-9 * np.abs(expected).max())
    assert np.allclose(np.sort(own, 1), np.sort(expected, 1), atol=1e-10 * np.abs(expected).max())


def test_periodic_splines_go_on_at_the_other_end() -> None:
    uneven = np.array([0, 0.05, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7, 0.9, 1])
    space = SplineSpace((uneven, np.linspace(0, 1, 4)), (True, False))
    left, right = np.array([[0.0, 0.3]]), np.array([[1.0, 0.3]])
    for order in range(5):
        assert np.allclose(dense(space, left, (order, 0)), dense(space, right, (order, 0)), atol=1e-6 * 20.0**order)
    assert space.size == 9 * 8
    assert np.ptp(space.local, axis=1).max() <= 11 * 8 + 8  # folded: neighbours in the circle are near


def test_polynomials_of_a_total_degree_are_represented_with_their_derivatives() -> None:
    space = PolynomialSpace(tuple(np.array([-1.0, 2 + k]) for k in range(4)), 4)
    assert space.size == math.comb(8, 4)
    points = space.nodes(3)[0][0]
    cell, places = space.located(points)
    x, y, z, _ = points.T
    fit, *_ = np.linalg.lstsq(space.values(cell, places, (0, 0, 0, 0)), x**2 * y * z, rcond=None)
    assert np.allclose(space.values(cell, places, (1, 0, 1, 0)) @ fit, 2 * x * y, atol=1e-9)
    assert np.allclose(space.values(cell, places, (0, 0, 0, 1)) @ fit, 0, atol=1e-9)


def test_intervals_are_halved_where_and_along_which_the_defect_is_rough() -> None:
    space = SplineSpace((np.linspace(0, 1, 9), np.linspace(0, 1, 5)), (False, False))
    nodes, _ = space.nodes(3)
    x = nodes[..., 0]
    over = np.sin(400 * x) * np.exp(-60 * x)  # a layer at x = 0
    breaks = refined(space, leftover(space, [over], [], 3), 0.02)
    assert np.allclose(breaks[1], space.breaks[1])
    assert 1 / 16 in breaks[0] and 15 / 16 not in breaks[0]
    assert np.diff(breaks[0]).max() <= 4 * np.diff(breaks[0]).min()


def test_nodes_integrate_polynomials() -> None:
    points, weights = SplineSpace((np.array([0, 0.3, 2]), np.linspace(-1, 1, 4)), (False, False)).nodes(3)
    x, y = points[..., 0], points[..., 1]
    assert math.isclose(4 * float((weights * x**5 * y**4).sum()), 64 / 6 * 0.4)


@pytest.mark.parametrize("many", [0, 2])
def test_least_squares_are_those_of_numpy(many) -> None:
    inner, groups, width = 30, 40, 6
    columns = RANDOM.integers(0, inner - width, groups)[:, None] + np.arange(width)
    columns[:4] = np.arange(0, inner - 5, 8)[:, None] + np.arange(width)
    rows = Rows(
        columns,
        RANDOM.normal(size=(groups, 3, width)),
        RANDOM.normal(size=(groups, 3)),
        RANDOM.normal(size=(groups, 3, many)),
    )
    matrix = np.zeros((groups, 3, inner + many))
    for k, group in enumerate(columns):
        matrix[k][:, group] = rows.values[k]
    matrix[:, :, inner:] = rows.border
    expected, *_ = np.linalg.lstsq(matrix.reshape(-1, inner + many), rows.right.ravel(), rcond=None)
    fit = solved([rows], inner + many)
    assert fit is not None and np.allclose(fit.coefficients, expected, atol=1e-9)
    left = np.linalg.norm(matrix.reshape(-1, inner + many) @ expected - rows.right.ravel())
    assert math.isclose(fit.left, left / np.linalg.norm(rows.right), rel_tol=1e-9)


QUICK = ["threads=1", "output.figures=false", "output.progress=false", "backbone.width=[3]", "backbone.grid=3"]


@dataclass(frozen=True)
class Wave(Problem):
    """u_tt = u_xx on a string held at both ends."""

    domain = Box(x=(0, 1), t=(0, 1))
    derivatives = ("xx", "tt")

    def residual(self, p):
        return p.u_tt - p.u_xx

    def conditions(self):
        return [
            Condition("start", "t-", lambda p: p.u - torch.sin(math.pi * p.x)),
            Condition("rest", "t-", lambda p: p.u_t),
            Condition("ends", ("x-", "x+"), lambda p: p.u),
        ]

    def reference(self, p):
        return torch.sin(math.pi * p.x) * torch.cos(math.pi * p.t)


@dataclass(frozen=True)
class Plate(Problem):
    """Nonlinear, on a disk: Δu = u² + f."""

    domain = Disk(center=(0.5, 0.0), radius=1.0)
    derivatives = ("xx", "yy")

    def residual(self, p):
        u = torch.sin(p.x) * torch.exp(p.y)
        return p.u_xx + p.u_yy - p.u**2 + u**2

    def conditions(self):
        return [Condition("rim", "boundary", lambda p: p.u - torch.sin(p.x) * torch.exp(p.y))]

    def reference(self, p):
        return torch.sin(p.x) * torch.exp(p.y)


@dataclass(frozen=True)
class Spring(Problem):
    """A system in time: x' = v, v' = −k x."""

    k: float = 20.0
    domain = Box(t=(0, 3))
    unknowns = ("x", "v")
    derivatives = ("t",)

    def residual(self, p):
        return {"place": p.x_t - p.v, "force": p.v_t + self.k * p.x}

    def conditions(self):
        return [Condition("start", "t-", lambda p: {"x": p.x - 1, "v": p.v})]

    def reference(self, p):
        w = math.sqrt(self.k)
        return {"x": torch.cos(w * p.t), "v": -w * torch.sin(w * p.t)}


@cache
def short(name: str) -> kanpinn.Solution:
    problem, *words = {
        "wave": (Wave(), "schedule.levels=1", "schedule.steps=15"),
        "wave in slabs": (Wave(), "schedule.levels=1", "schedule.steps=8", "schedule.slabs=2"),
        "wave, exact start": (Wave(), "schedule.levels=1", "schedule.steps=10", "problem.conditions=exact"),
        "disk": (Plate(), "schedule.levels=1", "schedule.steps=10"),
        "spring": (Spring(), "schedule.levels=1", "schedule.steps=30", "backbone.grid=20", "sampler.interior=400"),
        "spring in slabs": (
            Spring(), "schedule.levels=1", "schedule.steps=10", "schedule.slabs=2", "backbone.grid=5",
            "sampler.interior=200",
        ),
    }[name]  # fmt: skip
    return kanpinn.solve(problem, *QUICK, *words)


@pytest.mark.parametrize("name", ["wave", "wave in slabs", "wave, exact start", "disk", "spring", "spring in slabs"])
def test_the_estimate_is_the_error_of_short_solves(name) -> None:
    m = short(name).metrics
    assert m["error_estimate_by"] == "defect"
    for unknown, error in m["relative_l2"].items():
        assert 1e-8 < error < 0.3
        assert m["error_estimate"][unknown] == pytest.approx(error, rel=0.3)


@pytest.mark.slow
def test_conditions_that_outputs_meet_to_rounding_are_no_equations_of_the_error() -> None:
    quick = ["threads=1", "output.figures=false", "output.progress=false", "output.points=21"]
    m = kanpinn.solve(["problem=poisson_holes", *quick, "schedule.levels=1", "schedule.steps=25"]).metrics
    assert m["error_estimate_by"] == "defect" and m["relative_l2"]["u"] < 0.1
    assert m["error_estimate"]["u"] < 0.1  # 1.7 by rows of rounding


def test_the_map_of_the_estimate_is_that_of_the_error() -> None:
    fields = short("disk").data.fields
    known, found = fields["u_error"], fields["u_error_estimate"]
    assert np.array_equal(np.isnan(known), np.isnan(found))
    assert np.nanmax(np.abs(known - found)) < 0.2 * np.nanmax(np.abs(known))


@pytest.mark.parametrize(
    ("lefts", "errors", "trusted"),
    [
        ([0.05, 0.04], [1.0, 1.1], True),
        ([0.4, 0.05, 0.02], [1.0, 10.0, 11.0], True),  # an error that grows was seen by the second space only
        ([0.4, 0.05, 0.02], [1.0, 10.0, 16.0], False),
        ([0.4, 0.21], [1.0, 1.1], False),
    ],
)
def test_two_spaces_have_to_agree(lefts, errors, trusted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections whose sizes and shares left over are put in place of the true ones, and no others."""
    solution, real = short("disk"), estimates.corrections
    ways = iter(zip(lefts, errors, strict=True))

    def corrections(*arguments, **options):
        found = real(*arguments, **options)
        left, error = next(ways, (None, None))
        return None if left is None else [replace(found[0], left=left, norms={"u": (error, 100.0)})]

    monkeypatch.setattr(estimates, "corrections", corrections)
    monkeypatch.setattr(estimates, "_moved", lambda *_: {"u": 0.5})
    found = estimated([(solution.residuals, solution.theta)], holds=False)
    assert found is not None and (found.errors, found.left, found.trusted) == (
        {"u": errors[-1] / 100},
        lefts[-1],
        trusted,
    )
    assert not list(ways)


@pytest.mark.parametrize(
    ("errors", "nodes"),
    [([1.0, 1.1, 1.2], [3, 3, 5]), ([1.0, 1.1, 0.1, 0.1, 0.12], [3, 3, 5, 5, 9])],
)
def test_an_estimate_that_is_to_hold_is_the_same_at_more_points(errors, nodes, monkeypatch) -> None:
    """A residual between a network's own points may look like another one where only a few points see it."""
    solution, real, ways, seen = short("disk"), estimates.corrections, iter(errors), []

    def corrections(*arguments, **options):
        found, error = real(*arguments, **options), next(ways, None)
        seen.append(options["nodes"])
        left = 0.05 if len(seen) > 1 else 0.4
        return None if error is None else [replace(found[0], left=left, norms={"u": (error, 100.0)})]

    monkeypatch.setattr(estimates, "corrections", corrections)
    monkeypatch.setattr(estimates, "_moved", lambda *_: {"u": 0.5})
    monkeypatch.setattr(estimates, "_free", lambda *_: ())
    found = estimated([(solution.residuals, solution.theta)])
    assert found is not None and seen[: len(nodes)] == nodes
    assert found.errors["u"] == pytest.approx(errors[-1] / 100)


def test_an_estimate_is_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORK": (1e4, 2e10), "RESOLVED": 0.02, "DOUBTFUL": 0.02}.items():
        monkeypatch.setattr(estimates, name, value)
    solution = short("disk")
    trained = [(solution.residuals, solution.theta)]
    rough = estimated(trained, None, 0.0)
    assert rough is not None
    exact = estimated(trained, None, 1e12, rough)
    assert exact is not None and exact.size > rough.size
    assert all(one is other for one, other in zip(rough.rounds, exact.rounds, strict=False))
    again = estimated(trained, None, 1e12, exact)
    assert again is not None and again.rounds == exact.rounds and again.errors == exact.errors


@pytest.mark.parametrize(
    ("lefts", "moved", "trusted", "ceiling"),
    [
        ([0.5, 0.25], 0.3, True, 3 * math.hypot(1, 0.3 * 0.25 / math.sqrt(0.5**2 - 0.25**2))),
        (
            [0.5, 0.25],
            0.4,
            False,
            3 * math.hypot(1, 0.4 * 0.25 / math.sqrt(0.5**2 - 0.25**2)),
        ),  # a front coming into sight
        (
            [0.26, 0.25],
            0.3,
            False,
            3 * math.hypot(1, 0.3 * 0.25 / math.sqrt(0.26**2 - 0.25**2)),
        ),  # hardly less is left over
        ([0.8, 0.5], 0.1, False, 3 * math.hypot(1, 0.1 * 0.5 / math.sqrt(0.8**2 - 0.5**2))),
        ([0.5, 0.6], 0.1, False, math.inf),
    ],
)
def test_what_is_left_over_moves_the_correction_no_more_than_before(
    lefts, moved, trusted, ceiling, monkeypatch: pytest.MonkeyPatch
) -> None:
    solution, real, ways = short("disk"), estimates.corrections, iter(lefts)

    def corrections(*arguments, **options):
        found, left = real(*arguments, **options), next(ways, None)
        return None if left is None else [replace(found[0], left=left, norms={"u": (1.0, 100.0)})]

    monkeypatch.setattr(estimates, "corrections", corrections)
    monkeypatch.setattr(estimates, "_moved", lambda *_: {"u": moved})
    found = estimated([(solution.residuals, solution.theta)], holds=False)
    assert found is not None and found.trusted is trusted
    assert found.ceiling == pytest.approx(ceiling / 100)


def test_a_correction_has_moved_by_its_difference_from_another() -> None:
    solution = short("disk")
    domain = solution.problem.domain
    first, second = (
        estimates.corrections([(solution.residuals, solution.theta)], [SplineSpace(breaks, (False, False))])
        for breaks in (tuple(np.linspace(domain.lower, domain.upper, n).T) for n in (5, 9))
    )
    points = np.random.default_rng(3).uniform(domain.lower, domain.upper, (20_000, 2))
    points = points[domain.contains(points)]
    one, other = second[0].values(points)["u"], first[0].values(points)["u"]
    wanted = np.linalg.norm(one - other) / np.linalg.norm(one)
    assert estimates._moved(second, first)["u"] == pytest.approx(wanted, rel=0.1)


def test_free_coefficients_are_unknowns_of_the_defect_equation() -> None:
    @dataclass(frozen=True)
    class Found(Spring):
        k: float = Unknown(15.0)

        def conditions(self):
            times = np.linspace(0, 3, 30)
            w = math.sqrt(20)
            seen = kanpinn.Data("seen", {"t": times, "x": np.cos(w * times), "v": -w * np.sin(w * times)})
            return [*super().conditions(), seen]

    solution = kanpinn.solve(
        Found(), *QUICK, "schedule.levels=1", "schedule.steps=15", "backbone.grid=20", "sampler.interior=400"
    )
    found = estimated([(solution.residuals, solution.theta)])
    assert found is not None
    missed = 20 - solution.metrics["coefficients"]["k"]["value"]
    assert found.parts[0].free["k"] == pytest.approx(missed, rel=0.3, abs=1e-9)


@dataclass(frozen=True)
class Memory(Problem):
    """u' + u = ∫ exp(s − t) u(s) ds from 0 to t, its mean known besides."""

    domain = Box(t=(0, 3))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + p.u - p.integral(lambda q: torch.exp(q.t - p.t) * q.u, over="t", upper=p.t)

    def conditions(self):
        whole = 1.5 + (1 - math.exp(-6)) / 4
        return [Condition("start", "t-", lambda p: p.u - 1), Integral("whole", lambda p: p.u, whole)]

    def reference(self, p):
        return torch.exp(-p.t) * torch.cosh(p.t)


@dataclass(frozen=True)
class Kinked(Problem):
    """u'' = 0 on both sides of x = 0, conductivities 1 and 5, each side with an output of its own."""

    domain = Box(x=(-1, 1))
    outputs = ("left", "right")
    derivatives = ("xx",)

    def ansatz(self, p, raw):
        return torch.where(p.x < 0, raw.left, raw.right)

    def residual(self, p):
        return p.u_xx + torch.sin(p.x)

    def conditions(self):
        return [
            Condition("value", "x=0", lambda p, q: p.u - q.u),
            Condition("flux", "x=0", lambda p, q: p.u_x - 5 * q.u_x),
            Condition("ends", ("x-", "x+"), lambda p: p.u - self.reference(p)),
        ]

    def reference(self, p):
        return torch.sin(p.x) + torch.where(p.x < 0, 5.0, 0.2) * p.x


@pytest.mark.parametrize("problem", [Memory(), Kinked()], ids=["integrals", "interface"])
def test_the_estimate_knows_integrals_and_outputs_behind_an_ansatz(problem) -> None:
    m = kanpinn.solve(problem, *QUICK, "schedule.levels=1", "schedule.steps=12", "sampler.interior=200").metrics
    assert m["error_estimate_by"] == "defect"
    assert m["relative_l2"]["u"] > 1e-9
    assert m["error_estimate"]["u"] == pytest.approx(m["relative_l2"]["u"], rel=0.3)


def line(residual, derivatives=("xx",), unknowns=("u",), ends=None) -> Problem:
    """Equations on (0, 1) whose unknowns vanish at both ends."""
    on = ends or (lambda p: {name: getattr(p, name) for name in unknowns})
    members = {
        "domain": Box(x=(0, 1)),
        "derivatives": derivatives,
        "unknowns": unknowns,
        "residual": lambda _, p: residual(p),
        "conditions": lambda _: [Condition("ends", ("x-", "x+"), on)],
    }
    return type("Line", (Problem,), members)()


PI = math.pi
LINES = {
    "no bound": (line(lambda p: torch.relu(p.u_xx + 1)), ["u"]),
    "no equation on one half": (line(lambda p: torch.where(p.x < 0.5, p.u_xx + 1, 0 * p.u)), ["u"]),
    "one equation twice": (
        line(
            lambda p: {"a": p.u_xx + p.v_xx + 1, "b": 2 * (p.u_xx + p.v_xx + 1)}, unknowns=("u", "v")
        ),
        ["u", "v"],
    ),
    "resonance": (line(lambda p: p.u_xx + 4 * PI**2 * p.u - torch.sin(PI * p.x)), ["u"]),
    "near resonance": (line(lambda p: p.u_xx + 4.04 * PI**2 * p.u - torch.sin(PI * p.x)), []),
    "buckling": (line(lambda p: p.u_xxxx + PI**2 * p.u_xx, ("xxxx",), ends=lambda p: {"u": p.u, "m": p.u_xx}), ["u"]),
    "near buckling": (
        line(lambda p: p.u_xxxx + 9.8 * p.u_xx - 1, ("xxxx",), ends=lambda p: {"u": p.u, "m": p.u_xx}),
        [],
    ),
    "clamped plate": (
        line(lambda p: p.u_xxxx - 100, ("x", "xxxx"), ends=lambda p: {"u": p.u, "slope": p.u_x}),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_function_that_nothing_determines_is_told(name, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "ROUNDS", 2)
    problem, free = LINES[name]
    m = kanpinn.solve(problem, *QUICK, "schedule.levels=1", "schedule.steps=12", "sampler.interior=60").metrics
    flags = [one for one in m["warnings"] if one["kind"] == "conditions"]
    assert [one["unknowns"] for one in flags] == ([free] if free else [])
    assert not free or (m["status"] != "converged" and not m["error_estimate_trusted"])


@pytest.mark.parametrize(("square", "free"), [(2 * PI**2, True), (19.5, False)])
def test_resonances_in_two_coordinates_are_told(square: float, free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "ROUNDS", 2)
    sides = Condition("sides", "boundary", lambda p: p.u)
    members = {
        "domain": Box(x=(0, 1), y=(0, 1)),
        "derivatives": ("xx", "yy"),
        "residual": lambda _, p: p.u_xx + p.u_yy + square * p.u,
        "conditions": lambda _: [sides],
    }
    problem = type("Membrane", (Problem,), members)()
    m = kanpinn.solve(problem, *QUICK, "schedule.levels=1", "schedule.steps=12", "sampler.interior=60").metrics
    assert ("conditions" in [one["kind"] for one in m["warnings"]]) is free


def test_growth_from_a_start_that_is_built_in_is_no_free_function_either() -> None:
    """u' = 15 u + 1 from 1: polynomials have e^{15t}, which the equation hardly sees, and which vanishes nowhere."""
    members = {
        "domain": Box(t=(0, 1)),
        "derivatives": ("t",),
        "residual": lambda _, p: p.u_t - 15 * p.u - 1,
        "conditions": lambda _: [Condition("start", "t-", lambda p: p.u - 1)],
    }
    few = ["schedule.levels=1", "schedule.steps=12", "sampler.interior=60", "problem.conditions=exact"]
    m = kanpinn.solve(type("Growth", (Problem,), members)(), *QUICK, *few).metrics
    assert "conditions" not in [one["kind"] for one in m["warnings"]]


def test_growth_from_a_start_is_no_free_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "ROUNDS", 1)

    @dataclass(frozen=True)
    class Grows(Problem):
        domain = Box(t=(0, 1))
        derivatives = ("t",)

        def residual(self, p):
            return p.u_t - 30 * p.u + 30

        def conditions(self):
            return [Condition("start", "t-", lambda p: p.u - 1)]

    solution = kanpinn.solve(Grows(), *QUICK, "schedule.levels=1", "schedule.steps=2", "sampler.interior=60")
    found = estimated([(solution.residuals, solution.theta)])
    assert found is not None and not found.free and found.parts[0].unseen.rate > 1e-3


@pytest.mark.parametrize("rank", [5, 8])
def test_the_function_seen_least_is_the_smallest_singular_vector(rank) -> None:
    generator = np.random.default_rng(1)
    matrix, seen = generator.normal(size=(30, rank)) @ generator.normal(size=(rank, 8)), generator.normal(size=(12, 8))
    rows = Rows(np.arange(8)[None], matrix[None], np.zeros((1, 30)), np.zeros((1, 30, 0)))
    inverse = factored([rows], 8)
    assert inverse is not None
    found = least_seen([rows], csr_array(seen), inverse)
    assert found is not None
    expected = math.sqrt(max(eigh(matrix.T @ matrix, seen.T @ seen, eigvals_only=True)[0], 0))
    assert found[1] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert np.linalg.norm(seen @ found[0]) == pytest.approx(1)
    assert np.linalg.norm(matrix @ found[0]) == pytest.approx(found[1], abs=1e-12)
