"""Sweeps: every job accounted for whatever comes of it, no two in one folder, and a way to go on."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from omegaconf import OmegaConf

from kanpinn.errors import UserError
from kanpinn.io.check import check
from kanpinn.io.lock import run_lock
from kanpinn.settings.compose import LAUNCHERS, parse, quoted
from kanpinn.sweep.job import _run
from kanpinn.sweep.launch import SweepOptions, at_a_time, cores, threads
from kanpinn.sweep.ledger import Job, Ledger, at_work, birth, free_folder
from kanpinn.sweep.plan import combinations

TINY = [
    *("backbone.width=[2]", "schedule.levels=1", "schedule.steps=2", "schedule.starts=1", "sampler.interior=16"),
    *("sampler.boundary=8", "output.points=5", "output.figures=false"),
]

DEADLY = '''
import os
from dataclasses import dataclass
from pathlib import Path
from kanpinn.geometry import Box
from kanpinn.pde import Condition, Problem


@dataclass(frozen=True)
class Deadly(Problem):
    """Decay u_t + u = 0 that kills a process in its first step: 1 its own, 2 that of the worker above it, 3 waits."""

    victim: int = 0
    domain = Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        if self.victim and Path("armed").exists() and p.t.shape[0] > 7:
            if self.victim == 3:
                Path("waiting").touch()
                __import__("time").sleep(600)
            os.kill(os.getpid() if self.victim == 1 else os.getppid(), 9)
            __import__("time").sleep(1)  # one step; the signal that follows is obeyed after it
        return p.u_t + p.u

    def conditions(self):
        return [Condition("initial", "t-", lambda p: p.u - 1)]

    def reference(self, p):
        return (-p.t).exp()
'''


def command(*argv, cwd, timeout=240):
    return subprocess.run(
        [sys.executable, "-m", "kanpinn", "solve", "-m", *argv],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def agrees_with_its_files(sweep: Path) -> list[str]:
    """Check every number of the three summaries against the run folders; returns the column of statuses."""
    rows = rows_of(sweep)
    assert check(sweep / "summary.h5") == []
    with h5py.File(sweep / "summary.h5") as file:
        for k, row in enumerate(rows):
            for name in row:
                value = file[name][k]
                if isinstance(value, bytes):
                    assert value.decode() == row[name], name
                elif row[name]:
                    assert float(value) == float(row[name]), name
                else:
                    assert np.isnan(value), name
    measured = 0
    for row in rows:
        metrics = sweep / row["folder"] / "metrics.json"
        if row["status"] in ("refused", "killed", "missing"):
            assert row["reason"] or row["status"] == "missing"
            continue
        measured += 1
        content = json.loads(metrics.read_text())
        for name in ("problem", "backbone", "schedule", "optimizer", "status"):
            assert row[name] == content[name]
        for name in ("seed", "parameters", "loss", "work", "wall_time_s"):
            assert float(row[name]) == content[name]
        for norm in ("relative_l2", "linf"):
            for unknown, value in content[norm].items():
                assert float(row[f"{norm}_{unknown}"]) == value
    assert measured
    markdown = (sweep / "summary.md").read_text().splitlines()
    assert len(markdown) == 2 + len(rows)
    for line, row in zip(markdown[2:], rows, strict=True):
        assert line.startswith(f"| {row['job']} | {row['folder']} | {row['status']} |")
    return [row["status"] for row in rows]


@pytest.fixture
def deadly(tmp_path):
    """A folder with the problem that kills, armed."""
    (tmp_path / "problems").mkdir()
    (tmp_path / "conf/problem").mkdir(parents=True)
    (tmp_path / "problems/deadly.py").write_text(DEADLY)
    (tmp_path / "conf/problem/deadly.yaml").write_text("name: deadly\nvictim: 0\n")
    (tmp_path / "armed").touch()
    return tmp_path


@pytest.mark.slow
def test_two_jobs_at_a_time_one_of_them_killed_then_resumed(deadly, kanpinn):
    sweep = ["problem=deadly", "backbone=kan", "problem.victim=1,0", *TINY, "hydra.sweep.dir=s"]
    done = command(*sweep, "sweep.jobs=2", cwd=deadly)
    assert done.returncode == 1, done.stderr
    assert agrees_with_its_files(deadly / "s") == ["killed", "step_limit"]
    assert "signal 9" in rows_of(deadly / "s")[0]["reason"]
    assert "job 0: killed: killed by signal 9" in done.stderr
    assert "leaked" not in done.stderr
    # half of the cores each, in torch itself
    assert f"threads={max(1, cores() // 2)}" in (deadly / "s/1/log.txt").read_text().splitlines()[1]
    before = (deadly / "s/1/metrics.json").stat().st_mtime_ns
    (deadly / "armed").unlink()
    again = kanpinn("solve", "-m", *sweep, "sweep.resume=true")
    assert again.code == 0, again.err
    assert agrees_with_its_files(deadly / "s") == ["step_limit", "step_limit"]
    assert [row["folder"] for row in rows_of(deadly / "s")] == ["0", "1"]
    assert "resumed from the beginning" in (deadly / "s/0/log.txt").read_text()
    assert (deadly / "s/1/metrics.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_killed_worker_is_survived_too(deadly):
    sweep = ["problem=deadly", "backbone=kan", "problem.victim=2,0", *TINY, "seed=0,1", "sweep.jobs=2"]
    done = command(*sweep, "hydra.sweep.dir=s", cwd=deadly)
    assert done.returncode not in (0, 2), done.stderr
    statuses = agrees_with_its_files(deadly / "s")
    assert not {"running", "missing"} & set(statuses), done.stderr
    assert statuses[0] != "step_limit"
    assert statuses[2:] == ["step_limit", "step_limit"]
    assert "TerminatedWorkerError" in done.stderr
    (deadly / "armed").unlink()
    assert command(*sweep, "hydra.sweep.dir=s", "sweep.resume=true", cwd=deadly).returncode == 0
    assert agrees_with_its_files(deadly / "s") == ["step_limit"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL])
def test_a_signal_ends_a_parallel_sweep_with_its_states_written(number, tmp_path):
    """Also SIGKILL: the workers end soon by themselves, and hold stderr no longer."""
    argv = ["problem=poisson", "backbone=kan", *TINY, "schedule.steps=1000000", "seed=0,1,2", "sweep.jobs=2"]
    argv += ["checkpoint.every_s=0.2", "hydra.sweep.dir=s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kanpinn", "solve", "-m", *argv],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # whoever runs the tests by nohup
    )
    try:
        for _ in range(600):
            if all(list(tmp_path.glob(f"s/{k}/checkpoints/*.h5")) for k in (0, 1)):
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), err
    assert "Traceback" not in err
    assert agrees_with_its_files(tmp_path / "s") == ["interrupted", "interrupted", "missing"]


@pytest.mark.slow
@pytest.mark.parametrize("screen", [">&- 2>&-", ">/dev/full 2>/dev/full", "2>&1 | true"])
def test_jobs_beside_each_other_need_no_screen_and_no_figures(screen, tmp_path):
    argv = ["problem=heat", *TINY[1:], "output.figures=true", "seed=0,1", "sweep.jobs=2", "hydra.sweep.dir=s"]
    line = f"{sys.executable} -m kanpinn solve -m {' '.join(argv)} {screen}; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "MPLBACKEND": "module://no_such.backend"}
    assert subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, timeout=240).returncode == 0
    assert agrees_with_its_files(tmp_path / "s") == ["step_limit", "step_limit"]
    assert all((tmp_path / f"s/{k}/figures/solution_u.png").is_file() for k in (0, 1))


def test_a_job_whose_figures_fail_is_done(kanpinn, folder, monkeypatch):
    monkeypatch.setattr("kanpinn.plots.plot_all", lambda *_, **__: 1 / 0)
    sweep = ["solve", "-m", "problem=heat", *TINY[1:], "output.figures=true", "seed=0,1", "hydra.sweep.dir=s"]
    first = kanpinn(*sweep)
    assert (first.code, first.err.count("the figures are not drawn (ZeroDivisionError")) == (0, 2)
    before = (folder / "s/0/metrics.json").stat().st_mtime_ns
    again = kanpinn(*sweep, "sweep.resume=true")
    assert again.code == 0 and "2 of 2 jobs are done already" in again.out
    assert (folder / "s/0/metrics.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_submitit_runs_jobs_on_this_machine(deadly):
    argv = ["problem=deadly", "backbone=kan", *TINY, "problem.victim=0,1", "seed=0,1"]
    done = command(*argv, "hydra/launcher=submitit_local", "sweep.jobs=2", "hydra.sweep.dir=s", cwd=deadly)
    assert done.returncode == 1, done.stderr
    assert agrees_with_its_files(deadly / "s") == ["step_limit", "step_limit", "killed", "killed"]
    assert f"threads={max(1, cores() // 2)}" in (deadly / "s/0/log.txt").read_text().splitlines()[1]


def wrong_in_one(folder: Path, problem: str, key: str) -> str:
    """An override that is wrong only with the backbone for which the user's own `problem` has a bad recommendation."""
    (folder / "conf/problem").mkdir(parents=True)
    config = OmegaConf.load(Path(__file__).parents[1] / f"conf/problem/{problem}.yaml")
    OmegaConf.update(config, f"tuned.{key}", -5, force_add=True)
    OmegaConf.save(config, folder / f"conf/problem/{problem}.yaml")
    return "sampler.interior='${tuned:points,16}'"


