"""Damped Gauss–Newton step: trials of one linearised problem until one lowers the loss, and rules for the damping."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

from torch import Tensor

from kanpinn.optimizers.base import Step
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


class Proposal(NamedTuple):
    """A trial step δ `[P]`, and the fall of the loss that the quadratic model promises."""

    change: Tensor
    predicted: float


class Model(Protocol):
    """Quadratic model of the loss that proposes a step for any damping (`descent` in optimistix's words)."""

    @property
    def loss(self) -> float:
        """The loss at the parameters."""
        ...

    def mean(self) -> float:
        """The mean of diag JᵀJ, the unit of damping."""
        ...

    def propose(self, shift: float, last: Tensor | None, momentum: float) -> Proposal | None:
        """The minimiser of ‖r + J δ‖² + s ‖δ − μ p‖²; None where rounding leaves no solution.

        The shift s is above 0, p the last step `[P]`, None for 0, and μ the momentum.
        """
        ...


class Landing(NamedTuple):
    """All parameters `[P]` after a trial step, with the loss there and each term's part of ‖r‖²."""

    theta: Tensor
    loss: float
    terms: dict[str, float]


class Outcome(NamedTuple):
    """Trial accepted of one step with its δ `[P]`, None if no damping lowers the loss; if any system was solvable."""

    landing: Landing | None
    change: Tensor | None
    solvable: bool


def damped_step(
    model: Model,
    land: Callable[[Tensor], Landing],
    damping: Damping,
    trials: int,
    *,
    below: float,
    last: Tensor | None = None,
    momentum: float = 0.0,
) -> Outcome:
    """Try dampings until a step lowers the loss below a bound, and by as much as the damping rule asks for.

    The first trial after a failure drops the momentum μ, which continues the `last` step. If no damping of so many
    trials will do, the rule begins anew. `land` gives the parameters and the loss after a step δ.
    """
    mean, solvable = model.mean(), False
    for _ in range(trials):
        proposal = model.propose(damping.value * mean, last, momentum)
        if proposal is not None:
            solvable = True
            landing = land(proposal.change)
            ratio = (model.loss - landing.loss) / proposal.predicted if proposal.predicted > 0 else -1.0
            if math.isfinite(landing.loss) and landing.loss < below and ratio > damping.least:
                damping.accept(ratio)
                return Outcome(landing, proposal.change, solvable)
        if last is not None:
            last = None
            continue
        damping.reject()
    damping.reset()
    return Outcome(None, None, solvable)


def refusal(theta: Tensor, loss: float, terms: dict[str, float], trials: int, advice: str | None = None) -> Step:
    """Return the step of an optimiser that stays at theta `[P]` after so many trials.

    The advice is on singular systems, if no system had a solution.
    """
    if advice is not None:
        why = f"the damped system is singular in rounding for all of {trials} dampings; try {advice}"
        return Step(theta, loss, terms, why, failed=True)
    return Step(theta, loss, terms, f"no damping of {trials} lowers the loss (a minimum, or rounding)")
