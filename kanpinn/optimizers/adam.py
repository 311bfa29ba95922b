"""Adam with a linear ramp and a decaying learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from kanpinn.errors import invalid, unknown_choice
from kanpinn.objective import Objective
from kanpinn.optimizers.base import Optimizer, Step

DECAYS = ("none", "exponential", "cosine")


@dataclass
class Adam(Optimizer):
    """Adam with a learning rate that ramps up at the start of every stage and then decays (Kingma and Ba 2015).

    Attributes:
        lr: Learning rate after the ramp.
        ramp_from: Learning rate at the first step.
        ramp_steps: Steps over which it grows linearly from `ramp_from` to `lr`.
        decay: none, exponential or cosine, from `lr` to `lr_end` over the rest of the stage.
        lr_end: Learning rate at the last step of the stage.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of squared gradients.
        epsilon: Added to the root of the second moment.
        weight_decay: Decoupled weight decay (Loshchilov and Hutter 2019), per unit learning rate.
    """

    lr: float = 1e-2
    ramp_from: float = 1e-4
    ramp_steps: int = 10
    decay: str = "exponential"
    lr_end: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for key in ("lr", "ramp_from", "lr_end", "epsilon"):
            if not (getattr(self, key) > 0 and math.isfinite(getattr(self, key))):
                raise invalid(f"optimizer.{key}", getattr(self, key), "a number above 0")
        for key in ("beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                raise invalid(f"optimizer.{key}", getattr(self, key), "a number from 0 to below 1")
        if self.ramp_steps < 0:
            raise invalid("optimizer.ramp_steps", self.ramp_steps, "an integer of at least 0")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise invalid("optimizer.weight_decay", self.weight_decay, "a number of at least 0")
        if self.decay not in DECAYS:
            raise unknown_choice("optimizer.decay", self.decay, DECAYS)

    def start(self, size: int, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._m: Tensor | None = None
        self._v: Tensor | None = None

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0 within the stage."""
        if step < self.ramp_steps:
            return self.ramp_from + (self.lr - self.ramp_from) * step / self.ramp_steps
        fraction = min(1.0, (step - self.ramp_steps) / max(1, self._steps - 1 - self.ramp_steps))
        if self.decay == "exponential":
            return self.lr * (self.lr_end / self.lr) ** fraction
        if self.decay == "cosine":
            return self.lr_end + (self.lr - self.lr_end) * 0.5 * (1 + math.cos(math.pi * fraction))
        return self.lr

    def step(self, objective: Objective, theta: Tensor) -> Step:
        loss, gradient, terms = objective.loss_and_gradient(theta)
        if not math.isfinite(loss):
            return Step(theta, loss, terms, "loss is not finite: try a smaller optimizer.lr")
        rate = self.rate(self._done)
        self._done += 1
        if self._m is None or self._v is None:
            self._m, self._v = gradient * 0.0, gradient * 0.0
        self._m = self.beta1 * self._m + (1 - self.beta1) * gradient
        self._v = self.beta2 * self._v + (1 - self.beta2) * gradient.square()
        m = self._m / (1 - self.beta1**self._done)
        v = self._v / (1 - self.beta2**self._done)
        new = theta * (1 - rate * self.weight_decay) - rate * m / (v.sqrt() + self.epsilon)
        return Step(new, loss, terms, measured=theta)
