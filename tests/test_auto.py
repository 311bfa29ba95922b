"""Search of an accuracy: what it ends as, that it can be repeated without it and stopped, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import yaml

import kanpinn
from kanpinn.auto.networks import marching, networks
from kanpinn.auto.strategy import best_of_networks
from kanpinn.auto.work import Outcome, Work
from kanpinn.errors import UserError
from kanpinn.loggers import NoLogger
from kanpinn.run import results
from kanpinn.run.judgement import estimated_again, judged
from kanpinn.run.run import resume, run
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.solve import solve

FAST = [
    *("output.points=9", "output.figures=false", "output.progress=false", "threads=1"),
    *("sampler.interior=40", "sampler.boundary=4", "schedule.levels=2", "schedule.steps=8"),
]
SMALL = kanpinn.Kan(width=[2], grid=2, degree=3)


@dataclass(frozen=True)
class Decay(kanpinn.Problem):
    """Exponential decay u' = -rate u."""

    rate: float = 1.0
    start: bool = True

    domain = kanpinn.Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + self.rate * p.u

    def conditions(self):
        return [kanpinn.Condition("initial", "t-", lambda p: p.u - 1)] if self.start else []

    def reference(self, p):
        return torch.exp(-self.rate * p.t) if self.start else None


class Silent:
    """A follower of a solve that does nothing."""

    def stage_begun(self, *_):
        return lambda _: None

    def slab_begun(self, *_): ...

    halt = stage_ended = level_done = settled = slab_begun


