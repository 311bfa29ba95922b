"""The packaged experiments: networks and points of the papers' sizes, choices that still win, tiny solves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import kanpinn as package
from kanpinn.io.data_files import read_data_file
from kanpinn.pde.table import Table
from kanpinn.samplers import CollocationSample
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.discovery import choices, load_problem_class
from kanpinn.solver.setup import Setup

PARAMETERS = {
    "paper_regression": [55, 80, 130, 230],
    "paper_poisson_interface": [140, 220, 380, 700],
    "paper_burgers": [3400, 5500, 9700],
    "paper_allen_cahn": [280, 440, 760, 1400],
}
"""Southworth et al. 2026, sec. 5; for Allen-Cahn 2·5 + 5·5 + 5 edges of n + 3 coefficients."""

KANS = {
    "xy": [2 * 5 * 5 + 5 * 5],
    "exp_sin": [120],
    "tutorial": [120],
    "scaling": [24, 39, 69, 129, 249, 489],
    "continual": [203],
    "harmonic_oscillator": [135, 195, 315],
    "pendulum": [26, 38, 62],
    "double_pendulum": [180, 252, 396],
    "neo_hookean": [336, 462, 714],
}
PICTURES = {
    "image": ("skimage", 13 * (2 * 10 + 10 * 10 + 10), 2 * 40 + 40 + 40 * 40 + 40 + 40 + 1),
    "image_full": ("skimage", 13 * (2 * 128 + 3 * 128**2 + 128), 2 * 462 + 462 + 3 * (462**2 + 462) + 462 + 1),
    "digits": ("sklearn", (61 * 10 + 10 * 10) * 8, 61 * 75 + 75 + 75 * 10 + 10),
}
"""Tables of another library, with the parameters of KAN and MLP; three of the 64 pixels of a digit are always 0."""

"""Liu et al. 2024 (arXiv:2404.19756 and arXiv:2408.10205): an edge of G intervals and degree k has G + k parameters."""

STEPS = {
    "paper_regression": [32, 16, 8, 4],
    "paper_poisson_interface": [1250] * 4,
    "paper_burgers": [800, 400, 200],
    "paper_allen_cahn": [2500] * 4,
}
PERCEPTRONS = {
    "paper_regression": 2 * 5 + 5 + 5 + 1,
    "paper_poisson_interface": 3 * 16 + 16 + 16 * 16 + 16 + 16 + 1,
    "paper_burgers": 2 * 20 + 20 + 20 * 20 + 20 + 20 + 1,
    "paper_allen_cahn": 2 * 5 + 5 + 5 * 5 + 5 + 5 + 1,
}


@cache
def configured(name: str, *overrides: str) -> Configuration:
    return validate(compose([f"experiment={name}", *overrides])[0])


def sizes(configuration: Configuration) -> list[int]:
    """The number of parameters on every level."""
    problem, options = configuration.setup.problem, configuration.setup.backbone
    embedding = options.embedding.of(problem, np.random.default_rng(0))
    backbone = options.build(embedding, len(problem.unknowns))
    found = [backbone.size]
    while backbone.refinable and len(found) < configuration.setup.schedule.levels:
        backbone = backbone.refined()
        found.append(backbone.size)
    return found


def drawn(configuration: Configuration) -> CollocationSample:
    return configuration.setup.sampler.draw(configuration.setup.problem, 0, np.random.default_rng(0))


def test_every_experiment_is_tested_and_described_in_a_line(kanpinn):
    known = sorted({**PARAMETERS, **KANS, **PICTURES})
    assert known == sorted(choices("experiment"))
    lines = kanpinn("list", "experiments").out.splitlines()
    assert [line.split()[0] for line in lines] == known
    assert all(len(line) <= 120 for line in lines)
    assert all("Southworth et al. 2026" in line for line in lines if line.startswith("paper_"))


@pytest.mark.parametrize("name", KANS)
def test_networks_of_kan_experiments_have_their_sizes(name):
    setup = configured(name).setup
    backbone = setup.network()
    found = [backbone.size]
    while len(found) < setup.schedule.levels:
        backbone = backbone.refined()
        found.append(backbone.size)
    assert found == KANS[name]


@pytest.mark.parametrize("name", PICTURES)
def test_networks_of_pictures_have_their_sizes(name):
    library, kan, mlp = PICTURES[name]
    pytest.importorskip(library)
    found = [configured(name, f"backbone={one}").setup.network().size for one in ("kan", "mlp")]
    assert found == [kan, mlp]


def test_the_cameraman_is_averaged_and_upright():
    data = pytest.importorskip("skimage.data")
    columns = read_data_file(Path("scikit-image:camera/64"), "file")
    assert columns["grey"][columns["y"] == 63] == pytest.approx(data.camera()[:8].reshape(8, 64, 8).mean((0, 2)) / 255)
    assert columns["y"][0] == 63 and columns["x"][:2].tolist() == [0, 1]


def test_the_test_rows_of_the_digits_are_no_others():
    datasets = pytest.importorskip("sklearn.datasets")
    table = configured("digits").setup.problem
    assert isinstance(table, Table)
    parts = [set(rows.tolist()) for rows in table.parts.values()]
    assert [len(part) for part in parts] == [1150, 287, 360] and len(set.union(*parts)) == 1797
    pixels, labels = datasets.load_digits(return_X_y=True)
    rows = np.column_stack([table.columns[name] for name in (*table.features, "label")])
    wanted = np.column_stack([pixels[:, [int(name[1:]) - 1 for name in table.features]], labels])
    assert np.array_equal(np.unique(rows, axis=0), np.unique(wanted, axis=0))
    assert configured("digits", "seed=1").setup.problem.parts["test"].tolist() == table.parts["test"].tolist()


@pytest.mark.parametrize("name", ["image", "digits"])
def test_without_their_library_they_are_refused_in_a_line(name, kanpinn, monkeypatch):
    for library in ("skimage", "sklearn"):
        monkeypatch.setitem(sys.modules, library, None)
    refused = kanpinn("solve", f"experiment={name}")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert "pip install 'kanpinn[science]'" in refused.err


@pytest.mark.parametrize(
    ("file", "told"),
    [("scikit-image:camera/60", "a side that divides 512"), ("scikit-learn:iris", "unknown; valid choices: ")],
)
def test_pictures_that_no_library_has_are_refused(file, told):
    with pytest.raises(package.UserError, match=told):
        read_data_file(Path(file), "problem.file")


def test_the_perceptron_of_exp_sin_has_one_parameter_more():
    assert sizes(configured("exp_sin", "backbone=mlp")) == [121]


@pytest.mark.slow
def test_peaks_shown_one_after_the_other_stay(folder):
    start: list[str] = []
    for phase in (1, 2):
        small = ["experiment=continual", f"problem.phase={phase}", "backbone.grid=100", *start]
        solution = package.solve([*small, "output={figures: false, progress: false}", f"hydra.run.dir=run{phase}"])
        start = [f"start=run{phase}"]
    assert solution.metrics["parameters"] == 103
    x = np.array([[-0.8], [-0.7], [-0.4]])  # the first peak, its flank, the second
    wanted = np.exp(-300 * (x - np.array([-0.8, -0.4])) ** 2).sum(1)
    values = solution.residuals.fields(solution.theta, torch.from_numpy(x))["u"].value.detach().numpy()
    assert values == pytest.approx(wanted, abs=1e-2)


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_and_steps_are_the_papers(name):
    multilevel = configured(name)
    assert sizes(multilevel) == PARAMETERS[name]
    assert multilevel.resolved["schedule"]["name"] == "nested"
    steps = multilevel.setup.schedule.steps
    assert (steps if isinstance(steps, Sequence) else [steps] * len(PARAMETERS[name])) == STEPS[name]
    coarse = configured(name, "schedule=single", "schedule.levels=1", "schedule.steps=7")
    assert sizes(coarse) == PARAMETERS[name][:1]


@pytest.mark.parametrize("name", PARAMETERS)
def test_choices_on_the_command_line_win(name):
    groups = {"backbone": "mlp", "optimizer": "levenberg_marquardt", "sampler": "halton", "weighting": "fixed"}
    groups["schedule"] = "single"
    configuration = configured(name, *(f"{group}={choice}" for group, choice in groups.items()), "schedule.steps=3")
    assert {group: configuration.resolved[group]["name"] for group in groups} == groups
    assert configuration.setup.schedule.steps == 3
    assert sizes(configuration) == [PERCEPTRONS[name]]


def test_the_network_without_the_level_set_input_is_the_papers_perceptron():
    plain = configured("paper_poisson_interface", "backbone=mlp", "backbone.embedding.inputs=false")
    assert sizes(plain) == [2 * 16 + 16 + 16 * 16 + 16 + 16 + 1]


def test_points_are_the_papers():
    assert drawn(configured("paper_regression")).interior.points.shape == (20000, 2)
    assert drawn(configured("paper_allen_cahn")).interior.points.shape == (20000, 2)
    burgers = drawn(configured("paper_burgers")).interior.points
    assert [len(column.unique()) for column in burgers.T] == [64, 64]
    interface = drawn(configured("paper_poisson_interface"))
    assert [len(column.unique()) for column in interface.interior.points.T] == [49, 49]
    assert {name: len(points.weights) for name, points in interface.conditions.items()} == {
        "interface": 49,
        "boundary": 200,
    }


def effective(setup: Setup, *terms: str) -> list[float]:
    """Weights of squares of residuals in the problem's own units."""
    return [setup.weighting.term(name) / setup.scales.of(name, "") ** 2 for name in terms]


