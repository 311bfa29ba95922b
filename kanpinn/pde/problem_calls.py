"""A problem's own methods, called so that each fault is one line, and the unknowns they make of a network's outputs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kanpinn.errors import UserError, invalid
from kanpinn.geometry import Coordinates
from kanpinn.jets.jet import Jet
from kanpinn.pde.condition import called
from kanpinn.pde.problem import Problem, output_names
from kanpinn.pde.time_slab import TimeSlab
from kanpinn.pde.unknown import free_coefficients


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


def network_fields(problem: Problem, raw: Jet, points: Tensor, *, exact: bool) -> dict[str, Jet]:
    """The unknowns as jets `[C, N]` by name, of a network's outputs `[C, N, outputs]` at points `[N, d]`.

    Coefficients that are found with the network stand behind its outputs, and come along by name.

    Raises:
        UserError: If the exact form is asked for and not offered, or there are other outputs than unknowns and no
            ansatz.
    """
    space = raw.space
    names = output_names(problem)
    found = free_coefficients(problem) if raw.data.shape[-1] > len(names) else {}
    coefficients = {name: Jet(space, raw.data[..., len(names) + k]) for k, name in enumerate(found)}
    return _unknowns(problem, raw, points, exact=exact) | coefficients


def _unknowns(problem: Problem, raw: Jet, points: Tensor, *, exact: bool) -> dict[str, Jet]:
    space = raw.space
    names = output_names(problem)
    fields = {name: Jet(space, raw.data[..., k]) for k, name in enumerate(names)}
    coordinates = Coordinates(problem.domain.names, space.variables(points))
    result = ask(problem, "ansatz", problem.ansatz, coordinates, Coordinates(names, list(fields.values())))
    if result is not None:
        fields = _rebuilt(problem, "ansatz", result, tuple(raw.data.shape[:2]))
    elif names != problem.unknowns:
        raise UserError(f"problem={problem_name(problem)}: outputs {', '.join(names)} need an ansatz")
    if not exact:
        return fields
    raw_fields = Coordinates(problem.unknowns, list(fields.values()))
    result = ask(problem, "exact", problem.exact, coordinates, raw_fields)
    if result is None:
        raise invalid("problem.conditions", "exact", "soft: this problem offers no exact form")
    return _rebuilt(problem, "exact", result, tuple(raw.data.shape[:2]))


def _rebuilt(problem: Problem, who: str, result: Any, shape: tuple[int, ...]) -> dict[str, Jet]:
    """Return the result of `exact` or `ansatz` in the order of the unknowns, once it is a jet for each."""
    rebuilt = dict(result) if isinstance(result, Mapping) else {problem.unknowns[0]: result}
    if set(rebuilt) != set(problem.unknowns) or not all(
        isinstance(jet, Jet) and jet.data.shape == shape for jet in rebuilt.values()
    ):
        raise UserError(
            f"problem={problem_name(problem)}: {who} must return one jet for each of "
            f"{', '.join(problem.unknowns)}, of shape {list(shape)}"
        )
    return {name: rebuilt[name] for name in problem.unknowns}
