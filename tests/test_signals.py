"""Signals end a run with its state written, one wish at a time; the caller's own handlers stay."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import child

from kanpinn.cli import main as command
from kanpinn.io.atomic import atomic_path
from kanpinn.io.metrics import metrics_of
from kanpinn.run import signals
from kanpinn.run.signals import URGENT, WARNINGS, stop_signals

ENDLESS = ["problem=heat", "threads=1", "schedule.levels=1", "schedule.steps=1000000", "optimizer=adam"]
ENDLESS += ["sampler.interior=50", "sampler.boundary=10", "output.points=9", "output.progress=false"]
ENDLESS += ["checkpoint.every_s=0.2"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Handlers as in a fresh process, and afterwards those from before."""
    before = {number: signal.getsignal(number) for number in (*URGENT, *WARNINGS)}
    for number in WARNINGS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stopped(folder: Path, *numbers: int) -> child.Outcome:
    """A run without end that gets some signals at once after its first checkpoint."""
    run = child.start(lambda: command.main(["solve", *ENDLESS, f"hydra.run.dir={folder}"]))
    deadline = time.monotonic() + 60
    while not list(folder.glob("checkpoints/*.h5")) and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in numbers:
        os.kill(run.pid, number)
    return run.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, *(pytest.param(n, marks=pytest.mark.slow) for n in WARNINGS[1:])])
def test_what_terminals_queues_and_limits_send_ends_a_run_with_its_state_written(number: int, tmp_path: Path) -> None:
    done = stopped(tmp_path / "run", number)
    assert done.code == 128 + number, done.err
    assert metrics_of(tmp_path / "run")["status"] == "interrupted"
    assert list((tmp_path / "run/checkpoints").iterdir())


def test_two_signals_at_once_are_one_wish(tmp_path: Path) -> None:
    done = stopped(tmp_path / "run", signal.SIGINT, signal.SIGTERM, signal.SIGTERM)
    assert done.code == 130
    assert done.err.count("stopping after this step") == 1 and "race" not in done.err and "Traceback" not in done.err
    assert metrics_of(tmp_path / "run")["status"] == "interrupted"


def test_none_is_lost_and_a_later_one_has_its_usual_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    with stop_signals(lambda: seen.append("begun")) as caught:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.raise_signal(number)
        assert (caught, seen) == ([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], ["begun"])
        monkeypatch.setattr(signals, "TOGETHER_S", 0.0)
        for number in (*WARNINGS, signal.SIGTERM):  # the CPU limit's comes every second
            signal.raise_signal(number)
        assert seen == ["begun", signal.SIGTERM]


def test_a_signal_in_the_middle_of_a_line_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy:
        def write(self, _: str) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr(sys, "stderr", Busy())
    with stop_signals() as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught == [signal.SIGTERM]


def test_a_warning_that_is_ignored_or_has_a_use_is_left_alone() -> None:
    seen = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    with stop_signals() as caught:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
    assert (caught, seen) == ([], [signal.SIGUSR1])


def test_handlers_are_as_before_whatever_ends_the_run() -> None:
    before = {number: signal.getsignal(number) for number in (*URGENT, *WARNINGS)}
    with contextlib.suppress(ZeroDivisionError), stop_signals():
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_thread_touches_no_signal() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stop_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def ended() -> int:
    """The exit code of the installed command."""
    with pytest.raises(SystemExit) as end:
        command.script()
    return int(str(end.value.code))


def test_ctrl_c_in_the_middle_of_an_import_leaves_at_once_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nfinally:\n    print('half a module')\n"
    (tmp_path / "interrupting.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(command, "_dispatch", lambda _: importlib.import_module("interrupting"))
    done = child.run(ended)
    assert (done.code, done.out, done.err) == (130, "", "kanpinn: interrupted, before anything was begun\n")


def test_ctrl_c_before_a_run_is_trained_takes_back_what_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(_: object) -> None:
        with atomic_path(tmp_path / "table.csv"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "_dispatch", work)
    done = child.run(ended)
    assert (done.code, done.err, list(tmp_path.iterdir())) == (130, "kanpinn: interrupted\n", [])
