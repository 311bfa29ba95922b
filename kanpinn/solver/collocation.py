"""Collocation points of a slab: fresh ones when they are due, the same ones where they stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.points import INTERIOR
from kanpinn.samplers import CollocationSample
from kanpinn.solver.setup import Setup
from kanpinn.state import State, generator_of, generator_state


class Collocation:
    """Source of one slab's collocation points.

    Attributes:
        setup: Its sampler draws in its problem's domain.
    """

    def __init__(self, setup: Setup, generator: np.random.Generator) -> None:
        """Begin with a generator of random points."""
        self.setup = setup
        self._generator = generator
        self._kept: dict[Any, CollocationSample] = {}  # points that stay, by what they depend on

    def draw(self, objective: Objective, theta: Tensor, level: int) -> None:
        """Give an objective new points, as many as a level asks for; its theta `[P]` is for adaptive samplers.

        Raises:
            DivergedError: If a sampler finds residuals that are not finite.
        """
        sampler = self.setup.sampler
        cells, breaks = objective.backbone.cells, objective.backbone.breaks

        def residual(points: Tensor) -> Tensor:
            of, found = objective.residuals.scales.of, objective.residuals.interior(theta, points)
            return torch.stack([(v / of(INTERIOR, equation)).square() for equation, v in found.items()]).sum(0).sqrt()

        # Points that are never drawn anew are the same on all levels that ask for as many.
        followed = (
            " ".join(f"{name}={breaks.get(name, count)}" for name, count in cells.items())
            if sampler.follows_knots
            else ""
        )
        key = None if sampler.resample_every else (sampler.counts(level), followed)
        found = self._kept.get(key)
        if found is None:
            found = sampler.draw(
                self.setup.problem,
                level,
                self._generator,
                cells=cells,
                breaks=breaks,
                residual=residual,
                dtype=self.setup.dtype,
                device=self.setup.device,
            )
        if key is not None:
            self._kept[key] = found
        objective.set_points(found)

    def state(self) -> State:
        """The points that stay and the generator of those to come."""
        kept = [{"key": key, "draw": draw.state()} for key, draw in self._kept.items()]
        return {"kept": kept, "generator": generator_state(self._generator)}

    def load_state(self, state: State) -> None:
        """Go on where `state` was taken; raises KeyError, TypeError or ValueError if it is none."""
        self._kept = {
            (tuple(known["key"][0]), known["key"][1]): CollocationSample.from_state(known["draw"], self.setup.device)
            for known in state["kept"]
        }
        self._generator = generator_of(state["generator"])
