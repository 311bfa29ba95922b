"""Hypotheses: formulas with unknown constants that a user gives, read and fitted."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from kanpinn.errors import UserError, needed, unknown_choice
from kanpinn.pde import Problem
from kanpinn.pde.formulas import formula
from kanpinn.pde.grammar import Names
from kanpinn.symbolic.constants import Fit, Model, refined
from kanpinn.symbolic.library import Array, values_of

STARTS = 30
"""Starts from which a hypothesis's constants are refined, at most."""

DRAWN, SCREENED = 2000, 300
"""Random constants of which these starts are the best, and the points at which they are compared."""


MORE = 10
"""Most refinements of the best constants, beyond the first."""

LARGEST = 1e100
"""Size up to which the parts of a hypothesis are numbers."""


def given_forms(texts: Sequence[str], problem: Problem) -> dict[str, tuple[str, Any]]:
    """Read formulas such as "u = a*sin(pi*x)": their texts and expressions by unknown; raises UserError for others."""
    pairs = [_read(text, problem) for text in texts]
    if len(dict(pairs)) < len(pairs):
        raise UserError("--try: two formulas of one unknown; test them one after the other")
    return dict(pairs)


def _read(text: str, problem: Problem) -> tuple[str, tuple[str, Any]]:
    name, equals, right = text.partition("=")
    if not equals or not right.strip():
        raise UserError(f"--try={text!r}: expected an unknown, '=' and a formula, such as \"u = a*sin(pi*x)\"")
    if name.strip() not in problem.unknowns:
        raise unknown_choice("--try", name.strip(), problem.unknowns)
    known = (*problem.domain.names, "pi")
    try:
        tree = ast.parse(right.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        tree = ast.parse("0", mode="eval")  # the formula's own reader says what is wrong
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    free = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(known) - called
    if wrong := sorted(free & {*problem.unknowns, "π"}):
        expected = "write pi" if wrong == ["π"] else f"expected a formula of {', '.join(problem.domain.names)}"
        raise UserError(f"--try={text!r}: {wrong[0]} is no name of a constant; {expected}")
    names = Names(problem.domain.names, (), tuple(sorted(free)))
    return name.strip(), (text, formula(right.strip(), names, "--try").expression)


def fitted_hypothesis(
    text: str,
    expression: Any,
    names: tuple[str, ...],
    points: Array,
    values: Array,
    tolerance: float,
    *,
    random: bool = False,
) -> tuple[Fit, dict[str, tuple[float, float]]]:
    """Fit a hypothesis's constants from many starts; the best, whether it fits or not.

    Args:
        text: The hypothesis as it was given.
        expression: Its expression.
        names: Names of the coordinates; its other symbols are constants.
        points: Points `[N, d]`.
        values: Values there `[N]`.
        tolerance: Relative root mean square up to which nothing is missed.
        random: As for `refined`.

    Returns:
        The fit, with exact numbers where these do, and by name the constants with their standard deviations.

    Raises:
        UserError: If it is no number at some of the points, whatever its constants.
    """
    sympy = needed("sympy", "a closed form", "formulas")
    coordinates = [sympy.Symbol(name, real=True) for name in names]
    free = sorted(expression.free_symbols - set(coordinates), key=str)
    found, most = [], 0.0
    for start in _starts(expression, coordinates, free, points, values):
        model, theta, rms = Model(expression, (names, points, values), dict(zip(free, start, strict=True))).solved()
        known = {one: sympy.Float(float(value)) for one, value in zip(model.symbols, theta, strict=True)}
        share = float(np.isfinite(values_of(expression.xreplace(known), names, points)).mean())
        most = max(most, share)
        if share == 1:
            found.append((rms, len(found), model, theta, expression.xreplace(known)))
        if found and found[-1][0] <= 3 * tolerance:
            break
    if not found:
        raise UserError(f"--try={text!r}: is no number at {1 - most:.0%} of the points; does it leave a domain?")
    rms, _, model, theta, best = min(found, key=lambda one: one[:2])
    for _ in range(MORE if model.symbols else 0):
        _, moved, left = model.with_values(theta).solved()
        if not left < 0.9 * rms:
            break
        theta, rms = moved, left
        best = expression.xreplace({one: sympy.Float(float(v)) for one, v in zip(model.symbols, theta, strict=True)})
    told = zip(map(str, model.symbols), map(float, theta), map(float, model.deviations(theta)), strict=True)
    fit = refined(best, names, points, values, tolerance, random=random) or Fit(best, rms, {})
    return fit, {name: (value, deviation) for name, value, deviation in told}


def _starts(
    expression: Any, coordinates: list[Any], free: list[Any], points: Array, values: Array
) -> list[tuple[float, ...]]:
    """Constants to begin with: of many random ones those that come closest, the linear ones solved for.

    A constant that is no factor of a term may be as large as a coordinate or as its inverse, a rate or a frequency
    larger still.
    """
    sympy = needed("sympy", "a closed form", "formulas")
    linear: list[Any] = []
    for one in free:
        if all(expression.diff(one, other) == 0 for other in (*linear, one)):
            linear.append(one)
    others = [one for one in free if one not in linear]
    parts = [expression.subs(dict.fromkeys(linear, 0)), *(expression.diff(one) for one in linear)]
    made = sympy.lambdify([*coordinates, *others], parts, ["numpy", "scipy"])
    rows = np.random.default_rng(2).permutation(len(points))[:SCREENED]
    units = np.median(np.abs(points), axis=0)
    units = np.concatenate([[1.0], units[units > 0], 1 / units[units > 0]])
    generator, ranked = np.random.default_rng(3), []
    for number in range(DRAWN if others else 1):
        sizes = np.exp(generator.uniform(-1, 1, len(others)) * (2.5 if number % 2 else 5.0))
        sizes *= generator.choice([-1, 1], len(others), p=[0.25, 0.75]) * generator.choice(units, len(others))
        sizes = np.ones(len(others)) if number == 0 else sizes
        sizes = sizes * (1 + 1e-3 * np.arange(len(others)))  # a shade apart, so that equal constants stay two
        with np.errstate(all="ignore"):
            base, *columns = (
                np.broadcast_to(np.asarray(one, float), len(rows)) for one in made(*points[rows].T, *sizes)
            )
        factors, missed = np.ones(len(linear)), np.inf
        matrix = np.stack(columns, 1) if columns else np.zeros((len(rows), 0))
        if np.abs([base, *columns]).max() < LARGEST:
            factors = np.linalg.lstsq(matrix, values[rows] - base, rcond=None)[0]
            missed = float(np.linalg.norm(matrix @ factors + base - values[rows]))
        known = dict(zip([*others, *linear], [*sizes, *np.where(factors == 0, 1e-3, factors)], strict=True))
        ranked.append((missed, number, tuple(float(known[one]) for one in free)))
    return [start for _, _, start in sorted(ranked)[:STARTS]]
