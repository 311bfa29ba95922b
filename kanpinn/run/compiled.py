"""Formulas as solutions: the network that is a formula, in a problem or over a box, and what training makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.errors import UserError, needed, unknown_choice
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.explain.attribution import domain_points
from kanpinn.geometry import Box
from kanpinn.least_squares.residuals import Residuals
from kanpinn.multilevel.schedules import Custom, Schedule
from kanpinn.pde.formulas import formula
from kanpinn.pde.grammar import Names
from kanpinn.pde.problem import Problem
from kanpinn.run.run import run
from kanpinn.settings.objects import configuration_of_objects, configuration_of_table
from kanpinn.solution import Solution
from kanpinn.solver.setup import Start
from kanpinn.symbolic.compiler import compiled
from kanpinn.symbolic.library import Array, values_of

ROWS = 1000
"""Places of a box at which a formula is tabled."""

EXACT = 1e-9
"""Relative difference from the formula above which a problem's unknowns are not its network's outputs."""


def compile_formula(
    expression: Any, on: Any, overrides: Sequence[Any], folder: Path | None, *, products: bool
) -> Solution:
    """Compile a formula into the network of a problem, or of a table of its values over a box; see `kanpinn.compile`.

    Raises:
        UserError: If a formula cannot be read or compiled, or a problem's unknowns are not its network's outputs.
    """
    given = any(isinstance(one, Schedule) or (isinstance(one, str) and one.startswith("schedule")) for one in overrides)
    more = [*overrides] if given else [Custom(stages=[{"level": 0, "steps": 0}]), *overrides]
    problem, domain = (on, on.domain) if isinstance(on, Problem) else (None, _box(on))
    expressions = _read(expression, domain.names, problem.unknowns if problem else None)
    ends = np.array(domain.lower, dtype=float), np.array(domain.upper, dtype=float)
    found = compiled(list(expressions.values()), domain.names, *ends, products=products)
    options = replace(found.options, embedding=EmbeddingOptions(kind="none", inputs=False))
    if problem:
        configuration = configuration_of_objects(problem, [options, *more], "soft")
    else:
        table = _table(expressions, domain.names, *ends)
        configuration = configuration_of_table(table, list(expressions), [options, *more], list(domain.names), (1.0,))
    setup = configuration.setup
    if setup.problem.domain.names != domain.names or setup.schedule.slabs > 1:
        raise UserError("compile: expected coordinates of letters and digits, and schedule.slabs=1")
    network = setup.network()
    theta = found.theta(network, setup.scales.outputs)
    _check(setup.residuals(network), theta, expressions)
    plan = setup.schedule.plan()
    while network.refinable and network.level < plan[0].level:
        edit = refinement(network)
        network, theta = edit.after, edit(theta)
    begun = replace(setup, start=Start(0, (theta.to(setup.dtype),)))
    return run(replace(configuration, setup=begun), folder, spoken=False)


def _box(on: Any) -> Box:
    """The box that a box, or intervals by coordinate, stand for."""
    if isinstance(on, Box):
        return on
    if not isinstance(on, Mapping):
        raise UserError(f"compile: {on!r}: expected a problem, a Box, or intervals such as {{'x': (-1, 1)}}")
    return Box(**on)


def _read(expression: Any, names: Sequence[str], unknowns: Sequence[str] | None) -> dict[str, Any]:
    """Expressions by unknown, of one formula or several by name, as text or by SymPy."""
    sympy = needed("sympy", "a formula", "formulas")
    alone = unknowns[0] if unknowns else next(one for one in ("f", "g", "h", "u") if one not in names)
    given = expression if isinstance(expression, Mapping) else {alone: expression}
    if unknowns and set(given) != set(unknowns):
        wrong = next((one for one in given if one not in unknowns), None)
        if wrong is not None:
            raise unknown_choice("compile", str(wrong), list(unknowns))
        raise UserError(f"compile: expected a formula for each of {', '.join(unknowns)}")
    found = {}
    for name in unknowns or given:
        one = given[name]
        if isinstance(one, str):
            found[str(name)] = formula(one, Names(tuple(names)), "compile").expression
        else:
            one = sympy.sympify(one)
            found[str(name)] = one.xreplace({s: sympy.Symbol(s.name, real=True) for s in one.free_symbols})
    return found


def _table(expressions: Mapping[str, Any], names: Sequence[str], lower: Array, upper: Array) -> dict[str, Array]:
    """A table of the formulas at random places, two corners among them, which tell the box."""
    places = np.random.default_rng(0).uniform(lower, upper, (ROWS - 2, len(names)))
    points = np.concatenate([[lower], [upper], places])
    columns = {name: points[:, k] for k, name in enumerate(names)}
    for name, one in expressions.items():
        if not one.free_symbols:
            raise UserError(f"compile: {name} = {one} is a constant; there is nothing to fit")
    return columns | {name: values_of(one, names, points) for name, one in expressions.items()}


def _check(residuals: Residuals, theta: torch.Tensor, expressions: Mapping[str, Any]) -> None:
    """Refuse a problem whose unknowns are something else than its network's outputs."""
    points = domain_points(residuals.problem, 500)
    own = evaluate(residuals, theta, torch.from_numpy(points))
    for name, one in expressions.items():
        wanted = values_of(one, residuals.problem.domain.names, points)
        if not np.abs(own[name] - wanted).max() <= EXACT * np.abs(wanted).max():
            raise UserError(f"compile: {name} is no output of the network (an ansatz or exact conditions change it)")
