"""Command line and results of the peers on the blind suite."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from statement import errors
from stopwatch import Stopwatch


class ProcessorWatch(Stopwatch):
    """A clock of the process's own processor time, all threads together: seconds of a core that it has to itself."""

    @property
    def seconds(self) -> float:
        """Seconds run so far."""
        return self._spent + (0.0 if self._started is None else time.process_time() - self._started)

    def start(self) -> None:
        """Let the clock run."""
        self._started = time.process_time()


class Given(argparse.Namespace):
    """The words.

    Attributes:
        statement: JSON file of the problem.
        reference: .npz file with points and values.
        out: JSON file to write.
        seed: The seed.
        seconds: Of training.
        threads: Of the process.
        scaled: Whether coordinates are mapped to [-1, 1].
        third: Whether DeepXDE's Adam ends after a third of the time at the latest.
    """

    statement: Path
    reference: Path
    out: Path
    seed: int
    seconds: float
    threads: int
    scaled: bool
    third: bool

    def watch(self, values: Callable[[np.ndarray], np.ndarray]) -> Stopwatch:
        """The clock of the training."""
        return ProcessorWatch(self.seconds, values, self.reference)


def given_words(description: str) -> Given:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--statement", type=Path, required=True, help="JSON file of the problem, by untuned_statement.py")
    add("--reference", type=Path, required=True, help=".npz file with points and values")
    add("--out", type=Path, required=True, help="JSON file to write")
    add("--seed", type=int, default=0)
    add("--seconds", type=float, default=60, help="of training (default: %(default)s)")
    add("--threads", type=int, default=1)
    add("--scaled", action="store_true", help="coordinates mapped to [-1, 1]")
    add("--third", action="store_true", help="of DeepXDE: Adam for a third of the time at most")
    return parser.parse_args(namespace=Given())


def finish(given: Given, watch: Stopwatch, values: Callable[[np.ndarray], np.ndarray], **known: Any) -> None:
    """Write the results, with the errors by unknown."""
    with np.load(given.reference) as file:
        points, wanted = file["points"], file["values"]
    found = watch.result(errors=errors(np.asarray(values(points), dtype=np.float64), wanted), **known)
    given.out.write_text(json.dumps(found), encoding="utf-8")
