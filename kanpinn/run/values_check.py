"""Values of a run's network and residuals at a few points, by which a later reader knows that the problem is the same.

A problem's text may be unchanged and yet mean something else: a file that it reads, an environment variable, a module.
Or its methods keep a state that changes while they are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.estimate.linearized import numbers
from kanpinn.geometry.chart import Array
from kanpinn.least_squares.claims import every_term, few_points
from kanpinn.least_squares.points import INTERIOR
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import smooth_network
from kanpinn.pde.problem import inside
from kanpinn.pde.table import Table
from kanpinn.run.flag import Flag
from kanpinn.solver.setup import Setup

MANY = 32
"""Points of the domain and of each condition, at most."""

ROUNDING = 1e-4
"""Difference, relative to the largest value, that may be rounding: of single precision, other versions, devices."""

PLACE = "check/"

Posed = tuple[str, Array, Array]
"""Name of an equation or a condition, points `[N, d]` and its residuals there, `[N]`."""


def check_values(residuals: Residuals, theta: Tensor) -> dict[str, Array]:
    """Return points `[N, d]` of the domain and what is compared there, `[N]`, as arrays for a checkpoint.

    There is nothing of a table, which the checkpoint holds itself.

    Args:
        residuals: The problem and its network.
        theta: The network's parameters `[P]`.
    """
    if isinstance(residuals.problem, Table) or not len(points := _points(residuals)):
        return {}
    found = {"points": points, **_values(residuals, theta, points)}
    for name, at, values in _at_conditions(residuals, theta):
        found |= {name: values, f"points of {name}": at}
    return {f"{PLACE}{name}": own for name, own in found.items()}


def _points(residuals: Residuals) -> Array:
    """Points `[N, d]` of the domain, always the same."""
    domain = residuals.problem.domain
    lower, upper = np.array([domain.interval(name) for name in domain.names]).T
    points = lower + (upper - lower) * np.random.default_rng(0).random((4 * MANY, len(lower)))
    mask = inside(residuals.problem, torch.from_numpy(points))
    return points[:MANY] if mask is None else points[mask.cpu().numpy()][:MANY]


def _values(residuals: Residuals, theta: Tensor, points: Array) -> dict[str, Array]:
    """The unknowns at points `[N, d]`, and the equations' residuals there for random parameters, `[N]` by name."""
    at = torch.from_numpy(points).to(theta)
    with torch.no_grad():
        found = {name: jet.value for name, jet in residuals.fields(theta, at).items()}
    return {name: numbers(own) for name, own in found.items()} | _inside(residuals, theta, points)


def _inside(residuals: Residuals, theta: Tensor, points: Array) -> dict[str, Array]:
    """The equations' residuals at points `[N, d]` for random parameters, `[N]` by name."""
    found = residuals.interior(_random(theta), torch.from_numpy(points).to(theta))
    return {f"residual {name}".rstrip(): numbers(own) for name, own in found.items()}


def _at_conditions(residuals: Residuals, theta: Tensor) -> Iterator[Posed]:
    """Yield a name, points `[N, d]` and residuals there for random parameters `[N]`, of every condition."""
    sample = few_points(residuals.problem, theta.dtype, theta.device, MANY)
    points, other = every_term(residuals, sample), _random(theta)
    with torch.no_grad():
        fields = residuals.fields(other, points.points, residuals.space)
        for term, equation, value in residuals.rows(points, fields, residuals.integrals(other)):
            if term.name != INTERIOR:
                yield f"condition {term.name} {equation}".rstrip(), numbers(term.coordinates), numbers(value)


def _random(theta: Tensor) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(-0.5, 0.5, len(theta))).to(theta)


def compare_values(path: Path, arrays: Mapping[str, Array], residuals: Residuals, theta: Tensor) -> None:
    """Refuse a network that has other values now than those in the arrays of a checkpoint; raises UserError."""
    known = {key.removeprefix(PLACE): own for key, own in arrays.items() if key.startswith(PLACE)}
    points = known.pop("points", np.empty(0))
    names = residuals.problem.domain.names
    if points.dtype != float or points.ndim != 2 or points.shape[1] != len(names) or not np.isfinite(points).all():
        return  # written before there was one, or forged
    found, cut = [(name, points, now) for name, now in _values(residuals, theta, points).items()], ""
    for name, at, now in _at_conditions(residuals, theta):
        then = known.get(f"points of {name}", np.empty(0))
        if then.shape == at.shape and then.dtype == float and np.allclose(then, at, rtol=ROUNDING, atol=0):
            found.append((name, at, now))
        elif f"points of {name}" in known and _is_cut(name, residuals):
            cut = cut or f"{name} holds elsewhere"
    if text := _difference(names, found, known) or cut:
        raise UserError(
            f"{path}: its problem's text is the same, but not what it says: {text}; put back what it reads (a "
            "file, a module, an environment variable), or solve anew"
        )


def _is_cut(name: str, residuals: Residuals) -> bool:
    """Tell whether a condition, named as by `_at_conditions`, holds where a function of the problem's says."""
    return any(f"{name} ".startswith(f"condition {key} ") and one.where for key, one in residuals.conditions.items())


def _difference(names: Sequence[str], found: Sequence[Posed], known: Mapping[str, Array]) -> str:
    """Say where the first of the values found differs from those known, "" if none does."""
    for name, at, now in found:
        then = known.get(name, now)
        if then.dtype != float or then.shape != now.shape:
            continue
        size = float(np.abs(np.nan_to_num(then)).max(initial=0.0))
        differs = ~np.isclose(now, then, rtol=0, atol=ROUNDING * size, equal_nan=True)
        if differs.any():
            k = int(differs.argmax())
            place = ", ".join(f"{one}={x:.3g}" for one, x in zip(names, at[k], strict=True))
            return f"{name} at {place} is {now[k]:.6g}, and was {then[k]:.6g}"
    return ""


def posed_values(setup: Setup) -> list[Posed]:
    """Return residuals of all equations and conditions at a few points, for a network that is the same in all runs.

    There are none of a table.
    """
    problem = setup.problem
    if isinstance(problem, Table):
        return []
    residuals = Residuals(problem, network := smooth_network(problem, setup.embedding()))
    theta = torch.zeros(network.size, dtype=setup.dtype, device=setup.device)
    points = _points(residuals)
    found = [(name, points, own) for name, own in _inside(residuals, theta, points).items()] if len(points) else []
    return [*found, *_at_conditions(residuals, theta)]


def changes(before: Sequence[Posed], setup: Setup) -> list[Flag]:
    """Flag a problem whose `posed_values` are other numbers at the end of a solve than they were `before`."""
    known = {name: values for name, _, values in before}
    text = _difference(setup.problem.domain.names, posed_values(setup), known)
    if not text:
        return []
    told = f"the equations are not the same at the end of the run as at its beginning: {text}"
    return [Flag("problem", f"{told}; the problem's methods must not keep a state that they change")]
