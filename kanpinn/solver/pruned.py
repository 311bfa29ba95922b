"""Networks on their way to fewer edges: sizes, validation error, distance from one another; records of the trials."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import joining
from kanpinn.backbones.pruning import alive_of
from kanpinn.errors import UserError
from kanpinn.explain.attribution import domain_points, no_edges
from kanpinn.jets.jet import JetSpace
from kanpinn.solver.setup import Setup
from kanpinn.solver.validation import validation


@dataclass(frozen=True)
class Pruned:
    """A network on its way.

    Attributes:
        setup: The setup with its options.
        network: The network.
        theta: Its parameters `[P]`.
        error: Its validation error.
        penalty: Factor of all terms but data, as the run has found it.
    """

    setup: Setup
    network: Backbone
    theta: Tensor
    error: float
    penalty: float = 1.0

    @property
    def edges(self) -> int:
        """Number of edges."""
        return int(sum(one.sum() for one in alive_of(self.network)))

    @property
    def shape(self) -> list[int]:
        """Numbers of inputs that are used, of nodes and of outputs; sums where nodes are multiplied."""
        alive = alive_of(self.network)
        return [int(alive[0].any(0).sum()), *(len(one) for one in alive)]


@dataclass(frozen=True)
class Trial:
    """One attempt to take parts out.

    Attributes:
        parts: The parts in words.
        score: Largest of their scores.
        error: Validation error reached without them.
        kept: True if they stay out.
        moved: How far the function moved from that of the first network, relative L2, the largest of the unknowns; None
            where it is not asked for.
    """

    parts: str
    score: float
    error: float
    kept: bool
    moved: float | None = None


def pruning(setup: Setup, network: Backbone, theta: Tensor, penalty: float = 1.0) -> Pruned:
    """Return the network that a search begins with.

    Raises:
        UserError: If it has no edges to take out.
    """
    reason = no_edges(network)
    if not reason and (not hasattr(setup.backbone, "edges") or len(joining(network)) < 2):
        reason = "it has no edges with functions of their own, or no hidden nodes; expected backbone=kan or its kind"
    if network.edits:
        reason = f"its schedule changes it in training ({network.edits[0][0]})"
    elif setup.backbone.networks != "shared" or setup.problem.depends:
        reason = "it is several networks, side by side; expected backbone.networks=shared"
    if reason:
        raise UserError(f"the network cannot be pruned: {reason}")
    return Pruned(setup, network, theta, validation(setup, penalty)(network, theta), penalty)


@torch.no_grad()
def change(one: Pruned, other: Pruned, unknowns: Collection[str] | None = None) -> dict[str, dict[str, float]]:
    """Return, by unknown, the largest and the relative L2 difference of two networks at uniform points."""
    points = torch.from_numpy(domain_points(one.setup.problem, 5000)).to(one.theta)
    space = JetSpace(one.setup.problem.domain.names, ())
    first, second = (p.setup.residuals(p.network).fields(p.theta, points, space) for p in (one, other))
    found = {}
    for name in one.setup.problem.unknowns if unknowns is None else unknowns:
        gap, size = first[name].value - second[name].value, float(first[name].value.norm())
        found[name] = {"largest": float(gap.abs().max()), "relative_l2": float(gap.norm()) / (size or 1.0)}
    return found
