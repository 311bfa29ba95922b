"""Values of formulas: SymPy's expressions evaluated on tensors, part by part."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from kanpinn.jets.bessel import KINDS, bessel
from kanpinn.jets.jet import Jet

TORCH = (
    *("sin", "cos", "tan", "exp", "log", "sqrt", "sinh", "cosh", "tanh"),
    *("asin", "acos", "atan", "atan2", "erf", "sign"),
)
"""Functions of the same name here, in SymPy and in torch."""


def value(e: Any, p: Any, coefficients: Mapping[str, float], known: dict[Any, Any]) -> Any:
    """Evaluate SymPy's expression: a number, a tensor `[N]`, or a jet; `known` holds the parts met before."""
    if e not in known:
        known[e] = float(e) if e.is_number else _evaluated(e, p, coefficients, known)
    return known[e]


def _evaluated(e: Any, p: Any, coefficients: Mapping[str, float], known: dict[Any, Any]) -> Any:
    name = type(e).__name__
    if e.is_Symbol:
        return coefficients[e.name] if e.name in coefficients else getattr(p, e.name)
    if name == "Derivative":
        return getattr(p, f"{e.expr.func.__name__}_{'_'.join(map(str, e.variables))}")
    if e.is_Function and name not in TENSORS and not e.is_Piecewise:
        return getattr(p, name)
    if e.is_Piecewise:
        pieces = [(value(part, p, coefficients, known), condition) for part, condition in e.args]
        out = tensor(pieces[-1][0])
        for here, condition in reversed(pieces[:-1]):
            out = torch.where(_holds(condition, p, coefficients, known), tensor(here), out)
        return out
    parts = [value(part, p, coefficients, known) for part in e.args]
    if e.is_Pow:
        base, power = parts
        whole = isinstance(power, float) and power.is_integer()
        return base ** (int(power) if whole else power)
    if e.is_Add or e.is_Mul:
        return reduce(operator.add if e.is_Add else operator.mul, parts)
    return TENSORS[name](*map(tensor, parts))


def _holds(condition: Any, p: Any, coefficients: Mapping[str, float], known: dict[Any, Any]) -> Tensor:
    """Evaluate a comparison, or several joined by and, or; booleans `[N]`."""
    name = type(condition).__name__
    if name in ("And", "Or"):
        parts = [_holds(part, p, coefficients, known) for part in condition.args]
        return reduce(torch.logical_and if name == "And" else torch.logical_or, parts)
    if condition.is_Boolean and not condition.args:
        return torch.tensor(bool(condition))
    sides = (tensor(value(side, p, coefficients, known)) for side in condition.args)
    left, right = (side.value if isinstance(side, Jet) else side for side in sides)
    return _COMPARED[condition.rel_op](left, right)


def tensor(value: Any) -> Any:
    """Return a number as a tensor `[]`, what acts as a tensor as it is."""
    return torch.tensor(value, dtype=torch.float64) if isinstance(value, int | float) else value


_COMPARED = {"<": torch.lt, "<=": torch.le, ">": torch.gt, ">=": torch.ge}
TENSORS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in TORCH},
    "Abs": torch.abs,
    "Min": lambda *values: reduce(torch.minimum, values),
    "Max": lambda *values: reduce(torch.maximum, values),
    **{f"bessel{kind}": lambda n, x, kind=kind: bessel(kind, int(n), x) for kind in KINDS},
    "Heaviside": lambda x, _: (x > 0).to(x),
}
"""Functions of tensors by SymPy's names."""
