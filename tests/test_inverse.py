"""Coefficients found with the network, from data: Jacobian, statistics, files and what is refused."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import kanpinn as kp
from kanpinn.backbones import Kan
from kanpinn.backbones.coefficients import Coefficients, coefficients_of, with_coefficients
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.errors import UserError
from kanpinn.io.metrics import undetermined
from kanpinn.least_squares.blindness import unseen_coefficients
from kanpinn.least_squares.claims import few_points
from kanpinn.least_squares.constraint import Constraint, freedom_of
from kanpinn.least_squares.objective import Objective, plain_loss
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.least_squares.uncertainty import coefficient_statistics, noise_of
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.unknown import free_coefficients
from kanpinn.plots import figures
from kanpinn.report.runs import run_content
from kanpinn.samplers import Uniform
from kanpinn.settings.config import with_unknowns

RATE = 1.7
TIMES = np.random.default_rng(0).uniform(0, 1, 40)
NOISE = np.random.default_rng(1).standard_normal(40)


@dataclass(frozen=True)
class Decay(kp.Problem):
    """u' = −k u from 1: u = exp(−k t)."""

    k: float = kp.Unknown(1.0, lower=0)
    size: float = 0.0
    domain = kp.Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + self.k * p.u

    def conditions(self):
        data = {"t": TIMES, "u": np.exp(-RATE * TIMES) + self.size * NOISE}
        return [kp.Condition("start", "t-", lambda p: p.u - 1), kp.Data("sensors", data)]


def objective(problem: kp.Problem) -> tuple[Objective, torch.Tensor]:
    """A small network with the problem's coefficients, and random parameters."""
    kan = Kan(width=[3], degree=4, grid=3).build(Embedding({"t": (0.0, 1.0)}), 1)
    network = with_coefficients(kan, free_coefficients(problem))
    scales = Scales((2.0,), {("interior", ""): 3.0, ("sensors", "u"): 0.5})
    found = Objective(Residuals(problem, network, scales=scales), Fixed(), costs=CostTable())
    sampler = Uniform(interior=30, boundary=4)
    found.set_points(sampler.draw(problem, 0, np.random.default_rng(0), dtype=torch.float64))
    return found, network.initial(np.random.default_rng(1)) + 0.1


@pytest.mark.parametrize(
    "bounds", [{}, {"lower": 0}, {"upper": 5}, {"lower": 0, "upper": 5}], ids=["free", "lower", "upper", "both"]
)
def test_a_coefficient_is_a_column_of_the_jacobian(bounds: dict) -> None:
    found, theta = objective(Decay(k=kp.Unknown(1.5, **bounds)))
    exact = torch.autograd.functional.jacobian(lambda t: found.residual(t)[0], theta)
    assert torch.allclose(found.linearize(theta).dense().jacobian, exact, rtol=1e-11, atol=1e-12)
    _, gradient, _ = found.loss_and_gradient(theta)
    normal = found.linearize(theta).gram()
    assert torch.allclose(gradient, 2 * exact.T @ found.residual(theta)[0], rtol=1e-10, atol=1e-12)
    assert torch.allclose(normal.matrix, exact.T @ exact, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("lower", "upper"), [(None, None), (0.0, None), (None, 5.0), (0.0, 5.0)])
def test_coefficients_begin_at_their_start_and_stay_within_bounds(lower: float | None, upper: float | None) -> None:
    layer = Coefficients(("k",), (1.5,), ((lower, upper),))
    values, slopes = layer.values(torch.zeros(1, dtype=torch.float64))
    assert values.tolist() == pytest.approx([1.5])
    for far in (-30.0, 30.0):
        value = float(layer.values(torch.tensor([far], dtype=torch.float64))[0])
        assert (lower is None or value >= lower) and (upper is None or value <= upper)
    step = 1e-6
    above = layer.values(torch.full((1,), step, dtype=torch.float64))[0]
    assert float(slopes) == pytest.approx(float(above - values) / step, rel=1e-5)


