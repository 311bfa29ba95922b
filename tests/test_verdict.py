"""Verdict on a solve: statuses that are true, and flags where a result is doubtful."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import h5py
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from support.run_folders import run_folder

import kanpinn
from kanpinn import Box, Condition, Data, Integral, Problem
from kanpinn.backbones import Kan
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.cli.compare import text
from kanpinn.compare.comparison import named, read_run, table
from kanpinn.errors import DivergedError
from kanpinn.estimate.estimate import ErrorEstimate
from kanpinn.evaluate.residual_check import ResidualCheck, check_residuals
from kanpinn.io.inspect import inspect, render
from kanpinn.least_squares.diagnosis import is_minimum
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.loggers.base import NoLogger
from kanpinn.multilevel.stages import StopRule
from kanpinn.references.allen_cahn import allen_cahn
from kanpinn.report.page import render as page
from kanpinn.report.runs import run_content
from kanpinn.report.sweeps import sweep_content
from kanpinn.run.estimate_trust import chosen
from kanpinn.run.run import run
from kanpinn.run.verdict import CHANGED
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.sweep.ledger import Job
from kanpinn.sweep.summary import markdown
from kanpinn.sweep.summary import table as jobs_table


@dataclass(frozen=True)
class Decay(Problem):
    """u_t + u = 0 with u(0) = amplitude and, a contradiction unless 0, u(0) = amplitude + rift."""

    amplitude: float = 1.0
    rift: float = 0.0

    domain = Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + p.u

    def conditions(self):
        start = self.amplitude
        return [Condition("initial", "t-", lambda p: {"a": p.u - start, "b": p.u - start - self.rift})]


@dataclass(frozen=True)
class Open(Decay):
    """u_t + u = 0 alone."""

    def conditions(self):
        return []


@dataclass(frozen=True)
class Known(Decay):
    def reference(self, p):
        return self.amplitude * torch.exp(-p.t)


@dataclass(frozen=True)
class Sharp(Decay):
    """A source that no spline follows."""

    def residual(self, p):
        return p.u_t + p.u - 1e3 * torch.sin(1e7 * p.t**2)


@dataclass(frozen=True)
class Total(Decay):
    """The start given by an integral."""

    def conditions(self):
        return [Integral("mean", lambda p: p.u, float(1 - np.exp(-1)))]


QUICK = [
    *("backbone.width=[]", "backbone.grid=2", "backbone.degree=5", "schedule.levels=1", "schedule.steps=12"),
    *("sampler=sobol", "sampler.interior=100", "sampler.boundary=1", "output.points=30", "threads=1"),
    *("output.figures=false", "output.progress=false"),
]
NARROW = ["sampler=grid", "sampler.interior=6", "backbone.grid=40", "schedule.steps=20"]
"""Six points that stay, and a network of some forty parameters."""


def solve(problem: Problem, *overrides: str, folder: Path | None = None) -> kanpinn.Solution:
    return kanpinn.solve(problem, *QUICK, *overrides, folder=folder)


def kinds(solution: kanpinn.Solution) -> list[str]:
    return [flag["kind"] for flag in solution.metrics["warnings"]]


STALL = "stalled: "
ENDS = {
    "a tolerance that is met": (Known(), ["schedule.tolerance=1e-3"], "converged", None),
    "a solution as good as rounding allows": (Known(), ["schedule.steps=60"], "converged", None),
    "steps used up while the loss falls": (
        Known(), ["optimizer=adam", "schedule.steps=8"], "step_limit", "steps: ",
    ),
    "steps used up when it no longer falls": (
        Known(rift=1.0),
        ["optimizer=gradient_descent", "optimizer.lr=1e-12", "schedule.steps=24"],
        "step_limit",
        "capacity: ",
    ),
    "a plateau": (
        Known(), ["schedule.plateau=0.9999999", "schedule.patience=2", "optimizer=adam", "sampler.resample_every=0"],
        "step_limit", STALL,
    ),
    "no step that lowers a loss with a bottom": (
        Known(rift=1.0), ["sampler.resample_every=0", "schedule.steps=100"], "step_limit", STALL,
    ),
    "the same with new points": (Known(rift=1.0), ["schedule.steps=30"], "step_limit", (STALL, "capacity: ")),
    "a time limit": (
        Known(), ["time_limit_s=0.2", "optimizer=adam", "schedule.steps=100000"], "time_limit", "time: ",
    ),
    "a loss that only tiny weights make small": (
        Known(), ["weighting.terms.initial=1e-18", "sampler.resample_every=0", "schedule.steps=40"],
        "step_limit", "weights: ",
    ),
    "no condition at all": (Open(), ["schedule.tolerance=1e-3"], "step_limit", "problem: "),
    "the same before the loss has fallen": (Open(), ["optimizer=adam", "schedule.steps=8"], "step_limit", "problem: "),
    "a tolerance met at its points only": (Known(), [*NARROW, "schedule.tolerance=1e-4"], "step_limit", "points: "),
}  # fmt: skip


@pytest.mark.parametrize(("problem", "overrides", "status", "limit"), ENDS.values(), ids=ENDS)
def test_the_status_says_how_a_solve_has_ended(problem, overrides, status, limit) -> None:
    m = solve(problem, *overrides).metrics
    assert m["status"] == status
    assert m["limited_by"] is None if limit is None else m["limited_by"].startswith(limit)
    assert limit != "problem: " or not any("more schedule.steps" in flag["message"] for flag in m["warnings"])


def test_a_diverged_solve_says_what_limits_it() -> None:
    with pytest.raises(DivergedError) as caught:
        solve(Known(), "optimizer=gradient_descent", "optimizer.lr=1e60")
    assert caught.value.solution.metrics["status"] == "diverged"
    assert caught.value.solution.metrics["limited_by"].startswith("diverged: ")


def test_one_stalled_time_slab_keeps_the_whole_from_having_converged() -> None:
    # On the first slab the start contradicts itself; the second goes on from where that has led.
    m = solve(Known(rift=1.0), "schedule.slabs=2", "schedule.tolerance=1e-6", "schedule.steps=100").metrics
    assert m["status"] == "step_limit" and m["limited_by"].startswith(STALL)


def test_a_tolerance_must_hold_at_fresh_points_too() -> None:
    # Few points, many parameters: the loss at the points is far below the tolerance after every step.
    few = ["sampler.interior=6", "backbone.grid=40", "schedule.tolerance=1e-6", "schedule.steps=30"]
    levels = solve(Known(), *few, "sampler.resample_every=5").metrics["levels"]
    assert levels[0]["steps"] == 30


def test_a_plateau_lasts_several_draws_of_points() -> None:
    rule = StopRule(plateau=0.1, patience=2)
    assert rule.plateaued([1.0] * 3)
    assert not rule.plateaued([1.0] * 20, resample_every=5)
    assert rule.plateaued([1.0] * 21, resample_every=5)


def objective(problem: Problem, count: int = 50) -> Objective:
    embedding = EmbeddingOptions("none").build(problem.domain, (), np.random.default_rng(0))
    network = Kan(width=[], degree=5, grid=2).build(embedding, 1)
    found = Objective(Residuals(problem, network), Fixed())
    found.set_points(SAMPLERS["sobol"](interior=count, boundary=1).draw(problem, 0, np.random.default_rng(0)))
    return found


def least(found: Objective) -> torch.Tensor:
    """The minimum of a linear least-squares problem, by numpy."""
    zero = torch.zeros(found.size, dtype=torch.float64)
    dense = found.linearize(zero).dense()
    step = np.linalg.lstsq(dense.jacobian.numpy(), -dense.residual.detach().numpy(), rcond=None)[0]
    return zero + torch.from_numpy(step)


def test_a_minimum_is_told_by_its_rounding_in_any_units() -> None:
    for amplitude in (1.0, 1e6, 1e-12):
        found = objective(Decay(amplitude))
        theta = least(found)
        assert is_minimum(found, theta)
        assert not is_minimum(found, theta * (1 + 1e-10))
        assert not is_minimum(found, torch.zeros_like(theta))
    torn = objective(Decay(rift=1.0))
    assert not is_minimum(torn, least(torn))  # the gradient is zero, but nothing is solved


def test_the_size_of_the_terms_is_that_of_the_derivatives_they_are_made_of() -> None:
    # u = exp(-t): u_t and u of size rms exp(-t), so that the terms of u_t + u are √2 of it.
    found = objective(Decay())
    checks = {check.term: check for check in check_residuals(found, least(found), np.random.default_rng(1))}
    rms = np.sqrt((1 - np.exp(-2)) / 2)
    assert checks["interior"].scale == pytest.approx(np.sqrt(2) * rms, rel=0.03)
    assert checks["initial"].scale == pytest.approx(1.0)  # zero outputs miss u = 1 by 1
    assert checks["interior"].share < 1e-3 and checks["interior"].gap < 5


def test_terms_that_vanish_in_the_solution_are_not_measured_by_what_is_left_of_them() -> None:
    @dataclass(frozen=True)
    class Line(Decay):
        derivatives = ("tt",)

        def residual(self, p):
            return p.u_tt

        def conditions(self):
            ends = {"t-": 0.0, "t+": 1.0}
            return [Condition(f"at{k}", on, lambda p, u=u: p.u - u) for k, (on, u) in enumerate(ends.items())]

    found = objective(Line())  # u = t, so that u_tt is rounding and nothing else
    assert all(check.share < 1e-3 for check in check_residuals(found, least(found), np.random.default_rng(1)))


def test_a_healthy_solve_has_no_flags() -> None:
    m = solve(Known(), "schedule.levels=2", "schedule.steps=30").metrics
    assert m["warnings"] == [] and m["error_estimate_trusted"] is True
    assert m["relative_l2"]["u"] < 1e-6


def test_noise_of_data_is_no_flag() -> None:
    @dataclass(frozen=True)
    class Observed(Known):
        def conditions(self):
            times = np.linspace(0, 1, 20)
            noisy = np.exp(-times) * (1 + 0.1 * np.random.default_rng(0).standard_normal(20))
            return [Data("sensors", {"t": times, "u": noisy})]

    assert kinds(solve(Observed(), "schedule.steps=30", "weighting.terms.interior=1e3")) == []


FLAGS = {
    "points": (Known(), NARROW),
    "loss": (Known(), ["optimizer=adam", "schedule.steps=1"]),
    "term": (Known(), ["weighting.terms.initial=1e-12"]),
    "stalled": (Known(rift=1.0), ["sampler.resample_every=0", "schedule.steps=50"]),
    "error": (Decay(), ["schedule.levels=2", "optimizer=adam", "schedule.steps=3"]),
    "estimate": (Sharp(), ["schedule.levels=2", "optimizer=adam", "schedule.steps=3"]),
    "reference": (Total(), []),
}


@pytest.mark.parametrize(("kind", "problem", "overrides"), [(k, *v) for k, v in FLAGS.items()], ids=FLAGS)
def test_every_flag_is_raised_where_it_should_be(kind, problem, overrides, capsys, monkeypatch) -> None:
    if kind == "reference":  # as if the integral's rows were too many for an estimate
        monkeypatch.setattr("kanpinn.estimate.defect.DENSE", 0)
    solution = solve(problem, *overrides)
    assert kind in kinds(solution)
    flag = next(flag for flag in solution.metrics["warnings"] if flag["kind"] == kind)
    if kind == "term":
        assert flag["term"] == "initial" and "weighting.terms.initial=1e-10" in flag["message"]
    if kind == "loss":
        assert "less weight of 'initial' beside the equations (weighting.terms.initial=0.1)" in flag["message"]
    told = capsys.readouterr().err
    assert [f"kanpinn: warning: {flag['message']}" for flag in solution.metrics["warnings"]] == told.splitlines()
    for name, error in (solution.metrics["relative_l2"] or {}).items():
        estimate = solution.metrics["error_estimate"][name]
        assert error < 2 * estimate < 4 * error or solution.metrics["error_estimate_trusted"] is False
    assert kind in repr(solution) and kind in solution._repr_html_()
    assert ("(?)" in repr(solution)) == (kind == "estimate")


class Switched(Decay):
    """Decay whose equation, or condition, reads what somebody changes meanwhile."""

    known: ClassVar = {"rate": 1.0, "start": 1.0}

    def residual(self, p):
        return p.u_t + self.known["rate"] * p.u

    def conditions(self):
        return [Condition("initial", "t-", lambda p: p.u - self.known["start"])]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rate": 1.5}, "residual at t="),
        ({"start": 1.01}, "condition initial at t=0 is"),
        ({"rate": 1.000001}, ""),
    ],
)
def test_equations_that_have_changed_during_the_run_are_told(change, told, monkeypatch) -> None:
    monkeypatch.setattr(Switched, "known", dict(Switched.known))

    class Somebody(NoLogger):
        def level(self, number, record):
            self.heard = number, record
            Switched.known.update(change)

    configuration = configuration_of_objects(Switched(), [*QUICK, "schedule.tolerance=1e-3"])
    m = run(configuration, None, [Somebody()], spoken=False).metrics
    if not told:
        assert (m["status"], m["warnings"]) == ("converged", [])
        return
    assert (m["status"], m["limited_by"]) == ("step_limit", CHANGED)
    flag = m["warnings"][0]
    assert flag["kind"] == "problem" and told in flag["message"]
    assert m["error_estimate_trusted"] is not True


@pytest.mark.parametrize(("fresh", "told"), [(0.2, True), (0.01, False)])
def test_a_residual_that_is_large_between_its_points_is_told(fresh: float, told: bool, monkeypatch) -> None:
    checks = [ResidualCheck("interior", "", 100, 0.01, fresh, 1.0, 1e-4)]
    monkeypatch.setattr("kanpinn.run.verdict.check_residuals", lambda *_: checks)
    flags = solve(Known(), "schedule.steps=1").metrics["warnings"]
    assert [flag["kind"] for flag in flags if flag["kind"] in ("loss", "points")] == ["loss"] * told
    if told:
        assert "20 % of the terms it is made of between its points (1 % at these)" in flags[0]["message"]
        assert "try more points than 100 (sampler.interior)" in flags[0]["message"]


IDLE = "schedule.optimizers=[levenberg_marquardt,{name:gradient_descent,lr:1e-12}]"
TWO = ["schedule.levels=2", "schedule.steps=[30,1]", "backbone.degree=3", IDLE]


def test_a_level_that_gains_nothing_does_not_spoil_the_estimate() -> None:
    m = solve(Known(), *TWO).metrics
    assert m["levels"][-1]["change"]["u"] < 1e-3 * m["relative_l2"]["u"] < 1e-5
    assert m["error_estimate"]["u"] == pytest.approx(m["relative_l2"]["u"], rel=0.1)
    assert (m["error_estimate_trusted"], m["error_estimate_by"]) == (True, "defect")


def test_a_level_that_gains_nothing_gives_no_estimate_by_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanpinn.run.results.estimated", lambda *_, **__: None)
    m = solve(Known(), *TWO).metrics
    assert (m["error_estimate_trusted"], m["error_estimate_by"]) == (False, "levels")
    flags = solve(Decay(), *TWO).metrics["warnings"]
    assert [flag["kind"] for flag in flags] == ["estimate"] and "gained little" in flags[0]["message"]


def test_a_last_level_that_changes_all_gives_no_estimate_by_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first level that stays where random splines begin: the second changes it by their size relative to u."""
    monkeypatch.setattr("kanpinn.run.results.estimated", lambda *_, **__: None)
    stays = "schedule.optimizers=[{name:gradient_descent,lr:1e-12},levenberg_marquardt]"
    found = []
    for problem, size in ((Known(), 0.5), (Known(), 5.0), (Decay(), 5.0)):
        m = solve(problem, "schedule.levels=2", "schedule.steps=[1,30]", stays, f"backbone.scale={size}").metrics
        found.append((m["levels"][-1]["change"]["u"] > 1, m["error_estimate_trusted"], m["warnings"]))
    assert found[:2] == [(False, True, []), (True, False, [])]  # the loss falls to rounding: no other doubt
    assert found[2][:2] == (True, False) and len(found[2][2]) == 1
    assert found[2][2][0]["message"].endswith("cannot be trusted: the last level changed u by more than its own size")


