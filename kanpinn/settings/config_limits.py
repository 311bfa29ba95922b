"""What no config may do, whoever wrote it: name code, read the environment, grow without bound, write just anywhere."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import Container, DictConfig, Node, OmegaConf, open_dict, read_write
from omegaconf.errors import GrammarParseError
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

from kanpinn.errors import UserError
from kanpinn.settings.discovery import users

RESOLVERS = ("tuned", "now", "hydra", "python_version")
"""Resolvers a config may call. oc.env is not among them: config.yaml and solution.h5 hold the resolved config and are
passed on, and an environment holds passwords."""

TARGETS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
)
"""The classes that Hydra may be asked to make."""

MOST_LETTERS = 1_000_000
"""The longest text, all interpolations replaced."""
LONGEST_INTERPOLATION = 2_000
DEEPEST = 50
MOST_YAML_BYTES, MOST_YAML_NODES = 2**20, 100_000


def check_files(folder: Path) -> None:
    """Refuse YAML files that are small on disk and huge in memory, or that name packages for Hydra to import.

    Args:
        folder: The user's own `conf`.

    Raises:
        UserError: Naming the file.
    """
    for file in sorted(folder.rglob("*.yaml")):
        if not file.is_file():
            continue
        if file.stat().st_size > MOST_YAML_BYTES:
            raise UserError(f"{file.name}: {file.stat().st_size:,} bytes; expected a config of at most 1 MiB.")
        try:
            root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
            count = 0 if root is None else _expanded(root, {}, set())
            names = [name for part in _mappings(root, set()) for name, _ in part.value]
        except RecursionError:
            raise UserError(f"{file.name}: nested without end.") from None
        except (yaml.YAMLError, UnicodeDecodeError, OSError):
            continue  # Hydra tells the line, if the file is used at all
        if count > MOST_YAML_NODES:
            raise UserError(f"{file.name}: its aliases expand to {count:.3g} values; a config has fewer.")
        if any(name.value in ("searchpath", "hydra.searchpath") for name in names):
            # While it composes a config, Hydra imports the packages that this names.
            raise UserError(f"{file.name}: hydra.searchpath is not available here; configs do not name code.")


def _expanded(node: yaml.Node, known: dict[int, int], entered: set[int]) -> int:
    """How many values a YAML node has once every alias is copied out."""
    if id(node) in entered:
        raise RecursionError
    if id(node) not in known:
        entered.add(id(node))
        children: Any = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_expanded(part, known, entered) for part in parts)
        entered.discard(id(node))
    return known[id(node)]


def _mappings(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.MappingNode]:
    """Every mapping in a YAML document, each once."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
    children: Any = node.value if isinstance(node, yaml.CollectionNode) else ()
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _mappings(part, seen)


def check_overrides(keys: Collection[str]) -> None:
    """Refuse what must not even be composed; raises UserError.

    Args:
        keys: Keys given on the command line.
    """
    for key in keys:
        if key.split(".")[:2] == ["hydra", "searchpath"] or key == "hydra":
            # While it composes a config, Hydra imports the packages that the search path names.
            raise UserError(f"{key}: not available here; it could name code. Give single keys, such as hydra.run.dir.")


def check_interpolations(cfg: Container) -> None:
    """Refuse interpolations that call an unknown resolver, run in circles or grow without bound; resolves none of them.

    Args:
        cfg: The composed config.

    Raises:
        UserError: Naming the key.
    """
    sizes = _Sizes(cfg)
    parts = dict(cfg._value()) if isinstance(cfg._value(), dict) else {"": cfg}  # type: ignore[arg-type]
    hydra = parts.pop("hydra", None)
    parts |= {f"hydra.{name}": node for name, node in hydra._value().items()} if hydra is not None else {}
    parts.pop("hydra.overrides", None)  # the command line word by word, which nothing replaces anything in
    if sum(sizes.of(node, 0) for node in parts.values()) > MOST_LETTERS:
        raise UserError(f"the config is longer than {MOST_LETTERS:,} letters.")


