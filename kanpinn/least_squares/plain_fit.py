"""Loss and gradient of a table's fit by compiled code, which needs values of a network and no graph through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.backbones.base import Inputs
from kanpinn.backbones.stack import Stack, compiled
from kanpinn.least_squares.points import CollocationPoints
from kanpinn.least_squares.residuals import Residuals, given_at
from kanpinn.least_squares.weighting import Fixed, Weighting
from kanpinn.pde.data import Difference
from kanpinn.pde.table import CLASS, CrossEntropy, Table

Rule = Callable[[Tensor], tuple[float, Tensor]]
"""Loss of a network's outputs `[N, K]`, and its gradient by them."""


@final
@dataclass(frozen=True, eq=False)
class PlainFit:
    """Loss of a network's outputs at the rows of a table, with the network as compiled code.

    Attributes:
        name: Name of the loss term.
        stack: The network at the rows.
        rule: The loss.
    """

    name: str
    stack: Stack
    rule: Rule

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        """Return the loss at theta `[P]`, its gradient `[P]` and the term's part, which is all."""
        loss, cotangent = self.rule(self.stack.values(theta))
        return loss, self.stack.gradient(cotangent), {self.name: loss}


def squares(slopes: Tensor, constants: Tensor) -> Rule:
    """Return Σ (a u − b)² of outputs u, for a and b `[N, K]`."""
    negative, twice = -constants, 2 * slopes

    def rule(outputs: Tensor) -> tuple[float, Tensor]:
        rows = torch.addcmul(negative, outputs, slopes)
        flat = rows.view(-1)
        return float(flat @ flat), rows.mul_(twice)

    return rule


def cross_entropy(own: Tensor, weights: Tensor, sizes: Tensor) -> Rule:
    """Return −Σ_n w_n log p_y of outputs u, with the logits U u, classes y int64 `[N, 1]`, w `[N, 1]`, U `[K]`."""

    def rule(outputs: Tensor) -> tuple[float, Tensor]:
        logs = torch.log_softmax(outputs * sizes, dim=1)
        loss = -float((logs.gather(1, own) * weights).sum())
        wrong = logs.exp_().scatter_add_(1, own, torch.full_like(weights, -1.0))
        return loss, wrong.mul_(weights).mul_(sizes)

    return rule


def plain_fit(
    residuals: Residuals, weighting: Weighting, collocation: CollocationPoints, inputs: Inputs
) -> PlainFit | None:
    """Return the fit of a table, if it is one, its weights are fixed and its network has compiled code."""
    if not isinstance(residuals.problem, Table) or type(weighting) is not Fixed or len(collocation.terms) != 1:
        return None
    term, unknowns = collocation.terms[0], residuals.problem.unknowns
    condition: Any = residuals.conditions.get(term.name)  # None where values of another network are fitted
    stack = compiled(residuals.backbone, inputs)
    if stack is None or condition is None or not isinstance(condition.residual, (Difference, CrossEntropy)):
        return None
    if condition.residual.unknowns != unknowns:
        return None
    given, scales = given_at(condition.given, term), [residuals.scales.of(term.name, name) for name in unknowns]
    sizes = term.scale.new_tensor(residuals.scales.outputs or (1.0,))
    if isinstance(condition.residual, CrossEntropy):
        if set(scales) != {1.0}:
            return None
        rule = cross_entropy(given[CLASS].long()[:, None], term.scale.square()[:, None], sizes)
        return PlainFit(term.name, stack, rule)
    factor = torch.stack([term.scale / scale for scale in scales], 1)
    sigmas = [given.get(f"sigma_{name}", torch.ones_like(term.scale)) for name in unknowns]
    factor = factor / torch.stack(sigmas, 1)
    return PlainFit(
        term.name, stack, squares(factor * sizes, factor * torch.stack([given[name] for name in unknowns], 1))
    )
