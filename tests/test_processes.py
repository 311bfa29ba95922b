"""Data-parallel solves: the steps of one process, what all agree on, and what becomes of a lost process."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kanpinn
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.run.follow import check_agreement
from kanpinn.settings.discovery import load_problem_class
from kanpinn.settings.launched import Place, launched

SOLVE = ["problem=heat", "threads=1", "schedule.levels=2", "schedule.steps=[4,4]", "output.figures=false"]
LONG = ["problem=burgers", "threads=1", "schedule.levels=2", "schedule.steps=[3,60]", "output.figures=false"]


def losses(folder: Path) -> np.ndarray:
    with h5py.File(folder / "solution.h5") as file:
        return np.asarray(file["history/loss"])


@pytest.mark.slow
def test_two_processes_have_the_loss_history_of_one(tmp_path: Path) -> None:
    ends = {}
    for size in (1, 2):
        folder = tmp_path / str(size)
        assert main(["solve", *SOLVE, f"processes={size}", "output.progress=false", f"hydra.run.dir={folder}"]) == 0
        ends[size] = losses(folder)
    assert len(ends[1]) == 8
    assert np.allclose(ends[1], ends[2], rtol=1e-9, atol=0)
    assert (ends[1] != ends[2]).any()  # sums in another order: the points really were shared out


def test_the_place_among_the_processes_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    for name in (*names, "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    assert launched() is None
    for name, value in (("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "5"), ("SLURM_STEP_NUM_TASKS", "8")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_LOCALID", "1")
    assert launched() == Place(5, 8, 1)
    for name, value in zip(names, ("none", "2", "4", "2"), strict=True):
        monkeypatch.setenv(name, value)
    assert launched() == Place(2, 4, 2)
    monkeypatch.setenv("WORLD_SIZE", "1")  # one process needs no others
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert launched() is None


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([("1", {"seed": 0, "output": {"points": 3}}, None)], None),
        ([("2", {"seed": 0}, None)], "process 1 has kanpinn 2, process 0 has 1"),
        ([("1", {"seed": 0, "output": {"points": 4}}, None)], "output.points: 4 in process 1, 3 in process 0"),
        ([("1", None, "problem=x: unknown.")], "process 1: problem=x: unknown."),
    ],
)
def test_processes_agree_on_version_and_config(others: list[tuple[str, Any, str | None]], words: str | None) -> None:
    wishes = [("1", {"seed": 0, "output": {"points": 3}}, None), *others]
    if words is None:
        check_agreement(wishes)
    else:
        with pytest.raises(UserError, match=words):
            check_agreement(wishes)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["optimizer=variable_projection"], "processes=2: expected 1 with optimizer=variable_projection"),
        (["processes=0"], "processes=0: expected a whole number from 1"),
        (
            ["sampler.interior=1", "processes=300"],
            "processes=300: expected at most as many as there are points inside, 1",
        ),
    ],
)
def test_what_processes_cannot_do_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert main(["solve", *SOLVE, "processes=2", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    error = capfd.readouterr().err.strip()
    assert complaint in error and "\n" not in error


def test_a_problem_that_other_processes_cannot_know_is_refused() -> None:
    heat = load_problem_class("heat")
    own = dataclasses.make_dataclass("Own", [], bases=(heat,), frozen=True)
    with pytest.raises(UserError, match="processes=2: expected 1 for a problem given as an object"):
        kanpinn.solve(own(), "processes=2", "schedule.levels=1", "schedule.steps=[1]")


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "kanpinn", "solve", *LONG, *more, "output.progress=false", f"hydra.run.dir={folder}"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    end = time.monotonic() + 120
    while not list(folder.glob("checkpoints/*.h5")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    return process


def followers(process: subprocess.Popen[str]) -> list[int]:
    words = ["pgrep", "-P", str(process.pid), "-f", "kanpinn.run.follow"]
    found = subprocess.run(words, capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def gone(processes: list[int]) -> bool:
    end = time.monotonic() + 10
    while any(Path("/proc", str(one)).exists() for one in processes) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(Path("/proc", str(one)).exists() for one in processes)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "other"])
def test_a_killed_process_ends_the_run_which_resumes_with_any_number(tmp_path: Path, victim: str) -> None:
    process = started(tmp_path / "run", "processes=3")
    others = followers(process)
    assert len(others) == 2
    begin = time.monotonic()
    os.kill(process.pid if victim == "first" else others[0], signal.SIGKILL)
    _, text = process.communicate(timeout=60)
    assert gone(others) and time.monotonic() - begin < 10
    assert process.returncode != 0
    if victim == "other":
        assert "processes=3: one of them is lost" in text and "Traceback" not in text
    assert main(["resume", str(tmp_path / "run"), "processes=2" if victim == "other" else "processes=1"]) == 0
    assert len(losses(tmp_path / "run")) == 63


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_any_process_stops_all_with_their_state_written(tmp_path: Path, number: signal.Signals) -> None:
    process = started(tmp_path / "run", "processes=2")
    others = followers(process)
    os.kill(others[0] if number == signal.SIGTERM else process.pid, number)
    assert process.wait(60) == 128 + number
    assert gone(others)
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert len(losses(tmp_path / "run")) == 63
