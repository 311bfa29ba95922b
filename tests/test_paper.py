"""The paper's experiments: every run composes, schedules hold the paper's work, tables judge what they are given."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def run_of(paper_run, variant: str, seed: int = 0, experiment: str = "burgers", **changes):
    numbers = {"loss": 1e-3, "relative_l2": 1e-2, "linf": 1e-1, "seconds": 10.0, "cpu_s": 11.0, "work": 1e9}
    texts = {"reading": "stated", "status": "step_limit", "losses": "1e-2 1e-3", "fingerprint": "0", "cpu": "a, b"}
    counts = {"scale": 1.0, "parameters": 100, "steps": 1400, "threads": 1}
    values = {"experiment": experiment, "variant": variant, "seed": seed, "date": "2026-01-01T00:00:00+00:00"}
    return paper_run.Run(**(values | numbers | texts | counts | changes))


def table(module, runs, experiment="burgers"):
    return module("paper_table").markdown(runs, [experiment], {experiment: "0"})


@pytest.mark.parametrize("name", ["regression", "poisson_interface", "burgers", "allen_cahn"])
def test_every_variant_composes_to_the_network_it_names(module, name):
    experiment = module("paper_study").EXPERIMENTS[name]
    kinds = {"spline": "kan", "ours": "kan", "relu": "relu_kan", "mlp": "mlp"}
    named = {variant.name: variant for variant in experiment.variants()}
    some = [f"spline {schedule}" for schedule in ("coarse", "fine", "multilevel")]
    for variant in [named[key] for key in (*some, "relu multilevel", "ours fine", list(named)[7], "default")]:
        reading = experiment.readings[0]
        configuration = validate(compose([*variant.overrides(1.0), *reading.overrides(variant)])[0])
        assert configuration.resolved["problem"]["name"] == experiment.problem
        if variant.kind == "default":
            continue
        assert configuration.resolved["backbone"]["name"] == kinds[variant.kind]
        assert (configuration.resolved["optimizer"]["name"] == "levenberg_marquardt") == (variant.kind == "ours")
        stages = configuration.setup.plan()
        assert tuple(stage.steps for stage in stages) == variant.steps
        if variant.kind != "mlp":
            assert configuration.setup.backbone.grid == experiment.grid
            finest = 0 if variant.name.endswith("coarse") else len(experiment.steps) - 1
            assert stages[-1].level == finest


def test_every_setting_of_a_reading_is_a_valid_one(module):
    for experiment in module("paper_study").EXPERIMENTS.values():
        tried: set[str] = set()
        for reading in reversed(experiment.readings):  # as few as hold every override once
            variant = experiment.variants()[2]
            words = reading.overrides(variant)
            if not tried.issuperset(words):
                validate(compose([*variant.overrides(1.0), *words])[0])
                tried.update(words)


def test_no_two_readings_are_the_same_run(module):
    for experiment in module("paper_study").EXPERIMENTS.values():
        made = [
            (*variant.overrides(1.0), *reading.overrides(variant))
            for reading in experiment.readings
            for variant in experiment.variants()
            if reading.covers(variant) and variant.kind != "default"
        ]
        assert len(set(made)) == len(made)


@pytest.mark.parametrize("name", ["regression", "poisson_interface", "allen_cahn"])
def test_coarse_fine_and_multilevel_cost_the_same(module, name):
    experiment = module("paper_study").EXPERIMENTS[name]
    grids = experiment.grids()
    work = sum(n * s for n, s in zip(grids, experiment.steps, strict=True))
    assert experiment.coarse * grids[0] == pytest.approx(work, rel=1e-3)
    assert experiment.fine * grids[-1] == pytest.approx(work, rel=1e-3)


def test_the_papers_burgers_schedule_gives_the_multilevel_run_less_work_than_the_others(module):
    e = module("paper_study").EXPERIMENTS["burgers"]
    assert e.coarse * e.grids()[0] == e.fine * e.grids()[-1] == 16000
    assert sum(n * s for n, s in zip(e.grids(), e.steps, strict=True)) == 12000


def test_seeds_run_one_after_the_other_over_all_experiments(module):
    paper = module("paper")
    made = paper.tasks(["regression", "burgers"], ["stated"], [], [0, 1])
    assert [task.seed for task in made] == sorted(task.seed for task in made)
    assert {task.experiment.name for task in made if task.seed == 0} == {"regression", "burgers"}
    keys = [task.key for task in made]
    assert len(set(keys)) == len(keys)
    folders = [task.folder(Path("f")) for task in paper.tasks(["regression"], ["all"], [], [0])]
    assert len(set(folders)) == len(folders)


def test_steps_are_scaled_and_never_vanish(module):
    variant = module("paper_study").EXPERIMENTS["burgers"].variants()[2]
    assert "schedule.steps=[80,40,20]" in variant.overrides(0.1)
    assert "schedule.steps=[1,1,1]" in variant.overrides(1e-9)


def test_runs_read_back_as_they_were_written(module, tmp_path):
    paper_run, rows = module("paper_run"), module("rows")
    runs = [run_of(paper_run, "spline fine"), run_of(paper_run, "mlp [2,20,20,1]", 1, relative_l2=math.inf)]
    for run in runs:
        rows.append(tmp_path / "runs.csv", run)
    assert rows.read(tmp_path / "runs.csv", paper_run.Run) == runs


def test_table_shows_the_papers_number_beside_mean_median_and_worst(module):
    paper_run = module("paper_run")
    losses = (1e-5, 2e-5, 9e-5)
    text = table(module, [run_of(paper_run, "spline multilevel", k, loss=x) for k, x in enumerate(losses)])
    row = next(line for line in text.splitlines() if line.startswith("| spline multilevel"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:8] == ["spline multilevel", "1400", "100", "3", "2.4e-05", "4.0e-05", "2.0e-05", "9.0e-05"]


@pytest.mark.parametrize(("coarse", "word"), [(2.1e-2, "**yes**"), (1.9e-2, "**no**"), (None, "not run")])
def test_the_factor_of_twenty_binds(module, coarse, word):
    paper_run = module("paper_run")
    runs = [run_of(paper_run, "spline multilevel"), run_of(paper_run, "spline fine", loss=3e-2)]
    runs += [] if coarse is None else [run_of(paper_run, "spline coarse", loss=coarse)]
    verdict = next(line for line in table(module, runs).splitlines() if "20 ×" in line)
    assert word in verdict


def test_a_run_that_diverged_is_worse_than_any(module):
    paper_run = module("paper_run")
    runs = [run_of(paper_run, f"spline {s}", loss=1.0) for s in ("coarse", "fine")]
    runs.append(run_of(paper_run, "spline multilevel", loss=1e-9, status="diverged"))
    text = table(module, runs)
    assert "1 (1 diverged)" in text
    assert "**no** (multilevel ∞" in text


@pytest.mark.parametrize(("losses", "word"), [("9 3 1 0.3", "**yes**"), ("9 3 2.5 0.3", "**no**")])
def test_every_level_must_be_a_stair(module, losses, word):
    paper_run = module("paper_run")
    run = run_of(paper_run, "spline multilevel", experiment="allen_cahn", losses=losses)
    text = table(module, [run], "allen_cahn")
    assert word in next(line for line in text.splitlines() if line.startswith("- staircase"))


def test_spectrum_of_a_cosine_is_one_line_and_keeps_the_mean_square(module):
    spectrum = module("paper_figures").spectrum
    x = (np.arange(64) + 0.5) / 64  # where the transform's cosines are orthogonal
    values = 3 * np.cos(5 * np.pi * x)[:, None] * np.ones(48)
    k, amplitude = spectrum(values)
    assert amplitude[k == 5] == pytest.approx(3 / math.sqrt(2))
    assert np.abs(amplitude[k != 5]).max() < 1e-12
    noise = np.cos(4 * np.pi * x)[:, None] * np.cos(3 * np.pi * (np.arange(48) + 0.5) / 48) + values
    assert np.sum(spectrum(noise)[1] ** 2) == pytest.approx(np.mean(noise**2))


def test_work_counts_steps_times_intervals(module):
    from types import SimpleNamespace

    data = SimpleNamespace(history={"level": np.array([0, 0, 1, 2])})
    work = module("paper_figures").work(data, module("paper_study").EXPERIMENTS["burgers"])
    assert work.tolist() == [5, 10, 20, 40]


def test_bands_leave_a_flat_spectrum_flat(module):
    k, amplitude = module("paper_figures").bands(np.arange(1, 200), np.full(199, 0.5))
    assert k[0] == pytest.approx(1) and np.all(np.diff(k) > 0)
    np.testing.assert_allclose(amplitude, 0.5)


def test_standard_readings_exist_and_the_first_is_the_papers(module):
    for experiment in module("paper_study").EXPERIMENTS.values():
        names = [reading.name for reading in experiment.readings]
        assert names[0] == "stated"
        assert set(experiment.standard) <= set(names)