class _Sizes:
    """How long the nodes of a config are as text once every interpolation is replaced, found without doing so."""

    def __init__(self, root: Container) -> None:
        self.root = root
        self.known: dict[int, int] = {}
        self.entered: set[int] = set()

    def of(self, node: Node | None, depth: int) -> int:
        if node is None:
            return 0
        if id(node) in self.known:
            return self.known[id(node)]
        if id(node) in self.entered or depth > DEEPEST:
            raise UserError(f"{_key(node)}: its interpolations run in a circle, or more than {DEEPEST} deep.")
        self.entered.add(id(node))
        value = node._value()
        if isinstance(value, str):
            total = len(value) + (self._interpolated(node, value, depth) if "${" in value else 0)
        elif isinstance(value, dict):
            total = sum(len(str(name)) + self.of(child, depth + 1) for name, child in value.items())
        elif isinstance(value, list):
            total = sum(1 + self.of(child, depth + 1) for child in value)
        else:
            total = 8
        if total > MOST_LETTERS:
            raise UserError(f"{_key(node)}: its interpolations grow to {total:.3g} letters; a config is shorter.")
        self.entered.discard(id(node))
        self.known[id(node)] = total
        return total

    def _interpolated(self, node: Node, text: str, depth: int) -> int:
        """The size of everything that the interpolations in a text stand for."""
        if "\\${" in text or len(text) > LONGEST_INTERPOLATION:
            raise UserError(f"{_key(node)}={text[:60]}: interpolations are not escaped here, nor longer than a line.")
        try:
            tree = parse(text)
        except GrammarParseError as error:
            raise UserError(f"{_key(node)}={text[:60]}: not a valid interpolation: {error}") from error
        return sum(
            self.of(target, depth + 1) for path, start in self._targets(node, tree) for target in self._on(path, start)
        )

    def _targets(self, node: Node, tree: Any) -> Iterator[tuple[str, Container | None]]:
        """Every key that interpolations in a text refer to, with the container it counts from."""
        if isinstance(tree, OmegaConfGrammarParser.InterpolationNodeContext):
            path = tree.getText()[2:-1]
            if "${" in path:
                raise UserError(f"{_key(node)}=${{{path}}}: a key cannot be put together by another interpolation.")
            start: Container | None = self.root
            if path.startswith("."):
                ups = len(path) - len(path.lstrip("."))
                start = node._get_parent()  # type: ignore[assignment]
                for _ in range(ups - 1):
                    start = None if start is None else start._get_parent()  # type: ignore[assignment]
            yield path.lstrip("."), start
        elif isinstance(tree, OmegaConfGrammarParser.InterpolationResolverContext):
            name, _, rest = tree.getText()[2:-1].partition(":")
            if name not in RESOLVERS:
                raise UserError(
                    f"{_key(node)}: {name} is not a resolver a config may use; valid: {', '.join(RESOLVERS)}."
                )
            first = rest.partition(",")[0]
            if "${" in first:
                raise UserError(f"{_key(node)}: the first argument of {name} cannot be another interpolation.")
            if name == "tuned":
                chosen = next((name._value() for name in self._on("backbone.name", self.root)), "")
                places = [first, f"{chosen}.{first}"] if isinstance(chosen, str) and "${" not in chosen else [""]
                yield from ((f"problem.tuned.{path}", self.root) for path in places)
            elif name == "hydra":
                yield f"hydra.{first}", self.root
        for child in getattr(tree, "getChildren", tuple)():  # a leaf has none
            yield from self._targets(node, child)

    def _on(self, path: str, start: Node | None) -> Iterator[Node]:
        """The node at a key, or the interpolation on the way to it."""
        node = start
        for part in [word for word in re.split(r"[.\[\]]", path) if word]:
            value = node._value() if isinstance(node, Container) else None
            if isinstance(value, dict):
                node = value.get(part)
            elif isinstance(value, list) and part.isdigit():
                node = value[int(part)] if int(part) < len(value) else None
            else:
                break
        if node is not None:
            yield node


def _key(node: Node) -> str:
    return str(node._get_full_key(None)) or "config"


