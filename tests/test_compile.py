"""Symbolic edges, and formulas compiled into networks of such: functions, derivatives, Jacobians, edits, runs."""

import re

import numpy as np
import pytest
import sympy
import torch

import kanpinn
from kanpinn import Custom, Kan
from kanpinn.backbones.base import Tape
from kanpinn.backbones.edits import edited, refinement
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.kan import MultKan
from kanpinn.backbones.pruning import alive_of, pruned, remains
from kanpinn.backbones.symbolic_edges import edge_function
from kanpinn.errors import UserError
from kanpinn.explain.attribution import scores
from kanpinn.jets.jet import JetSpace
from kanpinn.symbolic.compiler import compiled

X, Y = (sympy.Symbol(name, real=True) for name in "xy")
LOWER, UPPER = np.array([0.1, 0.2]), np.array([1.0, 2.0])
PLANE = Embedding({"x": (LOWER[0], UPPER[0]), "y": (LOWER[1], UPPER[1])})
SPACE = JetSpace(("x", "y"), ("xx", "y"))
OPTIONS = [
    Kan(width=[2], grid=2, symbolic=["0,0->0: sin(x)", "0,1->0: x**2", "1,0->0: exp(-x**2)"]),
    Kan(width=[2], grid=2, edges=[[[0], [0, 1]], [[0, 1]]], symbolic=["0,0->1: 1/(1+x**2)", "0,1->1: tanh(x)"]),
    MultKan(width=[1], mult=1, grid=2, symbolic=["0,1->1: sin(x)", "0,0->2: x", "1,1->0: cosh(x)"]),
]


def of(options):
    network = options.build(PLANE, 1)
    return network, network.initial(np.random.default_rng(0)), torch.rand(7, 2, dtype=torch.float64) + 0.2


@pytest.mark.parametrize(
    "text", ["sin(x)", "x**2", "1/x**2", "exp(-x**2)", "1/cosh(x)**2", "x*exp(-x)", "sqrt(1 + x)", "2 - pi*x", "7"]
)
def test_functions_of_edges_have_the_derivatives_that_sympy_finds(text):
    x = np.linspace(0.1, 0.9, 5)
    found = edge_function(text)(torch.from_numpy(x), 3)
    for order, values in enumerate(found):
        wanted = sympy.lambdify(X, sympy.sympify(text, {"x": X}).diff(X, order))(x) * np.ones(5)
        np.testing.assert_allclose(values.numpy(), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=["some", "masked", "products"])
def test_jacobian_levels_and_edits_with_symbolic_edges(options):
    network, theta, points = of(options)
    tape, jacobian = Tape(), torch.empty(7, network.size, dtype=torch.float64)
    u = network.forward(theta, points, SPACE, tape)
    network.jacobian(theta, tape, (u["y"] - u["xx"]).sum(), jacobian)

    def residual(theta):
        u = network.forward(theta, points, SPACE)
        return (u["y"] - u["xx"])[:, 0]

    exact = torch.autograd.functional.jacobian(residual, theta)
    torch.testing.assert_close(jacobian, exact, atol=1e-12, rtol=1e-11)
    assert refinement(network).after.coarsened() == network
    generator = np.random.default_rng(1)
    wider = edited(network, "widen", 2, generator)
    edits = [refinement(network), wider, edited(network, "deepen", 1, generator)]
    for edit in edits:
        torch.testing.assert_close(edit.after.forward(edit(theta), points, SPACE).data, u.data, atol=1e-10, rtol=1e-10)
    again = edited(wider.after, "widen", 1, generator)
    found = again.after.forward(again(wider(theta)), points, SPACE)
    torch.testing.assert_close(found.data, u.data, atol=1e-12, rtol=1e-12)


