"""Schedules: which level is trained when, for how long, as data."""

from kanpinn.multilevel.schedules import SCHEDULES, Nested, Schedule, Single, Stage

__all__ = ["SCHEDULES", "Nested", "Schedule", "Single", "Stage"]
