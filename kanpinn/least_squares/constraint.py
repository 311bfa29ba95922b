"""Penalty that makes constraints of equations and conditions beside data from which coefficients are found.

Data have noise, equations have none: the coefficients c are those of the least squares of the data d among solutions,
min ‖d(u, c)‖² with e(u, c) = 0, and not of min ‖d‖² + ‖e‖², where the network bends the equations to fit the noise.
The minimum of ‖d‖² + m ‖e‖² tends to it as m → ∞ (Nocedal and Wright 2006, Numerical Optimization, sec. 17.1). On the
way there the network spends

    tr (J_dᵀJ_d + m J_eᵀJ_e)⁻¹ J_dᵀJ_d = count of c + Σ_j μ_j/(m + μ_j)

degrees of freedom on the data (Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, sec. 5.4.1),
μ_j ≥ 0 by what the equations see of its functions. So m grows from 1 until the sum over j, f, is small. Noise of
variance σ² leaves m ‖e‖² = σ² Σ_j m μ_j/(m + μ_j)² ≤ f σ² of the equations in the mean, and about N σ² of N data. What
is left beyond that is there because the network cannot meet the equations, or has not yet; coefficients would be bent
to make up for it, by up to the root of it, in σ², of their standard deviations. So m grows only while the equations'
part of the loss is at most `MORE` f/N of the data's, and only when a step hardly lowers it any more; where it comes to
be more, m goes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from kanpinn.state import State

RISE = 4.0
"""Factor by which m grows."""

FREE = 0.3
"""Degrees of freedom that the network may spend on the noise."""

SLOW = 0.7
"""Share of the equations' part of the loss that a step leaves where it hardly lowers it."""

MORE = 1.0
"""Equations' part of the loss relative to what the noise leaves of it in the mean, up to which m may grow."""

EVERY = 4
"""Steps that hardly lower it from one look at the degrees of freedom to the next."""

LAST = 0.8
"""Share of a stage's steps after which m stays, so that the coefficients settle."""

SMALLEST = 1e-13
"""Eigenvalues of JᵀJ below this share of the largest are taken for 0."""


@final
class Constraint:
    """Factor m of the squares of equations and conditions, on the level under work.

    Attributes:
        factor: m; 1 where no coefficient is found from data.
        changes: Number of times that it has changed in training.
    """

    def __init__(self, largest: float = 1.0, factor: float = 1.0) -> None:
        """Begin with some m, which grows up to a largest one, and stays if that is 1."""
        self.factor, self._largest, self.changes = factor, largest, 0
        self.anew(from_one=False)

    def anew(self, *, from_one: bool) -> None:
        """Forget what was seen in another stage; m stays, or begins from 1 as well."""
        self.factor = 1.0 if from_one else self.factor
        self._before, self._slow, self._grows = math.inf, 0, True

    def weight(self, *, noisy: bool) -> float:
        """Factor of the squares of a term besides its own weight: m, 1 for data."""
        return 1.0 if noisy else self.factor

    def update(self, data: float, held: float, done: float, spent: Callable[[], tuple[float, int]]) -> bool:
        """See the parts of the loss after a step; returns True where m has changed.

        Args:
            data: Part of the data.
            held: Part of all else, with m.
            done: Share of the stage's steps that are done.
            spent: Returns the degrees of freedom that the network spends on the noise, and the number of data.
        """
        if self._largest <= 1 or not (data > 0 and math.isfinite(held)):
            return False
        self._slow = self._slow + 1 if held > SLOW * self._before else 0
        self._before = held
        if not self._grows or self._slow < 2 or self._slow % EVERY != 2 or done > LAST:
            return False
        free, count = spent()
        if held > MORE * max(free, FREE) / count * data:
            return self._slow > 3 * EVERY and self.factor > 1 and self._change(1 / RISE, grows=False)
        self._grows = free > FREE
        return self._grows and self.factor * RISE <= self._largest and self._change(RISE, grows=True)

    def _change(self, by: float, *, grows: bool) -> bool:
        """Change m; returns True."""
        self.factor, self._before = max(self.factor * by, 1.0), self._before * by
        self._slow, self._grows = 0, grows
        self.changes += 1
        return True

    def state(self) -> State:
        """Return all numbers."""
        return {"factor": self.factor, "before": self._before, "slow": self._slow, "grows": self._grows}

    def load_state(self, state: State) -> None:
        """Stand where another one's `state` stood."""
        self.factor, self._before = float(state["factor"]), float(state["before"])
        self._slow, self._grows = int(state["slow"]), bool(state["grows"])


def freedom_of(data: Tensor, whole: Tensor) -> float:
    """Return tr A⁻¹ B of JᵀJ `[P, P]` of the data, B, and of all terms, A: degrees of freedom spent on the data."""
    values, vectors = torch.linalg.eigh(whole)
    kept = values > SMALLEST * values[-1]
    chosen = vectors[:, kept]
    return float((((data @ chosen) * chosen).sum(0) / values[kept]).sum())