@pytest.mark.slow
def test_twelve_jobs_two_at_a_time_one_killed_one_wrong_then_completed(tmp_path):
    argv = ["problem=poisson,burgers", "backbone=kan,mlp", "seed=0,1,2", "sweep.jobs=2", "hydra.sweep.dir=s"]
    argv += [word for word in TINY if not word.startswith(("sampler.interior", "schedule.steps"))]
    argv += ["schedule.steps=40", wrong_in_one(tmp_path, "burgers", "mlp.points")]
    process = subprocess.Popen(
        [sys.executable, "-m", "kanpinn", "solve", "-m", *argv],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(4000):
            if (tmp_path / "s/3/log.txt").exists():
                break
            time.sleep(0.05)
        os.kill(Ledger(tmp_path / "s").read(3).process, signal.SIGKILL)
        _, err = process.communicate(timeout=500)
    finally:
        process.kill()
    assert process.returncode == 2, err
    statuses = agrees_with_its_files(tmp_path / "s")
    assert [k for k, status in enumerate(statuses) if status != "step_limit"] == [3, 9, 10, 11]
    assert statuses[3] == "killed"
    assert set(statuses[9:]) == {"refused"}
    rows = rows_of(tmp_path / "s")
    assert "sampler.interior" in rows[11]["reason"]
    assert "-5" in rows[11]["reason"]
    assert [(row["problem"], row["backbone"], row["seed"]) for row in rows] == [
        (p, b, s) for p in ("poisson", "burgers") for b in ("kan", "mlp") for s in "012"
    ]
    assert len({row["folder"] for row in rows}) == 12
    (tmp_path / "conf/problem/burgers.yaml").unlink()
    done = command(*argv, "sweep.resume=true", cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "8 of 12 jobs are done already" in done.stdout
    assert agrees_with_its_files(tmp_path / "s") == ["step_limit"] * 12


def test_resuming_runs_what_is_missing_or_failed_and_nothing_else(kanpinn, recorded_run, folder):
    assert kanpinn("solve", "-m", "seed=0,13,15,16,2", "hydra.sweep.dir=sweep").code == 143
    assert [row["status"] for row in rows_of(folder / "sweep")] == [
        *("step_limit", "diverged", "crashed", "interrupted", "missing"),
    ]
    recorded_run.clear()
    # in another order, with a value more and one given as what it is anyway
    result = kanpinn("solve", "-m", "dtype=float64", "seed=2,13,15,0,3", "hydra.sweep.dir=sweep", "sweep.resume=true")
    assert result.code == 3
    assert [asked["seed"] for asked in recorded_run] == [2, 13, 15, 3]
    rows = rows_of(folder / "sweep")
    assert [(row["seed"], row["folder"]) for row in rows] == [
        *(("0", "0"), ("13", "1-2"), ("15", "2"), ("16", "3"), ("2", "4"), ("3", "5")),
    ]
    assert [row["status"] for row in rows] == [
        *("step_limit", "diverged", "crashed", "interrupted", "step_limit", "step_limit"),
    ]


def test_an_interrupted_job_goes_on_in_its_folder(kanpinn, recorded_run, folder, monkeypatch):
    went_on = []

    def resume(folder, overrides=()):
        went_on.append((folder, list(overrides)))
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, "status": "converged"}))

    sys.modules["kanpinn.run.run"].resume = resume
    call = ["solve", "-m", "seed=0,16", "hydra.sweep.dir=sweep"]
    assert kanpinn(*call).code == 143
    (folder / "sweep/1/config.yaml").touch()
    recorded_run.clear()
    with run_lock(folder / "sweep/1"):  # somebody is at it by hand
        result = kanpinn(*call, "sweep.resume=true")
    assert (result.code, "job 1: still under way" in result.err, went_on) == (143, True, [])
    assert kanpinn(*call, "sweep.resume=true").code == 0
    assert (recorded_run, went_on) == ([], [(folder / "sweep/1", [])])
    assert [(row["folder"], row["status"]) for row in rows_of(folder / "sweep")] == [
        *(("0", "step_limit"), ("1", "converged")),
    ]
    assert kanpinn(*call, "sweep.resume=true").code == 0
    assert len(went_on) == 1