@pytest.mark.parametrize(
    ("by_levels", "ceiling", "method"),
    [
        *((2e-6, 5e-6, "levels"), (2e-6, math.inf, "levels"), (2e-5, 5e-6, "defect"), (4e-7, 5e-6, "defect")),
        (6e-7, 5e-6, "both"),
    ],
)
def test_an_estimate_by_levels_counts_between_the_doubtful_one_and_its_ceiling(by_levels, ceiling, method):
    part = SimpleNamespace(left=0.5, space=SimpleNamespace(words="8 intervals", size=169))
    doubtful = ErrorEstimate({"u": 1e-6}, 0.5, False, parts=(part,), ceiling=ceiling)
    levels = [
        SimpleNamespace(slab=0, change=change, loss=loss, entered=how)
        for change, loss, how in ((None, 1e-6, "start"), ({"u": by_levels}, 1e-10, "refine"))
    ]
    solver = SimpleNamespace(record=SimpleNamespace(levels=levels), slabs=[None])
    found, doubts = chosen(solver, (), doubtful, ErrorEstimate({"u": by_levels}))
    assert found.method == ("levels" if method == "levels" else "defect")
    assert bool(doubts) is (method == "defect")


def test_a_sweep_shows_which_jobs_are_doubtful(tmp_path: Path) -> None:
    flags = [{"kind": kind, "message": ""} for kind in ("points", "points", "loss")]
    for name, warnings in (("0", flags), ("1", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"status": "step_limit", "warnings": warnings}))
    jobs = [Job(number, str(number), state="ended", code=0) for number in range(2)]
    header, rows = jobs_table(tmp_path, jobs, ())
    assert [row[header.index("flags")] for row in rows] == ["points,loss", ""]
    assert "| points,loss |" in markdown(header, rows)
    assert "flags" not in markdown(header, rows[1:])


