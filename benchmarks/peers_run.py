"""One measurement of one solver as a line of a CSV file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One line of the CSV file: the error one solver had reached when a time limit was up.

    Attributes:
        problem: The case.
        solver: Key of the solver.
        seed: The seed.
        limit: The time limit, s.
        settings: kanpinn's overrides; "" for a peer.
        status: "time_limit", "ended" if training ended by itself before, "failed" without a result.
        error: Relative L2 error against the reference; NaN if the run failed.
        seconds: Seconds of training at which it was measured, the first step's end after the limit.
        curve: Errors on the way, as "seconds:error" separated by blanks.
        steps: Optimiser steps of the whole run.
        parameters: Of the network.
        setup_s: Seconds from the imports to the training; part of `seconds` for kanpinn only.
        compile_s: Seconds of the first step, in which JAX compiles; not part of `seconds`.
        wall_s: Of the whole process.
        cpu_s: The same, user and system time.
        peak_mib: Its peak resident memory.
        load: Load of the machine when it began.
        date: When it ended.
        cpu: Processor.
        cores: Cores of the machine.
        threads: Cores and threads it was given.
        version: Of the solver.
        sources: Fingerprint of the files it ran on.
    """

    problem: str
    solver: str
    seed: int
    limit: int
    settings: str
    status: str
    error: float
    seconds: float
    curve: str
    steps: int
    parameters: int
    setup_s: float
    compile_s: float
    wall_s: float
    cpu_s: float
    peak_mib: float
    load: float | None
    date: str
    cpu: str
    cores: int
    threads: int
    version: str
    sources: str

    @property
    def key(self) -> tuple[str, str, int, int, str]:
        """Identity of a run; of several equal ones the newest counts."""
        return self.problem, self.solver, self.seed, self.limit, self.settings

    def points(self) -> list[tuple[float, float]]:
        """The curve as pairs of seconds and error."""
        return [(float(s), float(e)) for s, _, e in (pair.partition(":") for pair in self.curve.split())]