def test_a_job_resumed_by_hand_is_done(kanpinn, recorded_run, folder):
    call = ["solve", "-m", "seed=0,16", "hydra.sweep.dir=sweep"]
    assert kanpinn(*call).code == 143
    (folder / "sweep/1/config.yaml").touch()
    metrics = json.loads((folder / "sweep/1/metrics.json").read_text())
    (folder / "sweep/1/metrics.json").write_text(json.dumps({**metrics, "status": "step_limit"}))
    recorded_run.clear()
    result = kanpinn(*call, "sweep.resume=true")
    assert (result.code, recorded_run) == (0, []), result.err
    assert "2 of 2 jobs are done already" in result.out
    assert [row["status"] for row in rows_of(folder / "sweep")] == ["step_limit"] * 2


def test_a_job_in_a_process_of_its_own_dies_alone(kanpinn, recorded_run, folder, monkeypatch):
    run = sys.modules["kanpinn.run.run"].run

    def deadly(cfg, folder):
        if cfg.seed == 17 and not Path("spared").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        run(cfg, folder)

    sys.modules["kanpinn.run.run"].run = deadly
    monkeypatch.setitem(LAUNCHERS, "basic", replace(LAUNCHERS["basic"], isolated=True))
    before = signal.getsignal(signal.SIGINT)
    try:
        call = ["solve", "-m", "seed=17,0", "hydra.sweep.dir=s"]
        result = kanpinn(*call)
        assert (result.code, "job 0: killed: killed by signal 9" in result.err) == (1, True)
        assert [row["status"] for row in rows_of(folder / "s")] == ["killed", "step_limit"]
        assert "signal 9" in rows_of(folder / "s")[0]["reason"]
        Path("spared").touch()
        assert kanpinn(*call, "sweep.resume=true").code == 0
        assert [row["status"] for row in rows_of(folder / "s")] == ["step_limit"] * 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stop_just_before_a_job_runs_is_not_lost(tmp_path):
    """The one who stops reads "waiting", so sends no signal; the job has looked for a stop before."""
    ledger = Ledger(tmp_path)
    ledger.add_command([], [])
    ledger.write(Job(0, "0"))
    ledger.stopped = True
    _run(ledger, ledger.read(0), OmegaConf.create({"no": "config"}))
    assert ledger.read(0) == Job(0, "0")
    assert not (tmp_path / "0").exists()