GIVEN = ("schedule.levels=2", "schedule.steps=20", "sampler.interior=100", "threads=1", "output.figures=false")


def solved(problem: kp.Problem, *more: str, folder: Path | None = None) -> kp.Solution:
    return kp.solve(problem, kp.Kan(width=[3], degree=5, grid=3), *GIVEN, *more, folder=folder)


def test_exact_data_tell_the_coefficient_exactly() -> None:
    metrics = solved(Decay()).metrics
    found = metrics["coefficients"]["k"]
    assert found["value"] == pytest.approx(RATE, abs=1e-5)
    assert found["std"] < 1e-5
    assert not [flag for flag in metrics["warnings"] if "sensors" in flag["message"]]


def test_the_statistics_are_those_of_nonlinear_regression() -> None:
    """Equation and start become constraints, so only k is left: var = s² / Σ (∂u/∂k)² (Seber and Wild 1989, 2.1)."""
    from scipy.optimize import curve_fit
    from scipy.stats import t as student

    solution = solved(Decay(size=0.01), "schedule.steps=30", "sampler.interior=400")
    weights = {name: solution.data.history[f"weight_{name}"] for name in ("interior", "start", "sensors")}
    assert (weights["interior"] == weights["start"]).all() and (weights["sensors"] == 1).all()
    assert weights["interior"][0] == 1 and weights["interior"][-1] > 1
    assert solution.metrics["limited_by"].startswith("noise: ")
    found = solution.metrics["coefficients"]["k"]
    u = np.exp(-RATE * TIMES) + 0.01 * NOISE
    (value,), covariance = curve_fit(lambda t, k: np.exp(-k * t), TIMES, u, p0=[1.0])
    std = math.sqrt(covariance[0, 0])
    assert found["value"] == pytest.approx(value, abs=0.05 * std)
    assert found["std"] == pytest.approx(std, rel=0.05)
    reach = student.ppf(0.975, len(TIMES) - 1) * std
    assert found["interval_95"] == pytest.approx([value - reach, value + reach], rel=0.01)


def test_the_freedom_spent_on_data_is_that_of_ridge_regression() -> None:
    """For data that see parameters a_j and equations √m b_j the sum is Σ a_j²/(a_j² + m b_j²); zeros count as none."""
    a, b = torch.tensor([3.0, 1.0, 0.5, 0.0]).double(), torch.tensor([0.0, 2.0, 1e3, 0.0]).double()
    turn, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    data, whole = (turn @ torch.diag(one) @ turn.T for one in (a**2, a**2 + 16 * b**2))
    assert freedom_of(data, whole) == pytest.approx(1 + 1 / 65 + 0.25 / 16e6, rel=1e-9)


def test_a_penalty_grows_where_the_noise_explains_what_is_left_of_the_equations_and_goes_back_where_it_does_not() -> (
    None
):
    """Of 100 data the noise leaves them f/100 of the data's part at most, for f degrees of freedom."""
    penalty = Constraint(1e3)
    free = iter([9.0, 5.0, 5.0, 5.0, 2.0, 1.0, 0.2])

    def seen(held: float, done: float = 0.1) -> float:
        penalty.update(1.0, held, done, lambda: (next(free), 100))
        return penalty.factor

    assert [seen(held) for held in (9.0, 3.0, 1.0, 0.3, 0.1)] == [1] * 5  # still falling
    assert [seen(held) for held in (0.09, 0.08)] == [1, 4]
    assert [seen(0.3) for _ in range(14)] == [4] * 13 + [1]
    assert [seen(0.001) for _ in range(8)] == [1] * 8  # not again in this stage
    penalty.anew(from_one=False)
    assert [seen(0.01) for _ in range(3)] == [1, 1, 4]
    assert [seen(0.01, 0.9) for _ in range(8)] == [4] * 8  # so that the coefficients settle
    assert [seen(0.0025) for _ in range(8)] == [4] * 8  # the network spends no more than it may
    again = Constraint(1e3)
    again.load_state(penalty.state())
    assert again.state() == penalty.state()
    penalty.anew(from_one=True)
    assert penalty.factor == 1
    assert not any(Constraint().update(1.0, 0.1, 0.1, lambda: (9.0, 100)) for _ in range(4))


