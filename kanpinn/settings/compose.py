"""From command-line overrides to a composed Hydra config, with every mistake turned into one clear line."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from kanpinn.errors import UserError, invalid, shown, unknown_choice
from kanpinn.io import lock
from kanpinn.options import unknown_key
from kanpinn.settings.config import one_line
from kanpinn.settings.config_limits import check_files, check_hydra, check_interpolations, check_overrides
from kanpinn.settings.discovery import GROUPS, choices, problem_file, users

CONFIG_MODULE = "kanpinn.conf"
CONFIG_PATH = f"pkg://{CONFIG_MODULE}"
CONFIG_NAME = "config"
VERSION_BASE = "1.3"


@dataclass(frozen=True)
class LauncherPlugin:
    """A launcher of Hydra's that sweeps may use.

    Attributes:
        target: Its class.
        extra: What installs it; "" for one that is always there.
        isolated: Whether each job gets a process of its own below the launcher's.
    """

    target: str
    extra: str = ""
    isolated: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is there, without importing it."""
        package = ".".join(self.target.split(".")[:2])
        try:
            return not self.extra or importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:  # no plugin of Hydra's at all
            return False


_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
_SLURM = LauncherPlugin(f"{_SUBMITIT}.SlurmLauncher", "slurm", isolated=True)
LAUNCHERS = {
    "basic": LauncherPlugin("hydra._internal.core_plugins.basic_launcher.BasicLauncher"),
    "joblib": LauncherPlugin("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "parallel", True),
    "submitit_local": LauncherPlugin(f"{_SUBMITIT}.LocalLauncher", "slurm", isolated=True),
    "submitit_slurm": _SLURM,
    "slurm": _SLURM,  # the same with settings of ours
    "ray": LauncherPlugin("hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher", "ray"),
}
"""What `hydra/launcher` may be; nothing else is instantiated from a config."""

_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class UserConfigs(SearchPathPlugin):
    """Puts the user's own ./conf before the packaged configs, so that a file of the same name wins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folder, if there is one and the application is this one."""
        folder = users("conf")
        if folder is not None and any(element.path == CONFIG_PATH for element in search_path.get_path()):
            search_path.prepend("kanpinn-user", f"file://{folder}", anchor="main")


Plugins.instance().register(UserConfigs)


def compose(overrides: Sequence[str], keep_sweep: bool = False, keep_hydra: bool = False) -> tuple[DictConfig, Path]:
    """Compose the config that the given overrides describe.

    Args:
        overrides: As on the command line, such as `["problem=burgers", "seed=1"]`.
        keep_sweep: Whether the part that steers sweeps stays in the config.
        keep_hydra: Whether Hydra's own part does.

    Returns:
        The config, and the run folder it asks for.

    Raises:
        UserError: If an override cannot be read, or names a choice or key that does not exist.
    """
    overrides = free(overrides)
    parsed = parse(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: several values; a sweep needs kanpinn solve -m.")
    keys = {override.key_or_group for override in parsed}
    check_overrides(keys)
    try:
        own = users("conf")
        if own is not None:
            check_files(own)
        cfg = _compose(overrides)
        check_interpolations(cfg)
        check_hydra(cfg, keys)
        _check_steps(cfg, parsed)
        folder = Path(str(OmegaConf.select(cfg, "hydra.run.dir")))
    except UserError:
        raise
    except Exception as error:  # Hydra also raises ValueError and others for what a user may write
        raise _explain(error, parsed) from error
    _check_plugins(cfg)
    with read_write(cfg), open_dict(cfg):
        for key, kept in (("hydra", keep_hydra), ("sweep", keep_sweep)):
            if not kept:
                cfg.pop(key, None)
    return cfg, folder


def _check_plugins(cfg: DictConfig) -> None:
    """Refuse classes that Hydra would instantiate from the config, other than the launchers known here."""
    targets = {plugin.target for plugin in LAUNCHERS.values()}
    for key, valid in (("hydra.launcher", targets), ("hydra.sweeper", {_SWEEPER})):
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


def check_folder(folder: Path) -> None:
    """Refuse a run folder that cannot take a new run; raises UserError if it exists and is not an empty folder."""
    if folder.is_dir():
        if any(file.name != lock.NAME for file in folder.iterdir()):
            holds = "already holds a run" if (folder / "metrics.json").exists() else "is not empty"
            raise UserError(f"hydra.run.dir={folder}: the folder {holds}; expected a new or an empty one.")
    elif folder.exists():
        raise UserError(f"hydra.run.dir={folder}: this is a file; expected a new or an empty folder.")


def parse(overrides: Sequence[str]) -> list[Override]:
    """Read overrides by Hydra's grammar; raises UserError for one that does not follow it."""
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(
                f"{shown(text)[:80]}: not a valid override; expected key=value, a list as key=[1,2], "
                "text with special characters as key='\"...\"'."
            ) from error
    return parsed


def free(overrides: Sequence[str]) -> list[str]:
    """Let `weighting.terms.<term>=w` add a term: the names are the problem's own, so no config file lists them."""
    return [f"++{text}" if text.startswith("weighting.terms.") else text for text in overrides]


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of a sweep one value at a time: the first values together, then each other value in turn.

    That names every mistake of a single value without composing the whole product.
    """
    columns = []
    for override in parse(overrides):
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise UserError(f"{override.input_line}: this kind of sweep is not supported; list the values.")
            columns.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
        else:
            columns.append([str(override.input_line)])
    first = [column[0] for column in columns]
    others = ([*first[:k], value, *first[k + 1 :]] for k, column in enumerate(columns) for value in column[1:])
    return [first, *others]


@contextmanager
def isolate() -> Iterator[None]:
    """Set aside a Hydra that the calling program may have started."""
    other = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = other  # asked for anew: Hydra has put another instance in its place


def _compose(overrides: Sequence[str]) -> DictConfig:
    with isolate(), initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
        return hydra_compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)


def _explain(error: Exception, parsed: Sequence[Override]) -> UserError:
    """Say which override is wrong, and what would have been right."""
    for override in parsed:
        wrong = _wrong_choice(override)
        if wrong is not None:
            return wrong
    groups = [override for override in parsed if override.key_or_group in GROUPS]
    try:
        cfg = _compose([str(override.input_line) for override in groups])
    except Exception:  # then the mistake is in a file
        cfg = None
    for override in parsed if cfg is not None else []:
        if override not in groups and override.type in (OverrideType.CHANGE, OverrideType.DEL):
            wrong = _wrong_key(override, cfg)
            if wrong is not None:
                return wrong
    return _in_file(error)


def _wrong_choice(override: Override) -> UserError | None:
    """The mistake in an override of a whole group, if there is one."""
    group, value = override.key_or_group, override.value()
    if group == "hydra/launcher" and override.type != OverrideType.DEL:
        return _wrong_launcher(str(value))
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
    """What is wrong with a choice of `hydra/launcher`."""
    if name not in LAUNCHERS:
        return unknown_choice("hydra/launcher", name, LAUNCHERS)
    if not LAUNCHERS[name].installed:
        return UserError(f"hydra/launcher={name}: is not installed: pip install 'kanpinn[{LAUNCHERS[name].extra}]'")
    return None


def _wrong_key(override: Override, cfg: DictConfig | None) -> UserError | None:
    """The mistake in the key of an override, if it does not exist in the composed config."""
    key = override.key_or_group
    if key.startswith("hydra/"):
        return None
    if key == "hydra":
        return invalid(key, override.get_value_element_as_str(), "a key of Hydra's own, such as hydra.run.dir")
    node: Any = cfg
    parent = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            valid = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
            value = str(override.input_line).partition("=")[2] or None
            wrong = unknown_key(f"{parent}{part}", value, valid, _keys(cfg))
            return UserError(f"{wrong} {_INSTEAD[key]}") if key in _INSTEAD else wrong
        node = node._get_node(part)
        node = node._dereference_node() if node is not None and node._is_interpolation() else node
        parent += f"{part}."
    return None


_INSTEAD = {
    "schedule.steps": "v_cycle and w_cycle have pre, post and coarsest instead, custom has stages.",
    "schedule.levels": "The levels of custom follow from its stages.",
}
"""What to say of keys that some choices of a group have and others have not."""


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
        if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark is not None:
            mark = cause.problem_mark
            return UserError(f"{Path(mark.name).name}: line {mark.line + 1}: not valid YAML: {cause.problem}.")
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, name = str(cause.missing_cfg_file).rpartition("/")
            known = cause.options or (choices(group) if group in GROUPS else [])
            return unknown_choice(group or "config", name, known)
    key = getattr(error, "full_key", None)
    return UserError(f"{key}: {one_line(error)}" if key else one_line(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
