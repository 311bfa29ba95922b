"""Orders of a problem's equations in its coordinates, and conditions that are more than these ask for.

For small changes of the unknowns the equations are Σ_jα s_ijα ∂_α δu_j = 0 with s_ijα = ∂r_i/∂(∂_α u_j). Put a number λ
for the derivative in one coordinate and imaginary ones for those in the others: the degree in λ of the determinant of
the matrix that is left is the number of constants that solutions have in that coordinate (Chrystal's theorem; Ince,
Ordinary Differential Equations, 1926, ch. 6), and thus of conditions at its two ends together. Pieces of a boundary
that are ends of no coordinate carry half of them each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.geometry import Box, Piece
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.claims import every_term
from kanpinn.least_squares.points import INTERIOR, CollocationPoints
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import Trial, random_parameters, smooth_network, trials
from kanpinn.pde.condition import pieces_of
from kanpinn.samplers import CollocationSample

NOTHING = 1e-10
"""Coefficient of the determinant, relative to the product of its rows' norms, up to which it is rounding."""


def more_conditions(residuals: Residuals, sample: CollocationSample) -> bool:
    """Tell whether there may be more conditions than the equations' order asks for, data not counted.

    False only where that is sure: conditions hold on whole pieces of the boundary, and the order is known.

    Args:
        residuals: Those of the run.
        sample: Points of all conditions.
    """
    counted, names = CountedConditions(residuals, sample, repeated=True), residuals.problem.domain.names
    posed = [condition for condition in residuals.conditions.values() if condition.given is None]
    ends = [
        on[:-1] for condition in posed if not condition.periodic for on in condition.supports if isinstance(on, str)
    ]
    if counted.joint or counted.wrapped.intersection(ends):
        return True
    if any(not isinstance(on, str) or on == "domain" for condition in posed for on in condition.supports):
        return len(names) > 1 or any(counted.everywhere > counted.order(name) for name in names)
    left = [name for name in names if name not in counted.wrapped and name not in residuals.problem.parameters]
    orders = {name: counted.order(name) for name in left}
    half = min((order // 2 for name, order in orders.items() if name != "t"), default=0)
    ends = [counted.on.get(f"{name}-", 0) + counted.on.get(f"{name}+", 0) > order for name, order in orders.items()]
    return any(ends) or any(there > half for piece, there in counted.on.items() if piece[:-1] not in names)


@final
class CountedConditions:
    """Numbers of a problem's conditions, and the orders of its equations.

    A condition that is given again is not counted, unless `repeated`.

    Attributes:
        inside: The equations at points inside.
        network: A network for them.
        theta: Its parameters.
        pieces: Every condition's number of equations and the pieces that it holds on.
        on: Conditions by piece of the boundary; those on an inner plane x=0.5 count on x-.
        everywhere: Those of all pieces, planes and single points.
        joint: Those by integrals.
        wrapped: Coordinates in which the problem is periodic or symmetric.
    """

    def __init__(self, residuals: Residuals, sample: CollocationSample, *, repeated: bool = False) -> None:
        problem, embedding = residuals.problem, residuals.backbone.embedding
        self.network = smooth_network(problem, embedding)
        plain = Residuals(problem, self.network, scales=residuals.scales)
        found = trials(plain, every_term(plain, sample))
        self.theta = random_parameters(self.network, np.random.default_rng(6), found[0].points.points)
        self.inside = next(trial for trial in found if trial.name == INTERIOR)
        self.pieces: list[tuple[int, Piece]] = []
        self.on: dict[str, int] = {}
        self._known: dict[str, Tensor] = {}
        self.everywhere = self.joint = 0
        self.wrapped = {*embedding.periodic, *embedding.symmetry}
        for trial in found:
            if trial.name == INTERIOR:
                continue
            condition = plain.conditions[trial.name]
            if condition.given is not None:
                continue
            points = trial.at(torch.arange(trial.count))
            rows = len(trial.of_fields(trial.fields(trial.outputs(self.network, self.theta), points), points))
            self.wrapped |= {condition.periodic} - {None}
            if condition.joint:
                self.joint += rows
                continue
            slopes = None if condition.periodic or repeated else _slopes(trial, self.network, self.theta)
            for piece in pieces_of(condition, problem.domain):
                if not piece.chart.measure:
                    continue
                if slopes is not None and piece.chart.part is None and piece.beside is None:
                    rows = self._new(piece.name, slopes)
                self.pieces.append((rows, piece))
                self.everywhere += rows * (1 if piece.chart.dimension else round(piece.chart.measure))
                name, plane, _ = piece.name.partition("=")
                name = f"{name}-" if plane else name
                self.on[name] = self.on.get(name, 0) + rows

    def _new(self, piece: str, slopes: Tensor) -> int:
        """Number of equations `[N, equations, unknowns, C]` on a piece that do not follow from those before there."""
        known = self._known.get(piece, slopes[:, :0])
        count = min(len(known), len(slopes))
        rows = torch.cat([known[:count], slopes[:count]], dim=1).flatten(2)
        self._known[piece] = rows.view(count, -1, *slopes.shape[2:])
        rows = rows / rows.norm(dim=2, keepdim=True).clamp_min(1e-300)
        before, after = (torch.linalg.matrix_rank(own, rtol=1e-9) for own in (rows[:, : known.shape[1]], rows))
        return int((after - before).max())

    def order(self, name: str) -> int:
        """Order of the equations in a coordinate, the least that they have inside and at its ends; 0 if unknown."""
        problem = self.inside.residuals.problem
        column = problem.domain.names.index(name)
        ends = problem.domain.interval(name) if isinstance(problem.domain, Box) else ()
        pole = name == "r" and problem.domain.interval(name)[0] == 0
        places = [self.inside, *(replace(self.inside, points=_moved(self.inside.points, column, x)) for x in ends)]
        found = min(degree(place, slopes_of(place, self.network, self.theta), name) for place in places)
        return found // 2 if pole else found


def _moved(points: CollocationPoints, column: int, value: float) -> CollocationPoints:
    """Return a term's points with another value of one coordinate."""
    (term,), at = points.terms, points.points.clone()
    at[:, column] = value
    return CollocationPoints(at, (replace(term, coordinates=at[term.points]),))


def slopes_of(trial: Trial, network: Backbone, theta: Tensor, factor: float = 1.0) -> Tensor | None:
    """Derivatives s `[N, equations, unknowns, C]` of as many equations as unknowns; None without any, or others."""
    found = _slopes(trial, network, theta, factor)
    return found if found is None or found.shape[1] == found.shape[2] else None


def _slopes(trial: Trial, network: Backbone, theta: Tensor, factor: float = 1.0) -> Tensor | None:
    """Derivatives s `[N, equations, unknowns, C]` of the equations, the unknowns times a factor; None without any."""
    points = trial.at(torch.arange(trial.count))
    fields = trial.fields(trial.outputs(network, theta), points)
    leaves = {name: Jet(jet.space, (factor * jet.data.detach()).requires_grad_()) for name, jet in fields.items()}
    data = [jet.data for jet in leaves.values()]
    with torch.enable_grad():
        rows = list(trial.of_fields({n: Jet(j.space, j.data + 0.0) for n, j in leaves.items()}, points).values())
        if not all(row.requires_grad for row in rows):
            return None
        found = [
            torch.stack(torch.autograd.grad(row.sum(), data, retain_graph=True, materialize_grads=True)) for row in rows
        ]
    return torch.stack(found).permute(3, 0, 1, 2).double().cpu()


def degree(trial: Trial, slopes: Tensor | None, name: str) -> int:
    """Least degree, over the points, of the determinant in the derivative by a coordinate; 0 where it vanishes."""
    if slopes is None or not bool(torch.isfinite(slopes).all()):
        return 0
    space, domain = trial.residuals.space, trial.residuals.problem.domain
    most = slopes.shape[2] * max(index.count(name) for index in space.indices)
    circle = np.exp(2j * np.pi * np.arange(most + 1) / (most + 1))
    symbols: NDArray[np.complex128] = np.ones((most + 1, len(space.indices)), complex)
    for c, index in enumerate(space.indices):
        for one in index:
            length = (domain.interval(one)[1] - domain.interval(one)[0]) / 2
            symbols[:, c] *= (circle if one == name else 1j * (0.7 + 0.4 * domain.names.index(one))) / length
    matrices = np.einsum("neuc,mc->nmeu", slopes.numpy(), symbols)
    norms = np.linalg.norm(matrices, axis=3, keepdims=True).max(1, keepdims=True)
    matrices = np.divide(matrices, norms, out=np.zeros_like(matrices), where=norms > 0)
    held = np.abs(np.fft.fft(np.linalg.det(matrices), axis=1)) / (most + 1) > NOTHING
    return int(np.where(held, np.arange(most + 1), 0).max(1).min())
