"""Strategy of a search: what is tried next, by the outcomes so far and by nothing else.

A strategy is a generator: it yields work and is sent its outcome; what it returns says why nothing is left to try. A
search that was stopped is taken up by sending it the outcomes recorded. No choice depends on the clock.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from kanpinn.auto.networks import remedies, sliced
from kanpinn.auto.work import Candidate, Outcome, StageValues, Work
from kanpinn.backbones import Separable
from kanpinn.multilevel.schedules import MAX_LEVELS

Search = Generator[Work, Outcome, str]

PAYS = 2.0
"""Factor by which a change must lower the estimate to be kept and repeated."""

STEPS, PROBE = 60, 30
"""Steps of a stage that a search adds, and of the first one of each network it tries."""

FINALISTS = 3
"""Networks that may grow, one after the other, the best on the coarsest level first."""

SLABS, MOST_SLABS = 5, 40
"""Time slabs that are tried first, and at most."""

COARSE = 1e-2
"""Estimate on the coarsest level above which time slabs are tried."""

LARGEST = 6000
"""Parameters beyond which no network is enlarged: the matrix of a step grows as their square."""


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


def best_of_networks(candidates: Sequence[Candidate], steps: int = STEPS, most: int = MAX_LEVELS) -> Search:
    """Try networks on the coarsest level, then remedies for the best; let it grow, then the next best."""
    first, tried = ({"level": 0, "steps": min(steps, PROBE)},), []
    for candidate in candidates:
        work = Work(candidate, first, "probe")
        tried.append(Reached(work, (yield work)))
    tried.sort(key=lambda one: one.outcome.score)
    ended = "capacity: no network could be trained"
    for k, reached in enumerate(tried[:FINALISTS]):
        if not math.isfinite(reached.outcome.score):
            break
        found = yield from _remedied(reached, first)
        found = yield from growth(found, most, steps)
        ended = ended if k else _ended(found)
    return ended


def _remedied(reached: Reached, first: tuple[StageValues, ...]) -> Generator[Work, Outcome, Reached]:
    """Change methods on the coarsest level where that pays: conditions, weights, and ever shorter time slabs."""
    for candidate in remedies(reached.work.candidate):
        work = Work(candidate, first, "remedy")
        found = Reached(work, (yield work))
        if found.outcome.score * PAYS <= reached.outcome.score:
            reached = found
            break
    single, slabs = reached.work.candidate, reached.work.candidate.slabs
    while slabs == single.slabs or slabs < MOST_SLABS:
        if not reached.outcome.score > COARSE:
            break
        slabs = SLABS if slabs == 1 else 2 * slabs
        candidate = sliced(single, slabs)
        if candidate is None:
            break
        work = Work(candidate, first, "remedy" if slabs == SLABS else "slabs halved")
        found = Reached(work, (yield work))
        if not found.outcome.score * PAYS <= reached.outcome.score:
            break
        reached = found
    return reached


def growth(reached: Reached, most: int = MAX_LEVELS, steps: int = STEPS) -> Generator[Work, Outcome, Reached]:
    """Enlarge a network as long as that lowers the estimate: finer levels first, more nodes or products where not.

    A change that does not pay is taken back.
    """
    while True:
        for work in _larger(reached, most, steps):
            found = Reached(work, (yield work))
            if found.outcome.score * PAYS <= reached.outcome.score:
                reached = found
                break
        else:
            return reached


def _larger(reached: Reached, most: int, steps: int) -> Iterator[Work]:
    """Yield the changes of a network that may lower its error, the one most likely to first."""
    work, outcome = reached.work, reached.outcome
    if outcome.parameters > LARGEST:
        return
    level = max(stage["level"] for stage in work.stages)
    options, candidate = candidate_options(work), work.candidate
    again: dict[str, Any] = {"level": level, "steps": steps}
    if level + 1 < most and options.refinable:
        yield replace(work, stages=(*work.stages, {**again, "level": level + 1}), reason="one level more")
    if candidate.slabs == 1:
        for kind, amount, words in options.edits:
            yield replace(work, stages=(*work.stages, {**again, kind: amount}), reason=words)


@final
@dataclass(frozen=True)
class _Options:
    """Changes that a network can undergo: finer levels, and edits by kind and amount, with words for them."""

    refinable: bool
    edits: tuple[tuple[str, Any, str], ...]


def candidate_options(work: Work) -> _Options:
    """Return the changes that suit the network of some work, edits of half its size so far."""
    backbone = work.candidate.setup.backbone
    refinable = hasattr(backbone, "grid") or hasattr(backbone, "degree")
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
    outcome = reached.outcome
    if outcome.parameters > LARGEST:
        return f"capacity: {outcome.parameters} parameters, beyond which no network is enlarged by itself"
    return "capacity: neither a finer level nor a larger network lowered the estimate by half"
