"""Class of a run's problem: the one found here if its text is still the same, else the one that the run has stored."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from kanpinn.errors import UserError, caution
from kanpinn.pde import Problem
from kanpinn.settings.discovery import class_in, packaged, users, where
from kanpinn.settings.helper_modules import LOCK, PACKAGE, Beside
from kanpinn.settings.problem_text import STORED, ProblemText, difference, text_of
from kanpinn.settings.registry import OBJECT


def class_of(run: str, problem: Mapping[str, Any], then: ProblemText, stored: bool | None) -> type[Problem]:
    """Find the class that a run was solved with.

    Args:
        run: The run, for messages.
        problem: The problem group of its config.
        then: The text recorded with the run.
        stored: True to take the stored text whatever is found here, False never to run it, None where nothing is found.

    Returns:
        The class found here; the stored one, with a warning, where there is none.

    Raises:
        UserError: If the text found here is another one, or the stored one is needed and does not or shall not run.
    """
    found = None if stored else _found(problem, then)
    if found is not None:
        check_same(run, then, found)
        return found
    missing = f"{run}: there is no file of problem={problem['name']} here"
    if stored is False:
        raise UserError(f"{missing}, and the text stored in the run is not to be run")
    if stored is None:
        caution(f"{missing}; the text stored in the run is used")
    return _run_text(run, then)


def _found(problem: Mapping[str, Any], then: ProblemText) -> type[Problem] | None:
    """The class that a problem file or, for an object, a module imported here defines under a name; None without."""
    if problem.get(OBJECT) is not None:
        place, _, name = str(problem[OBJECT]).rpartition(".")
        cls = getattr(sys.modules.get(place), name, None)
        if inspect.isclass(cls) and issubclass(cls, Problem) and text_of(cls) is not None:
            return cls
        return None
    folder, name = packaged("problems") if then.packaged else users("problems"), str(problem["name"])
    if folder is None or not name.isidentifier() or not (folder / f"{name}.py").is_file():
        return None
    return class_in(folder / f"{name}.py")


def check_same(run: str, then: ProblemText, cls: type[Problem]) -> None:
    """Refuse a class whose text is not the one a run was solved with; raises UserError with the first difference."""
    now = text_of(cls)
    changed = None if now is None else difference(then, now)
    if changed is not None:
        raise UserError(
            f"{run}: its problem's text has changed since: {changed}; put that back, solve anew, or take the text "
            "stored in the run: --stored (in Python stored=True)"
        )


def _run_text(run: str, text: ProblemText) -> type[Problem]:
    """Make the class of a stored text; the same one for the same text."""
    name = f"kanpinn_stored_problem_{text.sha256}"
    with LOCK:
        module = sys.modules.get(name)
        if module is None:
            module = ModuleType(name)
            file = Path(f"{run} ({text.name})")
            module.__file__ = str(file)
            found = Beside(text.beside, {one: f"{run} ({one})" for one in text.beside})
            vars(module).update({STORED: text, "__builtins__": found.builtins, "__package__": PACKAGE})
            sys.modules[name] = module  # dataclasses look for annotations there
            try:
                exec(compile(text.text, str(file), "exec"), vars(module))
            except Exception as error:
                del sys.modules[name]
                line = where(error, file)
                told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                raise UserError(f"{run}: the problem's text stored in it does not run here: {line}{told}") from error
    found = getattr(module, text.name, None)
    if not (inspect.isclass(found) and issubclass(found, Problem)) or found.__abstractmethods__:
        raise UserError(f"{run}: the problem's text stored in it defines no problem {text.name}")
    return found
