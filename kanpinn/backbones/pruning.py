"""Pruning: what is left of a network without some of its edges, and the map of its parameters.

An edge that is taken out leaves its mean behind, added to its node. A node goes with its last edge, before it or behind
it: what then reaches the next layer is constant, the means of the edges that led there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.edits import Edit, hidden_layers, joining
from kanpinn.backbones.layer import Layer, packed
from kanpinn.backbones.layers import Multiply
from kanpinn.backbones.masks import Edges, alive_in, symbolic_edges, whole_blocks
from kanpinn.backbones.parallel import Parallel

Alive = tuple[np.ndarray, ...]
"""The edges that are there, per layer with edges, bool `[out, in]`."""


@dataclass(frozen=True)
class Remains:
    """The rest of a network after pruning.

    Attributes:
        alive: The edges left, in the network's own numbering.
        sums: Per layer with edges, the numbers of the outputs left, both factors of a product among them.
        nodes: Per layer with edges, the numbers of the inputs left; of the network's own inputs all.
        additions: Number of hidden nodes left that are no products, per hidden layer.
        products: Number of those that are, per hidden layer.
    """

    alive: Alive
    sums: tuple[np.ndarray, ...]
    nodes: tuple[np.ndarray, ...]
    additions: tuple[int, ...]
    products: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of edges."""
        return int(sum(one.sum() for one in self.alive))

    @property
    def edges(self) -> Edges:
        """The option `backbone.edges` of what is left, in its own numbering; empty for all between the nodes left."""
        parts = [one[np.ix_(q, p)] for one, q, p in zip(self.alive, self.sums, self.nodes, strict=True)]
        if all(part.all() for part in parts):
            return []
        return [[np.flatnonzero(row).tolist() for row in part] for part in parts]

    def _symbolic(self, texts: Sequence[str]) -> list[str]:
        """The option `backbone.symbolic` of what is left."""
        found = []
        for k, known in enumerate(symbolic_edges([np.ones_like(one) for one in self.alive], texts)):
            rows, columns = self.sums[k].tolist(), self.nodes[k].tolist()
            left = [(pair, text) for pair, text in known.items() if self.alive[k][pair]]
            found += [f"{k},{columns.index(p)}->{rows.index(q)}: {text}" for (q, p), text in left]
        return found

    def options(self, network: Any) -> Any:
        """Return the options of a network, such as `Kan`, changed to those of what is left."""
        changed: dict[str, Any] = {"width": list(self.additions), "edges": self.edges, "modules": []}
        if getattr(network, "symbolic", []):
            changed["symbolic"] = self._symbolic(network.symbolic)
        if hasattr(network, "mult"):
            changed["mult"] = list(self.products)
        return replace(network, **changed)


def alive_of(network: Backbone) -> Alive:
    """Return the edges of a network."""
    return tuple(alive_in(network.layers[k]) for k in joining(network))


def remains(network: Backbone, alive: Sequence[np.ndarray]) -> Remains | None:
    """Return what is left of a network with these edges, nodes without edges on one side taken out with the others.

    None where an output or a factor of a product would be left without inputs, a hidden layer without nodes, or the
    network without inputs.
    """
    left, between = [one.copy() for one in alive], [one for _, _, one in hidden_layers(network)]
    while True:
        before = sum(int(one.sum()) for one in left)
        for multiply, first, second in zip(between, left[:-1], left[1:], strict=True):
            lasting = np.any(second, axis=0)
            product = lasting[multiply.additions :]
            factors = first[multiply.additions :].any(1).reshape(-1, 2)
            if (product[:, None] & ~factors).any():
                return None
            second[:, : multiply.additions] &= first[: multiply.additions].any(1)
            first &= _sums_of(multiply, np.any(second, axis=0))[:, None]
        if sum(int(one.sum()) for one in left) == before:
            break
    hidden = [np.any(one, axis=0) for one in left[1:]]
    additions = tuple(int(one[: m.additions].sum()) for one, m in zip(hidden, between, strict=True))
    if not left[-1].any(1).all() or not all(one.any() for one in hidden) or not left[0].any():
        return None
    sums = [*(_sums_of(m, one) for one, m in zip(hidden, between, strict=True)), np.ones(len(left[-1]), dtype=bool)]
    return Remains(
        tuple(left),
        tuple(map(np.flatnonzero, sums)),
        tuple(map(np.flatnonzero, [np.ones(left[0].shape[1], dtype=bool), *hidden])),
        additions,
        tuple(int(one[m.additions :].sum()) for one, m in zip(hidden, between, strict=True)),
    )


