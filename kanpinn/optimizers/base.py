"""One protocol for all optimisers: a step takes parameters and returns better ones, or says why it cannot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.options import Options
from kanpinn.state import State


@dataclass(frozen=True)
class Step:
    """Result of one optimiser step.

    Attributes:
        theta: Parameters after the step, `[P]`.
        loss: The newest loss known without extra work: at `theta`, or at `measured` where that is given.
        terms: Each term's part of that loss.
        stop: Why the optimiser cannot go on, as advice to the user; None while it can.
        measured: Parameters `[P]` at which the loss was measured, if not at `theta`.
        failed: True if it stopped because it could not compute a step, rather than at what may be a minimum.
    """

    theta: Tensor
    loss: float
    terms: dict[str, float]
    stop: str | None = None
    measured: Tensor | None = None
    failed: bool = False


class Optimizer(Options, ABC):
    """An optimiser; its options are dataclass fields, its state is reset by `start`.

    Attributes:
        stream: Seeds its random numbers, if it draws any; the run's seed and what tells the stage from all others.
    """

    key: ClassVar[str] = "optimizer"
    stream: Sequence[int] = ()

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse options that mean nothing to a network, before any work starts; raises UserError."""
        return

    def check_objective(self, objective: LeastSquares, theta: Tensor) -> None:
        """Refuse a problem that the optimiser cannot solve, before any work starts; raises UserError.

        The objective has a small network of the kind to be trained, at a few points, theta random parameters `[P]`.
        """
        return

    def storage(self, points: int, parameters: int, *, jacobian: bool) -> int:
        """Numbers held beside those of a forward pass, for estimates of memory, with so many points and parameters.

        With `jacobian` JᵀJ is formed from rows of J, not from local parts or shared coordinate values.
        """
        return 0

    @abstractmethod
    def start(self, size: int, steps: int) -> None:
        """Begin anew for P parameters and a stage of some steps, with nothing left of earlier ones."""

    def carry(self, other: Self, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]) -> None:
        """Take over the state that the same optimiser has reached on another level; called right after `start`.

        `vector` maps parameter changes `[P_other]` to this level, `[P]`: prolongation P or projection R. `covector`
        maps gradients likewise, so that pairings with vectors are kept: Rᵀ upwards, Pᵀ downwards.
        """
        return

    def moved(self) -> None:
        """Forget what belongs to other parameters: the next step is from such as no step has led to."""
        return

    @abstractmethod
    def state(self) -> State:
        """State of the optimiser: all that its next step depends on, given the objective and theta."""

    @abstractmethod
    def load_state(self, state: State, device: torch.device) -> None:
        """Stand where another one's `state` stood, arrays in place of tensors; called after `start`."""

    @abstractmethod
    def back_off(self) -> bool:
        """Forget what led to numbers that are not finite and go on more carefully: more damping or shorter steps.

        Returns True if the next step from the same parameters will be another one.
        """

    @abstractmethod
    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        """Take one step from theta `[P]`; the objective's points may have changed since the last one."""
