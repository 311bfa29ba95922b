"""Normal equations against the dense Jacobian."""

from __future__ import annotations

import pytest
import torch

from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.least_squares.gram_local import parts
from kanpinn.least_squares.objective import Objective


def cut(objective: Objective, theta: torch.Tensor, costs: CostTable | None = None) -> list[torch.Tensor] | None:
    """The parts into which the objective's points fall."""
    tape = objective.forward_pass(theta).tape
    return parts(objective.points, objective.backbone.supports(tape), objective.size, costs or CostTable())


def agree(objective: Objective, theta: torch.Tensor, tolerance: float) -> None:
    """JᵀJ, Jᵀr, loss and terms of the normal equations are those of the whole Jacobian."""
    stored = objective.linearize(theta).dense()
    r, jacobian, losses = stored.residual, stored.jacobian, stored.terms
    matrix, gradient, loss, terms = objective.linearize(theta).gram()
    expected, right = jacobian.T @ jacobian, jacobian.T @ r
    assert torch.equal(matrix, matrix.T)
    assert float((matrix - expected).abs().max() / expected.abs().max()) < tolerance
    assert float((gradient - right).abs().max() / right.abs().max()) < tolerance
    assert loss == pytest.approx(float(r.square().sum()), rel=1e-13)
    assert terms == pytest.approx(losses, rel=1e-13)
