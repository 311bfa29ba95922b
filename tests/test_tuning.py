"""Search: the space in Hydra's words, trials recorded whatever comes of them, and going on."""

import csv
import math
import os
import shlex
import signal
import sys
import time
import types

import pytest

from kanpinn.errors import UserError
from kanpinn.io.lock import run_lock
from kanpinn.settings.compose import parse
from kanpinn.sweep.space import points, space, words_of
from kanpinn.sweep.study import Search, open_study
from kanpinn.sweep.tuning import Watch

distributions = pytest.importorskip("optuna.distributions")

TINY = [
    *("problem=poisson", "backbone=kan", "backbone.width=[2]", "schedule.levels=1", "schedule.steps=2"),
    *("schedule.starts=1", "sampler.interior=16", "sampler.boundary=8", "output.points=5", "output.figures=false"),
    *("output.progress=false", "threads=1"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k=range(3,9)", distributions.IntDistribution(3, 8)),
        ("k=range(2,9,2)", distributions.IntDistribution(2, 8, step=2)),
        ("k=interval(0.5,2)", distributions.FloatDistribution(0.5, 2)),
        ("k=int(interval(3,8))", distributions.IntDistribution(3, 8)),
        ("k=tag(log,interval(1e-6,1e-1))", distributions.FloatDistribution(1e-6, 1e-1, log=True)),
        ("k=kan,mlp", distributions.CategoricalDistribution(["kan", "mlp"])),
        ("k=choice([5,5],[8,8])", distributions.CategoricalDistribution(["[5,5]", "[8,8]"])),
    ],
)
def test_the_space_is_what_hydras_words_say(text, expected):
    assert space(parse([text, "seed=1"])) == {"k": expected}


@pytest.mark.parametrize(
    "text", ["k=interval(2,1)", "k=tag(log,interval(0,1))", "k=tag(lgo,interval(1,2))", "k=range(5,5)"]
)
def test_an_impossible_space_is_refused(text):
    with pytest.raises(UserError, match="k="):
        space(parse([text]))


def test_words_take_one_value_each():
    assert words_of(parse(["a=1,2", "b=x", "c=interval(0,1)"]), {"a": "2", "c": 0.1}) == ["a=2", "b=x", "c=0.1"]