def test_a_penalty_weighs_all_terms_but_the_data() -> None:
    plain, theta = objective(Decay(size=0.01))
    held = Constraint(1e9)
    held.factor = 25.0
    heavy = Objective(plain.residuals, Fixed(), plain.collocation, constraint=held)
    (one, losses), (other, grown) = plain.residual(theta), heavy.residual(theta)
    assert grown == pytest.approx({name: (1 if name == "sensors" else 25) * value for name, value in losses.items()})
    assert torch.allclose(other[:31], 5 * one[:31]) and torch.equal(other[-len(TIMES) :], one[-len(TIMES) :])
    assert plain_loss(heavy, theta) == pytest.approx(plain_loss(plain, theta))


@dataclass(frozen=True)
class Weighed(Decay):
    def conditions(self):
        start, data = super().conditions()
        return [start, replace(data, table={**data.table, "sigma_u": np.full(40, 0.02)})]


@dataclass(frozen=True)
class Split(Weighed):
    """The same data in two conditions of other weights."""

    def conditions(self):
        start, data = super().conditions()
        parts = {"sensors": slice(0, 25), "others": slice(25, None)}
        return [start, *(kp.Data(name, {k: v[part] for k, v in data.table.items()}) for name, part in parts.items())]


@pytest.mark.parametrize(
    "problem", [Decay(size=0.01), Weighed(size=0.01), Split(size=0.01)], ids=["estimated", "given", "in two parts"]
)
def test_deviations_are_those_of_noise_in_the_data_and_of_what_the_equations_leave(problem: Decay) -> None:
    """J⁺ Σ J⁺ᵀ by numpy, Σ the noise's variance in the rows of the data and r² in the others."""
    found, theta = objective(problem)
    jacobian = torch.autograd.functional.jacobian(lambda t: found.residual(t)[0], theta).numpy()
    residual = found.residual(theta)[0].numpy()
    row, data = np.linalg.pinv(jacobian, rcond=1e-11)[-1], slice(-len(TIMES), None)
    u, s, _ = np.linalg.svd(jacobian, full_matrices=False)
    u = torch.from_numpy(u[data, s > 1e-11 * s[0]])
    sigma = residual.copy()
    if isinstance(problem, Weighed):  # rows are (u - data)/0.02/0.5, times the root of their share
        own = [t for t in found.collocation.terms if t.name in ("sensors", "others")]
        sigma[data] = torch.cat([t.scale / found.residuals.scales.of(t.name, "u") for t in own]).numpy()
    else:
        sigma[data], _ = noise_of(torch.from_numpy(residual[data]), u, known=False)
    slope = float(found.backbone.layers[-1].values(theta[-1:])[1])
    told = coefficient_statistics(found, theta)["k"]
    assert told["std"] == pytest.approx(slope * math.sqrt(((row * sigma) ** 2).sum()), rel=1e-6)
    assert told["step"] == pytest.approx(-slope * row @ residual, rel=1e-6)


def test_a_coefficient_short_of_its_minimum_knows_the_way_to_go() -> None:
    solution = solved(Decay(size=0.01), "schedule.levels=1")
    settled = solution.metrics["coefficients"]["k"]
    assert settled["settled"] is True
    assert not [flag for flag in solution.metrics["warnings"] if flag["kind"] == "coefficients"]
    found = Objective(solution.residuals, Fixed(), costs=CostTable())
    found.set_points(Uniform(interior=300, boundary=4).draw(Decay(), 0, np.random.default_rng(0), dtype=torch.float64))
    theta = solution.theta.clone()
    theta[-1] += 20 * settled["std"] / settled["value"]
    moved = coefficient_statistics(found, theta)["k"]
    assert moved["settled"] is False
    assert moved["value"] + moved["step"] == pytest.approx(settled["value"], abs=2 * settled["std"])


