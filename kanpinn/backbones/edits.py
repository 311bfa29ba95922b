"""Edits: a network changed into another one, with the affine map between their parameters.

Going up and down the levels, and four edits that keep the network's function, derivatives included, to rounding:

- widen: hidden nodes are added with random incoming and zero outgoing edges. Their outgoing edges have a gradient at
  once, their incoming ones as soon as those have moved (Net2WiderNet, Chen et al. 2016, arXiv:1511.05641, copies nodes
  instead, whose halves of the outgoing weights then have equal gradients).
- deepen: layers that change nothing are put before the last one (Net2DeeperNet, ibid.). B-splines reproduce x with
  their Greville abscissae as coefficients (Marsden 1970; de Boor 2001, ch. IX), Chebyshev series by T_1. No squash
  follows such a layer, so that it stays the identity; extrapolated splines let its values leave [−1, 1] later.
- insert: knots are added to the first layer's splines (Boehm 1980; see `splines.nesting`).
- rank: products are added, terms of a separable network with one factor zero or multiplication nodes with zero
  outgoing edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.growth import Grown, beside, ends
from kanpinn.backbones.layer import Layer, packed
from kanpinn.backbones.layers import Multiply
from kanpinn.backbones.masks import ends_of
from kanpinn.backbones.parallel import Parallel, members_of, side_by_side
from kanpinn.backbones.separable.factors import Factors
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.errors import invalid
from kanpinn.splines.nesting import Nesting

MOST_ADDED = 1000
"""Largest number of nodes, layers or products that one edit adds."""

Vector = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Edit:
    """A change of a network, with the map θ' = A θ + b of its parameters; all maps act along the last axis.

    Attributes:
        before: The network `[P]`.
        after: The changed network `[P']`.
        linear: A, for changes of parameters: `[..., P]` to `[..., P']`.
        transpose: Aᵀ, for gradients back: `[..., P']` to `[..., P]`.
        dual: The transpose of a left or right inverse of A, for gradients ahead: `[..., P]` to `[..., P']`.
        offset: b `[P']`; None for 0.
    """

    before: Backbone
    after: Backbone
    linear: Vector
    transpose: Vector
    dual: Vector
    offset: Tensor | None = None

    def __call__(self, theta: Tensor) -> Tensor:
        """Return A θ + b of parameters `[P]`."""
        moved = self.linear(theta)
        return moved if self.offset is None else moved + self.offset.to(moved)


def across_levels(network: Backbone, vector: Tensor, nestings: Mapping[str, Nesting], operator: str) -> Tensor:
    """Apply one operator of each block's nesting, such as "prolong", to a network's vector `[..., P]`, `[..., P']`.

    The nestings are `Backbone.nestings` of the coarser network; blocks without one are copied.
    """
    blocks = network.blocks.view(vector).items()
    moved = (getattr(nestings[name], operator)(c) if name in nestings else c for name, c in blocks)
    return packed(moved, vector.dim() - 1)


def refinement(coarse: Backbone, fine: Backbone | None = None, nestings: Mapping[str, Nesting] | None = None) -> Edit:
    """Return the edit from a network to the next finer level: the same function, P of the exact nesting."""
    fine, nestings = fine or coarse.refined(), coarse.nestings() if nestings is None else nestings
    return Edit(
        coarse,
        fine,
        lambda theta: across_levels(coarse, theta, nestings, "prolong"),
        lambda gradient: across_levels(fine, gradient, nestings, "prolong_transpose"),
        lambda gradient: across_levels(coarse, gradient, nestings, "restrict_transpose"),
    )


def coarsening(coarse: Backbone, fine: Backbone) -> Edit:
    """Return the edit from a network to the next coarser level: the nearest functions, R with R P = 1."""
    nestings = coarse.nestings()
    return Edit(
        fine,
        coarse,
        lambda theta: across_levels(fine, theta, nestings, "restrict"),
        lambda gradient: across_levels(coarse, gradient, nestings, "restrict_transpose"),
        lambda gradient: across_levels(fine, gradient, nestings, "prolong_transpose"),
    )


_Growth = list[Grown]
_SCALES = ("spline_scale",)
"""Blocks that only scale another one: they stay as they begin where a function is to be zero."""


def _of_factors(network: Backbone, change: Callable[[Backbone], _Growth], **options: Any) -> _Growth:
    """Change the factor networks of a separable network, its first layer, and options of that layer."""
    factors = network.layers[0]
    assert isinstance(factors, Factors)
    parts = [change(one) for one in factors.networks]
    networks = tuple(_network(one, part) for one, part in zip(factors.networks, parts, strict=True))
    grown = Grown(replace(factors, networks=networks, **options), 0, parts=parts)
    return [grown, *(Grown(layer, k) for k, layer in enumerate(network.layers) if k)]


def _of_members(network: Backbone, change: Callable[[Backbone], _Growth]) -> _Growth:
    """Change each of the networks that stand side by side in one."""
    members = members_of(network)
    parts = [change(Backbone(network.embedding, one.layers, level=network.level)) for one in members]
    grown = [replace(one, layers=tuple(g.layer for g in part)) for one, part in zip(members, parts, strict=True)]
    rows = zip(side_by_side(grown), zip(*parts, strict=True), strict=True)
    found = [row[0]._replace(layer=layer, beside=row) if isinstance(layer, Parallel) else row[0] for layer, row in rows]
    behind = range(len(members[0].layers), len(network.layers))
    return [*found, *(Grown(network.layers[k], k) for k in behind)]


def _network(network: Backbone, growth: _Growth) -> Backbone:
    return replace(network, layers=tuple(grown.layer for grown in growth))


def joining(network: Backbone) -> list[int]:
    """Return the numbers of the layers whose parameters join nodes."""
    return [k for k, layer in enumerate(network.layers) if ends_of(layer) is not None]


def hidden_layers(network: Backbone) -> list[tuple[int, int, Multiply]]:
    """Per hidden layer: number of the layer before it and of the one after it, and the multiplications between."""
    found = []
    for before, after in pairwise(joining(network)):
        outputs = ends(network.layers[before])[1]
        between = [layer for layer in network.layers[before:after] if isinstance(layer, Multiply)]
        found.append((before, after, between[0] if between else Multiply(outputs, 0)))
    return found


def _widened(network: Backbone, additions: Sequence[int], products: Sequence[int]) -> _Growth:
    """Add nodes and multiplication nodes to each hidden layer; new inputs of old nodes begin as zero."""
    growth = [Grown(layer, k) for k, layer in enumerate(network.layers)]
    sizes = {k: list(ends(network.layers[k])) for k in joining(network)}
    for (before, after, old), more, many in zip(hidden_layers(network), additions, products, strict=True):
        new = Multiply(old.additions + more, old.products + many)
        passed = np.arange(old.additions)
        rows = np.r_[passed, new.additions + np.arange(2 * old.products)]
        columns = np.r_[passed, new.additions + np.arange(old.products)]
        growth[before] = growth[before]._replace(rows=rows)
        growth[after] = growth[after]._replace(columns=columns)
        sizes[before][1], sizes[after][0] = new.additions + 2 * new.products, new.additions + new.products
        for k in range(before + 1, after):
            if isinstance(growth[k].layer, Multiply):
                growth[k] = growth[k]._replace(layer=new)
    for k, (inputs, outputs) in sizes.items():
        layer = growth[k].layer
        if isinstance(layer, Parallel):
            growth[k] = beside(layer, growth[k], inputs, outputs)
        else:
            growth[k] = growth[k]._replace(layer=layer.resized(inputs, outputs))
    return growth


def _widen(network: Backbone, nodes: int | Sequence[int], key: str) -> _Growth:
    if isinstance(network.layers[0], Factors):
        return _of_factors(network, lambda one: _widen(one, nodes, key))
    hidden = len(hidden_layers(network))
    if not hidden:
        raise invalid(key, nodes, "a network with hidden layers")
    each = [nodes] * hidden if isinstance(nodes, int) else list(nodes)
    if len(each) != hidden:
        raise invalid(key, each, f"one number, or one for each of the {hidden} hidden layers")
    return _widened(network, each, [0] * hidden)


def _deepen(network: Backbone, layers: int, key: str) -> _Growth:
    if isinstance(network.layers[0], Factors):
        return _of_factors(network, lambda one: _deepen(one, layers, key), start="random")
    growth = [Grown(layer, k) for k, layer in enumerate(network.layers)]
    last = joining(network)[-1]
    inputs = ends(network.layers[last])[0]
    same = network.layers[last].resized(inputs, inputs)
    if same.identity() is None:
        raise invalid(key, layers, "a network of splines or polynomials (no layer of this one is the identity)")
    return [*growth[:last], *[Grown(same, None)] * layers, *growth[last:]]


def _raise_rank(network: Backbone, products: int, key: str) -> _Growth:
    factors, hidden = network.layers[0], hidden_layers(network)
    if not isinstance(factors, Factors):
        if not any(old.products for _, _, old in hidden):
            raise invalid(key, products, "backbone=separable or multkan (no other network has products)")
        return _widened(network, [0] * len(hidden), [products if old.products else 0 for _, _, old in hidden])
    shared = len(network.layers) > 1
    terms = factors.terms + products * (not shared)
    outputs = factors.outputs + products * shared
    rows = (np.arange(factors.outputs)[:, None] * terms + np.arange(factors.terms)).ravel()

    def more(one: Backbone) -> _Growth:
        *growth, last = [Grown(layer, k) for k, layer in enumerate(one.layers)]
        wider = last.layer.resized(ends(last.layer)[0], outputs * terms)
        return [*growth, last._replace(layer=wider, rows=rows, quiet=not shared and one is factors.networks[0])]

    growth = _of_factors(network, more, outputs=outputs, terms=terms)
    if shared:
        wider = growth[1].layer.resized(outputs, ends(growth[1].layer)[1])
        growth[1] = growth[1]._replace(layer=wider, columns=np.arange(factors.outputs))
    return growth


def _insert(network: Backbone, knots: float | Sequence[float], key: str) -> _Growth:
    """Add knots to the first layer's splines on the coarsest level, and with them on the finer ones."""
    first, *others = network.layers
    scaled = all(map(network.embedding.scaled, network.embedding.names))
    if type(first) is not SplineLayer or first.spec.periodic or first.spec.knots == "cosine" or not scaled:
        told = "a network whose first layer is one of splines of the coordinates, neither periodic nor cosine knots"
        raise invalid(key, knots, told)
    places = list(knots) if isinstance(knots, Sequence) else [knots]
    try:
        spec = first.spec.inserted(network.level, places)
    except ValueError as error:
        raise invalid(key, knots, f"middles of intervals of the coarsest level, or of their halves ({error})") from None
    return [Grown(replace(first, spec=spec), 0), *(Grown(layer, k + 1) for k, layer in enumerate(others))]


