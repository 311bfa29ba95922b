"""The history of a run: what is kept of every step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

import kanpinn
from kanpinn.io.solution import read_solution
from kanpinn.least_squares.objective import Objective


def test_the_error_of_a_step_is_relative_to_the_reference(tmp_path: Path) -> None:
    # On a grid this small the error after a step is taken at every point, as that of the result is.
    options = ["threads=1", "schedule.levels=1", "schedule.steps=2", "output.points=12", "output.figures=false"]
    kanpinn.solve(["problem=poisson", *options, "output.progress=false", f"hydra.run.dir={tmp_path / 'run'}"])
    data = read_solution(tmp_path / "run/solution.h5")
    u, reference = data.fields["u"], data.fields["u_ref"]
    expected = float(np.linalg.norm(u - reference) / np.linalg.norm(reference))
    assert abs(np.linalg.norm(u) / np.linalg.norm(reference) - 1) > 0.01  # or the norms would be told apart by nothing
    assert data.history["relative_l2_u"][-1] == pytest.approx(expected, rel=1e-9)


def test_weights_of_points_are_learned_after_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    update = Objective.update_multipliers

    def watched(objective: Objective, theta: Tensor) -> None:
        seen.append(theta.numpy().tobytes())
        update(objective, theta)

    monkeypatch.setattr(Objective, "update_multipliers", watched)
    options = ["optimizer=adam", "weighting=rba", "threads=1", "schedule.levels=1", "schedule.steps=4"]
    options += ["sampler.resample_every=0", "output.points=5", "output.figures=false", "output.progress=false"]
    kanpinn.solve(["problem=poisson", *options, f"hydra.run.dir={tmp_path / 'run'}"])
    assert len(set(seen)) >= 4