def check_resolved(values: Any, key: str = "config") -> None:
    """Refuse a text that has become an interpolation by being put together: read again, it would be replaced.

    Args:
        values: Resolved plain values.
        key: Where they stand.

    Raises:
        UserError: Naming the key.
    """
    if isinstance(values, str) and "${" in values:
        raise UserError(f"{key}={values[:60]}: an interpolation that another one put together is not replaced.")
    if isinstance(values, dict):
        for name, value in values.items():
            check_resolved(value, f"{key}.{name}" if key != "config" else str(name))
    elif isinstance(values, list):
        for value in values:
            check_resolved(value, key)


def check_hydra(cfg: DictConfig, own: Collection[str]) -> None:
    """Check Hydra's part of a config, which names classes that Hydra makes, folders, and commands of batch systems.

    Args:
        cfg: The composed config.
        own: Keys given on the command line, by the user's own hand.

    Raises:
        UserError: Naming the key.
    """
    hydra = OmegaConf.to_container(cfg._get_node("hydra"), resolve=False)  # type: ignore[arg-type]
    assert isinstance(hydra, dict)
    for key, value in _leaves(hydra, "hydra"):
        if key.rpartition(".")[2] == "_target_" and value not in TARGETS:
            raise UserError(f"{key}={str(value)[:80]}: configs do not name code; valid choices: {', '.join(TARGETS)}.")
    for key in ("callbacks", "searchpath", "job.env_copy", "job.env_set"):
        if OmegaConf.select(cfg, f"hydra.{key}"):
            raise UserError(f"hydra.{key}: not available here; it would name code, or read and set the environment.")
    for key in ("job_logging", "hydra_logging"):
        if hydra.get(key) != {"root": None, "disable_existing_loggers": False, "version": 1} and hydra.get(key):
            raise UserError(f"hydra.{key}: not available here; a run writes its own log.txt.")
    params = (hydra.get("sweeper") or {}).get("params") or {}
    for key in params:
        if str(key).lstrip("+~").startswith("hydra"):
            raise UserError(f"hydra.sweeper.params.{key}: Hydra's own keys cannot be swept over.")
    for key, value in _leaves(hydra.get("launcher") or {}, "hydra.launcher"):
        # A batch system's options hold shell commands (setup, python, …): only the user's own hand gives them.
        if (
            isinstance(value, str)
            and value not in _stock(str(hydra["launcher"].get("_target_")))
            and not _given(key, own)
        ):
            raise UserError(f"{key}={value[:80]}: text for a launcher is taken from the command line only.")
    if users("conf") is None:
        return
    numbered = copy.deepcopy(cfg)
    with read_write(numbered), open_dict(numbered):
        numbered.hydra.job.num, numbered.hydra.job.id = 0, "0"  # a sweep's folders may be named by its jobs
    for key in ("run.dir", "sweep.dir", "sweep.subdir"):
        if not _given(f"hydra.{key}", own):
            _check_place(f"hydra.{key}", str(OmegaConf.select(numbered, f"hydra.{key}", default="")))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every plain value of nested dicts and lists by its dotted key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    else:
        yield key, value


def _given(key: str, own: Collection[str]) -> bool:
    """Whether a key, or a mapping it stands in, was given on the command line."""
    return any(key == given or key.startswith(f"{given}.") for given in own)


def _stock(target: str) -> set[str]:
    """Every text in Hydra's own options of the launcher of a class."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    stock: set[str] = set()
    for name in store.list("hydra/launcher"):
        node = OmegaConf.to_container(store.load(f"hydra/launcher/{name}").node, resolve=False)
        if isinstance(node, dict) and node.get("_target_") == target:
            stock |= {value for _, value in _leaves(node, "") if isinstance(value, str)}
    return stock | {target}


def _check_place(key: str, folder: str) -> None:
    """Refuse a folder that a config file, not the command line, puts outside the current one."""
    path = (Path.cwd() / folder).resolve()
    if not path.is_relative_to(Path.cwd().resolve()):
        raise UserError(
            f"{key}={folder}: a config file cannot write outside the current folder; give it on the command line."
        )
