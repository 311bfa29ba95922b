"""From a trained network to arrays: the output grid, its fields and errors, and everything the solution file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from kanpinn.axes import field_axes, norm
from kanpinn.backbones.base import Backbone
from kanpinn.errors import UserError
from kanpinn.geometry import Coordinates
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.diagnosis import pointwise
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde import Problem
from kanpinn.pde.condition import pieces_of
from kanpinn.pde.problem import inside
from kanpinn.pde.problem_calls import ask
from kanpinn.pde.table import PARTS, Table
from kanpinn.pde.unknown import free_coefficients, posed

CHUNK = 20_000
DEFAULT_POINTS = {1: 1001, 2: 201, 3: 51, 4: 21, 5: 11, 6: 7}
"""Output grid points per coordinate, by dimension of the domain."""


MOST_INPUTS = 3
"""Inputs of a table beyond which its solution is written at its rows, not on a grid."""

ROW = "row"
"""Coordinate of a solution at the rows of a table: their number."""


def by_row(problem: Problem) -> TypeGuard[Table]:
    """Tell whether the solution of a problem is written at the rows of a table."""
    return isinstance(problem, Table) and len(problem.domain) > MOST_INPUTS


class OutputGrid:
    """The tensor grid on which solutions are written and errors measured; of a table of many inputs its rows.

    Attributes:
        coordinates: Values of each coordinate, `[n_k]`.
        axes: Names of a field's axes, slowest first: (t, z, y, x).
        shape: Shape of a field.
        points: The grid as points `[N, d]` float64 on the CPU, columns in the order of the domain.
        inside: Numbers of the points inside the domain, `[n]`.
        reference: The reference of each unknown, of `shape`, NaN outside the domain; empty without one.
    """

    def __init__(self, problem: Problem, count: int | list[int] | None, parts: int = 1) -> None:
        """Lay out the grid, with so many points per coordinate (None for the default), and evaluate the reference.

        A problem that is one of several equal parts in time gets only its share of the points.
        """
        domain = problem.domain
        if by_row(problem):
            points = np.concatenate([problem.points(part) for part in PARTS])
            points = points[np.argsort(np.concatenate([problem.parts[part] for part in PARTS]))]
            self.coordinates, self.axes = {ROW: np.arange(float(len(points)))}, (ROW,)
            self.points, self.shape, self.inside = torch.from_numpy(points), (len(points),), np.arange(len(points))
            self.reference: dict[str, np.ndarray] = {}
            return
        counts = count if isinstance(count, list) else [count or DEFAULT_POINTS.get(len(domain), 11)] * len(domain)
        if len(counts) != len(domain):
            raise UserError(f"output.points={counts}: expected one number, or {len(domain)}, one per coordinate")
        if parts > 1:
            counts = [
                1 + math.ceil((n - 1) / parts) if k == "t" else n for k, n in zip(domain.names, counts, strict=True)
            ]
        self.coordinates = {
            name: np.linspace(*domain.interval(name), n) for name, n in zip(domain.names, counts, strict=True)
        }
        self.axes = field_axes(domain.names)
        mesh = np.meshgrid(*(self.coordinates[name] for name in self.axes), indexing="ij")
        self.shape = mesh[0].shape
        by_name = dict(zip(self.axes, mesh, strict=True))
        self.points = torch.from_numpy(np.stack([by_name[name].ravel() for name in domain.names], axis=1))
        part = inside(problem, self.points)
        self.inside = np.arange(len(self.points)) if part is None else np.flatnonzero(part.cpu().numpy())
        known = reference_values(problem, self.points[torch.from_numpy(self.inside)])
        self.reference = {name: self.spread(v) for name, v in known.items()}

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Lay values at the points inside `[n]` out on the grid, NaN outside; of `shape`."""
        if len(values) == len(self.points):
            return values.reshape(self.shape)
        field = np.full(len(self.points), np.nan)
        field[self.inside] = values
        return field.reshape(self.shape)

    def errors(self, fields: Mapping[str, np.ndarray]) -> tuple[dict[str, float] | None, dict[str, float] | None]:
        """Relative L2 (NaN for a zero reference) and largest error of each unknown inside; None without a reference."""
        if not self.reference:
            return None, None
        l2, linf = {}, {}
        for name, reference in self.reference.items():
            difference = (fields[name] - reference).ravel()[self.inside]
            size = norm(reference.ravel()[self.inside])
            l2[name] = norm(difference) / size if size else math.nan  # nothing to relate it to
            linf[name] = float(np.abs(difference).max())
        return l2, linf

    def norms(self, fields: Mapping[str, np.ndarray]) -> dict[str, float]:
        """‖u‖₂ of each field over the points inside."""
        return {name: norm(values.ravel()[self.inside]) for name, values in fields.items()}

    def change(self, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> dict[str, float]:
        """‖u − v‖₂/‖u‖₂ of each unknown inside, u after and v before; NaN where u vanishes."""
        moved = self.norms({name: values.ravel() - before[name].ravel() for name, values in after.items()})
        return {name: moved[name] / size if size else math.nan for name, size in self.norms(after).items()}


def reference_values(problem: Problem, points: Tensor) -> dict[str, np.ndarray]:
    """The reference at points `[N, d]` float64: `[N]` per unknown that has one; empty without a reference.

    A reference that depends on a coefficient to be found is none: it would be that of the starting value.

    Raises:
        UserError: If the reference raises, has the wrong shape or is not finite.
    """
    coordinates = Coordinates(problem.domain.names, points.clone().unbind(1))
    result = ask(problem, "reference", problem.reference, coordinates)
    if result is None:
        return {}
    named = result if isinstance(result, Mapping) else {problem.unknowns[0]: result}
    starts = free_coefficients(problem)
    if starts:
        moved = posed(problem, {name: 1.25 * start or 1.0 for name, start in starts.items()})
        other = ask(problem, "reference", moved.reference, coordinates)
        others = other if isinstance(other, Mapping) else {problem.unknowns[0]: other}
        named = {name: value for name, value in named.items() if torch.equal(value, others[name])}
    out = {}
    for name, value in named.items():
        if name not in problem.unknowns or not isinstance(value, Tensor) or value.shape != (len(points),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(
                f"problem={type(problem).__name__}: reference of '{name}' is {got}, expected a tensor of shape "
                f"({len(points)},) for one of {', '.join(problem.unknowns)}"
            )
        if value.is_complex():
            raise UserError(
                f"problem={type(problem).__name__}: reference of '{name}' is complex, expected real numbers"
            )
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"problem={type(problem).__name__}: reference of '{name}' is not finite everywhere")
        out[name] = value.detach().double().cpu().numpy()
    return out


def evaluate(residuals: Residuals, theta: Tensor, points: Tensor, derivative: str = "") -> dict[str, np.ndarray]:
    """The unknowns, or their derivative by some coordinates, at points `[N, d]`: `[N]` float64 each."""
    space = JetSpace(residuals.problem.domain.names, (derivative,) if derivative else ())
    out: dict[str, list[np.ndarray]] = {name: [] for name in residuals.problem.unknowns}
    with torch.no_grad():
        for part in torch.split(points.to(theta), CHUNK) if len(points) else ():
            fields = residuals.fields(theta, part, space)
            for name, jet in ((one, fields[one]) for one in out):
                out[name].append(jet[derivative].double().cpu().numpy())
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in out.items()}


