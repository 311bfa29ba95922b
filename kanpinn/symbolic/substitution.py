"""Closed forms put into the equations of their problem: what is left, in numbers and, where possible, as a formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError, needed
from kanpinn.jets.indices import index_of
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.integrals import Integrals
from kanpinn.least_squares.points import INTERIOR, collocation_points
from kanpinn.least_squares.residuals import Scales, term_residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.integration import Quadrature
from kanpinn.pde.problem_calls import ask
from kanpinn.samplers import SAMPLERS
from kanpinn.symbolic.patience import within

SIMPLIFIED = 60.0
"""Processor time that simplifying an equation's residual may take, in seconds."""

POINTS = 500
"""Points in the domain, and on each condition."""


@final
@dataclass(frozen=True)
class Rest:
    """Residual of one equation with a closed form put in.

    Attributes:
        term: The loss term, "interior" or a condition.
        equation: Name of the equation; "" for a single one.
        largest: Largest absolute value at random points, relative to the size of the equation.
        formula: SymPy's simplified residual; None where the problem's Python could not be followed by SymPy,
            or where it took too long.
    """

    term: str
    equation: str
    largest: float
    formula: Any | None


def rest_of(problem: Problem, expressions: Mapping[str, Any], scales: Scales) -> list[Rest]:
    """Put closed forms of all unknowns into a problem's equations and conditions.

    Args:
        problem: The problem.
        expressions: SymPy's expression of every unknown.
        scales: Sizes of the equations.

    Raises:
        UserError: If a method of the problem raises.
    """
    conditions = {c.name: c for c in ask(problem, "conditions", lambda: conditions_of(problem))}
    sample = SAMPLERS["uniform"](interior=POINTS, boundary=POINTS).draw(problem, 0, np.random.default_rng(0))
    points = collocation_points(problem, conditions, sample, Fixed())
    space = JetSpace(problem.domain.names, tuple(problem.derivatives))

    def fields(at: Tensor) -> dict[str, Jet]:
        return {name: _jet(expression, space, at) for name, expression in expressions.items()}

    integrals = Integrals(Quadrature(problem, {}), fields)
    symbolic = _symbolic(problem, expressions)
    found = []
    for term, equation, value in term_residuals(problem, conditions, points, fields(points.points), integrals):
        largest = float(value.abs().max()) / scales.of(term.name, equation)
        found.append(Rest(term.name, equation, largest, symbolic.get(equation) if term.name == INTERIOR else None))
    return found


def _jet(expression: Any, space: JetSpace, points: Tensor) -> Jet:
    """The values and derivatives of an expression at points `[N, d]`, each by SymPy."""
    sympy = needed("sympy", "a closed form", "formulas")
    symbols = {name: sympy.Symbol(name, real=True) for name in space.coordinates}
    parts = [expression.diff(*(symbols[one] for one in index)) if index else expression for index in space.indices]
    made = sympy.lambdify([*symbols.values()], parts, ["numpy", "scipy"], cse=True)
    columns = points.double().cpu().numpy().T
    with np.errstate(all="ignore"):
        values = [np.broadcast_to(np.asarray(one, dtype=float), columns.shape[1]) for one in made(*columns)]
    return Jet(space, torch.from_numpy(np.stack(values)).to(points))


def _symbolic(problem: Problem, expressions: Mapping[str, Any]) -> dict[str, Any]:
    """The equations' residuals as SymPy's expressions, by name; none where they cannot be had, or not in time."""
    sympy = needed("sympy", "a closed form", "formulas")
    place: Any = _Place(problem.domain.names, expressions)
    try:
        found: Any = problem.residual(place)
    except (TypeError, ValueError, AttributeError, KeyError, RuntimeError, UserError):
        return {}
    named = dict(found) if isinstance(found, Mapping) else {"": found}
    whole = {
        name: one.expression.rewrite(sympy.exp) if _trigonometric(one) else one.expression
        for name, one in named.items()
        if isinstance(one, Number)
    }
    simple = {name: within(lambda one=one: sympy.simplify(one), None, SIMPLIFIED) for name, one in whole.items()}
    return {name: one for name, one in simple.items() if one is not None}


def _trigonometric(number: Any) -> bool:
    sympy = needed("sympy", "a closed form", "formulas")
    return isinstance(number, Number) and number.expression.has(sympy.cosh, sympy.sinh, sympy.tanh)


class _Place:
    """A point of a problem with SymPy's expressions in place of tensors: `p.x`, `p.u`, `p.u_xx`."""

    def __init__(self, names: tuple[str, ...], expressions: Mapping[str, Any]) -> None:
        sympy = needed("sympy", "a closed form", "formulas")
        self._symbols = {name: sympy.Symbol(name, real=True) for name in names}
        self._expressions = dict(expressions)

    def __getattr__(self, name: str) -> Number:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._symbols:
            return Number(self._symbols[name])
        unknown, _, tail = name.partition("_")
        along = [self._symbols[one] for one in index_of(tail, tuple(self._symbols))] if tail else []
        expression = self._expressions[unknown]
        return Number(expression.diff(*along) if along else expression)


def exact(value: float) -> Any:
    """Return a coefficient as an exact number: a short decimal, perhaps times or over π or π²; else itself."""
    sympy = needed("sympy", "a closed form", "formulas")
    for unit, made in ((1.0, 1), (math.pi, sympy.pi), (1 / math.pi, 1 / sympy.pi), (math.pi**2, sympy.pi**2)):
        ratio = Fraction(value / unit).limit_denominator(100000)
        if math.isclose(float(ratio) * unit, value, rel_tol=1e-15, abs_tol=0.0):
            return sympy.Rational(ratio.numerator, ratio.denominator) * made
    return sympy.Float(value)


class Number:
    """A SymPy expression that torch's functions and arithmetic take for a tensor."""

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Apply SymPy's function of the same name; raises TypeError for others."""
        del types
        sympy = needed("sympy", "a closed form", "formulas")
        name = getattr(function, "__name__", "")
        if kwargs or not all(isinstance(one, Number | int | float) for one in args):
            raise TypeError(name)
        parts = [_expression(one) for one in args]
        constants: dict[str, Callable[..., Any]] = {
            "zeros_like": lambda _: sympy.Integer(0),
            "ones_like": lambda _: sympy.Integer(1),
            "full_like": lambda _, value: value,
            "square": lambda one: one**2,
            "abs": sympy.Abs,
            "pow": lambda one, power: one**power,
        }
        known = constants.get(name) or getattr(sympy, name, None)
        if known is None:
            raise TypeError(name)
        return Number(known(*parts))

    def _with(self, other: Any, operation: Callable[[Any, Any], Any]) -> Number:
        if not isinstance(other, Number | int | float):
            return NotImplemented
        return Number(operation(self.expression, _expression(other)))

    def __add__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a / b)

    def __rtruediv__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: b / a)

    def __pow__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a**b)

    def __neg__(self) -> Number:
        return Number(-self.expression)


def _expression(value: Any) -> Any:
    sympy = needed("sympy", "a closed form", "formulas")
    if isinstance(value, Number):
        return value.expression
    return sympy.Integer(value) if isinstance(value, int) else exact(value)
