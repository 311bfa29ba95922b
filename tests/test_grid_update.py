"""Grid update: hidden values fill the knots, polynomials are kept, other functions as well as the knots allow."""

import numpy as np
import pytest
import torch

import kanpinn
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.grid_update import updated
from kanpinn.backbones.kan import Kan
from kanpinn.errors import UserError
from kanpinn.jets.jet import JetSpace

PLANE = JetSpace(("x", "y"), ())
POINTS = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (300, 2)))


def network(**options):
    options = {"width": [3], "grid": 5, "degree": 3, "squash": "none", **options}
    return Kan(**options).build(Embedding({"x": (0, 1), "y": (0, 1)}), 2)


def hidden(net, theta):
    return net.layers[0].forward(net.arrays(theta)[0], net.embedding.forward(POINTS, PLANE), PLANE)[0][0]


def with_edges(net, rng, function):
    """Random parameters with the second layer's splines those that come nearest to a function of x."""
    theta, layer = net.initial(rng), net.layers[1]
    theta[: net.layers[0].size] *= 8  # values far beyond the knots
    x = torch.linspace(-1, 1, 81, dtype=torch.float64)
    unit = torch.eye(layer.spec.width, dtype=torch.float64)[:, None]
    blocks = {"coefficients": unit, "bias": torch.zeros(layer.spec.width, dtype=torch.float64)}
    basis = type(layer)(1, layer.spec.width, layer.spec).forward(blocks, x[None, :, None], PLANE)[0][0]
    fitted = torch.linalg.lstsq(basis, function(x)[:, None]).solution[:, 0]
    weights = torch.from_numpy(rng.standard_normal((2, 3, 1)))
    net.arrays(theta)[1]["coefficients"].copy_(weights * fitted)
    return theta


@pytest.mark.parametrize("options", [{}, {"bias": True}, {"knots": "cosine", "degree": 4}])
def test_hidden_values_fill_the_knots_and_polynomials_are_kept(options):
    net = network(**options)
    theta = with_edges(net, np.random.default_rng(1), lambda x: x**3 - 2 * x + 1)
    before, wide = net.forward(theta, POINTS, PLANE).data, hidden(net, theta)
    assert wide.abs().max() > 1.5
    after = updated(net, theta, POINTS)
    values = hidden(net, after)
    assert torch.all(values.abs() <= 1)
    assert torch.all(values.amax(0) - values.amin(0) > 1.8)
    size = 1e-12 * float(before.abs().max())
    torch.testing.assert_close(net.forward(after, POINTS, PLANE).data, before, rtol=0, atol=size)
    assert torch.equal(updated(net, after, POINTS), after)  # nothing is left to do


def test_other_functions_are_kept_the_better_the_finer_the_knots():
    gaps = []
    for grid in (8, 16, 32):
        net = network(grid=grid)
        theta = with_edges(net, np.random.default_rng(2), lambda x: torch.sin(3 * x))
        theta[: net.layers[0].size] *= 0.05  # values near 0: knots come closer
        before = net.forward(theta, POINTS, PLANE).data
        gaps.append(float((net.forward(updated(net, theta, POINTS), POINTS, PLANE).data - before).abs().max()))
    assert gaps[2] < gaps[1] < gaps[0] < 1e-3


def test_base_terms_are_taken_up_by_the_splines():
    net = network(base=True, grid=20)
    theta = net.initial(np.random.default_rng(3))
    theta[: net.layers[0].size] *= 3
    before = net.forward(theta, POINTS, PLANE).data
    after = net.forward(updated(net, theta, POINTS), POINTS, PLANE).data
    torch.testing.assert_close(after, before, rtol=0, atol=0.02 * float(before.abs().max()))


def test_steps_of_updates_are_spread_evenly():
    options = Kan(squash="none", grid_updates=3, grid_updates_until=25)
    assert [step for step in range(60) if options.updates_grid(step)] == [0, 8, 16]
    assert not any(Kan().updates_grid(step) for step in range(60))


@pytest.mark.parametrize(
    "words",
    [
        ["grid_updates=2"],
        ["squash=none", "grid_updates=80"],
        ["squash=none", "grid_updates=2", "first=linear", "width=[2]"],
    ],
)
def test_networks_without_it_are_refused(words, tmp_path):
    with pytest.raises(UserError, match=r"backbone\.grid_updates=\d+: expected"):
        kanpinn.solve(["problem=poisson", *(f"backbone.{word}" for word in words)], folder=None)


def test_a_fit_tells_its_grid_updates(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (80, 2))
    words = ["backbone.width=[3]", "backbone.squash=none", "backbone.grid_updates=2", "backbone.grid_updates_until=6"]
    words += ["schedule.levels=1", "schedule.steps=8", "output.figures=false", "output.progress=false", "threads=1"]
    found = kanpinn.fit(x, x[:, 0] * x[:, 1], *words, folder=tmp_path / "run")
    assert found.metrics["data"]["train"]["rmse"]["y"] < 0.3
    assert (tmp_path / "run" / "log.txt").read_text().count("grid update before step") >= 1
