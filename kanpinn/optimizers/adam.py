"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.optimizers.first_order import FirstOrder
from kanpinn.options import option
from kanpinn.state import State, tensor

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
        self._taken = (
            -self._done
        )  # added to the steps done it counts those that the moments have seen, on other levels too

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
            self._m, self._v = gradient * 0.0, gradient * 0.0
        self._m = self.beta1 * self._m + (1 - self.beta1) * gradient
        self._v = self.beta2 * self._v + (1 - self.beta2) * gradient.square()
        seen = self._taken + self._done
        m = self._m / (1 - self.beta1**seen)
        v = self._v / (1 - self.beta2**seen)
        return m / (v.sqrt() + self.epsilon)
