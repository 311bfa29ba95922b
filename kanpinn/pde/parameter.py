"""Parametric problems: coefficients as further coordinates, so that one solution serves all their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from types import new_class
from typing import Any, Self, final

import torch
from torch import Tensor

from kanpinn.errors import UserError, invalid
from kanpinn.geometry import Box, Coordinates, Region
from kanpinn.pde.data import Data
from kanpinn.pde.integral import Integral
from kanpinn.pde.problem import Problem
from kanpinn.pde.unknown import Unknown, check_real, posed


@final
class Parameter(float):
    """A coefficient that becomes a coordinate, such as `k: float = Parameter(1, 4)`; as a number it is the middle.

    Attributes:
        lower: Lower end of its interval.
        upper: Upper end.

    Raises:
        UserError: If these are no finite numbers, the first below the second.
    """

    lower: float
    upper: float

    def __new__(cls, lower: float, upper: float) -> Self:
        """Return the middle, with the ends."""
        if not (math.isfinite(upper - lower) and lower < upper):
            raise UserError(f"Parameter({lower}, {upper}): expected finite numbers, lower < upper")
        found = super().__new__(cls, (lower + upper) / 2)
        found.lower, found.upper = float(lower), float(upper)
        return found


def intervals_of(problem: Problem) -> dict[str, tuple[float, float]]:
    """Return the intervals of a problem's coefficients that are parameters, by name."""
    values = {field.name: getattr(problem, field.name) for field in fields(problem)}
    return {name: (one.lower, one.upper) for name, one in values.items() if isinstance(one, Parameter)}


def parametric(problem: Problem, given: Mapping[str, Sequence[float]]) -> Problem:
    """Return the problem over all values of some coefficients: they are further coordinates of its domain.

    Conditions hold on the same pieces for every value. Its methods see the coefficients as tensors `[N]`, as jets in
    `exact`, `ansatz` and `inputs`, and as plain numbers in `reference`. A problem without parameters is returned as it
    is.

    Args:
        problem: The problem.
        given: Intervals by coefficient, besides those that it declares itself.

    Raises:
        UserError: If one is no coefficient that is a real number, is to be found, has no interval of its values or
            shapes the domain.
    """
    values = {field.name: getattr(problem, field.name) for field in fields(problem)}
    ends = intervals_of(problem)
    for name, interval in given.items():
        key = f"parameters.{name}"
        check_real(problem, name, key, list(interval))
        if isinstance(values[name], Unknown):
            raise invalid(key, interval, f"nothing, where unknown.{name} is given: it is found, or a coordinate")
        if len(interval) != 2 or not (math.isfinite(interval[1] - interval[0]) and interval[0] < interval[1]):
            raise invalid(key, list(interval), "two finite numbers, the lower one first, such as [1, 4]")
        ends[name] = (float(interval[0]), float(interval[1]))
    if not ends:
        return problem
    for name, interval in ends.items():
        _check(problem, name, interval)
    known = {**values, **{name: Parameter(*interval) for name, interval in ends.items()}}
    found = _class(type(problem))(**{field.name: known[field.name] for field in fields(problem) if field.init})
    return posed(found, {"observed": problem.observed}) if problem.observed else found


def _check(problem: Problem, name: str, interval: tuple[float, float]) -> None:
    """Refuse a coefficient that cannot be a coordinate; raises UserError."""
    key = f"parameters.{name}"
    if not name.isalnum() or name in (*problem.domain.names, *problem.unknowns):
        taken = "letters and digits" if not name.isalnum() else "that is no coordinate or unknown already"
        raise invalid(key, list(interval), f"a coefficient with a name of {taken}: it becomes a coordinate")
    own = {field.name for field in fields(problem)}
    adapted: list[dict[str, Any]] = []
    for value in interval:
        try:
            other = replace(problem, **{name: value})
        except UserError as error:
            raise UserError(f"{key}={list(interval)}: {error}") from None
        adapted.append({one: vars(other)[one] for one in vars(other) if one not in own})
    for one, value in adapted[0].items():
        if not _same(value, adapted[1].get(one)):
            raise UserError(f"{key}={list(interval)}: {one} depends on {name}, and cannot for a parameter")


def _same(one: Any, other: Any) -> bool:
    """Compare two values, arrays among them."""
    try:
        return bool(one is other or one == other)
    except (RuntimeError, TypeError, ValueError):
        return type(one) is type(other) and repr(one) == repr(other)


