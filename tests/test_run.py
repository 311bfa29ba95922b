"""Whole solves, tiny ones: what a run folder says about itself, how a run may end, and that every choice runs."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kanpinn
from kanpinn.errors import DivergedError, Interrupted, UserError
from kanpinn.run.checkpoints import restore
from kanpinn.run.log import RunLog
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.registry import REGISTRY
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve

TINY = [
    "output.progress=false",
    "output.figures=false",
    "output.points=[12,9]",
    "threads=1",
    "backbone=kan",
    "backbone.width=[3]",
    "sampler.interior=64",
    "sampler.boundary=24",
    "schedule.levels=2",
    "schedule.steps=4",
    "schedule.starts=1",
    "problem.conditions=soft",
]
KEYS = {
    *("schema_version", "status", "problem", "backbone", "schedule", "optimizer", "seed", "parameters", "wall_time_s"),
    *("loss", "relative_l2", "linf", "error_estimate", "levels", "work"),
    *("limited_by", "error_estimate_trusted", "error_estimate_doubt", "error_estimate_by", "warnings"),
}
LEVEL_KEYS = {
    *("level", "grid", "parameters", "optimizer", "steps", "loss", "relative_l2", "wall_time_s", "transfer_gap"),
    *("points", "work", "entered", "correction", "slab", "rollbacks", "change"),
}
CYCLES = ["schedule.cycles=1", "schedule.pre=2", "schedule.post=2", "schedule.coarsest=4"]
NEEDS = {
    "v_cycle": CYCLES,
    "w_cycle": CYCLES,
    "fmg": CYCLES,
    "custom": ["schedule.stages=[{level:0,steps:3},{level:1,steps:2},{level:0,steps:2,optimizer:lbfgs}]"],
    "causal": ["problem=heat"],
    "relaxation": ["optimizer.sweeps=8"],
    "gradient_descent": ["optimizer.lr=1e-6", "optimizer.ramp_from=1e-7", "optimizer.lr_end=1e-7"],
}
"""What a choice needs to make sense in a tiny run."""


def solve(folder: Path, *overrides: str) -> kanpinn.Solution:
    absent = {"v_cycle": ("steps", "starts"), "w_cycle": ("steps", "starts"), "custom": ("levels", "steps", "starts")}
    dropped = [key for name, keys in absent.items() if f"schedule={name}" in overrides for key in keys]
    groups = {o.partition("=")[0] for o in overrides}
    tiny = [o for o in TINY if o.partition("=")[0] not in groups]
    given = [o for o in (*tiny, *overrides) if not o.startswith(tuple(f"schedule.{key}=" for key in dropped))]
    return kanpinn.solve([*given, f"hydra.run.dir={folder}"])


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def history(folder: Path, column: str) -> np.ndarray:
    with h5py.File(folder / "solution.h5") as file:
        return file["history"][column][...]


@pytest.fixture(scope="module")
def poisson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "poisson"
    solve(folder)
    return folder


def test_metrics_have_the_keys_of_the_interface(poisson: Path) -> None:
    m = metrics_of(poisson)
    assert set(m) == KEYS
    assert [set(level) for level in m["levels"]] == [LEVEL_KEYS, LEVEL_KEYS]
    assert (m["schema_version"], m["status"], m["seed"]) == (1, "step_limit", 0)
    assert (m["problem"], m["backbone"], m["schedule"], m["optimizer"]) == (
        "poisson",
        "kan",
        "nested",
        "levenberg_marquardt",
    )
    assert [level["steps"] for level in m["levels"]] == [4, 4]
    assert m["levels"][1]["grid"] == 2 * m["levels"][0]["grid"]
    assert m["parameters"] == m["levels"][1]["parameters"] > m["levels"][0]["parameters"]
    assert m["loss"] == m["levels"][1]["loss"]
    assert m["relative_l2"] == m["levels"][1]["relative_l2"]


def test_metrics_agree_with_the_fields_in_the_file(poisson: Path) -> None:
    m = metrics_of(poisson)
    with h5py.File(poisson / "solution.h5") as file:
        u, x, y = file["u"][...], file["x"][...], file["y"][...]
    assert (len(x), len(y), u.shape) == (12, 9, (9, 12))
    exact = np.sin(np.pi * x)[None, :] * np.sin(np.pi * y)[:, None]
    assert m["relative_l2"]["u"] == pytest.approx(np.linalg.norm(u - exact) / np.linalg.norm(exact), rel=1e-10)
    assert m["linf"]["u"] == pytest.approx(np.abs(u - exact).max(), rel=1e-10)


def test_the_level_change_leaves_the_network_alone(poisson: Path) -> None:
    first, second = (level["transfer_gap"] for level in metrics_of(poisson)["levels"])
    assert first is None
    assert second <= 1e-12


def test_the_history_has_one_row_per_step_and_its_terms_add_up(poisson: Path) -> None:
    assert history(poisson, "step").tolist() == list(range(1, 9))
    assert history(poisson, "level").tolist() == [0] * 4 + [1] * 4
    assert np.all(np.diff(history(poisson, "wall_time")) > 0)
    loss = history(poisson, "loss")
    assert np.allclose(history(poisson, "term_interior") + history(poisson, "term_boundary"), loss, rtol=1e-12)
    assert loss[-1] == pytest.approx(metrics_of(poisson)["loss"], rel=1e-12)
    assert np.all(np.diff(loss[4:]) <= 0)


def test_the_residual_in_the_file_is_that_of_the_equation(poisson: Path) -> None:
    solution = kanpinn.load(poisson)
    with h5py.File(poisson / "solution.h5") as file:
        residual, x, y = file["residual"][...], file["x"][...], file["y"][...]
    mesh = np.stack([a.ravel() for a in np.meshgrid(x, y)], axis=1)
    laplacian = solution.derivative(mesh, "u", "xx") + solution.derivative(mesh, "u", "yy")
    source = -2 * np.pi**2 * np.sin(np.pi * mesh[:, 0]) * np.sin(np.pi * mesh[:, 1])
    assert np.allclose(residual.ravel(), laplacian - source, rtol=0, atol=1e-10 * np.abs(residual).max())


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(poisson: Path, tmp_path: Path) -> None:
    again, other = solve(tmp_path / "again"), solve(tmp_path / "other", "seed=1")
    first = kanpinn.load(poisson)
    assert np.array_equal(again.theta, first.theta)
    assert again.metrics["loss"] == first.metrics["loss"]
    assert not np.allclose(other.theta, first.theta)


def drawn(seed: int, *overrides: str) -> tuple[bytes, bytes]:
    """The parameters and the points that a run begins with."""
    configuration = validate(compose([*TINY, "problem=heat", *overrides, f"seed={seed}"])[0])
    training = SlabSolve(replace(configuration.setup, points=3))
    enter(training, configuration.setup.plan()[0])
    training.resample(training.theta)
    points = training.objective.collocation.by_term()
    return training.theta.numpy().tobytes(), b"".join(points[name].numpy().tobytes() for name in sorted(points))


@pytest.mark.parametrize("name", [name for name in REGISTRY["backbone"] if name != "auto"])
def test_a_seed_draws_the_same_parameters_and_another_seed_others(name: str) -> None:
    first, again, other = (drawn(seed, f"backbone={name}")[0] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("name", REGISTRY["sampler"])
def test_a_seed_draws_the_same_points_and_another_seed_others(name: str) -> None:
    first, again, other = (drawn(seed, f"sampler={name}")[1] for seed in (1, 1, 2))
    assert first == again
    assert (first != other) == (name not in FIXED)


FIXED = ("gauss_legendre", "grid")
"""Samplers whose points are those of a rule."""


def test_a_folder_that_holds_a_run_is_refused_and_stays_as_it_is(poisson: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in poisson.rglob("*")}
    with pytest.raises(UserError, match="already holds a run"):
        solve(poisson)
    assert {file: file.stat().st_mtime_ns for file in poisson.rglob("*")} == before


CHOICES = [(group, name) for group, classes in REGISTRY.items() for name in classes if name != "auto"]
"""All but the network that is chosen by the run, of which `test_auto.py` tells."""


@pytest.mark.parametrize(
    ("group", "name"),
    # tensorboard shows by default that a logger takes a run; the others take seconds to import and to start.
    [pytest.param(g, n, marks=pytest.mark.slow if n in ("wandb", "mlflow") else ()) for g, n in CHOICES],
    ids=[f"{g}={n}" for g, n in CHOICES],
)
def test_every_choice_solves(group: str, name: str, tmp_path: Path) -> None:
    if name in ("wandb", "mlflow"):
        pytest.importorskip(name)
    solution = solve(tmp_path / "run", f"{group}={name}", "schedule.steps=6", "output.points=7", *NEEDS.get(name, []))
    m = solution.metrics
    assert m["status"] in ("step_limit", "converged")
    assert m.get(group, name) == name
    assert np.isfinite(m["loss"])
    loss = history(tmp_path / "run", "loss")
    assert len(loss) == sum(level["steps"] for level in m["levels"])
    assert m["loss"] < loss[0]
    # Coefficients of power-ReLU functions are worth fewer digits (see kanpinn.splines.power_relu).
    most = {"mlp": 0.0, "relu_kan": 1e-8}.get(m["backbone"], 1e-12)
    # A last layer that is solved for has large coefficients that nearly cancel.
    most = max(most, 1e-10) if name == "variable_projection" else most
    gaps = [level["transfer_gap"] for level in m["levels"] if level["entered"] == "refine"]
    assert all(gap <= most for gap in gaps) if m["backbone"] != "mlp" else gaps == [None]
    lengths = [level["correction"] for level in m["levels"]]
    assert [length is not None for length in lengths] == [level["entered"] == "correct" for level in m["levels"]]
    assert m["work"] == sum(level["work"] for level in m["levels"]) > 0
    assert m["wall_time_s"] >= sum(level["wall_time_s"] for level in m["levels"])
    restored, theta, _ = restore(tmp_path / "run")
    assert np.array_equal(theta, solution.theta)
    assert restored.backbone.size == m["parameters"]


PROBLEMS = [
    ("burgers", "soft"),
    ("allen_cahn", "exact"),
    ("heat", "exact"),
    ("wave", "soft"),
    ("advection", "soft"),
    ("helmholtz", "exact"),
    ("poisson_nd", "exact"),
    ("poisson_lshape", "soft"),
]


@pytest.mark.parametrize(("problem", "conditions"), PROBLEMS)
def test_problems_with_both_kinds_of_conditions_solve(problem: str, conditions: str, tmp_path: Path) -> None:
    overrides = [f"problem={problem}", f"problem.conditions={conditions}", "schedule.levels=1", "output.points=7"]
    solution = solve(tmp_path / "run", *overrides)
    assert solution.metrics["loss"] < history(tmp_path / "run", "loss")[0] or solution.metrics["loss"] == 0
    with h5py.File(tmp_path / "run" / "solution.h5") as file:
        names = set(file["points"])
    soft = {c.name for c in solution.problem.conditions() if not (c.periodic or c.symmetry)}
    assert names == {"interior"} | (soft if conditions == "soft" else set())


def test_float32_is_used_throughout_and_said(tmp_path: Path) -> None:
    solution = solve(tmp_path / "run", "dtype=float32")
    assert str(solution.theta.dtype) == "torch.float32"
    with h5py.File(tmp_path / "run" / "solution.h5") as file:
        assert file.attrs["dtype"] == "float32"
    assert solution.metrics["levels"][1]["transfer_gap"] <= 1e-4
    points = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    assert np.array_equal(kanpinn.load(tmp_path / "run")(points)["u"], solution(points)["u"])


def test_a_tolerance_ends_every_level_and_the_run_has_converged(tmp_path: Path) -> None:
    m = solve(tmp_path / "run", "schedule.tolerance=1e9").metrics
    assert m["status"] == "converged"
    assert [level["steps"] for level in m["levels"]] == [1, 1]


def test_a_plateau_ends_a_level(tmp_path: Path) -> None:
    rule = ["schedule.plateau=0.9999999", "schedule.patience=2", "sampler.resample_every=0"]
    m = solve(tmp_path / "run", *rule, "schedule.steps=50").metrics
    assert m["status"] == "step_limit" and m["limited_by"].startswith("stalled: the loss no longer falls")
    assert all(level["steps"] < 10 for level in m["levels"])


def test_the_time_limit_ends_the_run_with_its_state_written(tmp_path: Path) -> None:
    began = time.perf_counter()
    solution = solve(tmp_path / "run", "time_limit_s=0.5", "schedule.steps=100000", "optimizer=adam")
    assert solution.metrics["status"] == "time_limit"
    assert 0.5 <= solution.metrics["wall_time_s"] < 5
    assert time.perf_counter() - began < 15
    assert np.array_equal(kanpinn.load(tmp_path / "run").theta, solution.theta)


def test_a_time_limit_that_is_over_at_once_still_writes_a_run(tmp_path: Path) -> None:
    m = solve(tmp_path / "run", "time_limit_s=1e-6").metrics
    assert m["status"] == "time_limit"
    assert np.isfinite(m["loss"])


@pytest.mark.parametrize("rate", ["1e200", "1e5"])
def test_divergence_is_told_and_the_best_state_is_written(rate: str, tmp_path: Path) -> None:
    overrides = ["optimizer=adam", f"optimizer.lr={rate}", "optimizer.ramp_steps=0", "optimizer.decay=none"]
    overrides += ["schedule.levels=1", "schedule.steps=200", "backbone.squash=none", "backbone.width=[3,3,3,3,3]"]
    with pytest.raises(DivergedError, match="the best state so far is in"):
        solve(tmp_path / "run", *overrides)
    m = metrics_of(tmp_path / "run")
    assert m["status"] == "diverged"
    # The random start is at least as good as whatever the steps made of it; after going back, on points drawn anew.
    assert m["loss"] is not None
    assert m["loss"] <= history(tmp_path / "run", "loss")[0] * 1.1
    assert bool(kanpinn.load(tmp_path / "run").theta.isfinite().all())


def test_resampling_changes_the_points_and_not_resampling_does_not(tmp_path: Path) -> None:
    # A seeded rule that never moved on would draw the same points again.
    def points(name: str, *overrides: str) -> np.ndarray:
        solve(tmp_path / name, "schedule.levels=1", *overrides)
        with h5py.File(tmp_path / name / "solution.h5") as file:
            return np.stack([file["points/interior"][c][...] for c in ("x", "y")])

    fixed = points("fixed", "sampler.resample_every=0")
    late = points("late", "sampler.resample_every=100")
    fresh = points("fresh", "sampler.resample_every=2")
    fresher = points("fresher", "sampler.resample_every=1")
    assert np.array_equal(fixed, late)
    assert not np.isin(fresh[0], fixed[0]).any()
    assert not np.isin(fresher[0], fresh[0]).any()


def test_points_grow_with_the_level(tmp_path: Path) -> None:
    solve(tmp_path / "run", "sampler=uniform", "sampler.growth=2.5")
    with h5py.File(tmp_path / "run" / "solution.h5") as file:
        assert len(file["points/interior/x"]) == 160
        assert len(file["points/boundary/x"]) == 60


def test_of_several_starts_the_best_goes_on(tmp_path: Path) -> None:
    overrides = ["schedule.levels=1", "schedule.steps=1", "schedule.start_steps=6", "sampler=grid"]
    solve(tmp_path / "run", *overrides, "schedule.starts=4")
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in log if " start " in line]
    assert len(losses) == 4
    assert len(set(losses)) == 4
    loss = history(tmp_path / "run", "loss")
    assert len(loss) == 7
    assert loss[5] == pytest.approx(min(losses), rel=1e-3)
    assert loss[6] <= loss[5] * (1 + 1e-12)


def test_the_first_start_is_the_only_one_of_a_single_start(tmp_path: Path) -> None:
    overrides = ["schedule.levels=1", "schedule.steps=1", "schedule.start_steps=1", "sampler=grid"]
    solve(tmp_path / "one", *overrides)
    solve(tmp_path / "three", *overrides, "schedule.starts=3")
    log = (tmp_path / "three" / "log.txt").read_text().splitlines()
    first = next(float(line.split("loss ")[1].split(",")[0]) for line in log if " start 1" in line)
    assert history(tmp_path / "one", "loss")[0] == pytest.approx(first, rel=1e-3)


def started(command: list[str], folder: Path, sign: str) -> subprocess.Popen[str]:
    """Start Python with a command, and wait half a second longer than until such a file is in the run folder."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *command], cwd=folder.parent, env=environment, **pipes)
    deadline = time.monotonic() + 60
    while not list(folder.glob(sign)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_after_its_state_is_written(number: int, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = [*TINY, "schedule.steps=1000000", "optimizer=adam", "checkpoint.every_s=0.2", f"hydra.run.dir={folder}"]
    process = started(["-m", "kanpinn", "solve", *overrides], folder, "checkpoints/*.h5")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert metrics_of(folder)["status"] == "interrupted"
    solution = kanpinn.load(folder)
    with h5py.File(folder / "solution.h5") as file:
        grid = np.stack([a.ravel() for a in np.meshgrid(file["x"][...], file["y"][...])], axis=1)
        assert np.array_equal(solution(grid)["u"], file["u"][...].ravel())


@pytest.mark.slow
def test_a_second_signal_ends_the_run_at_once_and_all_files_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # One step takes longer than anybody waits: the first signal asks for its end, the second does not wait for it.
    overrides = [*TINY, "schedule.steps=1000000", "checkpoint.every_s=0", f"hydra.run.dir={folder}"]
    slow = (
        "import sys, time; from kanpinn.optimizers import LevenbergMarquardt as M; from kanpinn.cli.main import main; "
        "step = M.step; M.step = lambda *a: (M.n < 3 or time.sleep(100), setattr(M, 'n', M.n + 1), step(*a))[2]; "
        "M.n = 0; sys.exit(main(['solve', *sys.argv[1:]]))"
    )
    process = started(["-c", slow, *overrides], folder, "checkpoints/checkpoint_00004.h5")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert any("stopping after this step" in line for line in process.stderr)
    assert process.poll() is None
    time.sleep(1.5)  # at once, it would be the same wish
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == -signal.SIGTERM
    process.communicate()
    assert sorted(file.name for file in folder.iterdir() if file.name != ".lock") == [
        "checkpoints",
        "config.yaml",
        "log.txt",
    ]
    assert not list(folder.rglob("*.tmp"))
    assert np.isfinite(kanpinn.load(folder)([[0.5, 0.5]])["u"]).all()


def test_a_signal_after_the_end_leaves_a_run_that_has_ended_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        drawn.append(folder)

    monkeypatch.setattr("kanpinn.run.run.draw", draw)
    m = solve(tmp_path / "run", "output.figures=true").metrics
    assert drawn == [tmp_path / "run"]
    assert m["status"] == metrics_of(tmp_path / "run")["status"] == "step_limit"


def test_an_interrupted_run_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pending = [signal.SIGINT]
    monkeypatch.setattr(
        "kanpinn.run.watch.RunWatch.level_done", lambda *_: pending and os.kill(os.getpid(), pending.pop())
    )
    with pytest.raises(Interrupted):
        solve(tmp_path / "run")
    out = capsys.readouterr().out
    assert f"interrupted (stopped by a signal; the state reached is written, `kanpinn resume {tmp_path}/run`" in out
    assert f"folder: {tmp_path}/run" in out


def test_a_log_that_is_no_text_or_huge_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"first\n\xff\xfe\nlast\n")
    RunLog(path).add("more")
    assert path.read_text() == "first\n\ufffd\ufffd\nlast\nmore\n"
    monkeypatch.setattr("kanpinn.run.log.LARGEST_LOG", 12)
    RunLog(path).add("end")
    assert path.read_text() == "… the first 11 bytes are left out\nlast\nmore\nend\n"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone.degree=2"], r"backbone\.degree=2: expected at least 3"),
        (
            ["sampler.interior=[10,20,30]"],
            r"sampler\.interior=\[10,20,30\]: expected one number of points per level, 2",
        ),
        (
            ["schedule.levels=12", "backbone.grid=100000"],
            r"schedule\.levels=12 with backbone\.grid=100000: about .* GiB",
        ),
        (["weighting.terms.bondary=2.0"], r"weighting\.terms=bondary: unknown\. Did you mean 'boundary'\?"),
        (["output.points=[3,3,3]"], r"output\.points=\[3, 3, 3\]: expected one number, or 2"),
    ],
)
def test_bad_combinations_are_refused_before_anything_is_written(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    tiny = [text for text in TINY if text.partition("=")[0] != overrides[0].partition("=")[0]]
    with pytest.raises(UserError, match=message):
        kanpinn.solve([*tiny, *overrides, f"hydra.run.dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


def test_a_run_that_ends_below_a_waiting_level_returns_to_it(tmp_path: Path) -> None:
    stages = "schedule.stages=[{level:1,steps:3},{level:0,steps:4}]"
    m = solve(tmp_path / "run", "schedule=custom", stages).metrics
    assert [(level["level"], level["entered"]) for level in m["levels"]] == [
        (1, "start"),
        (0, "restrict"),
        (1, "correct"),
    ]
    assert m["parameters"] == m["levels"][0]["parameters"] > m["levels"][1]["parameters"]
    assert m["loss"] == m["levels"][2]["loss"]
    restored, _, _ = restore(tmp_path / "run")
    assert restored.backbone.size == m["parameters"]


@pytest.mark.parametrize("coarse", ["galerkin", "fas"])
def test_on_fixed_points_cycles_never_raise_the_loss(coarse: str, tmp_path: Path) -> None:
    chosen = ["schedule=v_cycle", f"schedule.coarse={coarse}", *CYCLES, "schedule.cycles=4", "sampler=sobol"]
    m = solve(tmp_path / "run", *chosen, "sampler.resample_every=0", "schedule.post=0", "schedule.pre=0").metrics
    finest = [level["loss"] for level in m["levels"] if level["level"] == 1]
    assert len(finest) == 5
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(finest))
    lengths = [level["correction"] for level in m["levels"] if level["correction"] is not None]
    assert len(lengths) == 4 and max(lengths) > 0  # refusing everything would not be hard


def test_each_level_has_the_optimizer_asked_for(tmp_path: Path) -> None:
    m = solve(tmp_path / "run", "schedule.optimizers=[{name:adam,lr:1e-3},lbfgs]").metrics
    assert [level["optimizer"] for level in m["levels"]] == ["adam", "lbfgs"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.optimizers=[lbgs]"], "schedule.optimizers=lbgs: unknown. Did you mean 'lbfgs'"),
        (["schedule.optimizers=[{name:adam,lrr:1}]"], "schedule.optimizers.lrr=1: unknown key. Did you mean"),
        (
            ["schedule=custom", "schedule.stages=[{level:0,steps:1,optimizer:lbgs}]"],
            "stages[0].optimizer=lbgs: unknown",
        ),
        (["schedule=custom", "schedule.stages=[{level:0,steps:1,optimizer:{}}]"], "stages[0].optimizer={}: expected"),
        (["schedule.optimizers=[{lr:1}]"], "schedule.optimizers={lr:1}: expected the name of an optimizer"),
        (["schedule=v_cycle", "backbone=mlp"], "schedule=v_cycle: backbone=mlp has no coarser levels"),
        (["backbone=mlp", "optimizer=adam", "optimizer.gradient=relu"], "optimizer.gradient=relu: expected spline"),
    ],
)
def test_senseless_combinations_are_refused_before_a_folder_is_made(overrides, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        solve(tmp_path / "run", *overrides)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "levenberg_marquardt", "gradient_descent"])
def test_optimizer_state_is_carried_over_any_number_of_levels(optimizer: str, tmp_path: Path) -> None:
    stages = "schedule.stages=[{level:0,steps:3},{level:2,steps:3},{level:0,steps:3},{level:2,steps:2}]"
    chosen = ["schedule=custom", stages, "schedule.optimizer_state=transfer", f"optimizer={optimizer}"]
    m = solve(tmp_path / "run", *chosen, *NEEDS.get(optimizer, [])).metrics
    assert [level["level"] for level in m["levels"]] == [0, 1, 2, 1, 0, 1, 2]
    assert np.isfinite(m["loss"])


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_coarse_problem_that_diverges_is_refused_and_the_run_goes_on(tmp_path: Path) -> None:
    wild = "{name:gradient_descent,lr:1e200,ramp_steps:0,decay:none}"
    chosen = ["schedule=v_cycle", *CYCLES, f"schedule.optimizers=[{wild},levenberg_marquardt]"]
    m = solve(tmp_path / "run", *chosen, "sampler.growth=1", "sampler.resample_every=0").metrics
    assert m["status"] == "step_limit"
    assert [level["correction"] for level in m["levels"]] == [None, None, 0.0]
    assert m["levels"][2]["loss"] < m["levels"][0]["loss"]