def test_a_job_taken_over_by_another_process_keeps_that_ones_record(tmp_path):
    ledger = Ledger(tmp_path)
    mine = Job(0, "0", state="running", host="here", process=1, birth="1")
    theirs = replace(mine, host="there")
    ledger.write(theirs)
    ledger.finish(replace(mine, state="ended", code=0))
    assert ledger.read(0) == theirs
    ledger.write(mine)
    ledger.finish(replace(mine, state="ended", code=0))
    assert ledger.read(0).done


def test_a_job_on_another_machine_runs_while_its_folder_is_locked(tmp_path):
    ledger, job = Ledger(tmp_path), Job(0, "0", state="running", host="elsewhere", process=1, birth="1")
    assert not at_work(ledger.folder, job)
    (tmp_path / "0").mkdir()
    with run_lock(tmp_path / "0"):
        assert at_work(ledger.folder, job)
        assert not at_work(ledger.folder, replace(job, state="ended"))
    assert not at_work(ledger.folder, job)
    (tmp_path / "0" / ".lock").touch()  # left behind by a process that was killed
    assert not at_work(ledger.folder, job)


def test_the_newest_sweep_of_the_same_overrides_is_found_again(kanpinn, recorded_run, folder):
    assert kanpinn("solve", "-m", "seed=0,15", "dtype=float64").code == 1
    assert kanpinn("solve", "-m", "seed=0,1,2", "dtype=float64").code == 0
    first, second = sorted((folder / "outputs/sweeps").iterdir())
    recorded_run.clear()
    assert kanpinn("solve", "-m", "dtype=float64", "seed=0,15", "sweep.resume=true").code == 1
    assert [asked["folder"] for asked in recorded_run] == [first / "1"]
    assert len(rows_of(second)) == 3
    result = kanpinn("solve", "-m", "seed=7,8", "sweep.resume=true")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "hydra.sweep.dir" in result.err