def _pairs(network: Backbone, growth: _Growth, new: str = "", old: str = "") -> Iterator[tuple[str, str | None, Grown]]:
    """Every layer with parameters, those of factor networks too, with the path of its blocks now and before."""
    sized = [k for k, layer in enumerate(network.layers) if layer.size]
    for i, grown in enumerate(grown for grown in growth if grown.layer.size):
        path = f"{new}layer_{i}/"
        before = None if grown.source is None else f"{old}layer_{sized.index(grown.source)}/"
        yield from _within(None if grown.source is None else network.layers[grown.source], grown, path, before)


def _within(old: Layer | None, grown: Grown, path: str, before: str | None) -> Iterator[tuple[str, str | None, Grown]]:
    """A layer in place of an old one, or those that it is made of; as `_pairs`."""
    if isinstance(grown.layer, Parallel):
        sides = dict(zip(old.names, old.layers, strict=True)) if isinstance(old, Parallel) else {}
        known = grown.beside or [Grown(one, grown.source) for one in grown.layer.layers]
        for name, part in zip(grown.layer.names, known, strict=True):
            inner = f"{before}{name}/" if before is not None and name in sides else None
            yield from _within(sides.get(name), part, f"{path}{name}/", inner)
    elif grown.parts:
        assert isinstance(old, Factors)
        for name, one, part in zip(old.names, old.networks, grown.parts, strict=True):
            yield from _pairs(one, part, f"{path}{name}/", f"{before}{name}/")
    else:
        yield path, before, grown


