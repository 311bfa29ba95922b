"""A problem's own methods, called so that each fault is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.pde.condition import called
from kanpinn.pde.problem import Problem
from kanpinn.pde.time_slab import TimeSlab


def ask(problem: Problem, who: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a problem's method; whatever it raises, `sys.exit` included, becomes a UserError that says where."""
    return called(f"problem={problem_name(problem)}: {who}", method, *arguments, file=_source(problem))


def problem_name(problem: Problem) -> str:
    """Return the name of a problem's class, for a time slab that of the whole problem."""
    return _whole(problem).__name__


def _whole(problem: Problem) -> type[Problem]:
    return type(problem.whole if isinstance(problem, TimeSlab) else problem)


def _source(problem: Problem) -> str | None:
    return getattr(sys.modules.get(_whole(problem).__module__), "__file__", None)


def checked(problem: Problem, who: str, result: Any, count: int) -> dict[str, Tensor]:
    """Return a residual's terms `[count]` by equation name ("" for a single one), once their shapes are right.

    Raises:
        UserError: If there is no equation, a name is no text, or a part is anything else than a real floating-point
            tensor `[count]`.
    """
    named = dict(result) if isinstance(result, Mapping) else {"": result}
    where = f"problem={problem_name(problem)}: {who} returned"
    if not named:
        raise UserError(f"{where} no equation")
    for name, value in named.items():
        if not isinstance(name, str):
            raise UserError(f"{where} an equation called {name!r}, expected a text such as 'mass'")
        if not isinstance(value, Tensor) or value.shape != (count,):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"{where} {got}, expected a tensor of shape ({count},)")
        if value.layout != torch.strided or value.device.type == "meta":
            raise UserError(f"{where} a tensor without values of its own, expected a plain one of shape ({count},)")
        if value.is_complex():
            parts = '{"real": r.real, "imaginary": r.imag}'
            raise UserError(f"{where} complex numbers, expected real ones: two equations, such as {parts}")
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(f"{where} {kind}, expected floating-point numbers that change with the network")
    return named
