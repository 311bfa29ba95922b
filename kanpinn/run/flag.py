"""Flags: reasons to doubt a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Flag:
    """Something that makes a result doubtful, with advice.

    Attributes:
        kind: conditions, growth, problem, coefficients, jumps, points, parameters, loss, term, stalled, error,
            estimate or reference.
        message: One line for people.
        values: The numbers behind it.
    """

    kind: str
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """An entry of `warnings` in metrics.json."""
        return {"kind": self.kind, "message": self.message, **self.values}


def percent(share: float) -> str:
    """Return a share in words, at most 999 %."""
    return f"{100 * min(share, 9.99):.3g} %"