def test_a_zero_reference_has_no_relative_error() -> None:
    solution = solve(Known(amplitude=0.0))
    m = solution.metrics
    assert m["relative_l2"] == {"u": None} and m["linf"]["u"] < 1e-10
    assert kinds(solution) == ["reference"]
    assert "the reference of u is zero" in m["warnings"][-1]["message"]


def test_flags_are_in_all_files_tables_and_pages(folder: Path) -> None:
    solution = solve(Known(), *NARROW, folder=folder / "bad")
    solve(Known(), folder=folder / "good")
    flags = solution.metrics["warnings"]
    assert [flag["kind"] for flag in flags] == ["points", "parameters", "error"]
    assert flags[0]["ratio"] > 30 and flags[0]["term"] == "interior" and flags[0]["points"] == 6
    assert "sampler.resample_every=5" in flags[0]["message"] and "more points than 6" in flags[0]["message"]
    assert (flags[1]["rows"], flags[1]["parameters"]) == (8, 45)
    message = flags[0]["message"]
    stored = json.loads((folder / "bad/metrics.json").read_text())
    assert stored["warnings"][0]["message"] == message and stored["limited_by"].startswith("points: ")
    assert f"warning: {message}" in (folder / "bad/log.txt").read_text()
    with h5py.File(folder / "bad/solution.h5") as file:
        assert file["metrics"].attrs["warning_0"] == f"points: {message}"
        assert file["metrics"].attrs["limited_by"] == stored["limited_by"]
    assert message in render(inspect(folder / "bad"))
    runs = named([read_run(folder / name) for name in ("bad", "good")])
    header, rows = table(runs)
    assert [row[header.index("flags")] for row in rows] == ["points,parameters,error", None]
    assert "points,parameters,error" in text(runs)


