"""Cases made from their numbers alone, run one after the other in a child with a bounded memory, and counted."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kanpinn.cli.main import main
from support import child

MEMORY = 2 * 2**30
SECONDS = 60
"""For one case, on a machine that others use too; the slowest takes a second or two on an idle one."""

NASTY: list[Any] = [
    None, True, -1, 0, 1, 2, 1e308, -1e-308, math.nan, math.inf, 10**9, 10**30, -(2**63), 0.5, "", "x" * 10_000,
    "a\x00b",
    "\x1b[2J", "${oc.env:HOME}", "${problem}", "${.x}", "${", "$", "???", "../../x", "/etc/passwd", "os.system", "1e9",
    "nan", "null", [], [0], [[1]], [None], ["x"], [10**9], {}, {"_target_": "os.system"}, {"name": "kan"}, {"a": {}},
    [1, "2", 3.0], "ü\u202e", list(range(1000)),
]  # fmt: skip


def fuzz(cases: range, one: Callable[[int], str]) -> dict[str, int]:
    """Run cases in a child; each returns one word, which is counted. Fails naming the first case that went wrong."""

    def work() -> int:
        os.environ["HOME"] = "/tell-nobody"  # what no output may hold
        for number in cases:
            began = time.monotonic()
            try:
                word = one(number)
            except BaseException:
                word = "FAULT\n" + traceback.format_exc()
            if time.monotonic() - began > SECONDS:
                word = f"FAULT after {time.monotonic() - began:.0f} s"
            print(json.dumps([number, word]), flush=True)
        return 0

    ended = child.run(work, memory=MEMORY)
    # Jobs of a sweep that stops may still write to the stream beside.
    told = [json.loads(line) for line in ended.out.splitlines() if line.startswith("[")]
    faults = [(number, word) for number, word in told if word.startswith("FAULT")]
    assert not faults, f"{len(faults)} of {len(told)} cases, the first is {faults[0][0]}: {faults[0][1]}"
    assert ended.code == 0, f"case {cases.start + len(told)} ended the process: {ended.code} {ended.err[-500:]}"
    assert [number for number, _ in told] == list(cases)
    assert ended.peak < MEMORY
    counts: dict[str, int] = {}
    for _, word in told:
        counts[word] = counts.get(word, 0) + 1
    print(f"\ncounts: {len(told)} cases, all survived: {counts}; {ended.peak / 2**20:.0f} MiB at most")
    return counts


@dataclass
class Said:
    """What a command gave back."""

    code: int
    out: str
    err: str


def call(*argv: str, codes: tuple[int, ...] = (0, 2), jobs: bool = False) -> Said:
    """Run a command, and check that all it says of faults is one line, for each job of a sweep; none is a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    said = Said(code, out.getvalue(), err.getvalue())
    assert code in codes, said
    assert all(line.startswith("kanpinn: ") for line in said.err.splitlines()), said.err
    errors = [
        line for line in said.err.splitlines() if line.startswith("kanpinn: error: ") or (jobs and ": error: " in line)
    ]
    assert bool(errors) == (code == 2), said.err
    assert jobs or len(errors) <= 1, said.err
    assert "not enough memory" not in said.err
    assert "tell-nobody" not in said.out + said.err
    assert "\x1b" not in said.out + said.err
    return said
