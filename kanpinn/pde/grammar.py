"""Words, names and operations of formulas as text, and sums and products of numbers and vectors in them."""

from __future__ import annotations

import ast
import keyword
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from kanpinn.errors import UserError, invalid
from kanpinn.jets.indices import index_of
from kanpinn.pde.formula_values import TENSORS, TORCH
from kanpinn.pde.problem import Problem

BESSEL = ("besselj", "bessely", "besseli", "besselk")
"""Bessel functions, of whole order."""

FUNCTIONS = {**{name: name for name in (*TORCH, *BESSEL)}, "abs": "Abs", "min": "Min", "max": "Max"}
"""Functions of numbers by their names in a formula; their names in SymPy."""

COUNTS = {"atan2": (2, 2), "min": (2, 9), "max": (2, 9), **dict.fromkeys(BESSEL, (2, 2))}
"""Fewest and most arguments of a function, where it is not one."""

OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
FIELDS = {
    "laplace": "laplace(u): sum of second derivatives in space",
    "grad": "grad(u): vector of first derivatives in space",
    "div": "div((a, b)): divergence of a vector",
    "dot": "dot(a, b): scalar product of two vectors",
    "d": "d(a, x): derivative of anything",
    "where": "where(x < 0, a, b): a where the comparison holds, else b",
    "reference": "reference(u): the formula of u that stands under problem.reference",
    "integral": "integral(f), integral(f, x), integral(f, x, a, b), or with a variable of its own integral(K*u(s), s)",
}
"""Functions of fields, and how they are written."""

TAKEN = frozenset({"pi", "Piecewise", "Derivative", *FUNCTIONS, *FIELDS, *TENSORS})
"""Names that have a meaning in every formula."""


@final
@dataclass(frozen=True)
class Names:
    """Names that a problem's formulas may use.

    Attributes:
        coordinates: Its coordinates; all but t are space.
        unknowns: Its unknown functions.
        coefficients: Its numbers.
        solution: SymPy's expressions of its reference, by unknown.
        depends: Coordinates of the unknowns that do not depend on all.
        regions: Regions inside the domain, for `where(core, a, b)`.
    """

    coordinates: tuple[str, ...]
    unknowns: tuple[str, ...] = ()
    coefficients: tuple[str, ...] = ()
    solution: Mapping[str, Any] = field(default_factory=dict)
    depends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regions: tuple[str, ...] = ()

    @property
    def space(self) -> tuple[str, ...]:
        """Coordinates but for the time t."""
        return tuple(name for name in self.coordinates if name != "t")

    def index(self, unknown: str, derivative: str) -> tuple[str, ...]:
        """Read the name of an unknown's derivative; raises ValueError if it is none, or zero as `depends` has it."""
        found = index_of(derivative, self.coordinates)
        own = self.depends.get(unknown, self.coordinates)
        for one in found:
            if one not in own:
                raise ValueError(f"{unknown} does not depend on {one}; depends has {unknown}: [{', '.join(own)}]")
        return found

    def hold(self, expressions: Iterable[Any]) -> bool:
        """Tell whether an unknown, or a derivative of one, is left in one of SymPy's expressions."""
        words = {word.partition("_")[0] for one in expressions for word in re.findall(r"\w+", str(one))}
        return not words.isdisjoint(self.unknowns)


def check_meanings(names: Names) -> None:
    """Refuse a name that is none, or stands for two things; raises UserError."""
    seen: dict[str, str] = {}
    kinds = {"coordinate": names.coordinates, "unknown": names.unknowns, "coefficient": names.coefficients}
    kinds |= {"region": names.regions}
    for kind, several in kinds.items():
        for one in several:
            head, _, tail = one.partition("_")
            if not re.fullmatch(r"[^\W\d]\w*", one) or keyword.iskeyword(one):
                advice = f"; {one}_ would do" if keyword.iskeyword(one) and kind == "coefficient" else ""
                raise invalid(f"problem: {kind}", one, f"letters and digits, a letter first, no word of Python{advice}")
            if one in TAKEN and (one, kind) != ("d", "coefficient"):
                raise invalid(
                    f"problem: {kind}", one, "another name, as formulas have a function or number of this one"
                )
            if one in seen:
                two = f"{seen[one]} and {kind}" if seen[one] != kind else f"given twice as {kind}"
                advice = "; unknowns: [v] would call the unknown v" if "unknown" in (kind, seen[one]) else ""
                raise UserError(f"problem: the name {one} has two meanings: {two}{advice}")
            if (
                kind == "coefficient"
                and tail
                and (head in names.unknowns or (head, tail in names.coordinates) == ("n", True))
            ):
                raise UserError(f"problem: the name {one} has two meanings: a coefficient, and a derivative or normal")
            if kind == "coefficient" and hasattr(Problem, one):
                raise invalid(f"problem: {kind}", one, "another name, as every problem has something of this one")
            seen[one] = kind


def is_vector(value: Any) -> bool:
    """Tell whether a value is a vector, a tuple of components."""
    return isinstance(value, tuple)


def parts_of(value: Any) -> tuple[Any, ...]:
    """Return the components of a vector, or a number as the only one."""
    return value if isinstance(value, tuple) else (value,)


def plus(left: Any, right: Any) -> Any:
    """Return the sum of two numbers or of two vectors."""
    return tuple(map(operator.add, left, right)) if isinstance(left, tuple) else left + right


def times(factor: Any, value: Any) -> Any:
    """Return a number times a number or a vector."""
    return tuple(factor * part for part in value) if isinstance(value, tuple) else factor * value
