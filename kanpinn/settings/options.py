"""Typed values of a whole config: run options, the setup of the solve, the logger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from kanpinn.errors import UserError, invalid
from kanpinn.loggers import Logger
from kanpinn.settings.checking import shown
from kanpinn.solver.setup import Setup


@dataclass(frozen=True)
class Output:
    """What is written and shown besides the numbers.

    Attributes:
        points: Points per coordinate of the output grid: one number, one per coordinate, or None for the default.
        figures: Whether figures are drawn.
        progress: Whether a progress bar is shown.
    """

    points: int | list[int] | None = None
    figures: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        counts = self.points if isinstance(self.points, list) else [2 if self.points is None else self.points]
        if not counts or min(counts) < 2:
            raise invalid("output.points", shown(self.points), "at least 2 points per coordinate")


@dataclass(frozen=True)
class CheckpointOptions:
    """How often a run writes what it could be resumed from; at stage ends it does so anyway.

    Attributes:
        every_s: Seconds between two checkpoints; 0 writes one before every step, whatever it costs.
        keep: How many of the last ones are kept.
    """

    every_s: float = 60.0
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every_s < 0:
            raise invalid("checkpoint.every_s", self.every_s, "a number of seconds of at least 0")
        if not 1 <= self.keep <= 10_000:
            raise invalid("checkpoint.keep", self.keep, "a whole number from 1 to 10000")


@dataclass(frozen=True)
class Settings:
    """The top-level keys that belong to no group.

    Attributes:
        seed: Seeds every random choice.
        dtype: Floating point type of points and network.
        device: Where torch computes.
        threads: CPU threads of torch; None leaves torch's own choice.
        time_limit_s: Seconds after which the run stops; None sets no limit.
        output: What is written and shown.
        checkpoint: When the state is written.
    """

    seed: int
    dtype: Literal["float64", "float32"] = "float64"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None
    time_limit_s: float | None = None
    output: Output = field(default_factory=Output)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise invalid("seed", self.seed, "a whole number of at least 0 and below 2^63")
        if self.threads is not None and not 1 <= self.threads <= 4096:
            raise invalid("threads", self.threads, "a whole number from 1 to 4096, or null")
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise invalid("time_limit_s", self.time_limit_s, "a positive number of seconds, or null")
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise UserError("device=cuda: no CUDA device is available; valid choices: cpu.")


@dataclass(frozen=True)
class Configuration:
    """Checked config.

    Attributes:
        settings: The top-level keys.
        setup: Problem, network and methods.
        logger: Logger of the run.
        resolved: The config as plain values, nothing left to interpolate.
    """

    settings: Settings
    setup: Setup
    logger: Logger
    resolved: dict[str, Any]
