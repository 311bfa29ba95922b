"""Hierarchy of a multilevel solve: the level under work, and the finer levels that wait for its correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import Edit, edited, rebuilt
from kanpinn.least_squares.objective import LeastSquares, Objective
from kanpinn.least_squares.wrapped import SubspaceProblem
from kanpinn.multilevel.correction import Correction, FasProblem, Transfer, correct, galerkin
from kanpinn.state import State, check_size, tensor


@dataclass(frozen=True)
class Suspended:
    """A finer level that waits, with its parameters `[P]` and those that its coarse problem started from.

    That problem changes "all" layers, or the "last" only.
    """

    problem: LeastSquares
    theta: Tensor
    start: Tensor
    layers: str


def levels_to(network: Backbone) -> list[Backbone]:
    """Return a network and all that it is a refinement of, the coarsest first."""
    levels = [network]
    while levels[0].level:
        coarser = levels[0].coarsened()
        assert coarser is not None
        levels.insert(0, coarser)
    return levels


class Hierarchy:
    """Exactly nested levels of one network, with one of them under work.

    Attributes:
        backbones: The network on each level, from the coarsest; grown as needed.
        level: The level under work.
        problem: The least-squares problem there.
        theta: The parameters there, `[P]`.
        suspended: Finer levels waiting for corrections, the finest first.
    """

    def __init__(
        self, coarsest: Backbone, objective: Callable[[Backbone], Objective], draw: Callable[[Objective, Tensor], None]
    ) -> None:
        """Begin on the coarsest level, without parameters, with what makes a network's objective and draws its points.

        Points are drawn for parameters `[P]`.
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

    @property
    def _problems(self) -> list[LeastSquares]:
        return [*(waiting.problem for waiting in self.suspended), self.problem]

    @property
    def keeps_points(self) -> bool:
        """True while points must stay: a full approximation scheme's linear term belongs to those it was made on."""
        return any(problem.keeps_points for problem in self._problems)

    def begin(self, level: int, initial: Callable[[Backbone], Tensor]) -> None:
        """Put new parameters on a level; a network without finer levels stays what it is."""
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

    def edit(self, kind: str, amount: Any, generator: np.random.Generator) -> Edit:
        """Change the network under work and all coarser levels ("widen", "deepen" or "rank"), and keep its function."""
        found = edited(self.backbone, kind, amount, generator)
        self.theta = found(self.theta)
        self.backbones = levels_to(found.after)
        self.problem = self._objective(self.backbone)
        return found

    def descend(self, kind: str, radius: float | None = None, layers: str = "all") -> None:
        """Suspend the level under work and pose its coarse problem, "fas" or "galerkin".

        The linear term of a fas problem may move a share `radius` of the parameters' norm, any for None; a galerkin
        problem changes "all" layers or the "last" only.
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
            problem: LeastSquares = FasProblem.pose(coarse, start, gradient, transfer, radius)
        else:
            start = self.theta.new_zeros(transfer.coarse.size)
            problem = galerkin(self.problem, self.theta, transfer, layers)
        self.suspended.append(Suspended(self.problem, self.theta, start, layers))
        self.problem, self.theta = problem, start
        self.level -= 1

    def state(self) -> State:
        """The levels, their problems from the finest, and the parameters of each."""
        problems = [{"kind": problem.kind, **problem.state()} for problem in self._problems]
        suspended = [{"theta": w.theta, "start": w.start, "layers": w.layers} for w in self.suspended]
        known = {"level": self.level, "levels": len(self.backbones), "theta": self.theta}
        known["edits"] = [list(edit) for edit in self.backbone.edits]
        return {**known, "problems": problems, "suspended": suspended}

    def load_state(self, state: State, edits: Sequence[tuple[str, Any]], device: torch.device) -> None:
        """Stand where another hierarchy of the same coarsest network stood, by its state and its networks' edits.

        Raises:
            ValueError: If the state does not fit the network.
        """
        levels, self.level = int(state["levels"]), int(state["level"])
        self.backbones = [rebuilt(self.backbones[0], edits)]
        while len(self.backbones) < levels and self.backbones[-1].refinable:
            self.backbones.append(self.backbones[-1].refined())
        if len(self.backbones) != levels or not 0 <= self.level <= self.level + len(state["suspended"]) < levels:
            raise ValueError(f"level {self.level} below {len(state['suspended'])} of {levels}")
        self.theta = tensor(state["theta"], device)
        waiting = [
            (tensor(known["theta"], device), tensor(known["start"], device), str(known["layers"]))
            for known in state["suspended"]
        ]
        problems: list[LeastSquares] = []
        for k, known in enumerate(state["problems"]):
            level = self.level + len(waiting) - k
            if known["kind"] == SubspaceProblem.kind:
                theta, _, layers = waiting[k - 1]
                problems.append(galerkin(problems[-1], theta, self.transfer(level), layers))
                continue
            objective = self._objective(self.backbones[level])
            objective.load_state(known, device)
            if known["sample"] is not None and objective.points.dtype != self.theta.dtype:
                raise ValueError(f"points of {objective.points.dtype}, parameters of {self.theta.dtype}")
            fas = known["kind"] == FasProblem.kind
            problems.append(FasProblem.from_state(objective, known, device) if fas else objective)
        if len(problems) != len(waiting) + 1:
            raise ValueError(f"{len(problems)} problems for {len(waiting)} levels that wait and one under work")
        for k, problem in enumerate(problems):
            check_size(waiting[k][0] if k < len(waiting) else self.theta, problem.size)
            if k:
                check_size(waiting[k - 1][1], problem.size)
        self.suspended = [Suspended(problem, *known) for problem, known in zip(problems, waiting, strict=False)]
        self.problem = problems[-1]

    def ascend(self) -> Correction:
        """Go up to the level that waits and add the coarse correction by a line search."""
        waiting = self.suspended.pop()
        direction = self.transfer(self.level).prolong(self.theta - waiting.start)
        found = correct(waiting.problem, waiting.theta, direction)
        self.level += 1
        self.problem, self.theta = waiting.problem, found.theta
        return found
