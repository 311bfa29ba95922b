"""Nested levels: schedules as data, transfer between levels, coarse problems and their corrections."""

from kanpinn.multilevel.schedules import SCHEDULES, Schedule
from kanpinn.multilevel.stages import Stage

__all__ = ["SCHEDULES", "Schedule", "Stage"]
