"""Pruning of runs: what is not needed goes, the rest is as good, and the new run is as complete as any other."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import kanpinn
from kanpinn import Kan, Nested
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.pde.table import table_of
from kanpinn.run.prune import _tolerances, opened, prune
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.pruned import Trial, change, pruning
from kanpinn.solver.pruning import Pruner

ROWS = np.random.default_rng(0).uniform(-1, 1, (150, 2))


def setup_of(options):
    table = table_of({"a": ROWS[:, 0], "b": ROWS[:, 1], "y": np.exp(ROWS[:, 0])}, ["y"], split=(0.8, 0.2))
    return configuration_of_objects(table, [options, Nested(levels=1)]).setup


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run fitted to y = exp(a) at places (a, b)."""
    folder = tmp_path_factory.mktemp("prune") / "run"
    kanpinn.fit(
        ROWS, np.exp(ROWS[:, 0]), "backbone.width=[2]", "backbone.grid=2", "schedule.levels=1", "schedule.steps=15",
        "output.figures=false", split=(0.8, 0.2), folder=folder,
    )  # fmt: skip
    return folder


def test_parts_that_do_nothing_are_cut_by_their_score_and_the_function_stays():
    setup = setup_of(Kan(width=[3], grid=2, degree=3))
    network = setup.network()
    theta = network.initial(np.random.default_rng(0))
    first, _, last = network.arrays(theta)
    first["coefficients"][2, 1] = 0.7  # a constant edge, of score 0
    last["coefficients"][0, 0] = -0.4  # all that is behind node 0
    start = pruning(setup, network, theta)
    found = Pruner(start, 1.0).cut(1e-12)
    assert (start.shape, start.edges) == ([2, 3, 1], 9)
    assert (found.shape, found.edges) == ([2, 2, 1], 5)
    options: Any = found.setup.backbone
    assert options.edges == [[[0, 1], [0]], [[0, 1]]]
    assert found.network.size == 5 * 5
    assert change(start, found)["y"]["largest"] < 1e-13
    with pytest.raises(UserError, match="no network is left"):
        Pruner(start, 1.0).cut(10.0)


@pytest.mark.slow
def test_a_search_leaves_what_the_function_needs(run, tmp_path, capsys):
    """Exp(a) needs one input, one node, two edges; the new run loads, inspects, reports and prunes again."""
    new = tmp_path / "new"
    assert main(["prune", str(run), "-o", str(new)]) == 0
    told = capsys.readouterr().out
    record = json.loads((new / "pruning.json").read_text())
    assert "input x2 is not needed" in told
    assert "after:  [1,1,1], 2 edges" in told
    assert record["inputs"] == {"kept": ["x1"], "removed": ["x2"]}
    before, after = record["before"], record["after"]
    assert (before["edges"], after["edges"]) == (6, 2)
    assert after["parameters"] < before["parameters"]
    assert after["validation"] <= 1.1 * before["validation"]
    solution = kanpinn.load(new)
    assert solution.residuals.backbone.size == after["parameters"] == solution.metrics["parameters"]
    there = solution(np.array([[0.3, -0.5], [0.3, 0.8]]))["y"]
    assert there[0] == there[1]
    assert abs(there[0] - np.exp(0.3)) < 10 * after["validation"]
    assert main(["inspect", str(new), "--check"]) == 0
    assert main(["resume", str(new)]) == 0
    assert main(["report", str(new)]) == 0
    assert main(["prune", str(new), "-o", str(tmp_path / "again")]) == 0
    assert "everything is needed" in capsys.readouterr().out
    assert not (tmp_path / "again").exists()


def test_a_fit_is_never_worse_than_where_it_begins():
    """Noise is not learned on the way up: a finer level whose steps only do harm keeps the function of the coarser."""
    generator = np.random.default_rng(1)
    noisy = {"a": ROWS[:, 0], "b": ROWS[:, 1], "y": np.exp(ROWS[:, 0]) + generator.normal(0, 0.3, len(ROWS))}
    table = table_of(noisy, ["y"], split=(0.8, 0.2))
    setup = configuration_of_objects(table, [Kan(width=[2], grid=3, degree=3), Nested(levels=3)]).setup
    coarse = setup.network()
    fine = coarse.refined().refined()
    start = pruning(setup, fine, fine.initial(np.random.default_rng(0)))
    pruner = Pruner(start, 0.0)
    theta = coarse.initial(np.random.default_rng(0))
    once = pruner.fit(replace(start, network=coarse, theta=theta, error=np.inf))
    risen = pruner._risen(start, coarse, theta)
    assert risen.error <= once.error * (1 + 1e-12)
    assert pruner.fit(risen).error <= risen.error


