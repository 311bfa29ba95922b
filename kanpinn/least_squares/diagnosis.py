"""Cause of numbers that are not finite: which term, at which point; for messages, not for the solve itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kanpinn.least_squares.linearization import block_rows
from kanpinn.least_squares.objective import LeastSquares


def place(names: Sequence[str], point: Tensor) -> str:
    """Return a point `[d]` in words, such as "x=0.5, t=0.25"."""
    return ", ".join(f"{name}={float(value):.6g}" for name, value in zip(names, point, strict=True))


def is_stationary(problem: LeastSquares, theta: Tensor) -> bool:
    """Return whether the gradient of the loss at parameters `[P]` is zero to the last bit."""
    return not bool(problem.loss_and_gradient(theta)[1].any())


def what_is_wrong(problem: LeastSquares, theta: Tensor) -> str | None:
    """Find the first thing that is not finite at parameters `[P]`: a residual, a row of the Jacobian, a sum.

    Returns a line that names the term and a point of it; None where everything is finite.
    """
    if not bool(torch.isfinite(theta).all()):
        return f"{int((~torch.isfinite(theta)).sum())} of {len(theta)} parameters are not finite"
    objective, own = problem.network(theta)
    if not len(objective.points):
        return None
    names, largest = objective.residuals.problem.domain.names, (-1.0, "")
    with torch.no_grad():
        residuals = list(objective.rows(own))
    for term, _, residual in residuals:
        bad = torch.nonzero(~torch.isfinite(residual))[:, 0]
        if len(bad):
            at = f"{len(bad)} of {len(residual)} points, the first at {place(names, term.coordinates[bad[0]])}"
            return f"the residual of '{term.name}' is not finite at {at}"
        top = int(residual.abs().argmax())
        size = float(residual[top].abs())
        if size > largest[0]:
            largest = (size, f"that of '{term.name}' at {place(names, term.coordinates[top])}")
    # Jᵀr is not finite where a row of J is not: the rows, many times the work and memory, only if one is to be named.
    if not bool(torch.isfinite(objective.loss_and_gradient(own)[1]).all()):
        for piece in objective.pieces(block_rows(objective.size)):
            term, rows = piece.collocation.terms[0], piece.linearize(own).dense().jacobian
            bad = torch.nonzero(~torch.isfinite(rows).all(1))[:, 0]
            if len(bad):
                at = place(names, term.coordinates[bad[0] % len(term.coordinates)])
                return f"the Jacobian of the residual of '{term.name}' is not finite at {at}"
    if not math.isfinite(problem.loss(theta)[0]):
        return f"residuals are finite but their squares overflow; the largest, {largest[0]:.3g}, is {largest[1]}"
    return None
