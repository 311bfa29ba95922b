"""Search for configs and problems: the packaged ones, and the user's own beside the current folder."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import traceback
from collections.abc import Mapping
from dataclasses import is_dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kanpinn.errors import UserError, unknown_choice
from kanpinn.settings.helper_modules import PACKAGE, Beside, helper_files

if TYPE_CHECKING:
    from kanpinn.pde import Problem

GROUPS = ("problem", "backbone", "sampler", "schedule", "optimizer", "weighting", "logger", "experiment")
"""The config groups, each a folder of `conf/`."""

MOST_YAML_BYTES = 2**20
"""The longest config file."""

USER_MODULE = "kanpinn_user_problem_"
"""Beginning of the module name of a user's own problem file."""


def packaged(name: str) -> Path:
    """The installed folder `conf` or `problems`."""
    return Path(str(resources.files(f"kanpinn.{name}")))


def users(name: str) -> Path | None:
    """The user's own folder `conf` or `problems` beside the current folder, or None.

    In a checkout of kanpinn itself these are the packaged ones, which are then not the user's.
    """
    try:
        folder = Path.cwd() / name
    except FileNotFoundError:
        raise UserError("the current folder has been removed; expected one that exists") from None
    if not folder.is_dir() or folder.samefile(packaged(name)):
        return None
    return folder


def choices(group: str) -> dict[str, Path]:
    """Return the YAML file of each choice of a config group; the user's own wins over a packaged one.

    Those in folders within the group's are called by both names: `fluids/cavity`.
    """
    found: dict[str, Path] = {}
    for folder in (packaged("conf"), users("conf")):
        if folder is not None:
            files = [file for file in (folder / group).rglob("*.yaml") if file.is_file()]
            found |= {file.relative_to(folder / group).with_suffix("").as_posix(): file for file in files}
    return dict(sorted(found.items()))


def problem_file(name: str) -> Path | None:
    """The Python file of a problem, the user's own first; None where there is none."""
    for folder in (users("problems"), packaged("problems")):
        if folder is not None and name.isidentifier() and (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    return None


def problem_names() -> list[str]:
    """The names that have a Python file, packaged or the user's own."""
    folders = [folder for folder in (packaged("problems"), users("problems")) if folder is not None]
    names = {file.stem for folder in folders for file in folder.glob("*.py")}
    return sorted(name for name in names if name.isidentifier() and not name.startswith("_"))


def _statements(file: Path) -> list[ast.stmt]:
    """The top-level statements of a Python file, without running it; none if it is not valid Python."""
    try:
        return ast.parse(file.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError, OSError):
        return []


def class_docstrings(file: Path) -> dict[str, str]:
    """First docstring lines of the classes at the top of a Python file by class name, "" for one without."""
    classes = [node for node in _statements(file) if isinstance(node, ast.ClassDef)]
    return {node.name: (ast.get_docstring(node) or "").partition("\n")[0] for node in classes}


def class_text(file: Path, variable: str) -> str:
    """Return the text that a class at the top of a Python file gives a variable (`kind = "elliptic"`), "" without."""
    for node in (inner for c in _statements(file) if isinstance(c, ast.ClassDef) for inner in c.body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == variable for one in targets):
            value = getattr(node, "value", None)
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
    return ""


def table_of_names(file: Path, variable: str) -> dict[str, str]:
    """The class names in a dict such as `SAMPLERS = {"sobol": Sobol}` at the top of a Python file, {} without one."""
    for node in _statements(file):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(value, ast.Dict) and any(isinstance(t, ast.Name) and t.id == variable for t in targets):
            pairs = zip(value.keys, value.values, strict=True)
            return {str(k.value): v.id for k, v in pairs if isinstance(k, ast.Constant) and isinstance(v, ast.Name)}
    return {}


def load_problem_class(name: str) -> type[Problem]:
    """Find the one `Problem` subclass in the file of a name in `./problems`, else in the packaged ones.

    Raises:
        UserError: If there is no such file, it does not run, or it does not hold exactly one complete problem.
    """
    file = problem_file(name)
    if file is None:
        own = users("problems")
        if own is not None and name == Path(name).name and (own / f"{name}.py").is_file():
            raise UserError(
                f"problem.name={name}: problems/{name}.py: expected a file name of letters, digits and underscores."
            )
        raise unknown_choice("problem.name", name, problem_names())
    return class_in(file)


def class_in(file: Path) -> type[Problem]:
    """The one problem class in a file; raises UserError as `load_problem_class` does."""
    own = file.parent != packaged("problems")
    module = _run(file) if own else importlib.import_module(f"kanpinn.problems.{file.stem}")
    return _only_problem(module, relative(file))


def relative(file: Path) -> str:
    """A path as seen from the current folder."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def _run(file: Path) -> ModuleType:
    """Run a user's Python file as a module of its own name, so that dataclasses find their annotations."""
    name = f"{USER_MODULE}{file.stem}"
    module = ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module
    try:
        helpers = helper_files(file)
        texts = {one: path.read_text(encoding="utf-8") for one, path in helpers.items()}
        found = Beside(texts, {one: str(path) for one, path in helpers.items()})
        vars(module).update({"__builtins__": found.builtins, "__package__": PACKAGE})
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit included
        del sys.modules[name]
        raise UserError(f"{relative(file)}: {where(error, file)}{type(error).__name__}: {_message(error)}") from error
    return module


def _message(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.split())


def where(error: BaseException, file: Path) -> str:
    """The line of `file` at which an error arose, as "line 7: ", or "" if it did not pass through that file."""
    if isinstance(error, SyntaxError) and error.lineno:
        other = "" if error.filename in (None, str(file)) else f"{Path(error.filename).name}: "
        return f"{other}line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"line {lines[-1]}: " if lines else ""


def _only_problem(module: ModuleType, file: str) -> type[Problem]:
    """The one problem class a module defines, checked to be complete."""
    from kanpinn.pde import Problem

    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Problem) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise UserError(f"{file}: expected exactly one class derived from kanpinn.Problem, found {names}.")
    cls = found[0]
    if "__dataclass_params__" not in vars(cls) or not is_dataclass(cls):
        raise UserError(f"{file}: class {cls.__name__} needs @dataclass(frozen=True) above it.")
    missing = sorted(cls.__abstractmethods__) + [name for name in ("domain", "derivatives") if not hasattr(cls, name)]
    if missing:
        raise UserError(f"{file}: class {cls.__name__} lacks {', '.join(missing)}.")
    return cls


def conditions_key(problem: Mapping[str, Any]) -> str:
    """Return the key of a problem's group that says how conditions are met; in a text `conditions` are themselves."""
    return "form" if "equations" in problem else "conditions"
