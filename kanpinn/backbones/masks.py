"""Networks without some of their edges, or with known functions on some: from lists to layers, and to whole arrays.

Edges that are not there have no parameters: the layer becomes one dense layer for each set of inputs that some of its
outputs share, side by side, and one of known functions for each set that some outputs have in common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.layer import Layer
from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.symbolic_edges import SymbolicLayer, edge_function
from kanpinn.errors import UserError, invalid

Edges = list[list[list[int]]]
"""Per layer, per output, the numbers of the inputs that it sees."""

Known = dict[tuple[int, int], str]
"""Formulas of the symbolic edges of a layer, by output and input."""

_SYMBOLIC = re.compile(r"\s*(\d+)\s*,\s*(\d+)\s*->\s*(\d+)\s*:(.+)")
_MODULES = re.compile(r"\s*(\d+)\s*,\s*(\[[\d,\s]*\](?:\s*->\s*\[[\d,\s]*\])+)\s*")


def ends_of(layer: Layer) -> tuple[int, int] | None:
    """Return the numbers of outputs and inputs of a layer that joins nodes; None for another one."""
    if isinstance(layer, Parallel):
        return None if layer.whole is None else ends_of(layer.whole)
    shape = next(iter(layer.blocks.shapes.values()), ())
    return (shape[0], shape[1]) if len(shape) > 1 else None


def alive_edges(shapes: Sequence[tuple[int, int]], edges: Edges, modules: Sequence[str]) -> list[np.ndarray]:
    """Return the edges that are there, by layer, bool `[out, in]`.

    Args:
        shapes: Numbers of outputs and inputs of the layers.
        edges: The option `backbone.edges`; empty for all.
        modules: The option `backbone.modules`: "0,[0,1]->[0,1]->[2]->[0]" cuts, from layer 0 on, what joins nodes 0
            and 1 before it with others than nodes 0 and 1 behind it, then node 2 before layer 1 with others than node 0
            behind it, both ways (KAN 2.0, Liu et al. 2024, arXiv:2408.10205, and pykan's `module`).

    Raises:
        UserError: If they do not fit the network, or leave an output without inputs.
    """
    found = [np.ones(shape, dtype=bool) for shape in shapes]
    if edges and len(edges) != len(shapes):
        raise invalid("backbone.edges", edges, f"one list for each of the {len(shapes)} layers")
    for k, (rows, alive) in enumerate(zip(edges, found, strict=bool(edges))):
        outputs, inputs = alive.shape
        if len(rows) != outputs or not all(0 <= p < inputs for row in rows for p in row):
            text = f"for layer {k}, {outputs} lists of numbers from 0 to {inputs - 1}, the inputs of each output"
            raise invalid("backbone.edges", rows, text)
        for q, row in enumerate(rows):
            alive[q] = np.isin(np.arange(inputs), row)
    for text in modules:
        _cut(found, text)
    for k, alive in enumerate(found):
        if not alive.any(axis=1).all():
            key, value = ("modules", list(modules)) if modules else ("edges", edges[k])
            node = int(np.argmin(alive.any(axis=1)))
            raise invalid(
                f"backbone.{key}", value, f"an input for every output (layer {k} leaves output {node} without)"
            )
    return found


def _cut(alive: list[np.ndarray], text: str) -> None:
    """Cut the edges between a module and the rest."""
    parsed = _MODULES.fullmatch(text)
    groups = [] if parsed is None else [g.strip(" []") for g in parsed[2].split("->")]
    if parsed is None or len(groups) % 2 or not all(groups):
        expected = 'a layer and nodes before and behind each layer, such as "0,[0,1]->[0,1]->[0,1]->[0]"'
        raise invalid("backbone.modules", text, expected)
    for k, (before, behind) in enumerate(zip(groups[::2], groups[1::2], strict=True), start=int(parsed[1])):
        if k >= len(alive):
            raise invalid("backbone.modules", text, f"at most {len(alive)} layers, numbered from 0")
        members = []
        for group, count in zip((behind, before), alive[k].shape, strict=True):
            numbers = [int(part) for part in group.split(",") if part.strip()]
            if not all(number < count for number in numbers):
                raise invalid("backbone.modules", text, f"nodes from 0 to {count - 1} at layer {k} in [{group}]")
            members.append(np.isin(np.arange(count), numbers))
        alive[k] &= members[0][:, None] == members[1]


def symbolic_edges(alive: Sequence[np.ndarray], texts: Sequence[str]) -> list[Known]:
    """Return the formulas that the option `backbone.symbolic` gives, by layer.

    Args:
        alive: The edges that are there, by layer, bool `[out, in]`.
        texts: The option: "0,1->2: sin(x)" makes the edge from node 1 before layer 0 to node 2 behind it c sin(a x + b)
            + d.

    Raises:
        UserError: If a text is no such edge, or the edge is not there.
    """
    found: list[Known] = [{} for _ in alive]
    for text in texts:
        parsed = _SYMBOLIC.fullmatch(text)
        if parsed is None:
            expected = '"0,1->2: sin(x)": a layer, the nodes before and behind it, a formula of x'
            raise invalid("backbone.symbolic", text, expected)
        k, p, q = (int(number) for number in parsed.groups()[:3])
        if k >= len(alive) or q >= len(alive[k]) or p >= alive[k].shape[1] or not alive[k][q, p]:
            shapes = ", ".join(f"layer {n}: {one.shape[1]}->{one.shape[0]}" for n, one in enumerate(alive))
            raise invalid("backbone.symbolic", text, f"an edge that is there ({shapes})")
        if (q, p) in found[k]:
            raise invalid("backbone.symbolic", text, "one formula for an edge")
        try:
            edge_function(parsed[4].strip())
        except UserError as error:
            raise UserError(f"backbone.symbolic={text!r}: {error}") from None
        found[k][q, p] = parsed[4].strip()
    return found


def formulas_in(layer: Layer) -> Known:
    """Return the formulas of a layer's symbolic edges."""
    found: Known = {}
    parts = zip(layer.layers, layer.inputs, layer.outputs, strict=True) if isinstance(layer, Parallel) else ()
    for one, inputs, outputs in parts:
        for q, row in zip(outputs, one.functions if isinstance(one, SymbolicLayer) else (), strict=False):
            found |= {(q, p): text for p, text in zip(inputs, row, strict=True)}
    return found


def masked(layer: Layer, alive: np.ndarray, coordinates: Sequence[str], known: Mapping[tuple[int, int], str]) -> Layer:
    """Return a layer with those edges only that are alive, bool `[out, in]`; itself if all are.

    Edges with formulas are functions of these.

    Raises:
        UserError: If it is a layer that cannot have another size.
    """
    if alive.all() and not known:
        return layer
    learned: dict[tuple[int, ...], list[int]] = {}
    formulas: dict[tuple[tuple[int, str], ...], list[int]] = {}
    for q, row in enumerate(alive):
        own = tuple((p, known[q, p]) for p in np.flatnonzero(row).tolist() if (q, p) in known)
        rest = tuple(p for p in np.flatnonzero(row).tolist() if (q, p) not in known)
        if own:
            formulas.setdefault(own, []).append(q)
        if rest:
            learned.setdefault(rest, []).append(q)
    parts: list[tuple[str, Layer, tuple[int, ...], list[int]]] = [
        (f"node_{outputs[0]}", layer.resized(len(inputs), len(outputs)), inputs, outputs)
        for inputs, outputs in learned.items()
    ]
    for row, outputs in formulas.items():
        functions = (tuple(text for _, text in row),) * len(outputs)
        parts.append((f"node_{outputs[0]}_symbolic", SymbolicLayer(functions), tuple(p for p, _ in row), outputs))
    names, layers, inputs, outputs = zip(*parts, strict=True)
    return Parallel(names, layers, (tuple(coordinates),) * len(parts), inputs, tuple(map(tuple, outputs)), whole=layer)


def with_edges(
    layers: Sequence[Layer],
    edges: Edges,
    modules: Sequence[str],
    coordinates: Sequence[str],
    symbolic: Sequence[str] = (),
) -> tuple[Layer, ...]:
    """Return the layers of a network with those edges only that the options `backbone.edges` and `.modules` leave.

    Some of them are functions by the option `backbone.symbolic`.
    """
    shapes = {k: ends for k, layer in enumerate(layers) if (ends := ends_of(layer)) is not None}
    if not edges and not modules and not symbolic:
        return tuple(layers)
    alive = alive_edges(list(shapes.values()), edges, modules)
    found = dict(zip(shapes, zip(alive, symbolic_edges(alive, symbolic), strict=True), strict=True))
    return tuple(
        masked(layer, found[k][0], coordinates, found[k][1]) if k in found else layer for k, layer in enumerate(layers)
    )


def whole_blocks(layer: Layer, parameters: Mapping[str, Tensor], absent: float = 0) -> dict[str, Tensor]:
    """Return a layer's blocks, `[out, in, ...]` and `[out]`, with a number in the place of edges that are not there."""
    if not isinstance(layer, Parallel):
        return dict(parameters)
    found: dict[str, Tensor] = {}
    ends = ends_of(layer)
    assert ends is not None
    for (_, own), inputs, outputs in zip(layer.own(parameters), layer.inputs, layer.outputs, strict=True):
        for name, values in own.items():
            shape = (*ends, *values.shape[2:]) if values.dim() > 1 else ends[:1]
            if name not in found:
                found[name] = torch.full(shape, absent, dtype=values.dtype, device=values.device)
            places = np.ix_(outputs, inputs) if values.dim() > 1 else list(outputs)
            found[name][places] = values
    return found


def alive_in(layer: Layer) -> np.ndarray:
    """Return the edges of a layer that joins nodes, bool `[out, in]`."""
    ends = ends_of(layer)
    assert ends is not None
    if not isinstance(layer, Parallel):
        return np.ones(ends, dtype=bool)
    found = np.zeros(ends, dtype=bool)
    for inputs, outputs in zip(layer.inputs, layer.outputs, strict=True):
        found[np.ix_(outputs, inputs)] = True
    return found
