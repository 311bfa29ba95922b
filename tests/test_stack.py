"""Compiled values and gradients of stacks of spline layers against torch's graph, and when they are taken."""

import numpy as np
import pytest
import torch

from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.kan import Kan
from kanpinn.backbones.stack import SWITCH, compiled, library
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.plain_fit import PlainFit, plain_fit
from kanpinn.pde.table import table_of
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve

PLANE = JetSpace(("x", "y"), ())

needs_compiler = pytest.mark.skipif(library(torch.float64) is None, reason="no C compiler")


def network(outputs: int = 2, **options):
    return Kan(**{"width": [3, 1], "grid": 4, **options}).build(Embedding({"x": (0, 1), "y": (0, 1)}), outputs)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("degree", [1, 3, 5])
@pytest.mark.parametrize(
    "options", [{}, {"base": True, "bias": True}, {"base": True, "squash": "none", "outside": "clamp"}, {"width": []}]
)
def test_values_and_gradient_are_those_of_the_graph(options, degree, dtype):
    net = network(degree=degree, **options)
    theta = (2 * net.initial(np.random.default_rng(0)) + 0.1).to(dtype).requires_grad_()
    points = torch.rand(70, 2, dtype=dtype) * 1.4 - 0.2  # outside the knots too
    inputs = net.inputs(points, PLANE)
    stack = compiled(net, inputs)
    cotangent = torch.randn(70, 2, dtype=dtype)
    values = net.forward(theta, points, PLANE, None, inputs).data[0]
    (gradient,) = torch.autograd.grad((values * cotangent).sum(), theta)
    tolerance = {"rtol": 0, "atol": 40 * torch.finfo(dtype).eps * float(max(values.abs().max(), gradient.abs().max()))}
    torch.testing.assert_close(stack.values(theta.detach()), values.detach(), **tolerance)
    torch.testing.assert_close(stack.gradient(cotangent), gradient, **tolerance)
    one = compiled(net, net.inputs(points[:1], PLANE))  # the last bits do not depend on how many points there are
    assert torch.equal(one.values(theta.detach())[0], stack.values(theta.detach())[0])


@needs_compiler
def test_numbers_that_are_none_stay_so():
    net = network(base=True)
    stack = compiled(net, net.inputs(torch.rand(5, 2, dtype=torch.float64), PLANE))
    theta = torch.full((net.size,), torch.nan, dtype=torch.float64)
    assert stack.values(theta).isnan().all()
    assert stack.gradient(torch.ones(5, 2, dtype=torch.float64)).isnan().any()


@needs_compiler
@pytest.mark.parametrize(
    "options",
    [
        {"knots": "cosine"},
        {"squash": "sin"},
        {"outside": "error"},
        {"first": "linear"},
        {"edges": [[[0], [1], [0]], [[0, 1, 2]], [[0], [0]]]},
    ],
)
def test_other_layers_have_no_compiled_code(options):
    net = network(**options)
    assert compiled(net, net.inputs(torch.rand(5, 2, dtype=torch.float64), PLANE)) is None


def test_it_can_be_done_without(monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    library.cache_clear()
    assert library(torch.float64) is None
    library.cache_clear()


def objective_of(*overrides, target=("f", "g"), **columns):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 50))
    table = table_of({"x": x, "y": y, "f": 30 * np.exp(x * y), "g": x + y, **columns}, target, ["x", "y"])
    words = ["schedule=single", "schedule.levels=1", "schedule.steps=1", *overrides]
    slab = SlabSolve(configuration_of_objects(table, [Kan(width=[3], degree=3, grid=4), *words]).setup)
    enter(slab, slab.plan[0])
    slab.resample(slab.hierarchy.theta)
    return slab.objective, slab.hierarchy.theta


def fit_of(objective):
    inputs = objective.backbone.inputs(objective.points, objective.residuals.space)
    return plain_fit(objective.residuals, objective.weighting, objective.collocation, inputs)


@needs_compiler
@pytest.mark.parametrize("columns", [{}, {"sigma_f": np.linspace(1, 2, 50)}])
def test_loss_of_a_fit_is_that_of_the_residuals(columns):
    objective, theta = objective_of(**columns)
    loss, gradient, terms = objective.loss_and_gradient(theta)
    assert isinstance(fit_of(objective), PlainFit)
    r, expected = objective.linearize(theta).dense(), objective.loss(theta)
    assert loss == pytest.approx(expected[0], rel=1e-13)
    assert terms == pytest.approx(expected[1], rel=1e-13)
    torch.testing.assert_close(gradient, 2 * r.jacobian.T @ r.residual, rtol=1e-11, atol=1e-12)


@needs_compiler
def test_loss_of_classes_is_their_cross_entropy():
    objective, theta = objective_of(target=["class"], **{"class": np.array(list("abc"))[np.arange(50) % 3]})
    loss, gradient, _ = objective.loss_and_gradient(theta)
    assert isinstance(fit_of(objective), PlainFit)
    r = objective.linearize(theta).dense()
    assert loss == pytest.approx(objective.loss(theta)[0], rel=1e-13)
    torch.testing.assert_close(gradient, 2 * r.jacobian.T @ r.residual, rtol=1e-11, atol=1e-12)


@needs_compiler
def test_weights_that_change_are_left_to_torch():
    objective, theta = objective_of("weighting=rba")
    loss, gradient, _ = objective.loss_and_gradient(theta)
    r = objective.linearize(theta).dense()
    assert fit_of(objective) is None
    torch.testing.assert_close(gradient, 2 * r.jacobian.T @ r.residual, rtol=1e-11, atol=1e-12)
    assert loss == pytest.approx(float(r.residual @ r.residual), rel=1e-12)
