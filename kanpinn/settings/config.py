"""The config as checked, typed values: nothing is solved before `validate` has passed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from kanpinn.errors import UserError, caution, invalid, shown, unknown_choice, unknown_key
from kanpinn.io.table import read_columns
from kanpinn.multilevel import Schedule
from kanpinn.multilevel.schedules import Custom
from kanpinn.optimizers import Optimizer
from kanpinn.options import build, conform
from kanpinn.pde import Data, Problem, Unknown
from kanpinn.pde.condition import pieces_of
from kanpinn.pde.parameter import Parameter, parametric
from kanpinn.pde.table import Table
from kanpinn.pde.text_problem import text_problem
from kanpinn.pde.unknown import check_real, posed
from kanpinn.settings.built_in import Ways, settled
from kanpinn.settings.configuration import COMPONENTS, Configuration, Settings
from kanpinn.settings.discovery import choices, load_problem_class
from kanpinn.settings.launched import launched
from kanpinn.settings.registry import OBJECT, REGISTRY, described, described_problem, options
from kanpinn.settings.resolving import resolve
from kanpinn.settings.tables import is_table, read_table_problem
from kanpinn.settings.user_files import read_yaml
from kanpinn.solver.setup import Setup

_RESERVED = ("name", "conditions", "tuned")
"""Keys of the problem group that are not coefficients."""


def _file_options(group: str, name: str, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a choice's config file, with the problem's recommendations put in; {} without such a file."""
    file = choices(group).get(name)
    if file is None:
        return {}
    cfg = OmegaConf.create({**{key: resolved[key] for key in ("problem", "backbone")}, group: read_yaml(file)})
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))[group]


