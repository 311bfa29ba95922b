"""Examination of a problem before it is solved: every loss term must be a function of the network, point by point."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.errors import UserError
from kanpinn.geometry import Coordinates
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.claims import every_term, few_points
from kanpinn.least_squares.derivatives import check_derivatives, check_jets
from kanpinn.least_squares.diagnosis import place
from kanpinn.least_squares.jumps import jumps
from kanpinn.least_squares.residuals import Residuals
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
from kanpinn.pde import Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import inside
from kanpinn.pde.problem_calls import problem_name
from kanpinn.samplers import CollocationSample

SHARE = 1e-3
"""Part of their size by which unknowns are changed to see how a residual responds."""

MANY = 4096
"""Points at which a term is looked at that seems not to depend on the network."""

SCALES = tuple(sign * scale for scale in (1e-12, 1e-6, 1, 1e2, 1e4, 1e8) for sign in (-1, 1))
"""Multiples of outputs at which a term may depend on them that does not elsewhere, such as an inequality."""


@contextmanager
def random_state(device: torch.device) -> Iterator[None]:
    """Give random numbers and torch's taking of gradients back as they were, whatever a problem does."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - the caller's own
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002


def check_calls(residuals: Residuals, sample: CollocationSample, theta: Tensor) -> list[str]:
    """Refuse terms whose residuals are no functions of the point that can be called again and again.

    Args:
        residuals: The problem's, those of conditions that are built in included.
        sample: Points of all terms.
        theta: Parameters `[P]` of the network at its start.

    Returns:
        Doubts that are no reason to refuse it, a line each.

    Raises:
        UserError: If residuals are not real, not on the points' device or of a wider type, change their inputs, are not
            the same when evaluated again, or depend on other points.
    """
    _check_rules(residuals)
    doubts: list[str] = []
    network, generator = smooth_network(residuals.problem, residuals.backbone.embedding), np.random.default_rng(1)
    other = random_parameters(network, generator, theta)
    found = _trials(residuals, sample)
    with torch.no_grad():
        largest = sizes(trial.fields(trial.outputs(network, other), trial.points) for trial in found)
        for trial in found:
            doubts += _check_inputs(trial, trial.outputs(residuals.backbone, theta))
            _check_points(trial, trial.outputs(network, other), largest, generator)
    return doubts


def check_values(residuals: Residuals, sample: CollocationSample, theta: Tensor) -> list[str]:
    """Refuse terms that no network could make vanish.

    Args:
        residuals: The problem's, of which `check_calls` has refused none.
        sample: Points of all terms.
        theta: Parameters `[P]` of the network at its start.

    Returns:
        Terms that jump as the unknowns change, a line each.

    Raises:
        UserError: If residuals are not finite, do not depend on the network, or have other derivatives than those of
            their values.
    """
    network, generator = smooth_network(residuals.problem, residuals.backbone.embedding), np.random.default_rng(1)
    several = [random_parameters(network, generator, theta) for _ in range(2)]
    found = _trials(residuals, sample)
    with torch.no_grad():
        largest = sizes(trial.fields(trial.outputs(network, several[0]), trial.points) for trial in found)
    doubts: list[str] = []
    for trial in found:
        outputs = [trial.outputs(network, other) for other in several]
        with torch.no_grad():
            _check_finite(trial, trial.outputs(residuals.backbone, theta))
            plain, natural = trial.values(outputs[0]), _natural(trial, outputs[0], largest, generator)
        rounding = {equation: torch.finfo(value.dtype).eps ** 0.5 for equation, value in plain.items()}
        met = [n for n, value in plain.items() if natural[n] and size_of(value) <= rounding[n] * natural[n]]
        values, derivatives = _variants(trial, outputs)
        far = trial.far(outputs[0])
        for equation, by_variant in values.items():
            apart = size_of(by_variant[0] - plain[equation])
            if apart > rounding[equation] * (size_of(plain[equation]) + natural[equation]):
                raise trial.refusal(
                    equation, "has other values at many points, or where derivatives are taken (no_grad)"
                )
            if far.get(equation):
                continue  # on the network elsewhere, by integrals
            if equation not in met and not trial.form and not _depends(by_variant):
                _look_closer(trial, equation, network, several)
            elif equation not in met and not trial.form:
                _check_slope(trial, equation, derivatives[equation])
        check_derivatives(trial, outputs, derivatives, met)
        if trial.form:
            check_jets(trial, network, several[0])
        doubts += jumps(trial, outputs[0], outputs[1], met)
    return doubts


