"""Typed values of a whole config: run options, the setup of the solve, the logger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from kanpinn.backbones import Auto
from kanpinn.errors import UserError, invalid
from kanpinn.loggers import Logger
from kanpinn.options import Options, option
from kanpinn.solver.setup import Setup

LEAST = {"float64": 1e-13, "float32": 1e-4}
"""Smallest accuracy by dtype: about a thousand units of rounding."""

COMPONENTS = ("backbone", "sampler", "schedule", "optimizer", "weighting", "logger")
"""Groups whose choices are option dataclasses in the registry."""


@dataclass(frozen=True)
class Output(Options):
    """Options of the output: grid, figures and progress."""

    key: ClassVar[str] = "output"

    points: int | list[int] | None = option(
        None, "points per coordinate of the output grid, or one number for each; null: chosen by dimension", at_least=2
    )
    figures: bool = option(True, "draw figures")
    progress: bool = option(True, "show a progress bar")

    def check(self) -> None:
        """Refuse an empty list of points; raises UserError."""
        if self.points == []:
            raise invalid("output.points", self.points, "at least 2 points per coordinate")


@dataclass(frozen=True)
class CheckpointOptions(Options):
    """When a run writes what it could be resumed from, besides the ends of stages."""

    key: ClassVar[str] = "checkpoint"

    every_s: float = option(60.0, "seconds between two checkpoints; 0: one before every step", at_least=0)
    keep: int = option(2, "how many of the last checkpoints are kept", at_least=1, at_most=10_000)


@dataclass(frozen=True)
class Settings(Options):
    """Top-level keys that belong to no group."""

    seed: int = option(help="seed of every random choice", at_least=0)
    dtype: Literal["float64", "float32"] = option("float64", "floating point type of points and network")
    device: Literal["cpu", "cuda"] = option("cpu", "where torch computes")
    threads: int | None = option(None, "CPU threads; null: the libraries' own choice", at_least=1, at_most=4096)
    processes: int = option(
        1, "processes on this machine that share the points out; torchrun and srun set it", at_least=1, at_most=4096
    )
    accuracy: float | None = option(
        None, "relative L2 error aimed at: the run refines until its estimate is below; null: none", above=0, below=1
    )
    time_limit_s: float | None = option(None, "seconds after which the run stops; null: no limit", above=0)
    unknown: dict[str, float | dict[str, float | None]] = option(
        {},
        "coefficients to be found, with their starting values: {nu: 0.02} or {nu: {start: 0.02, lower: 0, upper: 1}}",
    )
    parameters: dict[str, list[float]] = option(
        {}, "coefficients that become coordinates over an interval, one network for all their values: {k: [1, 4]}"
    )
    data: str | list[str] | None = option(
        None, "files of measured data: CSV or HDF5, columns named as coordinates and unknowns, perhaps sigma_<unknown>"
    )
    start: str | None = option(
        None, "run folder of an earlier solve to go on from, with another coefficient, region or network; null: none"
    )
    output: Output = option(factory=Output)
    checkpoint: CheckpointOptions = option(factory=CheckpointOptions)

    def check(self) -> None:
        """Refuse a device that is not there, and an accuracy that its numbers cannot have; raises UserError."""
        least = LEAST[self.dtype]
        if self.accuracy is not None and self.accuracy < least:
            raise invalid("accuracy", self.accuracy, f"at least {least:g} with dtype={self.dtype}, or null")
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
        notes: Choices made for the user, a line each.
    """

    settings: Settings
    setup: Setup
    logger: Logger
    resolved: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def searches(self) -> bool:
        """True where the run chooses what the config leaves open."""
        return self.settings.accuracy is not None or isinstance(self.setup.backbone, Auto)
