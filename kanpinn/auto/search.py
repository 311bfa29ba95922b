"""Search that a config asks for."""

from __future__ import annotations

from kanpinn.auto.networks import networks
from kanpinn.auto.strategy import STEPS, Search, accuracy_of_given, best_of_networks
from kanpinn.auto.work import Candidate
from kanpinn.backbones import Auto
from kanpinn.errors import UserError, invalid
from kanpinn.multilevel.schedules import MAX_LEVELS, Custom, Nested, Single
from kanpinn.settings.configuration import Configuration
from kanpinn.solver.setup import Setup, name_of


def search_of(asked: Configuration) -> Search:
    """Return the search for a config with an accuracy, or with a network that is to be chosen.

    Raises:
        UserError: If there are no equations to estimate an error by, or the schedule cannot be made longer.
    """
    setup, accuracy = asked.setup, asked.settings.accuracy
    schedule = setup.schedule
    if not setup.problem.has_equations:
        key = "backbone=auto" if accuracy is None else f"accuracy={accuracy:g}"
        raise UserError(f"{key}: a table has no equations by which errors could be estimated; expected accuracy=null")
    if not isinstance(schedule, Nested | Single | Custom):
        raise invalid("schedule", name_of(schedule), "nested, single or custom with accuracy: others have a fixed end")
    if setup.processes > 1:
        raise invalid("processes", setup.processes, "1 with accuracy or backbone=auto")
    for name, without in (("starts", 1), ("curriculum", None)):
        if getattr(schedule, name, without) != without:
            raise invalid(f"schedule.{name}", getattr(schedule, name), f"{without or 'null'} with accuracy")
    if isinstance(setup.backbone, Auto):
        return _chosen(setup, accuracy)
    plan = [{"level": stage.level, "steps": stage.steps} for stage in schedule.plan()]
    plan = schedule.stages if isinstance(schedule, Custom) else plan
    return accuracy_of_given(Candidate(setup), plan)


def _chosen(setup: Setup, accuracy: float | None) -> Search:
    """Return the search for a network; what the schedule has that is no default bounds it."""
    schedule = setup.schedule
    if not isinstance(schedule, Nested):
        raise invalid("schedule", name_of(schedule), "nested with backbone=auto, which makes its own stages")
    if setup.start is not None:
        raise UserError(
            "start: there is no network to go on with in backbone=auto; name the one to use, or leave it out"
        )
    default, most, steps = Nested(), MAX_LEVELS, STEPS
    if schedule.levels != default.levels:
        most = schedule.levels
    if schedule.steps != default.steps:
        if isinstance(schedule.steps, list):
            raise invalid("schedule.steps", schedule.steps, "one number for all levels with backbone=auto")
        steps = schedule.steps
    return best_of_networks(list(networks(setup)), steps, most, accuracy)