def test_the_time_to_an_error_is_that_of_the_first_step_below_it():
    watch = Watch(lambda *_: False, 1e-2)
    for k, error in enumerate([1.0, 1e-2, 1e-3]):
        watch.step(k, {"wall_time": float(k), "relative_l2_u": error, "relative_l2_v": error / 2})
    assert watch.seconds == 1.0
    assert Watch(lambda *_: False, 1e-9).seconds == math.inf


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["seed=1"], "nothing to search"),
        (["seed=range(0,3)", "--trials", "0"], "--trials=0"),
        (["seed=range(0,3)", "--objective", "seconds"], "--error"),
        (["seed=range(0,3)", "--study", "../x"], "--study ../x"),
        (["backbone.gird=range(0,3)"], "backbone.gird"),
        (["seed=range(-2,3)"], "seed=-2"),
        (["problem=poison", "seed=range(0,3)"], "poison"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(argv, words, kanpinn, folder):
    result = kanpinn("tune", *argv)
    assert (result.code, result.err.count("\n"), list(folder.iterdir())) == (2, 1, [])
    assert words in result.err


@pytest.mark.slow
def test_a_study_goes_on_and_its_best_trial_is_a_command(kanpinn, folder):
    call = ["tune", *TINY, "backbone.grid=range(2,4)", "optimizer.damping=tag(log,interval(1e-3,1e-1))"]
    assert kanpinn(*call, "--trials", "1").code == 0
    result = kanpinn(*call, "--trials", "3")
    assert result.code == 0, result.err
    with (folder / "outputs/tune/study/summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["folder"] for row in rows] == ["0", "1", "2"]
    assert [row["value"] for row in rows] == [row["relative_l2_u"] for row in rows]
    best = min(rows, key=lambda row: float(row["value"]))
    command = shlex.split(result.out.splitlines()[-1])
    assert command[:2] == ["kanpinn", "solve"]
    assert f"optimizer.damping={best['optimizer.damping']}" in command
    again = kanpinn(*command[1:], "hydra.run.dir=again")
    assert again.code == 0
    assert f"relative L2 error {float(best['value']):.2e}" in again.out
    other = kanpinn(*call, "seed=1")
    assert (other.code, "another name" in other.err) == (2, True)


SENT = {"number": signal.SIGINT}


@pytest.fixture
def quick(monkeypatch):
    """Replace the run by one that costs nothing; returns the values tried. For 99 it gets the signal in `SENT`."""
    seen = []

    def run(cfg, folder, observers=()):
        seen.append(cfg.seed)
        if cfg.seed == 99:
            os.kill(os.getpid(), SENT["number"])
            time.sleep(10)
        return types.SimpleNamespace(metrics={"relative_l2": {"u": 1.0 + cfg.seed}, "loss": 1.0})

    module = types.ModuleType("kanpinn.run.run")
    module.run = run
    monkeypatch.setitem(sys.modules, "kanpinn.run.run", module)
    return seen


def test_no_point_is_tried_twice_and_a_finite_space_comes_to_an_end(kanpinn, folder, quick):
    result = kanpinn("tune", *TINY, "seed=4,5", "--trials", "7")
    assert (result.code, sorted(quick)) == (0, [4, 5]), result.err
    assert "all 2 points of the space are tried" in result.out
    assert "seed=4" in result.out.splitlines()[-1]
    assert (kanpinn("tune", *TINY, "seed=4,5", "--trials", "8").code, len(quick)) == (0, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_writes_the_tables_and_the_trial_does_not_count(number, kanpinn, folder, quick, monkeypatch):
    """As in the installed command, where SIGINT would end the process without a word."""
    monkeypatch.setitem(SENT, "number", number)
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    warning = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        call = ["tune", *TINY, "seed=99", "dtype=float64,float32", "--trials", "1"]
        assert kanpinn(*call).code == 128 + number
        with (folder / "outputs/tune/study/summary.csv").open(newline="") as stream:
            assert [row["status"] for row in csv.DictReader(stream)] == ["interrupted"]
        assert len(quick) == 1
        assert kanpinn(*call).code == 128 + number  # it is made up for, so there is a second one
        assert len(quick) == 2
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGUSR1, warning)


@pytest.mark.slow
def test_trials_of_a_dead_process_are_made_up_for(kanpinn, folder, quick):
    call = ["tune", *TINY, "seed=4,5,6", "--trials", "2"]
    assert kanpinn(*call).code == 0
    plan = Search([], folder / "outputs/tune/study", 2)
    study = open_study(plan, space(parse(["seed=4,5,6"])))
    study.ask(space(parse(["seed=4,5,6"])))
    assert kanpinn(*call).code == 0
    assert len(quick) == 2  # two good ones are there
    result = kanpinn(*call[:-1], "3")
    assert (result.code, sorted(quick)) == (0, [4, 5, 6])
    with (folder / "outputs/tune/study/summary.csv").open(newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream)][2] == "killed"


def test_a_study_has_one_search_at_a_time(kanpinn, folder, quick):
    (folder / "outputs/tune/study").mkdir(parents=True)
    with run_lock(folder / "outputs/tune/study"):
        result = kanpinn("tune", *TINY, "seed=4,5", "--trials", "1")
    assert (result.code, result.err.count("\n"), quick) == (2, 1, [])
    assert "outputs/tune/study" in result.err


def test_points_are_the_products_of_the_values():
    found = points(space(parse(["a=range(0,3)", "b=x,y"])))
    assert found == [{"a": a, "b": b} for a in (0, 1, 2) for b in ("x", "y")]
    assert points(space(parse(["a=range(0,3)", "b=interval(0,1)"]))) is None
    assert points(space(parse(["a=range(0,3000)", "b=range(0,3000)"]))) is None
