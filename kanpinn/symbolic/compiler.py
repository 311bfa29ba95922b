"""Compiler of formulas: an expression becomes the network that is the same function (KAN 2.0's kanpiler).

Liu et al. 2024 (arXiv:2408.10205), sec. 3.3. The expression is read as a graph of sums of functions of one node each,
and of products of two such sums. A node stands on the layer behind the last one it needs; identities carry the earlier
ones there. Where no nodes may be multiplied, with α, β the sizes of A and B,

    A B = αβ/4 ((A/α + B/β)² − (A/α − B/β)²).

Hidden nodes are scaled to [−1, 1], their factors moved into the edges before and behind them, so that splines added
later see values within their knots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone, Kan, MultKan
from kanpinn.backbones.edits import joining
from kanpinn.backbones.layer import packed
from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.symbolic_edges import VARIABLE, edge_function
from kanpinn.errors import UserError, needed
from kanpinn.symbolic.library import Array

NAMES = {"Abs": "abs"}
"""Functions that have another name in SymPy than in formulas of edges."""

FLAT = 1e-300
"""Width of a node's values below which it is a constant."""


@dataclass(frozen=True)
class Edge:
    """The function c f(a v + b) of a node v."""

    function: str
    source: int
    a: float
    b: float
    c: float

    def times(self, factor: float) -> Edge:
        """Return a multiple."""
        return replace(self, c=self.c * factor)


@dataclass(frozen=True)
class Sum:
    """A sum of edges and a constant."""

    edges: tuple[Edge, ...]
    constant: float = 0.0

    def times(self, factor: float) -> Sum:
        """Return a multiple."""
        return Sum(tuple(one.times(factor) for one in self.edges), self.constant * factor)

    def plus(self, other: Sum, factor: float = 1.0) -> Sum:
        """Return the sum with a multiple of another one."""
        return Sum((*self.edges, *other.times(factor).edges), self.constant + factor * other.constant)


