"""Networks without some of their edges: options, Jacobians, levels, and what pruning leaves of a network."""

import re

import numpy as np
import pytest
import torch

from kanpinn import Kan
from kanpinn.backbones.base import Tape
from kanpinn.backbones.chebykan import ChebyKan
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.kan import MultKan
from kanpinn.backbones.masks import whole_blocks
from kanpinn.backbones.pruning import alive_of, pruned, remains
from kanpinn.backbones.relu_kan import ReluKan
from kanpinn.errors import UserError
from kanpinn.jets.jet import JetSpace

PLANE = Embedding({"x": (0, 1), "t": (0, 1)})
SPACE = JetSpace(("x", "t"), ("t", "xx"))
OPTIONS = [
    Kan(width=[3, 2], grid=3, edges=[[[0, 1], [0], [0]], [[0, 2], [1, 2]], [[0, 1]]]),
    Kan(width=[3], grid=2, base=True, bias=True, modules=["0,[0]->[0,1]"]),
    ReluKan(width=[2], grid=2, degree=3, edges=[[[0], [1]], [[0, 1]]]),
    MultKan(width=[2], mult=1, grid=2, edges=[[[0], [0, 1], [0], [1]], [[0, 2]]]),
    ChebyKan(width=[2], edges=[[[1], [0, 1]], [[0, 1]]]),
]


def of(options, outputs=1, seed=0):
    network = options.build(PLANE, outputs)
    return network, network.initial(np.random.default_rng(seed))


def values(network, theta, points):
    return network.forward(theta, points, JetSpace(("x", "t"), ())).value


@pytest.mark.parametrize("options", OPTIONS, ids=lambda one: type(one).__name__)
def test_jacobian_and_refinement_without_some_edges(options):
    network, theta = of(options)
    points = torch.rand(7, 2, dtype=torch.float64)
    tape, jacobian = Tape(), torch.empty(7, network.size, dtype=torch.float64)
    u = network.forward(theta, points, SPACE, tape)
    network.jacobian(theta, tape, (u["t"] - u["xx"]).sum(), jacobian)

    def residual(theta):
        u = network.forward(theta, points, SPACE)
        return (u["t"] - u["xx"])[:, 0]

    exact = torch.autograd.functional.jacobian(residual, theta)
    torch.testing.assert_close(jacobian, exact, atol=1e-11, rtol=1e-11)
    finer = refinement(network)
    torch.testing.assert_close(finer.after.forward(finer(theta), points, SPACE).data, u.data, atol=1e-10, rtol=1e-10)
    assert finer.after.coarsened() == network


def test_absent_edges_are_zero_edges_of_the_whole_network():
    network, theta = of(OPTIONS[0])
    whole, _ = of(Kan(width=[3, 2], grid=3))
    arrays = zip(network.layers, network.arrays(theta), strict=True)
    blocks = [values for layer, own in arrays for values in whole_blocks(layer, own).values()]
    points = torch.rand(9, 2, dtype=torch.float64)
    expected = values(whole, torch.cat([one.reshape(-1) for one in blocks]), points)
    torch.testing.assert_close(values(network, theta, points), expected, atol=1e-14, rtol=0)
    assert network.size == 10 * 8 < whole.size == 14 * 8