@pytest.mark.slow
def test_a_coefficient_that_is_not_settled_is_told_everywhere(tmp_path: Path, monkeypatch) -> None:
    told = {"value": 1.6, "std": 0.01, "interval_95": [1.58, 1.62], "determined": True, "bound": None}
    told |= {"settled": False, "step": 0.1}
    monkeypatch.setattr("kanpinn.run.results.coefficient_statistics", lambda *_: {"k": told})
    metrics = solved(Decay(), "schedule.levels=1", "schedule.steps=1", folder=tmp_path / "run").metrics
    text = (
        "k is not settled: a full step of Gauss and Newton would still change it by +0.1, its standard deviation being"
    )
    assert any(flag["message"].startswith(text) for flag in metrics["warnings"])
    assert "k = 1.6 ± 0.01 (95 %: 1.58 to 1.62; not settled, +0.1 to go)" in (tmp_path / "run" / "log.txt").read_text()
    assert any(
        what == "k" and more.endswith("not settled") for what, _, more in run_content(tmp_path / "run", 20)["tiles"]
    )


def test_coefficients_are_in_files_and_come_back(tmp_path: Path) -> None:
    solution = solved(Decay(), folder=tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["coefficients"] == solution.metrics["coefficients"]
    assert "k = 1.7" in (tmp_path / "run" / "log.txt").read_text()
    data = solution.data
    assert data.history["coefficient_k"][0] != data.history["coefficient_k"][-1]
    assert data.history["coefficient_k"][-1] == pytest.approx(metrics["coefficients"]["k"]["value"])
    loaded = kp.load(tmp_path / "run", Decay())
    points = np.linspace(0, 1, 7)[:, None]
    assert np.array_equal(loaded(points)["u"], solution(points)["u"])


HEAT = ("problem=heat", "backbone=kan", "problem.conditions=soft", *GIVEN)


def table(folder: Path, **columns: np.ndarray) -> None:
    names = list(columns)
    rows = np.stack([columns[name] for name in names], axis=1)
    lines = [",".join(f"{value:.17g}" for value in row) for row in rows]
    (folder / "data.csv").write_text("\n".join([",".join(names), *lines]) + "\n")


def test_any_coefficient_of_a_problem_is_found_from_a_file(kanpinn, folder: Path) -> None:
    x, t = np.random.default_rng(0).random((2, 50))
    table(folder, x=x, t=t, u=np.exp(-0.3 * np.pi**2 * t) * np.sin(np.pi * x))
    done = kanpinn("solve", *HEAT, "problem.alpha=0.4", "unknown={alpha: 0.1}", "data=data.csv", "hydra.run.dir=run")
    assert done.code == 0
    found = json.loads((folder / "run" / "metrics.json").read_text())["coefficients"]["alpha"]
    assert found["value"] == pytest.approx(0.3, abs=5e-3)
    assert "alpha = 0." in done.out
    assert "no reference that is the same for every alpha" in done.out  # heat's own would be that of the starting value
    (folder / "p.csv").write_text("x,t\n0.5,0.5\n")
    (folder / "data.csv").unlink()  # the network is there without it
    assert kanpinn("evaluate", "run", "--points", "p.csv").code == 0


@pytest.mark.parametrize(
    ("given", "columns", "words"),
    [
        (["unknown={beta: 1}"], {"x": [0.5], "t": [0.5], "u": [0.1]}, "unknown.beta=1.*unknown key"),
        (
            ["unknown={alpha: -1}"],
            {"x": [0.5], "t": [0.5], "u": [0.1]},
            "unknown.alpha=-1.0: expected a finite start above 0, as every alpha of the problem",
        ),
        (["unknown={alpha: fast}"], {"x": [0.5], "t": [0.5], "u": [0.1]}, "unknown.alpha=fast"),
        ([], {"x": [0.5], "u": [0.1]}, "data=data.csv: no column t; columns are x, u"),
        ([], {"x": [0.5], "t": [0.5], "w": [0.1]}, "data=data.csv: column w is no unknown"),
        ([], {"x": [0.5], "t": [0.5], "u": [0.1], "sigma_u": [0.0]}, "sigma_u: expected numbers above 0"),
        ([], {"x": [5.0], "t": [0.5], "u": [0.1]}, "data=data.csv: its point x=5, t=0.5 lies outside the domain"),
        (["data=[data.csv,data.csv]"], {"x": [0.5], "t": [0.5], "u": [0.1]}, "data: data.csv is given twice"),
        (["unknown={alpha: 0.1}", "schedule.slabs=2"], {"x": [0.5], "t": [0.5], "u": [0.1]}, "slabs=2"),
    ],
)
def test_data_that_do_not_fit_are_refused(kanpinn, folder: Path, given, columns, words: str) -> None:
    import re

    table(folder, **{name: np.array(values) for name, values in columns.items()})
    done = kanpinn("solve", *HEAT, "data=data.csv", *given)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert re.search(words, done.err), done.err


def test_a_coefficient_that_nothing_depends_on_is_refused() -> None:
    @dataclass(frozen=True)
    class Idle(Decay):
        spare: float = kp.Unknown(2.0)

    with pytest.raises(UserError, match="no equation and no condition depends on spare"):
        solved(Idle())


@pytest.mark.parametrize("bounds", [{"lower": 2}, {"upper": 0.5}, {"lower": 1}])
def test_starts_outside_their_bounds_are_refused(bounds: dict) -> None:
    with pytest.raises(UserError, match=r"Unknown\(1, (lower|upper)=[0-9.]+\): expected a finite start (above|below)"):
        kp.Unknown(1.0, **bounds)
    with pytest.raises(UserError, match="between a lower bound 3 and a higher upper one, 2"):
        kp.Unknown(1.0, lower=3, upper=2)


def test_another_start_keeps_the_bounds_that_the_problem_declares() -> None:
    for given, bounds in ((2.0, (0, None)), ({"start": 2.0, "lower": -1, "upper": 3}, (-1, 3))):
        k = free_coefficients(with_unknowns(Decay(), {"k": given}))["k"]
        assert (float(k), k.lower, k.upper) == (2.0, *bounds)
    with pytest.raises(UserError, match="expected a finite start above 0"):
        with_unknowns(Decay(), {"k": -1.0})


def test_repeated_measurements_at_a_point_keep_their_own_values() -> None:
    @dataclass(frozen=True)
    class Twice(Decay):
        def conditions(self):
            return [*super().conditions()[:1], kp.Data("twice", {"t": [0.5, 0.5, 0.2], "u": [1.0, 3.0, 2.0]})]

    (_, condition), (found, theta) = conditions_of(Twice()), objective(Twice())
    assert condition.given["u"].tolist() == [1.0, 3.0, 2.0]
    values = {term.name: value for term, _, value in found.rows(theta)}["twice"]
    assert float(values[0] - values[1]) == pytest.approx(2.0)
    parts = [value for part in found.parts(2) for term, _, value in part.rows(theta) if term.name == "twice"]
    assert torch.allclose(torch.cat(parts), values)


def test_coefficients_of_a_network_without_any_are_none() -> None:
    kan = Kan(width=[3]).build(Embedding({"t": (0.0, 1.0)}), 1)
    assert with_coefficients(kan, {}) is kan
    assert coefficients_of(kan, kan.initial(np.random.default_rng(0))) == {}


def test_the_noise_is_that_of_a_smoother() -> None:
    """For r = (I − H)ε, H no projection: E‖r‖² = σ² tr (I − H)², by 4000 draws of ε; ν as Satterthwaite has it."""
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(60, 9, dtype=torch.float64, generator=generator))
    u = q[:25]  # the rows of the data
    draws = 0.3 * torch.randn(25, 4000, dtype=torch.float64, generator=generator)
    rest = draws - u @ (u.T @ draws)
    noise = [noise_of(rest[:, k], u, known=False) for k in range(4000)]
    variance = torch.tensor([value for value, _ in noise]).square() / 0.09
    freedom = noise[0][1]
    assert float(variance.mean()) == pytest.approx(1, abs=0.01)
    assert float(variance.var()) == pytest.approx(2 / freedom, rel=0.1)
    once, twice = (
        float(torch.linalg.matrix_power(torch.eye(25, dtype=u.dtype) - u @ u.T, power).trace()) for power in (2, 4)
    )
    assert freedom == pytest.approx(once**2 / twice, rel=1e-12)
    full = torch.eye(3, dtype=u.dtype)
    assert noise_of(full[0], full, known=False) == (None, 0.0)  # nothing left to tell it from
    assert noise_of(full[0], full, known=True) == (1.0, math.inf)


