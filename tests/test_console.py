"""Progress on terminals, in files and nowhere; nothing that goes wrong with a stream fails a run."""

from __future__ import annotations

import io
import re
import sys

import pytest

from kanpinn.errors import say
from kanpinn.multilevel import Stage
from kanpinn.run import console
from kanpinn.run.console import stage_view
from kanpinn.solver.history import Progress

STAGE = Stage(1, 50)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *seconds: float) -> str:
    """All that stages of 50 steps write on stderr, each of which takes so many seconds."""
    monkeypatch.setattr(sys, "stderr", stream)
    now, view = 0.0, None
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    for taken in seconds:
        view = stage_view(STAGE, 8, view, show=True)
        for step in range(1, 51):
            now += taken / 50
            view.tell(Progress(STAGE, step, {"loss": 0.5 / step, "relative_l2_u": 0.1}))
        view.close()
    return stream.getvalue()


def test_a_terminal_gets_a_bar_and_a_file_gets_a_line_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    bar = shown(monkeypatch, Terminal(), 50)
    assert "\r" in bar and "50/50" in bar and "rel. L2 1.00e-01" in bar
    lines = shown(monkeypatch, io.StringIO(), 50)
    assert "\r" not in lines
    assert re.findall(r"step (\d+) of", lines) == ["3", "13", "23", "33", "43", "50"]  # the first soon, then the end
    assert lines.startswith("level 1 (grid 8): step 3 of 50, loss 1.67e-01, rel. L2 1.00e-01\n")


def test_short_levels_share_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert shown(monkeypatch, io.StringIO(), 0.5) == ""
    assert shown(monkeypatch, io.StringIO(), *([0.1] * 500)).count("\n") == 5
    assert re.findall(r"step (\d+) of", shown(monkeypatch, io.StringIO(), 4, 4, 4)) == ["38", "50", "50"]


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_who_disables_tqdm_sees_nothing(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert shown(monkeypatch, stream(), 50) == ""


class Broken(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_closed_pipe_no_stream_and_a_narrow_encoding_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken())
    say("text")
    monkeypatch.setattr(sys, "stdout", None)
    say("text")
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    say("‖r‖ = 1")
    assert narrow.buffer.getvalue() == b"?r? = 1\n"
