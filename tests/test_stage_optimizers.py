"""State that optimisers carry between the levels of a training, and multipliers that follow its steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kanpinn.multilevel.correction import Transfer
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train

SMALL = ["problem=burgers", "backbone=kan", "backbone.width=[2]", "backbone.grid=2", "backbone.degree=4"]
SMALL += ["sampler.interior=40", "sampler.boundary=8", "output.points=5"]


def trained(*words: str) -> SlabSolve:
    """A training whose whole plan has been done."""
    setup = validate(compose([*SMALL, *words])[0]).setup
    training = SlabSolve(setup)
    for stage in setup.plan():
        enter(training, stage)
        training.settle(train(training, stage))
    return training


def test_steps_move_as_parameters_do_and_gradients_as_their_duals(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int]] = []

    def watched(self: LevenbergMarquardt, other: LevenbergMarquardt, vector, covector) -> None:
        moves.append((vector, covector, len(other.state()["last"])))

    monkeypatch.setattr(LevenbergMarquardt, "carry", watched)
    words = ["schedule=v_cycle", "schedule.levels=2", "schedule.coarsest=1", "schedule.pre=1", "schedule.post=1"]
    training = trained(*words, "schedule.cycles=1", "schedule.optimizer_state=transfer")
    coarse, fine = training.hierarchy.backbones
    # P by its columns; test_transfer shows that it keeps the function.
    prolongation = Transfer(coarse, fine).prolong(torch.eye(coarse.size, dtype=torch.float64)).T
    generator = np.random.default_rng(0)
    small, large = (torch.from_numpy(generator.standard_normal(b.size)) for b in (coarse, fine))
    down = [move for move in moves if move[2] == fine.size and len(move[0](large)) == coarse.size]
    assert len(down) == 1
    vector, covector, _ = down[0]
    assert torch.allclose(vector(prolongation @ small), small, rtol=0, atol=1e-10)  # a projection: R P = 1
    assert torch.allclose(covector(large), prolongation.T @ large, rtol=0, atol=1e-12)
    nested = [*words[:0], "schedule=nested", "schedule.levels=2", "schedule.steps=1"]
    moves.clear()
    trained(*nested, "schedule.optimizer_state=transfer")
    ((vector, covector, _),) = moves
    assert torch.allclose(vector(small), prolongation @ small, rtol=0, atol=1e-12)
    assert float(vector(small) @ covector(small)) == pytest.approx(float(small @ small), rel=1e-10)  # pairings are kept


def test_residual_based_attention_follows_every_step_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    thetas: list[Tensor] = []
    step = LevenbergMarquardt.step

    def watched(self: LevenbergMarquardt, objective, theta: Tensor):
        found = step(self, objective, theta)
        thetas.append(found.theta)
        return found

    monkeypatch.setattr(LevenbergMarquardt, "step", watched)
    decay, rate, start = 0.9, 0.1, 0.2
    words = ["weighting=rba", f"weighting.decay={decay}", f"weighting.rate={rate}", f"weighting.start={start}"]
    training = trained(*words, "weighting.only=[]", "schedule=single", "schedule.levels=1", "schedule.steps=3")
    objective = training.objective
    points = objective.collocation.by_term()["interior"]
    expected = torch.full((len(points),), start * rate / (1 - decay), dtype=torch.float64)
    assert len(thetas) == 3
    for theta in thetas:  # Anagnostopoulos et al. 2024, eq. 6
        residual = objective.residuals.interior(theta, points)[""].abs()
        expected = decay * expected + rate * residual / residual.max()
    found = objective.weighting.multipliers("interior", "")
    assert torch.allclose(torch.as_tensor(found), expected, rtol=1e-12)
