"""Layers side by side: networks, one for each group of unknowns, or the parts of a layer without some of its edges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.layer import Layer, Parameters, Shape, Support
from kanpinn.backbones.layers import Activation
from kanpinn.jets.jet import JetSpace
from kanpinn.splines.nesting import Nesting

NETWORKS = ("shared", "separate")

Places = tuple[int, ...]


class Known(NamedTuple):
    """Features of one of the layers.

    Attributes:
        channels: Numbers of the derivatives that it carries.
        features: Result of its `forward`.
    """

    channels: Places
    features: Any


@dataclass(frozen=True)
class Parallel(Layer):
    """Layers side by side, each of some of the inputs and for outputs of its own: a block-diagonal layer.

    A layer carries the derivatives by its own coordinates; its outputs do not depend on the others.

    Attributes:
        names: Name of each, under which its blocks stand.
        layers: The layers.
        coordinates: Coordinates that each depends on.
        inputs: Numbers of the inputs of each.
        outputs: Numbers of the outputs of each; together every output, those of several layers their sum.
        whole: The one layer that they are parts of (see `masks`); None for those of networks.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    coordinates: tuple[tuple[str, ...], ...]
    inputs: tuple[Places, ...]
    outputs: tuple[Places, ...]
    whole: Layer | None = None

    def shapes(self) -> dict[str, Shape]:
        return _merged(self.names, (one.shapes() for one in self.layers))

    def own(self, parameters: Parameters) -> list[tuple[Layer, dict[str, Tensor]]]:
        """Return each layer with its blocks."""
        each = zip(self.names, self.layers, strict=True)
        return [(one, {block: parameters[f"{name}/{block}"] for block in one.blocks.shapes}) for name, one in each]

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return _merged(self.names, (one.initial(generator) for one in self.layers))

    def resumed(self, parameters: Parameters) -> dict[str, Tensor]:
        return _merged(self.names, (one.resumed(own) for one, own in self.own(parameters)))

    def prepare(self, data: Tensor, space: JetSpace) -> list[Any]:
        each = zip(self.layers, _inputs(self, data, space), strict=True)
        return [one.prepare(part, own) for one, (part, own, _) in each]

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, list[Known]]:
        values, features = [], []
        together = zip(
            self.own(parameters), prepared or [None] * len(self.layers), _inputs(self, data, space), strict=True
        )
        for (one, own), done, (part, sub, channels) in together:
            value, known = one.forward(own, part, sub, done)
            if len(channels) < len(space):
                whole = value.new_zeros(len(space), *value.shape[1:])
                value = whole.index_copy(0, torch.tensor(channels, device=value.device), value)
            values.append(value)
            features.append(Known(channels, known))
        places, joined = [place for at in self.outputs for place in at], torch.cat(values, dim=-1)
        if len(set(places)) == len(places):
            return _taken(joined, tuple(np.argsort(places).tolist())), features
        out = joined.new_zeros(*joined.shape[:2], max(places) + 1)
        return out.index_add(2, torch.tensor(places, device=out.device), joined), features

    def jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, out: Tensor) -> None:
        parts = torch.split(out, [one.size for one in self.layers], dim=1)
        for (one, own, known, part), block in zip(_each(self, parameters, features, cotangent), parts, strict=True):
            if one.size:
                one.jacobian(own, known, part, block)

    def supports(self, features: Any) -> list[Support | int]:
        each = zip(self.layers, features, strict=True)
        return [support for one, known in each if one.size for support in one.supports(known.features)]

    def local_jacobians(self, parameters: Parameters, features: Any, cotangent: Tensor, order: Tensor) -> list[Tensor]:
        each = _each(self, parameters, features, cotangent)
        return [f for one, own, known, part in each if one.size for f in one.local_jacobians(own, known, part, order)]

    def jvp(self, parameters: Parameters, features: Any, cotangent: Tensor, tangent: Parameters) -> Tensor:
        total = cotangent.new_zeros(cotangent.shape[1])
        each = zip(_each(self, parameters, features, cotangent), self.own(tangent), strict=True)
        for (one, own, known, part), (_, change) in each:
            if one.size:
                total += one.jvp(own, known, part, change)
        return total

    def vjp(self, parameters: Parameters, features: Any, cotangent: Tensor, weights: Tensor) -> dict[str, Tensor]:
        each = _each(self, parameters, features, cotangent)
        return _merged(
            self.names, (one.vjp(own, known, part, weights) if one.size else {} for one, own, known, part in each)
        )

    def constants(self) -> dict[str, np.ndarray]:
        found = _merged(self.names, (one.constants() for one in self.layers))
        if self.whole is not None:
            for key in ("inputs", "outputs"):
                found |= {f"{n}/{key}": np.array(at) for n, at in zip(self.names, getattr(self, key), strict=True)}
        return found

    def attributes(self) -> dict[str, Any]:
        known = {key: value for one in reversed(self.layers) for key, value in one.attributes().items()}
        return {**known, "networks": ",".join(self.names)} if self.whole is None else known

    @property
    def kept(self) -> int:
        return sum(one.kept for one in self.layers)

    def cells(self, names: Iterable[str]) -> dict[str, int]:
        asked = list(names)
        each = zip(self.layers, self.coordinates, strict=True)
        return {name: count for one, own in each for name, count in one.cells(n for n in asked if n in own).items()}

    def breaks(self, names: Iterable[str]) -> dict[str, tuple[float, ...]]:
        asked = list(names)
        each = zip(self.layers, self.coordinates, strict=True)
        return {name: ends for one, own in each for name, ends in one.breaks(n for n in asked if n in own).items()}

    def refined(self) -> Parallel:
        whole = None if self.whole is None else self.whole.refined()
        return replace(self, layers=tuple(one.refined() for one in self.layers), whole=whole)

    def coarsened(self) -> Parallel | None:
        found = tuple(coarser for one in self.layers if (coarser := one.coarsened()) is not None)
        whole = None if self.whole is None else self.whole.coarsened()
        if len(found) < len(self.layers) or (whole is None) != (self.whole is None):
            return None
        return replace(self, layers=found, whole=whole)

    def resized(self, inputs: int, outputs: int) -> Layer:
        return super().resized(inputs, outputs) if self.whole is None else self.whole.resized(inputs, outputs)

    def nesting(self) -> dict[str, Nesting]:
        return _merged(self.names, (one.nesting() for one in self.layers))

    def raised(self, parameters: Parameters, values: Tensor) -> dict[str, Tensor] | None:
        found, values = [], values.clone()
        for (one, own), at in zip(self.own(parameters), self.outputs, strict=True):
            found.append(one.raised(own, values[list(at)]))
            values[list(at)] = 0  # an output of several layers is raised in the first
        return None if None in found else _merged(self.names, (one for one in found if one is not None))