def _trials(residuals: Residuals, sample: CollocationSample) -> list[Trial]:
    """Trials of the form by which the unknowns are made, if there is one, and of all terms."""
    found = trials(residuals, every_term(residuals, sample))
    curved = [name for name, one in residuals.conditions.items() if one.loss is not None]
    found = [trial for trial in found if trial.name not in curved]  # whose derivatives are others on purpose
    form = "exact" if residuals.exact else "ansatz" if type(residuals.problem).ansatz is not Problem.ansatz else ""
    return [replace(found[0], form=form), *found] if form else found


def _check_rules(residuals: Residuals) -> None:
    """Refuse functions of the coordinates alone that are random or compare points: inputs, and parts of the domain."""
    problem, domain, embedding = residuals.problem, residuals.problem.domain, residuals.backbone.embedding
    generator = np.random.default_rng(4)
    points = torch.from_numpy(generator.uniform(domain.lower, domain.upper, (4 * MOST, len(domain))))
    rules: dict[str, Callable[[Tensor], Tensor | None]] = {}
    if embedding.inputs is not None:
        rules["inputs"] = lambda p: embedding.forward(p, JetSpace(domain.names, ()))[0]
    rules["inside"] = lambda p: inside(problem, p)
    for condition in conditions_of(problem):
        if (where := condition.where) is not None:
            rules[f"condition '{condition.name}': where"] = lambda p, where=where: where(
                Coordinates(domain.names, p.clone().unbind(1))
            )
    for name, rule in rules.items():
        first = rule(points)
        for part in () if first is None else (slice(None), slice(0, MOST), slice(MOST, None)):
            again = rule(points[part])
            if first is None or again is None or not torch.allclose(again.to(points), first[part].to(points)):
                who = f"problem={problem_name(problem)}: {name}"
                raise UserError(f"{who} gives other values when it is evaluated again or without some of the points")


def _check_inputs(trial: Trial, outputs: Tensor) -> list[str]:
    """Refuse residuals that change their inputs or are not those of the run's device; returns doubts about types."""
    points = trial.at(torch.arange(trial.count))
    fields = trial.fields(outputs, points)
    names = trial.residuals.problem.domain.names
    inputs = {f"p.{name}": column for name, column in zip(names, points.points.unbind(1), strict=True)}
    inputs |= {f"p.{name}": jet.data for name, jet in fields.items()}
    if points.terms[0].normals is not None:
        inputs["the normal"] = points.terms[0].normals
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    doubts = []
    for equation, value in trial.of_fields(fields, points).items():
        for name, tensor in inputs.items():
            if not _same(tensor, before[name]):
                advice = "write x = p.x - 0.5, not x = p.x; x -= 0.5"
                raise trial.refusal(equation, f"changes {name} in place, which other terms share; {advice}")
        if value.device != outputs.device:
            raise trial.refusal(equation, f"is on {value.device}, but device={outputs.device} is that of the run")
        if value.dtype != outputs.dtype:
            kinds = [str(dtype).removeprefix("torch.") for dtype in (value.dtype, outputs.dtype)]
            text = f"is computed in {kinds[0]}, the run in {kinds[1]}"
            if torch.promote_types(value.dtype, outputs.dtype) != outputs.dtype:
                raise trial.refusal(equation, f"{text}; choose dtype={kinds[0]}, or convert it by .to(p.u)")
            doubts.append(f"{trial.described(equation)} {text}")
    return doubts


def _check_finite(trial: Trial, outputs: Tensor) -> None:
    """Refuse residuals that are not finite at some point."""
    for equation, value in trial.values(outputs).items():
        bad = torch.nonzero(~torch.isfinite(value))[:, 0]
        if len(bad):
            at = place(trial.residuals.problem.domain.names, trial.points.terms[0].coordinates[bad[0]])
            raise trial.refusal(
                equation, f"is not finite at {len(bad)} of {trial.count} points tried, the first at {at}"
            )