def test_a_flag_is_on_the_pages_of_runs_and_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanpinn.plots.figures", lambda *_, **__: {})
    warnings = [{"kind": "points", "message": "met at its points only"}]
    run_folder(tmp_path / "0", warnings=warnings, limited_by="points: there only")
    run_folder(tmp_path / "1", seed=1)
    told = page("run.html", run_content(tmp_path / "0", 20))
    assert "met at its points only" in told and "Limited by points: there only" in told
    monkeypatch.setattr("kanpinn.plots.comparison.comparison_figure", lambda *_, **__: None)
    assert page("sweep.html", sweep_content(tmp_path, tmp_path, 20)).count("doubtful: points") == 1


class Lotka(Problem):
    """Lotka and Volterra's u' = u (1.5 - v), v' = v (u - 3) from u = v = 1."""

    domain = Box(t=(0, 10))
    unknowns = ("u", "v")
    derivatives = ("t",)

    def residual(self, p):
        return {"prey": p.u_t - p.u * (1.5 - p.v), "predators": p.v_t - p.v * (p.u - 3)}

    def conditions(self):
        return [Condition("initial", "t-", lambda p: {"u": p.u - 1, "v": p.v - 1})]

    def reference(self, p):
        def rates(_, y):
            return [y[0] * (1.5 - y[1]), y[1] * (y[0] - 3)]

        found = solve_ivp(rates, (0, 10), [1, 1], "DOP853", rtol=1e-10, atol=1e-10, dense_output=True)
        return dict(zip("uv", torch.from_numpy(found.sol(p.t.numpy())), strict=True))


