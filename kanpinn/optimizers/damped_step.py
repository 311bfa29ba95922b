"""Damped Gauss–Newton step: trial steps of one linearised problem under one damping rule, until one lowers the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from kanpinn.optimizers.base import Step
from kanpinn.optimizers.damping import Damping


class Proposal(NamedTuple):
    """A trial step.

    Attributes:
        change: δ `[P]`.
        predicted: Fall of the loss that the quadratic model promises.
    """

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
    """Parameters after a trial step, with the loss there.

    Attributes:
        theta: All parameters `[P]`.
        loss: The loss.
        terms: Each term's part of ‖r‖².
    """

    theta: Tensor
    loss: float
    terms: dict[str, float]


class Outcome(NamedTuple):
    """Result of the trials of one step.

    Attributes:
        landing: The trial accepted; None where no damping lowers the loss.
        change: Its δ `[P]`.
        solvable: True if any system had a solution.
    """

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
    """Try dampings until a step lowers the loss, and by as much as the damping rule asks for.

    The first trial after a failure drops the momentum. If no damping will do, the rule begins anew.

    Args:
        model: The linearised problem.
        land: Gives the parameters and the loss after a step δ.
        damping: The rule; sees what came of every trial.
        trials: Largest number made.
        below: The loss that the new one must be under.
        last: The step before, which momentum continues.
        momentum: μ.

    Returns:
        The step, if any.
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