@pytest.mark.slow
def test_a_config_that_has_changed_since_is_another_job(kanpinn, recorded_run, folder):
    (folder / "conf/optimizer").mkdir(parents=True)
    mine = folder / "conf/optimizer/mine.yaml"
    mine.write_text("name: adam\nlr: 0.1\n")
    call = ["solve", "-m", "optimizer=mine", "seed=0,1", "hydra.sweep.dir=sweep"]
    assert kanpinn(*call).code == 0
    assert kanpinn(*call, "sweep.resume=true").code == 0
    assert len(recorded_run) == 2
    mine.write_text("name: adam\nlr: 0.2\n")
    assert kanpinn(*call, "sweep.resume=true").code == 0
    assert [asked["optimizer"]["lr"] for asked in recorded_run] == [0.1, 0.1, 0.2, 0.2]
    assert [row["folder"] for row in rows_of(folder / "sweep")] == ["0", "1", "2", "3"]


def test_values_that_do_not_go_together_cost_their_job_alone(kanpinn, recorded_run, folder):
    bad = wrong_in_one(folder, "poisson", "kan.points")
    call = ["solve", "-m", "problem=helmholtz,poisson", "backbone=mlp,kan", bad, "hydra.sweep.dir=sweep"]
    result = kanpinn(*call)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("kanpinn: job 3: error: sampler.interior=-5")
    assert len(recorded_run) == 3
    rows = rows_of(folder / "sweep")
    assert [row["status"] for row in rows] == ["step_limit"] * 3 + ["refused"]
    assert rows[3]["reason"].startswith("sampler.interior=-5")
    known = {"problem": "poisson", "backbone": "kan", "schedule": "nested", "optimizer": "levenberg_marquardt"}
    assert {name: rows[3][name] for name in (*known, "seed")} == {**known, "seed": "0"}
    with h5py.File(folder / "sweep/summary.h5") as file:
        assert list(file["folder"].asstr()) == ["0", "1", "2", "3"]  # text, though all of them look like numbers
    (folder / "conf/problem/poisson.yaml").unlink()
    assert kanpinn(*call, "sweep.resume=true").code == 0
    assert len(recorded_run) == 4
    assert [row["status"] for row in rows_of(folder / "sweep")] == ["step_limit"] * 4