def test_few_nodes_are_tried_where_one_of_them_less_is_no_way(monkeypatch):
    """Of five nodes one stays, then two; what is tried is what has the lowest scores."""
    setup = setup_of(Kan(width=[5], grid=2, degree=3))
    network = setup.network()
    start = pruning(setup, network, network.initial(np.random.default_rng(0)))
    pruner, tried = Pruner(start, 1.0), list[int]()

    def refuse(units, score):
        tried.append(len(units))
        return False

    monkeypatch.setattr(pruner, "_try", refuse)
    pruner.search()
    assert tried[:9] == [1, 1, 1, 4, 3, 1, 1, 1, 1][: len(tried)]  # inputs, a node, all but one, all but two, nodes


@pytest.mark.slow
def test_a_function_may_move_by_a_tolerance_where_the_error_grows():
    """Nothing comes back at a hundredth of the error, but all that moves y by at most 1e-2 may stay out."""
    setup = setup_of(Kan(width=[2], grid=2, degree=3))
    network = setup.network()
    start = Pruner(pruning(setup, network, network.initial(np.random.default_rng(0))), 0.0).fit(
        pruning(setup, network, network.initial(np.random.default_rng(0)))
    )
    strict, loose = Pruner(start, 0.01), Pruner(start, 0.01, tolerance={"y": 1e-2})
    assert strict.search() is start and all(one.moved is None for one in strict.trials)
    found = loose.search()
    assert (found.shape, found.edges) == ([1, 1, 1], 2)
    assert all(one.kept == (one.moved is not None and one.moved <= 1e-2) for one in loose.trials)
    assert change(start, found)["y"]["relative_l2"] <= 1e-2


class Level(kanpinn.Problem):
    """u = 3, an equation without derivatives."""

    domain = kanpinn.Box(x=(0, 1), y=(0, 1))
    derivatives = ()

    def residual(self, p):
        return p.u - 3.0

    def conditions(self):
        return []


def test_an_equation_s_solution_may_move_by_its_own_error_and_coefficients_may_not(run):
    """The error of a solved equation is in its metrics; a table has none to spend, unless it is given."""
    _, table = opened(run, run.parent / "none", None)
    assert _tolerances(table, {}, None) == {} and _tolerances(table, {}, 1e-3) == {"y": 1e-3}

    setup = configuration_of_objects(Level(), [Kan(width=[2], grid=2), Nested(levels=1)]).setup
    network = setup.network()
    start = pruning(setup, network, network.initial(np.random.default_rng(0)))
    assert _tolerances(start, {"error_estimate": {"u": 2e-7}}, None) == {"u": 2e-7}
    assert _tolerances(start, {"relative_l2": {"u": 1e-8}, "error_estimate": {"u": 2e-7}}, None) == {"u": 1e-8}
    assert _tolerances(start, {"relative_l2": {"u": 0.3}}, None) == {}
    assert _tolerances(start, {}, None) == {}


def test_a_network_pruned_by_threshold_is_trained_on(run, tmp_path):
    assert main(["prune", str(run), "--threshold", "1e-3", "-o", str(tmp_path / "new")]) == 0
    record = json.loads((tmp_path / "new" / "pruning.json").read_text())
    assert record["trials"] == []
    assert record["after"]["edges"] < 6
    assert record["after"]["loss"] <= 1.01 * kanpinn.load(run).metrics["loss"] + 1e-12 or record["after"]["edges"] < 3