def _merged(names: Iterable[str], found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Entries by block name, of the entries of each layer."""
    return {f"{n}/{key}": value for n, one in zip(names, found, strict=True) for key, value in one.items()}


def _each(
    layer: Parallel, parameters: Parameters, features: Sequence[Known], cotangent: Tensor
) -> Iterator[tuple[Layer, dict[str, Tensor], Any, Tensor]]:
    """Every layer: itself, its blocks, its features, its part of the cotangent."""
    for (one, own), known, at in zip(layer.own(parameters), features, layer.outputs, strict=True):
        yield one, own, known.features, _taken(cotangent, at, known.channels)


def _inputs(layer: Parallel, data: Tensor, space: JetSpace) -> Iterator[tuple[Tensor, JetSpace, Places]]:
    """Yield the input of every layer, the derivatives that it carries, and their numbers."""
    for at, names in zip(layer.inputs, layer.coordinates, strict=True):
        own, channels = restricted(space, names)
        yield _taken(data, at, channels), own, channels


def _taken(data: Tensor, places: Places, channels: Places | None = None) -> Tensor:
    """Return some of the numbers on the last axis, and some of the derivatives on the first (None for all)."""
    if channels is not None and len(channels) < len(data):
        data = data[list(channels)]
    first, end = places[0], places[-1] + 1
    if places == tuple(range(first, end)):
        return data if end - first == data.shape[-1] else data[..., first:end].contiguous()
    return data[..., list(places)]


@lru_cache
def restricted(space: JetSpace, names: tuple[str, ...]) -> tuple[JetSpace, Places]:
    """Return the derivatives by some coordinates only, and their numbers among those carried."""
    kept = [index for index in space.indices if set(index) <= set(names)]
    if len(kept) == len(space):
        return space, tuple(range(len(space)))
    own = JetSpace(names, tuple("_".join(index) for index in kept if index))
    return own, tuple(space.position(index) for index in own.indices)


@dataclass(frozen=True)
class Member:
    """One of several networks side by side.

    Attributes:
        name: Its name.
        coordinates: Coordinates that it depends on.
        inputs: Numbers of its inputs among those of the embedding.
        outputs: Numbers of its outputs among all.
        layers: Its layers.
    """

    name: str
    coordinates: tuple[str, ...]
    inputs: Places
    outputs: Places
    layers: tuple[Layer, ...]


def side_by_side(members: Sequence[Member]) -> tuple[Layer, ...]:
    """Return the layers of networks of equal depth, which stand side by side."""
    found: list[Layer] = []
    inputs = tuple(one.inputs for one in members)
    depth = len(members[0].layers)
    for k, row in enumerate(zip(*(one.layers for one in members), strict=True)):
        if isinstance(row[0], Activation):  # element by element, whatever the network
            found.append(row[0])
            continue
        ends = [0, *accumulate(_width(layer, len(at)) for layer, at in zip(row, inputs, strict=True))]
        outputs = tuple(tuple(range(start, end)) for start, end in pairwise(ends))
        if k == depth - 1:
            outputs = tuple(one.outputs for one in members)
        names, coordinates = (tuple(getattr(one, key) for one in members) for key in ("name", "coordinates"))
        found.append(Parallel(names, row, coordinates, inputs, outputs))
        inputs = outputs
    return tuple(found)


def _width(layer: Layer, inputs: int) -> int:
    """Number of a layer's outputs."""
    nothing = {name: torch.zeros(shape) for name, shape in layer.blocks.shapes.items()}
    return layer.forward(nothing, torch.zeros(1, 1, inputs), JetSpace((), ()))[0].shape[-1]


def joint_network(
    build: Callable[[Embedding, int], Backbone],
    embedding: Embedding,
    outputs: Sequence[str],
    depends: Mapping[str, tuple[str, ...]],
    networks: str,
) -> Backbone:
    """Return one network of as many as the outputs need.

    Args:
        build: Builds the network of an embedding for a number of outputs.
        embedding: Embedding of all coordinates.
        outputs: Names of the outputs.
        depends: Coordinates of the outputs that do not depend on all.
        networks: One of `NETWORKS`: shared by the outputs that depend on the same coordinates, or each its own.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for k, name in enumerate(outputs):
        own = tuple(one for one in embedding.names if one in depends.get(name, embedding.names))
        groups.setdefault((own, k if networks == "separate" else 0), []).append(k)
    if len(groups) == 1 and next(iter(groups))[0] == embedding.names:
        return build(embedding, len(outputs))
    members, grids = [], []
    for (own, _), numbers in groups.items():
        part, columns = embedding.restricted(own)
        one = build(part, len(numbers))
        members.append(Member("_".join(outputs[k] for k in numbers), own, columns, tuple(numbers), one.layers))
        grids.append(one.grid)
    return Backbone(embedding, side_by_side(members), grid=grids[0])


def members_of(network: Backbone) -> list[Member]:
    """Return the networks that stand side by side in one, without what is behind them all; none in another."""
    numbers = [k for k, layer in enumerate(network.layers) if _of_networks(layer)]
    found = []
    for k, name in enumerate(_parallel(network, numbers[0]).names if numbers else ()):
        first, last = _parallel(network, numbers[0]), _parallel(network, numbers[-1])
        behind = network.layers[: numbers[-1] + 1]
        own = (layer.layers[k] if _of_networks(layer) else layer for layer in behind)
        found.append(Member(name, first.coordinates[k], first.inputs[k], last.outputs[k], tuple(own)))
    return found


def _of_networks(layer: Layer) -> TypeGuard[Parallel]:
    """True for layers of networks side by side."""
    return isinstance(layer, Parallel) and layer.whole is None


def _parallel(network: Backbone, number: int) -> Parallel:
    layer = network.layers[number]
    assert isinstance(layer, Parallel)
    return layer