def test_a_second_launch_into_the_same_folder_is_refused(kanpinn, recorded_run, folder):
    call = ["solve", "-m", "seed=0,1", "hydra.sweep.dir=sweep"]
    assert kanpinn(*call).code == 0
    before = (folder / "sweep/summary.csv").read_bytes()
    result = kanpinn(*call)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "already holds a sweep" in result.err
    with Ledger(folder / "sweep").locked():
        result = kanpinn(*call, "sweep.resume=true")
    assert (result.code, "another process is running this sweep" in result.err) == (2, True)
    assert (folder / "sweep/summary.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["hydra.sweep.subdir=same"], ["hydra.sweep.subdir=same", "seed=0", "seed=1"]),
        (["hydra.sweep.subdir=../${seed}"], ["hydra.sweep.subdir=../0", "inside hydra.sweep.dir"]),
        (["sweep.jobs=0"], ["sweep.jobs=0", "at least 1"]),
        (["sweep.jobs=many"], ["sweep.jobs=many", "whole number"]),
        (["sweep.resum=true"], ["sweep.resum=true", "'sweep.resume'"]),
        (["hydra/launcher=jobli"], ["hydra/launcher=jobli", "'joblib'", "submitit_slurm"]),
        (["hydra.launcher._target_=os.system"], ["hydra.launcher._target_=os.system", "joblib"]),
        (["hydra.sweeper._target_=os.system"], ["hydra.sweeper._target_=os.system", "basic"]),
        (["+hydra.callbacks.x._target_=os.system"], ["hydra.callbacks", "os.system"]),
        (["hydra.sweep.dir=a,b"], ["hydra.sweep.dir=a,b", "several values"]),
        (["problem.kx=interval(0,1)"], ["problem.kx=interval(0,1)", "kanpinn tune"]),
        (["--config-dir=x"], ["--config-dir", "./conf"]),
    ],
)
def test_mistakes_are_refused_before_any_job(argv, words, kanpinn, recorded_run, folder):
    result = kanpinn("solve", "-m", "seed=0,1", *argv)
    assert (result.code, result.err.count("\n"), recorded_run) == (2, 1, []), result.err
    for word in words:
        assert word in result.err
    assert not list(folder.iterdir())


@pytest.mark.parametrize("text", ["hydra.launcher._target_=os.system", "+hydra.callbacks.x._target_=os.system"])
def test_a_single_run_instantiates_nothing_from_its_config_either(text, kanpinn, recorded_run):
    result = kanpinn("solve", text)
    assert (result.code, recorded_run) == (2, [])


def test_sweep_keys_without_a_sweep_are_refused(kanpinn, recorded_run):
    result = kanpinn("solve", "sweep.jobs=2")
    assert (result.code, recorded_run) == (2, [])
    assert "sweep.jobs=2" in result.err
    assert "-m" in result.err


def test_an_absent_launcher_names_its_extra(kanpinn, recorded_run, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "launcher" in name else find(name, *a))
    for argv, extra in ((["sweep.jobs=2"], "parallel"), (["hydra/launcher=ray"], "ray")):
        result = kanpinn("solve", "-m", "seed=0,1", *argv)
        assert (result.code, result.err.count("\n"), recorded_run) == (2, 1, [])
        assert f"pip install 'kanpinn[{extra}]'" in result.err


def test_folders_by_values(kanpinn, recorded_run, folder):
    assert kanpinn("solve", "-m", "seed=0,1", "hydra.sweep.dir=s", "hydra.sweep.subdir=run_${seed}").code == 0
    assert [row["folder"] for row in rows_of(folder / "s")] == ["run_0", "run_1"]


