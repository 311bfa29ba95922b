"""Strategy of a search: what is tried next, by the outcomes so far and by nothing else.

A strategy is a generator: it yields work and is sent its outcome; what it returns says why nothing is left to try. A
search that was stopped is taken up by sending it the outcomes recorded. No choice depends on the clock.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from kanpinn.auto.networks import SLABS, fine, larger, marching, remedies, sliced
from kanpinn.auto.work import Candidate, Outcome, StageValues, Work
from kanpinn.backbones import Separable
from kanpinn.multilevel.schedules import MAX_LEVELS

Search = Generator[Work, Outcome, str]

PAYS = 2.0
"""Factor by which a change must lower the estimate to be kept and repeated."""

STEPS = 60
"""Steps of a stage, at most."""

FINALISTS = 4
"""Networks that may grow, one after the other, the best on the coarsest level first."""

MOST_SLABS = 40
"""Time slabs that are tried at most."""

COARSE = 1e-2
"""Estimate on the coarsest level above which time slabs are tried."""

UNSOLVED = 0.1
"""Estimate above which there is no solution yet whose error could fall with the size of intervals."""

BASIC, SLICED = 2, 2
"""Networks that are tried before time slabs are, polynomials of time beside, and how many are tried on slabs."""

PATIENCE = 1
"""Changes in a row that may pay little: from one level to the next errors fall unevenly."""

SMALL, PATIENT = 300, 4
"""Parameters up to which a change costs next to nothing, and changes of such networks in a row that may pay little."""

WELL = 5.0
"""Factor of a lower estimate that is good enough not to look for a better change."""

LARGEST = 3000
"""Parameters of a time slab beyond which no network is enlarged: the matrix of a step grows as their square."""

KNOTS = "knots where the estimate needs them"
"""Reason of a change."""

NEAR, AIM = 1000.0, 1e-5
"""Factor of the accuracy below which the first networks are refined before others are tried, and what counts for it
where none is asked for."""


@final
@dataclass(frozen=True)
class Reached:
    """Work that is done."""

    work: Work
    outcome: Outcome


def accuracy_of_given(candidate: Candidate, plan: Sequence[StageValues], most: int = MAX_LEVELS) -> Search:
    """Train a given network by its plan, level by level, then enlarge it as long as that pays."""
    first = len(plan) if candidate.slabs > 1 else 1
    reached = None
    for k in range(first, len(plan) + 1):
        work = Work(candidate, tuple(plan[:k]), "as given")
        reached = Reached(work, (yield work))
        if reached.outcome.reason in ("diverged", "refused"):
            return _ended(reached)
    assert reached is not None
    steps = plan[-1]["steps"]
    return _ended((yield from growth(reached, most, steps)))


def best_of_networks(
    candidates: Sequence[Candidate], steps: int = STEPS, most: int = MAX_LEVELS, accuracy: float | None = None
) -> Search:
    """Try networks on the coarsest level, then remedies for the best; let it grow, then the next best.

    A network that comes near the accuracy at once grows before others are tried.
    """
    first = ({"level": 0, "steps": steps},)
    tried: list[Reached] = []
    basic = BASIC + sum(map(marching, candidates[: BASIC + 1]))
    for candidate in candidates[:basic]:
        tried.append((yield from _done(candidate, first, "probe")))
        if marching(candidate):
            others = min((_score(one) for one in tried[:-1]), default=math.inf)
            tried[-1] = yield from _refined(tried[-1], first, others > UNSOLVED)
    narrow = fine(candidates)
    if narrow and not min(map(_score, tried)) <= COARSE:
        tried.append((yield from _done(narrow, first, "a fine grid")))
    if not min(map(_score, tried)) <= COARSE:
        for reached in sorted((one for one in tried if not marching(one.work.candidate)), key=_score)[:SLICED]:
            tried.append((yield from _sliced(reached, first)))
    begun = best = min(tried, key=_score)
    ended = "capacity: no network could be trained"
    near = _score(best) <= min(COARSE, NEAR * (accuracy or AIM))
    if near:
        best = yield from growth(best, most, steps)
        ended = _ended(best)
    if begun.work.candidate.slabs == 1 or not _score(begun) <= COARSE:
        for candidate in candidates[basic:]:
            tried.append((yield from _done(candidate, first, "probe")))
        tried.append((yield from _remedied(min(tried, key=_score), first)))
    tried = sorted({one.work.candidate.name: one for one in tried}.values(), key=_score)
    best = min(best, tried[0], key=_score)
    for reached in tried[:FINALISTS]:
        if not math.isfinite(reached.outcome.score):
            break
        if near and reached.work == begun.work:
            continue
        found = yield from growth(reached, most, steps, None if best is reached else best.outcome)
        ended = _ended(found) if found.outcome.score <= best.outcome.score else ended
        best = min(best, found, key=_score)
    return ended


def _done(candidate: Candidate, stages: tuple[StageValues, ...], reason: str) -> Generator[Work, Outcome, Reached]:
    work = Work(candidate, stages, reason)
    return Reached(work, (yield work))


def _level(work: Work) -> int:
    return max(stage["level"] for stage in work.stages)


def _score(reached: Reached) -> float:
    return reached.outcome.score


def _sliced(reached: Reached, first: tuple[StageValues, ...]) -> Generator[Work, Outcome, Reached]:
    """Solve on ever shorter time slabs as long as that pays and the error is not small yet.

    An estimate that can be trusted, where the one before could not, pays if it is no larger.
    """
    whole = reached.work.candidate
    slabs = SLABS if whole.slabs == 1 else 2 * whole.slabs
    while slabs <= MOST_SLABS and reached.outcome.score > COARSE:
        candidate = sliced(whole, slabs)
        if candidate is None:
            break
        found = yield from _done(candidate, first, "time slabs" if slabs == SLABS else "slabs halved")
        sure = found.outcome.trusted and not reached.outcome.trusted
        if slabs > SLABS and not found.outcome.score * (1 if sure else PAYS) <= reached.outcome.score:
            break
        if found.outcome.score <= reached.outcome.score:
            reached = found
        slabs *= 2
    return reached


def _refined(reached: Reached, first: tuple[StageValues, ...], patient: bool) -> Generator[Work, Outcome, Reached]:
    """Refine polynomials of time in time, then in space, as long as that pays and the error is not small yet.

    With patience in both at once for as long as there is no solution: waves, fronts and equations that are not linear
    show nothing until intervals are short enough, whichever those are.
    """
    reached = yield from _sliced(reached, first)
    last = reached
    while patient and reached.outcome.score > UNSOLVED and _size(last) <= LARGEST:
        finer = larger(last.work.candidate)
        candidate = finer and sliced(finer, 2 * finer.slabs)
        if candidate is None or candidate.slabs > MOST_SLABS:
            break
        last = yield from _done(candidate, first, "a finer grid, slabs halved")
        reached = min(reached, last, key=_score)
    while COARSE < reached.outcome.score < UNSOLVED and _size(reached) <= LARGEST:
        candidate = larger(reached.work.candidate)
        assert candidate is not None
        found = yield from _done(candidate, first, "a finer grid")
        if not found.outcome.score * PAYS <= reached.outcome.score:
            break
        reached = found
    return reached


def _remedied(reached: Reached, first: tuple[StageValues, ...]) -> Generator[Work, Outcome, Reached]:
    """Change how conditions are met where that pays."""
    for candidate in remedies(reached.work.candidate):
        found = yield from _done(candidate, first, "remedy")
        if found.outcome.score * PAYS <= reached.outcome.score:
            return found
    return reached


def growth(
    reached: Reached, most: int = MAX_LEVELS, steps: int = STEPS, rival: Outcome | None = None
) -> Generator[Work, Outcome, Reached]:
    """Enlarge a network as long as that lowers the estimate: finer levels first, more nodes or products where not.

    Of changes that pay little the best is kept, but no more than `PATIENCE` of them in a row, or `PATIENT` of a small
    network: what they have not lowered by a factor of `PAYS` is taken back. A network that is no better than a smaller
    rival does not grow.
    """
    best, idle = reached, 0
    while rival is None or not _beaten(reached.outcome, rival):
        found: list[Reached] = []
        for work in _larger(reached, most, steps):
            found.append(Reached(work, (yield work)))
            if found[-1].outcome.score * WELL <= reached.outcome.score:
                break
        if not found or not math.isfinite(min(map(_score, found))):
            break
        reached = min(found, key=_score)
        idle = 0 if reached.outcome.score * PAYS <= best.outcome.score else idle + 1
        best = min(best, reached, key=_score)
        if idle > (PATIENT if _size(reached) <= SMALL else PATIENCE):
            break
    return best


def _beaten(outcome: Outcome, rival: Outcome) -> bool:
    return outcome.parameters >= rival.parameters and outcome.score >= rival.score


def _larger(reached: Reached, most: int, steps: int) -> Iterator[Work]:
    """Yield the changes of a network that may lower its error, the one most likely to first."""
    work = reached.work
    if _size(reached) > LARGEST:
        return
    level = _level(work)
    options, candidate = candidate_options(work), work.candidate
    again: dict[str, Any] = {"level": level, "steps": steps}
    if options.refinable and reached.outcome.rough and candidate.slabs == 1:
        yield replace(work, stages=(*work.stages, {**again, "insert": list(reached.outcome.rough)}), reason=KNOTS)
    if level + 1 < most and options.refinable:
        yield replace(work, stages=(*work.stages, {**again, "level": level + 1}), reason="one level more")
    if candidate.slabs > 1:
        wider = larger(candidate)
        if wider is not None and marching(candidate):
            yield Work(wider, work.stages, "a finer grid")
        halved = sliced(candidate, 2 * candidate.slabs) if 2 * candidate.slabs <= MOST_SLABS else None
        if halved is not None:
            yield Work(halved, work.stages, "slabs halved")
        if wider is not None and not marching(candidate):
            yield Work(wider, work.stages, "a larger network")
    else:
        for kind, amount, words in options.edits:
            yield replace(work, stages=(*work.stages, {**again, kind: amount}), reason=words)


def _size(reached: Reached) -> float:
    """Parameters of a time slab."""
    return reached.outcome.parameters / reached.work.candidate.slabs


@final
@dataclass(frozen=True)
class _Options:
    """Changes that a network can undergo: finer levels, and edits by kind and amount, with words for them."""

    refinable: bool
    edits: tuple[tuple[str, Any, str], ...]


def candidate_options(work: Work) -> _Options:
    """Return the changes that suit the network of some work, edits of half its size so far."""
    backbone = work.candidate.setup.backbone
    refinable = (hasattr(backbone, "grid") or hasattr(backbone, "degree")) and not marching(work.candidate)
    added = [stage for stage in work.stages if any(kind in stage for kind in ("widen", "rank"))]
    times = 1.5 ** len(added)
    if isinstance(backbone, Separable):
        more = max(2, round(0.5 * times * backbone.rank))
        return _Options(refinable, (("rank", more, f"{more} products more"),))
    width = list(getattr(backbone, "width", []))
    if not width:
        return _Options(refinable, ())
    wider = [max(1, round(0.5 * times * one)) for one in width]
    words = f"{', '.join(map(str, wider))} nodes more in the hidden layers"
    return _Options(refinable, (("widen", wider, words),))


def _ended(reached: Reached) -> str:
    """Say why nothing is left to try."""
    if _size(reached) > LARGEST:
        where = " of a time slab" if reached.work.candidate.slabs > 1 else ""
        return f"capacity: {_size(reached):.0f} parameters{where}, beyond which no network is enlarged by itself"
    return "capacity: neither a finer level nor a larger network lowered the estimate by half"
