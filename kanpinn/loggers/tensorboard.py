"""TensorBoard: an event file in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kanpinn.io.atomic import jsonable
from kanpinn.loggers.base import Logger, numbers
from kanpinn.options import option


@dataclass
class TensorBoard(Logger):
    """Event files for TensorBoard, in the run folder."""

    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "tensorboard"

    every: int = option(1, "every how many steps one is logged", at_least=1)
    folder: str | None = option(None, "folder of the event files; null: tensorboard in the run folder")

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        import yaml
        from torch.utils.tensorboard.writer import SummaryWriter

        place = folder / "tensorboard" if self.folder is None else Path(self.folder) / folder.name
        self._writer = SummaryWriter(str(place))
        text = yaml.safe_dump(jsonable(config, finite=False), sort_keys=False, allow_unicode=True)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), 0)

    def step(self, number: int, row: Mapping[str, float]) -> None:
        for name, value in numbers(row).items():
            self._writer.add_scalar(f"step/{name}", value, number)

    def level(self, number: int, record: Mapping[str, Any]) -> None:
        for name, value in numbers(record).items():
            self._writer.add_scalar(f"level/{name}", value, number)
        self._writer.flush()

    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        from matplotlib.image import imread

        for name, value in numbers(metrics or {}).items():
            self._writer.add_scalar(f"final/{name}", value, number)
        for figure in figures:
            self._writer.add_image(f"figures/{figure.stem}", imread(figure), number, dataformats="HWC")
        self._writer.close()