@dataclass(frozen=True)
class Blind(Decay):
    """Data at the start only, where u is 1 whatever k is."""

    def conditions(self):
        data = {"t": [0.0, 0.0, 0.0], "u": [1.0, 1.001, 0.999]}
        return [super().conditions()[0], kp.Data("sensors", data)]


@dataclass(frozen=True)
class Started(Decay):
    """No data, and a start that the form of u has."""

    def conditions(self):
        return []

    def ansatz(self, p, raw):
        return 1 + p.t * raw.u


@dataclass(frozen=True)
class Two(kp.Problem):
    """Two unknowns, of which u is measured; k is in the equation of w, or in that of u too by way of w."""

    k: float = kp.Unknown(8.0)
    kind: str = "apart"
    unknowns = ("u", "w")
    domain = kp.Box(x=(0, 1))
    derivatives = ("xx",)

    def residual(self, p):
        driven = p.u_xx + (p.w if self.kind == "coupled" else 1)
        return {"a": driven, "b": p.w_xx + self.k * (p.w if self.kind == "eigenvalue" else p.u + p.x)}

    def conditions(self):
        ends = ("x-", "x+")
        x = np.linspace(0.1, 0.9, 20)
        more = {
            "eigenvalue": [kp.Condition("slope", "x-", lambda p: p.w_x - 1)],
            "flux": [kp.Data("flux", {"x": [0.0], "f": [1.0]}, lambda p, values: p.w_x - values["f"])],
            "ends": [kp.Data("edge", {"x": [0.0, 1.0], "w": [0.0, 0.0]})],
        }
        held = [kp.Condition(name, ends, lambda p, name=name: getattr(p, name)) for name in self.unknowns]
        return [*held, kp.Data("sensors", {"x": x, "u": x * (1 - x) / 2}), *more.get(self.kind, [])]


