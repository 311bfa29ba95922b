"""Pieces of the boundary without a condition, and interfaces that lack one for a value or a flux."""

from __future__ import annotations

import numpy as np
import torch

from kanpinn.backbones.embedding import Embedding
from kanpinn.errors import UserError
from kanpinn.geometry import Interface, Piece, Points, Region
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.claims import SHARE, every_term, held_by
from kanpinn.least_squares.points import INTERIOR, CollocationPoints
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import noise, random_parameters, size_of, sizes, smooth_network, trials
from kanpinn.pde import Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.integral import Integral
from kanpinn.samplers import CollocationSample


def bare_pieces(problem: Problem, embedding: Embedding) -> list[str]:
    """Name the pieces of the boundary without any condition, where equations of their order ask for one.

    These are the first time of equations with derivatives in time, and all pieces in coordinates with second or higher
    derivatives, but the pole r = 0. Nothing is said of an ordinary equation with as many conditions as its order, at
    whatever end, nor where points or regions carry conditions: these may do as well. An integral over one coordinate,
    at all values of the others, stands for a condition at one of its ends; one over all of several coordinates is a
    number, and does not.
    """
    posed, domain = [condition for condition in conditions_of(problem) if not condition.joint], problem.domain
    supports = {support for condition in posed for support in condition.supports}
    names = {support for support in supports if isinstance(support, str)}
    if any(isinstance(support, Region) for support in supports):
        return []
    held = {piece.name: piece for name in names if "=" not in name for piece in domain.support(name)}
    wrapped = {*embedding.periodic, *embedding.symmetry, *(condition.periodic for condition in posed)}
    indices = JetSpace(domain.names, problem.derivatives).indices
    order = {name: max(index.count(name) for index in indices) for name in domain.names}
    if len(domain.names) == 1 and sum(len(condition.supports) for condition in posed) >= order[domain.names[0]]:
        return []

    def asks(piece: str) -> bool:
        name, end = piece[:-1].rpartition(".")[2], piece[-1]
        if name == "t":
            return end == "-" and order["t"] > 0
        if name not in order:
            return any(order[one] > 1 for one in order if one != "t")
        pole = name == "r" and end == "-" and domain.interval("r")[0] == 0
        return order[name] > 1 and name not in wrapped and not pole

    def left(name: str, piece: Piece) -> bool:
        edges = [
            one.chart.measure for key, one in held.items() if key.startswith(f"{name}.") and key not in domain.pieces
        ]
        return name not in held and piece.chart.measure > 1.01 * sum(edges)

    bare = [name for name, piece in domain.pieces.items() if asks(name) and left(name, piece)]
    for one in problem.conditions():
        if isinstance(one, Integral) and one.at is None:
            over = one.over.names if isinstance(one.over, Region) else one.over or domain.names
            over = (over,) if isinstance(over, str) else tuple(over)
            ends = [name for name in bare if over == (name[:-1].rpartition(".")[2],)]
            bare = [name for name in bare if name not in ends[:1]]
    return bare


def interfaces_too_free(residuals: Residuals, sample: CollocationSample) -> list[str]:
    """Say where unknowns may jump over an interface and no condition there holds their value, or their flux.

    Both are asked for of an unknown that has second derivatives in the equations.
    """
    problem = residuals.problem
    network = smooth_network(problem, residuals.backbone.embedding)
    plain, generator = Residuals(problem, network, scales=residuals.scales), np.random.default_rng(4)
    posed = {name: [on for on in one.supports if isinstance(on, Interface)] for name, one in plain.conditions.items()}
    if not any(posed.values()):
        return []
    orders = torch.tensor([len(index) for index in plain.space.indices])[:, None]
    found, second, lines = trials(plain, every_term(plain, sample)), set[str](), []
    theta = random_parameters(network, generator, found[0].points.points)
    jumping, held = dict[str, set[str]](), dict[tuple[str, str], set[str]]()
    for trial in found:
        points = trial.at(torch.arange(trial.count))
        fields = trial.fields(trial.outputs(network, theta), points)
        changes = noise(fields, sizes([fields]), 0.5, generator)
        parts = {"value": orders == 0, "flux": orders > 0, "second": orders > 1}
        seen = {
            part: held_by(trial, fields, points, {name: one * mask for name, one in changes.items()})
            for part, mask in parts.items()
        }
        if trial.name == INTERIOR:
            second = seen["second"]
        for on in map(str, posed.get(trial.name, [])):
            sides = {name: jet.value.unflatten(0, (2, -1)) for name, jet in fields.items()}
            jumping.setdefault(on, set()).update(
                n for n, (p, q) in sides.items() if size_of(p - q) > SHARE * size_of(p)
            )
            for part in ("value", "flux"):
                held.setdefault((on, part), set()).update(seen[part])
    for (on, part), names in held.items():
        here = ", ".join(name for name, interfaces in posed.items() if on in map(str, interfaces))
        if free := [name for name in problem.unknowns if name in (second & jumping[on]) - names]:
            lines.append(
                f"no condition holds the {part} of {', '.join(free)} at the interface of {here}, where it may jump"
            )
    return lines


def check_parameters(residuals: Residuals, sample: CollocationSample) -> None:
    """Refuse a parameter on which no equation and no condition depends; raises UserError.

    Nothing is said where a form of the problem's own may depend on it.
    """
    problem = residuals.problem
    if not problem.parameters or type(problem).ansatz is not Problem.ansatz or residuals.exact:
        return
    network = smooth_network(problem, residuals.backbone.embedding)
    plain = Residuals(problem, network, scales=residuals.scales)
    found = trials(plain, every_term(plain, sample))
    theta = random_parameters(network, np.random.default_rng(7), found[0].points.points)
    idle = {*problem.parameters}
    for trial in found:
        points = trial.at(torch.arange(trial.count))
        fields = trial.fields(trial.outputs(network, theta), points)
        before = trial.of_fields(fields, points)
        for name in sorted(idle):
            at, column = points.points.clone(), problem.domain.names.index(name)
            at[:, column] = at[:, column].flip(0)
            after = trial.of_fields(fields, CollocationPoints(at, points.terms))
            if any(bool((after[one] != value).any()) for one, value in before.items()):
                idle.remove(name)
    if idle:
        name = sorted(idle)[0]
        raise UserError(f"parameters={{{name}: …}}: no equation and no condition depends on {name}")


def numbers(problem: Problem) -> list[str]:
    """Name the integral conditions that are one number each: over all coordinates, a region or a piece of boundary."""
    joint = {condition.name: condition.supports[0] for condition in conditions_of(problem) if condition.joint}
    return [name for name, support in joint.items() if isinstance(support, Points) and len(support.values) == 1]
