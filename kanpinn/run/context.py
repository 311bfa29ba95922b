"""Surroundings of one solve: config, folder, log, logger, checkpoints, signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kanpinn.errors import say, warn
from kanpinn.loggers import Report
from kanpinn.run.checkpoints import Checkpoints
from kanpinn.run.flag import Flag
from kanpinn.run.log import RunLog
from kanpinn.run.processes import Order, Team
from kanpinn.settings.configuration import Configuration


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
    doubts: list[Flag] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Log a warning and say it, unless it is in the log already."""
        line = f"warning: {text}"
        if line not in self.log.lines:
            self.log.add(line)
            warn(text)

    def tell(self, text: str, gap: str = "") -> None:
        """Log a text, and print it with a gap behind it."""
        self.log.add(text)
        if self.spoken:
            say(text + gap)