def residuals_of(problem: kp.Problem) -> Residuals:
    kan = Kan(width=[3]).build(Embedding({"x": (0.0, 1.0)}), len(problem.unknowns))
    return Residuals(problem, with_coefficients(kan, free_coefficients(problem)))


@pytest.mark.parametrize(
    ("kind", "seen"),
    [("apart", False), ("ends", False), ("coupled", True), ("flux", True), ("eigenvalue", True)],
)
def test_coefficients_that_nothing_measured_depends_on_are_known_beforehand(kind: str, seen: bool) -> None:
    problem = Two(kind=kind)
    found = unseen_coefficients(residuals_of(problem), few_points(problem, torch.float64, torch.device("cpu")))
    assert found == ([] if seen else ["k"])


@dataclass(frozen=True)
class Eigenvalue(kp.Problem):
    """u″ + k u = 0, u = 0 at both ends: with a slope given at one, k is π²; without, anything for u = 0."""

    k: float = kp.Unknown(8.0)
    slope: bool = True
    domain = kp.Box(x=(0, 1))
    derivatives = ("xx",)

    def residual(self, p):
        return p.u_xx + self.k * p.u

    def conditions(self):
        slope = [kp.Condition("slope", "x-", lambda p: p.u_x - 1)] if self.slope else []
        return [kp.Condition("ends", ("x-", "x+"), lambda p: p.u), *slope]


