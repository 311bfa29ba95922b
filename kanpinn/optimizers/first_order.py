"""First-order methods: learning rates over a stage, gradient descent and Adam, in the basis of splines or of ReLUs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.relu_kan import map_splines, maps_splines
from kanpinn.errors import invalid
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.options import option
from kanpinn.splines.power_relu import relu_gradient, spline_coefficients
from kanpinn.state import State, tensor

DECAYS = ("none", "exponential", "cosine", "cyclic")
BASES = ("spline", "relu")


@dataclass
class FirstOrder(Optimizer):
    """Steps theta ← theta − rate · direction(gradient), with a rate that ramps up and then decays.

    A KAN's spline coefficients may be moved as if they were coefficients of power-ReLU functions, the four pairings of
    Southworth et al. 2026, Table 1, with A of their Lemma 3: `gradient=relu` shows the rule g A^{-T} instead of the
    gradient g, and `geometry=relu` takes its answer d for a step in W_relu, which is d A^{-1} in W_spline. With both,
    the rule runs on W_relu = W_spline A; plain gradient descent is then preconditioned by (A Aᵀ)^{-1}.
    """

    lr: float = option(1e-2, "learning rate after the ramp", above=0)
    ramp_from: float = option(1e-4, "learning rate at the first step", above=0)
    ramp_steps: int = option(10, "steps over which it grows linearly to the first rate of the decay", at_least=0)
    decay: str = option(
        "exponential", "exponential or cosine, from lr to lr_end over the stage; cyclic; none", one_of=DECAYS
    )
    lr_end: float = option(1e-4, "learning rate at the last step; cyclic: lower end of every cycle", above=0)
    period: int = option(100, "cyclic: steps of one cycle", at_least=2)
    gamma: float = option(
        0.9995, "cyclic: factor by which the height of the cycles shrinks per step", above=0, at_most=1
    )
    weight_decay: float = option(
        0.0, "decoupled weight decay per unit learning rate; none in coarse problems", at_least=0
    )
    gradient: str = option("spline", "basis of the gradient: spline, the parameters themselves; or relu", one_of=BASES)
    geometry: str = option("spline", "basis of the step: spline, the parameters themselves; or relu", one_of=BASES)

    @abstractmethod
    def forget(self) -> None:
        """Drop what past gradients left."""

    @abstractmethod
    def direction(self, gradient: Tensor) -> Tensor:
        """Direction `[P]` in the basis `self.geometry` that the learning rate multiplies.

        The gradient `[P]` is in the basis `self.gradient`; `self._done` counts this step already.
        """

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a power-ReLU basis for a network without B-splines on uniform knots; raises UserError."""
        for key in ("gradient", "geometry"):
            if getattr(self, key) == "relu" and not maps_splines(backbone):
                only = (
                    "spline (relu needs a network of B-splines on uniform knots: backbone=kan backbone.knots=uniform)"
                )
                raise invalid(f"optimizer.{key}", "relu", only)

    def start(self, size: int, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._scale = 1.0  # of the learning rate; a tenth after every back-off
        self._backbone: Backbone | None = None
        self.forget()

    def carry(self, other: Self, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]) -> None:
        # The learning rate ramps up anew; moments of gradients in the ReLU basis have no operator that moves them.
        if other.gradient == self.gradient == "spline":
            self.carry_moments(other, vector, covector)

    @abstractmethod
    def carry_moments(
        self, other: Self, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]
    ) -> None:
        """Take over what past gradients left on another level, if anything; arguments of `carry`."""

    def state(self) -> State:
        return {"steps": self._steps, "done": self._done, "scale": self._scale, "moments": self.moments()}

    def load_state(self, state: State, device: torch.device) -> None:
        self._steps, self._done = int(state["steps"]), int(state["done"])
        self._scale = float(state["scale"])
        self.load_moments(state["moments"], device)

    @abstractmethod
    def moments(self) -> State:
        """Moments that past gradients have left, as part of `state`."""

    @abstractmethod
    def load_moments(self, state: State, device: torch.device) -> None:
        """Take from a state what `moments` put there."""

    def moved(self) -> None:
        self.forget()

    def back_off(self) -> bool:
        self._scale /= 10
        self.forget()
        return True

    def decayed(self, step: int) -> float:
        """The learning rate of a step counted from the end of the ramp.

        Cyclic is the triangular wave of Smith 2017 (arXiv:1506.01186) from `lr_end` to `lr` and back within `period`
        steps, its height shrinking by gamma^step: `torch.optim.lr_scheduler.CyclicLR` with mode="exp_range".
        """
        if self.decay == "cyclic":
            phase = step / self.period % 1.0
            return self.lr_end + (self.lr - self.lr_end) * (1 - abs(2 * phase - 1)) * self.gamma**step
        fraction = min(1.0, step / max(1, self._steps - 1 - self.ramp_steps))
        if self.decay == "exponential":
            return self.lr * (self.lr_end / self.lr) ** fraction
        if self.decay == "cosine":
            return self.lr_end + (self.lr - self.lr_end) * 0.5 * (1 + math.cos(math.pi * fraction))
        return self.lr

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0 within the stage."""
        if step < self.ramp_steps:
            return self.ramp_from + (self.decayed(0) - self.ramp_from) * step / self.ramp_steps
        return self.decayed(step - self.ramp_steps)

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        loss, gradient, terms = objective.loss_and_gradient(theta)
        if not math.isfinite(loss):
            return Step(theta, loss, terms, "loss is not finite: try a smaller optimizer.lr")
        rate = self._scale * self.rate(self._done)
        self._done += 1
        if self.gradient == "relu":
            gradient = map_splines(self._network(objective), gradient, relu_gradient)
        direction = self.direction(gradient)
        if self.geometry == "relu":
            direction = map_splines(self._network(objective), direction, spline_coefficients)
        # In a coarse problem decay would pull at the correction, and away from a fixed point.
        decay = 0.0 if objective.is_correction else self.weight_decay
        return Step(
            torch.sub(theta * (1 - rate * decay) if decay else theta, direction, alpha=rate),
            loss,
            terms,
            measured=theta,
        )

    def _network(self, objective: LeastSquares) -> Backbone:
        """The network that the parameters are shaped like, checked once per stage."""
        if self._backbone is None:
            self.check_backbone(objective.backbone)
            self._backbone = objective.backbone
        return self._backbone


@dataclass
class GradientDescent(FirstOrder):
    """Gradient descent with heavy-ball momentum m ← momentum · m + g, theta ← theta − rate · m (Polyak 1964)."""

    momentum: float = option(0.0, "heavy-ball momentum; 0: plain gradient descent", at_least=0, below=1)

    def forget(self) -> None:
        self._m: Tensor | None = None

    def carry_moments(
        self, other: GradientDescent, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]
    ) -> None:
        self._m = None if other._m is None else covector(other._m)

    def moments(self) -> State:
        return {"m": self._m}

    def load_moments(self, state: State, device: torch.device) -> None:
        self._m = None if state["m"] is None else tensor(state["m"], device)

    def direction(self, gradient: Tensor) -> Tensor:
        self._m = gradient if self._m is None else self.momentum * self._m + gradient
        return self._m


Map = Callable[[Tensor], Tensor]


@dataclass
class Adam(FirstOrder):
    """Adam (Kingma and Ba 2015, algorithm 1); with `weight_decay` AdamW (Loshchilov and Hutter 2019, algorithm 2)."""

    beta1: float = option(0.9, "decay of the mean of gradients", at_least=0, below=1)
    beta2: float = option(0.999, "decay of the mean of squared gradients", at_least=0, below=1)
    epsilon: float = option(1e-8, "added to the root of the second moment", above=0)

    def forget(self) -> None:
        self._m: Tensor | None = None
        self._v: Tensor | None = None
        # Added to the steps done it counts those that the moments have seen, on other levels too.
        self._taken = -self._done

    def carry_moments(self, other: Adam, vector: Map, covector: Map) -> None:
        if other._m is None or other._v is None:
            return
        self._m = covector(other._m)
        # √v is a size: P keeps it positive, Rᵀ would not. It takes the scale that gradients take on their way.
        root, size = other._v.sqrt(), vector(other._v.sqrt())
        self._v = (size * (covector(root).norm() / size.norm().clamp_min(1e-300))).square()
        self._taken = other._done + other._taken

    def moments(self) -> State:
        return {"m": self._m, "v": self._v, "taken": self._taken}

    def load_moments(self, state: State, device: torch.device) -> None:
        self._m, self._v = (None if state[key] is None else tensor(state[key], device) for key in ("m", "v"))
        self._taken = int(state["taken"])

    def direction(self, gradient: Tensor) -> Tensor:
        if self._m is None or self._v is None:
            self._m, self._v = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self._m = torch.lerp(self._m, gradient, 1 - self.beta1)
        self._v = (self.beta2 * self._v).addcmul_(gradient, gradient, value=1 - self.beta2)
        seen = self._taken + self._done
        size = (self._v / (1 - self.beta2**seen)).sqrt_().add_(self.epsilon)
        return (self._m / (1 - self.beta1**seen)).div_(size)
