"""The benchmarks: what they compare agrees, their verdict is that of the floors, and they import in one direction."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import json
import math
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kanpinn.jets.automatic import jet_of
from kanpinn.jets.jet import JetSpace
from kanpinn.settings.compose import compose
from kanpinn.settings.config import resolve
from kanpinn.settings.discovery import choices

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def imports_in(folder: Path) -> dict[str, set[str]]:
    """Imports between the modules of a folder, those within functions and for type checkers included."""
    files = {file.stem: file for file in folder.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        named |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
        found[name] = named & files.keys()
    return found


def test_benchmarks_import_in_one_direction():
    graphlib.TopologicalSorter(imports_in(FOLDER)).prepare()


def test_a_circle_of_imports_is_seen_wherever_the_import_stands(tmp_path):
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from second import B\n"
    (tmp_path / "first.py").write_text(hidden, encoding="utf-8")
    (tmp_path / "second.py").write_text("def late():\n    import first\n", encoding="utf-8")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(imports_in(tmp_path)).prepare()


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.py")))
def test_every_script_finds_what_it_imports(module, name):
    module(name)


SMALL = (
    "layer.py --problem poisson_lshape --rounds 1",
    "separable.py steps --cases problem=heat",
    "separable.py steps --dense --cases problem=heat",
    "separable.py samplers --problems heat --samplers grid --seeds 0 --overrides schedule.levels=1",
    "preconditioner.py --degrees 3 --intervals 8",
    "two_grid.py --degrees 1",
    "solvers.py --parts accuracy",
    "limits.py --problems burgers -- schedule.levels=2 schedule.steps=2",
    "units.py --problems heat --units given small --set schedule.levels=2 schedule.steps=4",
    "coarse_share.py --problems poisson --optimizers levenberg_marquardt",
)
"""The scripts that use the solver's own objects, at their smallest."""


@pytest.mark.slow
@pytest.mark.parametrize("words", SMALL, ids=lambda words: " ".join(words.split()[:2]))
def test_a_small_run_of_a_script_prints_its_table(words):
    script, *arguments = words.split()
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("|") for line in done.stdout.splitlines())


def run_of(default_run: types.ModuleType, seed: int = 0, **changes):
    counts = {"exit_code": 0, "parameters": 840, "cores": 2, "threads": 2}
    errors = {"relative_l2": 1e-9, "linf": 1e-9, "transfer_gap": 1e-15}
    costs = {"wall_s": 20.0, "cpu_s": 20.0, "peak_mib": 500.0, "load": None}
    texts = {"overrides": "", "status": "step_limit", "cpu": 'a, "b"', "torch": "2", "sources": "0"}
    values = {"problem": "poisson", "backbone": "default", "seed": seed, "date": "2026-01-01T00:00:00+00:00"}
    values |= counts | errors | costs | texts
    return default_run.Run(**(values | changes))


def test_floors_are_those_of_packaged_problems(module):
    assert set(module("table").PROBLEMS) <= choices("problem").keys()


def test_false_flags_are_looked_for_in_every_problem_and_counted_apart_from_estimates_not_trusted(module):
    flags = module("flags")
    assert {*flags.PROBLEMS, "table"} == set(choices("problem"))
    told = [("steps", "", True), ("steps", "", False), ("converged", "loss", False), ("failed", "killed", None)]
    rows = [dict(zip(("status", "flags", "trusted"), row, strict=True)) for row in told]
    assert [flags.wrong(row) for row in rows] == [False, False, True, True]
    assert flags.summary(rows) == "4 runs: 1 failed, 1 flagged, 2 with an estimate that is not trusted"


