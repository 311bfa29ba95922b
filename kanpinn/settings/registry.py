"""Names to classes, for every config group whose choices are components; objects as the plain values of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from kanpinn.backbones import BACKBONES
from kanpinn.errors import unknown_choice
from kanpinn.least_squares.weighting import WEIGHTINGS
from kanpinn.loggers import LOGGERS
from kanpinn.multilevel import SCHEDULES
from kanpinn.optimizers import OPTIMIZERS, Optimizer
from kanpinn.pde.parameter import intervals_of
from kanpinn.pde.problem import Problem
from kanpinn.pde.table import Table
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.discovery import USER_MODULE, problem_file
from kanpinn.settings.tables import described_table
from kanpinn.solver.setup import name_of

REGISTRY: dict[str, dict[str, type[Any]]] = {
    "backbone": dict(BACKBONES),
    "sampler": dict(SAMPLERS),
    "schedule": dict(SCHEDULES),
    "optimizer": dict(OPTIMIZERS),
    "weighting": dict(WEIGHTINGS),
    "logger": dict(LOGGERS),
}


def options(group: str, name: str) -> type[Any]:
    """The dataclass whose fields are the options of one choice of a config group; checks them when it is called.

    Raises:
        UserError: If there is no such choice.
    """
    if name not in REGISTRY[group]:
        raise unknown_choice(group, name, REGISTRY[group])
    return REGISTRY[group][name]


OBJECT = "object"
"""Key of the problem group that names the class of a problem which no file defines."""


def described(part: Any) -> dict[str, Any]:
    """Return the group of a config that stands for an object: its name and its options."""
    loggers = {cls: name for name, cls in LOGGERS.items()}
    return {"name": loggers.get(type(part)) or name_of(part), **plain(part)}


def described_problem(problem: Problem, conditions: str) -> dict[str, Any]:
    """Return the problem group of a problem object: the name of its file, or else its class, and its coefficients."""
    if isinstance(problem, Table):
        return described_table(problem)
    cls = type(problem)
    places = ("kanpinn.problems.", USER_MODULE)
    file = next((cls.__module__.removeprefix(place) for place in places if cls.__module__.startswith(place)), "")
    if file and problem_file(file) is not None:
        known = {"name": file}
    else:
        known = {"name": cls.__name__, OBJECT: f"{cls.__module__}.{cls.__qualname__}"}
    return {**known, **plain(problem), "conditions": conditions}


def described_unknowns(problem: Problem) -> dict[str, Any]:
    """Return the key `unknown` of a config for the coefficients of a problem that are to be found."""
    found = free_coefficients(problem)
    return {name: {"start": float(one), "lower": one.lower, "upper": one.upper} for name, one in found.items()}


def described_parameters(problem: Problem) -> dict[str, list[float]]:
    """Return the key `parameters` of a config for the coefficients that a problem declares as such."""
    return {name: list(ends) for name, ends in intervals_of(problem).items()}


def plain(value: Any) -> Any:
    """Return an object's options as plain values; what has none is shown as Python does."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _entry(getattr(value, field.name)) for field in fields(value) if field.init}
    return _entry(value)


def _entry(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return float(value) if isinstance(value, float) else value
    if isinstance(value, list | tuple):
        return [_entry(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _entry(item) for key, item in value.items()}
    if isinstance(value, Optimizer):
        return described(value)
    return plain(value) if is_dataclass(value) and not isinstance(value, type) else repr(value)
