"""Optimisers of a slab's stages, and their state from level to level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from kanpinn.backbones.edits import Edit
from kanpinn.multilevel import Stage
from kanpinn.multilevel.correction import Transfer
from kanpinn.multilevel.hierarchy import Hierarchy, levels_to
from kanpinn.optimizers import Optimizer
from kanpinn.solver.setup import Setup
from kanpinn.state import State, check_vectors


class StageOptimizers:
    """The optimiser of each level's last visit.

    Attributes:
        last: The level trained last; None before the first stage.
    """

    def __init__(self, setup: Setup, hierarchy: Hierarchy) -> None:
        """Begin with none; the hierarchy says which level is under work."""
        self._plan = setup.plan()
        self._hierarchy = hierarchy
        self._transfers = setup.schedule.optimizer_state == "transfer"
        self._by_level: dict[int, Optimizer] = {}
        self._stages: dict[int, Stage] = {}  # by level, that of its last visit
        self.last: int | None = None

    @property
    def current(self) -> Optimizer:
        """Optimiser of the level under work."""
        return self._by_level[self._hierarchy.level]

    def start(self, stage: Stage, stream: list[int], *, corrected: bool, edits: Sequence[Edit] = ()) -> None:
        """Start the optimiser of a stage, with the state of the level it comes from where the schedule asks for that.

        The stream seeds its random numbers. A level that goes on after a correction has what its own last visit left;
        edits are changes of the network on this level since the last stage.
        """
        hierarchy = self._hierarchy
        optimizer: Optimizer = copy(stage.optimizer)
        optimizer.start(hierarchy.problem.size, stage.steps)
        optimizer.stream = stream
        if self._transfers and stage.trial is None:
            self._carry(optimizer, edits, corrected=corrected)
        if edits:  # states of other levels belong to the network before
            self.forget()
        self.last = hierarchy.level
        self._by_level[self.last], self._stages[self.last] = optimizer, stage

    def _carry(self, optimizer: Optimizer, edits: Sequence[Edit], *, corrected: bool) -> None:
        """Give an optimiser the state of its own last visit, or that of the level the run comes from."""
        level, before = self._hierarchy.level, self.last
        if corrected and level in self._by_level:
            before = level
        if before is None or type(other := self._by_level[before]) is not type(optimizer):
            return
        backbones = levels_to(edits[0].before) if edits else self._hierarchy.backbones
        vector, covector = [edit.linear for edit in edits], [edit.dual for edit in edits]
        if before != level:
            transfer = Transfer(backbones[min(before, level)], backbones[max(before, level)])
            up = level > before
            vector.insert(0, transfer.prolong if up else transfer.restrict)
            covector.insert(0, transfer.restrict_transpose if up else transfer.prolong_transpose)
        optimizer.carry(other, _chained(vector), _chained(covector))

    def forget(self) -> None:
        """Free the state of all of them."""
        self._by_level.clear()
        self._stages.clear()
        self.last = None

    def state(self, *, underway: bool) -> State:
        """State that the next step, if a stage is under way, and later stages need."""
        kept = self._by_level
        if not self._transfers:  # then only the one at work is ever asked
            kept = {self.last: kept[self.last]} if underway and self.last in kept else {}
        levels = [
            {
                "level": level,
                "stage": self._plan.index(self._stages[level]),
                "stream": list(optimizer.stream),
                "state": optimizer.state(),
            }
            for level, optimizer in kept.items()
        ]
        return {"levels": levels, "last": self.last}

    def load_state(self, state: State, device: torch.device) -> None:
        """Go on where `state` was taken, arrays in place of tensors.

        Raises:
            KeyError, TypeError, ValueError: If it is not of this config.
        """
        for known in state["levels"]:
            level, stage = int(known["level"]), self._plan[int(known["stage"])]
            optimizer = copy(stage.optimizer)
            size = self._hierarchy.backbones[level].size
            check_vectors(known["state"], size)
            optimizer.start(size, stage.steps)
            optimizer.stream = [int(part) for part in known["stream"]]
            optimizer.load_state(known["state"], device)
            self._by_level[level], self._stages[level] = optimizer, stage
        self.last = state["last"]

    def __contains__(self, level: object) -> bool:
        """Tell whether a level has one."""
        return level in self._by_level


def _chained(maps: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    """One map after the other."""

    def apply(vector: Tensor) -> Tensor:
        for one in maps:
            vector = one(vector)
        return vector

    return apply
