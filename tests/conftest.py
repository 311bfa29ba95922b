"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

if importlib.util.find_spec("kanpinn.conf") is None or importlib.util.find_spec("kanpinn.problems") is None:
    pytest.exit("kanpinn is not installed here: run `pip install -e '.[test]'` or `make test`", returncode=2)

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker a core: see `make test`

ROOT = Path(__file__).resolve().parent.parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what slow tests have counted: faults injected, cases survived, whatever they print behind "counts: "."""
    passed = terminalreporter.stats.get("passed", [])
    told = [(report.nodeid, line) for report in passed for line in report.capstdout.splitlines()]
    counts = [(test, line.removeprefix("counts: ")) for test, line in told if line.startswith("counts: ")]
    if counts:
        terminalreporter.section("what was counted")
        for test, line in counts:
            terminalreporter.write_line(f"{test.rpartition('::')[2]}: {line}")


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Leave out the some sixty waits of a run until its files are on the disk: only a power failure could tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@dataclass
class Result:
    """What a command gave back."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kanpinn(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command line, run inside this process in an empty current folder."""
    from kanpinn.cli.main import main

    def call(*argv: str) -> Result:
        capsys.readouterr()
        code = main(argv)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def recorded_run(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Replace the solver by one that checks its config, writes metrics.json and records what it was asked for.

    It shows what the command line does around a solve, without the time of one. A seed of 13 diverges, 14 is refused,
    15 crashes and 16 is interrupted by SIGTERM.
    """
    asked: list[dict] = []

    def run(cfg, folder):
        from kanpinn.errors import DivergedError, Interrupted, UserError
        from kanpinn.io.lock import check_folder
        from kanpinn.settings.config import validate

        check_folder(folder)
        resolved = validate(cfg).resolved
        seed = resolved["seed"]
        asked.append({"folder": folder, **resolved})
        if seed == 14:
            raise UserError("seed=14: refused by the solver.")
        if seed == 15:
            raise RuntimeError("a crash")
        status = {13: "diverged", 16: "interrupted"}.get(seed, "step_limit")
        metrics = {"schema_version": 1, "status": status, "parameters": 42, "loss": 1e-9, "wall_time_s": 0.5}
        metrics |= {"relative_l2": {"u": 0.1 * (seed + 1)}, "linf": {"u": 0.2}}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        if seed == 13:
            raise DivergedError("the loss is not finite after step 7.")
        if seed == 16:
            raise Interrupted(15)

    module = types.ModuleType("kanpinn.run.run")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kanpinn.run.run", module)
    return asked