def test_a_part_is_left_out_for_all_networks_or_for_the_one_it_names(module):
    tuned = module("tuned")
    both = {
        "kan": {"width": [3], "schedule": {"levels": 2}},
        "schedule": {"levels": 3, "steps": 4},
        "weights": {"a": 2},
    }
    cases = {
        "schedule": {"kan": {"width": [3]}, "weights": {"a": 2}},
        "schedule.steps": both | {"schedule": {"levels": 3}},
        "kan.schedule": both | {"kan": {"width": [3]}},
        "network+weights": {"kan": {"schedule": {"levels": 2}}, "schedule": {"levels": 3, "steps": 4}},
        "all": {},
    }
    assert {part: tuned.without(both, part, "kan")[0] for part in cases} == cases
    assert tuned.without(both, "schedule", "kan")[1] == {"schedule": both["schedule"], "kan.schedule": {"levels": 2}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([{"error": 2.9}, {"error": 2.0}], "gone"),
        ([{"error": 2.0}, {"error": 3.1}], "gone; error"),
        ([{"cpu_s": 21.0}, {"cpu_s": 21.0}], "gone; seconds"),
        ([{"status": "killed", "error": math.inf}, {}], "gone; killed"),
        ([{"flags": "steps loss"}, {"flags": "steps"}], "gone; flagged: loss"),
        ([{"value": "{kan: 1}"}, {"value": "{kan: 1}"}], "stays"),
    ],
)
def test_a_table_tells_what_misses_at_any_seed_and_what_is_there(module, changes, told):
    tuned = module("tuned")
    default = tuned.Run("heat", "", "", "", 0, 1.0, 10.0, 9.0, "step_limit", "steps", "2026-01-01")
    runs = [replace(default, seed=seed) for seed in (0, 1)]
    more = [replace(one, **{"part": "x", "value": "{x: 2}", **own}) for one, own in zip(runs, changes, strict=True)]
    *_, last = module("tuned_table").table([*runs, *more])
    assert last.endswith(f" | {told} |")


@pytest.mark.parametrize("number", range(4))
def test_plain_networks_agree_with_jets(module, number):
    jets = module("jets")
    options = list(jets.NETWORKS.values())[number // 2]
    contest = jets.Contest(jets.CASES[number % 2], options, 16)
    assert len(contest.gradients()) == 2 + (contest.backbone.grid is not None)
    assert len(contest.jacobians(some=2)) == 3
    assert 0 < contest.difference <= 1e-10


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, ""),
        ({"relative_l2": 2e-8}, "error"),
        ({"relative_l2": math.nan}, "error"),
        ({"wall_s": 66.0}, "seconds"),
        ({"peak_mib": 2049.0}, "memory"),
        ({"transfer_gap": 1e-11}, "transfer gap"),
        ({"transfer_gap": math.nan}, "transfer gap"),
        ({"exit_code": 3}, "3 failed"),
    ],
)
def test_each_floor_binds(module, changes, missed):
    default_run = module("default_run")
    runs = [run_of(default_run, seed, **changes) for seed in range(3)]
    text, passed = module("table").markdown(runs, ["poisson"], "default", range(3))
    assert passed == (not missed)
    assert f"MISSED: {missed}" in text if missed else "| pass |" in text


def test_one_bad_seed_of_three_misses_the_spread_and_not_the_error(module):
    default_run = module("default_run")
    runs = [run_of(default_run, seed, relative_l2=1e-9 if seed else 2.1e-8) for seed in range(3)]
    text, passed = module("table").markdown(runs, ["poisson"], "default", range(3))
    assert "| MISSED: spread |" in text
    assert not passed


def test_a_seed_that_was_not_run_is_missed(module):
    text, passed = module("table").markdown([run_of(module("default_run"))], ["poisson"], "default", [0, 1])
    assert "| MISSED: 1 of 2 seeds not run |" in text
    assert not passed


def test_no_error_floor_binds_a_rival(module):
    rival = run_of(module("default_run"), backbone="mlp", relative_l2=0.1, transfer_gap=math.nan)
    assert module("table").markdown([rival], ["poisson"], "mlp", [0])[1]


def test_runs_read_back_as_they_were_written(module, tmp_path):
    default_run, rows = module("default_run"), module("rows")
    runs = [run_of(default_run), run_of(default_run, 1, load=0.5, overrides="a=1 b=[1,2]")]
    for run in runs:
        rows.append(tmp_path / "runs.csv", run)
    assert rows.read(tmp_path / "runs.csv", default_run.Run) == runs


