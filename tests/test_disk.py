"""Disks and files that fail: one clear line, the right exit code, earlier files intact, nothing left lying about."""

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import child

import kanpinn as package
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.io import lock
from kanpinn.io.lock import run_lock
from kanpinn.io.solution import read_solution, write_solution
from kanpinn.run.checkpoints import newest

TINY = [
    "problem=mine", "backbone=kan", "backbone.width=[2]", "backbone.grid=2", "backbone.degree=3", "schedule.levels=2",
    "schedule.steps=2", "sampler=uniform", "sampler.interior=20", "sampler.boundary=4", "output.points=9",
    "output.progress=false", "output.figures=false", "hydra.run.dir=run",
]  # fmt: skip
FIGURES = "output.figures=true"
ALL = {"solution.h5", "metrics.json", "config.yaml", "log.txt", "checkpoints"}
MINE = """
import os, shutil, time
from dataclasses import dataclass
from pathlib import Path
from kanpinn.geometry import Box
from kanpinn.pde import Condition, Problem

@dataclass(frozen=True)
class Mine(Problem):
    domain = Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "x")

    def residual(self, p):
        run = Path("run")
        if (run / "log.txt").is_file():
            {fault}
        return p.u_t + p.u_x

    def conditions(self):
        return [Condition("initial", "t-", lambda p: p.u - p.x)]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a folder with a problem that does something to its own run folder in the middle of the solve."""

    def make(fault: str = "pass") -> Path:
        (tmp_path / "problems").mkdir(exist_ok=True)
        (tmp_path / "problems" / "mine.py").write_text(MINE.format(fault=fault))
        (tmp_path / "conf" / "problem").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / "problem" / "mine.yaml").write_text("name: mine\n")
        monkeypatch.chdir(tmp_path)
        return tmp_path / "run"

    return make


def solve(*more: str, **limits: int | None) -> child.Outcome:
    return child.run(lambda: main(["solve", *TINY, *more]), **limits)


def strays(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.endswith((".tmp", ".out", ".err")) or p.name == lock.NAME]


def errors(outcome: child.Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if line.startswith("kanpinn: error: ")]


def warnings(outcome: child.Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if line.startswith("kanpinn: warning: ")]


def whole(run: Path) -> None:
    """Everything that lies in a run folder can be read."""
    for file in run.rglob("*"):
        if file.suffix == ".h5":
            with h5py.File(file) as f:
                assert "schema" in f.attrs
        elif file.suffix == ".json":
            json.loads(file.read_text())


# --- the disk is full


@pytest.mark.parametrize("size", [100, 3_000])
def test_files_that_cannot_grow_end_the_solve_in_one_line(size, place):
    run = place()
    ended = solve(file_size=size)
    assert ended.code == 2, ended
    assert len(errors(ended)) == 1
    assert "Traceback" not in ended.err
    assert "File too large" in errors(ended)[0]
    assert "run/" in errors(ended)[0]
    assert strays(run.parent) == []
    whole(run)
    if size == 100:
        assert not run.exists()
    else:
        assert "the solve goes on" in ended.err  # without its checkpoints
        assert "status: " in ended.out  # what it has reached is told all the same
        assert json.loads((run / "metrics.json").read_text())["status"] == "step_limit"
        assert not (run / "solution.h5").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 320 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("room", [0, 8, 60, 150])
