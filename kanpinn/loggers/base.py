"""The protocol of loggers: what they are told, and when."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kanpinn.errors import UserError
from kanpinn.options import Options


class Logger(Options):
    """Follower of a solve, which hears what it has methods for; its options are a dataclass's fields.

    Whatever a method raises is caught by `Report`: a logger never stops a solve.

    Attributes:
        package: Package that it imports, "" for none.
        extra: The extra of kanpinn that installs it.
        every: Number of steps from one message to the next.
    """

    key: ClassVar[str] = "logger"
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    every: int = 1

    def require(self) -> None:
        """Refuse to begin without the package; raises UserError that names the extra."""
        spec = importlib.util.find_spec(self.package) if self.package else None
        if self.package and (spec is None or spec.origin is None):  # without an origin: a mere folder of that name
            raise UserError(
                f"logger={self.extra}: {self.package} is not installed: pip install 'kanpinn[{self.extra}]'"
            )

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Hear that a solve begins, with its resolved config of plain values, in its run folder."""

    def step(self, number: int, row: Mapping[str, float]) -> None:
        """Hear of a step: the number done so far, discarded random starts included, and its row of the history."""

    def level(self, number: int, record: Mapping[str, Any]) -> None:
        """Hear that a stage has ended after so many steps, with its level's record as in metrics.json."""

    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        """Hear that the solve has ended, always and last: steps, content of metrics.json or None, PNG files drawn."""


@dataclass
class NoLogger(Logger):
    """No logger."""


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers among the values of nested mappings, by dotted key."""
    return {
        key: float(value)
        for key, value in leaves(values, prefix).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


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
            except (Exception, SystemExit) as error:
                text = " ".join(str(error).split())[:200]
                name = type(self._logger).__name__
                self._logger = None
                self._warn(f"warning: {name} failed, nothing more is logged there: {type(error).__name__}: {text}")
        for observer in self._observers:
            if due(observer):
                call(observer)
