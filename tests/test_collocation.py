"""Collocation points of a slab: which stay, which are fresh, and both after a state is taken up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kanpinn.problems.poisson import Poisson

from kanpinn.backbones import Kan
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.multilevel.schedules import Nested
from kanpinn.optimizers import Adam
from kanpinn.samplers import SAMPLERS
from kanpinn.solver.collocation import Collocation
from kanpinn.solver.level_changes import enter
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.state import join, split


def setup_of(sampler: str = "uniform", seed: int = 0, schedule: Nested | None = None, **options) -> Setup:
    points = SAMPLERS[sampler](**{"interior": 12, "boundary": 8, **options})
    network = Kan(width=[2], degree=4, grid=2, embedding=EmbeddingOptions("fourier", features=2))
    return Setup(Poisson(), network, schedule or Nested(levels=2, steps=1), Adam(), points, seed=seed)


def drawn(collocation: Collocation, level: int) -> torch.Tensor:
    """Points that an objective gets on a level."""
    objective = collocation.setup.objective(collocation.setup.network())
    collocation.draw(objective, torch.zeros(objective.size, dtype=torch.float64), level)
    return objective.points


def test_points_that_stay_are_those_of_every_level_that_asks_for_as_many() -> None:
    for every, same in ((0, True), (5, False)):
        collocation = Collocation(setup_of(resample_every=every), np.random.default_rng(0))
        first = drawn(collocation, 0)
        assert torch.equal(drawn(collocation, 0), first) == same
        assert torch.equal(drawn(collocation, 1), first) == same
    growing = Collocation(setup_of(resample_every=0, growth=2.0), np.random.default_rng(0))
    first, finer = drawn(growing, 0), drawn(growing, 1)
    assert (len(first), len(finer)) == (20, 40)
    assert torch.equal(drawn(growing, 0), first) and torch.equal(drawn(growing, 1), finer)


@pytest.mark.parametrize("every", [0, 5])
def test_a_state_holds_points_that_stay_and_the_randomness_of_those_to_come(every: int) -> None:
    setup = setup_of(resample_every=every, growth=2.0)
    one, other = (Collocation(setup, np.random.default_rng(seed)) for seed in (1, 2))
    drawn(one, 0)
    other.load_state(join(*split(one.state(), "")))
    for level in (0, 1, 0):
        assert torch.equal(drawn(one, level), drawn(other, level))


def test_a_seed_decides_the_embedding_and_every_random_start_has_randomness_of_its_own() -> None:
    found = [setup_of(seed=seed).embedding().frequencies for seed in (0, 0, 1)]
    assert found[0] is not None
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    setup = setup_of(schedule=Nested(levels=1, steps=1, starts=2, start_steps=1))
    slab, streams = SlabSolve(setup), []
    for stage in setup.plan():
        enter(slab, stage)
        streams.append(tuple(slab.optimizers.current.stream))
    assert len(streams) == len(set(streams)) == 3