class Fronts(Problem):
    """Allen and Cahn's u_t = 1e-3 u_xx + 5 (u - u³) as a user would first type it."""

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("t", "xx")
    periodic = ("x",)

    def residual(self, p):
        return p.u_t - 1e-3 * p.u_xx - 5 * (p.u - p.u**3)

    def conditions(self):
        across = Condition("periodic", "x-", lambda p, q: {"u": p.u - q.u, "x": p.u_x - q.u_x}, periodic="x")
        return [Condition("initial", "t-", lambda p: p.u - p.x**2 * torch.cos(torch.pi * p.x)), across]

    def reference(self, p):
        return allen_cahn(1e-3)(p.x, p.t)


class Bessel(Problem):
    """The Helmholtz equation with k = 12, solved by J₀(k r), which no few products of functions of x and y are."""

    domain = Box(x=(-1, 1), y=(-1, 1))
    derivatives = ("xx", "yy")

    def residual(self, p):
        return p.u_xx + p.u_yy + 144 * p.u

    def conditions(self):
        return [Condition("boundary", ("x-", "x+", "y-", "y+"), lambda p: p.u - self.reference(p))]

    def reference(self, p):
        return torch.special.bessel_j0(12 * torch.sqrt(p.x**2 + p.y**2))


class Oscillator(Problem):
    """Van der Pol's u'' = 10 (1 - u²) u' - u from u = 2, u' = 0, which has layers."""

    domain = Box(t=(0, 20))
    derivatives = ("t", "tt")

    def residual(self, p):
        return p.u_tt - 10 * (1 - p.u**2) * p.u_t + p.u

    def conditions(self):
        return [Condition("initial", "t-", lambda p: {"u": p.u - 2, "slope": p.u_t})]

    def reference(self, p):
        def rates(_, y):
            return [y[1], 10 * (1 - y[0] ** 2) * y[1] - y[0]]

        found = solve_ivp(rates, (0, 20), [2, 0], "Radau", rtol=1e-10, atol=1e-12, dense_output=True)
        return torch.from_numpy(found.sol(p.t.numpy())[0])