class Graph:
    """The nodes of a formula, in an order in which none needs a later one.

    Attributes:
        nodes: Sums of each node, two of a product; none of a coordinate.
        depth: Layer behind which each stands.
    """

    def __init__(self, names: Sequence[str], *, products: bool) -> None:
        """Begin with the coordinates; `products` tells whether nodes may be multiplied."""
        self.sympy = needed("sympy", "a formula", "formulas")
        self._products = products
        self._places = {self.sympy.Symbol(name, real=True): k for k, name in enumerate(names)}
        self.nodes: list[tuple[Sum, ...]] = [() for _ in names]
        self.depth = [0 for _ in names]
        self._known: dict[tuple[Sum, ...], int] = {}

    def sum_of(self, e: Any) -> Sum:
        """Return an expression as a sum; raises UserError for one that is not made of functions, sums and products."""
        if not e.free_symbols:
            value = complex(e)
            if value.imag or not np.isfinite(value.real):
                raise UserError(f"compile: {e} is no real number")
            return Sum((), value.real)
        if e.is_Symbol:
            if e not in self._places:
                raise UserError(f"compile: {e} is no coordinate; expected one of {', '.join(map(str, self._places))}")
            return Sum((Edge(VARIABLE, self._places[e], 1.0, 0.0, 1.0),))
        if e.is_Add:
            total = Sum(())
            for part in e.args:
                total = total.plus(self.sum_of(part))
            return self._apart(total)
        if e.is_Mul:
            number, rest = e.as_independent(*e.free_symbols, as_Add=False)
            if number != 1:
                return self.sum_of(rest).times(self.sum_of(number).constant)
            return self._product([self.sum_of(part) for part in e.args])
        if e.is_Pow:
            base, power = e.args
            if power.free_symbols:
                return self._applied("exp(x)", self.sum_of(power * self.sympy.log(base)))
            return self._applied(f"x**({float(power)!r})" if power != 2 else "x**2", self.sum_of(base))
        name = type(e).__name__
        if not e.is_Function or len(e.args) != 1:
            raise UserError(f"compile: {e} is no sum, product or function of one variable")
        return self._applied(f"{NAMES.get(name, name)}({VARIABLE})", self.sum_of(e.args[0]))

    def _applied(self, function: str, inner: Sum) -> Sum:
        """A function of a sum."""
        edge_function(function)
        if len(inner.edges) == 1 and inner.edges[0].function == VARIABLE:
            (one,) = inner.edges
            return Sum((Edge(function, one.source, one.c * one.a, one.c * one.b + inner.constant, 1.0),))
        return Sum((Edge(function, self._node(inner), 1.0, 0.0, 1.0),))

    def _product(self, factors: list[Sum]) -> Sum:
        """The product of sums, in pairs."""
        while len(factors) > 1:
            left, right, *rest = factors
            if self._products:
                factors = [*rest, Sum((Edge(VARIABLE, self._node(left, right), 1.0, 0.0, 1.0),))]
                continue
            both = [self._node(self._apart(left.plus(right, sign))) for sign in (1.0, -1.0)]
            squares = [Edge("x**2", node, 1.0, 0.0, c) for node, c in zip(both, (0.25, -0.25), strict=True)]
            factors = [*rest, Sum(tuple(squares))]
        return factors[0]

    def _apart(self, total: Sum) -> Sum:
        """A sum with one edge from a node at most: like ones added up, further ones by nodes of their own."""
        merged: dict[tuple[Any, ...], Edge] = {}
        constant = total.constant
        for one in total.edges:
            if one.function == VARIABLE:  # c (a v + b) is c a v, and a constant
                constant += one.c * one.b
                one = Edge(VARIABLE, one.source, 1.0, 0.0, one.c * one.a)
            key = (one.function, one.source, one.a, one.b)
            merged[key] = replace(one, c=one.c + merged[key].c) if key in merged else one
        found: dict[int, Edge] = {}
        for one in merged.values():
            edge = one
            if one.source in found:
                edge = Edge(VARIABLE, self._node(Sum((one.times(1 / one.c),))), 1.0, 0.0, one.c) if one.c else one
            found[edge.source] = edge
        return Sum(tuple(found.values()), constant)

    def _node(self, *sums: Sum) -> int:
        if sums not in self._known:
            self._known[sums] = len(self.nodes)
            self.nodes.append(sums)
            self.depth.append(self.behind(sums))
        return self._known[sums]

    def behind(self, sums: Iterable[Sum]) -> int:
        """Return the layer behind which sums can stand."""
        return 1 + max((self.depth[one.source] for part in sums for one in part.edges), default=0)

    def sizes(self, points: Array, outputs: Sequence[Sum]) -> tuple[list[Array], Array, Array]:
        """Return, of every node, the sizes of its factors, and its middle and half width over points `[N, d]`.

        Raises:
            UserError: If one is no number somewhere.
        """
        values: list[Array] = list(points.T)
        factors: list[Array] = [np.ones(1) for _ in values]
        for sums in [*self.nodes[len(values) :], *((one,) for one in outputs)]:
            parts = [evaluated(one, values) for one in sums]
            if not all(np.isfinite(one).all() for one in parts):
                share = np.mean(np.any([~np.isfinite(one) for one in parts], axis=0))
                raise UserError(f"compile: the formula is no number in {share:.0%} of the domain")
            factors.append(np.array([np.abs(one).max() or 1.0 for one in parts]))
            values.append(np.prod(parts, axis=0))
        known = values[: len(self.nodes)]
        middle = np.array([(one.max() + one.min()) / 2 for one in known])
        half = np.array([(one.max() - one.min()) / 2 for one in known])
        half[half < FLAT] = 1.0
        for k, sums in enumerate(self.nodes):
            if len(sums) == 2:
                middle[k], half[k] = 0.0, float(np.prod(factors[k]))
        return factors, middle, half


def evaluated(one: Sum, values: Sequence[Array]) -> Array:
    """Return a sum `[N]` of nodes' values."""
    total = np.full(len(values[0]), one.constant)
    for edge in one.edges:
        inner = torch.from_numpy(edge.a * values[edge.source] + edge.b)
        total += edge.c * edge_function(edge.function)(inner, 0)[0].numpy()
    return total


@final
@dataclass(frozen=True)
class Compiled:
    """A network that is a formula.

    Attributes:
        options: Its options.
        affine: Numbers a, b, c, d of every edge, by layer, output and input.
    """

    options: Kan
    affine: Mapping[tuple[int, int, int], tuple[float, float, float, float]]

    def theta(self, network: Backbone, sizes: Sequence[float] = ()) -> Tensor:
        """Return the parameters `[P]` of the network that the options build, its outputs divided by sizes."""
        edged, found = joining(network), []
        for k in edged:
            layer = network.layers[k]
            assert isinstance(layer, Parallel)
            for inputs, outputs in zip(layer.inputs, layer.outputs, strict=True):
                rows = [[self.affine[edged.index(k), q, p] for p in inputs] for q in outputs]
                found.append(torch.tensor(rows, dtype=torch.float64))
                if k == edged[-1] and sizes:
                    found[-1][..., 2:] /= torch.tensor(sizes, dtype=torch.float64)[list(outputs), None, None]
        return packed(found)


