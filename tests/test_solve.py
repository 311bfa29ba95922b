"""The solver by hand: objects joined without settings, folders or screens."""

from __future__ import annotations

import numpy as np
import torch
from kanpinn.problems.poisson import Poisson

from kanpinn.backbones import Kan
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.multilevel.schedules import Nested, VCycle
from kanpinn.optimizers import Adam, LevenbergMarquardt
from kanpinn.samplers import Sobol
from kanpinn.solver.setup import Setup
from kanpinn.solver.solve import solve


class Told:
    """A watch that counts steps and keeps how stages ended."""

    def __init__(self) -> None:
        self.steps, self.ends = 0, []

    def slab_begun(self, *_): ...

    def stage_begun(self, *_):
        return lambda _: setattr(self, "steps", self.steps + 1)

    def halt(self, *_): ...

    def stage_ended(self, *told):
        self.ends.append(told[-1].reason)

    def level_done(self, *_): ...

    def settled(self, *_): ...


def error(setup: Setup, watch: Told) -> tuple[float, str]:
    solver, end = solve(setup, watch)
    backbone, theta = solver.network()
    points = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    found = evaluate(setup.residuals(backbone), theta, torch.from_numpy(points))["u"]
    exact = np.sin(np.pi * points[:, 0]) * np.sin(np.pi * points[:, 1])
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact)), end.reason


def setup_of(schedule, **others) -> Setup:
    network, points = Kan(width=[5], degree=5, grid=3), Sobol(interior=300, boundary=40, resample_every=5)
    return Setup(Poisson(), network, schedule, LevenbergMarquardt(), points, conditions="exact", **others)


def test_objects_joined_by_hand_solve_poisson() -> None:
    watch = Told()
    found, reason = error(setup_of(Nested(levels=2, steps=25)), watch)
    assert found < 1e-3 and reason == "steps"
    assert watch.steps == 50 and watch.ends == ["steps", "steps"]


def test_stages_have_optimizers_of_their_own_and_cycles_go_down() -> None:
    watch = Told()
    schedule = Nested(levels=2, steps=[5, 20], optimizers=[Adam(), LevenbergMarquardt(damping=1e-2)])
    setup = setup_of(schedule)
    assert [type(stage.optimizer) for stage in setup.plan()] == [Adam, LevenbergMarquardt]
    assert error(setup, watch)[0] < 0.05
    watch = Told()
    error(setup_of(VCycle(levels=2, cycles=1, pre=2, post=2, coarsest=3)), watch)
    assert watch.ends == ["steps", "steps", "steps"] and watch.steps == 7
