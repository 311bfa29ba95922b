"""Residuals of a trained network where it was not trained, against those where it was and the size of what they add."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanpinn.jets.jet import Jet
from kanpinn.least_squares.diagnosis import untrained
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.points import CollocationPoints, Term, collocation_points
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.integration import Quadrature
from kanpinn.samplers import SAMPLERS

AT_ONCE = 20_000
FEWEST, MOST = 1000, 10_000
FINER = 1.5
"""Factor by which integrals have more nodes than those that were trained with."""

SHIFT = 1e-4
"""Change of an unknown or a derivative, relative to its size, by which its part in a residual is measured."""

LEAST = 0.01
"""Least size of an equation's terms, relative to the size it has by `kanpinn.least_squares.scales`.

Where the solution's own terms vanish, as u_xx of a straight line does, they are the residual itself.
"""

Key = tuple[str, str]
"""A term and the name of one of its equations, "" where it has one."""


@dataclass(frozen=True)
class ResidualCheck:
    """Sizes of the residual of one equation or condition; roots of mean squares, without weights.

    Attributes:
        term: The loss term.
        equation: The equation's name, "" where the term has one.
        points: Number of collocation points.
        fitted: Residual at the collocation points.
        fresh: Residual at other points, drawn evenly for this check.
        scale: Size of the terms it adds up: √Σ_k (∂r/∂u_k · U_k)² over the unknowns and derivatives u_k in it, with U_k
            the size of u_k in the domain; or the residual of zero outputs, the size of its source, if that is larger;
            where zero outputs solve everything, that of random parameters; at least `LEAST` of the equation's scale.
        loss: Part of the loss, at the collocation points, with weights.
    """

    term: str
    equation: str
    points: int
    fitted: float
    fresh: float
    scale: float
    loss: float

    @property
    def name(self) -> str:
        """Term and equation in words."""
        return f"'{self.term}'" + (f" ({self.equation})" if self.equation else "")

    @property
    def gap(self) -> float:
        """Factor by which the residual is larger at other points than at the collocation points."""
        return _share(self.fresh, self.fitted) or 1.0

    @property
    def share(self) -> float:
        """Residual at other points relative to the size of its terms; 0 where both vanish."""
        return _share(self.fresh, self.scale)

    @property
    def fitted_share(self) -> float:
        """The same at the collocation points."""
        return _share(self.fitted, self.scale)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else (math.inf if part else 0.0)


@torch.no_grad()
def check_residuals(
    objective: Objective, theta: Tensor, generator: np.random.Generator, most: int = MOST
) -> list[ResidualCheck]:
    """Compare a network's residuals at its collocation points with those at others, four times as many.

    Args:
        objective: Its objective, with points.
        theta: Its parameters `[P]`.
        generator: Draws the other points.
        most: Largest number of those inside.
    """
    fitted, fresh = objective.collocation, _fresh(objective, generator, most)
    found = _rms(objective, fitted, theta)
    own = objective.residuals
    finer = Quadrature(own.problem, own.backbone.cells, FINER)
    other, sizes = _rms(objective, fresh, theta, finer), _sizes(objective, fresh, theta, generator)
    sources = _rms(objective, fresh, torch.zeros_like(theta), finer)
    if not any(sources.values()):  # zero is a solution: what its terms add up to is no measure
        sources = _rms(objective, fresh, untrained(objective, theta), finer)
    losses = _losses(objective, theta)
    points = {term.name: len(term.coordinates) for term in fitted.terms}
    return [
        ResidualCheck(*key, points[key[0]], unit * rms, unit * other[key], unit * size, losses[key])
        for key, rms in found.items()
        for unit, size in [(objective.residuals.scales.of(*key), _largest(sizes[key], sources[key], LEAST))]
    ]


def _largest(*values: float) -> float:
    """The largest finite one; 0 where there is none."""
    return max((value for value in values if math.isfinite(value)), default=0.0)


def _fresh(objective: Objective, generator: np.random.Generator, most: int) -> CollocationPoints:
    """Evenly spread points that no training has seen."""
    residuals, terms = objective.residuals, objective.collocation.terms
    inside, *others = (len(term.coordinates) for term in terms)
    sampler = SAMPLERS["sobol"](
        interior=max(FEWEST, min(4 * inside, most)), boundary=max(FEWEST // 4, min(4 * max(others, default=1), most))
    )
    like = objective.points
    sample = sampler.draw(residuals.problem, 0, generator, dtype=like.dtype, device=like.device)
    return collocation_points(residuals.problem, residuals.conditions, sample, Fixed())


def _rows(
    objective: Objective,
    points: CollocationPoints,
    theta: Tensor,
    quadrature: Quadrature | None = None,
    shifts: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[Key, Tensor]]:
    """Term, equation and residual `[n]` relative to its scale, so that squares neither overflow nor vanish, by pieces.

    Shifts are added to each unknown's jet, `[C, N]` by name.
    """
    residuals = objective.residuals
    for piece in points.pieces(AT_ONCE):
        integrals = residuals.integrals(theta, quadrature=quadrature)
        fields = residuals.fields(theta, piece.points)
        if shifts is not None:
            count = len(piece.points)
            fields = {n: Jet(j.space, j.data + shifts[n][:, :count]) if n in shifts else j for n, j in fields.items()}
        for term, equation, value in residuals.rows(piece, fields, integrals):
            yield (term.name, equation), value / residuals.scales.of(term.name, equation)


def _rms(
    objective: Objective, points: CollocationPoints, theta: Tensor, quadrature: Quadrature | None = None
) -> dict[Key, float]:
    squares: dict[Key, Tensor] = {}
    counts: dict[Key, int] = {}
    for key, value in _rows(objective, points, theta, quadrature):
        squares[key] = squares.get(key, value.new_zeros(())) + value.square().sum()
        counts[key] = counts.get(key, 0) + len(value)
    return {key: math.sqrt(float(total) / counts[key]) for key, total in squares.items()}


def _sizes(
    objective: Objective, points: CollocationPoints, theta: Tensor, generator: np.random.Generator
) -> dict[Key, float]:
    """√Σ_k (∂r/∂u_k · U_k)², from the change of the residual where every u_k moves by ± `SHIFT` U_k at random."""
    inside = points.terms[0].coordinates[:AT_ONCE]
    fields = objective.residuals.fields(theta, inside)
    shifts, sizes = {}, {}
    for name, jet in ((one, fields[one]) for one in objective.residuals.problem.unknowns):
        largest = jet.data.abs().amax(1, keepdim=True).clamp_min(torch.finfo(jet.data.dtype).tiny)  # (C, 1)
        size = sizes[name] = largest * (jet.data / largest).square().mean(1, keepdim=True).sqrt()
        signs = generator.choice([-1.0, 1.0], (len(size), 2 * AT_ONCE))  # points and those across
        shifts[name] = SHIFT * size * torch.from_numpy(signs).to(size)
    squares: dict[Key, float] = {}
    counts: dict[Key, int] = {}
    for (key, value), (_, moved) in zip(
        _rows(objective, points, theta), _rows(objective, points, theta, shifts=shifts), strict=True
    ):
        squares[key] = squares.get(key, 0.0) + float(((moved - value) / SHIFT).square().sum())
        counts[key] = counts.get(key, 0) + len(value)
    for key, square in _far(objective, points, theta, sizes).items():
        squares[key] += square
    return {key: math.sqrt(total / counts[key]) for key, total in squares.items()}


def _far(
    objective: Objective, points: CollocationPoints, theta: Tensor, sizes: Mapping[str, Tensor]
) -> dict[Key, float]:
    """Σ_n Σ_k (Σ_q |∂r_n/∂u_k(q)| U_k)² of the unknowns at nodes q of integrals."""
    residuals, found = objective.residuals, dict[Key, float]()
    for piece in points.pieces(AT_ONCE):
        integrals = residuals.integrals(theta, record=True)
        with torch.enable_grad():
            for term, equation, value in residuals.rows(piece, residuals.fields(theta, piece.points), integrals):
                parts = [one for nodes in integrals.used for one in nodes.slopes(value)]
                far = [slope.abs().sum(0) * sizes[name][residuals.space.position(by)] for (name, by), slope in parts]
                key = term.name, equation
                unit = residuals.scales.of(*key)
                found[key] = found.get(key, 0.0) + sum(float((part / unit).square().sum()) for part in far)
    return found


def _losses(objective: Objective, theta: Tensor) -> dict[Key, float]:
    """Part of each equation in the loss, without multipliers."""
    found: dict[Key, float] = {}
    terms: dict[str, Term] = {term.name: term for term in objective.collocation.terms}
    for term, equation, value in objective.rows(theta):
        found[term.name, equation] = float((value * terms[term.name].scale).square().sum())
    return found
