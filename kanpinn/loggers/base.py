"""The protocol of loggers: what they are told, and when."""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kanpinn.errors import UserError, invalid


class Logger(ABC):
    """Somebody who is told what a solve does; its options are a dataclass's fields.

    Whatever a method raises is caught by `Report`: a logger never stops a solve.

    Attributes:
        package: What it imports, "" for nothing.
        extra: The extra of kanpinn that installs it.
        every: Of how many steps it is told one.
    """

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

    @abstractmethod
    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """A solve begins.

        Args:
            config: The resolved config, plain values.
            folder: The run folder.
        """

    @abstractmethod
    def step(self, number: int, row: Mapping[str, float]) -> None:
        """A step is done.

        Args:
            number: Steps done so far, those of discarded random starts included.
            row: Its row of the history: `loss`, `level`, `wall_time`, `term_…`, `relative_l2_…`, …
        """

    @abstractmethod
    def level(self, number: int, record: Mapping[str, Any]) -> None:
        """A stage of a level has ended.

        Args:
            number: Steps done so far.
            record: The level's record so far, as in `levels` of metrics.json.
        """

    @abstractmethod
    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        """The solve has ended; told always, and last.

        Args:
            number: Steps done.
            metrics: The content of metrics.json; None if the solve ended without.
            figures: The PNG files drawn.
        """


@dataclass
class NoLogger(Logger):
    """Nobody."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        pass

    def step(self, number: int, row: Mapping[str, float]) -> None:
        pass

    def level(self, number: int, record: Mapping[str, Any]) -> None:
        pass

    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        pass


def check_every(every: int) -> None:
    """Raise UserError unless a logger's `every` is a number of steps."""
    if every < 1:
        raise invalid("logger.every", every, "a whole number of at least 1")


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
