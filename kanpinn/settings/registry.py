"""Names to classes, for every config group whose choices are components."""

from __future__ import annotations

from typing import Any

from kanpinn.backbones import BACKBONES
from kanpinn.errors import unknown_choice
from kanpinn.least_squares.weighting import WEIGHTINGS
from kanpinn.loggers import LOGGERS
from kanpinn.multilevel import SCHEDULES
from kanpinn.optimizers import OPTIMIZERS
from kanpinn.samplers import SAMPLERS

REGISTRY: dict[str, dict[str, type[Any]]] = {
    "backbone": dict(BACKBONES),
    "sampler": dict(SAMPLERS),
    "schedule": dict(SCHEDULES),
    "optimizer": dict(OPTIMIZERS),
    "weighting": dict(WEIGHTINGS),
    "logger": dict(LOGGERS),
}


def options(group: str, name: str) -> type[Any]:
    """The dataclass whose fields are the options of one choice of a config group; checks them when it is called.

    Raises:
        UserError: If there is no such choice.
    """
    if name not in REGISTRY[group]:
        raise unknown_choice(group, name, REGISTRY[group])
    return REGISTRY[group][name]
