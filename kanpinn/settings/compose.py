"""From command-line overrides to a composed Hydra config, with every mistake turned into one clear line."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

import kanpinn.settings.resolving  # noqa: F401  (registers its resolver)
from kanpinn.errors import UserError, invalid, shown
from kanpinn.settings.config_limits import check_hydra, check_interpolations, check_overrides
from kanpinn.settings.discovery import conditions_key, packaged, problem_file, users
from kanpinn.settings.launchers import LAUNCHERS, SWEEPER, TARGETS
from kanpinn.settings.mistakes import explain, wrong_choice
from kanpinn.settings.user_files import UserFiles, note_ignored

CONFIG_MODULE = "kanpinn.conf"
CONFIG_PATH = f"pkg://{CONFIG_MODULE}"
CONFIG_NAME = "config"
VERSION_BASE = "1.3"
_METHODS = ("schedule", "optimizer", "sampler", "weighting", "processes", "start")
LONGEST_OVERRIDE = 10_000
"""Letters of an override: to read that many takes seconds."""


class UserConfigs(SearchPathPlugin):
    """Puts the user's own ./conf before the packaged configs, so that a file of the same name wins.

    Both are read by one reader, so that a packaged problem as text may be copied as it is.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folder, or none to look for names in, if the application is this one."""
        if any(element.path == CONFIG_PATH for element in search_path.get_path()):
            for name, folder in (("user", users("conf") or ""), ("packaged", packaged("conf"))):
                search_path.prepend(f"kanpinn-{name}", f"{UserFiles.scheme()}://{folder}", anchor="main")


Plugins.instance().register(UserFiles)
Plugins.instance().register(UserConfigs)


def compose(overrides: Sequence[str], keep_sweep: bool = False, keep_hydra: bool = False) -> tuple[DictConfig, Path]:
    """Compose the config that overrides such as `["problem=burgers", "seed=1"]` describe; gives its run folder too.

    The part that steers sweeps and Hydra's own part leave the config unless they are kept. Raises UserError if an
    override cannot be read, or names a choice or key that does not exist.
    """
    overrides = free(overrides)
    parsed = parse(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: several values; a sweep needs kanpinn solve -m.")
    keys = {override.key_or_group for override in parsed}
    check_overrides(keys)
    for wrong in filter(None, map(wrong_choice, parsed)):
        raise wrong
    own = users("conf")
    if own is not None:
        note_ignored(own)
    try:
        cfg = _compose(overrides)
        if _leaves_network(cfg, keys):
            cfg = _compose([*overrides, "backbone=auto"])
        _leave_open(cfg)
        check_interpolations(cfg)
        check_hydra(cfg, keys)
        _check_steps(cfg, parsed)
        folder = Path(str(OmegaConf.select(cfg, "hydra.run.dir")))
    except UserError:
        raise
    except Exception as error:  # Hydra also raises ValueError and others for what a user may write
        raise explain(error, parsed, _compose) from error
    _check_plugins(cfg)
    with read_write(cfg), open_dict(cfg):
        for key, kept in (("hydra", keep_hydra), ("sweep", keep_sweep)):
            if not kept:
                cfg.pop(key, None)
    return cfg, folder


def _leave_open(cfg: DictConfig) -> None:
    """Let conditions be met in the better way, where neither the problem's file nor an override says how."""
    problem = OmegaConf.select(cfg, "problem")
    if not isinstance(problem, DictConfig) or "name" not in problem:
        return
    table = problem.name == "table" and problem_file("table") is None
    if not table and (key := conditions_key(problem)) not in problem:
        with read_write(cfg), open_dict(cfg):
            problem[key] = "auto"


def _leaves_network(cfg: DictConfig, keys: Collection[str]) -> bool:
    """Tell whether there is an accuracy or a time limit, and neither problem, experiment nor override names a network.

    With a time limit alone, methods that are given belong to the default network.
    """
    groups = {key.partition(".")[0] for key in keys}
    exact = OmegaConf.select(cfg, "accuracy") is not None
    limited = OmegaConf.select(cfg, "time_limit_s") is not None and not groups & set(_METHODS)
    tuned = OmegaConf.select(cfg, "problem.tuned") or OmegaConf.select(cfg, "problem.name") == "table"
    free = not groups & {"backbone", "experiment"} and OmegaConf.select(cfg, "backbone.name") == "kan"
    return (exact or limited) and free and not tuned


def _check_plugins(cfg: DictConfig) -> None:
    """Refuse classes that Hydra would instantiate from the config, other than the launchers known here."""
    targets = set(TARGETS) - {SWEEPER}
    for key, valid in (("hydra.launcher", targets), ("hydra.sweeper", {SWEEPER})):
        target = OmegaConf.select(cfg, f"{key}._target_")
        if target not in valid:
            choice = "one of " + ", ".join(LAUNCHERS) if key == "hydra.launcher" else "basic"
            raise invalid(f"{key}._target_", target, f"the class of hydra/{key.partition('.')[2]}: {choice}")
    if OmegaConf.select(cfg, "hydra.callbacks"):
        raise invalid("hydra.callbacks", "{…}", "none: callbacks from a config are not run")


def _check_steps(cfg: DictConfig, parsed: Sequence[Override]) -> None:
    """Refuse steps given for levels that do not exist; a problem's recommendation may name more than are asked for."""
    for override in parsed:
        value = override.value() if override.key_or_group == "schedule.steps" else None
        levels = OmegaConf.select(cfg, "schedule.levels") if isinstance(value, list) else None
        if isinstance(levels, int) and isinstance(value, list) and len(value) > levels:
            raise UserError(
                f"{override.input_line}: {len(value)} numbers of steps for schedule.levels={levels}; expected at most "
                "one per level."
            )


def quoted(text: str) -> str:
    """A text as a value in Hydra's grammar, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'") if "'" in text or text.endswith("\\") else text
    return f"'{escaped}'"


def parse(overrides: Sequence[str]) -> list[Override]:
    """Read overrides by Hydra's grammar; raises UserError for one that does not follow it."""
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        if len(text) > LONGEST_OVERRIDE:
            raise UserError(
                f"{shown(text)[:60]}…: {len(text):,} letters; expected at most {LONGEST_OVERRIDE:,}: put a long list "
                "into a file in ./conf."
            )
        try:
            parsed.append(parser.parse_override(text))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(
                f"{shown(text)[:80]}: not a valid override; expected key=value, a list as key=[1,2], "
                "text with special characters as key='\"...\"'."
            ) from error
    return parsed


def single_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Return overrides as values by dotted key; raises UserError if one is no `key=value` with one value."""
    found = {}
    for override in parse(overrides):
        key = override.key_or_group
        if override.type != OverrideType.CHANGE or override.is_sweep_override():
            raise invalid(key, override.input_line, f"{key}=… with one value")
        found[key] = override.value()
    return found


def free(overrides: Sequence[str]) -> list[str]:
    """Let `weighting.terms.<term>=w` add a term: the names are the problem's own, so no config file lists them."""
    return [
        f"++{text}" if re.match(r"(weighting\.(terms|base)|problem\.form|unknown|parameters)[.=]", text) else text
        for text in overrides
    ]


@contextmanager
def isolate() -> Iterator[None]:
    """Set aside a Hydra that the calling program may have started."""
    other = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = other  # asked for anew: Hydra has put another instance in its place


_ONE_AT_A_TIME = threading.RLock()
"""Hydra composes in a place that all threads of a process share."""


def _compose(overrides: Sequence[str]) -> DictConfig:
    with _ONE_AT_A_TIME, isolate(), initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
        return hydra_compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)
