"""Problems that `untuned_statement.py` has written as plain data: read, and their formulas evaluated on any arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add, mul
from pathlib import Path
from typing import Any

import numpy as np
import sympy

Lookup = Callable[[str], Any]
"""The values of a coordinate, a derivative such as "u_x_x" or "u", or a component of a normal."""

There = Callable[[str, Any], Lookup]
"""The same where a coordinate has other values `[Q, …]`."""

NODES = 20
"""Gauss–Legendre nodes of an integral, as in DeepXDE's Volterra_IDE.py."""

THERE = "__there"


@dataclass(frozen=True)
class Formula:
    """A formula that vanishes.

    Attributes:
        expression: SymPy's expression.
        integrals: Integrals by the names that stand for them.
    """

    expression: Any
    integrals: Mapping[str, Integral]


@dataclass(frozen=True)
class Integral:
    """An integral over one coordinate.

    Attributes:
        over: The coordinate.
        variable: Name of the variable where it is not the coordinate.
        integrand: SymPy's expression.
        limits: The same; None for those of the domain.
    """

    over: str
    variable: str
    integrand: Any
    limits: tuple[Any, Any]


@dataclass(frozen=True)
class Term:
    """Points and what vanishes there.

    Attributes:
        name: "equations", or that of a condition.
        formulas: The formulas.
        points: The points `[n, d]`.
        normals: Outward normals there `[n, d]`, or None.
    """

    name: str
    formulas: list[Formula]
    points: np.ndarray
    normals: np.ndarray | None


@dataclass(frozen=True)
class Statement:
    """A problem.

    Attributes:
        coordinates: Names.
        unknowns: Names.
        lower: Lower ends of its box.
        upper: Upper ends.
        terms: The equations first, then the conditions.
    """

    coordinates: tuple[str, ...]
    unknowns: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    terms: list[Term]

    @staticmethod
    def read(path: Path) -> Statement:
        """Read what `untuned_statement.statement` has told."""
        return Statement.of(json.loads(path.read_text(encoding="utf-8")))

    @staticmethod
    def of(told: Mapping[str, Any]) -> Statement:
        """Return the same of its values."""
        terms = [
            Term(
                one["name"],
                [_formula(own) for own in one["formulas"]],
                np.array(one["points"]),
                None if one["normals"] is None else np.array(one["normals"]),
            )
            for one in told["terms"]
        ]
        names = tuple(told["coordinates"]), tuple(told["unknowns"])
        return Statement(*names, np.array(told["lower"]), np.array(told["upper"]), terms)

    def derivative(self, name: str) -> tuple[int, tuple[int, ...]]:
        """Return number of the unknown and of the coordinates of a derivative such as "u_x_x"; raises ValueError."""
        unknown, *along = name.split("_")
        return self.unknowns.index(unknown), tuple(self.coordinates.index(one) for one in along)

    @property
    def box(self) -> dict[str, tuple[float, float]]:
        """The interval of each coordinate."""
        ends = zip(map(float, self.lower), map(float, self.upper), strict=True)
        return dict(zip(self.coordinates, ends, strict=True))

    def value(self, one: Formula, here: Lookup, there: There, m: Any) -> Any:
        """Evaluate a formula with the functions of a module m, torch or jax.numpy."""

        def named(name: str) -> Any:
            unknown, _, along = name.partition("_")
            if along == "n" and unknown in self.unknowns and "n" not in self.coordinates:
                return reduce(add, (here(f"n_{x}") * here(f"{unknown}_{x}") for x in self.coordinates if x != "t"))
            return here(name)

        known: dict[Any, Any] = {}
        for name, integral in one.integrals.items():
            found = _integral(integral, named, there, m, self.box[integral.over])
            known[sympy.Symbol(name, real=True)] = found
        return _value(one.expression, named, m, known)

    def scaled(self, x: Any) -> Any:
        """Return points `[N, d]` with the box mapped to [-1, 1]^d."""
        middle, half = (self.upper + self.lower) / 2, (self.upper - self.lower) / 2
        return (x - x.new_tensor(middle)) / x.new_tensor(half) if hasattr(x, "new_tensor") else (x - middle) / half


def _formula(told: Mapping[str, Any]) -> Formula:
    integrals = {
        name: Integral(one["over"], one["variable"], _read(one["integrand"]), tuple(map(_read, one["limits"])))
        for name, one in told["integrals"].items()
    }
    return Formula(_read(told["text"]), integrals)


def _read(text: str | None) -> Any:
    """Return SymPy's expression of a text, every name in it that is no function a real number."""
    if text is None:
        return None
    names = set(re.findall(r"\b[^\W\d]\w*\b(?!\()", text)) - {"pi", "True", "False"}
    return sympy.sympify(text, locals={name: sympy.Symbol(name, real=True) for name in names})


def _integral(one: Integral, here: Lookup, there: There, m: Any, ends: tuple[float, float]) -> Any:
    given = zip(one.limits, ends, strict=True)
    lower, upper = (end if limit is None else _value(limit, here, m, {}) for limit, end in given)
    like = here(one.over)
    nodes, weights = (m.asarray(part.reshape(-1, *(1,) * like.ndim)) for part in np.polynomial.legendre.leggauss(NODES))
    nodes, weights = (
        part.astype(like.dtype) if hasattr(part, "astype") else part.to(like) for part in (nodes, weights)
    )
    half = (upper - lower) / 2
    at = lower + half * (nodes + 1)
    other = there(one.over, at)

    def names(name: str) -> Any:
        if name == (one.variable or one.over):
            return at
        if one.variable and THERE not in name:
            return here(name)
        return other(name.replace(THERE, ""))

    return (half * weights * _value(one.integrand, names, m, {})).sum(0)


def _value(e: Any, at: Lookup, m: Any, known: dict[Any, Any]) -> Any:
    """Evaluate SymPy's expression; `known` holds the parts met before."""
    if e not in known:
        known[e] = float(e) if e.is_number else _evaluated(e, at, m, known)
    return known[e]


def _evaluated(e: Any, at: Lookup, m: Any, known: dict[Any, Any]) -> Any:
    if e.is_Symbol:
        return at(e.name)
    if e.is_Piecewise:
        pieces = [(_value(part, at, m, known), condition) for part, condition in e.args]
        out = pieces[-1][0]
        for here, condition in reversed(pieces[:-1]):
            out = m.where(
                _COMPARED[condition.rel_op](*(_value(one, at, m, known) for one in condition.args)), here, out
            )
        return out
    parts = [_value(part, at, m, known) for part in e.args]
    if e.is_Pow:
        base, power = parts
        if power == 0.5:
            return m.sqrt(base)
        return base ** (int(power) if isinstance(power, float) and power.is_integer() else power)
    if e.is_Add or e.is_Mul:
        return reduce(add if e.is_Add else mul, parts)
    name = type(e).__name__
    if name in ("Min", "Max"):
        return reduce(lambda a, b: m.where(a < b if name == "Min" else a > b, a, b), parts)
    if name == "Heaviside":
        return m.where(parts[0] > 0, 1.0, 0.0)
    return getattr(m, _NAMES.get(name, name))(*parts)


_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_NAMES = {"Abs": "abs", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2"}
"""Functions with another name in torch and jax.numpy than in SymPy."""


def errors(values: np.ndarray, known: np.ndarray) -> list[float]:
    """Return the relative L2 error of each column `[N, m]`."""
    return [float(one) for one in np.linalg.norm(values - known, axis=0) / np.linalg.norm(known, axis=0)]
