"""Loss and gradient of a table's fit by compiled code, which needs values of a network and no graph through it."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from kanpinn.backbones.base import Inputs
from kanpinn.backbones.stack import Stack, compiled
from kanpinn.least_squares.points import CollocationPoints, Term
from kanpinn.least_squares.residuals import Residuals, given_at
from kanpinn.least_squares.weighting import Fixed, Weighting
from kanpinn.pde.data import Difference
from kanpinn.pde.table import Table


@final
class PlainFit:
    """Residuals a u − b of a network's outputs u at the rows of a table, with the network as compiled code.

    Attributes:
        name: Name of the loss term.
        stack: The network at the rows.
    """

    def __init__(self, term: Term, stack: Stack, slopes: Tensor, constants: Tensor) -> None:
        """Keep a and b, `[N, outputs]`."""
        self.name, self.stack = term.name, stack
        self._slopes, self._negative, self._twice = slopes, -constants, 2 * slopes

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """Return the loss at theta `[P]`, its gradient `[P]` and the term's part, which is all."""
        r = torch.addcmul(self._negative, self.stack.values(theta), self._slopes)
        flat = r.view(-1)
        loss = float(flat @ flat)
        return loss, self.stack.gradient(r.mul_(self._twice)), {self.name: loss}


def plain_fit(
    residuals: Residuals, weighting: Weighting, collocation: CollocationPoints, inputs: Inputs
) -> PlainFit | None:
    """Return the fit of a table's numbers, if it is one, its weights are fixed and its network has compiled code."""
    if not isinstance(residuals.problem, Table) or type(weighting) is not Fixed or len(collocation.terms) != 1:
        return None
    term, problem = collocation.terms[0], residuals.problem
    condition: Any = residuals.conditions[term.name]
    if not isinstance(condition.residual, Difference) or condition.residual.unknowns != problem.unknowns:
        return None
    stack = compiled(residuals.backbone, inputs)
    if stack is None:
        return None
    given, like = given_at(condition.given, term), term.scale
    factors, values = [], []
    for name in problem.unknowns:
        factor = term.scale / residuals.scales.of(term.name, name)
        sigma = given.get(f"sigma_{name}")
        factors.append(factor if sigma is None else factor / sigma)
        values.append(given[name])
    factor = torch.stack(factors, 1)
    sizes = torch.tensor(residuals.scales.outputs or (1.0,), dtype=like.dtype, device=like.device)
    return PlainFit(term, stack, factor * sizes, factor * torch.stack(values, 1))
