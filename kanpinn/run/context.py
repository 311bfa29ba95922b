"""Surroundings of one solve: config, folder, log, logger, checkpoints, signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.errors import say, warn
from kanpinn.estimate.estimate import ErrorEstimate
from kanpinn.loggers import Report
from kanpinn.run.checkpoints import Checkpoints
from kanpinn.run.flag import Flag
from kanpinn.run.log import RunLog
from kanpinn.run.processes import Order, Team
from kanpinn.run.verdict import Verdict
from kanpinn.settings.configuration import Configuration
from kanpinn.solver.history import StageEnd
from kanpinn.solver.solve import Watch
from kanpinn.solver.solver import Solver
from kanpinn.state import State

Estimates = tuple[ErrorEstimate | None, ErrorEstimate | None]
"""Estimates of the error by the defect equation and by the last level."""


class Searching(Protocol):
    """Search of an accuracy, whose state goes into checkpoints beside that of the solve under way.

    Attributes:
        asked: The config as asked for.
    """

    asked: Configuration

    def run(self, watch: Watch) -> tuple[Solver, StageEnd]:
        """Search, and return the best solve and how the whole has ended."""
        ...

    def slab_begun(self, solver: Solver) -> None:
        """A time slab of a solve is about to be trained."""

    def state(self, attempt: State) -> State:
        """Return all that a resumed search needs, with the state of the solve under way."""
        ...

    def network(self, solver: Solver) -> tuple[Backbone, Tensor]:
        """Return the best network so far."""
        ...

    def estimates(self, solver: Solver) -> Estimates:
        """Return the estimates by which a solve was judged."""
        ...

    def verdict(self, found: Verdict) -> Verdict:
        """Return the verdict on the best solve with the status of the whole search."""
        ...

    def message(self) -> str | None:
        """Return the status in words; None where the verdict has them."""

    def path(self) -> list[dict[str, Any]]:
        """Return what was tried, in plain values."""
        ...


@dataclass
class RunContext:
    """Surroundings of one solve.

    Attributes:
        configuration: The checked config.
        log: Its log.
        folder: The run folder; None where nothing is written.
        spoken: True if what is logged for readers is also printed on stdout.
        still_there: Raises UserError if somebody has removed the folder.
        report: Logger and observers; None before the solve begins.
        saved: Writer of checkpoints; None where nothing is written.
        caught: Signals received so far.
        order: What the other processes of the solve are told.
        team: These processes; None where there are none.
        search: Search of an accuracy; None where the config says all.
        doubts: What the examination of the problem has found that makes results doubtful.
    """

    configuration: Configuration
    log: RunLog
    folder: Path | None = None
    spoken: bool = True
    still_there: Callable[[], None] = lambda: None
    report: Report | None = None
    saved: Checkpoints | None = None
    caught: list[int] = field(default_factory=list)
    order: Order | None = None
    team: Team | None = None
    search: Searching | None = None
    doubts: list[Flag] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Log a warning and say it, unless it is in the log already."""
        line = f"warning: {text}"
        if line not in self.log.lines:
            self.log.add(line)
            warn(text)

    def warn_of(self, flags: Iterable[Mapping[str, Any]], blind: str | None) -> None:
        """Log the warnings of a result and say them, but for that of coefficients which its `blind` end tells."""
        for flag in flags:
            if blind and "undetermined" in flag:
                self.log.add(f"error: {blind}")
            else:
                self.warn(flag["message"])

    def heard(self, texts: Iterable[str]) -> None:
        """Log warnings that were given before there was a log."""
        lines = dict.fromkeys(f"warning: {text}" for text in texts)
        self.log.add(*(line for line in lines if line not in self.log.lines))

    def tell(self, text: str, gap: str = "") -> None:
        """Log a text, and print it with a gap behind it."""
        self.log.add(text)
        if self.spoken:
            say(text + gap)
