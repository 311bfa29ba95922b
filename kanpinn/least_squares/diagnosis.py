"""Cause of numbers that are not finite: which term, at which point; for messages, not for the solve itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kanpinn.least_squares.linearization import block_rows
from kanpinn.least_squares.objective import LeastSquares, Objective, plain_loss

NOISE = 10.0
"""A gradient up to this many times its own rounding error counts as zero."""

SOLVED = 1e-6
"""Share of an untrained network's loss above which no minimum is a solution."""


def place(names: Sequence[str], point: Tensor) -> str:
    """Return a point `[d]` in words, such as "x=0.5, t=0.25"."""
    return ", ".join(f"{name}={float(value):.6g}" for name, value in zip(names, point, strict=True))


def is_stationary(problem: LeastSquares, theta: Tensor) -> bool:
    """Return whether the gradient of the loss at parameters `[P]` is zero to the last bit."""
    return not bool(problem.loss_and_gradient(theta)[1].any())


def is_minimum(objective: Objective, theta: Tensor) -> bool:
    """Tell whether parameters `[P]` are a solution as far as rounding lets anyone see.

    The gradient Jᵀr must be no larger than what the last bits of the parameters make of it, `NOISE` ‖Jᵀδ‖ with
    δ = r(θ(1 ± ε)) − r(θ) for random signs and the machine epsilon ε, and the loss at most `SOLVED` times that of the
    network with zero or random parameters: a flat place far above is a minimum, but no solution.
    """
    starts = (plain_loss(objective, start) for start in (torch.zeros_like(theta), untrained(objective, theta)))
    scale = max((loss for loss in starts if math.isfinite(loss)), default=0.0)
    if not (scale and plain_loss(objective, theta) <= SOLVED * scale):
        return False
    signs = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], len(theta))).to(theta)
    moved = theta * (1 + torch.finfo(theta.dtype).eps * signs)
    gradient, noise = torch.zeros_like(theta), torch.zeros_like(theta)
    for piece in objective.pieces(block_rows(objective.size)):
        at = theta.detach().requires_grad_(True)
        residual = piece.residual(at)[0]
        if residual.requires_grad:  # else no unknown occurs in it
            with torch.no_grad():
                error = piece.residual(moved)[0] - residual
            gradient += torch.autograd.grad(residual, at, residual.detach(), retain_graph=True)[0]
            noise += torch.autograd.grad(residual, at, error)[0]
    return float(gradient.norm()) <= NOISE * float(noise.norm())


def untrained(objective: Objective, like: Tensor) -> Tensor:
    """Return random parameters `[P]` of an objective's network, always the same ones, of the type of others."""
    return objective.backbone.initial(np.random.default_rng(0)).to(like)


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


def pointwise(objective: Objective, theta: Tensor) -> dict[str, Tensor]:
    """Return the size of the residual in the problem's units at each term's points, `[n]`: √Σ over equations of r²."""
    total: dict[str, Tensor] = {}
    with torch.no_grad():
        for term, equation, value in objective.rows(theta):
            own = value * objective.residuals.scales.of(term.name, equation)
            total[term.name] = torch.hypot(total.get(term.name, torch.zeros_like(own)), own)
    return total
