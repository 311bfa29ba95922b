"""Conditions that a problem's exact form claims to meet, and unknowns that no condition determines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.embedding import Embedding
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.points import INTERIOR, CollocationPoints, collocation_points
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.least_squares.trial import (
    MOST,
    Trial,
    noise,
    random_parameters,
    responses,
    size_of,
    sizes,
    smooth_network,
    trials,
)
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Problem
from kanpinn.pde.condition import claimed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import output_names
from kanpinn.pde.problem_calls import ask
from kanpinn.samplers import SAMPLERS, CollocationSample

SHARE = 1e-3
"""Part of their size by which unknowns are changed to see how a condition responds."""


def few_points(problem: Problem, dtype: torch.dtype, device: torch.device, count: int = MOST) -> CollocationSample:
    """Draw a number of points of the domain and of each condition, always the same."""
    sampler = SAMPLERS["uniform"](interior=count, boundary=count)
    return sampler.draw(problem, 0, np.random.default_rng(0), dtype=dtype, device=device)


def every_term(residuals: Residuals, sample: CollocationSample) -> CollocationPoints:
    """Lay out points of all terms, their weights being of no interest."""
    return collocation_points(residuals.problem, residuals.conditions, sample, Fixed())


def unmet(
    problem: Problem, embedding: Embedding, dtype: torch.dtype, device: torch.device, scales: Scales | None = None
) -> tuple[str, ...]:
    """Find out which conditions the exact form of a problem does not meet.

    A condition is met if its residual vanishes for a network that is zero and for random ones, to rounding: compared
    with its change when the unknowns and their derivatives are changed by a part of the sizes they have with these
    networks, or with the size of its terms, so that units do not matter.

    Args:
        problem: The problem.
        embedding: The embedding of the network that is trained.
        dtype: Type of points and network.
        device: Their device.
        scales: Sizes of outputs; None for 1.

    Returns:
        The names of those among the conditions that the form would replace.

    Raises:
        UserError: If one of the problem's methods fails.
    """
    posed = ask(problem, "conditions", lambda: conditions_of(problem))
    names = [condition.name for condition in posed if claimed(condition)]
    network = smooth_network(problem, embedding)
    residuals, generator = Residuals(problem, network, exact=True, unmet=names, scales=scales), np.random.default_rng(2)
    found = trials(residuals, every_term(residuals, few_points(problem, dtype, device)))
    zero = found[0].points.points.new_zeros(network.size)
    broken: set[str] = set()
    for theta in (zero, *(random_parameters(network, generator, zero) for _ in range(2))):
        laid = [(trial, trial.at(torch.arange(trial.count))) for trial in found]
        unknowns = [trial.fields(trial.outputs(network, theta), points) for trial, points in laid]
        largest = sizes(unknowns)
        for (trial, points), fields in zip(laid, unknowns, strict=True):
            changes = noise(fields, largest, SHARE, generator)
            if trial.name in names and not _vanishes(trial, fields, points, changes):
                broken.add(trial.name)
    return tuple(name for name in names if name in broken)


def _vanishes(trial: Trial, fields: Mapping, points: CollocationPoints, changes: Mapping[str, Tensor]) -> bool:
    """Tell whether all equations of a condition are zero to rounding, for unknowns that would be changed by a share."""
    with torch.no_grad():
        values = trial.of_fields(fields, points)
    natural = responses(trial, fields, points, changes)
    for equation, value in values.items():
        eps, size = torch.finfo(value.dtype).eps, trial.residuals.scales.of(trial.name, equation)
        rounding = eps**0.5 * size_of(natural[equation]) / SHARE + 100 * eps * size
        if not (bool(torch.isfinite(value).all()) and size_of(value) <= rounding):
            return False
    return True


def undetermined(residuals: Residuals, sample: CollocationSample, *, enough: bool = False) -> list[str]:
    """Name the unknowns of which the equations hold derivatives, and which neither a condition nor the form knows.

    Args:
        residuals: Those of the run.
        sample: Points of all conditions.
        enough: True where conditions are as many as the equations ask for, so that an unknown without any is determined
            by those that it shares equations with.

    Returns:
        A line for each of them, or one if there is no condition at all.
    """
    problem, embedding = residuals.problem, residuals.backbone.embedding
    network = smooth_network(problem, embedding)
    generator = np.random.default_rng(3)
    found = trials(plain := Residuals(problem, network, scales=residuals.scales), every_term(plain, sample))
    theta = random_parameters(network, generator, found[0].points.points)
    free = set(problem.domain.names) - {*embedding.periodic, *embedding.symmetry}
    derived = torch.tensor([bool(free.intersection(index)) for index in plain.space.indices])[:, None]
    used, differential, level = set[str](), set[str](), set[str]()
    built = _built_in(residuals, found[0], found[0].outputs(network, theta))
    touched, equations, shared = set(built), 0, list[set[str]]()
    for trial in found:
        points = trial.at(torch.arange(trial.count))
        fields = trial.fields(trial.outputs(network, theta), points)
        changes = noise(fields, sizes([fields]), 0.5, generator)
        far = {one for components in trial.far(trial.outputs(network, theta)).values() for one in components}
        level |= {name for name, by in far if not by} | _at_level(trial, fields, points, changes)
        far = {name for name, _ in far}
        if trial.name != INTERIOR:
            touched |= held_by(trial, fields, points, changes) | far
            continue
        used = held_by(trial, fields, points, changes) | far
        changes = {name: change * derived.to(change) for name, change in changes.items()}
        differential = held_by(trial, fields, points, changes)
        equations = len(trial.of_fields(fields, points))
        shared = _sharing(trial, fields, points, noise(fields, sizes([fields]), 0.5, generator))
    known = set[str]().union(*(names for names in shared if enough and names & touched))
    left = [name for name in problem.unknowns if name in differential - touched - known]
    lines = [f"no equation and no condition holds {name}" for name in problem.unknowns if name not in used | touched]
    given = any(condition.given is not None for condition in residuals.conditions.values())
    loose = [name for name in problem.unknowns if name in used - touched - differential and name not in problem.depends]
    if loose and equations < len(problem.unknowns) and not given:
        many = f"{equations} equation{'s' * (equations > 1)} for {len(problem.unknowns)} unknowns"
        lines.append(f"{many}, and no condition holds {', '.join(loose)}")
    even = "odd" not in embedding.symmetry.values()
    constant = [name for name in problem.unknowns if name in used - level - built and even and len(found) > 1]
    if constant:
        mean = f"Integral('mean', lambda p: p.{constant[0]})"
        mean = f"a condition {{integral: {constant[0]}, equals: 0}}" if hasattr(problem, "text") else mean
        advice = f"add {mean}, or its value at a point"
        lines.append(f"no term depends on the value of {', '.join(constant)}, only on derivatives: {advice}")
    if left and len(found) == 1:
        offered = not residuals.exact and type(problem).exact is not Problem.exact
        advice = "; problem.conditions=exact would build those of its exact form in" if offered else ""
        return [*lines, f"there is no condition, and the equations alone do not determine {', '.join(left)}{advice}"]
    return lines + [f"no condition holds {name}, which the equations alone may not determine" for name in left]


def held_by(
    trial: Trial, fields: Mapping[str, Jet], points: CollocationPoints, changes: Mapping[str, Tensor]
) -> set[str]:
    """The unknowns whose changes `[C, N]` change a term."""
    each = {name: responses(trial, fields, points, {name: change}) for name, change in changes.items()}
    return {name for name, found in each.items() if any(bool((value != 0).any()) for value in found.values())}


def _sharing(
    trial: Trial, fields: Mapping[str, Jet], points: CollocationPoints, changes: Mapping[str, Tensor]
) -> list[set[str]]:
    """Return the sets of unknowns that equations hold together, directly or by others."""
    by_equation: dict[str, set[str]] = {}
    for name, change in changes.items():
        for equation, value in responses(trial, fields, points, {name: change}).items():
            by_equation.setdefault(equation, set()).update({name} if bool((value != 0).any()) else ())
    found: list[set[str]] = []
    for names in by_equation.values():
        found = [one for one in found if not one & names] + [names.union(*(one for one in found if one & names))]
    return found


def _at_level(
    trial: Trial, fields: Mapping[str, Jet], points: CollocationPoints, changes: Mapping[str, Tensor]
) -> set[str]:
    """The unknowns that matter to a term not by their derivatives or differences alone: a constant changes it."""
    found = set[str]()
    for name, change in changes.items():
        constant = torch.zeros_like(change)
        constant[0] = change[0].abs().max()
        moved, most = (responses(trial, fields, points, {name: one}) for one in (constant, change))
        if any(size_of(value) > 1e-9 * size_of(most[equation]) for equation, value in moved.items()):
            found.add(name)
    return found


def _built_in(residuals: Residuals, trial: Trial, outputs: Tensor) -> set[str]:
    """The unknowns that are others than the network's outputs `[C, 1, N, outputs]` at a trial's points."""
    names = output_names(residuals.problem)
    fields = Trial(residuals, trial.points).fields(outputs, trial.points)
    raw = residuals.scales.raw(Jet(residuals.space, outputs)).data
    plain = {name: raw[:, 0, :, k] for k, name in enumerate(names)}
    return {name for name, jet in fields.items() if name not in plain or not torch.equal(jet.data, plain[name])}
