"""Pieces of work of a search: a candidate trained through a list of stages, and what has come of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any, final

from kanpinn.multilevel import Schedule
from kanpinn.multilevel.schedules import Custom
from kanpinn.samplers import Sampler
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.registry import described
from kanpinn.solver.setup import Setup, name_of

UNTRUSTED = 3.0
"""Factor by which an estimate that is not trusted counts as larger."""

ROWS = 3
"""Equations at points inside for each parameter."""

GROUPS = "backbone", "sampler", "schedule", "optimizer", "weighting"
"""Options that are chosen."""

StageValues = Mapping[str, Any]
"""A stage as in `schedule.stages`: its level, its steps, and perhaps an edit."""


@final
@dataclass(frozen=True)
class Candidate:
    """Network and methods that may solve a problem.

    Attributes:
        setup: Problem, network and methods; of its schedule all but the stages counts.
        notes: Words on what differs from what was asked for, beside network and time slabs.
    """

    setup: Setup
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the log, the same for no other candidate of a search."""
        backbone = self.setup.backbone
        size = getattr(backbone, "rank", None) or ",".join(map(str, getattr(backbone, "width", []))) or "one layer"
        slabs = [f"{self.slabs} time slabs"] if self.slabs > 1 else []
        return ", ".join([f"{name_of(backbone)} {size}", *self.notes, *slabs])

    @property
    def slabs(self) -> int:
        """Number of its time slabs."""
        return self.setup.schedule.slabs


@final
@dataclass(frozen=True)
class Work:
    """A candidate to be trained through a list of stages, the first of which may be done already.

    Attributes:
        candidate: The candidate.
        stages: The stages.
        reason: Words that say why.
    """

    candidate: Candidate
    stages: tuple[StageValues, ...]
    reason: str

    def configuration(self, asked: Configuration) -> Configuration:
        """Return the config of the same solve without a search."""
        setup = self.candidate.setup
        schedule = custom(setup.schedule, self.stages)
        setup = replace(setup, schedule=schedule)
        setup = replace(setup, sampler=_enough(setup))
        parts = {group: getattr(setup, group) for group in GROUPS}
        groups = {group: described(part) for group, part in parts.items()}
        problem = dict(asked.resolved["problem"])
        if setup.conditions != asked.setup.conditions:
            problem["form" if "equations" in problem else "conditions"] = setup.conditions
        resolved = {**asked.resolved, **groups, "problem": problem, "accuracy": None}
        return replace(asked, setup=setup, resolved=resolved)

    def cut(self, done: Sequence[int]) -> Work:
        """Return the part that is done, by the steps done in each stage so far.

        The same where visits of levels and stages are not one for one, as in stages that others have written.
        """
        changed = (any(kind not in ("level", "steps", "optimizer") for kind in stage) for stage in self.stages[1:])
        steps_up = zip(pairwise(stage["level"] for stage in self.stages), changed, strict=True)
        if self.stages[0]["level"] or not all(b == a + 1 or (b == a and edit) for (a, b), edit in steps_up):
            return self
        stages = [{**stage, "steps": steps} for stage, steps in zip(self.stages, done, strict=False)]
        return replace(self, stages=tuple(stages) or self.stages)

    def continues(self, other: Work) -> bool:
        """Tell whether it begins with all that another one is."""
        same = self.candidate.name == other.candidate.name
        return same and self.stages[: len(other.stages)] == other.stages