class Fisher(Problem):
    """Fisher's u_t = u_xx + 50 u (1 - u), whose errors ahead of the front grow by exp(50 t)."""

    domain = Box(x=(-5, 5), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        return p.u_t - p.u_xx - 50 * p.u * (1 - p.u)

    def conditions(self):
        return [Condition("edge", ("t-", "x-", "x+"), lambda p: p.u - self.reference(p))]

    def reference(self, p):  # Ablowitz and Zeppetella, Bull. Math. Biol. 41 (1979) 835
        return (1 + torch.exp(math.sqrt(50 / 6) * p.x - 5 / 6 * 50 * p.t)) ** -2


WRONG = {
    "lotka, points that stay long": (Lotka(), ["sampler.resample_every=100"]),
    "lotka": (Lotka(), []),
    "allen-cahn, points that stay": (Fronts(), ["sampler.resample_every=0"]),
    "bessel, separable": (
        Bessel(), ["backbone=separable", "backbone.rank=4", "backbone.degree=7", "schedule.steps=30"],
    ),
    "van der pol": (Oscillator(), []),
    "fisher": (Fisher(), []),
    "fisher, its own settings": (["problem=fisher", "seed=4"], []),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "overrides"), WRONG.values(), ids=WRONG)
def test_no_wrong_solution_goes_without_a_doubt(problem, overrides) -> None:
    quiet = ["threads=1", "output.figures=false", "output.progress=false"]
    m = kanpinn.solve(*([[*problem, *quiet]] if isinstance(problem, list) else [problem, *quiet, *overrides])).metrics
    assert m["status"] != "converged"
    for name, error in m["relative_l2"].items():
        estimate, trusted = m["error_estimate"][name], m["error_estimate_trusted"]
        assert error < 1e-2 or m["warnings"] or error < 3 * estimate
        assert not trusted or min(error, estimate) > 0.1 or 1 / 3 < estimate / error < 3


