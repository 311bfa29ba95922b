"""Views of values: functions T of them over a factor, in which a law may be a sum of a few terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from kanpinn.symbolic.library import Array
from kanpinn.symbolic.terms import Terms

ELIMINATED = 120
"""Terms of which all together are a start: the cheapest, and a third as many most like the target."""


@final
@dataclass(frozen=True)
class Kind:
    """A function T of the values over a factor, and how it is undone."""

    name: str
    price: float
    change: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    undone: str


KINDS = (
    Kind("y", 0.0, lambda y: y, np.ones_like, "({})"),
    Kind("1/y", 1.0, lambda y: 1 / y, lambda y: 1 / y**2, "1/({})"),
    Kind("y**2", 1.0, np.square, lambda y: 2 * np.abs(y), "sqrt({})"),
    Kind("1/y**2", 1.5, lambda y: y**-2.0, lambda y: 2 / np.abs(y) ** 3, "1/sqrt({})"),
    Kind("sqrt(y)", 1.0, np.sqrt, lambda y: 0.5 / np.sqrt(y), "({})**2"),
    Kind("sin(y)", 1.0, np.sin, np.cos, "asin({})"),
    Kind("cos(y)", 1.0, np.cos, lambda y: np.abs(np.sin(y)), "acos({})"),
    Kind("tan(y)", 1.0, np.tan, lambda y: 1 + np.tan(y) ** 2, "atan({})"),
    Kind("exp(y)", 1.0, np.exp, np.exp, "log({})"),
)


def possible(kind: Kind, y: Array) -> bool:
    """Tell whether values are such as this function undone has."""
    if kind.name in ("y**2", "1/y**2", "sqrt(y)"):
        return bool((y > 0).all()) or bool((y > -0.05 * y.std()).all())
    if kind.name in ("sin(y)", "tan(y)"):
        return bool(np.abs(y).max() < np.pi / 2)
    if kind.name == "cos(y)":
        return bool(y.min() > 0 and 0.5 < y.max() < np.pi)
    if kind.name == "exp(y)":
        return bool(0.1 < np.ptp(y) < 20 and np.abs(y).max() < 20)
    return True


@final
@dataclass(frozen=True)
class View:
    """Terms held against a function of the values: columns always there, the pool, the target, all weighted."""

    kind: Kind
    factor: str
    base: Array
    pool: Terms
    target: Array
    weights: Array


def likely(view: View) -> list[int]:
    """Numbers of the cheapest terms of a view, and of those most like the target, without constants of their own."""
    scale = view.weights / np.sqrt(np.mean(view.weights**2))
    columns = view.pool.values * scale
    like = np.abs(columns @ (view.target * scale)) / np.linalg.norm(columns, axis=1)
    fixed = np.array([text[0] != "#" and "." not in text for text in view.pool.texts])
    cheap = np.argsort(np.where(fixed, view.pool.costs, np.inf), kind="stable")[:ELIMINATED]
    best = np.argsort(np.where(fixed, -like + 1e-9 * view.pool.costs, np.inf), kind="stable")[: ELIMINATED // 3]
    return list(dict.fromkeys([*cheap.tolist(), *best.tolist()]))
