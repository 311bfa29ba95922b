"""Functions for the edges of a trained network, one after the other, each judged by the error of the whole.

An edge alone says little: many functions come within a few percent of a learned curve (the chief complaint about
choosing by the fit of each, pykan's issues 206, 349, 480). So a function from the library, fitted to the curve as
c f(a x + b) + d, takes the edge's place, all parameters of the network are trained on with it, and it stays if the
validation error is about what it was; else the next function is tried, or the edge stays learned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import hidden_layers, joining
from kanpinn.backbones.layer import Layer
from kanpinn.backbones.layers import Activation, Multiply
from kanpinn.backbones.masks import alive_in, ends_of, formulas_in, whole_blocks
from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.pruning import alive_of, regrouped, wholes
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.errors import UserError, needed
from kanpinn.explain.attribution import domain_points, edge_values
from kanpinn.jets.jet import JetSpace
from kanpinn.pde import Problem
from kanpinn.pde.table import Table
from kanpinn.solver.pruned import Pruned
from kanpinn.solver.pruning import Pruner
from kanpinn.symbolic.curves import single_fits
from kanpinn.symbolic.library import Form, library
from kanpinn.symbolic.patience import within

WORSE = 1.5
"""Factor by which the validation error may grow with each function."""

CURVE = 200
"""Points of an edge's curve."""

CLOSE = 10.0
"""Functions that miss this multiple of what the best one misses are tried too."""

ROUGHEST = 0.2
"""Largest share of a curve's deviation that a function may miss to be tried."""

TRIED = 4
"""Most functions tried for an edge."""

POINTS = 2000
"""Points of the domain at which the values that reach an edge are taken."""

FLAT = 1e-300
"""Least half of a node's width, which may be 0."""

VALUES = JetSpace((), ())
"""Space without derivatives."""

Edge = tuple[int, int, int]
"""Number of a layer with edges, output and input."""

POWERS = (Form("x", 0), Form("x**2", 1), Form("x**3", 2))
"""Functions beside those of the library."""


@dataclass(frozen=True)
class Fixed:
    """A function tried for an edge.

    Attributes:
        edge: The edge in words.
        function: The function.
        missed: Share of the curve's deviation that it missed before training on.
        error: Validation error with it.
        kept: True if it stays.
    """

    edge: str
    function: str
    missed: float
    error: float
    kept: bool


def fixed(
    start: Pruned,
    worse: float = WORSE,
    forms: Sequence[str] = (),
    seconds: float = np.inf,
    tell: Callable[[Fixed], None] = lambda _: None,
) -> Pruned:
    """Return a network with functions for as many of its edges as can have one.

    Args:
        start: The network.
        worse: Factor by which the validation error may grow with each.
        forms: Further functions of x, such as "x*exp(-x)".
        seconds: Processor time after which no further edge is begun.
        tell: Hears of every trial.

    Raises:
        UserError: If it is no network of splines.
    """
    best, end = _without_squash(start, worse), time.process_time() + seconds
    known = (*POWERS, *library(forms))
    edges = _learned(best)
    fits = {edge: _candidates(best, edge, known) for edge in edges}
    for edge in sorted(edges, key=lambda one: fits[one][0][2] if fits[one] else np.inf):
        if time.process_time() > end:
            break
        pruner = Pruner(best, worse)
        for form, numbers, missed in _candidates(best, edge, known):
            found = pruner.fit(_with_function(best, edge, form.text, numbers))
            kept = found.error <= worse * best.error
            k, q, p = edge
            tell(Fixed(f"edge from node {p} to node {q} of layer {k + 1}", form.text, missed, found.error, kept))
            if kept:
                best = found
                break
    return best


def _texts(one: Pruned) -> list[str]:
    """The option `backbone.symbolic` of a network; raises UserError for one that has no such."""
    texts = getattr(one.setup.backbone, "symbolic", None)
    if texts is None:
        raise UserError("functions are found for edges of splines only; expected backbone=kan or multkan")
    return list(texts)


