"""Neuron swapping: nodes of a layer exchanged so that connected ones stand side by side; the function stays.

The cost of a network is Σ B_ij |x_i − x_j| over its edges, of their scores and the places of the nodes they join, each
layer spread over [0, 1] (Liu, Gan and Tegmark 2023, BIMT, arXiv:2305.08746, eq. 3; KAN 2.0, sec. 4.2: anatomical
modularity).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.edits import Edit
from kanpinn.explain.attribution import Array, Attribution, LayerScores

Order = list[int]
"""Numbers of a layer's nodes from left to right."""

SWEEPS = 20
"""Most times that all pairs of nodes are tried."""


def connection_cost(found: Attribution, orders: Sequence[Order]) -> float:
    """Return Σ B |x_i − x_j| for an order of the nodes of every layer, inputs and outputs included."""
    places = [_places(order) for order in orders]
    return sum(
        float(np.sum(_node_edges(layer) * np.abs(above[:, None] - below[None])))
        for layer, below, above in zip(found.layers, places, places[1:], strict=False)
    )


def arranged(found: Attribution) -> list[Order]:
    """Return an order of the nodes of every layer in which no exchange of two hidden nodes lowers the cost.

    Additions are exchanged with additions, multiplications with multiplications; inputs and outputs stay.
    """
    orders = [list(range(len(nodes))) for nodes in found.nodes]
    cost = connection_cost(found, orders)
    for _ in range(SWEEPS):
        before = cost
        for layer, order in zip(found.layers[:-1], orders[1:-1], strict=True):
            passed = len(order) - layer.products
            for i, j in itertools.combinations(range(len(order)), 2):
                if (order[i] < passed) != (order[j] < passed):
                    continue
                order[i], order[j] = order[j], order[i]
                trial = connection_cost(found, orders)
                if trial < cost * (1 - 1e-12):
                    cost = trial
                else:
                    order[i], order[j] = order[j], order[i]
        if cost == before:
            break
    return orders


def _places(order: Order) -> Array:
    """The place of every node in [0, 1]."""
    places = np.empty(len(order))
    places[order] = (np.arange(len(order)) + 0.5) / len(order)
    return places


def _node_edges(layer: LayerScores) -> Array:
    """The scores of a layer's edges by the nodes they lead to: both factors of a product are one."""
    passed = len(layer.edges) - 2 * layer.products
    pairs = layer.edges[passed:].reshape(layer.products, 2, layer.edges.shape[1]).sum(1)
    return np.concatenate([layer.edges[:passed], pairs])


def swap(backbone: Backbone, found: Attribution, orders: Sequence[Order]) -> Edit:
    """Return the edit that puts the hidden nodes into another order: a permutation of the parameters.

    The function stays the same but for the order in which its sums are added up, the rounding of the last digit.

    Args:
        backbone: The network, none of several side by side.
        found: Its scores.
        orders: Order of the nodes of every layer, from left to right; those of inputs and outputs are left as they are.
    """
    numbers = backbone.arrays(torch.arange(backbone.size))
    below: Tensor = torch.arange(len(orders[0]))
    for k, layer in enumerate(found.layers):
        order = torch.arange(len(orders[-1])) if k == len(found.layers) - 1 else torch.tensor(orders[k + 1])
        passed = len(layer.sums) - 2 * layer.products
        products = order[order >= passed]
        pairs = (passed + 2 * (products - passed)[:, None] + torch.arange(2)).flatten()
        rows = torch.cat([order[order < passed], pairs])
        for name, block in numbers[layer.number].items():
            numbers[layer.number][name] = block[rows][:, below] if block.dim() > 1 else block[rows]
        below = torch.cat([order[order < passed], products])
    source = torch.cat([block.flatten() for arrays in numbers for block in arrays.values()])
    back = torch.argsort(source)
    return Edit(
        backbone,
        backbone,
        lambda theta: theta[..., source.to(theta.device)],
        lambda gradient: gradient[..., back.to(gradient.device)],
        lambda gradient: gradient[..., source.to(gradient.device)],
    )
