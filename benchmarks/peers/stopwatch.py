"""Error against seconds while something trains: the clock stands still while the error is measured."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MARKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300)
"""Seconds of training after which the error is measured."""


class Stopwatch:
    """The clock of one training.

    Attributes:
        curve: Pairs of seconds and relative L2 error, one per mark reached.
    """

    def __init__(self, seconds: float, evaluate: Callable[[np.ndarray], np.ndarray], reference: Path) -> None:
        """Read the reference and stand at 0.

        Args:
            seconds: Time at which training shall end; infinite for no such time.
            evaluate: From points `[N, d]` float64 to values `[N]`.
            reference: An .npz file with `points` `[N, d]` and `values` `[N]` or `[N, outputs]`.
        """
        with np.load(reference) as file:
            self._points, self._values = file["points"], file["values"]
        self._evaluate = evaluate
        self._marks = [float(m) for m in MARKS if m < seconds] + [float(seconds)]
        self._started: float | None = None
        self._spent = 0.0
        self.curve: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float:
        """Seconds run so far."""
        return self._spent + (0.0 if self._started is None else time.perf_counter() - self._started)

    def start(self) -> None:
        """Let the clock run."""
        self._started = time.perf_counter()

    def _stop(self) -> None:
        self._spent, self._started = self.seconds, None

    def error(self) -> float:
        """The relative L2 error of the present state, of the worst unknown; infinite where a value is not finite."""
        wanted = self._values.reshape(len(self._points), -1)  # a column per unknown; of the others there is none
        values = np.asarray(self._evaluate(self._points), dtype=np.float64).reshape(len(self._points), -1)
        values = values[:, : wanted.shape[1]]
        if not np.isfinite(values).all():
            return math.inf
        return float((np.linalg.norm(values - wanted, axis=0) / np.linalg.norm(wanted, axis=0)).max())

    def goes_on(self) -> bool:
        """To be asked between steps: measures the error where a mark is due; False once the time is up."""
        if not self._marks or self.seconds < self._marks[0]:
            return bool(self._marks)
        self._stop()
        error = self.error()
        while self._marks and self._spent >= self._marks[0]:
            self._marks.pop(0)
        self.curve.append((self._spent, error))
        self.start()
        return bool(self._marks)

    def result(self, **known: Any) -> dict[str, Any]:
        """Return the results of one run, once training has ended by the clock or by itself.

        Args:
            **known: What else is to be recorded.

        Returns:
            Plain values for a JSON file.
        """
        if self._started is not None:
            self._stop()
        if self._marks:  # it ended by itself: its last state is what it gives at every later time
            self.curve.append((self._spent, self.error()))
        return {"curve": self.curve, "ended": bool(self._marks), "seconds": self._spent, **known}


def arguments(description: str, problems: list[str]) -> argparse.Namespace:
    """The command line that all peers share.

    Args:
        description: What is run.
        problems: What it can solve.

    Returns:
        The arguments.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--problem", required=True, choices=problems)
    add("--seed", type=int, default=0)
    add("--seconds", type=float, default=60, help="of training (default: %(default)s)")
    add("--reference", type=Path, required=True, help=".npz file with points and values")
    add("--threads", type=int, default=1)
    add("--float64", action="store_true", help="in double precision; the examples are in single precision")
    add("--to-end", action="store_true", help="ends where the example does, whatever the time")
    add("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    if given.to_end:
        given.seconds = math.inf
    return given


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON.

    Args:
        path: The file.
        result: Plain values.
    """
    path.write_text(json.dumps(result), encoding="utf-8")