@pytest.mark.slow
def test_what_is_needed_is_tried_once_and_stays(tmp_path, monkeypatch):
    """A network too small for y = x1 x2 needs both inputs and both nodes, however it is fitted again."""
    monkeypatch.setattr("kanpinn.solver.pruning.ROUNDS", 3)
    kanpinn.fit(
        ROWS[:60], ROWS[:60].prod(1), "backbone.width=[2]", "backbone.grid=1", "backbone.degree=3", "schedule.levels=1",
        "schedule.steps=25", "output.figures=false", split=(0.8, 0.2), folder=tmp_path / "run",
    )  # fmt: skip
    told: list[Trial] = []
    record = prune(tmp_path / "run", tmp_path / "new", worse=1.05, tell=told.append)
    assert record is not None
    limit, parts = 1.05 * record["before"]["validation"], [one.parts for one in told]
    assert [one.kept for one in told] == [one.error <= limit for one in told]
    assert (parts[:2], sorted(parts[2:4])) == (["input x1", "input x2"], [f"node {n} of layer 1" for n in (0, 1)])
    assert not any(one.kept for one in told[:4])
    many = [int(part.split()[0]) if part[0].isdigit() else 1 for part in parts]
    assert all(after <= max(1, now // 2) for one, now, after in zip(told, many, many[1:], strict=False) if not one.kept)
    assert len(set(parts)) == len(told)


def test_the_error_of_an_equation_is_the_root_of_its_loss():
    """At u = 0 the residual u − c is −c, in units of its size √(c² + (a V)²) = c √2, since V a = c."""

    setup = configuration_of_objects(Level(), [Kan(width=[2], grid=2), Nested(levels=1)]).setup
    network = setup.network()
    start = pruning(setup, network, 0 * network.initial(np.random.default_rng(0)))
    assert start.error == pytest.approx(0.5**0.5, rel=1e-12)


@pytest.mark.slow
def test_an_equation_loses_the_coordinate_that_its_solution_does_not_need(tmp_path, monkeypatch):
    """u = exp(x) of u_xx + u_yy = exp(x): the new run solves the equation as well, without y."""
    (tmp_path / "conf" / "problem").mkdir(parents=True)
    (tmp_path / "conf" / "problem" / "flat.yaml").write_text(
        "name: flat\ndomain: {x: [0, 1], y: [0, 1]}\nunknowns: [u]\nequations: {balance: 'laplace(u) = exp(x)'}\n"
        "conditions: {rim: {on: [x-, x+, y-, y+], equation: 'u = exp(x)'}}\nreference: {u: 'exp(x)'}\nform: soft\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["problem=flat", "backbone=kan", "backbone.width=[2]", "backbone.grid=3", "backbone.degree=4", "threads=1"]
    words += ["schedule=single", "schedule.levels=1", "schedule.steps=30", "output.figures=false"]
    before = kanpinn.solve([*words, "output.progress=false", "hydra.run.dir=run"])
    assert main(["prune", "run", "-o", "new"]) == 0
    record, after = json.loads((tmp_path / "new" / "pruning.json").read_text()), kanpinn.load(tmp_path / "new")
    assert record["inputs"] == {"kept": ["x"], "removed": ["y"]}
    assert record["after"]["edges"] <= record["before"]["edges"] / 2
    assert after.metrics["relative_l2"]["u"] <= 1.1 * before.metrics["relative_l2"]["u"]


@pytest.mark.slow
def test_a_solution_of_one_variable_of_both_coordinates_needs_three_edges(tmp_path, monkeypatch):
    """u = 1/(1 + x + y): with one node of four less there is no way, with three less there are shorter intervals."""
    (tmp_path / "conf" / "problem").mkdir(parents=True)
    (tmp_path / "conf" / "problem" / "ratio.yaml").write_text(
        "name: ratio\ndomain: {x: [0, 1], y: [0, 1]}\nequations: {balance: 'laplace(u) = 4/(1+x+y)**3'}\n"
        "conditions: {rim: {on: [x-, x+, y-, y+], equation: 'u = 1/(1+x+y)'}}\nreference: {u: '1/(1+x+y)'}\n"
        "form: soft\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["problem=ratio", "backbone=kan", "backbone.width=[4]", "threads=1", "schedule.steps=300"]
    before = kanpinn.solve([*words, "output.figures=false", "output.progress=false", "hydra.run.dir=run"])
    assert main(["prune", "run", "-o", "new"]) == 0
    record, after = json.loads((tmp_path / "new" / "pruning.json").read_text()), kanpinn.load(tmp_path / "new")
    assert record["after"]["shape"] == [2, 1, 1] and record["after"]["edges"] == 3
    assert after.metrics["relative_l2"]["u"] <= before.metrics["relative_l2"]["u"]


def test_what_cannot_be_pruned_is_said_in_one_line(run, tmp_path, capsys):
    def refused(*arguments):
        assert main(["prune", *map(str, arguments)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    assert "expected a number above 0" in refused(run, "--threshold", "0")
    assert "expected a number of at least 1" in refused(run, "--worse", "0.9")
    assert "expected a number of at least 0" in refused(run, "--tolerance", "-1")
    assert "already holds a run" in refused(run, "-o", run)
    assert "no such folder" in refused(tmp_path / "none")
    kanpinn.fit(
        ROWS, ROWS[:, 0], "backbone=mlp", "backbone.width=[3]", "schedule.levels=1", "schedule.steps=1",
        "output.figures=false", folder=tmp_path / "mlp",
    )  # fmt: skip
    capsys.readouterr()
    assert "no edges with functions of their own" in refused(tmp_path / "mlp", "-o", tmp_path / "new")


@pytest.mark.slow
def test_a_masked_network_goes_on_after_an_interruption(tmp_path):
    """Runs with `backbone.edges` refine, stop between two levels, and end as if they had not."""
    common = [
        *("problem=heat", "backbone=kan", "backbone.width=[2]", "backbone.edges=[[[0],[0,1]],[[0,1]]]"),
        *("schedule.levels=2", "schedule.steps=[3,3]", "sampler.interior=60", "sampler.boundary=20"),
        "output.figures=false",
    ]
    whole = kanpinn.solve(common, folder=tmp_path / "whole")
    part = kanpinn.solve([*common, "time_limit_s=1e-6"], folder=tmp_path / "part")
    assert part.metrics["status"] == "time_limit"
    assert torch.equal(whole.theta, kanpinn.resume(tmp_path / "part", "time_limit_s=null").theta)
    assert whole.metrics["levels"][1]["transfer_gap"] < 1e-13


def test_an_inverse_run_is_pruned_with_the_penalty_it_has_found(kanpinn, folder):
    """u' = −k u from noisy data: the square of the validation error is affine in the penalty of all but the data."""
    (folder / "conf" / "problem").mkdir(parents=True)
    text = "name: decaying\ndomain: {t: [0, 1]}\nk: 1.7\nequations: u_t + k*u = 0\n"
    text += "conditions: {start: {on: t-, equation: u = 1}}\n"
    (folder / "conf" / "problem" / "decaying.yaml").write_text(text)
    t = np.random.default_rng(0).uniform(0, 1, 40)
    u = np.exp(-1.7 * t) + 0.01 * np.random.default_rng(1).standard_normal(40)
    (folder / "data.csv").write_text("\n".join(["t,u", *(f"{a:.17g},{b:.17g}" for a, b in zip(t, u, strict=True))]))
    network = ("backbone.width=[2]", "backbone.grid=3", "backbone.degree=4", "sampler.interior=100", "threads=1")
    given = ("schedule.levels=1", "schedule.steps=40", "output.figures=false", "hydra.run.dir=run", *network)
    assert kanpinn("solve", "problem=decaying", "unknown={k: 1}", "data=data.csv", *given).code == 0
    _, start = opened(folder / "run", folder / "new", None)
    assert start.penalty > 1
    squares = [pruning(start.setup, start.network, start.theta, m).error ** 2 for m in (1.0, 4.0, start.penalty)]
    slope = (squares[1] - squares[0]) / 3
    assert slope > 0 and squares[2] == pytest.approx(squares[0] + (start.penalty - 1) * slope)
    assert start.error == squares[2] ** 0.5
    fitted = Pruner(start, 1.0).fit(start)
    assert fitted.penalty == start.penalty and fitted.error == pytest.approx(start.error, rel=0.01)
