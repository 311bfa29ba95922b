"""Sweeps and solves in a real SLURM queue on this machine; what is said to it; jobs that it starts again."""

from __future__ import annotations

import csv
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from omegaconf import OmegaConf
from support.slurm import missing, slurm

from kanpinn.io.lock import run_lock
from kanpinn.sweep.ledger import Job, Ledger, given_back
from kanpinn.sweep.queue import cancel, longest_array

KANPINN = [sys.executable, "-m", "kanpinn"]
SMALL = ["problem=heat", "output.figures=false", "schedule.levels=1", "schedule.steps=[3]"]
LONG = ["problem=burgers", "output.figures=false", "schedule.levels=2", "schedule.steps=[3,30]"]
QUEUE = ["hydra/launcher=slurm", "hydra.launcher.partition=cpu", "hydra.launcher.cpus_per_task=1"]
QUEUE += ["hydra.launcher.mem_gb=1"]


def test_a_sweeps_jobs_are_taken_out_of_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their numbers are those of the folders that submitit keeps, whatever their pattern."""
    scancel = tmp_path / "bin" / "scancel"
    scancel.parent.mkdir()
    scancel.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    scancel.chmod(scancel.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{scancel.parent}:{os.environ['PATH']}")
    for name in ("logs/12_0", "logs/12_1", "logs/7", "logs/other", "logs/of-3_1"):
        (tmp_path / name).mkdir(parents=True)
    cancel(OmegaConf.create({"submitit_folder": f"{tmp_path}/logs/%j"}))
    cancel(OmegaConf.create({"submitit_folder": f"{tmp_path}/logs/of-%j"}), waiting=True)
    cancel(OmegaConf.create({"submitit_folder": f"{tmp_path}/none/%j"}))
    assert (tmp_path / "calls").read_text().splitlines() == ["--quiet 12 7", "--quiet --state=PENDING 3"]


def test_a_queue_that_does_not_say_takes_arrays_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert longest_array() > 10**6


def test_a_job_that_the_queue_starts_again_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / ".jobs").mkdir()
    run = tmp_path / "0"
    run.mkdir()
    stopped = Job(0, "0", ("seed=1",), "abc", state="ended", code=143, reason="interrupted by signal 15", host="there")
    assert given_back(ledger, stopped) == Job(0, "0", ("seed=1",), "abc")
    (run / "config.yaml").touch()
    again = Job(0, "0", ("seed=1",), "abc", resumed=True)
    assert given_back(ledger, stopped) == ledger.read(0) == again
    running = replace(stopped, state="running", code=None)
    assert given_back(ledger, running) == again
    with run_lock(run):  # its process is still there
        assert given_back(ledger, running) == running
    for other in (Job(0, "0"), replace(stopped, code=0), replace(stopped, code=2)):
        assert given_back(ledger, other) == other


needs_slurm = pytest.mark.skipif(bool(missing()), reason=f"needs SLURM: {', '.join(missing())}")


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a SLURM with two cores."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with slurm(tmp_path_factory.mktemp("slurm")) as env:
        yield env


def sweep(env: dict[str, str], folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [*KANPINN, "solve", "-m", *QUEUE, f"hydra.sweep.dir={folder / 'sweep'}", *words]
    with (folder / "out").open("a") as out:
        return subprocess.Popen(command, env=env, cwd=folder, stdout=out, stderr=out, text=True)


def wait_until(true: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def squeue(env: dict[str, str], *words: str) -> list[str]:
    command = ["squeue", "--noheader", "--array", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()


def jobs(folder: Path) -> list[Job]:
    return Ledger(folder / "sweep").jobs()


def has_begun(folder: Path, number: int) -> bool:
    files = list((folder / "sweep" / str(number) / "checkpoints").glob("*.h5"))
    return any(job.number == number and job.state == "running" for job in jobs(folder)) and bool(files)


@pytest.mark.slow
@needs_slurm
def test_a_sweep_in_the_queue_is_one_array(queue: dict[str, str], tmp_path: Path) -> None:
    process = sweep(queue, tmp_path, *SMALL, "seed=0,1,2,3")
    assert process.wait(240) == 0, (tmp_path / "out").read_text()
    assert [(job.state, job.code) for job in jobs(tmp_path)] == [("ended", 0)] * 4
    arrays = {path.name.partition("_")[0] for path in (tmp_path / "sweep" / ".submitit").glob("[0-9]*_*")}
    assert len(arrays) == 1
    with (tmp_path / "sweep" / "summary.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["step_limit"] * 4


@pytest.mark.slow
@needs_slurm
def test_a_signal_empties_the_queue_and_the_rest_is_resumed(queue: dict[str, str], tmp_path: Path) -> None:
    words = [*LONG, "seed=0,1,2,3"]
    process = sweep(queue, tmp_path, *words)
    wait_until(lambda: (tmp_path / "sweep" / ".jobs").is_dir() and has_begun(tmp_path, 0))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM, (tmp_path / "out").read_text()
    states = [(job.state, job.code) for job in jobs(tmp_path)]
    assert states[0] == ("ended", 143)
    assert states[2:] == [("waiting", None)] * 2
    wait_until(lambda: not squeue(queue))
    assert sweep(queue, tmp_path, *words, "sweep.resume=true").wait(400) == 0
    assert [(job.state, job.code) for job in jobs(tmp_path)] == [("ended", 0)] * 4
    assert jobs(tmp_path)[0].resumed


@pytest.mark.slow
@needs_slurm
def test_a_job_put_back_into_the_queue_goes_on_where_it_stood(queue: dict[str, str], tmp_path: Path) -> None:
    process = sweep(queue, tmp_path, *LONG, "seed=0")
    wait_until(lambda: (tmp_path / "sweep" / ".jobs").is_dir() and has_begun(tmp_path, 0))
    number = squeue(queue, "--format=%A")[0]
    subprocess.run(["scancel", "--signal=USR2", number], env=queue, check=True)  # as before the end of its time
    wait_until(lambda: "BeginTime" in squeue(queue, "--format=%r"))  # SLURM lets it wait for two minutes
    assert (jobs(tmp_path)[0].state, jobs(tmp_path)[0].code) == ("ended", 128 + signal.SIGTERM)
    subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], env=queue, check=True)
    assert process.wait(300) == 0, (tmp_path / "out").read_text()
    (job,) = jobs(tmp_path)
    assert (job.state, job.code, job.resumed) == ("ended", 0, True)


@pytest.mark.slow
@needs_slurm
def test_srun_shares_the_points_of_one_solve(queue: dict[str, str], tmp_path: Path) -> None:
    words = ["solve", *SMALL, "threads=1", "output.progress=false"]
    for name, start in (("one", []), ("two", ["srun", "--ntasks=2"])):
        command = [*start, *KANPINN, *words, f"hydra.run.dir={tmp_path / name}"]
        subprocess.run(command, env=queue, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    losses = []
    for name in ("one", "two"):
        with h5py.File(tmp_path / name / "solution.h5") as file:
            losses.append(np.asarray(file["history/loss"]))
    assert np.allclose(*losses, rtol=1e-9, atol=0)
    assert (losses[0] != losses[1]).any()  # sums in another order: the points were shared out