_SINGLE = "domain of a single problem"
"""Name, no identifier, under which a parametric problem keeps the domain without its parameters."""

_AT_POINTS = ("residual", "inside", "inputs", "ansatz", "exact")
"""Methods whose first argument has the coordinates by name."""


@cache
def _class(cls: type[Problem]) -> type[Problem]:
    """Return the class of the same name whose coefficients may be parameters."""

    def at_points(name: str) -> Callable[..., Any]:
        def method(self: Problem, p: Any, *more: Any) -> Any:
            return getattr(cls, name)(_here(self, p), p, *more)

        return method

    def post_init(self: Problem) -> None:
        cls.__post_init__(self)
        if ends := intervals_of(self):
            self.adapt(domain=self.domain * Box(**ends), parameters=ends, **{_SINGLE: self.domain})

    def conditions(self: Problem) -> list[Any]:
        if not intervals_of(self):
            return cls.conditions(self)
        single = posed(self, {"domain": vars(self)[_SINGLE]})
        return [_over_parameters(self, one, cls.conditions) for one in cls.conditions(single)]

    def reference(self: Problem, p: Coordinates) -> Any:
        return _reference(self, p, cls)

    body: Any = {name: at_points(name) for name in _AT_POINTS if _own(cls, name)}
    body |= {"__post_init__": post_init, "conditions": conditions}
    body |= {"reference": reference} if _own(cls, "reference") else {}
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return new_class(cls.__name__, (cls,), {}, lambda names: names.update(body))


def _own(cls: type[Problem], name: str) -> bool:
    return getattr(cls, name) is not getattr(Problem, name)


def _here(problem: Problem, p: Any) -> Problem:
    """Return the problem with the values that its parameters have at some points."""
    ends = intervals_of(problem)
    single = {"domain": vars(problem)[_SINGLE]} if ends else {}
    return posed(problem, single | {name: getattr(p, name) for name in ends})


def _over_parameters(problem: Problem, given: Any, conditions: Callable[[Problem], list[Any]]) -> Any:
    """Return a condition, an integral or data for all values of the parameters."""

    def same(p: Any) -> Any:
        return next(one for one in conditions(_here(problem, p)) if one.name == given.name)

    def residual(p: Any, *more: Any) -> Any:
        return same(p).residual(p, *more)

    if isinstance(given, Integral):
        over = vars(problem)[_SINGLE].names if given.over is None else given.over
        value = (lambda p: same(p).value(p)) if callable(given.value) else given.value
        return replace(given, over=over, integrand=lambda q: same(q).integrand(q), value=value)
    if isinstance(given, Data):
        return given if given.residual is None else replace(given, residual=residual)
    on = tuple(found for support in given.supports for found in _support(support, problem))
    where = None if given.where is None else lambda p: same(p).where(p)
    return replace(given, on=on, residual=residual, where=where)


def _support(support: str | Region, problem: Problem) -> list[str | Region]:
    """Return a support for all values of the parameters: the pieces of the boundary without those in parameters."""
    if isinstance(support, Region):
        return [support * Box(**problem.parameters)]
    return list(vars(problem)[_SINGLE].pieces) if support == "boundary" else [support]


def _reference(problem: Problem, p: Coordinates, cls: type[Problem]) -> Any:
    """Return the reference at points `[N]`, asked for with one value of the parameters after the other."""
    names = list(intervals_of(problem))
    if not names:
        return cls.reference(problem, p)
    values = {field.name: getattr(problem, field.name) for field in fields(problem) if field.init}
    rows, which = torch.unique(torch.stack([getattr(p, name) for name in names], 1), dim=0, return_inverse=True)
    found: dict[str, Tensor] = {}
    single = True
    for k, row in enumerate(rows.tolist()):
        at = which == k
        there = Coordinates(tuple(vars(p)), [column[at] for column in vars(p).values()])
        result: Any = cls(**{**values, **dict(zip(names, row, strict=True))}).reference(there)
        if result is None:
            return None
        single = not isinstance(result, Mapping)
        for name, part in {"": result}.items() if single else result.items():
            found.setdefault(name, torch.zeros(len(which), dtype=part.dtype, device=part.device))[at] = part
    return found[""] if single else found
