"""Interfaces that lack a condition for a value or a flux, parameters and integrals that determine nothing."""

from __future__ import annotations

import numpy as np
import torch

from kanpinn.errors import UserError
from kanpinn.geometry import Interface, Points
from kanpinn.least_squares.claims import SHARE, every_term, held_by
from kanpinn.least_squares.points import INTERIOR, CollocationPoints
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import noise, random_parameters, size_of, sizes, smooth_network, trials
from kanpinn.pde import Problem
from kanpinn.pde.data import conditions_of
from kanpinn.samplers import CollocationSample


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
