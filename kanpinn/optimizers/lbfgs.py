"""L-BFGS with a strong Wolfe line search."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.line_search import Origin, Trial, strong_wolfe
from kanpinn.options import option
from kanpinn.state import State, tensor

LINE_SEARCHES = ("strong_wolfe", "none")


@dataclass
class Lbfgs(Optimizer):
    """L-BFGS with a strong Wolfe line search.

    Nocedal and Wright 2006, algorithm 7.5; the first direction is scaled to length one.
    """

    memory: int = option(50, "correction pairs kept", at_least=1)
    evaluations: int = option(25, "loss evaluations that one line search may spend", at_least=1)
    iterations: int = option(1, "accepted directions per step; torch.optim.LBFGS takes 20", at_least=1)
    line_search: str = option(
        "strong_wolfe", "none: every direction at full length, even if the loss rises", one_of=LINE_SEARCHES
    )

    def storage(self, points: int, parameters: int, *, jacobian: bool) -> int:
        return 2 * self.memory * parameters

    def start(self, size: int, steps: int) -> None:
        self._pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=self.memory)
        self._origin = Origin()
        self._length = 1.0  # of a direction taken without a line search

    def carry(self, other: Lbfgs, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]) -> None:
        for s, y, _ in other._pairs:
            moved, dual = vector(s), covector(y)
            curvature = float(moved @ dual)  # that of the pair itself on the way up: RP = I
            if curvature > torch.finfo(s.dtype).eps * float(dual @ dual):
                self._pairs.append((moved, dual, 1.0 / curvature))

    def state(self) -> State:
        # The trial that the last line search ended with is not kept: evaluated again it is the same to the last bit.
        pairs = [torch.stack(part) for part in zip(*((s, y) for s, y, _ in self._pairs), strict=True)]
        return {"pairs": pairs, "inverse_curvatures": [rho for _, _, rho in self._pairs], "length": self._length}

    def load_state(self, state: State, device: torch.device) -> None:
        pairs = [[row.clone() for row in tensor(part, device)] for part in state["pairs"]]
        self._pairs.extend(zip(*pairs, map(float, state["inverse_curvatures"]), strict=True) if pairs else ())
        self._length = float(state["length"])

    def moved(self) -> None:
        self._pairs.clear()

    def back_off(self) -> bool:
        self._pairs.clear()
        self._length /= 10
        return self.line_search == "none"

    def direction(self, gradient: Tensor) -> Tensor:
        """The two-loop recursion: −H g for the inverse Hessian approximation H, `[P]`."""
        q = gradient.clone()
        weights = []
        for s, y, rho in reversed(self._pairs):
            a = rho * float(s @ q)
            q -= a * y
            weights.append(a)
        if self._pairs:
            s, y, _ = self._pairs[-1]
            q *= float(s @ y) / float(y @ y)
        else:
            q /= float(gradient.norm()) or 1.0
        for (s, y, rho), a in zip(self._pairs, reversed(weights), strict=True):
            q += s * (a - rho * float(y @ q))
        return -q

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        found = self._iterate(objective, theta)
        for _ in range(self.iterations - 1):
            if found.stop or not math.isfinite(found.loss):
                break
            following = self._iterate(objective, found.theta)
            if following.stop:  # no failure of a step that has lowered the loss already
                break
            found = following
        return found

    def _iterate(self, objective: LeastSquares, theta: Tensor) -> Step:
        """One direction and its line search."""
        here = self._origin.at(objective, theta)
        if not math.isfinite(here.loss):
            return Step(theta, here.loss, here.terms, "loss is not finite")
        if float(here.gradient.abs().max()) == 0.0:
            return Step(theta, here.loss, here.terms, "the gradient is zero: at a stationary point")
        while True:
            direction = self.direction(here.gradient)
            slope = float(direction @ here.gradient)
            if slope < 0:

                def evaluate(length: float, direction: Tensor = direction) -> Trial:
                    loss, gradient, terms = objective.loss_and_gradient(theta + length * direction)
                    return Trial(length, loss, float(gradient @ direction), gradient, terms)

                if self.line_search == "none":
                    return self._accept(objective, theta, direction, here, evaluate(self._length))
                found = strong_wolfe(evaluate, here._replace(length=0.0, slope=slope), 1.0, self.evaluations)
                if found is not None and found.loss < here.loss:
                    return self._accept(objective, theta, direction, here, found)
            if not self._pairs:
                end = "the line search finds no lower loss (a minimum, or rounding)"
                return Step(theta, here.loss, here.terms, end)
            self._pairs.clear()  # old curvature may mislead after new points: once more from steepest descent

    def _accept(self, objective: LeastSquares, theta: Tensor, direction: Tensor, here: Trial, found: Trial) -> Step:
        new = theta + found.length * direction
        s, y = new - theta, found.gradient - here.gradient
        curvature = float(s @ y)
        if curvature > torch.finfo(s.dtype).eps * float(y @ y):
            self._pairs.append((s, y, 1.0 / curvature))
        self._origin.keep(objective, new, found)
        return Step(new, found.loss, found.terms)
