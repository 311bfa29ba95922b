"""Hundreds of solves: no growth of memory, no handle left open, no file left lying about."""

import gc
import json
import logging
import os
import tempfile
import threading
from pathlib import Path

import pytest
from support import child

import kanpinn
from kanpinn.cli.main import main

TINY = [
    "problem=heat", "backbone=kan", "backbone.width=[2]", "backbone.grid=2", "backbone.degree=3", "schedule.levels=2",
    "schedule.steps=2", "sampler=uniform", "sampler.interior=20", "sampler.boundary=4", "output.points=9",
]  # fmt: skip
FILES = {"solution.h5", "metrics.json", "config.yaml", "log.txt", "checkpoints"}
SOLVES, WARM = 200, 40


def held() -> dict[str, int]:
    """What this process holds."""
    import matplotlib.pyplot as plt
    from hydra.core.global_hydra import GlobalHydra

    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    handlers = [*logging.getLogger().handlers]
    handlers += [h for logger in logging.Logger.manager.loggerDict.values() for h in getattr(logger, "handlers", [])]
    return {
        "bytes": pages * child.PAGE,
        "handles": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "figures": len(plt.get_fignums()),
        "log handlers": len(handlers),
        "hydras": int(GlobalHydra.instance().is_initialized()),
        "temporary files": len(os.listdir(tempfile.gettempdir())),
    }


def solve(number: int) -> None:
    """One solve, in turns by the command line and from Python, every tenth with figures."""
    words = [*TINY, f"seed={number}", f"hydra.run.dir=run{number}", f"output.figures={number % 10 == 0}".lower()]
    if number % 2:
        assert main(["solve", *words, "output.progress=true"]) == 0
    else:
        kanpinn.solve([*words, "output.progress=false"])


@pytest.mark.slow
def test_many_solves_in_one_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))  # other programs do not count

    def work() -> int:
        for number in range(SOLVES):
            solve(number)
            if number + 1 in (WARM, SOLVES):
                print("HELD", json.dumps(held()), flush=True)
        return 0

    ended = child.run(work)
    assert ended.code == 0, ended.err[-2000:]
    warm, last = (json.loads(line[5:]) for line in ended.out.splitlines() if line.startswith("HELD "))
    growth = last.pop("bytes") / (size := warm.pop("bytes")) - 1
    grown = f"{size / 2**20:.1f} MiB after {WARM}, {growth:+.2%} later"
    print(f"\ncounts: {SOLVES} solves, {ended.seconds:.0f} s: {grown}; {last}")
    assert growth < 0.05
    assert last == warm
    assert last["figures"] == last["temporary files"] == last["hydras"] == 0
    for number in range(SOLVES):
        figures = {"figures"} if number % 10 == 0 else set()
        assert set(os.listdir(tmp_path / f"run{number}")) == FILES | figures
    assert set(os.listdir(tmp_path)) == {"tmp", *(f"run{number}" for number in range(SOLVES))}


@pytest.mark.slow
def test_forty_jobs_of_a_parallel_sweep(tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    words = [*TINY, "seed=range(0,40)", "output.progress=false", "output.figures=false", "hydra.sweep.dir=sweep"]

    def work() -> int:
        tempfile.tempdir = None
        return main(["solve", "-m", *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"])

    before = held()["handles"]
    ended = child.run(work)
    assert ended.code == 0, ended.err[-2000:]
    assert held()["handles"] == before
    for number in range(40):
        job = tmp_path / "sweep" / str(number)
        assert set(os.listdir(job)) == FILES
        assert json.loads((job / "metrics.json").read_text())["seed"] == number
    strays = [path for path in tmp_path.rglob("*") if path.suffix == ".tmp" or path.name == ".lock"]
    assert strays == []
    assert [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == []
    beside = sorted(os.listdir(tmp_path / "sweep"))[-6:]
    print(f"\ncounts: 40 jobs, 4 at a time, in {ended.seconds:.0f} s; beside them: {beside}")
