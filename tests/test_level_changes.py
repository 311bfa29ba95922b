"""Changes of level: time and random streams of every visit, how far an output changes, coarse problems not posed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from kanpinn.problems.heat import Heat

import kanpinn as kp
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.errors import DivergedError
from kanpinn.evaluate.spectrum import error_spectra
from kanpinn.geometry import Disk
from kanpinn.multilevel.hierarchy import Hierarchy
from kanpinn.solver import slab_solve
from kanpinn.solver import solve as solving
from kanpinn.solver.history import StageState
from kanpinn.solver.level_changes import enter
from kanpinn.solver.record import Monitor, Record
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import solve, train
from kanpinn.state import join, split

NET = kp.Kan(width=[2], degree=4, grid=2)
STAGES = [{"level": 0, "steps": 2}, {"level": 0, "steps": 1}, {"level": 0, "steps": 1, "widen": 1}]
STAGES += [{"level": 1, "steps": 3, "deepen": 1}, {"level": 0, "steps": 1}, {"level": 1, "steps": 2}]
SCHEDULES = {
    "starts": kp.Nested(levels=3, steps=[3, 2, 1], starts=3, start_steps=2),
    "cycle": kp.VCycle(levels=3, cycles=2, pre=1, post=2, coarsest=3),
    "edits": kp.Custom(stages=STAGES),
    "slabs": kp.Nested(levels=2, steps=[2, 1], slabs=2),
}


def setup_of(schedule: Any, problem: kp.Problem | None = None, **more: Any) -> Setup:
    points = kp.Uniform(interior=20, boundary=8, resample_every=0)
    return Setup(problem or Heat(), NET, schedule, kp.LevenbergMarquardt(), points, points=5, **more)


class Clock:
    """Time that passes only in changes of level, 10 each, and in steps, 1 each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(solving, "StageState", lambda *known, **more: StageState(*known, **more, began=self.now))
        monkeypatch.setattr(slab_solve, "Record", lambda: Record(started=self.now))
        for name in ("begin", "refine", "ascend", "descend", "edit"):
            monkeypatch.setattr(Hierarchy, name, self.taking(10.0, getattr(Hierarchy, name)))
        monkeypatch.setattr(kp.LevenbergMarquardt, "step", self.taking(1.0, kp.LevenbergMarquardt.step))

    def taking(self, seconds: float, done: Callable[..., Any]) -> Callable[..., Any]:
        def method(*given: Any) -> Any:
            self.now += seconds
            return done(*given)

        return method


class Silent:
    """A follower that notes the optimiser's random stream and the clock at every stage."""

    def __init__(self) -> None:
        self.streams: list[list[int]] = []

    def slab_begun(self, *_: Any) -> None: ...

    def stage_begun(self, solver: Any, stage: Any) -> Any:
        trial = 0 if stage.trial is None else stage.trial + 1
        record = solver.record
        expected = [7, 3, solver.slab.number, len(record.levels), trial, len(record.history)]
        assert list(solver.slab.optimizers.current.stream) == expected
        self.streams.append(expected)
        return lambda _: None

    def halt(self, *_: Any) -> None: ...

    def stage_ended(self, *_: Any) -> None: ...

    def level_done(self, *_: Any) -> None: ...

    def settled(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("starts", [3 * 12 + 3, 12, 11]),  # three starts, then what goes on from the best of them
        ("cycle", [11, 11, 13, 12, 13, 11, 13, 12, 12]),
        ("edits", [13, 11, 23, 11, 12]),
        ("slabs", [12, 11, 12, 11]),
    ],
)
def test_every_visit_has_its_own_time_and_every_stage_its_own_stream(
    name: str, seconds: list[int], monkeypatch
) -> None:
    clock, watch = Clock(monkeypatch), Silent()
    solver, _ = solve(setup_of(SCHEDULES[name], seed=7), watch)
    found = [record.wall_time_s for record in solver.record.levels]
    assert found == seconds
    assert sum(found) == clock.now - 1000.0
    assert len(set(map(tuple, watch.streams))) == len(watch.streams)
    times = [row["wall_time"] for row in solver.record.history]
    assert all(0 < before < after <= sum(found) for before, after in itertools.pairwise(times))
    if name != "starts":
        assert times[-1] == sum(found)