def _sums_of(multiply: Multiply, nodes: np.ndarray) -> np.ndarray:
    """The sums that belong to some hidden nodes, both bool."""
    return np.r_[nodes[: multiply.additions], np.repeat(nodes[multiply.additions :], 2)]


def pruned(network: Backbone, after: Backbone, left: Remains, theta: Tensor, means: Sequence[np.ndarray]) -> Edit:
    """Return the edit from a network to what is left of it.

    Args:
        network: The network.
        after: The network of the options `left.options`, on the same level.
        left: What is left.
        theta: Parameters `[P]` at which the edges taken out leave their means.
        means: Mean of every edge `[out, in]`, per layer with edges.
    """
    own, places = network.arrays(torch.arange(network.size)), iter(zip(left.sums, left.nodes, strict=True))
    edged, found = joining(network), []
    later = [layer for layer in after.layers if layer.size]
    for k, new in zip((k for k, layer in enumerate(network.layers) if layer.size), later, strict=True):
        blocks = whole_blocks(network.layers[k], own[k])
        if k not in edged:
            found += blocks.values()
            continue
        sums, nodes = next(places)
        parts = [(new, slice(None), slice(None))]
        if isinstance(new, Parallel):
            parts = list(zip(new.layers, map(list, new.outputs), map(list, new.inputs), strict=True))
        for one, q, p in parts:
            rows, columns = sums[q], nodes[p]
            own_blocks = [blocks[name] for name in one.blocks.shapes]
            found += [b[np.ix_(rows, columns)] if b.dim() > 1 else b[torch.from_numpy(rows)] for b in own_blocks]
    source = packed(found)

    def linear(vector: Tensor) -> Tensor:
        return vector[..., source.to(vector.device)]

    def transpose(gradient: Tensor) -> Tensor:
        out = gradient.new_zeros(*gradient.shape[:-1], network.size)
        out[..., source.to(gradient.device)] = gradient
        return out

    gone = [(full & ~one) * mean for full, one, mean in zip(alive_of(network), left.alive, means, strict=True)]
    moved = linear(theta)
    offset = _raised(after, moved, [one.sum(1)[q] for one, q in zip(gone, left.sums, strict=True)]) - moved
    return Edit(network, after, linear, transpose, linear, offset)


def wholes(network: Backbone, theta: Tensor) -> list[dict[str, Tensor]]:
    """Return `whole_blocks` of every layer with parameters."""
    pairs = zip(network.layers, network.arrays(theta), strict=True)
    return [whole_blocks(layer, own) for layer, own in pairs if layer.size]


def regrouped(blocks: Sequence[dict[str, Tensor]], after: Backbone) -> Tensor:
    """Return the parameters `[P]` of a network from the whole blocks of its layers with parameters."""
    found: list[Tensor] = []
    for own, new in zip(blocks, (layer for layer in after.layers if layer.size), strict=True):
        if not isinstance(new, Parallel):
            found += [own[name] for name in new.blocks.shapes]
            continue
        for one, q, p in zip(new.layers, new.outputs, new.inputs, strict=True):
            parts = [own[name] for name in one.blocks.shapes]
            found += [b[np.ix_(q, p)] if b.dim() > 1 else b[list(q)] for b in parts]
    return packed(found)


def _raised(network: Backbone, theta: Tensor, values: Sequence[np.ndarray]) -> Tensor:
    """Parameters `[P]` with the outputs of all layers with edges larger by values, where layers can hold constants."""
    lifts, edged = iter(values), joining(network)
    blocks: list[Tensor] = []
    for k, (layer, own) in enumerate(zip(network.layers, network.arrays(theta), strict=True)):
        changed = _lifted(layer, own, next(lifts)) if k in edged else own
        blocks += changed.values()
    return packed(blocks)


def _lifted(layer: Layer, own: dict[str, Tensor], value: np.ndarray) -> dict[str, Tensor]:
    return layer.raised(own, torch.from_numpy(value).to(next(iter(own.values())))) or own