def test_combinations_count_like_an_odometer():
    made = combinations(parse(["seed=0,1", "dtype=float64", "backbone=kan,mlp", "problem.kx=range(1,3)"]))
    assert [words[0] for words, _ in made] == ["seed=0"] * 4 + ["seed=1"] * 4
    assert [words[3] for words, _ in made][:4] == ["problem.kx=1", "problem.kx=2"] * 2
    assert len({tuple(words) for words, _ in made}) == 8
    assert [simple for _, simple in made] == [True, True, True, False, True, False, False, False]


@pytest.mark.parametrize("text", ["plain", "a b", "it's", 'say "x"', "back\\slash", "end\\", "a=b,c", "${x}", "ü/é"])
def test_quoting_gives_back_the_text(text):
    assert parse([f"hydra.sweep.dir={quoted(text)}"])[0].value() == text


@pytest.mark.parametrize(
    ("name", "config", "jobs", "waiting", "expected"),
    [
        ("basic", {}, None, 9, (1, cores())),
        ("joblib", {"n_jobs": 2}, 2, 9, (2, max(1, cores() // 2))),
        ("joblib", {"n_jobs": -1}, None, 9**9, (cores(), 1)),
        ("joblib", {"n_jobs": 8}, None, 1, (1, cores())),
        ("submitit_local", {"cpus_per_task": 3}, 2, 9, (2, 3)),
        ("slurm", {"cpus_per_task": 4}, None, 9**9, (cores(), 4)),
        ("submitit_slurm", {"cpus_per_task": None}, None, 9**9, (cores(), 1)),
    ],
)
def test_threads_are_divided_among_jobs(name, config, jobs, waiting, expected):
    launcher = OmegaConf.create(config)
    beside = at_a_time(name, launcher, SweepOptions(jobs), waiting)
    assert (beside, threads(name, launcher, beside)) == expected


def test_slurms_config_is_submitits_with_values_of_ours():
    from kanpinn.settings.compose import compose

    cfg, _ = compose(["hydra/launcher=slurm"], keep_hydra=True)
    assert cfg.hydra.launcher._target_ == LAUNCHERS["submitit_slurm"].target
    assert cfg.hydra.launcher.cpus_per_task == 4


def test_a_process_is_told_from_a_later_one_of_its_number(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = __import__("socket").gethostname()
    job = Job(0, "0", state="running", host=here, process=process.pid, birth=birth(process.pid))
    assert job.alive
    assert not Job(0, "0", state="running", host=here, process=process.pid, birth="1").alive
    assert not Job(0, "0", state="running", host="elsewhere", process=process.pid, birth=job.birth).alive
    process.communicate(b"\n")
    assert not job.alive


@pytest.mark.slow
def test_a_damaged_ledger_is_one_line(kanpinn, recorded_run, folder):
    assert kanpinn("solve", "-m", "seed=0,1", "hydra.sweep.dir=s").code == 0
    for content in ("", "[]", '{"number": 0}', '{"number": 0, "folder": "0", "overrides": [], "nonsense": 1}'):
        (folder / "s/.jobs/0.json").write_text(content)
        result = kanpinn("solve", "-m", "seed=0,1", "hydra.sweep.dir=s", "sweep.resume=true")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert re.search(r"\.jobs/0\.json", result.err)


def test_an_occupied_name_gets_a_number(tmp_path):
    assert free_folder(tmp_path, "3") == "3"
    (tmp_path / "3").mkdir()
    assert free_folder(tmp_path, "3") == "3"
    (tmp_path / "3/log.txt").touch()
    (tmp_path / "3-2").touch()
    assert free_folder(tmp_path, "3") == "3-3"


def test_a_missing_job_is_an_error():
    with pytest.raises(UserError, match=r"7\.json"):
        Ledger(Path("nowhere")).read(7)
