"""Setup of a solve: the problem and everything that solves it, as typed objects."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import BACKBONES, Backbone
from kanpinn.backbones.coefficients import with_coefficients
from kanpinn.backbones.edits import enlarged
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.parallel import joint_network
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.errors import UserError
from kanpinn.least_squares.claims import unmet
from kanpinn.least_squares.constraint import Constraint
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.least_squares.scales import scales_of
from kanpinn.least_squares.weighting import WEIGHTINGS, Fixed, Weighting
from kanpinn.multilevel import SCHEDULES, Schedule, Stage
from kanpinn.optimizers import OPTIMIZERS, Optimizer
from kanpinn.pde import Problem
from kanpinn.pde.problem import output_names
from kanpinn.pde.time_slab import Fields, time_slab
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import SAMPLERS, Sampler

Stream = Literal["initial", "points", "embedding", "sketches", "check"]

_STREAMS: tuple[Stream, ...] = ("initial", "points", "embedding", "sketches", "check")
"""Independent random streams of one seed, by their numbers."""


class Network(Protocol):
    """Options of a network, such as `Kan(width=[6, 6])`."""

    embedding: EmbeddingOptions
    networks: str

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """Return the network on its coarsest level."""
        ...

    def check_order(self, order: int) -> None:
        """Refuse derivatives of an order that the network has not; raises UserError."""
        ...


@dataclass(frozen=True)
class Start:
    """Network to begin with: of each time slab its parameters `[P]`, and the number of the first stage that is done."""

    stage: int
    thetas: tuple[Tensor, ...]


@dataclass(frozen=True)
class Setup:
    """Problem, network, schedule and methods of one solve.

    Attributes:
        problem: The PDE problem with its coefficients.
        backbone: Options of the network.
        schedule: Stages of the training; the optimisers it names for levels or stages are objects.
        optimizer: Optimiser of all stages that have none of their own.
        sampler: Rule for collocation points.
        weighting: Weights of the loss terms.
        conditions: Initial and boundary conditions as loss terms ("soft") or built into the network ("exact").
        seed: Seed of every random choice.
        dtype: Floating point type of points and network.
        device: Device of torch.
        points: Points per coordinate of the output grid: one number, one per coordinate, or None for the default.
        known: Sizes of outputs and equations; None finds them from the problem.
        start: Network to begin with; None for a random one.
        processes: Processes that share the points out, joined by `torch.distributed` if more than one.
    """

    problem: Problem
    backbone: Network
    schedule: Schedule
    optimizer: Optimizer
    sampler: Sampler
    weighting: Weighting = field(default_factory=Fixed)
    conditions: Literal["soft", "exact"] = "soft"
    seed: int = 0
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    points: int | list[int] | None = None
    known: Scales | None = None
    start: Start | None = None
    processes: int = 1

    @cached_property
    def scales(self) -> Scales:
        """Sizes of outputs and equations, on all levels and time slabs the same."""
        return self.known or scales_of(self.problem, exact=self.exact)

    @property
    def exact(self) -> bool:
        """True where conditions are built into the network."""
        return self.conditions == "exact"

    @cached_property
    def unmet(self) -> tuple[str, ...]:
        """Conditions that stay loss terms, since the problem's exact form does not meet them."""
        return unmet(self.problem, self.embedding(), self.dtype, self.device, self.scales) if self.exact else ()

    def plan(self) -> list[Stage]:
        """The schedule's stages, each with its optimiser."""
        plan = []
        for stage in self.schedule.plan()[self.start.stage if self.start else 0 :]:
            chosen = self.optimizer if stage.optimizer is None else stage.optimizer
            if not isinstance(chosen, Optimizer):
                raise UserError(f"schedule: {chosen!r} is no optimizer object, such as LevenbergMarquardt()")
            plan.append(replace(stage, optimizer=chosen))
        return plan

    def optimizers(self) -> list[Optimizer]:
        """The different optimisers of all stages, not started."""
        return [copy(one) for one in {repr(stage.optimizer): stage.optimizer for stage in self.plan()}.values()]

    def random(self, stream: Stream, *slab: int) -> np.random.Generator:
        """Return the generator of one random stream, from its start."""
        return np.random.default_rng(self.stream(stream, *slab))

    def stream(self, stream: Stream, *more: int) -> list[int]:
        """Return the seed of one random stream."""
        return [self.seed, _STREAMS.index(stream), *more]

    def problem_on(self, level: int) -> Problem:
        """Return the problem that a level solves, with the coefficients of the schedule's curriculum."""
        changed = self.schedule.coefficients(level)
        return replace(self.problem, **changed) if changed else self.problem

    def embedding(self) -> Embedding:
        """Return the embedding of the coordinates, its random frequencies drawn from the seed."""
        return self.backbone.embedding.of(self.problem, self.random("embedding"))

    def network(self, embedding: Embedding | None = None) -> Backbone:
        """Return the network on its coarsest level, without parameters; None stands for the setup's own embedding."""
        problem, options = self.problem, self.backbone
        embedding = embedding or self.embedding()
        names = output_names(problem)
        backbone = joint_network(options.build, embedding, names, problem.depends, options.networks)
        return with_coefficients(backbone, free_coefficients(problem))

    def networks(self, coarsest: Backbone) -> list[Backbone]:
        """Return the network of each stage; raises UserError where it cannot be changed as the stage asks for."""
        levels, found = [coarsest], []
        for k, stage in enumerate(self.plan()):
            for kind, amount in stage.edits:
                levels = [enlarged(levels[0], kind, amount, f"schedule.stages[{k}].{kind}")]
            while levels[-1].refinable and len(levels) <= stage.level:
                levels.append(levels[-1].refined())
            found.append(levels[min(stage.level, len(levels) - 1)])
        return found

    def residuals(self, backbone: Backbone, level: int | None = None) -> Residuals:
        """Return the residuals of a network, of a level's problem or (None) the problem itself."""
        problem = self.problem if level is None else self.problem_on(level)
        return Residuals(problem, backbone, exact=self.exact, unmet=self.unmet, scales=self.scales)

    def objective(
        self,
        backbone: Backbone,
        level: int | None = None,
        costs: CostTable | None = None,
        constraint: Constraint | None = None,
    ) -> Objective:
        """Return the least-squares objective of a network, without points and with weights of its own.

        A level of None stands for the problem itself, costs of None are looked up, a constraint of None is none.
        """
        weighting = self.weighting.on_level(level)
        return Objective(self.residuals(backbone, level), weighting, costs=costs, constraint=constraint)

    def slab(self, number: int, before: Fields | None) -> Setup:
        """Return the setup of one time slab, numbered from 0; itself where there is one slab.

        `before` is the solution on the slab before; None for the first.
        """
        problem = time_slab(self.problem, self.schedule.slabs, number, before)
        return self if problem is self.problem else replace(self, problem=problem, known=self.scales)


_REGISTRIES: tuple[dict[str, Any], ...] = (BACKBONES, SCHEDULES, OPTIMIZERS, SAMPLERS, WEIGHTINGS)


def name_of(component: Any) -> str:
    """Return the name a component is chosen by in a config; its class's for one of the user's own."""
    names = {cls: name for registry in _REGISTRIES for name, cls in registry.items()}
    return names.get(type(component), type(component).__name__)
