"""Functions for the edges of a trained network: chosen in context, a run of its own, the formula of the whole."""

import json

import numpy as np
import pytest
import sympy

import kanpinn
from kanpinn.cli import symbolic
from kanpinn.errors import UserError
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.fixing import expressions_of
from kanpinn.solver.pruning import Pruned
from kanpinn.symbolic.compiler import compiled
from kanpinn.symbolic.curves import single_fits
from kanpinn.symbolic.library import LIBRARY

PLAIN = ("output.figures=false", "schedule.levels=2", "schedule.steps=[15,10]", "backbone.degree=4")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fit of exp(sin 2x + y²) by a network of three edges."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 250))
    folder = tmp_path_factory.mktemp("fixing") / "run"
    table = {"x": x, "y": y, "f": np.exp(np.sin(2 * x) + y**2)}
    kanpinn.fit(table, "f", "backbone.width=[1]", *PLAIN, split=(0.8, 0.2), folder=folder)
    return folder


def test_every_edge_gets_its_function_and_the_whole_its_formula(run, tmp_path, capsys):
    assert symbolic.run([str(run), "--edges", "-o", str(tmp_path / "new")]) == 0
    assert "f = exp(y**2 + sin(2*x))" in capsys.readouterr().out
    record = json.loads((tmp_path / "new/symbolic.json").read_text())
    assert sorted(text.partition(": ")[2] for text in record["symbolic"]) == ["exp(x)", "sin(x)", "x**2"]
    assert record["validation"]["after"] < 1e-10 < 1e-6 < record["validation"]["before"]
    again = kanpinn.load(tmp_path / "new")
    points = np.random.default_rng(1).uniform(-0.9, 0.9, (20, 2))
    np.testing.assert_allclose(again(points)["f"], np.exp(np.sin(2 * points[:, 0]) + points[:, 1] ** 2), rtol=1e-9)
    formula = json.loads((tmp_path / "new/formula.json").read_text())["f"]
    assert formula["error"] < 1e-9 and not formula["constants"]


def test_products_are_read_off_too():
    problem = kanpinn.compile("sin(2*x)*exp(y) + x", {"x": (-1, 1), "y": (0, 1)}).problem
    x, y = (sympy.Symbol(name, real=True) for name in "xy")
    found = compiled([sympy.sin(2 * x) * sympy.exp(y) + x], ["x", "y"], np.array([-1.0, 0.0]), np.ones(2))
    setup = configuration_of_objects(problem, [found.options]).setup
    network = setup.network()
    whole = expressions_of(Pruned(setup, network, found.theta(network, setup.scales.outputs), 0.0))
    points = np.random.default_rng(1).uniform(0, 1, (20, 2))
    values = sympy.lambdify([x, y], whole["f"])(*points.T)
    np.testing.assert_allclose(values, np.sin(2 * points[:, 0]) * np.exp(points[:, 1]) + points[:, 0], rtol=1e-10)


def test_nothing_is_written_where_no_function_fits(run, tmp_path, capsys):
    assert symbolic.run([str(run), "--edges", "--seconds", "1e-9", "-o", str(tmp_path / "new")]) == 0
    assert "no function fits an edge; nothing has been written" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_other_networks_and_hypotheses_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="--try: not with --edges"):
        symbolic.run([str(run), "--edges", "--try", "f = a*x"])
    x = np.linspace(-1, 1, 50)
    other = tmp_path / "other"
    options = ("backbone=chebykan", "output.figures=false", "schedule.levels=1", "schedule.steps=[1]")
    kanpinn.fit({"x": x, "f": x**2}, "f", *options, folder=other)
    with pytest.raises(UserError, match="edges of splines only; expected backbone=kan or multkan"):
        symbolic.run([str(other), "--edges", "-o", str(tmp_path / "none")])


def test_fits_of_single_functions_are_ranked_by_what_they_miss():
    x = np.linspace(-0.5, 2, 100)
    best, *_ = single_fits(x, 3 * np.exp(-0.7 * x) + 2, LIBRARY)
    form, (a, b, c, d), missed = best
    assert form.text == "exp(x)" and missed < 1e-10
    assert (a, c * np.exp(b), d) == pytest.approx((-0.7, 3, 2), rel=1e-8)
