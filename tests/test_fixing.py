"""Functions for the edges of a trained network: chosen in context, a run of its own, the formula of the whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
import sympy
import torch

import kanpinn
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.masks import whole_blocks
from kanpinn.cli import symbolic
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.fixing import expressions_of, fixed
from kanpinn.solver.pruned import Pruned
from kanpinn.solver.pruning import Pruner
from kanpinn.symbolic.compiler import compiled
from kanpinn.symbolic.curves import single_fits
from kanpinn.symbolic.library import LIBRARY, Form

PLAIN = ("output.figures=false", "schedule.levels=2", "schedule.steps=[15,10]", "backbone.degree=4")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fit of exp(sin 2x + y²) by a network of three edges."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 250))
    folder = tmp_path_factory.mktemp("fixing") / "run"
    table = {"x": x, "y": y, "f": np.exp(np.sin(2 * x) + y**2)}
    kanpinn.fit(table, "f", "backbone.width=[1]", *PLAIN, split=(0.8, 0.2), folder=folder)
    return folder


@pytest.mark.slow
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


@pytest.fixture
def unfitted(monkeypatch):
    """Fits that leave a network as it is; errors grow from one to the next by the factors given."""
    factors = []
    monkeypatch.setattr(
        Pruner, "fit", lambda own, one: replace(one, error=own.best.error * (factors.pop(0) if factors else 1.0))
    )
    return factors


@pytest.mark.parametrize("options", [kanpinn.Kan(width=[2, 3]), kanpinn.MultKan(width=[2, 1], mult=[1, 2])])
def test_without_its_squash_a_network_is_nearly_the_same_function(options, unfitted, monkeypatch):
    monkeypatch.setattr("kanpinn.solver.fixing.single_fits", lambda *_: [])
    options = replace(options, degree=4, grid=2)
    setup = configuration_of_objects(Plane(), [options, kanpinn.Nested(levels=4)]).setup
    network = setup.network()
    theta = 1.5 * network.initial(np.random.default_rng(1))
    while network.level < 3:
        edit = refinement(network)
        network, theta = edit.after, edit(theta)
    start = Pruned(setup, network, theta, 1.0)
    found = fixed(start, seconds=-1.0)  # before any edge
    assert found.setup.backbone == replace(options, squash="none") and found.network.size == network.size
    points = np.random.default_rng(0).uniform([1, 0], [3, 1], (400, 2))
    values = [
        evaluate(one.setup.residuals(one.network), one.theta, torch.from_numpy(points))["u"] for one in (start, found)
    ]
    assert abs(values[0] - values[1]).max() < 1e-3 * values[0].std()
    again = fixed(found, seconds=-1.0)
    assert again is found


class Plane(kanpinn.Problem):
    """A box that is not centred."""

    domain = kanpinn.Box(x=(1, 3), y=(0, 1))
    derivatives = ("x",)

    def residual(self, p):
        return p.u_x - 1

    def conditions(self):
        return []


def test_functions_are_tried_closest_first_then_the_simplest_of_those_near(unfitted, monkeypatch):
    setup = configuration_of_objects(Plane(), [kanpinn.Kan(width=[1], squash="none"), kanpinn.Nested(levels=1)]).setup
    network = setup.network()
    start = Pruned(setup, network, network.initial(np.random.default_rng(1)), 1.0)
    lists = [
        [("sin(x)", 5, 0.01), ("cos(x)", 3, 0.02), ("x", 1, 0.05), ("tan(x)", 0, 0.06), ("exp(x)", 0, 0.1)],
        [("cos(x)", 5, 0.02), ("x", 2, 0.19), ("sin(x)", 1, 0.2), ("exp(x)", 0, 0.201)],
        [("exp(x)", 5, 0.0), ("x", 1, 1e-9)],
    ]
    order, seen = iter([0, 1, 2, 2, 0, 1]), []

    def fits(x, y, forms):
        assert [one.text for one in forms] == ["x", "x**2", "x**3", "x*x"]
        seen.append((x, y))
        known = lists[next(order)]
        return [(Form(text, price), (1.0, 2.0, 3.0, 4.0 + price), missed) for text, price, missed in known]

    monkeypatch.setattr("kanpinn.solver.fixing.single_fits", fits)
    monkeypatch.setattr("kanpinn.solver.fixing.library", lambda forms: [Form(text, 9) for text in forms])
    told = []
    unfitted += [2.0, 3.0, 2.0001, 1.0, 3.0, 3.0, 3.0]
    found = fixed(start, 2.0, ["x*x"], tell=told.append)
    assert [(one.edge[10:], one.function, one.missed, one.error, one.kept) for one in told] == [
        ("node 0 to node 0 of layer 2", "exp(x)", 0.0, 2.0, True),
        ("node 0 to node 0 of layer 1", "sin(x)", 0.01, 6.0, False),
        ("node 0 to node 0 of layer 1", "tan(x)", 0.06, 4.0002, False),
        ("node 0 to node 0 of layer 1", "x", 0.05, 2.0, True),
        ("node 1 to node 0 of layer 1", "cos(x)", 0.02, 6.0, False),
        ("node 1 to node 0 of layer 1", "sin(x)", 0.2, 6.0, False),
        ("node 1 to node 0 of layer 1", "x", 0.19, 6.0, False),
    ]
    assert found.setup.backbone.symbolic == ["1,0->0: exp(x)", "0,0->0: x"]
    edges = [
        whole_blocks(layer, own)["affine"]
        for layer, own in zip(found.network.layers, found.network.arrays(found.theta), strict=True)
    ]
    assert edges[0].tolist() == [[[1, 2, 3, 5], [0, 0, 0, 0]]] and edges[1].tolist() == [[[1, 2, 3, 9]]]
    at = np.random.default_rng(0).uniform([1, 0], [3, 1], (50, 2))
    hidden = np.interp(at[:, 0] - 2, *seen[0]) + np.interp(2 * at[:, 1] - 1, *seen[1])
    values = evaluate(setup.residuals(network), start.theta, torch.from_numpy(at))["u"]
    assert setup.scales.outputs[0] * np.interp(hidden, *seen[2]) == pytest.approx(values, abs=1e-3 * abs(values).max())
    assert {len(x) for x, _ in seen} == {200}


class Two(Plane):
    """Two unknowns of different sizes."""

    unknowns = ("u", "v")

    def residual(self, p):
        return {"one": p.u_x - 5, "two": p.v_x + 0.1 * p.u}


class Made(Plane):
    """One whose unknown is made of the network's output."""

    def ansatz(self, p, raw):
        return {"u": p.x * raw.u}


