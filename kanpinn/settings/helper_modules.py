"""Modules beside a user's problem file: found by what it imports, and seen by it and one another only."""

from __future__ import annotations

import ast
import builtins
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

LOCK = threading.RLock()
PACKAGE = "problems"
"""Package that a user's problem file belongs to: `from .helpers import f` is `from problems.helpers import f`."""


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the full names of all modules that a text might import, and of the packages they are in."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            try:
                whole = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue
            names = [whole, *(f"{whole}.{alias.name}" for alias in node.names)]
        for full in names:
            words = full.split(".")
            yield from (".".join(words[: k + 1]) for k in range(len(words)))


def helper_files(file: Path) -> dict[str, Path]:
    """Find the files beside a problem's, in its folder or the one above, that it imports, and those that they import.

    Names of the standard library and of kanpinn are never theirs.

    Returns:
        Files by the full names under which they are imported, sorted.
    """
    found: dict[str, Path] = {}
    waiting = [(file, PACKAGE)]
    while waiting:
        here, package = waiting.pop()
        try:
            tree = ast.parse(here.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        for name in imports(tree, package):
            first = name.partition(".")[0]
            if name in found or first in sys.stdlib_module_names or first == "kanpinn":
                continue
            path = _file(name, file.parent)
            if path is not None and path != file:
                found[name] = path
                waiting.append((path, name if path.stem == "__init__" else name.rpartition(".")[0]))
    return dict(sorted(found.items()))


def _file(name: str, folder: Path) -> Path | None:
    """The file of a module in a folder or the one above."""
    for root in (folder, folder.parent):
        place = root.joinpath(*name.split("."))
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


class Beside(MetaPathFinder, Loader):
    """Finder of the modules beside a problem: their texts see one another and nobody else sees them.

    Attributes:
        builtins: The built-in names for these texts.
    """

    def __init__(self, texts: Mapping[str, str], places: Mapping[str, str]) -> None:
        """Take texts by module name, and what each module's file is called in messages."""
        self._texts, self._places = texts, places
        parts = [name.split(".") for name in texts]
        self._names = {".".join(words[: k + 1]) for words in parts for k in range(len(words))}
        self._loaded: dict[str, ModuleType] = {}
        self._active = False
        self.builtins = {**vars(builtins), "__import__": self._import} if texts else vars(builtins)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        """Find one of the modules; the rest of Python's import system finds others."""
        if fullname not in self._names:
            return None
        return spec_from_loader(fullname, self, is_package=any(n.startswith(f"{fullname}.") for n in self._names))

    def exec_module(self, module: ModuleType) -> None:
        """Run the text of one of them."""
        vars(module)["__builtins__"] = self.builtins
        name = module.__name__
        module.__file__ = self._places.get(name, name)
        exec(compile(self._texts.get(name, ""), module.__file__, "exec"), vars(module))

    def _import(self, *known: Any, **named: Any) -> Any:
        with LOCK:
            if self._active:
                return builtins.__import__(*known, **named)
            others = {name: sys.modules.pop(name) for name in self._names if name in sys.modules}
            sys.modules.update(self._loaded)
            sys.meta_path.insert(0, self)
            self._active = True
            try:
                return builtins.__import__(*known, **named)
            finally:
                self._active = False
                sys.meta_path.remove(self)
                self._loaded = {name: sys.modules.pop(name) for name in self._names if name in sys.modules}
                sys.modules.update(others)