def _begin(value: Tensor, name: str, grown: Grown) -> None:
    """Set a block `[out, ...]` of random values to what a layer's new parameters begin as."""
    if grown.source is None:
        value.copy_(torch.from_numpy((grown.layer.identity() or {})[name]))
    elif name not in _SCALES:
        value[slice(None) if grown.quiet or grown.rows is None else grown.rows] = 0.0


EDITS: dict[str, Callable[[Backbone, Any, str], _Growth]] = {
    "widen": _widen,
    "deepen": _deepen,
    "rank": _raise_rank,
    "insert": _insert,
}


def _recorded(network: Backbone, growth: _Growth, kind: str, amount: Any) -> Backbone:
    record = (kind, tuple(amount) if isinstance(amount, Sequence) else amount)
    return replace(_network(network, growth), edits=(*network.edits, record))


def _growth(network: Backbone, kind: str, amount: Any, key: str) -> _Growth:
    """The layers of a network after an edit."""
    if members_of(network):
        return _of_members(network, lambda one: EDITS[kind](one, amount, key))
    return EDITS[kind](network, amount, key)


def enlarged(network: Backbone, kind: str, amount: Any, key: str = "") -> Backbone:
    """Return the network that `edited` makes of one, without the map of parameters; `key` names it in messages."""
    return _recorded(network, _growth(network, kind, amount, key or kind), kind, amount)


