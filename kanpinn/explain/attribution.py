"""Attribution: how much the inputs, nodes and edges of a network matter to its outputs.

Scores of Liu et al. 2024 (KAN 2.0, arXiv:2408.10205, sec. 4.1), from the last layer to the first: with E the standard
deviation of an edge's values over the data and N that of the sum at a node,

    A_L = 1,    B_{l−1, ij} = A_{l, j} E_{l−1, ij} / N_{l, j},    A_{l−1, i} = Σ_j B_{l−1, ij}.

Both factors of a multiplication node have its score. The L1 norm of an edge (Liu et al. 2024, arXiv:2404.19756, eq.
2.17) does not know what the later layers make of it: a large edge may lead to a node that nothing uses. Scores are of
the network, not of its function: edges that cancel each other have large ones until training makes them sparse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.coefficients import Coefficients
from kanpinn.backbones.composite import Composite
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.layer import Layer, Parameters
from kanpinn.backbones.layers import Multiply
from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.symbolic_edges import SymbolicLayer
from kanpinn.errors import UserError
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde import Problem
from kanpinn.pde.problem import inside

Array = NDArray[np.float64]

POINTS = 2000
"""Points over which deviations are taken; fewer for networks of many inputs."""

WORK = 2_000_000
"""Most edges times points in one evaluation."""


@final
@dataclass(frozen=True)
class LayerScores:
    """Scores of one layer of edges, from p inputs to q sums.

    Attributes:
        number: Its place among the network's layers.
        products: How many pairs of its last sums are multiplied to nodes.
        lower: Smallest value that reaches each input `[p]`.
        upper: Largest value.
        mean: Mean of every edge's values `[q, p]`.
        deviation: Their standard deviation E `[q, p]`.
        norm: Their mean modulus, the L1 norm `[q, p]`.
        sums: Standard deviation N of every sum `[q]`.
        edges: Score B of every edge `[q, p]`, averaged over the network's outputs.
    """

    number: int
    products: int
    lower: Array
    upper: Array
    mean: Array
    deviation: Array
    norm: Array
    sums: Array
    edges: Array


@final
@dataclass(frozen=True)
class Attribution:
    """Scores of a network's edges and nodes.

    Attributes:
        layers: Its layers of edges, in order.
        nodes: Score A of the nodes before each of them, `[nodes]`, and of the outputs; averaged over the outputs.
        inputs: Score A of the network's inputs by output, `[outputs, inputs]`.
        names: Names of the inputs.
        coordinates: The coordinate that each input is of; "" for one of several.
    """

    layers: tuple[LayerScores, ...]
    nodes: tuple[Array, ...]
    inputs: Array
    names: tuple[str, ...]
    coordinates: tuple[str, ...]


class Solved(Protocol):
    """Anything that has a problem with its network and the network's parameters, such as `kanpinn.Solution`."""

    residuals: Residuals
    theta: Tensor


def attribution(solution: Solved, points: Array | None = None) -> Attribution:
    """Score the edges and nodes of a solution's network.

    Args:
        solution: The solution.
        points: Points `[N, d]` over which deviations are taken; uniform ones of the domain by default.

    Raises:
        UserError: If the network has no edges to score.
    """
    backbone = solution.residuals.backbone
    if points is None:
        points = domain_points(solution.residuals.problem, POINTS)
    return scores(backbone, solution.theta, torch.from_numpy(points))


def domain_points(problem: Problem, count: int, seed: int = 0) -> Array:
    """Draw about so many points of a domain, uniformly, `[N, d]`."""
    domain, generator = problem.domain, np.random.default_rng(seed)
    share, points = 1.0, np.empty((0, len(domain.names)))
    for _ in range(3):
        drawn = generator.uniform(domain.lower, domain.upper, (int(count / share), len(domain.names)))
        part = inside(problem, torch.from_numpy(drawn))
        points = drawn if part is None else drawn[part.cpu().numpy()]
        if len(points) >= count / 2:
            break
        share = max(len(points) / len(drawn), 1e-3)
    return points[:count]


def no_edges(backbone: Backbone) -> str:
    """Return the reason why a network has no edges to score; "" if it has some."""
    for layer in backbone.layers:
        if isinstance(layer, Composite):
            slabs = layer.names[0].startswith("slab_")
            return "it is several networks, one per time slab" if slabs else "its coordinates' networks are multiplied"
    return ""


