"""The protocol of loggers: what they are told, and when."""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kanpinn.errors import UserError
from kanpinn.options import Options


class Logger(Options, ABC):
    """Follower of a solve; its options are a dataclass's fields.

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

    @abstractmethod
    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Hear that a solve begins, with its resolved config of plain values, in its run folder."""

    @abstractmethod
    def step(self, number: int, row: Mapping[str, float]) -> None:
        """Hear of a step: the number done so far, discarded random starts included, and its row of the history."""

    @abstractmethod
    def level(self, number: int, record: Mapping[str, Any]) -> None:
        """Hear that a stage has ended after so many steps, with its level's record as in metrics.json."""

    @abstractmethod
    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        """Hear that the solve has ended, always and last: steps, content of metrics.json or None, PNG files drawn."""


@dataclass
class NoLogger(Logger):
    """No logger."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        pass

    def step(self, number: int, row: Mapping[str, float]) -> None:
        pass

    def level(self, number: int, record: Mapping[str, Any]) -> None:
        pass

    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        pass


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