def compiled(
    expressions: Sequence[Any], names: Sequence[str], lower: Array, upper: Array, *, products: bool = True
) -> Compiled:
    """Compile expressions into the network of which they are the outputs.

    Args:
        expressions: SymPy's expressions of the coordinates, one for each output.
        names: Names of the coordinates.
        lower: Lower ends of their intervals `[d]`.
        upper: Upper ends.
        products: False for a network without multiplication nodes.

    Raises:
        UserError: If an expression holds something else than functions of one variable, sums and products, or is no
            number somewhere in the box.
    """
    graph = Graph(names, products=products)
    sums = [graph.sum_of(one) for one in expressions]
    corners = np.stack([lower, upper])
    points = np.concatenate([corners, np.random.default_rng(0).uniform(lower, upper, (4000, len(names)))])
    factors, middle, half = graph.sizes(points, sums)
    middle[: len(names)], half[: len(names)] = (upper + lower) / 2, (upper - lower) / 2
    last = graph.behind(sums)
    layers = _Layers(graph, last, middle, half)
    for one in sums:
        layers.output(one)
    return layers.built(factors)


class _Layers:
    """The nodes of a graph laid out on layers, earlier ones carried to where they are needed."""

    def __init__(self, graph: Graph, last: int, middle: Array, half: Array) -> None:
        self._graph, self._middle, self._half = graph, middle, half
        coordinates = [k for k, sums in enumerate(graph.nodes) if not sums]
        self._nodes: list[list[int]] = [coordinates, *([] for _ in range(last - 1))]
        self._outputs: list[Sum] = []

    def output(self, one: Sum) -> None:
        """Lay out what an output needs."""
        self._outputs.append(one)
        self._need((one,), len(self._nodes))

    def _need(self, sums: Iterable[Sum], layer: int) -> None:
        for edge in (edge for one in sums for edge in one.edges):
            self._place(edge.source, layer - 1)

    def _place(self, node: int, layer: int) -> None:
        if node in self._nodes[layer]:
            return
        self._nodes[layer].append(node)
        if self._graph.depth[node] == layer:
            self._need(self._graph.nodes[node], layer)
        else:
            self._place(node, layer - 1)

    def built(self, factors: Sequence[Array]) -> Compiled:
        """Return the network."""
        graph, affine = self._graph, {}
        edges: list[list[list[int]]] = []
        symbolic: list[str] = []
        width, mult = [], []
        before = self._nodes[0]
        for layer, nodes in enumerate([*self._nodes[1:], []], start=1):
            own = [k for k in nodes if graph.depth[k] == layer and len(graph.nodes[k]) == 2]
            added = [k for k in nodes if k not in own]
            rows = [self._scaled(k, layer) for k in added]
            rows += [one.times(1 / size) for k in own for one, size in zip(graph.nodes[k], factors[k], strict=True)]
            rows = rows if layer < len(self._nodes) else self._outputs
            edges.append([])
            for q, row in enumerate(rows):
                found = self._edges(row, before)
                edges[-1].append(list(found))
                symbolic += [f"{layer - 1},{p}->{q}: {text}" for p, (text, _) in found.items()]
                affine |= {(layer - 1, q, p): numbers for p, (_, numbers) in found.items()}
            if layer < len(self._nodes):
                width, mult = [*width, len(added)], [*mult, len(own)]
            before = [*added, *own]
        known: dict[str, Any] = {"width": width, "squash": "none", "edges": edges, "symbolic": symbolic}
        return Compiled(MultKan(**known, mult=mult) if any(mult) else Kan(**known), affine)

    def _scaled(self, node: int, layer: int) -> Sum:
        """A node's sum within [−1, 1]; of one that stands on an earlier layer itself."""
        if self._graph.depth[node] < layer:
            # v = m + h v' is carried as v'.
            one = Edge(VARIABLE, node, 1 / self._half[node], -self._middle[node] / self._half[node], 1.0)
            return Sum((one,))
        (own,) = self._graph.nodes[node]
        return own.plus(Sum((), -self._middle[node])).times(1 / self._half[node])

    def _edges(self, row: Sum, before: Sequence[int]) -> dict[int, tuple[str, tuple[float, float, float, float]]]:
        """Function and numbers of every edge of a sum by input, of inputs within [−1, 1]; one that is zero for none."""
        found: dict[int, tuple[str, tuple[float, float, float, float]]] = {}
        for one in row.edges or (Edge(VARIABLE, before[0], 1.0, 0.0, 0.0),):
            a, b = one.a * self._half[one.source], one.a * self._middle[one.source] + one.b
            numbers = (float(a), float(b), one.c, row.constant if not found else 0.0)
            found[before.index(one.source)] = (one.function, numbers)
        return dict(sorted(found.items()))
