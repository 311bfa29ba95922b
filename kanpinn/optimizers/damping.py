"""Damping of Gauss–Newton steps: Nielsen's rule, and a target for the gain ratio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from kanpinn.state import State

SMALLEST = 1e-20
"""λ does not fall below this."""


@dataclass
class Damping(ABC):
    """λ after successes and failures.

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

    @property
    @abstractmethod
    def least(self) -> float:
        """The gain ratio ρ that a step must exceed to be accepted; ρ = actual/predicted fall of the loss."""

    @abstractmethod
    def shrink(self, ratio: float) -> float:
        """Factor of λ after a step with gain ratio ρ."""

    def accept(self, ratio: float) -> None:
        """λ after a step with gain ratio ρ."""
        self.value = max(self.value * self.shrink(ratio), SMALLEST)
        self.factor = 2.0

    def reject(self) -> None:
        """λ ← λν, ν ← 2ν after a step that gained nothing, or too little."""
        self.value *= self.factor
        self.factor *= 2

    def back_off(self) -> None:
        """λ ← 100 λ after numbers that were not finite; a later `reset` begins there too."""
        self.first, self.value, self.factor = 100 * self.first, 100 * max(self.value, self.first), 2.0

    def follow(self, other: Damping) -> None:
        """Go on where another one stands."""
        self.value, self.factor = other.value, other.factor

    def state(self) -> State:
        """λ, ν and where they begin."""
        return {"first": self.first, "value": self.value, "factor": self.factor}

    def load_state(self, state: State) -> None:
        """Take them from a state."""
        self.first = float(state["first"])
        self.value, self.factor = float(state["value"]), float(state["factor"])


@final
class NielsenDamping(Damping):
    """Nielsen's rule: λ ← λ max(1/3, 1 − (2ρ − 1)³) for any ρ > 0 (Nielsen 1999, IMM-REP-1999-05, eq. 2.21)."""

    @property
    def least(self) -> float:
        return 0.0

    def shrink(self, ratio: float) -> float:
        return max(1 / 3, 1 - (2 * ratio - 1) ** 3)


@final
@dataclass
class TargetRatioDamping(Damping):
    """λ is steered so that the gain ratio comes down to a target: the longest step that still gains that share.

    A step with ρ below the target is refused. After one above it λ ← λ max(1/5, (1 − ρ)/(1 − target)): as it is at
    the target, a fifth where the quadratic model is exact. That refuses what a trust region would (Nocedal and Wright
    2006, algorithm 4.1, with η = target) and replaces its steps of two by a proportional rule.

    Attributes:
        target: The gain ratio aimed at, above 0 and below 1.
    """

    target: float = 0.25

    @property
    def least(self) -> float:
        return self.target

    def shrink(self, ratio: float) -> float:
        return min(1.0, max(1 / 5, (1 - ratio) / (1 - self.target)))


RULES = ("nielsen", "target_ratio")


def damping(rule: str, first: float, target: float) -> Damping:
    """A rule of `RULES` by name, at λ = `first`."""
    return NielsenDamping(first) if rule == "nielsen" else TargetRatioDamping(first, target=target)