KNOWN = ["0,0->0: sin(x)", "0,1->0: x**2", "1,0->0: exp(x)"]


def test_the_formula_of_a_network_has_its_values():
    edges = ["0,0->0: sin(x)", "0,1->0: x**2", "0,0->1: x", "0,1->1: exp(x)", "1,0->0: x**3", "1,1->0: cos(x)"]
    options = kanpinn.Kan(width=[2], squash="none", symbolic=[*edges, "1,0->1: sin(x)", "1,1->1: x"])
    setup = configuration_of_objects(Two(), [options, kanpinn.Nested(levels=1)]).setup
    setup = replace(setup, known=replace(setup.scales, outputs=(2.5, 0.3)))
    network = setup.network()
    theta = torch.from_numpy(np.random.default_rng(0).uniform(0.2, 1.0, network.size))
    whole = expressions_of(Pruned(setup, network, theta, 0.0))
    assert whole is not None and list(whole) == ["u", "v"]
    at = np.random.default_rng(0).uniform([1, 0], [3, 1], (30, 2))
    values = evaluate(setup.residuals(network), theta, torch.from_numpy(at))
    x, y = (sympy.Symbol(name, real=True) for name in "xy")
    for name, one in whole.items():
        assert one.free_symbols == {x, y}
        np.testing.assert_allclose(sympy.lambdify([x, y], one)(*at.T), values[name], rtol=1e-9)


@pytest.mark.parametrize(
    ("problem", "changes", "conditions"),
    [
        (Plane(), {}, "soft"),
        (Plane(), {"symbolic": KNOWN[:2]}, "soft"),
        (Plane(), {"embedding": EmbeddingOptions("fourier", features=1)}, "soft"),
        (Made(), {}, "soft"),
        (Plane(), {}, "exact"),
    ],
)
def test_a_formula_needs_functions_of_the_coordinates_alone(problem, changes, conditions):
    options = replace(kanpinn.Kan(width=[1], squash="none", symbolic=KNOWN), **changes)
    setup = configuration_of_objects(problem, [options, kanpinn.Nested(levels=1)]).setup
    setup = replace(setup, conditions=conditions, known=setup.scales)
    network = setup.network()
    start = Pruned(setup, network, network.initial(np.random.default_rng(0)), 0.0)
    plain = isinstance(problem, Plane) and not isinstance(problem, Made) and not changes and conditions == "soft"
    assert (expressions_of(start) is not None) == plain