@pytest.mark.slow
def test_a_layer_that_hides_the_wrong_solution_is_told() -> None:
    """One network for all times lets u jump to another solution in the first half of a hundredth of the time."""
    quiet = ["threads=1", "output.figures=false", "output.progress=false"]
    plan = ["schedule.slabs=1", "schedule.levels=4", "schedule.steps=[60,40,30,25]"]
    m = kanpinn.solve(["problem=gray_scott", *quiet, *plan]).metrics
    assert max(m["relative_l2"].values()) < 1e-3 or {"loss", "points"} & {flag["kind"] for flag in m["warnings"]}


@pytest.mark.slow
def test_the_advice_on_a_wrong_solution_leads_to_the_right_one() -> None:
    quiet = ["threads=1", "output.figures=false", "output.progress=false"]
    flag = kanpinn.solve(Lotka(), *quiet, "schedule.levels=1").metrics["warnings"][0]
    assert flag["kind"] == "loss" and "schedule.slabs=5" in flag["message"]
    few = ["schedule.levels=2", "schedule.steps=60", "sampler.interior=500"]
    m = kanpinn.solve(Lotka(), *quiet, *few, "schedule.slabs=5").metrics
    assert not m["warnings"] and max(m["relative_l2"].values()) < 1e-4


@pytest.mark.slow
def test_fresh_points_solve_what_points_that_stay_do_not() -> None:
    solution = kanpinn.solve(Fronts(), "threads=1", "output.figures=false", "output.progress=false")
    assert solution.metrics["relative_l2"]["u"] < 1e-3 and not kinds(solution)
