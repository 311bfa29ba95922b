"""Networks and remedies that a search tries, by what the problem is made of and never by its name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kanpinn.auto.work import Candidate
from kanpinn.backbones import Auto, Kan, Mlp, MultKan, Separable
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.weighting import Fixed
from kanpinn.multilevel.schedules import Nested
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.pde import Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.form_builder import possible_form
from kanpinn.pde.network_fields import offers_exact
from kanpinn.pde.time_slab import START
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import SAMPLERS, Adaptive, GaussLegendre, Sampler
from kanpinn.solver.setup import Network, Setup

PLATEAU = 0.3
"""A stage ends once 20 steps lower the loss by less than this share."""

POINTS = {1: (200, 16), 2: (800, 100), 3: (1500, 256)}
"""Points inside and on each condition at least, by dimension; networks of many parameters get more."""

RANK = 10
"""Products of the separable network that is tried."""

FINE = 4
"""Factor of the intervals of the same on a fine grid."""

DAMPING = 1e-14
"""Damping of networks that are linear but for factors that hardly move."""

SETTLED = 4
"""Steps that lower the loss of such a network by less than `PLATEAU` when it has converged."""

SLABS = 5
"""Time slabs that are tried first."""

MARCHING = "Legendre polynomials of time"
"""Note on networks of them."""

WEIGHT = 100.0
"""Factor of the conditions' weights that is tried."""


def networks(setup: Setup) -> Iterator[Candidate]:
    """Yield the networks worth a trial, for a setup whose network is to be chosen."""
    problem, asked = setup.problem, setup.backbone
    assert isinstance(asked, Auto)
    dimension = len(problem.domain)
    order = JetSpace(problem.domain.names, tuple(problem.derivatives)).order
    common = {"networks": asked.networks, "embedding": asked.embedding}
    sampler = setup.sampler
    if sampler == Adaptive():  # none was given
        interior, boundary = POINTS.get(dimension, (2000, 256))
        sampler = replace(sampler, interior=interior, boundary=boundary)
    base = replace(setup, sampler=sampler, schedule=_schedule(setup), known=setup.scales)

    def candidate(network: Network, points: Sampler = sampler) -> Candidate:
        return Candidate(replace(base, backbone=network, sampler=points))

    smooth, degree = max(7, order + 2), max(5, order + 1)
    if dimension == 1:
        yield candidate(Kan(width=[], degree=smooth, grid=8, **common))
    yield candidate(Kan(width=[5, 5], degree=degree, **common))
    if (sampler is not setup.sampler or isinstance(sampler, GaussLegendre)) and _marches(setup):
        yield _marching(base, smooth, asked)
    mlp = candidate(Mlp(width=[10, 10, 10], **common))
    if dimension > 2:
        yield mlp  # sums of products take long there
    if dimension > 1 and isinstance(problem.domain, Box) and type(problem).inside is Problem.inside:
        around = replace(asked.embedding, periodic="spline") if problem.periodic else asked.embedding
        options = {"degree": smooth, "grid": smooth + 1, "scale": 0.1, "networks": asked.networks, "embedding": around}
        points = SAMPLERS["gauss_legendre"]() if sampler is not setup.sampler and dimension == 2 else sampler
        yield candidate(Separable(width=[], rank=RANK, **options), points)
    if dimension > 1:
        yield candidate(Kan(width=[5, 5, 5], degree=degree, grid=3, **common))
        yield candidate(MultKan(width=[4, 4], degree=degree, **common))
    if dimension <= 2:
        yield mlp
    if dimension == 1 and sampler is not setup.sampler:  # points in every interval, however short those become
        one = candidate(Kan(width=[], degree=smooth, grid=8, **common), GaussLegendre(order=smooth - 2))
        yield replace(one, notes=("Gauss points",))


def _marches(setup: Setup) -> bool:
    """Tell whether time slabs can be solved by networks that are polynomials of time."""
    problem = setup.problem
    plain = isinstance(problem.domain, Box) and type(problem).inside is Problem.inside
    evolution = plain and problem.domain.names[1:] == ("t",) and "t" not in problem.periodic
    return evolution and _begins(problem) and setup.optimizer == LevenbergMarquardt()


