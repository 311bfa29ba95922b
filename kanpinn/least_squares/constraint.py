"""Penalty that makes constraints of equations and conditions beside data from which coefficients are found.

Data have noise, equations have none: the coefficients c are those of the least squares of the data d among solutions,
min ‖d(u, c)‖² with e(u, c) = 0, and not of min ‖d‖² + ‖e‖², where the network bends the equations to fit the noise.
The minimum of ‖d‖² + m ‖e‖² tends to it as m → ∞ (Nocedal and Wright 2006, Numerical Optimization, sec. 17.1). Near
the limit e = λ/m + e_h, with the multipliers λ and the residual e_h that the network cannot help, so that

    m ‖e‖² ≈ ‖λ‖²/m + m ‖e_h‖².

In units of the variance of a measurement, ‖d‖²/n for n of them, the first part is about the number of degrees of
freedom that the network spends on the noise, Σ_j μ_j/(m + μ_j) for generalised eigenvalues μ_j of JᵀJ of the data and
of the equations; and the root of the second bounds the shift of a coefficient in standard deviations. So m grows from
1, whenever a step hardly lowers the loss any more, until the sum is a small part of one measurement, or until the last
growth has not lowered it: then the second part is the larger, and m goes back by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.unknown import free_coefficients
from kanpinn.state import State

RISE = 4.0
"""Factor by which m grows."""

ENOUGH = 0.1
"""Part of the equations and conditions in the loss, in that of one measurement, at which they are constraints."""

LITTLE = 0.25
"""The same in that of all measurements, from which m may grow: before, the equations are only just being met."""

SLOW = 0.7
"""Share of the loss before that a step has to leave for m to grow."""

LAST = 0.8
"""Share of a stage's steps after which m stays, so that the coefficients settle."""


@final
class Constraint:
    """Factor m of the squares of all terms but the data, on the level under work.

    Attributes:
        factor: m; 1 where no coefficient is found from data.
    """

    def __init__(self, largest: float = math.inf) -> None:
        """Begin with m = 1, which grows up to a largest one."""
        self.factor, self._largest = 1.0, largest
        self.anew(from_one=True)

    def anew(self, *, from_one: bool) -> None:
        """Forget what was seen in another stage; m stays, or begins from 1 as well."""
        self.factor = 1.0 if from_one else self.factor
        self._before, self._slow, self._grows = math.inf, 0, True

    def of(self, residuals: Residuals, term: str) -> float:
        """Return the factor of the squares of a term, 1 for data."""
        condition = residuals.conditions.get(term)
        return 1.0 if condition is not None and condition.given is not None else self.factor

    def update(self, residuals: Residuals, terms: Mapping[str, float], counts: Mapping[str, int], done: float) -> bool:
        """See the parts of the loss after a step; returns True where m has changed.

        Args:
            residuals: Problem and network.
            terms: Each term's part of the loss, with m.
            counts: Number of points of each term.
            done: Share of the stage's steps that are done.
        """
        noisy = [name for name, one in residuals.conditions.items() if one.given is not None and name in terms]
        data, loss = sum(terms[name] for name in noisy), sum(terms.values())
        if self._largest <= 1 or not (data > 0 and math.isfinite(loss)) or not free_coefficients(residuals.problem):
            return False
        count, held = sum(counts[name] for name in noisy), loss - data
        part = held * count / data
        self._slow = self._slow + 1 if held > SLOW * self._before else 0
        self._before = held
        if not self._grows or not self._slow:
            return False
        if held > data and self.factor > 1 and self._slow > 3:
            return self._change(1 / RISE, grows=False)
        if self._slow < 2 or not ENOUGH * data < held * count < 0.5 * count * data or done > LAST:
            return False
        return self.factor * RISE <= self._largest and self._change(RISE, grows=True)

    def _change(self, by: float, *, grows: bool) -> bool:
        """Change m; returns True."""
        self.factor, self._before = max(self.factor * by, 1.0), self._before * by
        self._slow, self._grows = 0, grows
        return True

    def state(self) -> State:
        """Return all numbers."""
        return {name.strip("_"): value for name, value in vars(self).items() if name != "_largest"}

    def load_state(self, state: State) -> None:
        """Stand where another one's `state` stood."""
        self.factor, self._before = float(state["factor"]), float(state["before"])
        self._slow, self._grows = int(state["slow"]), bool(state["grows"])