def test_modules_cut_what_joins_them_with_the_rest():
    network, _ = of(Kan(width=[4], modules=["0,[0]->[0,1]->[0,1]->[0]"]), outputs=2)
    first, second = alive_of(network)
    assert first.tolist() == [[True, False], [True, False], [False, True], [False, True]]
    assert second.tolist() == [[True, True, False, False], [False, False, True, True]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": [[[0]]]}, "backbone.edges=[[[0]]]: expected one list for each of the 2 layers"),
        ({"edges": [[[0, 2], [0]], [[0, 1]]]}, "numbers from 0 to 1"),
        ({"edges": [[[0, 1], []], [[0, 1]]]}, "layer 0 leaves output 1 without"),
        ({"modules": ["[0]->[0]"]}, "a layer and nodes before and behind each layer"),
        ({"modules": ["0,[0]->[5]"]}, "nodes from 0 to 1 at layer 0 in [5]"),
        ({"modules": ["0,[0,1]->[0]"]}, "layer 0 leaves output 1 without"),
        ({"modules": ["1,[0]->[0]->[0]->[0]"]}, "at most 2 layers"),
    ],
)
def test_edges_that_do_not_fit_the_network_are_refused(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Kan(width=[2], **options).build(PLANE, 1)


def measured(network, theta, points):
    """Mean of every edge `[out, in]`, by layer, from networks with that edge alone."""
    space, data, found = JetSpace(("x", "t"), ()), network.embedding.forward(points, JetSpace(("x", "t"), ())), []
    for layer, own in zip(network.layers, network.arrays(theta), strict=True):
        if layer.size:
            columns = []
            for p in range(data.shape[-1]):
                alone = {name: torch.zeros_like(block) for name, block in own.items()}
                for name, block in own.items():
                    if block.dim() > 1:
                        alone[name][:, p] = block[:, p]
                columns.append(layer.forward(alone, data, space)[0][0].mean(0))
            found.append(torch.stack(columns, 1).numpy())
        data, _ = layer.forward(own, data, space)
    return found


@pytest.mark.parametrize(
    "options",
    [
        Kan(width=[3], grid=2),
        Kan(width=[3], grid=2, base=True),
        ReluKan(width=[3], grid=2, degree=3),
        ChebyKan(width=[3]),
        MultKan(width=[2], mult=1, grid=2),
    ],
    ids=lambda one: type(one).__name__ + "_base" * getattr(one, "base", False),
)
def test_constant_edges_leave_the_function_unchanged(options):
    """An edge that is constant can be taken out with its mean left behind: the network is the same function."""
    network, theta = of(options, seed=3)
    constant = torch.cat([one.reshape(-1) for one in _constants(network, theta)])
    alive = [one.copy() for one in alive_of(network)]
    alive[0][1, 0] = False  # edge from x to node 1
    alive[1][0, 0] = False  # the last edge behind node 0, with which the node goes
    left = remains(network, alive)
    assert left is not None
    for layer, own, edges in zip(network.layers, network.arrays(theta), _per_layer(network, left.alive), strict=True):
        if edges is not None:
            _make_constant(own, network.arrays(constant)[network.layers.index(layer)], ~edges)
    points = torch.rand(50, 2, dtype=torch.float64)
    after = left.options(options).build(PLANE, 1)
    edit = pruned(network, after, left, theta, measured(network, theta, points))
    assert edit.after.size < network.size
    torch.testing.assert_close(values(after, edit(theta), points), values(network, theta, points), atol=1e-12, rtol=0)
    # A is a selection: Aᵀ is its transpose and, since A Aᵀ = 1, the inverse of what `dual` is the transpose of.
    vector, gradient = (torch.randn(one.size, dtype=torch.float64) for one in (network, after))
    torch.testing.assert_close(edit.linear(vector) @ gradient, vector @ edit.transpose(gradient))
    torch.testing.assert_close(edit.linear(edit.transpose(gradient)), gradient)


def _per_layer(network, alive):
    edges = iter(alive)
    return [next(edges) if layer.size else None for layer in network.layers]


def _constants(network, theta):
    """The blocks of edges that are all 1, where a layer's own are θ's."""
    for layer, own in zip(network.layers, network.arrays(theta), strict=True):
        blocks = {name: block.clone() for name, block in own.items()}
        for name in blocks:
            if "coefficients" in name or name == "base_weight":
                blocks[name][:] = 0
        for p in range(next(iter(blocks.values())).shape[1] if blocks else 0):
            one = {name: block[:, p : p + 1] for name, block in blocks.items() if block.dim() > 1}
            lifted = layer.resized(1, len(next(iter(one.values())))).raised(
                one, torch.ones(len(next(iter(one.values()))))
            )
            for name, block in one.items():
                block.copy_(lifted[name])
        yield from blocks.values()


def _make_constant(own, ones, edges):
    """Set edges to constants, different ones."""
    for name, block in own.items():
        if name == "spline_scale":
            continue
        for q, p in np.argwhere(edges):
            block[q, p] = ones[name][q, p] * (1 + q + 0.3 * p)


def test_what_is_left_of_a_network():
    network, _ = of(MultKan(width=[2], mult=2), outputs=1)
    alive = [one.copy() for one in alive_of(network)]
    assert [one.shape for one in alive] == [(6, 2), (1, 4)]
    alive[1][0, [1, 2]] = False  # node 1 and the first product
    left = remains(network, alive)
    assert (left.additions, left.products) == ((1,), (1,))
    assert [one.tolist() for one in left.sums] == [[0, 4, 5], [0]]
    assert [one.tolist() for one in left.nodes] == [[0, 1], [0, 3]]
    assert (left.count, left.edges) == (6 + 2, [])
    alive[0][4] = False  # a factor without inputs
    assert remains(network, alive) is None
    alive = [one.copy() for one in alive_of(network)]
    alive[0][0] = False  # a node without inputs goes with its edge behind
    assert remains(network, alive).additions == (1,)
    alive[0][1, 1] = False
    assert remains(network, alive).edges == [[[0], [0, 1], [0, 1], [0, 1], [0, 1]], [[0, 1, 2]]]
    alive[1][:] = False
    assert remains(network, alive) is None