def scores(backbone: Backbone, theta: Tensor, points: Tensor) -> Attribution:
    """Score a network's edges and nodes.

    Args:
        backbone: The network.
        theta: Its parameters `[P]`.
        points: Points of its domain `[N, d]`.

    Raises:
        UserError: If the network has no edges to score.
    """
    reason = no_edges(backbone)
    if reason:
        raise UserError(f"edges of the network cannot be scored: {reason}")
    layers = list(_measured(backbone, theta, points))
    outputs = len(layers[-1].sums)
    at_nodes, found, kept = np.eye(outputs), [np.ones(outputs) / outputs], []
    for layer in reversed(layers):
        passed = len(layer.sums) - 2 * layer.products
        at_sums = np.concatenate([at_nodes[:, :passed], np.repeat(at_nodes[:, passed:], 2, axis=1)], axis=1)
        size = np.where(layer.sums > 0, layer.sums, np.inf)
        edges = (at_sums / size)[:, :, None] * layer.deviation  # (outputs, q, p)
        at_nodes = edges.sum(1)
        kept.append(replace(layer, edges=edges.mean(0)))
        found.append(at_nodes.mean(0))
    names, coordinates = zip(*input_names(backbone.embedding), strict=True)
    return Attribution(tuple(reversed(kept)), tuple(reversed(found)), at_nodes, names, coordinates)


def _measured(backbone: Backbone, theta: Tensor, points: Tensor) -> Iterator[LayerScores]:
    """Carry points through the network; yield every layer of edges with all but its scores."""
    space = JetSpace(backbone.embedding.names, ())
    widest = max((max(shape[:1] or (1,)) for shape in backbone.blocks.shapes.values()), default=1)
    most = max(100, WORK // (backbone.embedding.width * widest))
    waiting: LayerScores | None = None
    with torch.no_grad():
        data = backbone.embedding.forward(points.to(theta)[:most], space)
        for k, (layer, own) in enumerate(zip(backbone.layers, backbone.arrays(theta), strict=True)):
            if isinstance(layer, Coefficients):
                break
            if isinstance(layer, Multiply) and waiting is not None:
                waiting = replace(waiting, products=layer.products)
            before, data = data, layer.forward(own, data, space)[0]
            if layer.size:
                if waiting is not None:
                    yield waiting
                waiting = _statistics(k, layer, own, before, data, space)
    if waiting is not None:
        yield waiting


def _statistics(
    number: int, layer: Layer, own: Parameters, before: Tensor, after: Tensor, space: JetSpace
) -> LayerScores:
    inputs, sums = before.shape[-1], after.shape[-1]
    mean, deviation, norm = (np.zeros((sums, inputs)) for _ in range(3))
    for p in range(inputs):
        values = edge_values(layer, own, before, p, space)  # (N, q)
        mean[:, p] = values.mean(0).numpy(force=True)
        deviation[:, p] = values.std(0, correction=0).numpy(force=True)
        norm[:, p] = values.abs().mean(0).numpy(force=True)
    least, most = (one.double().numpy(force=True) for one in torch.aminmax(before[0], dim=0))
    total = after[0].double().std(0, correction=0).numpy(force=True)
    return LayerScores(number, 0, least, most, mean, deviation, norm, total, np.zeros((sums, inputs)))


def edge_values(layer: Layer, own: Parameters, data: Tensor, p: int, space: JetSpace) -> Tensor:
    """Return the values `[N, q]` of the edges from input p to every sum of a layer, at its inputs `[1, N, p]`."""
    if isinstance(layer, Parallel):
        out = data.new_zeros(data.shape[1], 1 + max(map(max, layer.outputs)))
        for (one, parameters), inputs, outputs in zip(layer.own(own), layer.inputs, layer.outputs, strict=True):
            if p in inputs:
                part = data[..., list(inputs)]
                out[:, list(outputs)] += edge_values(one, parameters, part, inputs.index(p), space)
        return out.double()
    if isinstance(layer, SymbolicLayer):  # a function may be infinite where another edge's argument is 0
        return layer.column(p).forward({"affine": own["affine"][:, [p]]}, data[..., [p]], space)[0][0].double()
    alone = {name: torch.zeros_like(values) for name, values in own.items()}
    for name, values in own.items():
        if values.dim() > 1:  # all but biases are [out, in, …]
            alone[name][:, p] = values[:, p]
    return layer.forward(alone, data, space)[0][0].double()


def input_names(embedding: Embedding) -> list[tuple[str, str]]:
    """Return name and coordinate of each input of the first layer; "" for the coordinate of those of several."""
    found: list[tuple[str, str]] = []
    for name in embedding.names:
        turned = embedding.count(name) > 1
        found += [(f"cos {name}", name), (f"sin {name}", name)] if turned else [(name, name)]
    if embedding.frequencies is not None:
        found += [(f"{f} w{k + 1}", "") for k in range(embedding.frequencies.shape[1]) for f in ("cos", "sin")]
    rest = embedding.width - len(found)
    return [*found, *((f"input {k + 1}", "") for k in range(rest))]
