"""Collocation samples: all points at which one loss is evaluated, with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from kanpinn.state import State, tensor


@final
@dataclass(frozen=True)
class PointSet:
    """Points with quadrature weights and, on a boundary, normals.

    Attributes:
        points: The points `[N, d]`, columns in the order of the domain's names.
        weights: Their weights `[N]`; they sum to the measure of the set, |Ω| or the total area of the pieces (single
            points count 1 each). Only `adaptive` with `unbiased` meets this sum in the mean instead.
        normals: The outward unit normals `[N, d]`, on inner planes of the side below; None where there are none.
    """

    points: Tensor
    weights: Tensor
    normals: Tensor | None = None

    def state(self) -> State:
        """Return the arrays by name."""
        return {"points": self.points, "weights": self.weights, "normals": self.normals}

    @staticmethod
    def from_state(state: State, device: torch.device) -> PointSet:
        """Return the set whose `state` this is, arrays in place of tensors."""
        points, weights, normals = (state[key] for key in ("points", "weights", "normals"))
        return PointSet(
            tensor(points, device), tensor(weights, device), None if normals is None else tensor(normals, device)
        )


@final
@dataclass(frozen=True)
class CollocationSample:
    """All points of one objective.

    Attributes:
        interior: Points inside the domain.
        conditions: By condition, points on its support; for one on inner planes, those just below them.
        paired: By periodic condition, the opposite points `[N, d]`, in the order of its points on the lower face; by
            condition on inner planes, those just above. Their normals are the opposite ones.
    """

    interior: PointSet
    conditions: dict[str, PointSet]
    paired: dict[str, Tensor]

    def state(self) -> State:
        """Return all points, weights and normals."""
        conditions = {name: chosen.state() for name, chosen in self.conditions.items()}
        return {"interior": self.interior.state(), "conditions": conditions, "paired": self.paired}

    @staticmethod
    def from_state(state: State, device: torch.device) -> CollocationSample:
        """Return the sample whose `state` this is, arrays in place of tensors."""
        conditions = {str(name): PointSet.from_state(part, device) for name, part in state["conditions"].items()}
        paired = {str(name): tensor(points, device) for name, points in state["paired"].items()}
        return CollocationSample(PointSet.from_state(state["interior"], device), conditions, paired)
