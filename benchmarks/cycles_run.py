"""One run of `cycles.py` as a line of its CSV file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import machine
from cycles_plan import metrics_of
from sources import fingerprint


@dataclass(frozen=True)
class Result:
    """One line of the CSV file of `cycles.py`.

    Attributes:
        problem: Name of the problem.
        optimizer: Name of the optimiser.
        schedule: Name of the schedule in `STUDY`.
        seed: The seed.
        overrides: All overrides but the seed, separated by blanks.
        status: From metrics.json; "failed" without one.
        relative_l2: Of the finest network at the end; the largest over the unknowns; NaN without.
        loss: Its loss.
        work: Work done.
        seconds: Wall time of training.
        corrections: Coarse corrections that were taken.
        refused: Coarse corrections that no step length made worth taking.
        load: Load of the machine when it began.
        cpu: Processor.
        sources: Fingerprint of the code and configs it ran on.
    """

    problem: str
    optimizer: str
    schedule: str
    seed: int
    overrides: str
    status: str
    relative_l2: float
    loss: float
    work: float
    seconds: float
    corrections: int
    refused: int
    load: float | None
    cpu: str
    sources: str

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """Identity of a run; of several equal ones the newest counts."""
        return self.problem, self.optimizer, self.schedule, self.seed, self.overrides


def solve(problem: str, optimizer: str, schedule: str, seed: int, overrides: str) -> Result:
    """Run one schedule and return its line of the CSV file.

    Args:
        problem: Name of the problem.
        optimizer: Name of the optimiser.
        schedule: Name of the schedule in the study.
        seed: The seed.
        overrides: All overrides but the seed, separated by blanks.

    Returns:
        Its line of the CSV file.
    """
    load, sources = machine.load(), fingerprint(problem)
    found = metrics_of([*overrides.split(), f"seed={seed}"])
    errors = [math.nan if v is None else v for v in (found.get("relative_l2") or {"": None}).values()]
    lengths = [r["correction"] for r in found.get("levels", []) if r.get("correction") is not None]
    loss = found.get("loss")
    return Result(
        problem,
        optimizer,
        schedule,
        seed,
        overrides,
        status=found.get("status", "failed"),
        relative_l2=math.nan if any(map(math.isnan, errors)) else max(errors),
        loss=math.nan if loss is None else loss,
        work=found.get("work", math.nan),
        seconds=round(found.get("wall_time_s", math.nan), 2),
        corrections=sum(length > 0 for length in lengths),
        refused=sum(length == 0 for length in lengths),
        load=load,
        cpu=machine.cpu_model(),
        sources=sources,
    )
