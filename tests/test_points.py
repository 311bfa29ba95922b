"""Layout of collocation points: every part of them knows which points it has, and how they are weighted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.problems import System, Wave, draw_for

from kanpinn.errors import UserError
from kanpinn.least_squares.points import INTERIOR, CollocationPoints, collocation_points, relative_times
from kanpinn.least_squares.weighting import Fixed
from kanpinn.samplers import CollocationSample, PointSet

WEIGHTS = Fixed({"interior": 0.7, "initial": 3.0, "periodic": 2.0}, growth=0.4)


def laid_out() -> tuple[CollocationPoints, CollocationSample]:
    """Points of three terms, one of them paired, with normals at one of them."""
    sample = draw_for(System(), counts=(41, 19))
    given = sample.conditions["initial"]
    normals = torch.from_numpy(np.random.default_rng(0).standard_normal((len(given.points), 2)))
    conditions = {**sample.conditions, "initial": PointSet(given.points, given.weights, normals)}
    sample = CollocationSample(sample.interior, conditions, sample.paired)
    return collocation_points(System(), ("initial", "periodic"), sample, WEIGHTS), sample


def test_points_lie_term_by_term_with_the_scales_of_their_residuals() -> None:
    found, sample = laid_out()
    assert [term.name for term in found.terms] == [INTERIOR, "initial", "periodic"]
    end = 0
    for term, weight in zip(found.terms, (0.7, 3.0, 2.0), strict=True):
        own = sample.interior if term.name == INTERIOR else sample.conditions[term.name]
        scale = (weight * own.weights / own.weights.sum()).sqrt()
        if term.name == INTERIOR:
            scale = scale * torch.exp(-0.4 * (own.points[:, 1] - 0.5))
        assert torch.allclose(term.scale, scale, rtol=1e-14) and torch.equal(term.coordinates, own.points)
        assert term.points == slice(end, end + len(own.points)) and term.part is None
        assert torch.equal(found.points[term.points], own.points)
        end = term.points.stop
        assert (term.normals is None) == (term.name != "initial") and (term.paired is None) == (term.name != "periodic")
        if term.normals is not None:
            own_normals = sample.conditions["initial"].normals
            assert own_normals is not None and torch.equal(term.normals, own_normals)
        if term.paired is not None:
            assert term.paired == slice(end, end + len(own.points))
            assert torch.equal(found.points[term.paired], sample.paired["periodic"])
            end = term.paired.stop
    assert len(found) == end == len(found.points) and found.compares
    assert list(found.by_term()) == [INTERIOR, "initial", "periodic"]
    assert not collocation_points(System(), ("initial",), sample, WEIGHTS).compares
    for name in found.by_term():
        shared = found.shared(name)
        assert found.shared(name) is shared


def test_times_are_relative_to_the_interval() -> None:
    found, _ = laid_out()
    times = relative_times(System(), found)
    assert list(times) == list(found.by_term())
    for name, own in found.by_term().items():
        assert torch.allclose(times[name], (own[:, 1] - 0.5) / 1.5, rtol=1e-14, atol=1e-16)
    assert (times["initial"] == 0).all()


def whole_shares(points: CollocationPoints) -> list[CollocationPoints]:
    return [points.shard(rank, 7) for rank in range(7)]


Part = Callable[[CollocationPoints], list[CollocationPoints]]
PARTS: dict[str, Part] = {
    "pieces": lambda p: list(p.pieces(4)),
    "pieces that fit": lambda p: list(p.pieces(41)),
    "shares": whole_shares,
    "more shares than points": lambda p: [p.shard(rank, 90) for rank in range(90)],
    "pieces of pieces": lambda p: [more for one in p.pieces(11) for more in one.pieces(4)],
    "pieces of shares": lambda p: [more for one in whole_shares(p) for more in one.pieces(2)],
    "terms": lambda p: [p.of([INTERIOR]), p.of(("periodic", "initial"))],
    "pieces of terms": lambda p: [more for n in p.by_term() for one in [p.of([n]).of([n])] for more in one.pieces(7)],
    "shares of terms": lambda p: [
        more for one in (p.of([INTERIOR]), p.of({"initial", "periodic"})) for more in whole_shares(one)
    ],
    "shares of pieces": lambda p: [more for one in p.pieces(20) for more in whole_shares(one)],
}


def belongs(part: CollocationPoints, whole: CollocationPoints, factors: dict[str, float]) -> dict[str, list[int]]:
    """Check a part against the whole; returns the numbers of its points by term."""
    known, numbers, end = {term.name: term for term in whole.terms}, {}, 0
    for term in part.terms:
        other = known[term.name]
        own = torch.arange(len(other.coordinates))[term.part]
        numbers[term.name] = own.tolist()
        assert torch.allclose(term.scale, other.scale[own] * factors.get(term.name, 1.0), rtol=1e-14)
        assert torch.equal(term.coordinates, other.coordinates[own])
        assert term.points == slice(end, end + len(own))
        assert torch.equal(part.points[term.points], other.coordinates[own])
        end += len(own)
        assert (term.normals is None) == (other.normals is None) and (term.paired is None) == (other.paired is None)
        if term.normals is not None and other.normals is not None:
            assert torch.equal(term.normals, other.normals[own])
        if term.paired is not None and other.paired is not None:
            assert term.paired == slice(end, end + len(own))
            assert torch.equal(part.points[term.paired], whole.points[other.paired][own])
            end += len(own)
    assert len(part) == end == len(part.points)
    return numbers


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_the_whole_once(name: str) -> None:
    whole, _ = laid_out()
    found = [belongs(part, whole, {}) for part in PARTS[name](whole)]
    for term in whole.terms:
        count = len(term.coordinates)
        assert sorted(k for part in found for k in part.get(term.name, [])) == list(range(count))
        sizes = [len(part[term.name]) for part in found if term.name in part]
        if "shares" in name and " of " not in name:
            assert max(sizes) - min(sizes) <= 1
    if name == "pieces":
        assert all(len(part) == 1 and max(map(len, part.values())) <= 4 for part in found)
        assert len(found) == sum(-(-len(term.coordinates) // 4) for term in whole.terms)
    if name == "pieces that fit":
        assert len(found) == len(whole.terms)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 1.0])
def test_a_random_sample_is_weighted_up_to_all(share: float) -> None:
    whole, _ = laid_out()
    counts = {t.name: len(t.coordinates) for t in whole.terms}
    kept = {name: min(many, max(math.ceil(share * many), 16)) for name, many in counts.items()}
    factors = {name: math.sqrt(many / kept[name]) for name, many in counts.items()}
    one, again, other = (whole.sampled(share, np.random.default_rng(seed)) for seed in (1, 1, 2))
    numbers = belongs(one, whole, factors)
    assert {name: len(own) for name, own in numbers.items()} == kept
    assert all(own == sorted(set(own)) for own in numbers.values())
    assert torch.equal(one.points, again.points)
    assert share == 1.0 or not torch.equal(one.points, other.points)
    if share == 0.5:
        generator = np.random.default_rng(1)
        assert numbers == {n: sorted(generator.choice(m, kept[n], replace=False).tolist()) for n, m in counts.items()}
    pieces = [belongs(part, whole, factors) for part in one.pieces(5)]
    for name, own in numbers.items():
        assert sorted(k for part in pieces for k in part.get(name, [])) == own


def test_a_term_without_points_is_refused() -> None:
    sample = draw_for(Wave())
    assert [t.name for t in collocation_points(Wave(), (), sample, WEIGHTS).terms] == [INTERIOR]
    assert len(collocation_points(Wave(), (), sample, WEIGHTS).select([])) == 0
    own = sample.interior
    for empty in (PointSet(own.points[:0], own.weights[:0]), PointSet(own.points, 0 * own.weights)):
        with pytest.raises(UserError, match="no point was drawn for 'interior'; ask for more"):
            collocation_points(Wave(), (), CollocationSample(empty, {}, {}), WEIGHTS)
    light = CollocationSample(PointSet(own.points, 0.1 * own.weights / own.weights.sum()), {}, {})
    assert len(collocation_points(Wave(), (), light, WEIGHTS)) == len(own.points)
