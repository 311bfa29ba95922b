"""One protocol for all optimisers: a step takes parameters and returns better ones, or says why it cannot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from kanpinn.objective import Objective


@dataclass(frozen=True)
class Step:
    """What one optimiser step did.

    Attributes:
        theta: Parameters after the step, `[P]`.
        loss: The newest loss known without extra work: at `theta`, or at `measured` where that is given.
        terms: Each term's part of that loss.
        stop: Why the optimiser cannot go on, as advice to the user; None while it can.
        measured: Parameters `[P]` at which the loss was measured, if not at `theta`.
    """

    theta: Tensor
    loss: float
    terms: dict[str, float]
    stop: str | None = None
    measured: Tensor | None = None


class Optimizer(ABC):
    """An optimiser; its options are dataclass fields, its state is reset by `start`."""

    @abstractmethod
    def start(self, size: int, steps: int) -> None:
        """Begin anew.

        Args:
            size: Number of parameters.
            steps: How many steps the stage will take, for learning-rate schedules.
        """

    @abstractmethod
    def step(self, objective: Objective, theta: Tensor) -> Step:
        """Take one step.

        Args:
            objective: What to minimise; its points may have changed since the last step.
            theta: Parameters `[P]`.

        Returns:
            The step.
        """
