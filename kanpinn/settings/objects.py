"""Configs from objects: a problem with a network, schedule and methods, without Hydra unless texts are given too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from kanpinn.backbones import BACKBONES, Kan
from kanpinn.errors import UserError, unknown_key
from kanpinn.least_squares.weighting import Fixed, Weighting
from kanpinn.loggers import Logger, NoLogger
from kanpinn.multilevel import Schedule
from kanpinn.multilevel.schedules import Nested
from kanpinn.optimizers import LevenbergMarquardt, Optimizer
from kanpinn.options import conform, type_hints
from kanpinn.pde.parameter import parametric
from kanpinn.pde.problem import Problem
from kanpinn.samplers import Adaptive, Sampler
from kanpinn.settings.built_in import Ways, settled
from kanpinn.settings.configuration import Configuration, Settings
from kanpinn.settings.registry import described, described_parameters, described_problem, described_unknowns, plain
from kanpinn.settings.tables import given_table
from kanpinn.solver.setup import Setup

GROUPS: dict[str, tuple[tuple[type[Any], ...], Callable[[], Any]]] = {
    "backbone": (tuple(BACKBONES.values()), Kan),
    "sampler": ((Sampler,), Adaptive),
    "schedule": ((Schedule,), Nested),
    "optimizer": ((Optimizer,), LevenbergMarquardt),
    "weighting": ((Weighting,), Fixed),
    "logger": ((Logger,), NoLogger),
}
"""Classes of each config group's objects, and the default."""


def configuration_of_objects(problem: Problem, overrides: Sequence[Any], conditions: Ways = "auto") -> Configuration:
    """Return the checked config of a problem object; what overrides do not give has the default of its class.

    Overrides are objects, one per config group at most, and texts such as "schedule.levels=3"; conditions are met as
    said where these do not say how.

    Raises:
        UserError: If an override is of no group, or a group is given twice.
    """
    texts, given = _sorted(overrides)
    problem, conditions, texts = _problem_texts(problem, texts, conditions)
    if texts:
        return _composed(problem, conditions, texts, given)
    parts = {group: given.get(group) or default() for group, (_, default) in GROUPS.items()}
    settings = Settings(seed=0)
    known = {"unknown": described_unknowns(problem), "parameters": described_parameters(problem)}
    values = {**plain(settings), **known, **_described(problem, conditions, parts)}
    logger = parts.pop("logger")
    setup = Setup(parametric(problem, {}), **parts, conditions="exact" if conditions == "exact" else "soft")
    return settled(Configuration(settings, setup, logger, values))


def configuration_of_table(
    table: Any, target: Any, overrides: Sequence[Any], inputs: Sequence[str], split: Sequence[float]
) -> Configuration:
    """Return the checked config of a fit; see `kanpinn.fit`.

    Raises:
        UserError: If the table or an override is wrong.
    """
    from omegaconf import OmegaConf

    from kanpinn.settings.compose import compose
    from kanpinn.settings.config import validate

    texts, given = _sorted(overrides)
    for text in texts:
        if text.partition("=")[0].startswith("problem"):
            raise UserError(f"{text}: the table is given; its options are the arguments inputs and split")
    config, _ = compose(["problem=table", "hydra.run.dir=.", *texts])
    values: Any = OmegaConf.to_container(config, resolve=True)
    found = given_table(table, target, inputs, split, values["seed"])
    groups = {"problem": described_problem(found, "")} | {group: described(part) for group, part in given.items()}
    return validate({**values, **groups}, {**given, "problem": found})


def _sorted(overrides: Sequence[Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the texts among overrides, and the objects by their group; raises UserError for two of one group."""
    texts, given = [], {}
    for override in overrides:
        if isinstance(override, str):
            texts.append(override)
            continue
        group = _group_of(override)
        if group in given:
            raise UserError(f"{override!r}: a second {group}; {given[group]!r} is given already")
        given[group] = override
    for text in texts:
        group = text.lstrip("+~").partition("=")[0].partition(".")[0]
        if group in given:
            raise UserError(f"{text}: the {group} is given as an object; set it there")
        if group in ("hydra", "sweep"):
            raise UserError(f"{text}: is for the command line; here the run folder is folder=…")
    return texts, given


def _composed(problem: Problem, conditions: Any, texts: list[str], given: dict[str, Any]) -> Configuration:
    """The config composed of texts, with objects in place of some of its groups."""
    from omegaconf import OmegaConf

    from kanpinn.settings.compose import compose
    from kanpinn.settings.config import validate

    config, _ = compose(["~problem", "hydra.run.dir=.", *texts])
    values: Any = OmegaConf.to_container(config, resolve=True)
    values["unknown"] = {**described_unknowns(problem), **values["unknown"]}
    values["parameters"] = {**described_parameters(problem), **values["parameters"]}
    return validate({**values, **_described(problem, conditions, given)}, {**given, "problem": problem})


def _group_of(override: Any) -> str:
    for group, (classes, _) in GROUPS.items():
        if isinstance(override, classes):
            return group
    looks_like_network = all(hasattr(override, name) for name in ("build", "embedding", "check_order"))
    if looks_like_network and not isinstance(override, type):
        return "backbone"
    hint = f"; did you mean {override.__name__}()?" if isinstance(override, type) else ""
    raise UserError(
        f"{override!r}: expected a text such as 'schedule.levels=3', or an object such as Kan(), Nested(), Sobol()"
        f" or LevenbergMarquardt(){hint}"
    )


def _problem_texts(problem: Problem, texts: list[str], conditions: Ways) -> tuple[Problem, Ways, list[str]]:
    """The problem with the coefficients that texts give, how its conditions are met, and the other texts."""
    own = [text for text in texts if text.lstrip("+~").startswith("problem")]
    others = [text for text in texts if text not in own]
    if not own:
        return problem, conditions, others
    from kanpinn.settings.compose import single_values

    hints, names = type_hints(type(problem)), [field.name for field in fields(problem)]
    changed: dict[str, Any] = {}
    for key, value in single_values(own).items():
        name = key.removeprefix("problem.")
        if key == "problem":
            raise UserError(f"problem={value}: the problem is given as an object")
        if name == "conditions" and value in ("soft", "exact", "auto"):
            conditions = value
        elif name not in names:
            raise unknown_key(key, value, [*names, "conditions"])
        else:
            changed[name] = conform(hints[name], value, key)
    return replace(problem, **changed), conditions, others


def _described(problem: Problem, conditions: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The groups of a config that stand for objects, as plain values."""
    return {"problem": described_problem(problem, conditions)} | {
        group: described(part) for group, part in parts.items()
    }