def _marching(base: Setup, degree: int, asked: Auto) -> Candidate:
    """Return splines in space times Legendre polynomials in time on time slabs, of which steps change the splines.

    As many products as polynomials of the degree: on a slab the network is linear, and a linear problem takes one step.
    """
    around = asked.embedding
    if around.kind == "auto":  # no symmetry: its coordinate, a cosine, has wide intervals in the middle
        around = replace(around, kind="periodic" if base.problem.periodic else "none", periodic="spline")
    options = {"degree": degree, "rank": degree + 1, "start": "legendre", "networks": asked.networks}
    network = Separable(width=[], grid=4 * (degree + 1), grids={"t": 1}, embedding=around, **options)
    schedule = replace(base.schedule, slabs=SLABS, patience=SETTLED)
    sampler = GaussLegendre(order=3, orders={"t": degree + 3})
    steps = LevenbergMarquardt(damping=DAMPING, momentum=0.0)
    setup = replace(base, backbone=network, schedule=schedule, sampler=sampler, optimizer=steps)
    return Candidate(setup, (MARCHING, f"{network.grid} intervals"))


def _schedule(setup: Setup) -> Nested:
    schedule = setup.schedule
    assert isinstance(schedule, Nested)
    return schedule if schedule.plateau is not None else replace(schedule, plateau=PLATEAU)


def remedies(candidate: Candidate) -> Iterator[Candidate]:
    """Yield changes of method that may help a candidate, its network kept: conditions built in, larger weights."""
    setup = candidate.setup
    problem = setup.problem
    if not setup.exact and (offers_exact(problem) or _form(problem)):
        built_in = replace(setup, conditions="exact", known=None)
        yield Candidate(built_in, (*candidate.notes, "conditions built in"))
    weighting, names = setup.weighting, [condition.name for condition in conditions_of(problem)]
    if names and isinstance(weighting, Fixed) and not weighting.terms and not setup.exact:
        heavier = replace(weighting, terms={name: WEIGHT * weighting.term(name) for name in names})
        notes = (*candidate.notes, f"conditions weighted {WEIGHT:g}")
        yield Candidate(replace(setup, weighting=heavier), notes)


def _form(problem: Problem) -> bool:
    try:
        return bool(possible_form(problem).conditions)
    except UserError:
        return False


def fine(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the separable network on a fine grid, for solutions with many waves or narrow fronts; None without any."""
    for candidate in candidates:
        backbone = candidate.setup.backbone
        if isinstance(backbone, Separable) and not marching(candidate):
            network = replace(backbone, grid=FINE * backbone.grid)
            notes = (*candidate.notes, f"{network.grid} intervals")
            return Candidate(replace(candidate.setup, backbone=network), notes)
    return None


def larger(candidate: Candidate) -> Candidate | None:
    """Return a candidate with half as many products or hidden nodes more, or a finer grid; None without any."""
    backbone, notes = candidate.setup.backbone, candidate.notes
    if marching(candidate):
        assert isinstance(backbone, Separable)
        network: Network = replace(backbone, grid=2 * backbone.grid)
        notes = (MARCHING, f"{network.grid} intervals")
    elif isinstance(backbone, Separable):
        network = replace(backbone, rank=math.ceil(1.5 * backbone.rank))
    elif isinstance(backbone, Kan | Mlp) and backbone.width:
        network = replace(backbone, width=[math.ceil(1.5 * one) for one in backbone.width])
    else:
        return None
    return Candidate(replace(candidate.setup, backbone=network), notes)


def marching(candidate: Candidate) -> bool:
    """Tell whether a candidate's network is made of polynomials of time, which finer levels would not improve."""
    return isinstance(candidate.setup.backbone, Separable) and candidate.setup.backbone.start == "legendre"


def sliced(candidate: Candidate, slabs: int) -> Candidate | None:
    """Return a candidate on equal time slabs; None where the problem is none in time."""
    setup = candidate.setup
    problem = setup.problem
    if not _begins(problem):
        return None
    return replace(candidate, setup=replace(setup, schedule=replace(setup.schedule, slabs=slabs)))


def _begins(problem: Problem) -> bool:
    """Tell whether a problem is one in time that can go on from the end of a slab."""
    begins = any(condition.supports == START for condition in conditions_of(problem))
    return "t" in problem.domain.names and begins and not free_coefficients(problem)
