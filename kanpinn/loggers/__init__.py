"""Programs that follow many runs, told what a solve does; none is needed."""

from kanpinn.loggers.base import Logger, NoLogger, Report
from kanpinn.loggers.trackers import Mlflow, TensorBoard, WeightsAndBiases

LOGGERS: dict[str, type[Logger]] = {
    "none": NoLogger,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": Mlflow,
}
"""Loggers by the name they are chosen by."""

__all__ = ["LOGGERS", "Logger", "NoLogger", "Report"]
