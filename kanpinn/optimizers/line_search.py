"""A line search that meets the strong Wolfe conditions, for quasi-Newton methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from kanpinn.least_squares.objective import LeastSquares

ARMIJO = 1e-4
CURVATURE = 0.9


class Trial(NamedTuple):
    """One point of a line search: step length, loss, slope along the line, gradient, terms."""

    length: float
    loss: float
    slope: float
    gradient: Tensor
    terms: dict[str, float]


class Origin:
    """Starting point of a line search: the trial that the last one ended with, while the function is the same."""

    def __init__(self) -> None:
        self._known: tuple[Tensor, int, Tensor, Trial] | None = None  # (points, version, theta, trial there)

    def keep(self, objective: LeastSquares, theta: Tensor, trial: Trial) -> None:
        """Remember a trial at theta `[P]`."""
        self._known = (objective.points, objective.version, theta, trial)

    def at(self, objective: LeastSquares, theta: Tensor) -> Trial:
        """The loss and gradient at theta `[P]`: those kept, or evaluated anew after points or multipliers changed."""
        if self._known is not None:
            points, version, there, trial = self._known
            if points is objective.points and version == objective.version and there is theta:
                return trial
        loss, gradient, terms = objective.loss_and_gradient(theta)
        return Trial(0.0, loss, 0.0, gradient, terms)


def cubic_minimum(a: Trial, b: Trial) -> float:
    """Minimiser of the cubic through both values and slopes, kept inside the middle 80 % of the interval.

    Nocedal and Wright 2006, eq. 3.59.
    """
    low, high = min(a.length, b.length), max(a.length, b.length)
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.length - b.length)
    square = d1 * d1 - a.slope * b.slope
    guess = (low + high) / 2
    if square >= 0 and math.isfinite(square):
        d2 = math.copysign(math.sqrt(square), b.length - a.length)
        bottom = b.slope - a.slope + 2 * d2
        if bottom:
            guess = b.length - (b.length - a.length) * (b.slope + d2 - d1) / bottom
    margin = 0.1 * (high - low)
    return min(max(guess, low + margin), high - margin)


def strong_wolfe(evaluate: Callable[[float], Trial], origin: Trial, first: float, evaluations: int) -> Trial | None:
    """A step length with sufficient decrease and small slope (Nocedal and Wright 2006, algorithms 3.5 and 3.6).

    The origin, at length 0, has a negative slope; `first` is tried first. Gives the trial that meets both conditions,
    else the best one of so many evaluations with sufficient decrease, else None.
    """

    def decreases(t: Trial) -> bool:
        return math.isfinite(t.loss) and t.loss <= origin.loss + ARMIJO * t.length * origin.slope

    low, high, length = origin, None, first
    best: Trial | None = None
    for _ in range(evaluations):
        trial = evaluate(length)
        if decreases(trial) and (best is None or trial.loss < best.loss):
            best = trial
        if not decreases(trial) or trial.loss >= low.loss:
            high = trial
        elif abs(trial.slope) <= -CURVATURE * origin.slope:
            return trial
        else:
            if high is None:
                if trial.slope >= 0:
                    high = low
            elif trial.slope * (high.length - low.length) >= 0:
                high = low
            low = trial
        if high is None:
            length *= 2.0
        elif abs(high.length - low.length) < 1e-14 * max(high.length, low.length):
            break
        elif not math.isfinite(high.loss):
            length = low.length + 0.1 * (high.length - low.length)
        else:
            length = cubic_minimum(low, high)
    return best
