"""Where a multilevel solve stands: the level under work, and the finer levels that wait for its correction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.least_squares import LeastSquares
from kanpinn.multilevel.correction import Correction, FasProblem, GalerkinProblem, correct
from kanpinn.multilevel.transfer import Transfer
from kanpinn.objective import Objective


@dataclass(frozen=True)
class Suspended:
    """A finer level that waits.

    Attributes:
        problem: What it minimises.
        theta: Its parameters `[P]`.
        start: Parameters its coarse problem started from.
    """

    problem: LeastSquares
    theta: Tensor
    start: Tensor


class Hierarchy:
    """Exactly nested levels of one network, with one of them under work.

    Attributes:
        backbones: The network on each level, from the coarsest; grown as needed.
        level: The level under work.
        problem: What is minimised there.
        theta: The parameters there, `[P]`.
        suspended: Finer levels waiting for corrections, the finest first.
    """

    def __init__(
        self, coarsest: Backbone, objective: Callable[[Backbone], Objective], draw: Callable[[Objective, Tensor], None]
    ) -> None:
        """Begin on the coarsest level, without parameters.

        Args:
            coarsest: The network on level 0.
            objective: Makes the objective of a network.
            draw: Gives an objective its collocation points; sees the parameters `[P]` they are drawn for.
        """
        self.backbones = [coarsest]
        self.level = 0
        self._objective, self._draw = objective, draw
        self.problem: LeastSquares = objective(coarsest)
        self.theta = torch.empty(0)
        self.suspended: list[Suspended] = []

    @property
    def backbone(self) -> Backbone:
        """The network on the level under work."""
        return self.backbones[self.level]

    def begin(self, level: int, initial: Callable[[Backbone], Tensor]) -> None:
        """Put new parameters on a level; a network without finer levels stays what it is.

        Args:
            level: The level.
            initial: Makes the parameters of a network.
        """
        while len(self.backbones) <= level and self.backbones[-1].refinable:
            self.backbones.append(self.backbones[-1].refined())
        self.level = min(level, len(self.backbones) - 1)
        self.problem = self._objective(self.backbone)
        self.theta = initial(self.backbone)
        self.suspended = []

    def transfer(self, level: int) -> Transfer:
        """The transfer between a level and the next finer one."""
        return Transfer(self.backbones[level], self.backbones[level + 1])

    def refine(self) -> None:
        """Go up to a level never visited: the same function on halved intervals."""
        if len(self.backbones) == self.level + 1:
            self.backbones.append(self.backbone.refined())
        self.theta = self.transfer(self.level).prolong(self.theta)
        self.level += 1
        self.problem = self._objective(self.backbone)

    def descend(self, kind: str, radius: float | None = None, layers: str = "all") -> None:
        """Suspend the level under work and pose its coarse problem.

        Args:
            kind: "fas" or "galerkin" (see `kanpinn.multilevel.correction`).
            radius: Share of the parameters' norm that a fas problem's linear term may move; None sets no bound.
            layers: "all"; or "last": a galerkin problem changes the last layer only.
        """
        base = self.problem.network(self.theta)
        if not len(self.problem.points):
            self._draw(*base)
        transfer = self.transfer(self.level - 1)
        if kind == "fas":
            start = transfer.restrict(self.theta)
            coarse = self._objective(self.backbones[self.level - 1])
            self._draw(coarse, start)
            gradient = self.problem.loss_and_gradient(self.theta)[1]
            problem: LeastSquares = FasProblem(coarse, start, gradient, transfer, radius)
        else:
            start = self.theta.new_zeros(transfer.coarse.size)
            free = None
            if layers == "last":
                free = torch.zeros_like(start)
                free[transfer.coarse.last_layer] = 1.0
            problem = GalerkinProblem(self.problem, self.theta, transfer, free)
        self.suspended.append(Suspended(self.problem, self.theta, start))
        self.problem, self.theta = problem, start
        self.level -= 1

    def ascend(self) -> Correction:
        """Go up to the level that waits and add the coarse correction by a line search."""
        waiting = self.suspended.pop()
        direction = self.transfer(self.level).prolong(self.theta - waiting.start)
        found = correct(waiting.problem, waiting.theta, direction)
        self.level += 1
        self.problem, self.theta = waiting.problem, found.theta
        return found
