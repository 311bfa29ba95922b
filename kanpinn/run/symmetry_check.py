"""Check of the symmetry that a problem claims; a network with a symmetry it has not would end in a wrong solution."""

from __future__ import annotations

import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Box, Coordinates
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.points import INTERIOR
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde import Condition
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import inside

OTHER_END = {"-": "+", "+": "-"}


def check_symmetry(residuals: Residuals, theta: Tensor, points: Tensor) -> None:
    """Refuse claims of symmetry that do not hold at the points `[N, d]` and at their images on the faces.

    With a network that has the symmetry, residuals at mirrored points are the same but for their signs; so are those of
    the conditions on a face and on its image, whichever condition they belong to. Inner planes and periodic conditions
    are not looked at.

    Raises:
        UserError: Naming what is not mirrored: inputs, domain, equations, conditions, or a condition that symmetry is
            said to imply and does not.
    """
    problem, embedding = residuals.problem, residuals.backbone.embedding
    who, names = f"problem={type(problem).__name__}", problem.domain.names
    if embedding.symmetry and not (isinstance(problem.domain, Box) and not problem.domain.name):
        raise UserError(f"{who}: symmetry needs a domain Box(…) without a name, not {problem.domain}")
    for name, parity in embedding.symmetry.items():
        claim = f'{who}: symmetry={{"{name}": "{parity}"}} does not hold'
        column, total = names.index(name), sum(problem.domain.interval(name))

        def mirrored(p: Tensor, column: int = column, total: float = total) -> Tensor:
            out = p.clone()
            out[:, column] = total - p[:, column]
            return out

        space = JetSpace(names, ())
        if not _same(embedding.forward(points, space)[0], embedding.forward(mirrored(points), space)[0]):
            raise UserError(f"{claim}: inputs are others at mirrored points")
        if not torch.equal(*(_inside(residuals, p) for p in (points, mirrored(points)))):
            raise UserError(f"{claim}: the domain is another at mirrored points")
        for equation, here in residuals.interior(theta, points).items():
            there, size = residuals.interior(theta, mirrored(points))[equation], residuals.scales.of(INTERIOR, equation)
            if not _same(here.abs() / size, there.abs() / size):
                raise UserError(f"{claim}: the equations are others at mirrored points")
        for face in problem.domain.pieces:
            image = name + OTHER_END[face[-1]] if face[:-1] == name else face
            on_face = _onto(residuals, points, face)
            here, there = _on(residuals, theta, face, on_face), _on(residuals, theta, image, mirrored(on_face))
            if here.shape != there.shape or not _same(here, there):
                raise UserError(f"{claim}: the conditions on {face} are others at mirrored points")
    for condition in conditions_of(problem):
        if condition.symmetry not in embedding.symmetry:
            continue
        for face in (face for face in problem.domain.pieces if face in condition.supports):
            if not _vanishes(residuals, theta, condition, face, _onto(residuals, points, face)):
                claim = f"implied by the symmetry in {condition.symmetry}"
                raise UserError(f"{who}: condition {condition.name} on {face} is not {claim}")


def _loose(values: Tensor) -> tuple[float, float]:
    """Differences that rounding explains, relative to values and to their scale."""
    return (1e-6, 1e-12) if values.dtype == torch.float64 else (1e-2, 1e-4)


def _same(one: Tensor, two: Tensor) -> bool:
    """Tell whether two arrays differ by no more than rounding."""
    relative, absolute = _loose(one)
    if not one.numel():
        return True
    return not float((one - two).abs().max()) > relative * float(one.abs().max()) + absolute


def _onto(residuals: Residuals, points: Tensor, face: str) -> Tensor:
    """Points `[N, d]` moved onto a face, `"x-"`."""
    domain, out = residuals.problem.domain, points.clone()
    out[:, domain.names.index(face[:-1])] = domain.interval(face[:-1])["-+".index(face[-1])]
    return out


def _normals(residuals: Residuals, face: str, points: Tensor) -> Tensor | None:
    """Outward normals `[N, d]` at points `[N, d]` of a face."""
    normal = residuals.problem.domain.piece(face).normal
    return None if normal is None else torch.from_numpy(normal(points.cpu().numpy())).to(points)


def _inside(residuals: Residuals, points: Tensor) -> Tensor:
    """Return which points belong to the domain, `[N]`."""
    found = inside(residuals.problem, points)
    return torch.ones(len(points), dtype=torch.bool, device=points.device) if found is None else found


def _on(residuals: Residuals, theta: Tensor, face: str, points: Tensor) -> Tensor:
    """Sizes, in units of their scales, of all residuals that conditions have on a face, `[N, equations]`; −1 if none.

    They ascend at every point.
    """
    columns, coordinates = [], Coordinates(residuals.problem.domain.names, points.unbind(1))
    for condition in residuals.conditions.values():
        if condition.periodic or face not in condition.supports:
            continue
        held = condition.where(coordinates) if condition.where else None
        found = residuals.condition(condition, theta, points, _normals(residuals, face, points))
        for equation, value in found.items():
            size = value.abs() / residuals.scales.of(condition.name, equation)
            columns.append(size if held is None else torch.where(held, size, -torch.ones_like(size)))
    return torch.stack(columns, 1).sort(1).values if columns else points.new_empty(len(points), 0)


def _vanishes(residuals: Residuals, theta: Tensor, condition: Condition, face: str, points: Tensor) -> bool:
    """Tell whether a condition that is no term of the loss holds at points `[N, d]` of a face by construction."""
    values = residuals.condition(condition, theta, points, _normals(residuals, face, points))
    of = residuals.scales.of
    return all(float(v.abs().max()) <= _loose(v)[0] * of(condition.name, equation) for equation, v in values.items())
