"""Mistakes in overrides and config files, found after Hydra has refused them, each as one clear line."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from kanpinn.errors import UserError, invalid, one_line, unknown_choice, unknown_key
from kanpinn.settings.discovery import GROUPS, choices, problem_file
from kanpinn.settings.launchers import LAUNCHERS
from kanpinn.settings.user_files import circle, is_name


def explain(error: Exception, parsed: Sequence[Override], compose: Callable[[Sequence[str]], DictConfig]) -> UserError:
    """Return the error that says which override is wrong, and what would have been right, for an exception of Hydra.

    `compose` composes a config of overrides that are right.
    """
    if any(isinstance(cause, RecursionError) for cause in _causes(error)):
        names = [f"{o.key_or_group}/{o.value()}" for o in parsed if o.key_or_group in GROUPS]
        way = next(filter(None, map(circle, names)), "")
        return UserError(f"defaults: config files include one another without end{way and f': {way}'}.")
    groups = [override for override in parsed if override.key_or_group in GROUPS]
    try:
        cfg = compose([str(override.input_line) for override in groups])
    except Exception:  # then the mistake is in a file
        cfg = None
    for override in parsed if cfg is not None else []:
        if override not in groups and override.type != OverrideType.ADD:
            wrong = _wrong_key(override, cfg)
            if wrong is not None:
                return wrong
    # An override that Hydra itself refuses is wrong whatever else is deleted, as ~problem is beside a problem object.
    for override in parsed if not isinstance(error, HydraException) else []:
        group = override.key_or_group.partition(".")[0]
        if override.type == OverrideType.DEL and group in GROUPS:
            return UserError(f"{override.input_line}: a solve needs it; valid choices: {', '.join(choices(group))}.")
    return _in_file(error)


def wrong_choice(override: Override) -> UserError | None:
    """The mistake in an override of a whole group, if there is one."""
    group, value = override.key_or_group, override.value()
    if group == "hydra/launcher" and override.type != OverrideType.DEL:
        return _wrong_launcher(str(value))
    if "/" in group and isinstance(value, str) and not is_name(value):
        return invalid(group, value, "the name of a choice, never a path")
    if group not in GROUPS or override.type == OverrideType.DEL:
        return None
    known = choices(group)
    if value is None:
        return None if group == "experiment" else UserError(f"{group}=null: valid choices: {', '.join(known)}.")
    if isinstance(value, list | dict):
        return invalid(group, override.get_value_element_as_str(), f"one of {', '.join(known)}")
    if str(value) in known:
        return None
    if not known:
        return UserError(f"{group}={value}: there is none to choose; the folder conf/{group} holds no YAML file.")
    if group == "problem" and problem_file(str(value)) is not None:
        return UserError(
            f"problem={value}: problems/{value}.py is there but conf/problem/{value}.yaml is missing; "
            f"it needs at least the line 'name: {value}'. Valid choices: {', '.join(known)}."
        )
    return unknown_choice(group, value, known)


def _wrong_launcher(name: str) -> UserError | None:
    """Error of a wrong `hydra/launcher`; None if it is right."""
    if name not in LAUNCHERS:
        return unknown_choice("hydra/launcher", name, LAUNCHERS)
    if not LAUNCHERS[name].installed:
        return UserError(f"hydra/launcher={name}: is not installed: pip install 'kanpinn[{LAUNCHERS[name].extra}]'")
    return None


def _wrong_key(override: Override, cfg: DictConfig | None) -> UserError | None:
    """The mistake in the key of an override, if it does not exist in the composed config."""
    key = override.key_or_group
    if key.startswith("hydra/") or key == "hydra.run.dir":
        return None
    if key == "hydra":
        return invalid(key, override.get_value_element_as_str(), "a key of Hydra's own, such as hydra.run.dir")
    node: Any = cfg
    parent = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            if override.type == OverrideType.FORCE_ADD:
                return None
            valid = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
            value = str(override.input_line).partition("=")[2] or None
            wrong = unknown_key(f"{parent}{part}", value, valid, _keys(cfg))
            return UserError(f"{wrong} {_INSTEAD[key]}") if key in _INSTEAD else wrong
        node = node._get_node(part)
        if node is not None and node._is_interpolation():
            node = node._maybe_dereference_node()  # None where it leads nowhere yet, as to a job's number
        parent += f"{part}."
    if isinstance(node, DictConfig) and isinstance(override.value(), list):
        return invalid(key, override.value(), "a mapping of keys to values")
    return None if override.type == OverrideType.FORCE_ADD else _wrong_entry(key, override.value(), node, cfg)


def _wrong_entry(key: str, value: Any, node: Any, cfg: DictConfig | None) -> UserError | None:
    """The mistake in the keys of a mapping that an override gives, if one of them does not exist."""
    if not isinstance(value, dict) or not isinstance(node, DictConfig):
        return None
    valid = [str(name) for name in node]
    for name, item in value.items():
        if str(name) not in valid:
            return unknown_key(f"{key}.{name}", item, valid, _keys(cfg))
        if wrong := _wrong_entry(f"{key}.{name}", item, node.get(str(name)), cfg):
            return wrong
    return None


_INSTEAD = {
    "schedule.steps": "v_cycle and w_cycle have pre, post and coarsest instead, custom has stages.",
    "schedule.levels": "The levels of custom follow from its stages.",
}
"""Advice on keys that some choices of a group have and others have not."""


def _keys(node: Any, prefix: str = "") -> list[str]:
    """Every full dotted key of a config, but Hydra's own and the problem's recommendations."""
    keys: list[str] = []
    if isinstance(node, DictConfig):
        for name in node:
            if f"{prefix}{name}" not in ("hydra", "problem.tuned"):
                keys.append(f"{prefix}{name}")
                if not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, str(name)):
                    keys.extend(_keys(node[name], f"{prefix}{name}."))
    return keys


def _in_file(error: Exception) -> UserError:
    """A mistake that is in a config file, not in an override."""
    chain = itertools.takewhile(lambda e: e is not None, _causes(error))
    for cause in chain:
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, name = str(cause.missing_cfg_file).rpartition("/")
            if group in GROUPS:
                return unknown_choice(group, name, choices(group))
            return UserError(one_line(cause))
    key = getattr(error, "full_key", None)
    return UserError(f"{key}: {one_line(error)}" if key else one_line(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
