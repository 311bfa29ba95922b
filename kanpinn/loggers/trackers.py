"""TensorBoard, Weights & Biases and MLflow as loggers; their libraries are imported when a solve begins."""

# The libraries are extras, which need not be there when types are checked.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from kanpinn.io.atomic import jsonable
from kanpinn.loggers.base import Logger, leaves, numbers
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


@dataclass
class WeightsAndBiases(Logger):
    """Weights & Biases, kept on this machine unless told otherwise: `wandb sync` uploads such a run later."""

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


_LONGEST = 500
"""Characters of a parameter that every store takes."""

_MOST = 100
"""Parameters that every store takes at once."""


@dataclass
class Mlflow(Logger):
    """MLflow, in a SQLite file beside the runs or in any other of its stores."""

    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"

    every: int = option(1, "every how many steps one is logged", at_least=1)
    uri: str = option("sqlite:///outputs/mlflow.db", "address of the store: sqlite:///FILE, http://HOST")
    experiment: str = option("kanpinn", "experiment in the store")

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        artifacts, uri = None, self.uri
        if uri.startswith("sqlite:///"):
            file = Path(uri.removeprefix("sqlite:///")).absolute()
            file.parent.mkdir(parents=True, exist_ok=True)
            artifacts = (file.parent / "mlflow").as_uri()
            uri = f"sqlite:///{file}"  # MLflow keeps stores by address: a relative one stays in the first folder
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                identity = self._client.create_experiment(self.experiment, artifact_location=artifacts)
            except MlflowException:  # a run beside this one was first
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
                identity = found.experiment_id
        else:
            identity = found.experiment_id
        self._run = self._client.create_run(identity, run_name=folder.name, tags={"folder": str(folder)}).info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in leaves(config).items()]
        for k in range(0, len(params), _MOST):
            self._client.log_batch(self._run, params=params[k : k + _MOST])

    def step(self, number: int, row: Mapping[str, float]) -> None:
        self._log(numbers(row, "step."), number)

    def level(self, number: int, record: Mapping[str, Any]) -> None:
        self._log(numbers(record, "level."), number)

    def finish(self, number: int, metrics: Mapping[str, Any] | None, figures: Sequence[Path]) -> None:
        values = metrics or {}
        self._log(numbers(values), number)
        for figure in figures:
            self._client.log_artifact(self._run, str(figure), "figures")
        self._client.set_tag(self._run, "status", str(values.get("status", "failed")))
        self._client.set_terminated(self._run, "FINISHED" if metrics else "FAILED")

    def _log(self, values: Mapping[str, float], number: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._run, [Metric(name, value, now, number) for name, value in values.items()])
