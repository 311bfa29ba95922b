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
from kanpinn.symbolic.constants import Fit, refined
from kanpinn.symbolic.library import Array, values_of

STARTS = 40
"""Random starts of a hypothesis's constants."""


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
) -> Fit | None:
    """Fit a hypothesis's constants from many starts; the best, whether it fits or not.

    Args:
        text: The hypothesis as it was given.
        expression: Its expression.
        names: Names of the coordinates; its other symbols are constants.
        points: Points `[N, d]`.
        values: Values there `[N]`.
        tolerance: Relative root mean square up to which nothing is missed.
        random: As for `refined`.

    Raises:
        UserError: If it is no number at some of the points, whatever its constants.
    """
    sympy = needed("sympy", "a closed form", "formulas")
    coordinates = [sympy.Symbol(name, real=True) for name in names]
    free = sorted(expression.free_symbols - set(coordinates), key=str)
    generator, found = np.random.default_rng(3), []
    most = 0.0
    for start in range(STARTS if free else 1):
        sizes = np.exp(generator.uniform(-2.5, 2.5, len(free))) * generator.choice([-1, 1], len(free), p=[0.25, 0.75])
        sizes = np.ones(len(free)) if start == 0 else sizes
        # A shade apart, so that equal constants stay two.
        trial = expression.subs(
            {one: sympy.Float(float(a)) for one, a in zip(free, sizes * (1 + 1e-3 * np.arange(len(free))), strict=True)}
        )
        fit = refined(trial, names, points, values, tolerance, rounded=False)
        share = float(np.isfinite(values_of(trial if fit is None else fit.expression, names, points)).mean())
        most = max(most, share)
        if fit is not None and share == 1:
            found.append(fit)
        if found and found[-1].residual <= 3 * tolerance:
            break
    if not found:
        raise UserError(f"--try={text!r}: is no number at {1 - most:.0%} of the points; does it leave a domain?")
    best = min(found, key=lambda one: one.residual)
    return refined(best.expression, names, points, values, tolerance, random=random) or best
