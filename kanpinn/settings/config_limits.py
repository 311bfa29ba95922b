"""Limits of every config: it names no code, reads no environment, grows within bounds, writes below its folder."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf, open_dict, read_write

from kanpinn.errors import UserError, invalid
from kanpinn.settings.discovery import users
from kanpinn.settings.launchers import TARGETS

RESOLVERS = ("tuned", "now", "hydra", "python_version")
"""Resolvers a config may call. oc.env is not among them: config.yaml and solution.h5 hold the resolved config and are
passed on, and an environment holds passwords."""
_FORM = re.compile(rf"\$\{{\s*(?:({'|'.join(RESOLVERS)}):\s*([^${{}},\\]*?)\s*(?=[,}}])|(\.*)([\w.\[\]-]+)\s*\}})")
"""Interpolations a config may use: a resolver with its first argument, or a key with the dots before it."""

MOST_LETTERS = 1_000_000
"""The longest text, all interpolations replaced."""
LONGEST_INTERPOLATION = 2_000
DEEPEST = 50


def check_overrides(keys: Collection[str]) -> None:
    """Refuse keys that must not even be composed; raises UserError."""
    for key in keys:
        if key.split(".")[:2] == ["hydra", "searchpath"] or key == "hydra":
            # While it composes a config, Hydra imports the packages that the search path names.
            raise UserError(f"{key}: not available here; it could name code. Give single keys, such as hydra.run.dir.")


def check_interpolations(cfg: Container) -> None:
    """Refuse interpolations of other forms than those known, in circles, or that grow without bound; resolves none."""
    root = _tree(OmegaConf.to_container(cfg, resolve=False))
    root.get("hydra", {}).pop("overrides", None)  # the command line word by word, which nothing replaces anything in
    if _Sizes(root).of((), 0) > MOST_LETTERS:
        raise UserError(f"the config is longer than {MOST_LETTERS:,} letters.")


def _tree(value: Any) -> Any:
    """Nested dicts and lists as nested dicts with texts as keys."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {str(name): _tree(item) for name, item in items}
    return value


class _Sizes:
    """Lengths of the nodes of a config as text once every interpolation is replaced, found without doing so."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.known: dict[tuple[str, ...], int] = {}
        self.entered: dict[tuple[str, ...], None] = {}

    def of(self, path: tuple[str, ...], depth: int) -> int:
        """The length of the node at a path."""
        if path in self.known:
            return self.known[path]
        key = ".".join(path) or "config"
        if path in self.entered:
            way = list(self.entered)[list(self.entered).index(path) :]
            keys = [".".join(place) or "config" for place in (*way, path)]
            told = " → ".join(keys if len(keys) < 8 else [*keys[:5], "…", keys[-1]])
            raise UserError(f"{key}: its interpolations run in a circle: {told}.")
        if depth > DEEPEST:
            raise UserError(f"{key}: its interpolations are more than {DEEPEST} deep.")
        self.entered[path] = None
        value = functools.reduce(lambda node, part: node[part], path, self.root)
        if isinstance(value, dict):
            total = sum(len(name) + self.of((*path, name), depth + 1) for name in value)
        else:
            total = len(value) if isinstance(value, str) else 8
            if isinstance(value, str) and "${" in value:
                total += sum(self.of(target, depth + 1) for target in self._targets(path, key, value))
        if total > MOST_LETTERS:
            raise UserError(f"{key}: its interpolations grow to {total:.3g} letters; a config is shorter.")
        del self.entered[path]
        self.known[path] = total
        return total

    def _targets(self, path: tuple[str, ...], key: str, text: str) -> Iterator[tuple[str, ...]]:
        """Paths that the interpolations in a text refer to."""
        if "\\${" in text or len(text) > LONGEST_INTERPOLATION:
            raise UserError(f"{key}={text[:60]}: interpolations are not escaped here, nor longer than a line.")
        for start in re.finditer(r"\$\{", text):
            form = _FORM.match(text, start.start())
            if form is None:
                valid = ", ".join(f"${{{name}:…}}" for name in RESOLVERS)
                raise UserError(f"{key}={text[:60]}: not an interpolation a config may use; valid: ${{key}}, {valid}.")
            resolver, argument, dots, name = form.groups()
            if name is not None:
                base = path[: -len(dots)] if dots else ()
                yield from self._at((*base, *filter(None, re.split(r"[.\[\]]+", name))))
            elif resolver == "hydra":
                yield from self._at(("hydra", *argument.split(".")))
            elif resolver == "tuned":
                backbone = self.root.get("backbone")
                chosen = str(backbone.get("name", "")) if isinstance(backbone, dict) else ""
                if "${" in chosen:
                    yield from self._at(("problem", "tuned"))
                for place in ((chosen,), ()):
                    yield from self._at(("problem", "tuned", *place, *argument.strip("'\"").split(".")))

    def _at(self, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The path if there is a node, or that of an interpolation on the way to it."""
        node: Any = self.root
        for k, part in enumerate(path):
            if not isinstance(node, dict):
                if isinstance(node, str) and "${" in node:
                    yield path[:k]
                return
            if part not in node:
                return
            node = node[part]
        yield path


def check_resolved(values: Any, key: str = "config") -> None:
    """Refuse a text that has become an interpolation by being put together: read again, it would be replaced."""
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

    Keys given on the command line are by the user's own hand. Raises UserError, naming the key.
    """
    hydra: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
    for key, value in _leaves(hydra, "hydra"):
        if key.rpartition(".")[2] == "_target_" and value not in TARGETS:
            raise UserError(f"{key}={str(value)[:80]}: configs do not name code; valid choices: {', '.join(TARGETS)}.")
    for key in ("callbacks", "searchpath", "job.env_copy", "job.env_set"):
        if OmegaConf.select(cfg, f"hydra.{key}"):
            raise UserError(f"hydra.{key}: not available here; it would name code, or read and set the environment.")
    for key in ("job_logging", "hydra_logging"):
        if hydra.get(key) != {"root": None, "disable_existing_loggers": False, "version": 1} and hydra.get(key):
            raise UserError(f"hydra.{key}: not available here; a run writes its own log.txt.")
    if not isinstance(hydra.get("verbose"), bool):
        raise invalid("hydra.verbose", hydra.get("verbose"), "true or false")
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
    """True for a key that was given on the command line, or stands in a mapping that was."""
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
