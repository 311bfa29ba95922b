"""The benchmarks: what they compare agrees, and their verdict is that of the floors."""

from __future__ import annotations

import importlib
import math
import types
from pathlib import Path

import pytest

from kanpinn.places import problem_names

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def run_of(defaults: types.ModuleType, seed: int = 0, **changes):
    counts = {"exit_code": 0, "parameters": 840, "cores": 2, "threads": 2}
    errors = {"relative_l2": 1e-7, "linf": 1e-7, "transfer_gap": 1e-15}
    costs = {"wall_s": 20.0, "cpu_s": 20.0, "peak_mib": 500.0, "load": None}
    texts = {"overrides": "", "status": "step_limit", "cpu": 'a, "b"', "torch": "2", "sources": "0"}
    values = {"problem": "poisson", "backbone": "kan", "seed": seed, "date": "2026-01-01T00:00:00+00:00"}
    values |= counts | errors | costs | texts
    return defaults.Run(**(values | changes))


def test_every_packaged_problem_has_a_floor(module):
    assert sorted(module("table").PROBLEMS) == problem_names()


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
        ({"relative_l2": 2e-6}, "error"),
        ({"relative_l2": math.nan}, "error"),
        ({"wall_s": 31.0}, "seconds"),
        ({"peak_mib": 2049.0}, "memory"),
        ({"transfer_gap": 1e-11}, "transfer gap"),
        ({"transfer_gap": math.nan}, "transfer gap"),
        ({"exit_code": 3}, "3 failed"),
    ],
)
def test_each_floor_binds(module, changes, missed):
    defaults = module("defaults")
    runs = [run_of(defaults, seed, **changes) for seed in range(3)]
    text, passed = module("table").markdown(runs, ["poisson"], "kan", range(3))
    assert passed == (not missed)
    assert f"MISSED: {missed}" in text if missed else "| pass |" in text


def test_one_bad_seed_of_three_misses_the_spread_and_not_the_error(module):
    defaults = module("defaults")
    runs = [run_of(defaults, seed, relative_l2=1e-7 if seed else 2.1e-6) for seed in range(3)]
    text, passed = module("table").markdown(runs, ["poisson"], "kan", range(3))
    assert "| MISSED: spread |" in text
    assert not passed


def test_a_seed_that_was_not_run_is_missed(module):
    text, passed = module("table").markdown([run_of(module("defaults"))], ["poisson"], "kan", [0, 1])
    assert "| MISSED: 1 of 2 seeds not run |" in text
    assert not passed


def test_no_error_floor_binds_a_rival(module):
    rival = run_of(module("defaults"), backbone="mlp", relative_l2=0.1, transfer_gap=math.nan)
    assert module("table").markdown([rival], ["poisson"], "mlp", [0])[1]


def test_runs_read_back_as_they_were_written(module, tmp_path):
    defaults = module("defaults")
    runs = [run_of(defaults), run_of(defaults, 1, load=0.5, overrides="a=1 b=[1,2]")]
    for run in runs:
        defaults.append(tmp_path / "runs.csv", run)
    assert defaults.read(tmp_path / "runs.csv") == runs


def test_a_failed_run_has_no_numbers(module, tmp_path):
    found = module("defaults").outcome(tmp_path)
    assert found["status"] == "failed"
    assert all(math.isnan(found[name]) for name in ("relative_l2", "linf", "transfer_gap"))
