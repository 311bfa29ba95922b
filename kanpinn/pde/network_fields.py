"""Unknowns of a problem as they are made of a network's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Coordinates
from kanpinn.jets.jet import Jet
from kanpinn.pde.form_builder import exact_form
from kanpinn.pde.problem import Problem, output_names
from kanpinn.pde.problem_calls import ask, problem_name
from kanpinn.pde.time_slab import TimeSlab
from kanpinn.pde.unknown import free_coefficients


def offers_exact(problem: Problem) -> bool:
    """Tell whether a problem, or that of which it is a time slab, has an exact form of its own."""
    whole = problem.whole if isinstance(problem, TimeSlab) else problem
    return type(whole).exact is not Problem.exact


def network_fields(problem: Problem, raw: Jet, points: Tensor, *, exact: bool) -> dict[str, Jet]:
    """The unknowns as jets `[C, N]` by name, of a network's outputs `[C, N, outputs]` at points `[N, d]`.

    Coefficients that are found with the network stand behind its outputs, and come along by name.

    Raises:
        UserError: If the exact form is asked for and no condition can be built in, or there are other outputs than
            unknowns and no ansatz.
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
    if not offers_exact(problem):
        return exact_form(problem)(fields, points)
    raw_fields = Coordinates(problem.unknowns, list(fields.values()))
    result = ask(problem, "exact", problem.exact, coordinates, raw_fields)
    if result is None:
        return exact_form(problem)(fields, points)
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