def _same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are equal, NaN to NaN."""
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _check_points(trial: Trial, outputs: Tensor, largest: Mapping[str, Tensor], generator: np.random.Generator) -> None:
    """Refuse residuals that are random or depend on other points; arguments as of `_natural`."""
    first = trial.values(outputs)
    trial = replace(trial, equations=tuple(first))
    again = trial.values(outputs)
    natural = _natural(trial, outputs, largest, generator)
    order = torch.from_numpy(generator.permutation(trial.count))
    parts = [(part, trial.values(outputs[:, :, part], part)) for part in (order, *order.chunk(2))]
    for equation, value in first.items():
        if not _same(value, again[equation]):
            text = "gives other values when it is evaluated again (random numbers, or a state of its own)"
            raise trial.refusal(equation, f"{text}; it must be a function of p alone")
        rounding = torch.finfo(value.dtype).eps ** 0.5 * (size_of(value) + natural[equation])
        if any(size_of(own[equation] - value[part]) > rounding for part, own in parts):
            text = "depends on the other points (a mean, maximum, sum, order or number of them)"
            advice = "it has to hold at each point by itself; for an integral write p.integral(lambda q: q.u, over=…)"
            raise trial.refusal(equation, f"{text}; {advice}")


def _natural(
    trial: Trial, outputs: Tensor, largest: Mapping[str, Tensor], generator: np.random.Generator
) -> dict[str, float]:
    """Natural size of every equation: its change with the unknowns, relative to theirs.

    Takes outputs `[C, S, N, outputs]` and the `sizes` of the unknowns in the whole domain.
    """
    points = trial.at(torch.arange(trial.count))
    fields = trial.fields(outputs, points)
    response = responses(trial, fields, points, noise(fields, largest, SHARE, generator))
    return {equation: size_of(value) / SHARE for equation, value in response.items()}


def _variants(trial: Trial, several: list[Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Residuals `[V, N]` for V outputs, several and multiples of the first, and derivatives `[C, S, V, N, outputs]`."""
    variants = [*several, *(scale * several[0] for scale in SCALES)]
    outputs = torch.cat(variants, dim=2).requires_grad_(True)
    shape = (len(variants), trial.count)
    values = trial.values(outputs, torch.arange(trial.count).repeat(len(variants)))
    derivatives = {}
    for equation, value in values.items():
        slope = None
        if value.requires_grad:
            slope = _gradient(trial, equation, value, outputs)
        slope = torch.zeros_like(outputs) if slope is None else slope
        derivatives[equation] = slope.detach().unflatten(2, shape)
    return {equation: value.detach().unflatten(0, shape) for equation, value in values.items()}, derivatives


def _gradient(trial: Trial, equation: str, value: Tensor, outputs: Tensor) -> Tensor | None:
    """Derivative of a sum of residuals, None for none; raises UserError where torch cannot take it."""
    try:
        return torch.autograd.grad(value.sum(), outputs, retain_graph=True, allow_unused=True)[0]
    except Exception as error:  # the backward of a torch.autograd.Function may raise anything
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise trial.refusal(equation, f"has no derivative ({told}); write it in differentiable functions") from error


def _depends(values: Tensor) -> bool:
    """Tell whether some outputs change an equation, where it is finite; takes values as of `_variants`."""
    finite = torch.isfinite(values) & torch.isfinite(values[0])
    return bool((finite & (values != values[0])).any()) or not bool(finite[1:].any())


def _look_closer(trial: Trial, equation: str, network: Backbone, several: list[Tensor]) -> None:
    """Refuse an equation that no outputs change at any of many points; an equation may hold in a small part only."""
    residuals, points = trial.residuals, trial.points.points
    sample = few_points(residuals.problem, points.dtype, points.device, MANY)
    many = next(one for one in trials(residuals, every_term(residuals, sample), MANY) if one.name == trial.name)
    values, derivatives = _variants(many, [many.outputs(network, theta) for theta in several])
    if not _depends(values[equation]):
        advice = "it needs an unknown in it, such as p.u"
        if residuals.exact:
            advice += "; or exact fixes it at other values than 0 and is to be corrected"
        raise trial.refusal(equation, f"does not depend on the network; {advice}")
    _check_slope(trial, equation, derivatives[equation])


def _check_slope(trial: Trial, equation: str, derivatives: Tensor) -> None:
    """Refuse an equation that changes with the outputs and whose derivative is zero or not finite."""
    if not bool((derivatives != 0).any()):
        raise trial.refusal(
            equation,
            "changes with the network, but its derivative is zero (round, sign, detach, no_grad, .data, .item, numpy); "
            "write it in differentiable functions of torch",
        )
    bad = (~torch.isfinite(derivatives[:, :, :2])).any(4).flatten(0, 1).any(0)
    if int(bad.sum()) > 1:
        raise trial.refusal(
            equation,
            f"has a derivative that is not finite at {int(bad.sum())} of {bad.numel()} points tried (a root or "
            "quotient in a branch of torch.where that is not taken?)",
        )
