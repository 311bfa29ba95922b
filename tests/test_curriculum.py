"""A curriculum: coarse levels solve with other coefficients, the finest with the problem's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from kanpinn.problems.burgers import Burgers

from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import OutputGrid
from kanpinn.geometry import Box
from kanpinn.settings.compose import compose
from kanpinn.settings.config import check_curriculum, validate
from kanpinn.settings.configuration import Configuration
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train

BURGERS = ["problem=burgers", "problem.nu=0.02", "backbone.width=[2]", "backbone.degree=3", "sampler.interior=60"]
CURRICULUM = "schedule.curriculum={nu:[0.3,0.1]}"


def configured(*words: str) -> Configuration:
    return validate(compose([*BURGERS, "schedule.levels=4", "schedule.steps=2", *words])[0])


@pytest.mark.parametrize("backbone", [[], ["backbone=mlp", "~backbone.degree"]], ids=["kan", "mlp"])
def test_every_level_solves_with_its_own_coefficient_and_is_judged_by_the_true_one(backbone: list[str]) -> None:
    words = BURGERS if not backbone else ["problem=burgers", "problem.nu=0.02", "backbone=mlp", "sampler.interior=60"]
    words = [*words, "schedule.levels=4", "schedule.steps=2"]
    configuration = validate(compose([*words, CURRICULUM])[0])
    training = SlabSolve(replace(configuration.setup, points=21))
    grid = training.grid
    points = torch.tensor([[0.3, 0.4], [-0.2, 0.9]], dtype=torch.float64)
    for stage, nu in zip(configuration.setup.plan(), (0.3, 0.1, 0.02, 0.02), strict=True):
        enter(training, stage)
        assert training.objective.residuals.problem == validate(compose([*words, f"problem.nu={nu}"])[0]).setup.problem
        training.settle(train(training, stage))
        # u_t + u u_x − ν u_xx with that ν
        jet = training.objective.residuals.fields(training.theta, points)["u"]
        expected = jet["t"] + jet[""] * jet["x"] - nu * jet["xx"]
        found = training.objective.residuals.interior(training.theta, points)[""]
        assert torch.allclose(found, expected, rtol=1e-12)
        reference = grid.reference["u"]
        own = training.objective.residuals.fields(training.theta, grid.points)["u"].value.reshape(reference.shape)
        error = np.linalg.norm(own.detach().numpy() - reference) / np.linalg.norm(reference)
        assert training.record.levels[-1].relative_l2["u"] == pytest.approx(error, rel=1e-9)  # type: ignore[index]
    true = validate(compose([*words])[0]).setup.problem
    assert np.allclose(grid.reference["u"], OutputGrid(true, 21).reference["u"])


def test_a_curriculum_of_the_true_value_changes_nothing() -> None:
    ends = []
    for words in ([], ["schedule.curriculum={nu:[0.02,0.02]}"]):
        configuration = configured("schedule.levels=3", *words)
        training = SlabSolve(replace(configuration.setup, points=9))
        for stage in configuration.setup.plan():
            enter(training, stage)
            training.settle(train(training, stage))
        ends.append(training.theta)
    assert torch.equal(*ends)


def test_a_run_stopped_on_a_coarse_level_shows_the_true_problems_residual(kanpinn) -> None:
    quiet = ["output.figures=false", "output.progress=false", "output.points=9", "hydra.run.dir=run"]
    found = kanpinn(
        "solve", *BURGERS, "schedule.levels=2", "schedule.curriculum={nu:[0.5]}", "time_limit_s=1e-9", *quiet
    )
    assert found.code == 0, found.err
    assert json.loads(Path("run/metrics.json").read_text())["status"] == "time_limit"
    import kanpinn as package

    solution = package.load("run")
    with h5py.File("run/solution.h5") as file:  # pyright: ignore
        residual, u = np.asarray(file["residual"]), np.asarray(file["u"])
        points = np.stack(np.meshgrid(file["x"][()], file["t"][()]), axis=-1).reshape(-1, 2)
    u_t, u_x, u_xx = (solution.derivative(points, "u", d) for d in ("t", "x", "xx"))
    expected = u_t + u.ravel() * u_x - 0.02 * u_xx
    assert np.allclose(residual.ravel(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule.curriculum={mu:[0.1]}"], r"^schedule\.curriculum=mu: unknown\. Did you mean 'nu'\?"),
        (
            ["schedule.curriculum={nu:[]}"],
            r"^schedule\.curriculum\.nu=\[\]: expected one value per level but the finest",
        ),
        (["schedule.curriculum={nu:[1,1,1,1]}"], r"^schedule\.curriculum\.nu=.*1 to 3 of them"),
        (["schedule.curriculum={nu:[0.1,-1]}"], r"^schedule\.curriculum on level 1: problem\.nu=-1\.0: expected a pos"),
        (["schedule.curriculum={nu:high}"], r"^schedule\.curriculum"),
        (["schedule.curriculum={nu:[0.1]}", "schedule.slabs=2"], r"^schedule\.slabs=2: time slabs have no curriculum"),
    ],
)
def test_senseless_curricula_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configured(*words)


@dataclass(frozen=True)
class Growing(Burgers):
    """On a domain that depends on the coefficient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(domain=Box(x=(-1, 1), t=(0, self.nu)))


def test_a_curriculum_changes_neither_whole_numbers_nor_the_domain() -> None:
    words = ["problem=poisson_nd", "schedule.levels=2", "schedule.curriculum={dim:[2]}"]
    with pytest.raises(UserError, match=r"^schedule\.curriculum=\{dim:\[2\.0\]\}: expected null \(the problem has no"):
        validate(compose(words)[0])
    setup = replace(configured(CURRICULUM).setup, problem=Growing(nu=0.5))
    with pytest.raises(UserError, match=r"^schedule\.curriculum: on level 0 the problem has another domain"):
        check_curriculum(setup)
