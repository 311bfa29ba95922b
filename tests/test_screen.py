"""A screen that is closed, full, narrow or in no hurry decides about nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import child

import kanpinn
from kanpinn.cli.main import main, script

QUIET = ["problem=heat", "threads=1", "schedule.levels=1", "schedule.steps=2", "sampler.interior=50"]
QUIET += ["sampler.boundary=10", "output.points=9", "output.figures=false"]
POINTS = "x,t\n0.5,0.5\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and a table of points in it."""
    folder = tmp_path_factory.mktemp("screen")
    assert main(["solve", *QUIET, f"hydra.run.dir={folder / 'run'}"]) == 0
    (folder / "p.csv").write_text(POINTS)
    return folder


def shut(number: int) -> Callable[[], object]:
    return lambda: os.close(number)


def full(number: int) -> Callable[[], object]:
    return lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), number)


def unread(number: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, number)


SCREENS: dict[str, list[Callable[[], object]]] = {
    "full": [full(1)],
    "closed": [shut(1)],
    "both closed": [shut(1), shut(2)],
    "both full": [full(1), full(2)],
    "nobody reads": [lambda: unread(1)],
}


def outcome(
    words: list[str], folder: Path, screen: list[Callable[[], object]], encoding: str = "utf-8"
) -> child.Outcome:
    """What the command does in a child whose descriptors are made so, read as Python reads them at its start."""

    def work() -> int:
        os.chdir(folder)
        for spoil in screen:
            spoil()
        for number, name in ((1, "stdout"), (2, "stderr")):
            try:
                os.fstat(number)
                stream = io.TextIOWrapper(
                    io.FileIO(number, "w", closefd=False), encoding, "strict", line_buffering=True
                )
            except OSError:
                stream = None
            setattr(sys, name, stream)
        sys.argv = ["kanpinn", *words]
        with pytest.raises(SystemExit) as left:
            script()
        code = left.value.code
        assert isinstance(code, int)
        return code

    return child.run(work)


COMMANDS = ["--help", "solve --help", "inspect run", "inspect run --json", "compare run run", "resume run"]
LIST = "list problems"
REPORT = pytest.param("report run", "full", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("words", "screen"), [*((LIST, screen) for screen in SCREENS), *((words, "full") for words in COMMANDS), REPORT]
)
def test_no_command_minds_a_screen_that_takes_nothing(words: str, screen: str, place: Path) -> None:
    done = outcome(words.split(), place, SCREENS[screen])
    assert done.code == 0
    lost = "kanpinn: warning: stdout: No space left on device; some of what was printed is lost\n"
    assert done.err == (lost if screen == "full" else "")


@pytest.mark.parametrize("screen", SCREENS)
def test_a_complaint_that_nobody_reads_is_still_one(screen: str, place: Path) -> None:
    assert outcome(["list", "nonsense"], place, SCREENS[screen]).code == 2


@pytest.mark.parametrize("screen", SCREENS)
def test_a_table_that_finds_no_place_is_an_error(screen: str, place: Path) -> None:
    """It is the result: a script goes on with it."""
    done = outcome(["evaluate", "run", "--points", "p.csv"], place, SCREENS[screen])
    assert done.code == (2 if "full" in screen else 0) and done.err.count("\n") == (screen == "full")


@pytest.mark.parametrize(
    ("words", "encoding"), [(LIST, "cp1252"), (LIST, "latin-1"), *((words, "ascii") for words in (LIST, *COMMANDS))]
)
def test_letters_that_an_encoding_lacks_are_replaced(words: str, encoding: str, place: Path) -> None:
    narrow, wide = (outcome(words.split(), place, [], name) for name in (encoding, "utf-8"))
    assert (narrow.code, narrow.err) == (wide.code, wide.err) == (0, "")
    assert len(narrow.out) == len(wide.out)


def test_a_file_never_gets_the_number_of_a_closed_stream(place: Path) -> None:
    """All that is printed after the file is opened would stand in it."""
    done = outcome(["solve", *QUIET, "hydra.run.dir=shut"], place, [shut(0), shut(1), shut(2)])
    assert done.code == 0
    assert main(["inspect", str(place / "shut"), "--check"]) == 0


def test_a_reader_that_does_not_want_to_be_waited_for_gets_everything(place: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    work = child.start(lambda: outcome(["inspect", "run", "--json"], place, [lambda: os.dup2(writing, 1)]).code)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        time.sleep(1)  # more comes than a pipe holds unless it is read
        text = stream.read()
    assert work.wait().code == 0
    assert json.loads(text)["kind"] == "run"


@pytest.mark.parametrize("command", ["list problems >/dev/full 2>&1", "list problems >&- 2>&-", "list problems | true"])
def test_the_end_of_the_interpreter_says_nothing_more(command: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m kanpinn {command}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stream_of_the_callers_that_raises_anything_decides_nothing(tmp_path, monkeypatch) -> None:
    class Gone:
        """A window that has been deleted."""

        def write(self, _: str) -> None:
            raise RuntimeError("wrapped object has been deleted")

    words = ["problem=heat", "backbone.width=[2]", "schedule.levels=1", "schedule.steps=2", "output.points=5"]
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "stderr", Gone())
    solution = kanpinn.solve([*words, "threads=1", "output.figures=false", f"hydra.run.dir={tmp_path / 'run'}"])
    assert (tmp_path / "run" / "metrics.json").exists() and solution.metrics["status"] == "step_limit"