def test_a_failed_run_has_no_numbers(module, tmp_path):
    found = module("default_run").outcome(tmp_path)
    assert found["status"] == "failed"
    assert all(math.isnan(found[name]) for name in ("relative_l2", "linf", "transfer_gap"))


# --- general networks beside the defaults


def test_every_row_of_the_table_of_general_networks_is_of_a_problem_with_a_floor(module):
    assert {case.problem for case in module("general").CASES.values()} <= module("table").PROBLEMS.keys()


def settings_of(case, network: str) -> dict:
    return resolve(compose([f"problem={case.problem}", *case.words(network)])[0])


@pytest.mark.parametrize(
    "name", ["poisson", "poisson_lshape", "poisson_interface", "regression", "burgers", "allen_cahn"]
)
def test_a_general_network_differs_from_the_default_by_what_it_is_not_told(module, name):
    case = module("general").CASES[name]
    default, general = settings_of(case, "default"), settings_of(case, "general")
    assert general["backbone"]["name"] == "kan" and general["schedule"]["slabs"] == 1
    told = {
        "poisson": lambda values: values["backbone"]["name"] == "separable",
        "poisson_lshape": lambda values: values["problem"]["enrichment"],
        "poisson_interface": lambda values: values["backbone"]["embedding"]["inputs"],
        "regression": lambda values: values["backbone"]["first"] == "linear",
        "burgers": lambda values: values["backbone"]["embedding"]["kind"] == "auto",
        "allen_cahn": lambda values: values["backbone"]["embedding"]["kind"] == "auto",
    }[name]
    assert told(default) and not told(general)
    if name != "poisson":  # whose two networks have numbers of steps of their own
        for group in ("schedule", "sampler", "optimizer", "weighting"):
            assert default[group] == general[group], group


def test_the_table_of_general_networks_gives_median_worst_and_number_of_seeds(module):
    default_run, general = module("default_run"), module("general")
    words = " ".join(general.CASES["heat"].words("general"))
    runs = [
        run_of(default_run, seed, problem="heat", overrides=words, relative_l2=error, cpu_s=cpu)
        for seed, (error, cpu) in enumerate(((1e-7, 5.0), (3e-7, 6.0), (math.nan, 9.0)))
    ]
    row = next(line for line in general.markdown(runs).splitlines() if line.startswith("| heat"))
    assert row.endswith(
        "| separable form, exact conditions | – | – | exact conditions | 3.0e-07 (inf, 3) | 6 | 1e-11 | – | – |"
    )


# --- schedules at equal work


COSTS = [1.0, 2.2, 5.0]


def result_of(cycles_run: types.ModuleType, seed: int = 0, **changes):
    texts = {"overrides": "a=1 b=[1,2]", "status": "step_limit", "cpu": 'a, "b"', "sources": "0"}
    values = {"problem": "poisson", "optimizer": "adam", "schedule": "nested", "seed": seed, "load": None}
    numbers = {"relative_l2": 1e-3, "loss": 1e-5, "work": 1e8, "seconds": 5.0, "corrections": 0, "refused": 0}
    return cycles_run.Result(**(values | texts | numbers | changes))


def test_work_is_that_of_the_network_evaluated(module):
    """A V-cycle on three levels, by hand: 2 + 2 steps on levels 2 and 1, 3 on level 0."""
    plan = module("cycles_plan")
    stages = plan.SCHEDULES["v_cycle"](levels=3, cycles=1, pre=2, post=2, coarsest=3).plan()
    assert plan.planned_work(stages, COSTS, "fas") == pytest.approx(4 * 5 + 4 * 2.2 + 3 * 1)
    assert plan.planned_work(stages, COSTS, "galerkin") == pytest.approx((4 + 4 + 3) * 5)
    ascent = plan.SCHEDULES["fmg"](levels=3, steps=[7, 6, 5], cycles=[0, 1, 0], pre=2, post=2, coarsest=3).plan()
    assert plan.planned_work(ascent, COSTS, "galerkin") == pytest.approx(7 + 6 * 2.2 + (4 + 3) * 2.2 + 5 * 5)


