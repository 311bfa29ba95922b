"""Penalty on the size of edges, and sparse starts."""

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss
from scipy.interpolate import BSpline

import kanpinn
from kanpinn import Kan
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.spline_layer import nearest
from kanpinn.errors import UserError
from kanpinn.least_squares.sparsity import SMALLEST, Penalised, Penalty

PLANE = Embedding({"x": (0, 1), "y": (0, 1)})


def network_of(**options):
    network = Kan(width=[3], grid=2, degree=3, **options).build(PLANE, 1)
    return network, network.initial(np.random.default_rng(1))


def sizes(network, theta):
    """√(variance over [−1, 1] + ε²) of every edge by scipy's splines and Gauss's rule, one array per layer."""
    nodes, weights = leggauss(200)
    found = []
    for layer, own in zip(network.layers, network.arrays(theta), strict=True):
        parts = layer.own(own) if hasattr(layer, "own") else [(layer, own)]
        edges = [c for _, one in parts if one for c in one["coefficients"].reshape(-1, 5).numpy()]
        if edges:
            splines = BSpline(np.array(layer_knots(2, 3)), np.array(edges).T, 3)(nodes).T
            mean = splines @ weights / 2
            found.append(np.sqrt((splines - mean[:, None]) ** 2 @ weights / 2 + SMALLEST**2))
    return found


def layer_knots(n, degree):
    return -1 + 2 / n * (np.arange(n + 2 * degree + 1) - degree)


@pytest.mark.parametrize("options", [{}, {"edges": [[[0], [0, 1], [1]], [[0, 2]]]}, {"bias": True}])
@pytest.mark.parametrize("entropy", [0.0, 2.0])
def test_penalty_is_the_sum_of_sizes_and_their_entropy(options, entropy):
    network, theta = network_of(**options)
    expected = 0.0
    for one in sizes(network, theta):
        share = one / one.sum()
        expected += 0.3 * (one.sum() - entropy * share @ np.log(share))
    assert abs(Penalty(network, 0.3, entropy).loss(theta)[0] - expected) < 0.01 * expected


@pytest.mark.parametrize("entropy", [0.0, 2.0])
def test_gradient_and_curvature_of_the_penalty(entropy):
    """The gradient is that of differences; without entropy the quadratic model lies above the penalty everywhere."""
    network, theta = network_of()
    penalty = Penalty(network, 0.3, entropy)
    loss, gradient, _ = penalty.loss_and_gradient(theta)
    random = np.random.default_rng(2)
    for size in (1e-5, 0.1, 1.0):
        change = torch.from_numpy(size * random.standard_normal(len(theta)))
        other = penalty.loss(theta + change)[0]
        if size < 1e-4:
            back = penalty.loss(theta - change)[0]
            torch.testing.assert_close(float(gradient @ change), (other - back) / 2, rtol=1e-6, atol=1e-12)
        elif not entropy:
            model = loss + gradient @ change + penalty.linearize(theta).jvp(change).square().sum()
            assert other <= float(model) + 1e-12


def test_a_penalised_fit_has_the_sum_of_both_losses_and_fewer_edges():
    x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    words = ["backbone.width=[3]", "backbone.grid=2", "schedule.levels=1", "schedule.steps=25"]
    y = np.exp(x[:, 0] + x[:, 1] ** 2)
    pairs = [(0, 0), (1e-4, 2)]
    runs = [
        kanpinn.fit(x, y, *words, f"weighting.sparsity={s}", f"weighting.entropy={mu}", split=[1]) for s, mu in pairs
    ]
    gone = [sum(int((one < 0.002).sum()) for one in sizes(r.residuals.backbone, r.theta)) for r in runs]
    assert gone == [0, 6]  # of 9: one node is left
    assert runs[1].metrics["relative_l2"]["y"] < 0.01
    inner = Penalty(runs[0].residuals.backbone, 1.0, 0.0)
    whole = Penalised(inner, Penalty(runs[0].residuals.backbone, 2.0, 0.0))
    assert np.isclose(whole.loss(runs[0].theta)[0], 3 * inner.loss(runs[0].theta)[0])
    joined, alone = whole.linearize(runs[0].theta), inner.linearize(runs[0].theta)
    torch.testing.assert_close(joined.gradient, 3 * alone.gradient)
    torch.testing.assert_close(joined.dense().gram().matrix, 3 * alone.gram().matrix)


def test_networks_without_edges_have_no_penalty():
    with pytest.raises(UserError, match=r"with backbone\.base=true"):
        Penalty(network_of(base=True)[0], 1.0, 0.0)


def test_a_sparse_start_joins_neighbours():
    assert nearest(3, 3).tolist() == np.eye(3, dtype=bool).tolist()
    assert nearest(4, 2).tolist() == [[True, False], [True, False], [False, True], [False, True]]
    network, theta = network_of(sparse=True)
    first, _, last = network.arrays(theta)
    assert (first["coefficients"].abs().sum(-1) > 0).tolist() == nearest(3, 2).tolist()
    assert (last["coefficients"].abs().sum(-1) > 0).all()