def test_weights_and_rates_are_the_papers():
    interface = configured("paper_poisson_interface").setup
    weighting, adam = interface.weighting, interface.optimizer
    assert effective(interface, "interior", "interface", "boundary") == pytest.approx([0.01, 0.1, 1.0], rel=5e-3)
    assert (weighting.decay, weighting.rate, weighting.only) == (1 - 1e-4, 1e-4, ["interior"])
    assert [weighting.multipliers(name, "") for name in ("interior", "boundary")] == pytest.approx([1, 1])
    assert (adam.lr, adam.ramp_from, adam.ramp_steps, adam.decay) == (1e-2, 1e-4, 10, "none")
    burgers = configured("paper_burgers")
    adam = burgers.setup.optimizer
    assert burgers.setup.problem == load_problem_class("burgers")(nu=0.01)
    assert (adam.lr, adam.decay, adam.period, adam.gamma, adam.weight_decay) == (1e-3, "cyclic", 100, 0.9995, 0.01)
    assert effective(burgers.setup, "interior", "initial", "boundary") == pytest.approx([1, 1, 1], rel=5e-3)
    assert effective(configured("paper_regression").setup, "interior") == pytest.approx([1], rel=5e-3)
    allen_cahn = configured("paper_allen_cahn").setup
    assert allen_cahn.sampler.early == 0
    assert effective(allen_cahn, "interior", "initial") == pytest.approx([0.1, 1.0], rel=5e-3)
    assert allen_cahn.optimizer.lr == 1e-3


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_tiny_solve_lowers_the_loss(name, folder, monkeypatch):
    if name == "paper_allen_cahn":  # its reference takes seconds
        monkeypatch.setattr(load_problem_class("allen_cahn"), "reference", lambda *_: None)
    by_name = {"paper_poisson_interface": "{interface: 8, boundary: 16}", "paper_burgers": "{initial: 8, boundary: 8}"}
    small = [
        f"experiment={name}",
        "schedule.levels=2",
        f"schedule.steps={2 if name == 'paper_regression' else 15}",
        "sampler.interior=200",
        f"sampler.boundary={by_name.get(name, 16)}",
        "output={points: 11, figures: false, progress: false}",
    ]
    solution = package.solve([*small, "hydra.run.dir=run"])
    levels = solution.metrics["levels"]
    assert [level["parameters"] for level in levels] == PARAMETERS[name][:2]
    assert max(level["transfer_gap"] or 0 for level in levels) < 1e-12
    with h5py.File(solution.folder / "solution.h5") as file:
        losses = np.asarray(file["history/loss"])
        assert set(file["points"]) == {"interior", *(c.name for c in solution.problem.conditions())}
    assert losses[-1] < losses[0]
    points = np.array([[0.3, 0.4], [0.0, 0.9]])
    assert package.load("run")(points)["u"].tolist() == solution(points)["u"].tolist()
