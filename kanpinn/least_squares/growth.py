"""Sources of equations that grow without bound towards the boundary, where no smooth solution meets them.

A source is measured by what the equation answers to smooth unknowns of order one there: u_xx = 1/x and x u_xx = 1 have
no smooth solution at x = 0, whereas u_xx + u_x/x = 1/x has u = x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.claims import every_term
from kanpinn.least_squares.points import INTERIOR, CollocationPoints
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import Trial, smooth_network, trials
from kanpinn.pde import Problem
from kanpinn.samplers import CollocationSample

DISTANCES = (1e-2, 1e-4, 1e-6)
"""Distances from a face or corner, relative to the domain."""

FASTER = 3.0
"""Factor by which a source has to grow from one distance to the next: like the power −1/4 of the distance."""

SEED = 12
"""Of the values and derivatives of order one that unknowns are given."""

CORNERS = 64
"""Most corners that are looked at."""


def growing_sources(residuals: Residuals, sample: CollocationSample) -> list[str]:
    """Say which equations, for unknowns that are 0, grow without bound towards a face or a corner of their domain.

    Nothing is said where a form of the problem's own may have the singular part.

    Args:
        residuals: Those of the run.
        sample: Points of all conditions.
    """
    problem = residuals.problem
    own = type(problem).ansatz is not Problem.ansatz or (residuals.exact and type(problem).exact is not Problem.exact)
    if own or not problem.has_equations:
        return []
    plain = Residuals(problem, smooth_network(problem, residuals.backbone.embedding))
    inside = next(trial for trial in trials(plain, every_term(plain, sample)) if trial.name == INTERIOR)
    told: dict[str, str] = {}
    near = [(place, points) for place, several in _places(problem, inside.points.points) for points in several]
    for equation, sizes in _sources(inside, [points for _, points in near]).items():
        for k in range(0, len(near), len(DISTANCES)):
            place, values = near[k][0], sizes[k : k + len(DISTANCES)]
            grows = all(b > FASTER * a > 0 for a, b in pairwise(values))
            if grows and np.isfinite(values).all() and equation not in told:
                where = (
                    f"{values[0]:.0e} at {DISTANCES[0]:g} of the domain from it, {values[-1]:.0e} at {DISTANCES[-1]:g}"
                )
                told[equation] = (
                    f"{inside.described(equation)}: what it holds beside its unknowns grows without bound towards "
                    f"{place}, relative to its terms: {where}"
                )
    advice = "no smooth solution meets it there; end the domain before, or give the singular part by an ansatz"
    return [f"{text}; {advice}" for text in told.values()]


def _places(problem: Problem, points: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield faces and corners by name, each with points `[N, d]` inside at some distances from it."""
    domain = problem.domain
    if isinstance(domain, Box):
        ends = [domain.interval(name) for name in domain.names]
        for k, name in enumerate(domain.names):
            for end, inward in zip(ends[k], (1, -1), strict=True):
                moved = [points.clone() for _ in DISTANCES]
                for at, distance in zip(moved, DISTANCES, strict=True):
                    at[:, k] = end + inward * distance * (ends[k][1] - ends[k][0])
                yield f"{name}={end:g}", moved
        for corner in list(product((0, 1), repeat=len(ends)))[:CORNERS] if len(ends) > 1 else ():
            at = points.new_tensor([end[one] for end, one in zip(ends, corner, strict=True)])
            inward = points.new_tensor([(b - a) * (1 - 2 * one) for (a, b), one in zip(ends, corner, strict=True)])
            place = ", ".join(f"{name}={x:g}" for name, x in zip(domain.names, at.tolist(), strict=True))
            yield place, [(at + distance * inward).expand(len(points), -1).clone() for distance in DISTANCES]
        return
    generator = np.random.default_rng(11)
    size = max(b - a for a, b in zip(domain.lower, domain.upper, strict=True))
    for name, piece in domain.pieces.items():
        if piece.normal is None:
            continue
        drawn = piece.chart.stretched(generator.random((len(points), piece.chart.dimension)))
        normals = piece.normal(drawn)
        moved = [drawn - distance * size * normals for distance in DISTANCES]
        held = np.all([domain.contains(at) for at in moved], axis=0)
        if held.any():
            yield name, [torch.from_numpy(at[held]).to(points) for at in moved]


def _sources(trial: Trial, places: list[Tensor]) -> dict[str, list[float]]:
    """Return the median size of every equation at each of some sets of points `[N, d]` for unknowns that are 0.

    It is relative to what unknowns of order one add. Nothing where a problem cannot be asked there.
    """
    residuals, points = trial.residuals, torch.cat(places)
    (term,) = trial.points.terms
    at = CollocationPoints(points, (replace(term, points=slice(0, len(points)), coordinates=points),))
    unknowns, generator = residuals.problem.unknowns, np.random.default_rng(SEED)
    ones = torch.from_numpy(generator.uniform(0.5, 1.5, (len(unknowns), len(residuals.space), 1))).to(points)
    nothing, something = (
        {name: Jet(residuals.space, k * one.expand(-1, len(points))) for name, one in zip(unknowns, ones, strict=True)}
        for k in (0.0, 1.0)
    )
    try:
        with torch.no_grad():
            source, answer = (trial.of_fields(fields, at) for fields in (nothing, something))
    except UserError:
        return {}
    parts = [len(one) for one in places]
    found = {name: (own / (answer[name] - own)).abs().split(parts) for name, own in source.items()}
    return {name: [float(one.median()) for one in several] for name, several in found.items()}