def test_every_change_says_how_far_the_output_moves(monkeypatch) -> None:
    gaps = itertools.count(1)
    monkeypatch.setattr(Monitor, "gap", lambda *_: float(next(gaps)))
    solver, _ = solve(setup_of(SCHEDULES["edits"], seed=7), Silent())
    levels = solver.record.levels
    assert [(one.level, one.entered, one.transfer_gap, one.steps) for one in levels] == [
        (0, "start", None, 3),
        (0, "widen", 1.0, 1),
        (1, "refine", 3.0, 3),
        (0, "restrict", None, 1),
        (1, "correct", None, 2),
    ]
    assert [event.split(":")[0] for event in solver.record.events] == ["level 0, widen by 1", "level 1, deepen by 1"]
    assert [event.rpartition(" ")[2] for event in solver.record.events] == ["1.0e+00", "3.0e+00"]
    assert [one.parameters for one in levels][:3] == [36, 54, levels[4].parameters]


@pytest.mark.parametrize("coarse", ["galerkin", "fas"])
def test_several_levels_at_once_are_gone_one_by_one(coarse: str) -> None:
    stages = [{"level": level, "steps": 1} for level in (0, 3, 1, 3)]
    solver, _ = solve(setup_of(kp.Custom(stages=stages, coarse=coarse), seed=7), Silent())
    found = [(one.level, one.entered, one.steps, one.grid) for one in solver.record.levels]
    up = [(0, "start", 1, 2), (1, "refine", 0, 4), (2, "refine", 0, 8), (3, "refine", 1, 16)]
    assert found == [
        *up,
        *((2, "restrict", 0, 8), (1, "restrict", 1, 4)),
        *((2, "correct", 0, 8), (3, "correct", 1, 16)),
    ]
    lengths = [one.correction for one in solver.record.levels]
    assert [one is None for one in lengths] == [True] * 6 + [False] * 2
    backbone, theta = solver.network()
    assert (backbone.level, len(theta)) == (3, solver.record.levels[-1].parameters)


def test_a_coarse_problem_that_cannot_be_posed_leaves_the_level_it_was_for(monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise DivergedError("no finite points")

    monkeypatch.setattr(Hierarchy, "descend", refuse)
    setup = setup_of(SCHEDULES["cycle"])
    first, second, *_ = setup.plan()
    slab = SlabSolve(setup)
    enter(slab, first)
    end = enter(slab, second)
    assert end is not None and (end.reason, end.loss, end.rows) == ("diverged", math.inf, [])  # without points
    slab.settle(train(slab, first))
    end = enter(slab, second)
    assert end is not None and end.reason == "refused" and end.theta is slab.hierarchy.theta
    assert end.loss == slab.loss(slab.theta) and end.message == "the coarse problem of level 2: no finite points"


@dataclass(frozen=True)
class Around(kp.Problem):
    """u_t + u_x = 0, periodic, with a reference."""

    domain = kp.Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "x")
    periodic = ("x",)

    def residual(self, p: Any) -> Any:
        return p.u_t + p.u_x

    def conditions(self) -> list[Any]:
        return [kp.Condition("start", "t-", lambda p: p.u - torch.sin(2 * math.pi * p.x))]

    def reference(self, p: Any) -> Any:
        return torch.sin(2 * math.pi * (p.x - p.t))


def test_spectra_of_errors_know_what_is_periodic() -> None:
    slab = SlabSolve(setup_of(kp.Nested(levels=1, steps=1), Around()))
    grid = slab.grid
    values = {"u": np.random.default_rng(0).normal(size=grid.reference["u"].shape)}
    found, whole, cut = (
        slab.monitor.spectra(values),
        *(error_spectra(values, grid.reference, grid.coordinates, grid.axes, one) for one in (("x",), ())),
    )
    assert all(np.array_equal(found[key], whole[key]) for key in whole)
    assert any(found[key].shape != cut[key].shape or not np.allclose(found[key], cut[key]) for key in cut)


