"""How strongly Gauss–Newton steps are damped: Nielsen's rule."""

from __future__ import annotations

from dataclasses import dataclass

from kanpinn.state import State


@dataclass
class NielsenDamping:
    """λ after successes and failures (Nielsen 1999, IMM-REP-1999-05, eq. 2.21).

    Attributes:
        first: λ at the start, and again after `reset`.
        value: λ.
        factor: ν, by which the next failure raises λ.
    """

    first: float
    value: float = 0.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.value, self.factor = self.first, 2.0

    def accept(self, ratio: float) -> None:
        """λ ← λ max(1/3, 1 − (2ρ − 1)³) after a step with gain ratio ρ."""
        self.value = max(self.value * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 1e-20)
        self.factor = 2.0

    def reject(self) -> None:
        """λ ← λν, ν ← 2ν after a step that gained nothing."""
        self.value *= self.factor
        self.factor *= 2

    def retreat(self) -> None:
        """λ ← 100 λ after numbers that were not finite; a later `reset` begins there too."""
        self.first, self.value, self.factor = 100 * self.first, 100 * max(self.value, self.first), 2.0

    def follow(self, other: NielsenDamping) -> None:
        """Go on where another one stands."""
        self.value, self.factor = other.value, other.factor

    def state(self) -> State:
        """λ, ν and where they begin."""
        return {"first": self.first, "value": self.value, "factor": self.factor}

    def load_state(self, state: State) -> None:
        """Take them from a state."""
        self.first = float(state["first"])
        self.value, self.factor = float(state["value"]), float(state["factor"])