def _insertions(coarse: Layer, fine: Layer, name: str = "layer_0/") -> dict[str, Nesting]:
    """Return the operators between a first layer and one with more knots, by block."""
    if isinstance(coarse, Parallel):
        assert isinstance(fine, Parallel)
        pairs = zip(coarse.names, coarse.layers, fine.layers, strict=True)
        return {k: v for key, one, other in pairs for k, v in _insertions(one, other, f"{name}{key}/").items()}
    assert isinstance(coarse, SplineLayer) and isinstance(fine, SplineLayer)
    return {f"{name}coefficients": coarse.spec.insertion(fine.spec)}


def edited(network: Backbone, kind: str, amount: Any, generator: np.random.Generator) -> Edit:
    """Return one of `EDITS` of a network: at A θ + b the new network is the same function as the old one at θ.

    The amount is a number of nodes (or a list, one per hidden layer), layers or products to be added, or a list of
    knots to be inserted; the generator draws what is random. Raises UserError if this network has no such edit.
    """
    growth = _growth(network, kind, amount, kind)
    after = _recorded(network, growth, kind, amount)
    if kind == "insert":
        return refinement(network, after, _insertions(network.layers[0], after.layers[0]))
    source = torch.full((after.size,), -1, device="cpu")  # number of the old parameter that each new one is
    offset = after.initial(generator)
    numbers, values = after.blocks.view(source), after.blocks.view(offset)
    old = network.blocks.view(torch.arange(network.size, device="cpu"))
    for new_path, old_path, grown in _pairs(network, growth):
        for name in grown.layer.blocks.shapes:
            value, known = values[new_path + name], old.get(f"{old_path}{name}")
            _begin(value, name, grown)
            if known is not None:
                given = zip((grown.rows, grown.columns), known.shape, strict=False)
                numbers[new_path + name][np.ix_(*(np.arange(n) if at is None else at for at, n in given))] = known
    kept = source >= 0
    offset[kept] = 0.0
    places = torch.empty(network.size, dtype=torch.int64, device="cpu")
    places[source[kept]] = torch.nonzero(kept)[:, 0]

    def linear(vector: Tensor) -> Tensor:
        out = vector.new_zeros(*vector.shape[:-1], after.size)
        out[..., places.to(vector.device)] = vector
        return out

    # A has orthonormal columns, so that its left inverse is Aᵀ.
    return Edit(network, after, linear, lambda gradient: gradient[..., places.to(gradient.device)], linear, offset)


def rebuilt(network: Backbone, edits: Iterable[tuple[str, Any]]) -> Backbone:
    """Return a network with the edits that another one of the same options has had."""
    for kind, amount in edits:
        network = enlarged(network, kind, amount)
    return network