def test_a_slab_measures_on_its_share_of_the_grid() -> None:
    setup = setup_of(kp.Nested(levels=1, steps=1, slabs=2))
    first = SlabSolve(setup.slab(0, None))
    second = SlabSolve(setup.slab(1, lambda *_: {}), first)
    for number, slab in enumerate((first, second)):
        times = slab.grid.points[:, 1]
        assert slab.number == number and slab.record is first.record and slab.costs is first.costs
        assert (float(times.min()), float(times.max())) == (0.5 * number, 0.5 * number + 0.5)
    kept = [
        tuple(one.setup.random(stream, *more).random(3))
        for one, *more in ((first,), (second, 1))
        for stream in ("points", "initial")
    ]  # type: ignore[arg-type]
    assert [tuple(slab.initial.random(3)) for slab in (first, second)] == kept[1::2]


def test_measured_costs_come_back_with_a_state() -> None:
    setup = setup_of(kp.Nested(levels=1, steps=2))
    slab, other = SlabSolve(setup), SlabSolve(setup)
    (stage,) = setup.plan()
    enter(slab, stage)
    slab.settle(train(slab, stage))
    slab.costs = CostTable(**{name: 2.0 * value for name, value in vars(CostTable()).items()})
    slab.monitor.below = {"u": np.arange(3.0)}
    other.load_state(join(*split(slab.state(), "")))
    assert other.costs == slab.costs != CostTable()
    assert other.monitor.below is not None and np.array_equal(other.monitor.below["u"], np.arange(3.0))
    assert other.initial.random() == slab.initial.random()


def test_points_are_shared_out_anew_where_the_problem_is_another_one(monkeypatch) -> None:
    monkeypatch.setattr(slab_solve, "ShardedProblem", lambda inner: SimpleNamespace(inner=inner))
    alone = SlabSolve(setup_of(kp.Nested(levels=2, steps=1)))
    assert alone.posed is alone.least_squares
    setup = setup_of(kp.Nested(levels=2, steps=1), processes=2)
    slab, seen = SlabSolve(setup), list[Any]()
    for stage in setup.plan():
        enter(slab, stage)
        seen.append(slab.posed)
        assert seen[-1].inner is slab.least_squares and slab.posed is seen[-1]
    assert seen[0] is not seen[1]


@dataclass(frozen=True)
class Holed(kp.Problem):
    """Two unknowns on a square without a disc."""

    domain = kp.Box(x=(-1, 1), y=(-1, 1)) - Disk(radius=0.5, name="hole")
    unknowns = ("u", "v")
    derivatives = ("x",)

    def residual(self, p: Any) -> Any:
        return {"one": p.u_x, "two": p.v_x - p.u}

    def conditions(self) -> list[Any]:
        return [kp.Condition("rim", "hole", lambda p: p.u)]

    def reference(self, p: Any) -> Any:
        return {"u": 1 + p.x, "v": 0 * p.x}


def test_changes_and_errors_are_relative_to_what_is_inside() -> None:
    slab = SlabSolve(setup_of(kp.Nested(levels=1, steps=1), Holed()))
    residuals, grid = slab.objective.residuals, slab.grid
    theta = slab.backbone.initial(np.random.default_rng(0))
    values = slab.monitor.values(residuals, theta)
    assert 0 < len(grid.inside) < len(grid.points) == len(values["u"])
    before = {"u": 3 * values["u"] + 0.5, "v": 0 * values["v"]}
    for one in before.values():
        one[np.setdiff1d(np.arange(len(one)), grid.inside)] = 1e3
    inside = {name: (values[name][grid.inside], before[name][grid.inside]) for name in ("u", "v")}
    gaps = [abs(new - old).max() / (abs(old).max() or 1.0) for new, old in inside.values()]
    assert slab.monitor.gap(before, residuals, theta) == pytest.approx(max(gaps)) and gaps[0] != gaps[1]
    for name in ("u", "v"):
        alone = slab.monitor.gap({name: before[name]}, residuals, theta)
        assert alone == pytest.approx(gaps[("u", "v").index(name)])
    u, x = inside["u"][0], grid.points.numpy()[grid.inside, 0]
    found = slab.monitor.errors(residuals, theta)
    assert found["relative_l2_u"] == pytest.approx(np.linalg.norm(u - 1 - x) / np.linalg.norm(1 + x))
    assert math.isnan(found["relative_l2_v"])