def test_tolerances_do_not_apply_to_a_loss_that_may_be_negative(tmp_path: Path) -> None:
    chosen = ["schedule=v_cycle", *CYCLES, "schedule.coarse=fas", "schedule.tolerance=1e-9", "optimizer=lbfgs"]
    levels = solve(tmp_path / "run", *chosen).metrics["levels"]
    assert [level["steps"] for level in levels if level["level"] == 0] == [4]


def test_points_that_are_never_drawn_anew_stay_on_all_levels(tmp_path: Path) -> None:
    fixed = ["sampler=uniform", "sampler.resample_every=0", "sampler.growth=1"]
    points = []
    chosen = {"nested": [], "cycles": ["schedule=v_cycle", *CYCLES], "coarse": ["schedule=single", "schedule.levels=1"]}
    for name, words in chosen.items():
        levels = solve(tmp_path / name, *fixed, *words).metrics["levels"]
        assert levels[0]["points"] == levels[-1]["points"]
        with h5py.File(tmp_path / name / "solution.h5") as file:
            points.append(file["points/interior/x"][...])
    assert np.array_equal(points[0], points[1]) and np.array_equal(points[0], points[2])


def test_a_loss_that_ends_far_above_its_first_value_has_diverged(tmp_path: Path) -> None:
    wild = ["optimizer=gradient_descent", "optimizer.lr=1e2", "optimizer.ramp_steps=0", "optimizer.decay=none"]
    with pytest.raises(DivergedError, match="far above the first one"):
        solve(tmp_path / "run", *wild, "schedule.levels=1", "schedule.steps=3")
    m = metrics_of(tmp_path / "run")
    assert m["status"] == "diverged"
    assert m["loss"] < 10 * history(tmp_path / "run", "loss")[0]  # the best state is what is written


def test_discarded_starts_count_as_work(tmp_path: Path) -> None:
    starts = ["schedule.starts=3", "schedule.start_steps=4"]
    m, plain = (solve(tmp_path / name, *words).metrics for name, words in (("starts", starts), ("plain", [])))
    each = plain["levels"][0]["work"] / 4
    assert m["levels"][0]["work"] == pytest.approx((3 * 4 + 4) * each)


def test_a_stage_optimizer_starts_from_its_config_and_the_problems_recommendations() -> None:
    from kanpinn.settings.compose import compose
    from kanpinn.settings.config import validate

    def chosen(*words: str) -> Any:
        return validate(compose(["experiment=paper_burgers", *words])[0]).setup.plan()[0].optimizer

    assert chosen("optimizer=levenberg_marquardt", "schedule.optimizers=[adam]").lr == 1e-3
    found = chosen("optimizer=levenberg_marquardt", "schedule.optimizers=[{name:adam,period:7}]")
    assert (found.decay, found.period) == ("cyclic", 7)
    assert chosen("optimizer.lr=0.5", "schedule.optimizers=[{name:adam,period:7}]").lr == 0.5