def _learned(one: Pruned) -> list[Edge]:
    """The edges without a function."""
    alive, done = alive_of(one.network), [formulas_in(one.network.layers[k]) for k in joining(one.network)]
    every = [(k, int(q), int(p)) for k, layer in enumerate(alive) for q, p in np.argwhere(layer)]
    return [edge for edge in every if edge[1:] not in done[edge[0]]]


def _values(one: Pruned) -> list[tuple[Layer, dict[str, Tensor], Tensor]]:
    """Every layer with edges, its blocks, and its inputs `[1, N, in]` at points of the domain or rows trained."""
    problem, found = one.setup.problem, []
    points = problem.points("train") if isinstance(problem, Table) else domain_points(problem, POINTS)
    space = JetSpace(one.network.embedding.names, ())
    with torch.no_grad():
        data = one.network.embedding.forward(torch.from_numpy(points).to(one.theta), space)
        for layer, own in zip(one.network.layers, one.network.arrays(one.theta), strict=True):
            if ends_of(layer) is not None:
                found.append((layer, own, data))
            data = layer.forward(own, data, space)[0]
    return found


def _candidates(best: Pruned, edge: Edge, forms: Sequence[Form]) -> list[tuple[Form, tuple[float, ...], float]]:
    """Functions that come close to an edge's curve with their numbers a, b, c, d, and what they miss; simplest first.

    The first one misses least.
    """
    number, q, p = edge
    layer, own, data = _values(best)[number]
    x = torch.linspace(float(data[0, :, p].min()), float(data[0, :, p].max()), CURVE, dtype=data.dtype)
    line = data.new_zeros(1, CURVE, data.shape[-1])
    line[0, :, p] = x
    with torch.no_grad():
        y = edge_values(layer, own, line, p, VALUES)[:, q].cpu().numpy()
    found = [one for one in single_fits(x.cpu().numpy(), y, forms) if one[2] <= ROUGHEST]
    close = [one for one in found if one[2] <= CLOSE * found[0][2]]
    rest = sorted(close[1:TRIED], key=lambda one: one[0].complexity)
    return [*close[:1], *rest]


def _with_function(best: Pruned, edge: Edge, function: str, numbers: Sequence[float]) -> Pruned:
    """The network with a function on one more edge, not trained yet."""
    number, q, p = edge
    blocks = wholes(best.network, best.theta)
    sized = [layer for layer in best.network.layers if layer.size]
    k = sized.index(best.network.layers[joining(best.network)[number]])
    shape = (*alive_of(best.network)[number].shape, 4)
    affine = blocks[k].get("affine", best.theta.new_zeros(shape)).clone()
    affine[q, p] = affine.new_tensor(numbers)
    blocks[k] = {**blocks[k], "affine": affine}
    options: Any = best.setup.backbone
    return _rebuilt(best, replace(options, symbolic=[*options.symbolic, f"{number},{p}->{q}: {function}"]), blocks)


def _rebuilt(one: Pruned, options: Any, blocks: Sequence[dict[str, Tensor]]) -> Pruned:
    """A network of other options, its layers with parameters given as whole blocks; its error is not known yet."""
    setup = replace(one.setup, backbone=options)
    network = setup.network()
    while network.level < one.network.level:
        network = network.refined()
    return replace(one, setup=setup, network=network, theta=regrouped(blocks, network), error=math.inf)


