"""The user's own config files in ./conf: read one at a time, when asked for by name; a fault is told with the file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kanpinn.errors import UserError, caution, invalid, one_line, shown, unknown_key
from kanpinn.settings.discovery import GROUPS, MOST_YAML_BYTES, choices, packaged, problem_file, relative, users

MOST_YAML_NODES = 100_000
_MISREAD = re.compile(r".*:(int[-+]?0\w|(int|float).*:)")
_NAME = re.compile(r"\w[\w .+-]*")
_FOREIGN = ("config", "hydra")
"""Places in ./conf that are never read: another program's start, and settings of Hydra's other than launchers."""


def is_name(path: str) -> bool:
    """True for names with slashes between, which lead to no file outside a folder."""
    return all(map(_NAME.fullmatch, path.split("/")))


class UserFiles(ConfigSource):
    """The files of ./conf as Hydra reads them; asked before the packaged ones, so that a file of the same name wins."""

    @staticmethod
    def scheme() -> str:
        """Return the beginning of the place that Hydra knows this source by."""
        return "kanpinn"

    def available(self) -> bool:
        """Return True: where there is no folder, names are checked all the same."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return True for a folder of configs."""
        return self._served(config_path) and (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Return True for a config in this folder; raises UserError for a path."""
        if not is_name(config_path):  # every config is looked for here first
            raise UserError(f"{shown(config_path)[:80]}: choices are names, never paths.")
        return self._served(config_path) and self._file(config_path).is_file()

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a config; raises UserError if it is none of this program's."""
        file = self._file(config_path)
        config, name, group = read_yaml(file), relative(file), config_path.rpartition("/")[0]
        try:
            header = self._get_header_dict(file.read_text(encoding="utf-8")[:512])
        except ValueError as error:
            raise UserError(f"{name}: {one_line(error)}.") from error
        _check_defaults(name, config)
        if group in GROUPS and group != "experiment" and header["package"] is None:
            _check_keys(name, group, config)
        return ConfigResult(self.provider, self.full_path(), config, header)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List names in a folder."""
        names = sorted(path.name for path in (Path(self.path) / config_path).iterdir())
        files: list[str] = []
        for name in names:
            self._list_add_result(files, f"{config_path}/{name}".lstrip("/"), name, results_filter)
        return files

    def _served(self, config_path: str) -> bool:
        first, _, rest = config_path.partition("/")
        return bool(self.path) and is_name(config_path) and (first not in _FOREIGN or rest.startswith("launcher/"))

    def _file(self, config_path: str) -> Path:
        return Path(self.path) / f"{config_path}.yaml"


def read_yaml(file: Path) -> DictConfig:
    """Read a config file of bounded size, on disk and in memory; names in it are no code, numbers decimal.

    Raises:
        UserError: If it cannot be read or is no such file; names it, and the line where there is one.
    """
    name = relative(file)
    try:
        if file.stat().st_size > MOST_YAML_BYTES:
            raise UserError(f"{name}: {file.stat().st_size:,} bytes; expected a config of at most 1 MiB.")
        plain = _plain(name, file.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{name}: nested without end.") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{name}: {line}not valid YAML: {error.problem}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: not a text file in YAML.") from error
    except OSError as error:
        raise UserError(f"{name}: {error.strerror or 'cannot be read'}.") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{name}: {one_line(error)}") from error
    read: Any = OmegaConf.create(plain)
    return read


@lru_cache(maxsize=128)
def _plain(name: str, text: str) -> dict[Any, Any]:
    """The keys and values of a config's text, not to be changed: every composition reads the same few files."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    count = 0 if root is None else _expanded(root, {}, set())
    if count > MOST_YAML_NODES:
        raise UserError(f"{name}: its aliases expand to {count:.3g} values; a config has fewer.")
    for node in _nodes(root, set()):
        _check_node(name, node)
    config: Any = OmegaConf.load(io.StringIO(text))
    if not isinstance(config, DictConfig) or isinstance(root, yaml.ScalarNode):
        raise UserError(f"{name}: expected keys and values, such as 'name: kan'.")
    return _with_words(OmegaConf.to_container(config, resolve=False))


def _with_words(value: Any) -> Any:
    """Put back the key `on`, which YAML 1.1 takes for true."""
    if isinstance(value, list):
        return [_with_words(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {"on" if key is True else key: _with_words(part) for key, part in value.items()}


def _expanded(node: yaml.Node, known: dict[int, int], entered: set[int]) -> int:
    """Number of values of a YAML node once every alias is copied out."""
    if id(node) in entered:
        raise RecursionError
    if id(node) not in known:
        entered.add(id(node))
        known[id(node)] = 1 + sum(_expanded(part, known, entered) for part in _parts(node))
        entered.discard(id(node))
    return known[id(node)]


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    """The nodes right below one, keys included."""
    children: Any = node.value if isinstance(node, yaml.CollectionNode) else ()
    for child in children:
        yield from child if isinstance(child, tuple) else (child,)


def _nodes(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.Node]:
    """Every node of a YAML document, each once."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    yield node
    for part in _parts(node):
        yield from _nodes(part, seen)


def _check_node(name: str, node: yaml.Node) -> None:
    """Refuse numbers that are not what they look like, and packages named for Hydra to import."""
    if isinstance(node, yaml.MappingNode):
        if any(key.value in ("searchpath", "hydra.searchpath") for key, _ in node.value):
            # While it composes a config, Hydra imports the packages that this names.
            raise UserError(f"{name}: hydra.searchpath is not available here; configs do not name code.")
    elif isinstance(node, yaml.ScalarNode) and node.style is None and _MISREAD.match(node.tag + node.value):
        raise UserError(
            f"{name}: line {node.start_mark.line + 1}: {node.value}: YAML takes this for another number (octal, "
            "hexadecimal, binary or base 60); expected a decimal one, or text in quotes."
        )


def _check_defaults(name: str, config: DictConfig) -> None:
    """Refuse a defaults list that is none, or that names anything by a path."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    entries = plain.get("defaults") or []
    if not isinstance(entries, list):
        raise UserError(f"{name}: defaults={shown(entries)[:80]}: expected a list, as in '- override /backbone: mlp'.")
    for entry in entries:
        key, value = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else ("", entry)
        group = re.sub(r"^((optional|override) +)*/?|@.*$", "", str(key))
        values = value if group and isinstance(value, list) else [] if group and value is None else [value]
        if not group and isinstance(value, str):
            values = [re.sub(r"^/|@.*$", "", value)]
        if not all(isinstance(word, str) and is_name(word) for word in [*values, group or "config"]):
            valid = f"; valid choices: {', '.join(choices(group))}" if group in GROUPS else ""
            raise UserError(
                f"{name}: defaults: {shown(entry)[:80]}: expected names of choices, never paths, as in "
                f"'- override /backbone: mlp'{valid}."
            )


def _check_keys(name: str, group: str, config: DictConfig) -> None:
    """Refuse a choice's file that gives no name, or keys that what it names has not, as another program's would."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    chosen, based = plain.get("name"), plain.pop("defaults", None)
    if chosen is None and not based:
        raise UserError(f"{name}: has no line 'name: …'; valid choices: {', '.join(choices(group))}.")
    named = isinstance(chosen, str) and is_name(chosen) and "/" not in chosen
    if (chosen is not None and not named) or str(chosen).lower().lstrip("+-.") in ("nan", "inf"):
        raise UserError(f"{name}: {invalid('name', chosen, f'a name as text, such as {Path(name).stem}')}")
    if group == "problem" and chosen is not None and "equations" in plain and chosen != Path(name).stem:
        raise UserError(f"{name}: {invalid('name', chosen, f'{Path(name).stem}, as the file is called')}")
    stock = packaged("conf") / group / f"{chosen}.yaml"
    own = "equations" in plain or (
        group == "problem" and (problem_file(str(chosen)) or stock).parent != packaged("problems")
    )
    if own or not is_name(str(chosen)) or not stock.is_file():
        return
    known = [str(key) for key in _plain(stock.name, stock.read_text(encoding="utf-8")) if key != "defaults"]
    for key, value in plain.items():
        if key not in known:
            raise UserError(f"{name}: {unknown_key(f'{group}.{key}', value, known)}")


def circle(name: str) -> str:
    """The way on which own files include one another without end, from a config's name on; "" if there is none."""
    folder = users("conf")

    def walk(path: str, way: tuple[str, ...]) -> tuple[str, ...]:
        if path in way:
            return (*way[way.index(path) :], path)
        file = None if folder is None or not is_name(path) else folder / f"{path}.yaml"
        plain: Any = OmegaConf.to_container(read_yaml(file), resolve=False) if file and file.is_file() else {}
        for entry in plain.get("defaults") or []:
            key, value = next(iter(entry.items())) if isinstance(entry, dict) else ("", entry)
            if isinstance(value, str) and not str(key).startswith("override "):
                place = "/".join(filter(None, [str(key).rpartition(" ")[2].partition("@")[0], value.partition("@")[0]]))
                place = place[1:] if place.startswith("/") else f"{path.rpartition('/')[0]}/{place}".lstrip("/")
                if found := walk(place, (*way, path)):
                    return found
        return ()

    return " → ".join(walk(name, ()))


@cache
def note_ignored(folder: Path) -> None:
    """Warn of a ./conf/config.yaml made for this program, which is not read; another program's is left alone."""
    file = folder / "config.yaml"
    try:
        defaults: Any = OmegaConf.to_container(read_yaml(file), resolve=False)
        keys = {key for entry in defaults.get("defaults") or [] if isinstance(entry, dict) for key in entry}
    except (UserError, TypeError):
        return
    if {"backbone", "problem", "schedule"} <= keys and file.read_bytes() != (packaged("conf") / file.name).read_bytes():
        caution(f"{relative(file)}: is not read; put your own settings into conf/experiment/NAME.yaml")