class Stopped(NoLogger):
    """Observer that ends the run after some steps, as a crash would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, step, row):  # noqa: ARG002
        self.left -= 1
        if not self.left:
            raise OSError("stopped")


def test_levels_are_added_until_the_estimate_is_below_the_accuracy(tmp_path):
    found = kanpinn.solve(Decay(), SMALL, "accuracy=1e-6", *FAST, folder=tmp_path / "a")
    m = found.metrics
    assert m["status"] == "converged" and m["limited_by"] is None and m["error_estimate_trusted"]
    assert m["error_estimate"]["u"] <= 1e-6 and m["relative_l2"]["u"] <= 2e-6
    assert [record["level"] for record in m["levels"]] == list(range(len(m["levels"]))) and len(m["levels"]) > 2
    assert m["path"][-1]["kept"] and len(m["path"][-1]["stages"]) == len(m["levels"])
    assert m["wall_time_s"] >= m["path"][-1]["seconds"]
    assert m["error_estimate"]["u"] == m["path"][-1]["estimate"] and m["path"][-1]["effort"] >= 1


def test_the_last_estimate_takes_the_effort_of_a_finished_run_though_trials_took_less(monkeypatch):
    asked, real = [], results.estimates

    def noted(solver, share=1.0, before=None):
        asked.append((share, before is not None))
        return real(solver, share, before)

    for place in ("judgement", "pursuit"):
        monkeypatch.setattr(f"kanpinn.run.{place}.estimates", noted)
    found = kanpinn.solve(Decay(), SMALL, "accuracy=1e-12", "schedule.steps=2", "schedule.levels=1", *FAST[:6])
    assert found.metrics["status"] == "step_limit"
    assert {share for share, _ in asked[:-1]} == {0.2} and asked[-1] == (1.0, True)


@pytest.mark.parametrize(("left", "efforts"), [(0.0, {0.2}), (math.inf, {1.0, 5.0})])
def test_an_estimate_is_not_made_more_exact_once_time_is_out(left, efforts):
    configuration = configuration_of_objects(Decay(), [SMALL, *FAST])
    solver, end = solve(configuration.setup, Silent())
    outcome, made = judged(solver, end, 0.5, (), left)
    assert outcome.effort in efforts and outcome.estimate < 0.5
    again = estimated_again(solver, outcome.effort)
    assert [one and one.errors for one in again] == [one and one.errors for one in made]


def test_the_config_written_repeats_the_run_without_a_search_to_the_same_bits(tmp_path):
    found = kanpinn.solve(Decay(), SMALL, "accuracy=1e-6", *FAST, folder=tmp_path / "a")
    written = yaml.safe_load((tmp_path / "a/config.yaml").read_text())
    assert written["accuracy"] is None and written["schedule"]["name"] == "custom"
    again = run(validate(written, {"problem": Decay()}), tmp_path / "b", spoken=False)
    assert "path" not in again.metrics
    points = [[0.1], [0.5], [0.9]]
    assert (found(points)["u"] == again(points)["u"]).all()
    assert (kanpinn.load(tmp_path / "a", Decay())(points)["u"] == found(points)["u"]).all()


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        pytest.param([SMALL, *FAST], 19, id="a network given", marks=pytest.mark.slow),
        pytest.param(["backbone=auto", "schedule.steps=4", "schedule.levels=2", *FAST[:4]], 6, id="a network chosen"),
    ],
)
def test_a_search_that_was_killed_goes_on_to_the_same_bits(tmp_path, given, steps):
    asked = [*given, "accuracy=1e-6", "checkpoint.every_s=0", "sampler.interior=40"]
    whole = kanpinn.solve(Decay(), *asked, folder=tmp_path / "a")
    with pytest.raises(OSError, match="stopped"):
        run(configuration_of_objects(Decay(), asked), tmp_path / "b", [Stopped(steps)], spoken=False)
    assert not (tmp_path / "b/metrics.json").exists()
    after = resume(tmp_path / "b", problem=Decay(), spoken=False)
    assert (after([[0.3]])["u"] == whole([[0.3]])["u"]).all()
    assert [one["estimate"] for one in after.metrics["path"]] == [one["estimate"] for one in whole.metrics["path"]]


def test_a_problem_without_a_condition_never_converges(tmp_path):
    found = kanpinn.solve(Decay(start=False), SMALL, "accuracy=0.5", *FAST, folder=tmp_path / "a")
    assert found.metrics["status"] == "step_limit"
    assert found.metrics["limited_by"].startswith("problem: equations and conditions do not determine the solution")


def test_time_that_runs_out_is_told_with_the_estimate(tmp_path):
    found = kanpinn.solve(Decay(), SMALL, "accuracy=1e-12", "time_limit_s=0.3", *FAST, folder=tmp_path / "a")
    assert found.metrics["status"] == "time_limit"
    assert found.metrics["limited_by"].startswith("time: time_limit_s was reached")
    assert json.loads((tmp_path / "a/metrics.json").read_text())["accuracy"] == 1e-12


def test_networks_are_tried_on_the_coarsest_level_and_the_best_grows(tmp_path):
    bounds = ["accuracy=1e-5", "schedule.levels=2", "schedule.steps=4", *FAST[:4]]
    found = kanpinn.solve(Decay(), *bounds, folder=tmp_path / "a")
    m, probes = found.metrics, [one for one in found.metrics["path"] if one["why"] == "probe"]
    assert m["status"] == "converged" and m["backbone"] == "kan"
    assert [one["network"] for one in probes] == ["kan one layer", "kan 5,5", "mlp 10,10,10"][: len(probes)]
    assert all(one["stages"] == [{"level": 0, "steps": 4}] for one in probes)
    kept = next(one for one in m["path"] if one["kept"])
    assert min(probes, key=lambda one: one["estimate"])["network"] == kept["network"]
    written = yaml.safe_load((tmp_path / "a/config.yaml").read_text())
    again = run(validate(written, {"problem": Decay()}), None, spoken=False)
    assert (again([[0.3]])["u"] == found([[0.3]])["u"]).all()


def test_work_that_was_stopped_and_is_better_already_is_given_back_with_its_own_config(tmp_path, monkeypatch):
    asked = iter([None] * 15)
    monkeypatch.setattr("kanpinn.run.watch.RunWatch.halt", lambda *_: next(asked, "time_limit"))
    found = kanpinn.solve(Decay(), SMALL, "accuracy=1e-12", *FAST, folder=tmp_path / "a")
    assert found.metrics["status"] == "time_limit" and len(found.metrics["path"]) == 1
    assert found.metrics["error_estimate"]["u"] < found.metrics["path"][0]["estimate"]
    written = yaml.safe_load((tmp_path / "a/config.yaml").read_text())
    assert len(written["schedule"]["stages"]) == 2
    assert (kanpinn.load(tmp_path / "a", Decay())([[0.5]])["u"] == found([[0.5]])["u"]).all()
    monkeypatch.undo()
    again = run(validate(written, {"problem": Decay()}), None, spoken=False)
    assert (again([[0.3]])["u"] == found([[0.3]])["u"]).all()


def test_time_that_runs_out_as_the_accuracy_is_met_is_no_limit(tmp_path, monkeypatch):
    asked = iter([None] * 15)
    monkeypatch.setattr("kanpinn.run.watch.RunWatch.halt", lambda *_: next(asked, "time_limit"))
    monkeypatch.setattr("kanpinn.run.pursuit.Pursuit._settled", property(lambda _: False))
    found = kanpinn.solve(Decay(), SMALL, "accuracy=0.01", *FAST, folder=tmp_path / "a")
    m = found.metrics
    assert (m["status"], m["limited_by"]) == ("converged", None) and m["error_estimate"]["u"] < 0.01
    assert "is below accuracy=0.01" in (tmp_path / "a/log.txt").read_text()


@dataclass(frozen=True)
class Signs(kanpinn.Problem):
    """Decay from a value whose square is 1, of either sign."""

    domain = kanpinn.Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + p.u

    def conditions(self):
        return [kanpinn.Condition("initial", "t-", lambda p: p.u**2 - 1)]


def test_two_solutions_are_told_by_trials_that_differ():
    found = kanpinn.solve(Signs(), "accuracy=1e-6", "schedule.steps=12", *FAST[:4])
    first, second = found.metrics["path"]
    assert first["trusted"] and second["trusted"] and max(first["estimate"], second["estimate"]) < 1e-3
    assert found.metrics["status"] == "step_limit"
    assert found.metrics["limited_by"].startswith("problem: there seems to be more than one solution: that of kan")


def played(strategy, outcomes):
    """The work that a search yields, its outcomes found by network, slabs and level."""
    done, work = [], next(strategy)
    while True:
        done.append((work.candidate.name, len(work.stages), work.reason))
        try:
            work = strategy.send(outcomes(work))
        except StopIteration as stop:
            return done, stop.value


def candidates(problem):
    configuration = configuration_of_objects(problem, ["backbone=auto", "threads=1"])
    return list(networks(configuration.setup))


def test_time_slabs_are_halved_while_that_lowers_the_estimate():
    errors = {1: 1.0, 5: 0.5, 10: 0.06, 20: 0.05, 40: 0.05}

    def outcome(work):
        return Outcome("steps", errors[work.candidate.slabs] / 3 ** len(work.stages), trusted=True, parameters=5000)

    done, _ = played(best_of_networks(candidates(Decay())[:1], most=1), outcome)
    assert [name for name, *_ in done[:4]] == ["kan one layer"] + [
        f"kan one layer, {slabs} time slabs" for slabs in (5, 10, 20)
    ]


@pytest.mark.parametrize(("parameters", "most"), [(1000, 4), (100, 7)])
def test_a_change_that_does_not_pay_is_taken_back_and_ends_the_growth(parameters, most):
    scores = {1: 1e-2, 2: 1e-3, 3: 9e-4, 4: 8e-4, 5: 7e-4, 6: 7e-4, 7: 6e-4, 8: 1e-9}

    def outcome(work):
        worse = 3 if "weighted" in work.candidate.name or "built in" in work.candidate.name else 1
        return Outcome("steps", worse * scores[len(work.stages)], trusted=True, parameters=parameters)

    done, why = played(best_of_networks(candidates(Decay())[1:2]), outcome)
    assert why.startswith("capacity: ")
    grown = [stages for _, stages, reason in done if reason == "one level more"]
    assert grown[: most - 1] == list(range(2, most + 1)) and max(grown) == most


def test_an_accuracy_is_met_by_a_trusted_estimate_or_by_a_ceiling_and_beside_no_doubt():
    def meets(**values):
        return Outcome("steps", **{"estimate": 1e-6, **values}).meets(1e-5)

    assert meets(trusted=True) and meets(ceiling=9e-6)
    assert not meets() and not meets(ceiling=2e-5) and not meets(ceiling=9e-6, doubt="points")
    assert not meets(estimate=2e-5, trusted=True)
    again = Outcome.from_record(Outcome("steps", estimate=1e-6).record())
    assert again.ceiling == math.inf and not again.meets(1e-5)


@dataclass(frozen=True)
class Wave(kanpinn.Problem):
    """A wave that runs in from the left."""

    domain = kanpinn.Box(x=(0, 1), t=(0, 1))
    derivatives = ("x", "t")

    def residual(self, p):
        return p.u_t + p.u_x

    def conditions(self):
        return [kanpinn.Condition("start", "t-", lambda p: p.u), kanpinn.Condition("left", "x-", lambda p: p.u - 1)]


def test_a_fine_grid_is_tried_before_time_slabs_where_no_coarse_one_will_do():
    def outcome(work):
        coarse = "separable" not in work.candidate.name or marching(work.candidate)
        finer = 8 if coarse else 32 // work.candidate.setup.backbone.grid
        return Outcome("steps", {1: 1e-4}.get(finer, 0.5) / 3 ** len(work.stages), trusted=True, parameters=5000)

    wanted = [one for one in candidates(Wave()) if not marching(one)]
    done, _ = played(best_of_networks(wanted, most=1), outcome)
    assert [reason for *_, reason in done[:3]] == ["probe", "probe", "a fine grid"]
    assert "32 intervals" in done[2][0] and not any("slabs" in name for name, *_ in done)


def test_polynomials_of_time_get_finer_grids_and_shorter_slabs():
    """Errors of space and of time, each lowered by what refines it; others stay far behind."""

    def outcome(work):
        if not marching(work.candidate):
            return Outcome("steps", 0.5, trusted=True, parameters=5000)
        grid, slabs = work.candidate.setup.backbone.grid, work.candidate.slabs
        return Outcome("steps", (32 / grid) ** 6 * 5e-3 + (5 / slabs) ** 8 * 1e-3, trusted=True, parameters=500 * slabs)

    done, _ = played(best_of_networks(candidates(Wave()), accuracy=1e-5), outcome)
    grown = [name for name, _, reason in done if reason in ("a finer grid", "slabs halved")]
    assert [name.split(", ", 2)[2] for name in grown[:4]] == [
        "64 intervals, 5 time slabs",
        "128 intervals, 5 time slabs",
        "64 intervals, 10 time slabs",
        "128 intervals, 10 time slabs",
    ]
    assert len({name for name, *_ in done}) == len(done)


def test_a_network_near_the_accuracy_grows_before_others_are_tried():
    scores = [9e-3, 8e-3]

    def third(accuracy):
        strategy = best_of_networks(candidates(Wave())[2:], accuracy=accuracy)
        work = next(strategy)
        for score in scores:
            work = strategy.send(Outcome("steps", score, trusted=True, parameters=500))
        return work.reason

    assert third(1e-5) == third(None) == "one level more"
    assert third(1e-6) == "probe" != third(1e-4)


class Quantum(kanpinn.Problem):
    """A free particle: u + iv is a wave that turns once in the time of a slab."""

    domain = kanpinn.Box(x=(0, 1), t=(0, 1))
    unknowns = ("u", "v")
    derivatives = ("xx", "t")

    def residual(self, p):
        return {"real": p.u_t + p.v_xx, "imaginary": p.v_t - p.u_xx}

    def conditions(self):
        return [
            kanpinn.Condition("start", "t-", lambda p: {"u": p.u - torch.cos(2 * p.x), "v": p.v - torch.sin(2 * p.x)}),
            kanpinn.Condition(
                "ends",
                ("x-", "x+"),
                lambda p: {"u": p.u - torch.cos(2 * p.x - 4 * p.t), "v": p.v - torch.sin(2 * p.x - 4 * p.t)},
            ),
        ]


@pytest.mark.parametrize(
    ("other", "tried"), [(0.9, [(32, 5), (32, 10), (64, 10), (128, 20)]), (0.05, [(32, 5), (32, 10)])]
)
def test_polynomials_of_time_are_refined_in_space_and_time_while_nothing_else_will_do(other, tried):
    def outcome(work):
        if not marching(work.candidate):
            return Outcome("steps", other, trusted=True, parameters=9000)
        solved = work.candidate.slabs == 20 and work.candidate.setup.backbone.grid == 128
        return Outcome("steps", 1e-4 if solved else 0.9, trusted=True, parameters=9000)

    done, _ = played(best_of_networks(candidates(Wave()), most=1), outcome)
    until = len(tried) + 1
    assert [name.split(", ", 2)[2] for name, *_ in done[1:until]] == [
        f"{grid} intervals, {slabs} time slabs" for grid, slabs in tried
    ]
    assert done[until][2] == "probe"


def test_an_estimate_that_can_be_trusted_pays_where_the_one_before_could_not():
    scores = {5: (0.9, False), 10: (0.03, False), 20: (0.05, True), 40: (0.04, True)}

    def outcome(work):
        error, trusted = scores[work.candidate.slabs] if marching(work.candidate) else (0.05, True)
        return Outcome("steps", error, trusted=trusted, parameters=9000)

    done, _ = played(best_of_networks(candidates(Wave()), most=1), outcome)
    assert [name.split(", ")[-1] for name, *_ in done[1:5]] == [f"{many} time slabs" for many in (5, 10, 20, 40)]
    assert done[5][::2] == ("separable 8, Legendre polynomials of time, 64 intervals, 20 time slabs", "a finer grid")


def test_a_linear_problem_is_solved_in_few_steps_on_each_slab_by_polynomials_of_time(tmp_path):
    (chosen,) = [one.setup for one in candidates(Quantum()) if marching(one)]
    assert chosen.schedule.slabs == 5 and chosen.backbone.grid == 32
    schedule = kanpinn.Nested(levels=1, steps=4, slabs=5)
    parts = (chosen.backbone, chosen.optimizer, chosen.sampler, schedule)
    solution = kanpinn.solve(Quantum(), *parts, *FAST[:4], folder=tmp_path / "run")
    x, t = points = np.random.default_rng(0).uniform(size=(2, 200))
    assert np.abs(solution(points.T)["u"] - np.cos(2 * x - 4 * t)).max() < 1e-7


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["accuracy=0"], "accuracy=0"),
        (["accuracy=-1e-3"], "accuracy=-0.001"),
        (["accuracy=1"], "accuracy=1"),
        (["accuracy=1e-14"], "at least 1e-13 with dtype=float64"),
        (["accuracy=1e-5", "dtype=float32"], "at least 0.0001 with dtype=float32"),
        (["accuracy=1e-3", "schedule=v_cycle"], "nested, single or custom"),
        (["accuracy=1e-3", "schedule.starts=3"], "schedule.starts=3"),
        (["accuracy=1e-3", "schedule.steps=[3,4]"], "one number for all levels"),
        (["accuracy=1e-3", "processes=2"], "processes=2"),
    ],
)
def test_an_accuracy_that_cannot_be_had_is_refused_before_anything_is_written(tmp_path, overrides, words):
    with pytest.raises(UserError, match=words):
        kanpinn.solve(Decay(), *overrides, folder=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_recommendations_for_other_networks_do_not_bind_the_search() -> None:
    cfg, _ = compose(["problem=klein_gordon", "backbone=auto"])
    tuned, _ = compose(["problem=klein_gordon"])
    assert isinstance(cfg.schedule.steps, int) and not isinstance(tuned.schedule.steps, int)


TEXT = "kind: ordinary\ndomain: {t: [0, 1]}\nequations: u_t = -u\nconditions: {start: {on: t-, equation: u = 1}}\n"


@pytest.mark.parametrize(
    ("overrides", "chosen"),
    [
        ([], "kan"),
        (["time_limit_s=60"], "auto"),
        (["accuracy=1e-3"], "auto"),
        (["accuracy=1e-3", "schedule.levels=2"], "auto"),
        (["time_limit_s=60", "schedule.levels=2"], "kan"),
        (["time_limit_s=60", "optimizer=lbfgs"], "kan"),
        (["time_limit_s=60", "processes=2"], "kan"),
        (["time_limit_s=60", "backbone=mlp"], "mlp"),
    ],
)
def test_a_network_is_chosen_for_a_problem_without_recommendations_where_nothing_says_how(
    tmp_path, monkeypatch, overrides, chosen
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/problem").mkdir(parents=True)
    (tmp_path / "conf/problem/mine.yaml").write_text(f"name: mine\n{TEXT}", encoding="utf-8")
    cfg, _ = compose(["problem=mine", *overrides])
    assert cfg.backbone.name == chosen
    tuned, _ = compose(["problem=heat", "time_limit_s=60"])
    assert tuned.backbone.name != "auto"


def test_stages_of_others_are_not_cut_where_they_are_no_visits_of_levels() -> None:
    candidate = candidates(Wave())[0]

    def cut(stages, done):
        return [dict(stage) for stage in Work(candidate, tuple(stages), "as given").cut(done).stages]

    levels = [{"level": 0, "steps": 9}, {"level": 1, "steps": 9}, {"level": 1, "steps": 9, "widen": 1}]
    assert cut(levels, [9, 4]) == [levels[0], {"level": 1, "steps": 4}]
    assert cut(levels, [9, 9, 2]) == [*levels[:2], {"level": 1, "steps": 2, "widen": 1}]
    for others in ([levels[0], levels[0], levels[1]], [levels[0], {"level": 2, "steps": 9}], [levels[1]]):
        assert cut(others, [9, 4]) == others
