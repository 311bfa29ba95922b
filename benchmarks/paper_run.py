"""One run of the paper's experiments as a line of a CSV file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One line of the CSV file of the paper's experiments.

    Attributes:
        experiment: Name of the paper's experiment.
        variant: Name of the network, optimiser and schedule.
        reading: Name of the choice made where the paper leaves settings open.
        seed: The seed.
        scale: Factor of all numbers of steps.
        status: From metrics.json; of a diverged run the numbers are those of its best state.
        parameters: On the last level.
        steps: On all levels together.
        loss: Training loss at the end; for the regression the mean squared error at the points.
        relative_l2: Error against the reference on the output grid; NaN without.
        linf: The largest error there.
        seconds: Of training, errors measured on the way included.
        cpu_s: User and system time of the process.
        work: Σ steps × points × parameters.
        losses: At the end of every level, separated by blanks.
        date: When it ended.
        cpu: Processor.
        threads: Threads each run had.
        fingerprint: Of the code and configs it ran on.
    """

    experiment: str
    variant: str
    reading: str
    seed: int
    scale: float
    status: str
    parameters: int
    steps: int
    loss: float
    relative_l2: float
    linf: float
    seconds: float
    cpu_s: float
    work: float
    losses: str
    date: str
    cpu: str
    threads: int
    fingerprint: str

    @property
    def key(self) -> tuple[str, str, str, int, float]:
        """Identity of a run; of several equal ones the newest counts."""
        return self.experiment, self.variant, self.reading, self.seed, self.scale
