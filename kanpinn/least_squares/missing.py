"""Conditions that a problem lacks: pieces of its boundary on which there are fewer than its equations ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.geometry import Piece, Points, Region
from kanpinn.geometry.chart import Array
from kanpinn.least_squares.normal_modes import Weight, asked
from kanpinn.least_squares.order import CountedConditions, degree, slopes_of
from kanpinn.least_squares.points import INTERIOR, CollocationPoints, Term
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.sufficiency import numbers
from kanpinn.pde import Integral, Problem
from kanpinn.pde.data import conditions_of
from kanpinn.pde.problem import output_names
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import CollocationSample

MANY = 24
"""Points of a piece at which conditions are counted."""

FACTORS = (1.0, -7.0, -1.0, 7.0)
"""Multiples of random unknowns, so that equations that are not linear take the signs that they may have."""

PART = "(in part)"
"""Sign of a piece of which some of the points lack conditions, or of some of its edges."""

Counts = NDArray[np.int64]


@final
@dataclass(frozen=True)
class Missing:
    """Conditions that are missing.

    Attributes:
        lines: Text about each kind of them.
        enough: True where they are known to be as many as the equations ask for.
    """

    lines: Sequence[str] = ()
    enough: bool = False


@final
@dataclass(frozen=True)
class _Place:
    """Points `[N, d]` of a piece of the boundary, their normals, and the numbers of conditions there `[N]`."""

    points: Array
    normals: Array
    there: Counts


def missing_conditions(residuals: Residuals, sample: CollocationSample) -> Missing:
    """Find the pieces of the boundary that lack conditions, where that is sure.

    In one coordinate conditions are counted at both ends together, in several at points of every piece, by normal
    modes. A single unknown may have those of time at the first one or the last, and waves those of another coordinate
    in its place: something is missing if it is so in each of these ways. Nothing is said of unknowns that an `ansatz`
    of the problem's own builds something into, nor where data, regions or many single points carry conditions: these
    may do as well. An integral over one coordinate, at all values of the others, stands for a condition at one of its
    ends; one over all of several coordinates is a number, and does not.

    Args:
        residuals: Those of the run.
        sample: Points of all conditions.
    """
    problem, posed = residuals.problem, conditions_of(residuals.problem)
    own = output_names(problem) != problem.unknowns or type(problem).ansatz is not Problem.ansatz
    if own or not problem.has_equations or not posed:
        return Missing()
    counted, dimension = CountedConditions(residuals, sample), len(problem.domain)
    inside = counted.inside
    slopes = slopes_of(inside, counted.network, counted.theta)
    if slopes is None:
        equations = inside.values(inside.outputs(counted.network, counted.theta))
        return Missing(enough=len(equations) > len(problem.unknowns))
    supports = [on for one in posed if not one.joint for on in one.supports]
    few = [on for on in supports if isinstance(on, Points) and (dimension == 1 or len(on.values) <= dimension + 1)]
    spread = any(on == "domain" or (isinstance(on, Region) and on not in few) for on in supports)
    if spread or any(one.given is not None for one in posed):
        return Missing(enough=True)
    known = any(degree(inside, slopes, name) for name in problem.domain.names)
    if dimension > 1 and "t" in problem.domain.names and not {"t"} & {*counted.wrapped, *problem.parameters}:
        known = known and counted.on.get("t-", 0) + counted.on.get("t+", 0) >= counted.order("t")
    found = _in_one(counted, problem) if dimension == 1 else _in_several(counted, problem, known=known)
    if problem.depends or free_coefficients(problem) or (residuals.exact and type(problem).exact is not Problem.exact):
        found = replace(found, lines=[line for line in found.lines if not line.startswith("only")])
    return found


def _in_one(counted: CountedConditions, problem: Problem) -> Missing:
    """Count the conditions of ordinary equations, all together."""
    (name,) = problem.domain.names
    order = counted.order(name)
    if name in counted.wrapped or counted.everywhere + counted.joint >= order:
        return Missing(enough=order > 0 or name in counted.wrapped)
    ends = [f"{name}-", f"{name}+"] if name != "t" and order > 1 else []
    if bare := [end for end in ends[_pole(f"{name}-", problem) :] if end not in counted.on]:
        return Missing([_bare(bare, problem)])
    many = _many(counted.everywhere)
    return Missing([f"only {many} in {name}, where the equations are of order {order} and ask for {order}"])


def _in_several(counted: CountedConditions, problem: Problem, *, known: bool) -> Missing:
    """Count the conditions at points of each piece of the boundary."""
    free = [name for name in problem.domain.names if name not in {*counted.wrapped, *problem.parameters}]
    places = _places(counted, problem, free)
    if not places:
        return Missing(enough=known)
    scalar = len(problem.unknowns) == 1
    ways = [Weight(name, sign) for name in sorted(free, key=lambda one: one != "t") for sign in (1, -1)]
    if scalar and "t" not in free:
        first = counted.inside.residuals.space.order == 1
        ways = [Weight(damping=0.1), Weight(damping=-0.1)] if first else []
    plain, *others = _needs(counted, problem, places, [Weight(), *ways])
    # Modes that neither oscillate nor grow fast, as of u_t = 2 u, may be held at either end.
    sure = {name: np.min([need[name] for need in (plain, *others)], axis=0) for name in places}
    bare, few = _likeliest(places, ways, others) if scalar and others else _lacking(places, sure)
    for name in () if scalar else free:
        bare, few = (bare, few) if bare + few else _at_both_ends(name, places, others if "t" in free else [plain])
    for one in problem.conditions():
        if isinstance(one, Integral) and one.at is None:
            over = one.over.names if isinstance(one.over, Region) else one.over or problem.domain.names
            over = (over,) if isinstance(over, str) else tuple(over)
            ends = [name for name in bare if over == (name[:-1].rpartition(".")[2],)]
            bare = [name for name in bare if name not in ends[:1]]
    if counted.joint and len(numbers(problem)) < sum(one.joint for one in conditions_of(problem)):
        few = []
    lines = [_bare(bare, problem) + _turned(bare, places, plain)] if bare else []
    return Missing(lines + few, enough=known and not lines and not few)


def _places(counted: CountedConditions, problem: Problem, free: Sequence[str]) -> dict[str, _Place]:
    """Return points of the pieces of the boundary, but those of coordinates without ends."""
    domain, held = problem.domain, [(rows, one) for rows, one in counted.pieces if one.beside is None]
    planes = [(rows, one.name.partition("=")[0]) for rows, one in counted.pieces if "=" in one.name]
    found = {}
    for name, piece in domain.pieces.items():
        end = name[:-1].rpartition(".")[2] if name[-1] in "+-" else ""
        if piece.normal is None or (end in domain.names and end not in free) or _pole(name, problem):
            continue
        edges = {one.name: one for _, one in held if one.name.startswith(f"{name}.") and one.name not in domain.pieces}
        rest = not edges or piece.chart.measure > 1.01 * sum(edge.chart.measure for edge in edges.values())
        slack = sum(rows for rows, coordinate in planes if coordinate == end)
        whole = f"{name} {PART}" if edges else name
        for own in [*([whole] if rest else []), *edges]:
            points = _spread(domain.piece(own) if own in edges else piece)
            if not len(points):
                continue
            there = np.full(len(points), slack)
            for rows, support in held:
                if support.name in (name, own):
                    part = support.chart.part
                    there += rows * (np.ones(len(points), bool) if part is None else part(points))
            found[own] = _Place(points, piece.normal(points), there)
    return found


def _spread(piece: Piece) -> Array:
    """Return some points `[N, d]` of a piece."""
    chart, many = piece.chart, 16 * MANY
    line = (np.arange(many)[:, None] + 0.5) / many
    unit = line if chart.dimension == 1 else np.random.default_rng(0).random((many, chart.dimension))
    points = chart.stretched(unit)
    points = points if chart.part is None else points[chart.part(points)]
    return points[np.unique(np.linspace(0, len(points) - 1, min(MANY, len(points))).round().astype(int))]


def _needs(
    counted: CountedConditions, problem: Problem, places: Mapping[str, _Place], weights: Sequence[Weight]
) -> list[dict[str, Counts]]:
    """Return the numbers of conditions `[N]` asked for at every place, for each kind of growth.

    Where these depend on the unknowns, or points on some edges alone, they are the least at any point of a place.
    """
    like = counted.inside.points.points
    at = torch.from_numpy(np.concatenate([one.points for one in places.values()])).to(like)
    term = Term(INTERIOR, slice(0, len(at)), None, like.new_ones(len(at)), at)
    trial = replace(counted.inside, points=CollocationPoints(at, (term,)))
    states: list[Tensor] = []
    for factor in FACTORS:
        slopes = slopes_of(trial, counted.network, counted.theta, factor)
        if slopes is None or (states and torch.allclose(slopes, states[0], rtol=1e-9, atol=0, equal_nan=True)):
            break
        states.append(slopes)
    normals, fixed = np.concatenate([one.normals for one in places.values()]), [*problem.parameters]
    found = []
    for slopes in states:
        finite = torch.isfinite(slopes).flatten(1).all(dim=1).numpy()
        values = np.where(finite[:, None, None, None], slopes.numpy(), 0.0)
        counts = asked(values, normals, weights, problem.domain, trial.residuals.space, fixed)
        found.append(np.where(finite, counts, np.iinfo(counts.dtype).max))
    least = np.min(found, axis=0) if found else np.zeros((len(weights), len(at)), np.int64)
    least[least == np.iinfo(least.dtype).max] = 0
    ends = np.cumsum([len(one.points) for one in places.values()])[:-1]
    by_place = [dict(zip(places, np.split(row, ends), strict=True)) for row in least]
    unsure = [name for name in places if len(states) > 1 or name.endswith(PART)]
    return [one | {name: np.full_like(one[name], one[name].min()) for name in unsure} for one in by_place]


def _lacking(places: Mapping[str, _Place], needs: Mapping[str, Counts]) -> tuple[list[str], list[str]]:
    """Return the places without any condition at points that ask for one, and lines about those that have too few."""
    bare, few = [], dict[tuple[int, int], list[str]]()
    for name, place in places.items():
        short = place.there < needs[name]
        if not short.any():
            continue
        there, need = place.there[short].min(), needs[name][short].max()
        if there:
            few.setdefault((int(there), int(need)), []).append(name)
        else:
            bare.append(name if short.all() or name.endswith(PART) else f"{name} {PART}")
    lines = [f"only {_many(n)} on {', '.join(names)}, where the equations ask for {m}" for (n, m), names in few.items()]
    return bare, lines


def _likeliest(
    places: Mapping[str, _Place], ways: Sequence[Weight], needs: Sequence[Mapping[str, Counts]]
) -> tuple[list[str], list[str]]:
    """Return `_lacking` for the way that lacks least, one that begins at an end with conditions before others."""
    found = []
    for way, need in zip(ways, needs, strict=True):
        bare, few = _lacking(places, need)
        start = places.get(f"{way.name}{'-' if way.sign > 0 else '+'}")
        idle = start is not None and not start.there.any()
        found.append(((bool(bare + few), idle, len(bare + few)), bare, few))
    return min(found, key=lambda one: one[0])[1:]


def _at_both_ends(
    name: str, places: Mapping[str, _Place], ways: Sequence[Mapping[str, Counts]]
) -> tuple[list[str], list[str]]:
    """Return `_lacking` for the ends of a coordinate together, where there are too few in each way."""
    ends = [end for end in (f"{name}-", f"{name}+") if end in places]
    there = sum(int(places[end].there.max()) for end in ends)
    needs = [sum(int(need[end].min()) for end in ends) for need in ways]
    if there >= min(needs):
        return [], []
    bare = [end for end in ends if not places[end].there.any() and ways[0][end].min()]
    order = min(needs)
    line = f"only {_many(there)} in {name}, where the equations are of order {order} and ask for {order}"
    return bare, [] if bare else [line]


def _turned(bare: Sequence[str], places: Mapping[str, _Place], needs: Mapping[str, Counts]) -> str:
    """Say that a problem runs the other way in time than its conditions."""
    for end, other in (("t-", "t+"), ("t+", "t-")):
        if end in bare and other in places and places[other].there.all() and needs[end].all():
            return f"; they run from there, and from {other} they are ill-posed"
    return ""


def _bare(names: Sequence[str], problem: Problem) -> str:
    text = f"no condition on {', '.join(names)}, where the equations ask for one"
    return text + (
        f"; integral {one[0]} is one number and stands for none of them" if (one := numbers(problem)) else ""
    )


def _pole(end: str, problem: Problem) -> bool:
    return end == "r-" and problem.domain.interval("r")[0] == 0


def _many(count: int) -> str:
    return f"{count} condition" if count == 1 else f"{count} conditions"