@pytest.mark.slow
def test_planned_work_is_what_a_run_reports(module):
    plan = module("cycles_plan")
    common = ["problem=poisson", "sampler.interior=40", "backbone.width=[2]", "backbone.degree=3", "output.points=9"]
    costs = [r["points"] * r["parameters"] for r in plan.metrics_of([*common, "schedule.steps=1"])["levels"]]
    for coarse in ("galerkin", "fas"):
        options = {"levels": 3, "steps": [2, 1, 1], "cycles": 1, "pre": 1, "post": 2, "coarsest": 2, "coarse": coarse}
        chosen = [f"schedule.{key}={plan.words(value)}" for key, value in options.items()]
        found = plan.metrics_of([*common, "optimizer=adam", "schedule=fmg", *chosen])
        stages = plan.SCHEDULES["fmg"](**options).plan()
        assert found["work"] == plan.planned_work(stages, costs, coarse)


@pytest.mark.parametrize("visit", [5, 50])
def test_every_schedule_of_the_study_spends_the_budget(module, visit):
    plan = module("cycles_plan")
    steps = [30 * visit, 20 * visit, 12 * visit]
    budget = sum(n * cost for n, cost in zip(steps, COSTS, strict=True))
    for schedule in plan.STUDY:
        options = plan.fitted(schedule, steps, COSTS, visit, 2 * visit)
        name = options.pop("name")
        work = plan.planned_work(plan.SCHEDULES[name](**options).plan(), COSTS, options.get("coarse", ""))
        assert work == pytest.approx(budget, rel=plan.TOLERANCE), schedule
        assert visit / 2 <= options.get("pre", visit) <= 2 * visit, schedule
        assert (options.get("optimizer_state") == "transfer") == schedule.endswith(plan.TRANSFER)


def test_the_table_marks_the_least_median_and_takes_ratios_to_nested(module):
    cycles_run = module("cycles_run")
    results = [result_of(cycles_run, seed, relative_l2=error) for seed, error in enumerate((1e-3, 2e-3, 4e-3))]
    for seed, error in enumerate((5e-4, 1e-3, 8e-3)):
        results.append(result_of(cycles_run, seed, schedule="v_fas", relative_l2=error, corrections=3, refused=1))
    results.append(result_of(cycles_run, schedule="single", status="diverged", relative_l2=1e-9))
    lines = module("cycles_table").markdown(results).splitlines()
    row = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    assert "2.0e-03 (4e-03), ×1.00" in row["nested"]
    assert "**1.0e-03** (8e-03), ×0.50" in row["v_fas"]
    assert "| 9 of 12 |" in row["v_fas"]
    assert "inf" in row["single"]  # what diverged has no error to show


def test_results_of_the_study_read_back_as_they_were_written(module, tmp_path):
    cycles_run, rows = module("cycles_run"), module("rows")
    results = [result_of(cycles_run), result_of(cycles_run, 1, load=0.5, relative_l2=math.inf)]
    rows.write(tmp_path / "runs.csv", cycles_run.Result, results)
    assert rows.read(tmp_path / "runs.csv", cycles_run.Result) == results


def test_the_figure_has_a_panel_per_problem_and_optimizer_and_a_dot_per_seed(module):
    cycles_run = module("cycles_run")
    results = [
        result_of(cycles_run, seed, problem=p, optimizer=o, schedule=s, relative_l2=10.0 ** -(1 + seed))
        for p in ("poisson", "burgers") for o in ("adam", "lbfgs") for s in ("nested", "v_fas") for seed in range(3)
    ]  # fmt: skip
    axes = module("cycles_figure").figure_of(results).axes
    assert len(axes) == 4
    assert all(panel.get_yscale() == "log" for panel in axes)
    dots = [line.get_ydata() for line in axes[0].lines if line.get_marker() == "o"]
    assert [list(errors) for errors in dots] == [[0.1, 0.01, 0.001]] * 2


def test_the_blind_suite_has_no_shipped_problem_and_hides_its_references(module):
    untuned = module("untuned")
    names = sorted(untuned.texts())
    parts = [untuned.part_of(name) for name in names]
    assert len(names) >= 30
    assert parts.count("dev") == math.ceil(len(names) / 3)
    assert not set(names) & set(choices("problem"))
    assert not any("reference" in str(untuned.hidden(name)) or "tuned" in untuned.hidden(name) for name in names)