def test_conditions_may_tell_a_coefficient_without_data() -> None:
    network = kp.Kan(width=[], degree=7, grid=4)
    metrics = kp.solve(Eigenvalue(), network, *GIVEN, "schedule.levels=1", "schedule.steps=15").metrics
    found = metrics["coefficients"]["k"]
    assert found["value"] == pytest.approx(np.pi**2, abs=1e-5)
    assert found["determined"] and found["std"] is None and not metrics["warnings"]
    with pytest.raises(UserError, match=r"unknown=\{k: …\}: no data determine k: give some by data=FILE or Data\(…\)"):
        kp.solve(Eigenvalue(slope=False), network, *GIVEN)


def test_coefficients_that_data_do_not_see_are_refused() -> None:
    with pytest.raises(UserError, match=r"unknown=\{k: …\}: the data do not determine k: what is measured is the same"):
        solved(Blind())


def test_coefficients_that_turn_out_not_to_be_seen_end_a_run_whose_results_are_there(
    kanpinn, folder: Path, monkeypatch
) -> None:
    with pytest.raises(
        kp.UndeterminedError, match=r"unknown=\{k: …\}: the data do not determine k: .*; the results are in"
    ) as error:
        solved(Started(), folder=folder / "python")
    metrics = error.value.solution.metrics
    assert metrics == json.loads((folder / "python" / "metrics.json").read_text())
    assert metrics["coefficients"]["k"]["determined"] is False
    assert metrics["coefficients"]["k"]["interval_95"] is None
    (flag,) = [flag for flag in metrics["warnings"] if flag["kind"] == "coefficients"]
    assert flag["message"].startswith("the data do not determine k")
    given = ("problem=heat", "unknown={alpha: 0.1}", "threads=1", "output.figures=false", "output.points=9")
    short = ("schedule.levels=1", "schedule.steps=10", "hydra.sweep.dir=sweep", "-m", "seed=0")
    done = kanpinn("solve", *given, *short)
    assert done.code == 2 and done.err.count("the data do not determine alpha") == 1, done.err
    row = (folder / "sweep" / "summary.csv").read_text().splitlines()[1]
    assert "step_limit" in row and "the data do not determine alpha" in row
    again = kanpinn("resume", "sweep/0")
    assert again.code == 2 and again.err.startswith(
        "kanpinn: error: unknown={alpha: …}: the data do not determine alpha"
    )


@pytest.mark.parametrize(
    ("status", "one", "kinds", "told"),
    [
        ("step_limit", {"determined": False, "std": None}, ["estimate"], True),
        ("step_limit", {"determined": False, "std": None}, ["parameters"], False),
        ("converged", {"determined": False, "std": 3.0}, [], True),
        ("step_limit", {"determined": False, "std": 3.0}, ["loss"], False),  # what is not met may pass for noise
        ("time_limit", {"determined": False, "std": None}, [], False),
        ("step_limit", {"determined": True, "std": 3.0}, [], False),
    ],
)
def test_a_run_ends_well_unless_it_is_the_data_that_do_not_determine_a_coefficient(status, one, kinds, told) -> None:
    warned = [{"kind": kind, "message": ""} for kind in kinds]
    assert (undetermined({"status": status, "coefficients": {"k": one}, "warnings": warned}) is not None) is told
    assert undetermined({"status": "converged", "coefficients": {}, "warnings": []}) is None


def test_coefficients_that_undo_each_other_are_refused() -> None:
    @dataclass(frozen=True)
    class Twofold(Decay):
        c: float = kp.Unknown(1.0)

        def residual(self, p):
            return p.u_t + self.k * self.c * p.u

    with pytest.raises(UserError, match=r"unknown=\{k: …, c: …\}: no data determine k and c"):
        solved(Twofold())


