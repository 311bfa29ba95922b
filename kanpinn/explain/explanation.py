"""Explanation of a solution: who matters, how its functions are built, and all that a drawing needs; plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.layer import Layer
from kanpinn.backbones.layers import Linear
from kanpinn.backbones.masks import formulas_in
from kanpinn.backbones.parallel import Parallel
from kanpinn.errors import UserError
from kanpinn.explain.attribution import (
    POINTS,
    Array,
    Attribution,
    domain_points,
    edge_values,
    no_edges,
    scores,
)
from kanpinn.explain.learned import learned
from kanpinn.explain.modules import arranged, connection_cost
from kanpinn.explain.sensitivity import total_indices
from kanpinn.explain.support import warnings_of
from kanpinn.explain.tree import tree
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.table import Table

SCHEMA_VERSION = 1

CURVE = 61
"""Points of an edge's curve."""

ROUGHEST = 0.05
"""Relative error of a function above which nothing is said of its structure."""

FINEST = 1e-9
"""Relative error below which rounding decides about differences."""


def explanation(residuals: Residuals, theta: Tensor, errors: Mapping[str, float | None]) -> dict[str, Any]:
    """Explain a solution.

    Args:
        residuals: The problem and its network.
        theta: The network's parameters `[P]`.
        errors: Relative error of each unknown; None where it is not known.

    Returns:
        The content of explanation.json, see docs/explain.md.

    Raises:
        UserError: If the network's values are not finite.
    """
    problem = residuals.problem
    points = problem.points("train") if isinstance(problem, Table) else domain_points(problem, POINTS)
    points = points[:POINTS]
    network, found = _network(residuals, theta, points)
    inputs, structure = {}, {}
    for name in problem.unknowns:
        whole = learned(residuals, theta, name, max(errors.get(name) or 0.0, FINEST))
        if not np.isfinite(whole.value(points)).all():
            raise UserError(f"{name}: the network's values are not finite; there is nothing to explain")
        sobol = total_indices(whole.value, problem, points)
        own = {} if found is None else _scores(found, residuals, name)
        inputs[name] = {one: {"sobol_total": sobol[one], "score": own.get(one)} for one in problem.domain.names}
        structure[name] = _structure(whole, errors.get(name))
    warnings = warnings_of(problem.points("train"), problem.domain.names) if isinstance(problem, Table) else []
    known = {"inputs": inputs, "structure": structure, "warnings": warnings, "network": network}
    return {"schema_version": SCHEMA_VERSION, **known}


def _structure(whole: Any, error: float | None) -> dict[str, Any]:
    """The tree of one unknown, or the reason why there is none."""
    nothing = {"form": None, "tree": None, "tolerance": error}
    if error is None:
        return {**nothing, "reason": "its error is not known; give --tolerance, the relative size of it"}
    if not error <= ROUGHEST:
        return {**nothing, "reason": f"its error is {error:.1e}; structure needs one below {ROUGHEST:g}"}
    found = tree(whole)
    return {"form": found.form, "tree": found.plain(), "tolerance": whole.tolerance, "reason": ""}


def _scores(found: Attribution, residuals: Residuals, unknown: str) -> dict[str, float]:
    """The scores of the coordinates for one unknown; those of inputs made of several coordinates belong to none."""
    own = dict.fromkeys(residuals.problem.domain.names, 0.0)
    for score, coordinate in zip(
        found.inputs[_outputs(residuals, found).index(unknown)], found.coordinates, strict=True
    ):
        if coordinate:
            own[coordinate] += float(score)
    return own


def _outputs(residuals: Residuals, found: Attribution) -> list[str]:
    """Names of the network's outputs: unknowns, and numbers of any others."""
    names = list(residuals.problem.unknowns)
    return [*names, *(f"output {k + 1}" for k in range(len(names), len(found.inputs)))]


def _network(residuals: Residuals, theta: Tensor, points: Array) -> tuple[dict[str, Any], Attribution | None]:
    """The drawing's content, and the scores; a reason in place of both where there are no edges."""
    backbone = residuals.backbone
    reason = no_edges(backbone)
    empty = {"inputs": [], "outputs": [], "layers": [], "nodes": [], "order": [], "connection_cost": None}
    if reason:
        return {**empty, "reason": f"no edges to draw: {reason}"}, None
    found = scores(backbone, theta, torch.from_numpy(points))
    if all(_weights(backbone.layers[layer.number]) for layer in found.layers):
        return {**empty, "reason": "no functions to draw: the network's edges are weights"}, found
    orders = arranged(found)
    plain = [list(range(len(order))) for order in orders]
    return {
        "inputs": list(found.names),
        "outputs": _outputs(residuals, found),
        "nodes": [nodes.tolist() for nodes in found.nodes],
        "order": orders,
        "connection_cost": {"before": connection_cost(found, plain), "after": connection_cost(found, orders)},
        "layers": [_layer(residuals, theta, layer) for layer in found.layers],
        "reason": "",
    }, found


def _weights(layer: Layer) -> bool:
    """Tell whether a layer's edges are weights only."""
    return all(map(_weights, layer.layers)) if isinstance(layer, Parallel) else isinstance(layer, Linear)


def _layer(residuals: Residuals, theta: Tensor, layer: Any) -> dict[str, Any]:
    """A layer's edges with their scores and curves over the values that reach them."""
    backbone = residuals.backbone
    own, space = backbone.arrays(theta)[layer.number], JetSpace(backbone.embedding.names, ())
    x = np.linspace(layer.lower, layer.upper, CURVE)  # (CURVE, p)
    data = torch.from_numpy(x).to(theta)[None]
    edges, known = [], formulas_in(backbone.layers[layer.number])
    with torch.no_grad():
        for p in range(x.shape[1]):
            values = edge_values(backbone.layers[layer.number], own, data, p, space).numpy(force=True)
            edges += [
                {
                    "from": p,
                    "to": q,
                    "score": float(layer.edges[q, p]),
                    "deviation": float(layer.deviation[q, p]),
                    "norm": float(layer.norm[q, p]),
                    "x": _short(x[:, p]),
                    "y": _short(values[:, q]),
                    "symbol": known.get((q, p)),
                }
                for q in range(values.shape[1])
                if layer.deviation[q, p] > 0
            ]
    return {"sums": len(layer.sums), "products": layer.products, "edges": edges}


def _short(values: Array) -> list[float]:
    return [float(f"{one:.6g}") for one in values]
