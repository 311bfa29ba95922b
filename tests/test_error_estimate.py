"""Estimate of the error without a reference by levels: the change of the output by the last, and what it gained."""

import itertools
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import kanpinn
from kanpinn.estimate.by_levels import error_by_levels
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.io.checkpoint import read_checkpoint
from kanpinn.run.checkpoints import Checkpoint, files, network

QUICK = [
    "backbone=kan",
    "schedule.steps=3",
    "sampler.interior=60",
    "sampler.boundary=10",
    "sampler.growth=1",
    "output.points=9",
    "output.figures=false",
    "output.progress=false",
    "checkpoint.every_s=0",
    "checkpoint.keep=100",
    "hydra.run.dir=run",
]


def at_ends(run: Path, points: np.ndarray) -> list[np.ndarray]:
    """What the network gave at the end of each level, from the last checkpoint of each."""
    found = [Checkpoint(file, *read_checkpoint(file)) for file in files(run)]
    last = {checkpoint.meta["levels"][0]: checkpoint for checkpoint in found}
    return [evaluate(*network(checkpoint), torch.from_numpy(points))["u"] for checkpoint in last.values()]


@pytest.mark.parametrize("problem", ["problem=poisson", "problem=poisson_lshape"])
def test_it_is_the_change_by_the_last_level_times_what_that_left_of_the_residual(
    problem, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kanpinn.run.results.estimated", lambda *_, **__: None)
    solution = kanpinn.solve([problem, "schedule.levels=3", *QUICK])
    with h5py.File(folder / "run" / "solution.h5") as f:
        y, x = np.meshgrid(f["y"][...], f["x"][...], indexing="ij")
        inside = np.isfinite(f["u"][...])
    points = np.stack([x[inside], y[inside]], axis=1)
    states = at_ends(folder / "run", points)
    changes = [np.linalg.norm(b - a) / np.linalg.norm(b) for a, b in itertools.pairwise(states)]
    levels = solution.metrics["levels"]
    assert levels[0]["change"] is None
    assert [level["change"]["u"] for level in levels[1:]] == pytest.approx(changes, rel=1e-9)
    gained = math.sqrt(levels[-1]["loss"] / levels[-2]["loss"])
    assert gained < 1
    assert solution.metrics["error_estimate"]["u"] == pytest.approx(gained * changes[-1], rel=1e-9)


@pytest.mark.parametrize("schedule", [["schedule=single"], ["schedule.levels=1"]])
def test_one_level_gives_none(schedule, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kanpinn.run.results.estimated", lambda *_, **__: None)
    assert kanpinn.solve(["problem=poisson", *QUICK, *schedule]).metrics["error_estimate"] is None


def test_parts_of_the_time_interval_add_up_to_that_of_the_whole():
    generator = np.random.default_rng(0)
    after = generator.normal(size=(3, 40))
    before = after + 0.1 * generator.normal(size=after.shape)
    norm = np.linalg.norm
    parts = [({"u": norm(a - b) / norm(a)}, {"u": norm(a)}) for a, b in zip(after, before, strict=True)]
    assert error_by_levels(parts)["u"] == pytest.approx(norm(after - before) / norm(after))
    assert error_by_levels([*parts, (None, {"u": 1.0})]) is None
    assert math.isnan(error_by_levels([({"u": math.nan}, {"u": 0.0})])["u"])