@pytest.mark.parametrize("name", ["couette", "line_singularity", "brusselator", "volterra"])
def test_references_of_the_blind_suite_solve_their_problems(module, name):
    assert max(module("untuned").checked(name).values()) < 1e-8


@pytest.mark.parametrize("name", ["shell", "volterra", "burgers_2d"])  # normals, an integral, a system in time
def test_other_libraries_get_problems_that_the_references_solve(module, monkeypatch, name):
    monkeypatch.syspath_prepend(FOLDER / "peers")
    told, truth = module("untuned_statement"), module("untuned").truth
    given = told.statement(name, told.Counts(64, 16, 16))
    assert "reference" not in str(given)
    statement = module("statement").Statement.of(json.loads(json.dumps(given)))
    for term in statement.terms:
        points, normals = torch.from_numpy(term.points), term.normals

        def at(points: torch.Tensor, one: str) -> torch.Tensor:
            unknown, _, along = one.partition("_")
            space = JetSpace(statement.coordinates, (along,) * bool(along))
            flat = points.reshape(-1, points.shape[-1])
            return jet_of(lambda x: truth(name, x)[unknown], flat, space)[along].reshape(points.shape[:-1])

        def here(one: str, points=points, normals=normals) -> torch.Tensor:
            if one in statement.coordinates:
                return points[:, statement.coordinates.index(one)]
            if one.startswith("n_"):
                return torch.from_numpy(normals[:, statement.coordinates.index(one[2:])])
            return at(points, one)

        def there(coordinate: str, values: torch.Tensor, points=points):
            moved = points.expand(*values.shape, -1).clone()
            moved[..., statement.coordinates.index(coordinate)] = values
            return functools.partial(at, moved)

        for one in term.formulas:
            assert float(statement.value(one, here, there, torch).abs().max()) < 1e-10


def test_the_table_beside_other_libraries_has_medians_and_counts_failures_as_worst(module):
    peers = module("untuned_peers")
    found = {("a", "deepxde", 0): 1e-3, ("a", "deepxde", 1): 3e-3, ("a", "deepxde", 2): math.nan}
    found |= {("b", "deepxde", 0): 1e-1, ("b", "jaxkan", 0): 2e-1, ("c", "jaxkan", 0): math.nan}
    runs = [peers.Run(*key, 60.0, "time_limit", error, "u", 60.0, 70.0, 9, "1.0") for key, error in found.items()]
    assert list(peers.table(runs))[2:] == [
        "| a | 3.0e-03 |  |",
        "| b | 1.0e-01 | 2.0e-01 |",
        "| c |  | – |",
        "| median | 5.2e-02 | – |",
    ]


def test_the_blind_suite_tells_what_other_networks_and_estimates_took(module):
    trial = {"network": "a", "why": "probe", "seconds": 2.0, "judging": 0.5, "kept": False}
    path = [
        trial,
        {**trial, "network": "b", "seconds": 5.0, "judging": 1.0},
        {**trial, "network": "a", "why": "one level more", "seconds": 10.0, "judging": 1.0, "kept": True},
    ]
    assert module("untuned").searching(path) == pytest.approx((0.5 + 3.0 + 1.0) / 10.0)
    assert module("untuned").searching([]) == ""


def test_the_blind_suite_counts_claims(module):
    row = {"problem": "p", "status": "converged", "flags": "", "trusted": True}
    cases = [(1e-6, 1e-6), (5e-5, 1e-5), (0.2, 0.3), (math.nan, 1.0)]
    rows = [{**row, "error": error, "estimate": told, "ratio": told / error} for error, told in cases]
    found = "\n".join(module("untuned").summary([*rows, {**row, "error": ""}], 1e-5))
    for claim in ("within 3 times the accuracy: 1 of 5", "more than 3 times above it: 3 of 5", "below 10 %: 1 of 2"):
        assert claim in found
    assert "3 times too small: 1 of 2" in found
    assert "without a flag: 2 of 2" in found