def grid_values(residuals: Residuals, theta: Tensor, grid: OutputGrid) -> dict[str, np.ndarray]:
    """The unknowns on the output grid, of its shape, NaN outside the domain."""
    points = grid.points[torch.from_numpy(grid.inside)]
    return {name: grid.spread(values) for name, values in evaluate(residuals, theta, points).items()}


def residual_fields(residuals: Residuals, theta: Tensor, grid: OutputGrid) -> dict[str, np.ndarray]:
    """The equations' residuals on the output grid, by field name ("residual" or "residual_<equation>")."""
    parts: dict[str, list[np.ndarray]] = {}
    for points in torch.split(grid.points[torch.from_numpy(grid.inside)].to(theta), CHUNK):
        for equation, value in residuals.interior(theta, points).items():
            name = f"residual_{equation}" if equation else "residual"
            parts.setdefault(name, []).append(value.double().cpu().numpy())
    return {name: grid.spread(np.concatenate(values)) for name, values in parts.items()}


def solution_fields(residuals: Residuals, theta: Tensor, grid: OutputGrid) -> dict[str, np.ndarray]:
    """Each unknown with its reference and error, and the residuals, on the output grid."""
    fields: dict[str, np.ndarray] = {}
    for name, values in grid_values(residuals, theta, grid).items():
        fields[name] = values
        if name in grid.reference:
            fields[f"{name}_ref"] = grid.reference[name]
            fields[f"{name}_error"] = fields[name] - grid.reference[name]
    return {**fields, **residual_fields(residuals, theta, grid)}


