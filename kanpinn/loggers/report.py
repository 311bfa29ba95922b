"""Messages to loggers, sent from one place that counts steps and keeps their failures from the solve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kanpinn.loggers.base import Logger


class Report:
    """Tells a logger, and observers of the calling program, what a solve does.

    A logger that fails is told nothing more; the run's log says so, once. What an observer raises ends the solve.
    """

    def __init__(
        self, logger: Logger, warn: Callable[[str], None], observers: Sequence[Logger] = (), steps: int = 0
    ) -> None:
        """Report to a logger that may fail, with `warn` to say so, and to observers that may not; `steps` are done."""
        self._logger: Logger | None = logger
        self._warn = warn
        self._observers = list(observers)
        self._steps = steps
        self._finished = False

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Tell that a solve begins, with its resolved config, in its folder."""
        self._tell(lambda listener: listener.start(config, folder))

    def step(self, row: Mapping[str, float]) -> None:
        """Tell of a step, by its row of the history."""
        self._steps += 1
        number = self._steps
        self._tell(lambda listener: listener.step(number, row), lambda one: number == 1 or number % one.every == 0)

    def level(self, record: Mapping[str, Any]) -> None:
        """Tell that a stage has ended, by its level's record."""
        self._tell(lambda listener: listener.level(self._steps, record))

    def finish(self, metrics: Mapping[str, Any] | None, folder: Path | None = None) -> None:
        """Tell that the solve has ended, with its metrics and the folder of its figures; only the first call counts."""
        if not self._finished:
            self._finished = True
            figures = sorted(folder.glob("*.png")) if folder is not None and folder.is_dir() else []
            self._tell(lambda listener: listener.finish(self._steps, metrics, figures))

    def _tell(self, call: Callable[[Logger], None], due: Callable[[Logger], bool] = lambda _: True) -> None:
        if self._logger is not None and due(self._logger):
            try:
                call(self._logger)
            except Exception as error:
                text = " ".join(str(error).split())[:200]
                name = type(self._logger).__name__
                self._logger = None
                self._warn(f"warning: {name} failed, nothing more is logged there: {type(error).__name__}: {text}")
        for observer in self._observers:
            if due(observer):
                call(observer)
