"""Attribution of small networks computed by hand, and of the example that KAN 2.0's authors publish."""

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
from kanpinn.errors import UserError
from kanpinn.explain.attribution import attribution, scores

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


def test_the_inputs_of_the_published_example_are_ranked_as_published():
    options = ("schedule=single", "schedule.steps=15", "sampler.interior=300", "backbone.grid=2", "backbone.degree=3")
    solution = kanpinn.solve(Published(), "backbone=kan", "backbone.width=[1]", "seed=1", *options)
    found = attribution(solution)
    assert list(np.argsort(-found.inputs[0])) == [0, 1, 2, 3]
    np.testing.assert_allclose(found.inputs[0], [0.8916, 0.5155, 0.1079, 0.0040], atol=0.04)