def test_pruning_keeps_symbolic_edges_and_leaves_means_behind():
    options = Kan(width=[2], grid=2, symbolic=["0,1->1: exp(x)", "0,0->1: 1/x", "1,1->0: x**2"])
    network, theta, points = of(options)
    found = scores(network, theta, points)
    assert np.isfinite(found.layers[0].edges[1, 1])
    alive = [one.copy() for one in alive_of(network)]
    alive[0][0] = False  # node 0 goes, and with it its edge behind
    left = remains(network, alive)
    assert left is not None
    after = left.options(options)
    assert after.symbolic == ["0,1->0: exp(x)", "0,0->0: 1/x", "1,0->0: x**2"]
    smaller = after.build(PLANE, 1)
    edit = pruned(network, smaller, left, theta, [one.mean for one in found.layers])
    constant = theta.clone()
    blocks = network.blocks.view(constant)  # a spline of equal coefficients is constant: the edge that goes
    blocks["layer_1/node_0/coefficients"].fill_(0.0)
    blocks["layer_1/node_0_symbolic/affine"][..., 3] += found.layers[1].mean[0, 0]
    whole, rest = (n.forward(t, points, SPACE).data for n, t in ((network, constant), (smaller, edit(theta))))
    torch.testing.assert_close(whole, rest, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["0,0-0: sin(x)"], "a layer, the nodes before and behind it"),
        (["0,0->5: sin(x)"], "an edge that is there (layer 0: 2->2, layer 1: 2->1)"),
        (["0,0->1: sin(x)", "0,0->1: x"], "one formula for an edge"),
        (["0,0->1: sin(y)"], "'sin(y)': expected a formula of x"),
        (["0,0->1: exec(x)"], "expected a formula of x"),
        (["0,0->1: (1).real"], "expected a formula of x"),
    ],
)
def test_symbolic_edges_that_are_none_are_refused(texts, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Kan(width=[2], symbolic=texts).build(PLANE, 1)


@pytest.mark.parametrize("products", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "exp(sin(pi*x) + y**2)",
        "x*y",
        "x + x**2 + sin(x) + y + 2*x",
        "sin(x)*exp(-y)*x + 1/y",
        "x**y - 2",
        "3",
        "x*(x - y)**2*(x + y)",
        "tanh(x - y)**3/(1 + x**2)",
        "(x + 1)**2*y",
    ],
)
def test_a_compiled_formula_is_the_formula_with_its_derivatives(text, products):
    expression = sympy.sympify(text, {"x": X, "y": Y})
    found = compiled([expression, 2 * expression], ["x", "y"], LOWER, UPPER, products=products)
    network = found.options.build(PLANE, 2)
    points = np.random.default_rng(3).uniform(LOWER, UPPER, (100, 2))
    u = network.forward(found.theta(network, [1.0, 4.0]), torch.from_numpy(points), SPACE)
    for key, wanted in {"": expression, "xx": expression.diff(X, 2), "y": expression.diff(Y)}.items():
        values = sympy.lambdify([X, Y], wanted)(*points.T) * np.ones(100)
        np.testing.assert_allclose(u[key][:, 0].numpy(), values, atol=1e-12 * max(1, np.abs(values).max()))
        np.testing.assert_allclose(2 * u[key][:, 1].numpy(), values, atol=1e-12 * max(1, np.abs(values).max()))
    assert products or not getattr(found.options, "mult", 0)


@pytest.mark.slow
def test_a_compiled_run_is_saved_loaded_resumed_refined_and_started_from(tmp_path):
    points = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    wanted = np.exp(np.sin(np.pi * points[:, 0]) + points[:, 1] ** 2)
    formula, box, plain = "exp(sin(pi*x) + y**2)", {"x": (-1, 1), "y": (-1, 1)}, "output.figures=false"
    stages = [{"level": 0, "steps": 0}, {"level": 0, "widen": 1, "steps": 2}, {"level": 1, "steps": 2}]
    run = tmp_path / "run"
    every = ("checkpoint.every_s=0", "checkpoint.keep=9", plain)
    found = kanpinn.compile(formula, box, Custom(stages=stages), *every, folder=run)
    assert found.metrics["levels"][-1]["grid"] == 8
    np.testing.assert_allclose(found(points)["f"], wanted, rtol=1e-12)
    np.testing.assert_array_equal(kanpinn.load(run)(points)["f"], found(points)["f"])
    (run / "metrics.json").unlink()
    for late in sorted((run / "checkpoints").iterdir())[-2:]:
        late.unlink()
    again = kanpinn.resume(run)
    np.testing.assert_array_equal(again.theta, found.theta)
    from_it = kanpinn.compile(formula, box, plain, f"start={run}")
    assert from_it.metrics["relative_l2"]["f"] < 1e-12


def test_functions_with_a_domain_of_their_own_are_compiled_and_resumed(tmp_path):
    run, plain = tmp_path / "run", ("checkpoint.every_s=0", "output.figures=false")
    stages = [{"level": 0, "steps": 0}, {"level": 0, "widen": 1, "steps": 2}]
    box = {"x": (-1, 1), "y": (0, 1)}
    found = kanpinn.compile("log(x + 2)*sqrt(y + 1)", box, Custom(stages=stages), *plain, folder=run)
    assert found.metrics["relative_l2"]["f"] < 1e-12
    (run / "metrics.json").unlink()
    sorted((run / "checkpoints").iterdir())[-1].unlink()
    np.testing.assert_array_equal(kanpinn.resume(run).theta, found.theta)


def test_a_compiled_formula_learns_what_it_misses():
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 300))
    f = np.sin(3.2 * x + 0.1) * np.exp(0.4 * y)
    options = ("backbone.width=[1]", "schedule.levels=1", "schedule.steps=[1]")
    problem = kanpinn.fit({"x": x, "y": y, "f": f}, "f", *options, split=(1.0,)).problem
    plan = Custom(stages=[{"level": 0, "steps": 12}])
    near = kanpinn.compile("sin(3*x)*exp(0.5*y)", problem, plan)
    assert near.metrics["relative_l2"]["f"] < 1e-12  # constants of symbolic edges are trained


@pytest.mark.parametrize(
    ("formula", "on", "message"),
    [
        ("sin(x", {"x": (0, 1)}, "compile"),
        ("log(x)", {"x": (-1, 1)}, "is no number in"),
        ("max(x, 1)", {"x": (0, 1)}, "no sum, product or function of one variable"),
        (sympy.Symbol("z") * 2, {"x": (0, 1)}, "z is no coordinate"),
        ("x", [0, 1], "expected a problem, a Box, or intervals"),
        ("2", {"x": (0, 1)}, "nothing to fit"),
    ],
)
def test_formulas_that_cannot_be_compiled_are_refused(formula, on, message):
    with pytest.raises(UserError, match=re.escape(message)):
        kanpinn.compile(formula, on)
