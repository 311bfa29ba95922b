"""Coefficients that data and conditions cannot see, from what each equation holds, before anything is solved.

Equations, conditions and data are rows, unknowns and coefficients columns of a pattern. The equations determine as many
unknowns, one each; a coefficient needs one row more. It has one where an alternating path leads to it: from the
coefficient to a row that holds it, from there to the unknown that this row determines, which is free then, to a row
that holds that one, and so on, to a row that nothing needs yet (Dulmage and Mendelsohn, Canad. J. Math. 10 (1958) 517;
Pothen and Fan, ACM Trans. Math. Softw. 16 (1990) 303). Rows that nothing needs yet are data, but for values at points
where a condition gives them anyway, and conditions and integrals beyond the order of the equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from kanpinn.backbones import Backbone
from kanpinn.errors import UserError
from kanpinn.geometry import Box, Points
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.claims import every_term
from kanpinn.least_squares.order import more_conditions
from kanpinn.least_squares.points import INTERIOR
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import Trial, noise, random_parameters, responses, sizes, smooth_network, trials
from kanpinn.pde import Condition, Problem
from kanpinn.pde.condition import claimed
from kanpinn.pde.data import Difference
from kanpinn.pde.given_values import Unfit, given_values
from kanpinn.pde.problem import output_names
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import CollocationSample

NEAR = 1e-9
"""Distance from a face, relative to the domain, up to which a datum is on it."""


def unseen_coefficients(residuals: Residuals, sample: CollocationSample) -> list[str]:
    """Name the coefficients to be found that data and conditions cannot tell, whatever they are.

    None is named where a form of the problem's own may hold them.

    Args:
        residuals: Those of the run.
        sample: Points of all conditions.
    """
    problem = residuals.problem
    free = free_coefficients(problem)
    own = output_names(problem) != problem.unknowns or type(problem).ansatz is not Problem.ansatz
    own = own or (residuals.exact and type(problem).exact is not Problem.exact)
    if not free or own or not problem.has_equations:
        return []
    rows = _rows(residuals, sample)
    match = _matched([row for row in rows if row.equation], problem.unknowns)
    return [name for name in free if not _reached(name, rows, match, problem.unknowns)]


@final
@dataclass(frozen=True, eq=False)
class _Row:
    """Equation of a term: the unknowns and coefficients it holds.

    Attributes:
        holds: Their names.
        equation: True for one of the problem's equations, False for others.
        spare: True where no unknown needs it.
    """

    holds: frozenset[str]
    equation: bool
    spare: bool


def check_seen(residuals: Residuals, sample: CollocationSample) -> None:
    """Refuse coefficients that data and conditions cannot tell; arguments as of `unseen_coefficients`.

    Raises:
        UserError: Naming them.
    """
    names = unseen_coefficients(residuals, sample)
    if not names:
        return
    given = any(condition.given is not None for condition in residuals.conditions.values())
    told, both = ", ".join(f"{name}: …" for name in names), " and ".join(names)
    advice = "what is measured is the same for all values; give data that depend on it"
    raise UserError(
        f"unknown={{{told}}}: the data do not determine {both}: {advice}"
        if given
        else f"unknown={{{told}}}: no data determine {both}: give some by data=FILE or Data(…)"
    )


def _rows(residuals: Residuals, sample: CollocationSample) -> list[_Row]:
    problem = residuals.problem
    network, generator = smooth_network(problem, residuals.backbone.embedding), np.random.default_rng(8)
    plain = Residuals(problem, network, scales=residuals.scales)
    found = trials(plain, every_term(plain, sample))
    theta = random_parameters(network, generator, found[0].points.points)
    known = _known(problem, plain.conditions)
    more = more_conditions(residuals, sample)
    rows = []
    for trial in found:
        condition = plain.conditions.get(trial.name)
        for name, holds in _held(trial, network, theta, generator).items():
            spare = condition is not None and more
            if condition is not None and condition.given is not None:
                difference = isinstance(condition.residual, Difference)
                spare = not (difference and _on(condition, known.get(name, []), problem))
            rows.append(_Row(holds, trial.name == INTERIOR, spare))
    return rows


def _held(
    trial: Trial, network: Backbone, theta: torch.Tensor, generator: np.random.Generator
) -> dict[str, frozenset[str]]:
    """Names of the unknowns and coefficients that each equation of a term holds, those in integrals among them."""
    points, outputs = trial.at(torch.arange(trial.count)), trial.outputs(network, theta)
    fields = trial.fields(outputs, points)
    like = next(iter(fields.values()))
    for name, start in free_coefficients(trial.residuals.problem).items():
        constant = torch.zeros_like(like.data)
        constant[0] = float(start) or 1.0
        fields[name] = Jet(like.space, constant)
    changes = noise(fields, sizes([fields]), 0.5, generator)
    far = trial.far(outputs)
    held: dict[str, set[str]] = {}
    for name, change in changes.items():
        for equation, value in responses(trial, fields, points, {name: change}).items():
            there = held.setdefault(equation, {one for one, _ in far.get(equation, ())})
            if bool((value != 0).any()):
                there.add(name)
    return {equation: frozenset(names) for equation, names in held.items()}


def _known(problem: Problem, conditions: Mapping[str, Condition]) -> dict[str, list[str]]:
    """Faces on which conditions give the values of unknowns, by unknown."""
    found: dict[str, list[str]] = {}
    for condition in conditions.values():
        if not claimed(condition):
            continue
        try:
            values = given_values(problem, condition)
        except Unfit:
            continue
        for value in values:
            if not value.index:
                found.setdefault(value.unknown, []).extend(value.pieces)
    return found


def _on(condition: Condition, faces: list[str], problem: Problem) -> bool:
    """Tell whether all points of data are on faces in some coordinate."""
    domain, (points,) = problem.domain, condition.supports
    if not isinstance(points, Points):
        return False
    on = np.zeros(len(points.values), dtype=bool)
    for face in faces:
        name, end = face[:-1].rpartition(".")[2], face[-1]
        if name in domain.names and (isinstance(domain, Box) or name == "t"):
            lower, upper = domain.interval(name)
            at = points.values[:, points.names.index(name)]
            on |= np.abs(at - (lower if end == "-" else upper)) <= NEAR * (upper - lower)
    return bool(on.all())


def _matched(equations: list[_Row], unknowns: tuple[str, ...]) -> dict[_Row, str]:
    """Return the unknown that each equation determines, of as many equations as possible (Kuhn's algorithm)."""
    owner: dict[str, _Row] = {}

    def placed(row: _Row, tried: set[str]) -> bool:
        for name in unknowns:
            if name in row.holds and name not in tried:
                tried.add(name)
                if name not in owner or placed(owner[name], tried):
                    owner[name] = row
                    return True
        return False

    for row in equations:
        placed(row, set())
    return {row: name for name, row in owner.items()}


def _reached(coefficient: str, rows: list[_Row], match: Mapping[_Row, str], unknowns: tuple[str, ...]) -> bool:
    """Tell whether an alternating path leads from a coefficient to a row that nothing needs."""
    free, seen = [coefficient], {coefficient}
    while free:
        name = free.pop()
        for row in rows:
            if name not in row.holds:
                continue
            if row.spare or (row.equation and row not in match):
                return True
            freed = {match[row]} if row.equation else row.holds & set(unknowns)
            free += freed - seen
            seen |= freed
    return False
