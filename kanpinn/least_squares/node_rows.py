"""Linearisations at the nodes of integrals, by which residuals depend on the unknowns far from their own points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kanpinn.backbones.base import Tape
from kanpinn.least_squares.coupling import Coupling, Nodes
from kanpinn.least_squares.jacobian import GramPlan, NetworkLinearization
from kanpinn.least_squares.linearization import Linearization
from kanpinn.least_squares.points import CollocationPoints, ForwardPass, Term
from kanpinn.least_squares.residuals import Residuals


def couplings(
    residuals: Residuals, plan: GramPlan, theta: Tensor, rows: Sequence[Tensor], used: Sequence[Nodes]
) -> Mapping[int, Sequence[Coupling]]:
    """Return the parts of weighted residuals, by their number, that unknowns at nodes of integrals have in them."""
    found: dict[int, list[Coupling]] = {}
    for m, row in enumerate(rows):
        for nodes in used:
            slopes = nodes.slopes(row)
            if slopes:
                found.setdefault(m, []).append(_coupling(residuals, plan, theta, nodes, slopes))
    return found


def _coupling(
    residuals: Residuals,
    plan: GramPlan,
    theta: Tensor,
    nodes: Nodes,
    slopes: Sequence[tuple[tuple[str, str], Tensor]],
) -> Coupling:
    components, network = [key for key, _ in slopes], residuals.backbone

    def linearized(columns: slice) -> Linearization:
        points = nodes.points[:, columns].flatten(0, 1)
        term = Term("nodes", slice(0, len(points)), None, torch.ones_like(points[:, 0]), points)

        def forward() -> ForwardPass:
            tape = Tape()
            fields = residuals.rebuilt(network.forward(theta, points, residuals.space, tape), points)
            return ForwardPass.of(tape, [(term, fields[name][by]) for name, by in components], {})

        return NetworkLinearization(network, theta, CollocationPoints(points, (term,)), plan, forward)

    stacked = torch.stack([slope for _, slope in slopes])
    return Coupling(stacked, nodes.which, nodes.points.shape[1], network.size, linearized)