def collocation_points(trained: Sequence[tuple[Objective, Tensor]]) -> dict[str, dict[str, np.ndarray]]:
    """The last collocation points of each term with the size of the residual there: columns `[N]` by term.

    Points of all time slabs follow one after the other.
    """
    blocks: dict[str, dict[str, list[np.ndarray]]] = {}
    for objective, theta in trained:
        sizes = pointwise(objective, theta)
        for term, points in objective.collocation.by_term().items():
            problem = objective.residuals.problem
            columns = {name: points[:, k].cpu().numpy() for k, name in enumerate(problem.domain.names)}
            if by_row(problem):
                columns = {ROW: problem.parts["train"].astype(float)}
            for name, values in {**columns, "residual": sizes[term].cpu().numpy()}.items():
                blocks.setdefault(term, {}).setdefault(name, []).append(values)
    return {term: {name: np.concatenate(v) for name, v in columns.items()} for term, columns in blocks.items()}


def measured_data(residuals: Residuals, theta: Tensor) -> dict[str, dict[str, np.ndarray]]:
    """The data of each term with the unknowns computed at their points: columns `[N]` by term."""
    found, problem = {}, residuals.problem
    if isinstance(problem, Table):
        for part in (one for one in PARTS if len(problem.parts[one])):
            values = evaluate(residuals, theta, torch.from_numpy(problem.points(part)))
            solved = {f"solution_{name}": column for name, column in values.items()}
            if problem.classes:
                solved = {"predicted": np.argmax([values[name] for name in problem.unknowns], axis=0).astype(float)}
            found[part] = {**problem.rows(part), ROW: problem.parts[part].astype(float), **solved}
        return found
    for condition in residuals.conditions.values():
        if condition.given is None:
            continue
        (points,) = (piece.chart.all_points() for piece in pieces_of(condition, problem.domain))
        columns = {name: points[:, k] for k, name in enumerate(problem.domain.names)}
        columns |= {name: np.asarray(column, dtype=np.float64) for name, column in condition.given.items()}
        values = evaluate(residuals, theta, torch.from_numpy(points))
        known = {f"solution_{name}": values[name] for name in values if name in condition.given}
        found[condition.name] = {**columns, **known}
    return found


def model_arrays(backbone: Backbone, theta: Tensor) -> dict[str, np.ndarray]:
    """Every parameter array, with the knots of spline layers, by slash path ("layer_0/coefficients")."""
    out: dict[str, np.ndarray] = {}
    if backbone.embedding.frequencies is not None:
        out["embedding/frequencies"] = backbone.embedding.frequencies.cpu().numpy()
    stored = {name: values.numpy() for name, values in backbone.blocks.view(theta.detach().cpu()).items()}
    return {**out, **backbone.constants(), **stored}


def model_attributes(backbone: Backbone) -> dict[str, Any]:
    """Attributes of the model, stored beside its arrays."""
    attributes: dict[str, Any] = {
        "level": backbone.level,
        "parameters": backbone.size,
        "periodic": ",".join(backbone.embedding.periodic),
        "symmetry": ",".join(f"{name}:{parity}" for name, parity in backbone.embedding.symmetry.items()),
        "rounding": backbone.embedding.rounding,
    }
    return {**attributes, **next((known for layer in backbone.layers if (known := layer.attributes())), {})}
