"""Gradient descent, with momentum if wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.optimizers.first_order import FirstOrder
from kanpinn.options import option
from kanpinn.state import State, tensor


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
