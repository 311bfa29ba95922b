"""Functions of one variable that a closed form is made of, each with a measure of its complexity."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from kanpinn.errors import UserError, needed
from kanpinn.pde.formulas import formula
from kanpinn.pde.grammar import Names

Array = NDArray[np.float64]

VARIABLE = "x"


@final
@dataclass(frozen=True)
class Form:
    """A function f, fitted as c f(a x + b) + d.

    Attributes:
        text: The function as a formula of x, such as "sin(x)".
        complexity: Its price where several functions fit.
        shift: Role of b: "free", "phase" for an angle, "none" where c or a make up for it.
    """

    text: str
    complexity: int
    shift: Literal["free", "phase", "none"] = "free"

    @cached_property
    def expression(self) -> Any:
        """SymPy's expression of x."""
        return formula(self.text, Names((VARIABLE,)), "form").expression

    def of(self, argument: Any) -> Any:
        """SymPy's expression of another argument."""
        (variable,) = self.expression.free_symbols
        return self.expression.subs(variable, argument)

    def of_text(self, argument: str) -> str:
        """Return the function of another argument as text."""
        return re.sub(r"\bx\b", f"({argument})", str(self.expression))

    @cached_property
    def value(self) -> Callable[[Array], Array]:
        """The function of arrays; NaN outside its domain."""
        return _array_function(self.expression)

    @cached_property
    def slope(self) -> Callable[[Array], Array]:
        """Its derivative."""
        (variable,) = self.expression.free_symbols
        return _array_function(self.expression.diff(variable))


def _array_function(expression: Any) -> Callable[[Array], Array]:
    sympy = needed("sympy", "a closed form", "formulas")
    (variable,) = expression.free_symbols or {sympy.Symbol(VARIABLE, real=True)}
    made = sympy.lambdify(variable, expression, ["numpy", "scipy"])

    def function(x: Array) -> Array:
        with np.errstate(all="ignore"):
            found = np.asarray(made(x), dtype=np.float64)
        return found if found.shape == x.shape else np.full(x.shape, float(found))

    return function


def values_of(expression: Any, names: Sequence[str], points: Array) -> Array:
    """Return the values `[N]` of an expression at points `[N, d]`; NaN where they are no real numbers."""
    sympy = needed("sympy", "a closed form", "formulas")
    made = sympy.lambdify([sympy.Symbol(name, real=True) for name in names], expression, ["numpy", "scipy"])
    with np.errstate(all="ignore"):
        found = np.asarray(made(*points.T))
    found = np.where(np.isreal(found), np.real(found), np.nan)
    return np.array(np.broadcast_to(found, len(points)), dtype=np.float64)


LIBRARY: tuple[Form, ...] = (
    Form("sin(x)", 2, "phase"),
    Form("exp(x)", 2, "none"),
    Form("sqrt(x)", 2),
    Form("log(x)", 2),
    Form("1/x", 2),
    Form("abs(x)", 3),
    Form("tanh(x)", 3),
    Form("exp(-x**2)", 3),
    Form("1/x**2", 3),
    Form("1/(1 + x**2)", 3),
    Form("1/cosh(x)", 3),
    Form("1/cosh(x)**2", 4),
    Form("atan(x)", 4),
    Form("tan(x)", 4),
    Form("asin(x)", 5),
    Form("erf(x)", 5),
    Form("cosh(x)", 5),
)
"""The functions tried, beside polynomials."""


def library(more: Sequence[str] = ()) -> tuple[Form, ...]:
    """Return the library with further functions of x, such as "x*exp(-x)"; raises UserError for no formula of x."""
    return (*LIBRARY, *further(more))


def further(texts: Sequence[str]) -> list[Form]:
    """Return functions of x given by a user; raises UserError for no formula of x, or one without values near 0."""
    forms = [Form(text, 4) for text in texts]
    for form in forms:
        formula(form.text, Names((VARIABLE,)), "--form")
        if not np.isfinite(form.value(np.linspace(-9, 9, 181))).any():
            raise UserError(f"--form={form.text!r}: is no number for any x between -9 and 9")
    return forms
