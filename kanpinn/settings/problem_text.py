"""Text of a problem: recorded with a run, and compared with the text found later."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kanpinn.settings.discovery import USER_MODULE
from kanpinn.settings.helper_modules import helper_files, imports

if TYPE_CHECKING:
    from kanpinn.pde import Problem

PACKAGED = "kanpinn.problems."
STORED = "kanpinn_problem_text"
"""Name in a module made of a stored text under which it keeps that text."""
_FOREIGN = {"site-packages", "dist-packages"}
_Statements = Sequence[ast.stmt]


@dataclass(frozen=True)
class ProblemText:
    """Source text that defines a problem's class.

    Attributes:
        name: The class's name.
        packaged: True for a problem that comes with kanpinn.
        text: The text that defines it.
        beside: The texts of modules beside it that it imports, by name.
    """

    name: str
    packaged: bool
    text: str
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of all of it."""
        parts = [self.name, self.packaged, self.text, sorted(self.beside.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """The text as plain values, with its hash."""
        known = {"class": self.name, "packaged": self.packaged, "sha256": self.sha256}
        return {**known, "text": self.text, "beside": dict(self.beside)}


def text_in(record: Any) -> ProblemText | None:
    """Return the text that `ProblemText.record` gave, None for None; raises ValueError for anything else."""
    if record is None:
        return None
    try:
        text = ProblemText(record["class"], record["packaged"], record["text"], dict(record["beside"]))
        right = all(isinstance(part, str) for part in (text.name, text.text, *text.beside, *text.beside.values()))
        right = right and text.sha256 == record["sha256"]
    except (LookupError, TypeError, ValueError):
        right = False
    if not right:
        raise ValueError("its problem's text is not the one that its hash stands for")
    return text


def text_of(cls: type[Problem]) -> ProblemText | None:
    """Read the text of a problem's class, and of the modules beside it that it imports.

    A problem file is taken whole; of a script, a module or a notebook the statements that the class needs.

    Args:
        cls: The class, defined at the top of a file or of a notebook's cell.

    Returns:
        The text; None where there is none, as of a class defined in a function or typed at a prompt.
    """
    module = sys.modules.get(cls.__module__)
    if module is None or hasattr(module, STORED):
        return getattr(module, STORED, None)
    file = getattr(module, "__file__", None)
    is_packaged, is_own = cls.__module__.startswith(PACKAGED), cls.__module__.startswith(USER_MODULE)
    try:
        # A notebook's cells as far as they were run are in `_ih`, by IPython.
        texts = [Path(file).read_text(encoding="utf-8")] if file else list(getattr(module, "_ih", ()))
    except (OSError, ValueError):
        return None
    statements = [statement for text in texts for statement in _parsed(text)]
    if is_packaged or is_own:
        text = texts[0]
    else:
        statements = _needed(statements, cls.__qualname__, module.__package__ or "")
        text = "\n".join(map(ast.unparse, statements))
    if not text:
        return None
    if is_own and file:
        found = {name: path.read_text(encoding="utf-8") for name, path in helper_files(Path(file)).items()}
    else:
        found = _beside(statements, Path(file).parent if file else Path.cwd(), is_packaged)
    return ProblemText(cls.__qualname__, is_packaged, text, found)


def difference(then: ProblemText, now: ProblemText) -> str | None:
    """Put the first difference between two texts in words; None if only comments, docstrings or layout differ."""
    for module, text in {"": then.text, **then.beside}.items():
        old, new = _lines(text), _lines({"": now.text, **now.beside}.get(module, text))
        for kind, i, k, j, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind != "equal":
                before, after = (lines[0][:100] if lines else "nothing" for lines in (old[i:k], new[j:m]))
                return f"{f'in {module}, ' if module else ''}“{before}” then, “{after}” now"
    return None


def _parsed(text: str) -> _Statements:
    """The statements of a text; none if it is not valid Python."""
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return []


def _lines(text: str) -> list[str]:
    """The lines of a text without comments, docstrings and layout; those of a text that is no Python as they are."""
    statements = _parsed(text)
    for node in [part for statement in statements for part in ast.walk(statement)]:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    kept = [line for statement in statements if not _is_text(statement) for line in ast.unparse(statement).splitlines()]
    return [line.strip() for line in kept or text.splitlines()]


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _needed(statements: _Statements, name: str, package: str) -> _Statements:
    """The statements that define a name and, in turn, the names these need; none if nothing defines it."""
    bound = [set(_bound(statement)) for statement in statements]
    needed: set[int] = set()
    wanted, seen = [name], set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        found = [k for k, names in enumerate(bound) if name in names]
        imports = [k for k in found if isinstance(statements[k], ast.Import)]  # of submodules of one package
        for k in {*found[-1:], *imports}:
            needed.add(k)
            wanted += [node.id for node in ast.walk(statements[k]) if isinstance(node, ast.Name)]
    if not needed:
        return []
    needed |= {k for k, names in enumerate(bound) if names & {"*", "annotations"}}
    kept = [statements[k] for k in sorted(needed)]
    for node in kept:
        if isinstance(node, ast.ImportFrom) and node.level:
            node.module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            node.level = 0
    return kept


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement gives a value in its own scope."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, ast.Lambda):
        for part in ast.iter_child_nodes(node):
            yield from _bound(part)


def _beside(statements: _Statements, root: Path, of_kanpinn: bool) -> dict[str, str]:
    """The texts of imported modules that lie below a folder, by name, and of those that they import."""
    found: dict[str, str] = {}
    waiting = list(statements)
    while waiting:
        for name in imports(waiting.pop(), ""):
            file = Path(getattr(sys.modules.get(name), "__file__", None) or "/")
            ours = file.suffix == ".py" and file.is_relative_to(root) and not _FOREIGN & set(file.parts)
            if not ours or name in found or (name.partition(".")[0] == "kanpinn" and not of_kanpinn):
                continue
            try:
                found[name] = file.read_text(encoding="utf-8")
            except (OSError, ValueError):
                continue
            waiting += _parsed(found[name])
    return dict(sorted(found.items()))
