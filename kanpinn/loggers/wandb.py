"""Weights & Biases, offline by default: `wandb sync` uploads such a run later."""

# The library is an extra, which need not be there when types are checked.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from kanpinn.loggers.base import Logger, numbers
from kanpinn.options import option


@dataclass
class WeightsAndBiases(Logger):
    """Weights & Biases, kept on this machine unless told otherwise."""

    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"

    every: int = option(1, "every how many steps one is logged", at_least=1)
    mode: Literal["offline", "online"] = option(
        "offline", "offline: nothing leaves this machine; online: runs are uploaded"
    )
    project: str = option("kanpinn", "project at Weights & Biases")

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off", save_code=False, disable_git=True)
        self._run = wandb.init(
            project=self.project,
            name=folder.name,
            dir=str(folder),
            config=dict(config),
            mode=self.mode,
            reinit="create_new",
            settings=settings,
        )

    def step(self, number: int, row: Mapping[str, float]) -> None:
        self._run.log(numbers(row, "step/"), step=number)

    def level(self, number: int, record: Mapping[str, Any]) -> None:
        self._run.log(numbers(record, "level/"), step=number)

    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        import wandb

        self._run.summary.update(numbers(metrics or {}))
        self._run.summary.update({"status": (metrics or {}).get("status", "failed")})
        self._run.log({f"figures/{figure.stem}": wandb.Image(str(figure)) for figure in figures}, step=number)
        self._run.finish(exit_code=0 if metrics else 1)
