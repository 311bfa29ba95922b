"""Attribution of networks computed by hand and of the published example; trees of functions with known answers."""

import json

import numpy as np
import pytest
import torch

import kanpinn
from kanpinn.backbones.base import Backbone
from kanpinn.backbones.chebykan import ChebyshevLayer
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.layers import Activation, Linear, Multiply
from kanpinn.backbones.parallel import joint_network
from kanpinn.backbones.separable.network import Separable
from kanpinn.cli.explain import summary
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.explain.attribution import attribution, domain_points, scores
from kanpinn.explain.combinations import simplest
from kanpinn.explain.function_error import fit_errors
from kanpinn.explain.modules import arranged, connection_cost, swap
from kanpinn.explain.sensitivity import total_indices
from kanpinn.explain.structure import Field
from kanpinn.explain.support import warnings_of
from kanpinn.explain.tree import tree
from kanpinn.jets.jet import JetSpace
from kanpinn.report import write_report

UNIT = {"x": (-1.0, 1.0), "y": (-1.0, 1.0)}


def polynomials(*edges):
    """Parameters of a Chebyshev layer of degree 2 from rows [c0, c1, c2] of edge functions, `[out][in]`."""
    return torch.tensor(edges, dtype=torch.float64).flatten()


def points(count=2001):
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (count, 2)))


