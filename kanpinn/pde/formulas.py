"""Formulas as text: read by a list of what is allowed, differentiated by SymPy, evaluated on tensors; never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.errors import UserError, nearest, needed
from kanpinn.geometry import Region
from kanpinn.jets.jet import Jet
from kanpinn.pde.formula_integrals import THERE, IntegralTerm
from kanpinn.pde.formula_values import TENSORS, value
from kanpinn.pde.grammar import (
    BESSEL,
    COMPARISONS,
    COUNTS,
    FIELDS,
    FUNCTIONS,
    OPERATORS,
    Names,
    is_vector,
    parts_of,
    plus,
    times,
)

LONGEST = 4000
"""Letters that a formula may have."""

MOST_POWER = 64
"""Largest power that a formula may hold."""

_EQUALS = re.compile(r"(?<![<>=!])=(?!=)")


@final
@dataclass(frozen=True)
class Formula:
    """A formula, ready to be evaluated.

    Attributes:
        expression: SymPy's expression.
        coordinate: Some coordinate, which tells the number of points.
        derivatives: Derivatives of unknowns that it holds, such as "x_x" and "t".
        integrals: Integrals by the functions that stand for them in the expression.
    """

    expression: Any
    coordinate: str
    derivatives: frozenset[str]
    integrals: tuple[tuple[Any, IntegralTerm], ...] = ()

    def __call__(self, p: Any, coefficients: Mapping[str, Any]) -> Any:
        """Return its value `[N]`, of jets a jet, from coordinates, unknowns, coefficients and regions by name."""
        used = {str(one) for one in self.expression.free_symbols}
        inner = {key: one for key, one in coefficients.items() if key in used and isinstance(one, Region)}
        coefficients = {**coefficients, **{key: one.inside(p) for key, one in inner.items()}}
        known = {function: integral(p, coefficients) for function, integral in self.integrals}
        found = value(self.expression, p, coefficients, known)
        like = getattr(p, self.coordinate)
        if isinstance(like, Jet):
            return 0 * like + found
        return found.expand_as(like) if isinstance(found, Tensor) else torch.full_like(like, found)


def sides_of(text: str) -> list[str]:
    """Return the sides of an equation; one where no "=" stands between two."""
    return _EQUALS.split(text)


def formula(text: str, names: Names, where: str) -> Formula:
    """Read a formula or, with one "=" in it, the difference of the two sides of an equation.

    Args:
        text: The text, such as "u_t = nu*laplace(u)".
        names: Names it may use.
        where: Key it stands under, for messages.

    Raises:
        UserError: If it is no formula: what is wrong, and at which letter.
    """
    reader = _Reader(str(text), names, where)
    expression = reader.equation()
    if not reader.is_number(expression):
        raise reader.error("is no number; take div, dot or where(…) of it", 0)
    for part in expression.atoms(reader.sympy.Function):
        if type(part).__name__ not in (*TENSORS, *names.unknowns, "Piecewise") and part not in reader.integrals:
            raise UserError(f"{where}={text!r}: holds a derivative that is no function ({part})")
    for part in expression.atoms(reader.sympy.Derivative):
        if part.expr in reader.integrals:
            raise UserError(f"{where}={text!r}: holds a derivative of an integral; write it into the integral")
    inner = [expression, *(one.integrand for one in reader.integrals.values())]
    derivatives = {one for part in inner for one in reader.derivatives_of(part)}
    return Formula(expression, names.coordinates[0], frozenset(derivatives), tuple(reader.integrals.items()))


def number(text: Any, coefficients: Mapping[str, float], where: str) -> float:
    """Return the value of a formula of numbers and coefficients, such as "2*pi*k"; raises UserError."""
    names = Names((), (), tuple(coefficients))
    return float(value(_Reader(str(text), names, where).equation(), None, coefficients, {}))


class _Reader:
    """Reader of one formula: from Python's grammar to SymPy, by a list of what is allowed."""

    def __init__(self, text: str, names: Names, where: str) -> None:
        self.text, self.names, self.where, self.start = text, names, where, 0
        self.sympy = needed("sympy", "an equation as text", "formulas")
        if len(text) > LONGEST:
            raise UserError(f"{where}: {len(text)} letters; a formula has at most {LONGEST}")
        coordinates = [self._symbol(name) for name in names.coordinates]
        self.symbols: dict[str, Any] = dict(zip(names.coordinates, coordinates, strict=True))
        self.symbols |= {name: self._symbol(name) for name in names.coefficients}
        for name in names.unknowns:
            own = [self.symbols[one] for one in names.depends.get(name, names.coordinates)]
            self.symbols[name] = self.sympy.Function(name, real=True)(*own)
        self.symbols.setdefault("pi", self.sympy.pi)
        self.along_normal = False
        self.integrals: dict[Any, IntegralTerm] = {}
        self.variable: tuple[str, str] | None = None
        """Within an integral its own variable, or "", and, once that is known, the coordinate it stands for."""
        self.there: set[str] = set()

    def _symbol(self, name: str) -> Any:
        return self.sympy.Symbol(name, real=True)

    def error(self, message: str, node: ast.AST | int) -> UserError:
        """Return the error of a part of the text, with its place, counted from 1."""
        offset = node if isinstance(node, int) else getattr(node, "col_offset", 0)
        part = "" if isinstance(node, int) else ast.get_source_segment(self.side, node) or ""
        column = self.start + len(self.side.encode()[:offset].decode(errors="ignore")) + 1
        return UserError(f"{self.where}={self.text!r}: letter {column}: {part[:40]}{': ' if part else ''}{message}")

    def equation(self) -> Any:
        """Read both sides; the left one less the right one."""
        found = [match.start() for match in _EQUALS.finditer(self.text)]
        self.side = self.text
        if len(found) > 1:
            raise self.error("a second '='; an equation has one", found[1])
        if not found:
            return self._side(self.text, 0)
        left, right = self._side(self.text[: found[0]], 0), self._side(self.text[found[0] + 1 :], found[0] + 1)
        return plus(left, times(-1, right))

    def _side(self, text: str, start: int) -> Any:
        self.side, self.start = text.lstrip(), start + len(text) - len(text.lstrip())
        if not self.side.strip():
            raise self.error("nothing stands here; expected a formula", 0)
        try:
            tree = ast.parse(self.side.rstrip(), mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise self._unread(error) from None
        try:
            return self.read(tree.body)
        except RecursionError:
            raise self.error("is nested too deep", 0) from None

    def _unread(self, error: Exception) -> UserError:
        """Return the error of a side that is none of Python's expressions."""
        told, place = str(getattr(error, "msg", "")), getattr(error, "offset", None)
        end = self.side.rstrip()
        if "was never closed" in told:
            return self.error("this bracket is not closed", max(place or 1, 1) - 1)
        if "unmatched" in told or "does not match" in told:
            return self.error("this bracket closes none", max(place or 1, 1) - 1)
        if "forgot a comma" in told or "decimal literal" in told or re.search(r"[\w)]\s+[\w(]", end):
            return self.error("is no formula here; is an operation missing, such as *?", max(place or 1, 1) - 1)
        return self.error("is no formula here", len(end) if not place else max(place - 1, 0))

    def read(self, node: ast.AST) -> Any:
        """Turn a part of the tree into SymPy's expression, a tuple of them, or a comparison."""
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return self.sympy.Integer(node.value) if isinstance(node.value, int) else self.sympy.Float(node.value)
        if isinstance(node, ast.Name):
            return self._name(node, node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            return times(-1 if isinstance(node.op, ast.USub) else 1, self.read(node.operand))
        if isinstance(node, ast.BinOp):
            return self._operation(node)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
            return COMPARISONS[type(node.ops[0])](self.scalar(node.left), self.scalar(node.comparators[0]))
        if isinstance(node, ast.BoolOp):
            kind = self.sympy.And if isinstance(node.op, ast.And) else self.sympy.Or
            return kind(*(self.read(value) for value in node.values))
        if isinstance(node, ast.Tuple):
            return tuple(self.scalar(item) for item in node.elts)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node, node.func.id)
        equal = isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq) for one in node.ops)
        raise self.error(f"is not known in a formula{'; an equation has one =' if equal else ''}", node)

    def scalar(self, node: ast.AST) -> Any:
        """Read what must be a number at every point."""
        value = self.read(node)
        if not self.is_number(value):
            raise self.error("is no number; expected one here", node)
        return value

    def is_number(self, value: Any) -> bool:
        """False for vectors and comparisons."""
        return not (isinstance(value, tuple) or value.is_Relational or getattr(value, "is_Boolean", False))

    def _operation(self, node: ast.BinOp) -> Any:
        kind = type(node.op)
        if kind not in OPERATORS:
            raise self.error("write ** for powers" if kind is ast.BitXor else "is no operation of a formula", node)
        left, right = self.read(node.left), self.read(node.right)
        if any(not (is_vector(side) or self.is_number(side)) for side in (left, right)):
            raise self.error("a comparison or a region is no number; take where(…, a, b) of it", node)
        if kind in (ast.Add, ast.Sub):
            if is_vector(left) != is_vector(right) or len(parts_of(left)) != len(parts_of(right)):
                raise self.error("a number and a vector, or vectors of two lengths", node)
            return plus(left, right if kind is ast.Add else times(-1, right))
        if is_vector(right) or (is_vector(left) and kind is ast.Pow):
            if kind is ast.Mult and not is_vector(left):
                return times(left, right)
            raise self.error("vectors are added, multiplied by numbers, and taken the dot of", node)
        if kind is ast.Pow and right.is_number:
            if abs(right) > MOST_POWER:
                raise self.error(f"expected a power of at most {MOST_POWER}", node.right)
            return self.sympy.Float(float(left) ** float(right)) if left.is_number else left**right
        if kind is ast.Div and right == 0:
            raise self.error("is divided by 0", node)
        found = tuple(OPERATORS[kind](part, right) for part in parts_of(left))
        return found if is_vector(left) else found[0]

    def _name(self, node: ast.AST, name: str) -> Any:
        """A coordinate, unknown or coefficient, a derivative, a component of the normal, a derivative along it."""
        if name in self.names.regions:
            return self._symbol(name) > 0
        if name in self.symbols:
            return self.symbols[name]
        head, _, tail = name.partition("_")
        if head in self.names.unknowns and tail == "n":
            self.along_normal = True
            return self._symbol(name)
        if head == "n" and tail in self.names.coordinates:
            return self._symbol(name)
        if head in self.names.unknowns and tail:
            try:
                return self.symbols[head].diff(*(self.symbols[one] for one in self.names.index(head, tail)))
            except ValueError as error:
                raise self.error(str(error), node) from None
        hint = nearest(name, [*self.symbols, *FUNCTIONS, *FIELDS])
        advice = f"; did you mean {hint}?" if hint else ""
        raise self.error(f"unknown{advice}; names are {', '.join(self.symbols)}", node)

    def _call(self, node: ast.Call, name: str) -> Any:
        if name in FUNCTIONS:
            fewest, most = COUNTS.get(name, (1, 1))
            if not fewest <= len(node.args) <= most:
                raise self.error(f"expected {fewest} argument{'s' if fewest > 1 else ''}", node)
            if name in BESSEL and not self.scalar(node.args[0]).is_Integer:
                raise self.error(f"expected a whole number, as in {name}(0, x)", node.args[0])
            return getattr(self.sympy, FUNCTIONS[name])(*(self.scalar(one) for one in node.args))
        if self.variable is not None and self.variable[0] and name.partition("_")[0] in self.names.unknowns:
            return self._there(node, name)
        if name == "integral":
            return self._integral(node)
        if name in self.symbols:
            raise self.error(f"is no function; write {name}*(…) for a product, and d({name}, x) for a derivative", node)
        if name not in FIELDS:
            near = nearest(name, [*FUNCTIONS, *FIELDS])
            told = f"did you mean {near}?" if near else f"functions are {', '.join(FUNCTIONS)}"
            raise self.error(f"no such function; {told}", node)
        if name == "reference" and [getattr(one, "id", None) in self.names.solution for one in node.args] == [True]:
            return self.names.solution[getattr(node.args[0], "id", "")]
        values = [self.read(one) for one in node.args]
        space = [self.symbols[one] for one in self.names.space]
        scalars = [self.is_number(value) for value in values]
        if name == "laplace" and scalars == [True]:
            return sum(values[0].diff(x, x) for x in space)
        if name == "grad" and scalars == [True]:
            return tuple(values[0].diff(x) for x in space)
        if name == "div" and scalars == [False] and len(parts_of(values[0])) == len(space):
            return sum(part.diff(x) for part, x in zip(values[0], space, strict=True))
        if name == "dot" and scalars == [False, False] and len(parts_of(values[0])) == len(parts_of(values[1])):
            return sum(a * b for a, b in zip(*values, strict=True))
        if name == "d" and len(values) > 1 and all(scalars) and set(values[1:]) <= {*self.symbols.values()}:
            by = [str(value) for value in values[1:]]
            of = getattr(node.args[0], "id", "")
            if all(one in self.names.coordinates for one in by):
                if of.partition("_")[0] in self.names.unknowns:
                    return self._name(node, "_".join((of, *by)))
                return values[0].diff(*(self.symbols[one] for one in by))
        if name == "where" and scalars == [False, True, True] and not isinstance(values[0], tuple):
            return self.sympy.Piecewise((values[1], values[0]), (values[2], True))
        raise self.error(f"expected {FIELDS[name]}", node)

    def _integral(self, node: ast.Call) -> Any:
        """Return a function of the coordinates that stands for an integral."""
        expected = f"expected {FIELDS['integral']}"
        if (
            not (1 <= len(node.args) <= 4)
            or len(node.args) == 3
            or not self.names.unknowns
            or self.variable is not None
        ):
            raise self.error(expected if self.names.unknowns else "there is no integral here", node)
        by = node.args[1:2]
        names = [one.id for part in by for one in getattr(part, "elts", [part]) if isinstance(one, ast.Name)]
        if by and (not names or (len(names) > 1 and not set(names) <= set(self.names.coordinates))):
            raise self.error(expected, by[0])
        limits = [self.scalar(one) for one in node.args[2:]] or [None, None]
        over: tuple[str, ...] | None = tuple(names) or None
        own = names[0] if len(names) == 1 and names[0] not in self.names.coordinates else ""
        if own in self.symbols:
            raise self.error("has a meaning already; take another name for the variable", by[0])
        self.variable = own, ""
        if own:
            self.symbols[own] = self._symbol(own)
        integrand = self.scalar(node.args[0])
        if own:
            over = (self.variable[1],)
            del self.symbols[own]
        self.variable = None
        if over == ("",):
            raise self.error(f"holds no unknown at {own}, such as {self.names.unknowns[0]}({own})", node.args[0])
        coordinates = [self.symbols[one] for one in self.names.coordinates]
        function = self.sympy.Function(f"integral{len(self.integrals)}", real=True)(*coordinates)
        self.integrals[function] = IntegralTerm(integrand, over, own, (limits[0], limits[1]))
        return function

    def _there(self, node: ast.Call, name: str) -> Any:
        """Return an unknown, or a derivative of it, at the variable of integration: u(s), u_x(s, t)."""
        assert self.variable is not None
        own, coordinate = self.variable
        given = [one.id if isinstance(one, ast.Name) else "" for one in node.args]
        known = self.names.depends.get(name.partition("_")[0], self.names.coordinates)
        at = [k for k, one in enumerate(given) if one == own]
        if len(given) != len(known) or len(at) != 1 or any(one not in (own, known[k]) for k, one in enumerate(given)):
            shown = ", ".join((own, *known[1:]))
            raise self.error(f"expected the coordinates with {own} in place of one, such as {name}({shown})", node)
        if coordinate not in ("", known[at[0]]):
            raise self.error(f"{own} stands for {coordinate} already", node)
        self.variable = own, known[at[0]]
        expression = self._name(node, name)
        self.there |= self.derivatives_of(expression)
        return self.sympy.Function(f"{name}{THERE}", real=True)(*(self.symbols[one] for one in given))

    def derivatives_of(self, expression: Any) -> set[str]:
        """Derivatives of unknowns in an expression, by coordinates with "_" between them."""
        found = self.there | {"_".join(map(str, one.variables)) for one in expression.atoms(self.sympy.Derivative)}
        return found | (set(self.names.space) if self.along_normal else set())
