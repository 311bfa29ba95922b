"""Problems of the blind suite as plain data for other libraries: formulas over names, points of each term, normals.

Formulas are kanpinn's, read from the text without its reference: derivatives of unknowns are names such as `u_xx`,
coefficients are numbers, an unknown within an integral is `u__there`. `peers/statement.py` evaluates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from untuned import hidden

from kanpinn.pde.condition import pieces_of
from kanpinn.pde.data import conditions_of
from kanpinn.pde.formula_integrals import THERE
from kanpinn.pde.formulas import Formula, formula
from kanpinn.pde.grammar import Names
from kanpinn.pde.problem import region_of
from kanpinn.pde.text_problem import WORDS, text_problem
from kanpinn.samplers import SAMPLERS


@dataclass(frozen=True)
class Counts:
    """Numbers of points.

    Attributes:
        interior: Of those inside.
        boundary: Of each condition, or of each piece that it holds on.
        initial: The same at the first time.
        by_piece: Whether they count for each piece.
    """

    interior: int
    boundary: int
    initial: int
    by_piece: bool = False


def statement(name: str, counts: Counts, seed: int = 0) -> dict[str, Any]:
    """Return a problem as plain values for a JSON file, its points drawn from Sobol's sequence.

    Raises:
        ValueError: If it has a part that is no formula at points, such as two sides of an interface.
    """
    text = hidden(name)
    problem = text_problem(name, {key: value for key, value in text.items() if key != "name"})
    numbers = {key: value for key, value in text.items() if key not in (*WORDS, "name")}
    region, posed = region_of(problem), {one.name: one for one in conditions_of(problem)}
    names = Names(problem.domain.names, problem.unknowns, tuple(numbers))
    boundary = {}
    for key, one in posed.items():
        many = counts.initial if one.supports == ("t-",) else counts.boundary
        boundary[key] = many * len(pieces_of(one, region)) if counts.by_piece else many
    sampler = SAMPLERS["sobol"](interior=counts.interior, boundary=boundary)
    sample = sampler.draw(problem, 0, np.random.default_rng(seed))
    terms = [term("equations", text["equations"], sample.interior, names, numbers)]
    for key, given in text["conditions"].items():
        if "equation" not in given:
            raise ValueError(f"{name}: {key}: compares two sides, which is not translated")
        terms.append(term(key, given["equation"], sample.conditions[key], names, numbers))
    box = {"lower": list(map(float, region.lower)), "upper": list(map(float, region.upper))}
    return {"coordinates": list(problem.domain.names), "unknowns": list(problem.unknowns), **box, "terms": terms}


def term(key: str, given: Any, points: Any, names: Names, numbers: Mapping[str, float]) -> dict[str, Any]:
    """Return one set of points and the formulas that vanish there."""
    texts = given if isinstance(given, Mapping) else {"": given}
    read = [formula(str(one), names, key) for one in texts.values()]
    normals = None if points.normals is None else points.normals.tolist()
    formulas = [plain(one, names, numbers) for one in read]
    return {"name": key, "formulas": formulas, "points": points.points.tolist(), "normals": normals}


def plain(one: Formula, names: Names, numbers: Mapping[str, float]) -> dict[str, Any]:
    """Return a formula as text over names, and its integrals by the names that stand for them."""
    integrals = {}
    for function, inner in one.integrals:
        over = inner.over or names.coordinates
        if len(over) != 1:
            raise ValueError(f"an integral over {', '.join(over)}, which is not translated")
        limits = [None if end is None else words(end, numbers) for end in inner.limits]
        found = {"over": over[0], "variable": inner.variable, "limits": limits}
        integrals[function.func.__name__] = {**found, "integrand": words(inner.integrand, numbers)}
    return {"text": words(one.expression, numbers), "integrals": integrals}


def words(expression: Any, numbers: Mapping[str, float]) -> str:
    """Return SymPy's expression as text, a name for each derivative, unknown and integral in it."""

    def named(part: Any) -> Any:
        below = part.expr if isinstance(part, sympy.Derivative) else part
        tail = "".join(f"_{x}" for x in part.variables) if isinstance(part, sympy.Derivative) else ""
        return symbol(below.func.__name__.replace(THERE, "__there") + tail)

    values = {symbol(key): sympy.sympify(value) for key, value in numbers.items()}
    functions = expression.atoms(sympy.core.function.AppliedUndef)
    whole = {part: named(part) for part in expression.atoms(sympy.Derivative)}
    return str(expression.xreplace(whole).xreplace({part: named(part) for part in functions}).xreplace(values))


def symbol(name: str) -> Any:
    return sympy.Symbol(name, real=True)
