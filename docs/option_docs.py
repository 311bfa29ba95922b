"""Options in the Python pages: the default, the range and the help that `option(…)` declares.

A griffe extension, named in mkdocs.yml. Without it a signature would show the call itself.
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterable
from typing import Any

import griffe

RANGES = {
    "at_least": "at least {}",
    "above": "above {}",
    "at_most": "at most {}",
    "below": "below {}",
    "one_of": "one of {}",
}


CHOICES = tuple(
    f"kanpinn.{room}."
    for room in ("backbones", "multilevel.schedules", "optimizers", "samplers", "least_squares.weighting", "options")
)
"""Modules of the classes that a user chooses from."""


class OptionDocs(griffe.Extension):
    """Documentation of fields declared by `option(default, help, …)`."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Leave out the methods of classes of options: a user sets options, the solver calls methods."""
        if cls.canonical_path.startswith(CHOICES):
            for name, member in list(cls.members.items()):
                if member.is_function or "property" in member.labels:
                    del cls.members[name]

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Replace the call by its default, and document the field by its help and range."""
        call = getattr(node, "value", None)
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "option"):
            return
        named = {word.arg: word.value for word in call.keywords}
        default = call.args[0] if call.args else named.get("default", named.get("factory"))
        text = call.args[1] if len(call.args) > 1 else named.get("help")
        words = [ast.literal_eval(text)] if isinstance(text, ast.Constant) else []
        words += [form.format(_shown(named[name], attr)) for name, form in RANGES.items() if name in named]
        if words:
            line = "; ".join(words)
            attr.docstring = griffe.Docstring(f"{line[0].upper()}{line[1:]}.", parent=attr)
        attr.value = "" if default is None else ast.unparse(default) + ("()" if "factory" in named else "")


def _shown(value: ast.expr, attr: griffe.Attribute) -> str:
    """A bound or a list of choices as text, a constant by its value."""
    text = ast.unparse(value)
    if isinstance(value, ast.Name | ast.Attribute):
        module = importlib.import_module(attr.module.path)
        found = functools.reduce(getattr, text.split("."), module)
        text = ", ".join(map(str, found)) if isinstance(found, Iterable) else str(found)
    return text.strip("()").replace("'", "")