def test_a_run_holds_its_data(kanpinn, folder: Path) -> None:
    x, t = np.random.default_rng(0).random((2, 20))
    table(folder, x=x, t=t, u=np.exp(-0.3 * np.pi**2 * t) * np.sin(np.pi * x))
    short = ("schedule.levels=1", "schedule.steps=4", "sampler.interior=40", "threads=1", "output.figures=false")
    given = ("problem=heat", "backbone=kan", "problem.conditions=soft", "unknown={alpha: 0.1}", "output.points=5")
    done = kanpinn("solve", *given, *short, "data=data.csv", "checkpoint.every_s=0", "hydra.run.dir=run")
    assert done.code == 0, done.err
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = kp.load("run")
    measured = whole.data.measured["data"]
    assert np.allclose(measured["solution_u"], whole(np.stack([x, t], axis=1))["u"], rtol=1e-12)
    assert (measured["x"].tolist(), list(measured)) == (x.tolist(), ["solution_u", "t", "u", "x"])
    assert {name for name, build in figures(whole.data, every=False).items() if build()} >= {"data_u"}
    (folder / "data.csv").unlink()
    (folder / "run" / "metrics.json").unlink()
    sorted((folder / "run" / "checkpoints").iterdir())[-1].unlink()
    assert kp.resume("run").metrics["coefficients"] == whole.metrics["coefficients"]
    assert "data: data.csv" in (folder / "run" / "config.yaml").read_text()
    table(folder, x=x, t=t, u=x)
    (folder / "run" / "metrics.json").unlink()
    told = "data=data.csv: has changed since; the data stored in the run are used"
    for go_on in (kp.load, kp.resume):
        with pytest.warns(kp.KanpinnWarning, match=told):
            go_on("run")
    assert (folder / "run" / "log.txt").read_text().count(f"warning: {told}\n") == 1


@pytest.mark.parametrize(
    ("bounds", "at"), [({"lower": 2}, 2), ({"lower": 2, "upper": 5}, 2), ({"upper": 1.5}, 1.5), ({"lower": 0}, None)]
)
def test_a_bound_that_holds_a_coefficient_is_told_and_ends_its_interval(bounds: dict, at: float | None) -> None:
    k = kp.Unknown(3.0 if at == 2 else 1.0, **bounds)
    m = kp.solve(Decay(k=k, size=0.03), kp.Kan(width=[], degree=4, grid=3), *GIVEN, "schedule.levels=1").metrics
    found, told = m["coefficients"]["k"], [flag["message"] for flag in m["warnings"]]
    low, high = found["interval_95"]
    assert found["bound"] == at and found["determined"] and found["std"] > 0.01
    assert found["settled"] is (None if at else True)
    assert bounds.get("lower", -9) <= low < found["value"] < high <= bounds.get("upper", 9)
    if at is None:
        assert low < RATE < high and not any("bound" in line for line in told)
        return
    assert at in (low, high) and abs(found["value"] - at) < 0.05
    assert any(f"k is at its bound {at:g}: the data lead beyond it" in line for line in told)


@pytest.mark.slow
def test_a_start_that_leads_to_another_minimum_is_told() -> None:
    """Oscillations of frequency 3, looked for from 0.5: the best slow one is a minimum, and hardly better than none."""

    @dataclass(frozen=True)
    class Swing(kp.Problem):
        w: float = kp.Unknown(0.5, lower=0)
        domain = kp.Box(t=(0, 6))
        derivatives = ("tt",)

        def residual(self, p):
            return p.u_tt + self.w**2 * p.u

        def conditions(self):
            start = kp.Condition("start", "t-", lambda p: {"u": p.u - 1, "v": p.u_t})
            return [start, kp.Data("sensors", {"t": 6 * TIMES, "u": np.cos(18 * TIMES) + 0.05 * NOISE})]

    few = ("schedule.levels=1", "schedule.steps=30", "sampler.interior=150", "threads=1", "output.figures=false")
    good, bad = (
        kp.solve(Swing(w=kp.Unknown(w)), kp.Kan(width=[], degree=5, grid=10), *few).metrics for w in (3.3, 0.5)
    )
    assert good["coefficients"]["w"]["value"] == pytest.approx(3, abs=0.02)
    assert not any("another start" in flag["message"] for flag in good["warnings"])
    assert bad["limited_by"].startswith("start: with this w no solution comes near sensors")
    assert bad["status"] != "converged"
    assert any(
        "sensors" in flag["message"] and "another start (unknown.w)" in flag["message"] for flag in bad["warnings"]
    )