def test_a_full_disk(room, place, small_disk):
    place()
    run = small_disk / "run"
    (small_disk / "other").write_bytes(bytes((320 - room) * 1024))
    ended = solve(f"hydra.run.dir={run}", FIGURES)
    assert "Traceback" not in ended.err
    assert "No space left on device" in ended.err
    assert strays(small_disk) == []
    whole(small_disk)
    assert (small_disk / "other").stat().st_size == (320 - room) * 1024
    written = all((run / name).exists() for name in ("solution.h5", "metrics.json", "checkpoints"))
    assert written or ended.code == 2
    if written and ended.code == 0:
        assert newest(run).final
    assert len(errors(ended)) == (1 if ended.code else 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    folder = tmp_path_factory.mktemp("finished")
    words = [word for word in TINY if not word.startswith(("problem=", "hydra."))]
    ended = child.run(lambda: main(["solve", "problem=heat", *words, f"hydra.run.dir={folder}/run"]))
    assert ended.code == 0, ended
    return folder / "run"


def test_evaluate_and_plot_on_a_full_disk(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("x,t\n" + "0.25,0.5\n" * 200)
    (tmp_path / "v.csv").write_text("old")
    argv = ["evaluate", str(finished), "--points", "p.csv", "-o", "v.csv"]
    ended = child.run(lambda: main(argv), file_size=1000)
    assert (ended.code, len(errors(ended)), ended.out) == (2, 1, "")
    assert "v.csv" in ended.err
    assert (tmp_path / "v.csv").read_text() == "old"
    ended = child.run(lambda: main(["plot", str(finished), "-o", "figures"]), file_size=1000)
    assert (ended.code, len(errors(ended))) == (2, 1), ended
    assert "figures/" in ended.err
    assert strays(tmp_path) == []
    assert "Traceback" not in ended.err


def test_evaluate_writes_through_links_and_into_devices_and_replaces_neither(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("x,t\n0.25,0.5\n")
    (tmp_path / "target.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("target.csv")
    os.mkfifo(tmp_path / "pipe")
    assert main(["evaluate", str(finished), "--points", "p.csv", "-o", "link.csv"]) == 0
    assert (tmp_path / "link.csv").is_symlink()
    text = (tmp_path / "target.csv").read_text()
    assert text.startswith("x,t,u\n")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True)
    assert main(["evaluate", str(finished), "--points", "p.csv", "-o", "pipe"]) == 0
    assert reader.communicate(timeout=60)[0] == text
    assert (tmp_path / "pipe").is_fifo()


# --- folders that cannot be written, or go away


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder in which its owner cannot write."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def without_privilege(work: Callable[[], int]) -> int:
    """Do something with the rights of the owner, which root goes beyond by CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, rights) == 0
    rights[0] &= ~0b110  # of the effective ones
    assert libc.capset(header, rights) == 0
    return work()


def test_a_folder_that_cannot_be_written(locked, finished, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for path in (run, *run.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.chdir(locked)
    points = tmp_path / "p.csv"
    points.write_text("x,t\n0,0\n")
    words = [word for word in TINY if not word.startswith("problem=")]
    for argv in (
        ["solve", *words, "problem=heat"],
        ["plot", str(run)],
        ["evaluate", str(run), "--points", str(points), "-o", "v.csv"],
    ):
        ended = child.run(lambda argv=argv: without_privilege(lambda: main(argv)))
        assert (ended.code, len(errors(ended))) == (2, 1), ended
        assert "Permission denied" in ended.err
        assert "Traceback" not in ended.err
    assert os.listdir(locked) == []
    assert child.run(lambda: without_privilege(lambda: main(["inspect", str(run)]))).code == 0


def test_a_run_folder_removed_during_the_run_is_not_made_anew(place):
    run = place("shutil.rmtree(run)")
    ended = solve()
    assert ended.code == 2, ended
    assert len(errors(ended)) == 1
    assert "run: the run folder was removed or replaced" in errors(ended)[0]
    assert not run.exists()


def test_a_run_folder_replaced_during_the_run_is_left_alone(place):
    run = place("run.rename('moved'); run.mkdir(); (run / 'log.txt').mkdir(); (run / 'mine').write_text('kept')")
    ended = solve()
    assert ended.code == 2, ended
    assert "removed or replaced" in errors(ended)[0]
    assert (run / "mine").read_text() == "kept"
    assert sorted(os.listdir(run)) == ["log.txt", "mine"]
    assert "config.yaml" in os.listdir(run.parent / "moved")


BLOCKED = {
    "log.txt": ("(run / 'log.txt').unlink(); (run / 'log.txt').mkdir()", 0, "the log is not written"),
    "checkpoints": ("(run / 'checkpoints').write_text('')", 2, ""),
    "figures": ("(run / 'figures').write_text('')", 0, "the figures are not drawn"),
    "metrics.json": ("(run / 'metrics.json').mkdir(exist_ok=True)", 2, ""),
    "solution.h5": ("(run / 'solution.h5').mkdir(exist_ok=True)", 2, ""),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_one_file_that_cannot_be_written_does_not_take_the_others_along(name, place):
    fault, code, word = BLOCKED[name]
    run = place(fault)
    ended = solve(FIGURES)
    assert ended.code == code, ended
    assert "Traceback" not in ended.err
    assert len(errors(ended)) == (1 if code else 0)
    assert f"run/{name}" in ended.err or word in ended.err
    assert not word or [line for line in warnings(ended) if word in line]
    assert "status: step_limit" in ended.out
    for other in ALL - {name}:
        assert (run / other).is_dir() == (other == "checkpoints")
        assert (run / other).exists()
    assert strays(run.parent) == []


# --- files that others have open


def test_a_solution_that_somebody_reads_can_be_replaced(finished, tmp_path):
    file = tmp_path / "solution.h5"
    shutil.copy(finished / "solution.h5", file)
    data = read_solution(file)
    with h5py.File(file, "r") as reader:  # holds HDF5's lock on the file
        data.seed = 99
        write_solution(file, data)
        assert reader.attrs["seed"] == 0
        np.testing.assert_array_equal(reader["u"], data.fields["u"])
        assert read_solution(file).seed == 99


def test_a_lock_on_a_solution_keeps_nobody_from_reading_or_replacing_it(finished, tmp_path):
    file = tmp_path / "solution.h5"
    shutil.copy(finished / "solution.h5", file)
    with file.open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as HDF5 does for a file open for writing
        with pytest.raises(BlockingIOError):
            h5py.File(file, "r")
        data = read_solution(file)
        data.seed = 99
        write_solution(file, data)
        assert read_solution(file).seed == 99


# --- two processes, one folder


def hold(folder: Path) -> int:
    with run_lock(folder):
        print("held", flush=True)
        time.sleep(60)
    return 0


def held_by_another(folder: Path) -> child.Child:
    other = child.start(lambda: hold(folder))
    while not (folder / lock.NAME).exists() or not (folder / lock.NAME).read_text():
        time.sleep(0.01)
    return other


def test_a_folder_another_process_writes_is_refused_by_its_name_and_free_once_that_is_killed(place):
    run = place()
    run.mkdir()
    other = held_by_another(run)
    ended = solve()
    assert ended.code == 2, ended
    assert f"process {other.pid} on {socket.gethostname()} is writing into this folder" in errors(ended)[0]
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (run / lock.NAME).exists()  # it is left behind, and stops nobody
    ended = solve()
    assert ended.code == 0, ended
    assert set(os.listdir(run)) == ALL


@pytest.mark.slow
def test_of_several_processes_exactly_one_gets_the_folder(place):
    run = place("time.sleep(0.02)")
    children = [child.start(lambda k=k: main(["solve", *TINY, f"seed={k}"])) for k in range(4)]
    ends = [started.wait() for started in children]
    assert sorted(end.code for end in ends) == [0, 2, 2, 2], ends
    for end in ends:
        assert end.code == 0 or (len(errors(end)) == 1 and "run" in errors(end)[0]), end
    winner = next(k for k, end in enumerate(ends) if end.code == 0)
    assert json.loads((run / "metrics.json").read_text())["seed"] == winner
    assert set(os.listdir(run)) == ALL
    assert strays(run.parent) == []


def test_the_lock_is_gone_after_it_is_released_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with run_lock(tmp_path) as still_there:
            still_there()
            assert os.listdir(tmp_path) == [lock.NAME]
            with pytest.raises(UserError, match=f"process {os.getpid()} on"), run_lock(tmp_path):
                pass
        assert os.listdir(tmp_path) == []


def test_python_can_load_what_a_full_disk_left(place):
    """The checkpoint written while there was room is enough for `kanpinn.load`."""
    run = place("(run / 'solution.h5').mkdir(exist_ok=True)")
    assert solve().code == 2
    values = package.load(run)(np.array([[0.5, 0.5]]))
    assert np.isfinite(values["u"]).all()