def validate(cfg: DictConfig | Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Configuration:
    """Check a whole config before any work starts.

    Args:
        cfg: The composed config, resolved or not.
        given: Objects that take the place of a group's own ("problem" among them, or its class); the config describes
            them.

    Returns:
        The same as typed values.

    Raises:
        UserError: At the first mistake, naming key, value and what would have been valid.
    """
    values, given = resolve(cfg), given or {}
    names = [item.name for item in fields(Settings)]
    for key, value in values.items():
        if key not in names and key not in ("problem", *COMPONENTS):
            raise unknown_key(key, value, [*names, "problem", *COMPONENTS], _dotted(values))
    settings = build(Settings, {key: values[key] for key in names if key in values}, "")
    if (place := launched()) is not None:
        settings = replace(settings, processes=place.size)
        values = {**values, "processes": place.size}
    problem, conditions = _problem(_group(values, "problem"), given.get("problem"), settings.seed)
    problem = parametric(with_unknowns(problem, settings.unknown), settings.parameters)
    problem = observed(problem, read_data(problem, settings.data), settings.data)
    parts = {group: given.get(group) or _component(group, _group(values, group)) for group in COMPONENTS}
    logger = parts.pop("logger")
    parts["schedule"] = _with_optimizers(parts["schedule"], parts["optimizer"], values)
    values = {**values, "schedule": _spelled_out(values, parts["schedule"], parts["optimizer"])}
    setup = Setup(
        problem,
        **parts,
        conditions="exact" if conditions == "exact" else "soft",
        seed=settings.seed,
        dtype=getattr(torch, settings.dtype),
        device=torch.device(settings.device),
        points=settings.output.points,
        processes=settings.processes,
    )
    check_curriculum(setup)
    return settled(Configuration(settings, setup, logger, values))


def with_unknowns(problem: Problem, starts: Mapping[str, Any]) -> Problem:
    """Return a problem some of whose coefficients are to be found, positive ones above 0; raises UserError."""
    found: dict[str, Unknown] = {}
    for name, given in starts.items():
        check_real(problem, name, f"unknown.{name}", given)
        if isinstance(getattr(problem, name), Parameter):
            raise invalid(f"unknown.{name}", given, "nothing: the problem declares it as a parameter")
        values = dict(given) if isinstance(given, Mapping) else {"start": given}
        if isinstance(own := getattr(problem, name), Unknown):  # another start keeps the bounds that it declares
            values = {"lower": own.lower, "upper": own.upper, **values}
        if name in problem.positive:
            values = {"lower": 0.0, **values}
        for key, value in values.items():
            if key not in ("start", "lower", "upper"):
                raise unknown_key(f"unknown.{name}.{key}", value, ("start", "lower", "upper"))
        if "start" not in values:
            raise UserError(f"unknown.{name}.start: missing; it is the value to begin with")
        try:
            found[name] = Unknown(values.pop("start"), **values)
        except UserError as error:
            why = f", as every {name} of the problem" if name in problem.positive and values.get("lower") == 0 else ""
            raise invalid(f"unknown.{name}", given, f"{str(error).partition('expected ')[2]}{why}") from None
    return replace(problem, **found) if found else problem


def observed(problem: Problem, tables: Mapping[str, Mapping[str, np.ndarray]], files: Any = None) -> Problem:
    """Return a problem with tables of data, by the names of their terms; raises UserError, with the file, if wrong."""
    if tables and not problem.has_equations:
        raise UserError(f"data={shown(files)}: problem=table has its data already; expected null")
    data = tuple(Data(name, table) for name, table in tables.items())
    places = [files] if isinstance(files, str) else files or []
    for k, one in enumerate(data):
        try:
            pieces_of(one.condition(problem), problem.domain)
        except UserError as error:
            file = places[k] if k < len(places) else one.name
            raise UserError(f"data={file}: {str(error).partition(': ')[2]}") from None
    return posed(problem, {"observed": data}) if data else problem


def read_data(problem: Problem, files: str | list[str] | None) -> dict[str, dict[str, np.ndarray]]:
    """Read the tables of some files, by the names of their terms: data, or data_1, data_2 …; raises UserError."""
    given = [files] if isinstance(files, str) else files or []
    if twice := [file for file in given if given.count(file) > 1]:
        raise UserError(f"data: {twice[0]} is given twice; its measurements would count double")
    names = ["data"] if len(given) == 1 else [f"data_{k}" for k in range(1, len(given) + 1)]
    needed = (*problem.domain.names, *problem.unknowns)
    return {name: read_columns(Path(file), "data", needed) for name, file in zip(names, given, strict=True)}


def with_data(
    configuration: Configuration, tables: Mapping[str, Mapping[str, np.ndarray]], files: Any
) -> Configuration:
    """Return a config with the data that a run has stored, in place of those in its files; warns if these differ now.

    Raises:
        UserError: If the data do not fit the problem.
    """
    if not tables:
        return configuration
    problem = observed(configuration.setup.problem, tables, files)
    with suppress(UserError, OSError):
        now = read_data(problem, files)
        same = [sorted(table) for table in now.values()] == [sorted(table) for table in tables.values()]
        if not same or any(not np.array_equal(now[n][key], t[key]) for n, t in tables.items() for key in t):
            caution(f"data={files}: has changed since; the data stored in the run are used")
    settings = replace(configuration.settings, data=files)
    resolved = {**configuration.resolved, "data": files}
    return replace(
        configuration, settings=settings, setup=replace(configuration.setup, problem=problem), resolved=resolved
    )


def check_curriculum(setup: Setup) -> None:
    """Refuse a curriculum in what the problem cannot vary from level to level; raises UserError."""
    schedule, problem = setup.schedule, setup.problem
    given = getattr(schedule, "curriculum", None)
    if not given:
        return
    if schedule.slabs > 1:
        raise UserError(f"schedule.slabs={schedule.slabs}: time slabs have no curriculum; valid choices: 1.")
    real = [item.name for item in fields(problem) if item.type in (float, "float")]
    for name in given:
        if name not in real:
            if real:
                raise unknown_choice("schedule.curriculum", name, real)
            none = "null (the problem has no coefficient that is a real number)"
            raise invalid("schedule.curriculum", given, none)
    for level in range(schedule.levels - 1):
        try:
            other = setup.problem_on(level)
        except UserError as error:
            raise UserError(f"schedule.curriculum on level {level}: {error}") from error
        for key in ("unknowns", "outputs", "derivatives", "periodic", "symmetry", "depends"):
            if getattr(other, key) != getattr(problem, key):
                raise UserError(f"schedule.curriculum: on level {level} the problem has other {key}")
        if other.domain != problem.domain:
            raise UserError(f"schedule.curriculum: on level {level} the problem has another domain")


def _with_optimizers(schedule: Schedule, own: Optimizer, values: Mapping[str, Any]) -> Schedule:
    """Put objects in place of the optimisers that a schedule names; raises UserError with the key they stand under."""
    changed: dict[str, Any] = {}
    if schedule.optimizers is not None:
        changed["optimizers"] = [optimizer_of(chosen, own, values) for chosen in schedule.optimizers]
    if isinstance(schedule, Custom):
        changed["stages"] = [
            {**stage, "optimizer": optimizer_of(stage["optimizer"], own, values, f"schedule.stages[{k}].optimizer")}
            if stage.get("optimizer") is not None
            else stage
            for k, stage in enumerate(schedule.stages)
        ]
    return replace(schedule, **changed) if changed else schedule


def _spelled_out(values: Mapping[str, Any], schedule: Schedule, own: Optimizer) -> dict[str, Any]:
    """Return the schedule's group with all options of the optimisers it names: a resumed run asks no file for them."""

    def spelled(one: Any) -> Any:
        return values["optimizer"]["name"] if one is own else described(one) if isinstance(one, Optimizer) else one

    group = dict(values["schedule"])
    if schedule.optimizers is not None:
        group["optimizers"] = [spelled(one) for one in schedule.optimizers]
    if isinstance(schedule, Custom):
        group["stages"] = [
            {**given, "optimizer": spelled(stage["optimizer"])} if stage.get("optimizer") is not None else given
            for given, stage in zip(group["stages"], schedule.stages, strict=True)
        ]
    return group


def optimizer_of(
    chosen: Any, own: Optimizer, values: Mapping[str, Any], key: str = "schedule.optimizers"
) -> Optimizer | None:
    """Return the optimiser that a schedule names for a level or a stage; None for None.

    It is named by text, or by a mapping with `name` and options. Options not given are the run's own where it is the
    run's optimiser, else those of its config file, the problem's recommendations included. Raises UserError, naming
    the config key, if there is no such optimiser or option.
    """
    run = values["optimizer"]
    if chosen is None or isinstance(chosen, Optimizer):
        return chosen
    if chosen == run["name"]:
        return own
    if isinstance(chosen, str):
        chosen = {"name": chosen}
    if not isinstance(chosen, Mapping) or not isinstance(chosen.get("name"), str):
        raise invalid(key, chosen, "the name of an optimizer, or a mapping with name and options")
    name = chosen["name"]
    if name not in REGISTRY["optimizer"]:
        raise unknown_choice(key, name, REGISTRY["optimizer"])
    cls = REGISTRY["optimizer"][name]
    whole = {one.name for one in fields(cls) if one.init} <= set(chosen)
    base = {} if whole else run if name == run["name"] else _file_options("optimizer", name, values)
    options = {option: value for option, value in {**base, **chosen}.items() if option != "name"}
    return build(cls, options, key)


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every full dotted key of nested plain values, but the problem's recommendations."""
    keys = []
    for key, value in values.items():
        if f"{prefix}{key}" == "problem.tuned":
            continue
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys.extend(_dotted(value, f"{prefix}{key}."))
    return keys


def _group(values: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The mapping of one group with its name checked to be there."""
    value = values.get(group)
    if value is None:
        raise UserError(f"{group}: missing; valid choices: {', '.join(choices(group))}.")
    if not isinstance(value, dict):
        raise invalid(group, value, f"one of {', '.join(choices(group))}")
    if not isinstance(value.get("name"), str):
        raise invalid(f"{group}.name", value.get("name"), f"one of {', '.join(choices(group))}")
    return value


def _component(group: str, values: dict[str, Any]) -> Any:
    """The options of one component."""
    try:
        cls = options(group, values["name"])
    except KeyError:
        raise unknown_choice(f"{group}.name", values["name"], choices(group)) from None
    return build(cls, {key: value for key, value in values.items() if key != "name"}, group)


def _problem(values: dict[str, Any], given: Problem | type[Problem] | None, seed: int) -> tuple[Problem, Ways]:
    """The problem with its coefficients, and how its conditions are met; the seed splits a table."""
    if isinstance(given, Table):
        return given, "soft"
    if isinstance(given, Problem):
        return given, _same_problem(given, values)
    if given is None and values.get(OBJECT) is not None:
        raise UserError(
            f"problem.name={values['name']}: the class {values[OBJECT]} is in no file of ./problems; give the object, "
            f"as in kanpinn.load(folder, problem={values['name']}(…))"
        )
    if is_table(values):
        return read_table_problem(values, seed), "soft"
    if "equations" in values:
        return problem_as_text(values), _conditions(values, "form")
    if isinstance(values.get("conditions"), Mapping) or "domain" in values:
        raise UserError(f"problem.equations: missing; a problem as text ({values['name']}) has domain and equations")
    cls = given or load_problem_class(values["name"])
    coefficients = [item.name for item in fields(cls)]
    clash = sorted(set(coefficients) & set(_RESERVED))
    if clash:
        raise UserError(f"class {cls.__name__}: a coefficient cannot be called {clash[0]}; that key is taken.")
    reserved = _RESERVED if given is None else (*_RESERVED, OBJECT)
    coefficients_given = {key: value for key, value in values.items() if key not in reserved}
    for key, value in coefficients_given.items():
        if key not in coefficients:
            raise unknown_key(f"problem.{key}", value, [*coefficients, *_RESERVED])
    conform(dict[str, Any] | None, values.get("tuned"), "problem.tuned")
    return build(cls, coefficients_given, "problem"), _conditions(values)


def _conditions(values: Mapping[str, Any], key: str = "conditions") -> Ways:
    """Return how a problem's conditions are met, as loss terms in configs from before there was a choice.

    Raises:
        UserError: If it is none of the choices.
    """
    return conform(Ways, values.get(key, "soft"), f"problem.{key}")


def problem_as_text(values: Mapping[str, Any]) -> Problem:
    """Return the problem whose equations a config holds as text; raises UserError where it does not parse."""
    conform(dict[str, Any] | None, values.get("tuned"), "problem.tuned")
    given = {key: value for key, value in values.items() if key not in ("name", "tuned", "form")}
    if isinstance(given.get("conditions"), str):
        text = f"problem.conditions={given['conditions']}: the conditions of {values['name']} are text"
        raise UserError(f"{text}; whether they are built in says problem.form=exact, soft or auto")
    return text_problem(values["name"], given)


def _same_problem(problem: Problem, values: dict[str, Any]) -> Ways:
    """Return how a problem object's conditions are met; raises UserError if a config describes another problem."""
    conditions = _conditions(values)
    own = described_problem(problem, conditions)
    for key, value in values.items():
        if key != "tuned" and own.get(key, _ABSENT) != value:
            found = shown(own[key]) if key in own else "none"
            raise UserError(f"problem.{key}={shown(value)}: the problem given has {found}")
    return conditions


_ABSENT = object()
