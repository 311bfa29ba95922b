"""Keys of a config with values, ranges and help, for `kanpinn solve --help` and `kanpinn list`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from kanpinn.errors import invalid, shown
from kanpinn.options import Option, expected, explained, type_hints

WIDTH = 80
_USAGE = """\
usage: kanpinn solve [-m] [-c job|hydra|all] [--resolve] [key=value ...]

Solve one PDE problem and write one run folder. Keys that are not given have the
values below; the help of other choices: kanpinn solve --help problem=burgers.

  -m, --multirun   run every combination of comma-separated values: seed=0,1,2
  -c, --cfg PART   print the config (job), Hydra's part of it (hydra) or both
  --resolve        with --cfg: every interpolation replaced
"""
_FOLDER = (
    ("hydra.run.dir", "a folder that is new or empty", "the run folder"),
    ("hydra.sweep.dir", "a folder", "the folder of a sweep (-m)"),
)


def explain(overrides: Sequence[str]) -> str:
    """Describe every key of a config in lines of at most `WIDTH` columns: usage, choices, keys.

    Raises:
        UserError: If an override is wrong.
    """
    from omegaconf import OmegaConf

    from kanpinn.settings.compose import compose
    from kanpinn.settings.configuration import Settings
    from kanpinn.settings.discovery import GROUPS, choices
    from kanpinn.sweep.launch import SweepOptions

    cfg, folder = compose(overrides, keep_sweep=True)
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    values["hydra"] = {"run": {"dir": str(folder)}, "sweep": {"dir": "outputs/sweeps/…"}}
    lines = [_USAGE, "Choices (group=choice; kanpinn list describes them):"]
    for group in GROUPS:
        name = _name(group, values)
        lines += _wrapped(f"{group}={name}", f"one of {', '.join(choices(group))}")
    lines += ["", "Keys of the run (key=value):"]
    for key, words, text in (*explained(Settings, ""), *explained(SweepOptions, "sweep"), *_FOLDER):
        lines += _line(key, words, text, values)
    for group in GROUPS:
        if group in values:
            lines += ["", f"Keys of {group}={values[group]['name']}:"]
            for key, words, text in _keys(group, _class(group, values[group]["name"], values[group])):
                lines += _line(key, words, text, values)
    return "\n".join(lines)


def _name(group: str, values: Mapping[str, Any]) -> str:
    """The name of a group's choice, "null" for a group without; raises UserError for anything else than a name."""
    from kanpinn.settings.discovery import choices

    chosen = values.get(group)
    name = chosen.get("name") if isinstance(chosen, Mapping) else chosen
    if chosen is not None and not isinstance(name, str):
        raise invalid(f"{group}.name", name, f"one of {', '.join(choices(group))}")
    return name or "null"


def choice(group: str, name: str, described: str) -> str:
    """Describe the options of one choice and their defaults in lines of at most `WIDTH` columns.

    Args:
        group: The config group.
        name: The choice.
        described: One line on it, for an experiment and a problem as text.

    Raises:
        UserError: If there is no such choice.
    """
    from omegaconf import OmegaConf

    from kanpinn.settings.compose import compose, quoted

    cfg, _ = compose([f"{group}={quoted(name)}"])
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    if group == "experiment":
        return "\n".join(_wrapped(f"experiment={name}", f"{described} It chooses the other groups."))
    chosen = values[group]["name"]
    cls = _class(group, chosen, values[group])
    told = (
        [described, cls.equation]
        if "equations" in values[group]
        else [(inspect.getdoc(cls) or "").partition("\n\n")[0]]
    )
    lines = [line for one in told for line in [*textwrap.wrap(one, WIDTH), ""]]
    for key, words, text in _keys(group, cls):
        lines += _line(key, words, text, values)
    return "\n".join(lines).rstrip()


def _class(group: str, name: str, values: Mapping[str, Any]) -> type[Any]:
    from kanpinn.settings.config import problem_as_text
    from kanpinn.settings.discovery import load_problem_class
    from kanpinn.settings.registry import options
    from kanpinn.settings.tables import TableOptions, is_table

    if group == "problem" and is_table(values):
        return TableOptions
    if "equations" in values:
        return type(problem_as_text(values))
    return load_problem_class(name) if group == "problem" else options(group, name)


def _keys(group: str, cls: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Full key, range and help of every option of a choice; a problem's coefficients by its docstring."""
    yield from explained(cls, group)
    if group == "problem" and hasattr(cls, "positive"):
        hints, described = type_hints(cls), _attributes(cls)
        for field in fields(cls):
            above = 0 if field.name in cls.positive else None
            yield f"problem.{field.name}", expected(hints[field.name], Option("", above=above)), described[field.name]
        yield (
            f"problem.{'form' if isinstance(getattr(cls, 'text', None), Mapping) else 'conditions'}",
            "one of soft, exact, auto",
            "soft: loss terms; exact: built into the network; auto: built in on boxes without time",
        )


def _attributes(cls: type[Any]) -> Mapping[str, str]:
    """The text of each entry under "Attributes:" of a class's docstring."""
    found = {field.name: "" for field in fields(cls)}
    listed = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    for entry in re.finditer(r"^    (\w+): (.*(?:\n        .*)*)", listed, re.M):
        found[entry[1]] = " ".join(entry[2].split())
    return found


def _line(key: str, words: str, text: str, values: Mapping[str, Any]) -> list[str]:
    """A key with its value, and below it what it does and what it may be."""
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return _wrapped(f"{key}={shown(value)}", "; ".join(part for part in (text.rstrip("."), words) if part))


def _wrapped(head: str, text: str) -> list[str]:
    return [
        *textwrap.wrap(head, WIDTH, initial_indent="  ", subsequent_indent="    "),
        *textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]