def test_scores_of_a_network_computed_by_hand():
    # s1 = x + 2y, s2 = 5 T2(y), u = s1: the largest edge leads to a node that nothing uses.
    layers = (ChebyshevLayer(2, 2, 2, 1.0), ChebyshevLayer(2, 1, 2, 1.0))
    first = polynomials([[0, 1, 0], [0, 2, 0]], [[0, 0, 0], [3, 0, 5]])
    theta = torch.cat([first, polynomials([[7, 1, 0], [0, 0, 0]])])
    places = points()
    found = scores(Backbone(Embedding(UNIT), layers), theta, places)
    x, y = places.numpy().T
    size = np.std(x + 2 * y)
    np.testing.assert_allclose(found.inputs, [[np.std(x) / size, 2 * np.std(y) / size]])
    np.testing.assert_allclose(found.nodes[1], [1, 0], atol=1e-15)
    np.testing.assert_allclose(found.layers[0].edges, [[np.std(x) / size, 2 * np.std(y) / size], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(found.layers[0].norm[1, 1], np.abs(3 + 5 * (2 * y**2 - 1)).mean())
    np.testing.assert_allclose(found.layers[0].mean[1, 1], (3 + 5 * (2 * y**2 - 1)).mean())
    np.testing.assert_allclose(found.layers[1].upper, [(x + 2 * y).max(), 8], rtol=1e-2)
    assert found.names == ("x", "y")


def test_both_factors_of_a_product_have_its_score():
    layers = (Linear(2, 3, bias=False), Multiply(1, 1), Activation("tanh"), Linear(2, 2))
    # s = x, y, x + y; nodes x, y (x + y); u = 3 node 1, v = node 2.
    theta = torch.tensor([1, 0, 0, 1, 1, 1, 3, 0, 0, 1, 9, 9], dtype=torch.float64)
    places = points()
    found = scores(Backbone(Embedding(UNIT), layers), theta, places)
    x, y = places.numpy().T
    np.testing.assert_allclose(found.inputs[0], [1, 0], atol=1e-15)
    np.testing.assert_allclose(found.inputs[1], [np.std(x) / np.std(x + y), 1 + np.std(y) / np.std(x + y)])
    np.testing.assert_allclose(found.nodes[1], [0.5, 0.5])
    np.testing.assert_allclose(found.nodes[2], [0.5, 0.5])


def test_networks_side_by_side_have_no_edges_in_between():
    options = kanpinn.Kan(width=[2], networks="separate")
    backbone = joint_network(options.build, Embedding(UNIT), ("u", "v"), {"v": ("y",)}, "separate")
    found = scores(backbone, backbone.initial(np.random.default_rng(0)), points(300))
    np.testing.assert_allclose(found.inputs[1, 0], 0)
    assert (found.inputs[0] > 0).all() and found.layers[1].edges.shape == (2, 4)
    assert (found.layers[1].edges[0, 2:] == 0).all() and (found.layers[1].edges[1, :2] == 0).all()


def test_factors_that_are_multiplied_have_no_edges_to_score():
    backbone = Separable().build(Embedding(UNIT), 1)
    with pytest.raises(UserError, match="multiplied"):
        scores(backbone, backbone.initial(np.random.default_rng(0)), points(10))


class Published(kanpinn.Problem):
    """The example of pykan's tutorial "Feature attribution"."""

    domain = kanpinn.Box(a=(-1, 1), b=(-1, 1), c=(-1, 1), d=(-1, 1))
    derivatives = ()

    def residual(self, p):
        return p.u - (p.a**2 + 0.3 * p.b + 0.1 * p.c**3)

    def conditions(self):
        return []


@pytest.mark.slow
def test_the_inputs_of_the_published_example_are_ranked_as_published():
    options = ("schedule=single", "schedule.steps=15", "sampler.interior=300", "backbone.grid=2", "backbone.degree=3")
    solution = kanpinn.solve(Published(), "backbone=kan", "backbone.width=[1]", "seed=1", *options)
    found = attribution(solution)
    assert list(np.argsort(-found.inputs[0])) == [0, 1, 2, 3]
    np.testing.assert_allclose(found.inputs[0], [0.8916, 0.5155, 0.1079, 0.0040], atol=0.04)


def test_swapping_puts_connected_nodes_side_by_side_and_keeps_the_function():
    backbone = kanpinn.MultKan(width=[4], mult=[2]).build(Embedding(UNIT), 2)
    generator = np.random.default_rng(1)
    theta = backbone.initial(generator)
    found = scores(backbone, theta, points(200))
    orders = arranged(found)
    edit = swap(backbone, found, orders)
    moved = edit(theta)
    space = JetSpace(("x", "y"), ("x_y",))
    # A permuted sum is rounded elsewhere in its last digit.
    before, after = (backbone.forward(one, points(50), space).data for one in (theta, moved))
    torch.testing.assert_close(after, before, rtol=1e-13, atol=1e-14)
    assert torch.equal(edit.transpose(moved), theta) and not torch.equal(moved, theta)
    again = scores(backbone, moved, points(200))
    plain = [list(range(len(order))) for order in orders]
    assert connection_cost(again, plain) == pytest.approx(connection_cost(found, orders), rel=1e-12)
    assert connection_cost(found, orders) < connection_cost(found, plain)


def test_no_exchange_of_two_nodes_lowers_the_cost_of_crossed_edges():
    # Input x leads to the last node only, y to the first; outputs the other way round.
    layers = (Linear(2, 2, bias=False), Linear(2, 2, bias=False))
    theta = torch.tensor([0.0, 1, 1, 0, 0, 1, 1, 0], dtype=torch.float64)
    found = scores(Backbone(Embedding(UNIT), layers), theta, points())
    assert arranged(found) == [[0, 1], [1, 0], [0, 1]]


def field(value, names, low, high, error):
    """A function with a smooth disturbance, as a network's error is."""
    lower, upper = np.full(len(names), low), np.full(len(names), high)
    phases = np.random.default_rng(0).standard_normal((len(names), 3))

    def disturbed(places):
        wave = np.sqrt(2 / 3) * np.sin(8 * (places - lower) / (upper - lower) @ phases).sum(1)
        return value(*places.T) + error * wave

    return Field(disturbed, tuple(names), lower, upper, error)


@pytest.mark.parametrize("error", [1e-7, 2e-3])
@pytest.mark.parametrize(
    ("value", "names", "form"),
    [
        (lambda x, y, z: x + y * np.sin(2 * z), "xyz", "sum(x, product(y, z))"),
        (lambda x, t: np.sin(3 * x - 1.5 * t), "xt", "x - 0.5 t"),
        (lambda x, y: np.log(0.3 + x**2 + y**2), "xy", "x^2 + y^2"),
        (lambda x, y: np.cos(np.exp(x) + 2 * y**3), "xy", "general(x, y)"),
        (lambda x, y: np.sin(4 * x * y) + np.cos(5 * x - 2 * y), "xy", "none(x, y)"),
        (lambda x, y: np.exp(x) + 0 * y, "xy", "x"),
    ],
)
def test_the_tree_of_a_function_known_with_an_error(value, names, form, error):
    found = tree(field(value, names, 0.1, 1.3, error))
    assert found.form == form  # with numbers rounded to what the error leaves open


@pytest.mark.parametrize("error", [1e-7, 2e-3, 1e-2])
def test_exponents_are_the_simplest_numbers_that_the_error_leaves_open(error):
    assert tree(field(lambda x, y: np.sin(2 * x / y), "xy", 1.0, 2.0, error)).form == "x y^-1"
    assert tree(field(lambda x, y: np.sin(3 * x * np.sqrt(y)), "xy", 1.0, 2.0, error)).form == "x y^0.5"
    assert tree(field(lambda x, y: np.sin(4 * x + 2.8 * y), "xy", 0.0, 1.0, error)).form == "x + 0.7 y"
    odd = tree(field(lambda x, y: np.sin(x + 0.7317 * y), "xy", 0.0, 1.0, 1e-7)).form
    assert odd == "x + 0.732 y"  # no simpler number is as near


def test_the_simplest_number_within_an_error_is_never_zero():
    known = [(-0.998, 0.01), (0.4999, 1e-3), (0.334, 1e-3), (0.252, 0.003), (1.0004, 1e-5), (0.02, 0.5)]
    assert [simplest(*pair) for pair in known] == pytest.approx([-1, 0.5, 1 / 3, 0.25, 1.0004, 0.02])


def test_an_inner_function_of_two_coordinates_is_found():
    found = tree(field(lambda x, y, z: np.cos(2 * z * (x**2 + np.exp(y))) + z, "xyz", 0.2, 1.0, 1e-7))
    assert found.form == "none(h[general(x, y)], z)"
    assert found.kind == "nested" and [one.holds for one in found.tests][-3:].count(True) == 1


def test_total_indices_are_those_of_ishigami_s_function():
    # Ishigami and Homma 1990 with a = 7, b = 0.1; total indices in closed form: 0.558, 0.442, 0.244.
    class Cube(Published):
        domain = kanpinn.Box(x=(-np.pi, np.pi), y=(-np.pi, np.pi), z=(-np.pi, np.pi))

    places = domain_points(Cube(), 40000)
    found = total_indices(
        lambda p: np.sin(p[:, 0]) * (1 + 0.1 * p[:, 2] ** 4) + 7 * np.sin(p[:, 1]) ** 2, Cube(), places
    )
    np.testing.assert_allclose(list(found.values()), [0.5576, 0.4424, 0.2437], atol=0.015)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A fit of sin(2 x) + y² with noise of 0.05."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (600, 2))
    values = np.sin(2 * x[:, 0]) + x[:, 1] ** 2 + 0.05 * generator.standard_normal(600)
    options = ("backbone.width=[]", "schedule.levels=1", "schedule.steps=[5]", "output.figures=false")
    return kanpinn.fit(
        {"x": x[:, 0], "y": x[:, 1], "f": values}, "f", *options, folder=tmp_path_factory.mktemp("fit") / "run"
    )


def test_the_error_of_a_fit_is_told_from_the_noise_of_its_data(noisy):
    inside = np.random.default_rng(1).uniform(-0.99, 0.99, (2000, 2))
    wanted = np.sin(2 * inside[:, 0]) + inside[:, 1] ** 2
    error = np.linalg.norm(noisy(inside)["f"] - wanted) / np.linalg.norm(wanted)
    estimate = fit_errors(noisy.residuals, noisy.theta)["f"]
    assert 0.3 * error < estimate < 3 * error


def test_a_run_is_explained_and_its_report_says_how(noisy, capsys):
    assert main(["explain", str(noisy.folder)]) == 0
    shown = capsys.readouterr().out
    assert "f: share of its variance by" in shown and "structure: sum(x, y)" in shown
    found = json.loads((noisy.folder / "explanation.json").read_text())
    assert found["schema_version"] == 1 and found["structure"]["f"]["form"] == "sum(x, y)"
    (layer,) = found["network"]["layers"]
    assert len(layer["edges"]) == 2
    assert all(edge["symbol"] is None and len(edge["x"]) == len(edge["y"]) for edge in layer["edges"])
    assert (noisy.folder / "figures" / "network.png").stat().st_size > 5000
    assert found["warnings"] == []
    (noisy.folder / "explanation.json").write_text(json.dumps({**found, "warnings": ["x & y go together"]}))
    page = write_report(noisy.folder, dpi=40).read_text()
    assert "Warning: x &amp; y go together." in page
    assert "What the network has learned" in page and "sum(x, y)" in page and "Drawing of the network" in page
    (noisy.folder / "explanation.json").write_text('{"network": {}}')
    assert main(["report", str(noisy.folder)]) == 2
    assert "kanpinn explain writes it again" in capsys.readouterr().err


def test_inputs_that_do_not_vary_by_themselves_are_warned_of():
    """Pairs and sums that go together, and none of these: independent ones of few values, or crowded at one end."""
    a, b, c = np.random.default_rng(0).standard_normal((3, 600))
    (pair,) = warnings_of(np.stack([a, a + 0.05 * b, c], 1), ("a", "b", "c"))
    assert pair.startswith("a and b go together in the rows: ") and "far from any row" in pair
    (total,) = warnings_of(np.stack([a, b, a + b + 0.01 * c], 1), ("a", "b", "c"))
    assert total.startswith("a follows from b, c in the rows (100.0 %")
    (few,) = warnings_of(np.stack([a, a + 0.05 * b], 1)[:40], ("a", "b"))
    assert "follows from b" in few or "go together" in few
    (circle,) = warnings_of(np.stack([np.cos(3 * a), np.sin(3 * a)], 1), ("a", "b"))
    assert "go together" in circle  # though nothing linear says so
    other = [(a, b), (a, a + b), (a > 0, b), (a > 0, b > 0.5), (np.exp(a), np.exp(b)), (np.round(a), b), (0 * a, b)]
    assert not any(warnings_of(np.stack(pair, 1).astype(float), ("a", "b")) for pair in other)
    assert warnings_of(a[:, None], ("a",)) == []


def test_a_warning_is_on_the_screen_and_in_the_file(tmp_path, capsys):
    a, b = np.random.default_rng(0).standard_normal((2, 200))
    table = {"a": a, "b": a + 0.05 * b, "f": a**2}
    options = ("backbone.width=[]", "schedule.levels=1", "schedule.steps=[3]", "output.figures=false")
    kanpinn.fit(table, "f", *options, folder=tmp_path / "run")
    assert main(["explain", str(tmp_path / "run"), "--tolerance", "0.01"]) == 0
    assert "warning: a and b go together" in capsys.readouterr().out
    found = json.loads((tmp_path / "run" / "explanation.json").read_text())
    assert len(found["warnings"]) == 1
    assert list(summary({**found, "warnings": []})) == list(summary(found))[1:]


def test_a_perceptron_has_shares_and_scores_but_no_drawing(tmp_path, capsys):
    x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    table = {"x": x[:, 0], "y": x[:, 1], "f": x[:, 0] + 0.01 * x[:, 1]}
    options = ("backbone=mlp", "backbone.width=[3]", "schedule.levels=1", "schedule.steps=[3]", "output.figures=false")
    kanpinn.fit(table, "f", *options, folder=tmp_path / "run")
    assert main(["explain", str(tmp_path / "run"), "--tolerance", "0.2", "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "f: share of its variance by x" in shown and "network: no functions to draw" in shown
    assert "structure: not asked for, its error is 2.0e-01" in shown
    assert json.loads((tmp_path / "out" / "explanation.json").read_text())["network"]["layers"] == []
    assert main(["explain", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