def _without_squash(start: Pruned, worse: float) -> Pruned:
    """The network without what keeps hidden values within the knots: these are scaled, and edges behind refitted."""
    options: Any = start.setup.backbone
    texts, squash = _texts(start), [one for one in start.network.layers if isinstance(one, Activation)]
    if not squash:
        return start
    specs = _specs(start.network)
    if texts or options.first != "spline" or any(one.base or one.bias for one in specs) or not specs:
        expected = "backbone.squash=none, or splines alone: backbone.first=spline, base=false, bias=false, symbolic=[]"
        raise UserError(f"functions are found for edges that see sums as they are; expected {expected}")
    spec, *_ = specs  # all have the same knots
    place = np.cos(np.linspace(np.pi, 0, 6 * spec.width))
    basis = BSpline.design_matrix(place, np.asarray(spec.knot_vector()), spec.degree).toarray()
    layers, blocks = _values(start), wholes(start.network, start.theta)
    for k, (_, second, between) in enumerate(hidden_layers(start.network)):
        layer, own, data = layers[k]
        sums = between.forward({}, layer.forward(own, data, VALUES)[0], VALUES)[0][0]
        low, high = sums.amin(0), sums.amax(0)
        middle, half = (high + low) / 2, (high - low) / 2
        middle[between.additions :], half[between.additions :] = 0, sums[:, between.additions :].abs().amax(0)
        half = half.clamp(min=FLAT)
        first = torch.cat([half[: between.additions], half[between.additions :].repeat_interleave(2)])
        first[between.additions + 1 :: 2] = 1.0  # of a product one factor is scaled
        coefficients = blocks[k]["coefficients"] / first[:, None, None]
        for q in range(between.additions):  # B-splines add up to 1
            p = int(np.flatnonzero(alive_of(start.network)[k][q])[0])
            coefficients[q, p] -= middle[q] / half[q]
        blocks[k] = {**blocks[k], "coefficients": coefficients}
        inner = half.new_tensor(place)[:, None] * half + middle
        seen = squash[0].forward({}, inner[None], VALUES)[0]
        after, learned = layers[k + 1][0], blocks[k + 1]["coefficients"].clone()
        assert after is start.network.layers[second]
        for p in range(seen.shape[-1]):
            values = edge_values(after, layers[k + 1][1], seen, p, VALUES).cpu().numpy()
            learned[:, p] = torch.from_numpy(np.linalg.lstsq(basis, values, rcond=None)[0].T)
        blocks[k + 1] = {**blocks[k + 1], "coefficients": learned}
    return Pruner(start, worse).fit(_rebuilt(start, replace(options, squash="none"), blocks))


def _specs(network: Backbone) -> list[SplineSpec]:
    """The splines of all layers with edges; none where some are of another kind."""
    layers: list[Layer] = []
    for k in joining(network):
        layer = network.layers[k]
        layers += layer.layers if isinstance(layer, Parallel) else [layer]
    found = [layer.spec for layer in layers if isinstance(layer, SplineLayer)]
    return found if len(found) == len(layers) else []


def expressions_of(found: Pruned) -> dict[str, Any] | None:
    """Return SymPy's expression of every unknown.

    None where an edge is learned, an input is no coordinate, or the unknowns are others than the network's outputs.
    """
    sympy = needed("sympy", "a closed form", "formulas")
    network, problem = found.network, found.setup.problem
    names = problem.domain.names
    if found.setup.exact or type(problem).ansatz is not Problem.ansatz:
        return None
    if _learned(found) or network.embedding.width != len(names) or not all(map(network.embedding.scaled, names)):
        return None
    nodes: list[Any] = []
    for name in names:
        low, high = problem.domain.interval(name)
        nodes.append((2 * sympy.Symbol(name, real=True) - sympy.Float(low + high)) / sympy.Float(high - low))
    for layer, own in zip(network.layers, network.arrays(found.theta), strict=True):
        if isinstance(layer, Multiply):
            pairs = zip(nodes[layer.additions :: 2], nodes[layer.additions + 1 :: 2], strict=True)
            nodes = [*nodes[: layer.additions], *(left * right for left, right in pairs)]
        elif ends_of(layer) is not None:
            sums: list[Any] = [0] * len(alive_in(layer))
            affine = whole_blocks(layer, own)["affine"]
            for (q, p), text in formulas_in(layer).items():
                a, b, c, d = (sympy.Float(float(one)) for one in affine[q, p])
                sums[q] += c * Form(text, 0).of(a * nodes[p] + b) + d
            nodes = sums
    sizes = found.setup.scales.outputs or (1.0,) * len(problem.unknowns)
    whole = {name: sympy.Float(size) * node for name, size, node in zip(problem.unknowns, sizes, nodes, strict=False)}
    return {name: within(lambda one=one: sympy.powsimp(sympy.expand(one)), one) for name, one in whole.items()}