@final
@dataclass(frozen=True)
class Outcome:
    """Result of a piece of work, in plain values.

    Attributes:
        reason: End of training, as of a stage, or "refused" where the candidate does not suit the problem.
        estimate: Largest estimated relative error of an unknown; NaN without an estimate.
        trusted: Whether the estimate may be relied on.
        ceiling: What the error is hardly above, whether the estimate may be relied on or not.
        effort: Cost of the estimate, relative to that of a finished run.
        doubt: Words that say why not, or why the solution is doubtful for another reason; "" without doubt.
        share: Largest residual, relative to the size of its terms.
        parameters: Number of parameters.
        work: Multiplications of its training, in units of points × parameters².
        seconds: Seconds from the beginning of the run to its end.
        judging: Seconds of these that its estimates took.
        limit: Word and explanation of what keeps the error from falling.
        rough: Knots in few intervals of the first splines that the estimate's have there; () where it has none.
    """

    reason: str
    estimate: float = math.nan
    trusted: bool = False
    ceiling: float = math.inf
    effort: float = 1.0
    doubt: str = ""
    share: float = math.inf
    parameters: int = 0
    work: float = 0.0
    seconds: float = 0.0
    judging: float = 0.0
    limit: str = ""
    rough: tuple[float, ...] = ()

    @property
    def score(self) -> float:
        """Number by which outcomes are compared, the lower the better: the estimate, else the residual's share."""
        if self.reason in ("diverged", "refused"):
            return math.inf
        if math.isnan(self.estimate):
            return self.share
        return self.estimate if self.trusted else UNTRUSTED * self.estimate

    def meets(self, accuracy: float | None) -> bool:
        """Tell whether it is as accurate as asked for, beyond doubt."""
        return accuracy is not None and self.estimate <= accuracy and self.believed(accuracy)

    def believed(self, accuracy: float | None) -> bool:
        """Tell whether its estimate is beyond doubt, or at least below an accuracy."""
        return not self.doubt and (self.trusted or (accuracy is not None and self.ceiling <= accuracy))

    def record(self) -> dict[str, Any]:
        """Plain values that JSON holds: null for what is not finite."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Outcome:
        """Return the outcome whose `record` this is; raises TypeError if it is none."""
        missing: dict[str, Any] = {"estimate": math.nan, "share": math.inf, "ceiling": math.inf}
        values: dict[str, Any] = {k: missing.get(k, v) if v is None else v for k, v in record.items()}
        return Outcome(**{**values, "rough": tuple(map(float, values.get("rough", ())))})


def custom(schedule: Schedule, stages: Sequence[StageValues]) -> Custom:
    """Return the schedule of some stages, with all other options of a schedule."""
    common = {item.name: getattr(schedule, item.name) for item in fields(Schedule) if item.name != "levels"}
    return Custom(**common, stages=[dict(stage) for stage in stages])


def _enough(setup: Setup) -> Sampler:
    """Return the sampler with enough points for the first network of every level, listed by level.

    Networks that an edit has enlarged keep the points of their level, so that earlier stages stay what they were.
    """
    sampler, levels = setup.sampler, setup.schedule.levels
    if sampler.follows_knots:
        return sampler
    sizes: dict[int, int] = {}
    for stage, network in zip(setup.plan(), setup.networks(setup.network()), strict=True):
        sizes.setdefault(stage.level, network.size)
    given = [sampler.interior, *(sampler.boundary.values() if isinstance(sampler.boundary, Mapping) else [])]
    known = min([levels, *(len(value) for value in given if isinstance(value, list))])
    counts = [sampler.counts(min(level, known - 1))[0] for level in range(levels)]
    needed = [math.ceil(ROWS * sizes.get(level, 0) / len(setup.problem.unknowns)) for level in range(levels)]
    interior: Any = [max(pair) for pair in zip(counts, needed, strict=True)]
    unchanged = not isinstance(sampler.interior, list) and interior == counts
    dimension = len(setup.problem.domain)
    denser = [(own / given) ** ((dimension - 1) / dimension) for own, given in zip(interior, counts, strict=True)]
    return replace(
        sampler,
        interior=sampler.interior if unchanged else interior,
        boundary=_denser(sampler.boundary, denser, sampler.growth),
    )


def _denser(value: Any, factors: Sequence[float], growth: float) -> Any:
    """Return numbers of points on conditions, a factor for each level beside theirs, for further levels too."""
    if isinstance(value, Mapping):
        return {name: _denser(one, factors, growth) for name, one in value.items()}
    if not isinstance(value, list) and max(factors) == 1:
        return value
    given = [
        value[min(k, len(value) - 1)] if isinstance(value, list) else value * growth**k for k in range(len(factors))
    ]
    return [math.ceil(factor * own) for factor, own in zip(factors, given, strict=True)]
