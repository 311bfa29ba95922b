"""`kanpinn list [group [choice]]`: what can be chosen, one line each without loading torch; options of a choice."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import kanpinn
from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE, printable, unknown_choice
from kanpinn.settings.discovery import (
    MOST_YAML_BYTES,
    choices,
    class_docstrings,
    class_text,
    problem_file,
    table_of_names,
    users,
)

TITLES = {
    "problems": "problem",
    "backbones": "backbone",
    "samplers": "sampler",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "weightings": "weighting",
    "loggers": "logger",
    "experiments": "experiment",
}
"""Config groups by the plural name of the command line."""

KINDS = ("elliptic", "parabolic", "waves", "flow", "systems", "ODEs", "inverse", "laws", "on regions", "regression")
"""Kinds of problems in the order they are listed; others follow, and those of no kind come last."""

REGIONS = ("Box", "Disk", "Ellipse", "Polygon", "Ball", "Mesh", "Points")


def run(argv: Sequence[str]) -> int:
    """Print the choices of one group or of all, or the options of one choice; raises UserError for an unknown one."""
    parser = Parser(prog="kanpinn list", description="List what can be chosen; of one choice, list the options.")
    parser.add_argument("group", nargs="?", help=", ".join([*TITLES, "geometries"]))
    parser.add_argument("choice", nargs="?", help="a choice of the group: its options, with ranges and defaults")
    arguments = parser.parse_args(argv)
    asked = arguments.group
    if asked == "geometries" and arguments.choice is None:
        print("\n".join(regions()))
        return EXIT_DONE
    if asked is not None and asked not in TITLES:
        raise unknown_choice("group", asked, [*TITLES, "geometries"])
    if asked is not None and arguments.choice is not None:
        known = choices(TITLES[asked])
        if arguments.choice not in known:
            raise unknown_choice(TITLES[asked], arguments.choice, known)
        from kanpinn.cli.option_help import choice

        told = _description(TITLES[asked], arguments.choice, known[arguments.choice])
        print(choice(TITLES[asked], arguments.choice, told))
        return EXIT_DONE
    for title in [asked] if asked else [title for title in TITLES if choices(TITLES[title])]:
        if asked is None:
            print(f"{title} ({TITLES[title]}=…)")
        for line in described(TITLES[title]):
            print(line if asked else f"  {line}")
    if asked is None:
        print("geometries (of a problem's domain)", *(f"  {line}" for line in regions()), sep="\n")
        print("options of a choice: kanpinn list GROUP CHOICE, as in kanpinn list optimizers adam")
    return EXIT_DONE


def regions() -> list[str]:
    """One line per kind of region: its name and what it is; and what is made of two."""
    found: dict[str, str] = {}
    for source in (Path(str(kanpinn.__file__)).parent / "geometry").glob("*.py"):
        found |= class_docstrings(source)
    made = "a - b, a & b, a | b: difference, intersection, union; region * Box(t=(0, 1)): with time"
    return [*(f"{name:<10}{found[name]}" for name in REGIONS), made]


def described(group: str) -> list[str]:
    """One line per choice of a config group: its name and what it is, the user's own marked; problems by kind."""
    own = users("conf")
    files = choices(group)
    width = max(map(len, files), default=0) + 2
    lines: dict[str, list[str]] = {}
    for name, file in files.items():
        mine = own is not None and file.is_relative_to(own)
        kind = (_kind(name, file) or ("yours" if mine else "others")) if group == "problem" else ""
        told = " (yours)" if mine and kind != "yours" else ""
        line = f"{name:<{width}}{_description(group, name, file)}{told}".rstrip()
        lines.setdefault(kind, []).append(f"  {line}" if kind else line)
    order = [*KINDS, *sorted(set(lines) - {*KINDS, "yours", "others", ""}), "others", "yours", ""]
    return [line for kind in order if kind in lines for line in ([f"{kind}:"] if kind else []) + lines[kind]]


def _kind(name: str, file: Path) -> str:
    """Return a problem's kind, as its text or its class says, "" without."""
    if _text(file):
        return _value(file, "kind") or ""
    source = problem_file(_named(file) or name)
    return class_text(source, "kind") if source else "regression" if name == "table" else ""


def _description(group: str, name: str, file: Path) -> str:
    """The comment the YAML file begins with, or else the first docstring line of the class."""
    lines = _lines(file)
    if lines is None:
        return "(cannot be read)"
    # Hydra reads a header such as "# @package _global_" on the first lines only.
    first = next((line for line in lines if not line.startswith("# @")), "")
    if first.startswith("# "):
        return first[2:].strip()
    if group == "problem":
        source = problem_file(_named(file) or name)
        if _text(file):
            return "Equations as text."
        return next(iter(class_docstrings(source).values()), "") if source else "(no Python file found)"
    return _component_docstrings(group).get(_named(file) or name, "")


def _lines(file: Path) -> list[str] | None:
    """The lines a file begins with; None if it is no text."""
    try:
        with file.open(encoding="utf-8") as stream:
            return printable(stream.read(MOST_YAML_BYTES)).splitlines()
    except (OSError, UnicodeDecodeError):
        return None


def _text(file: Path) -> bool:
    """Tell if a YAML file is a problem as text."""
    return any(line.startswith("equations:") for line in _lines(file) or [])


def _named(file: Path) -> str | None:
    """The value of the line `name: …` of a YAML file."""
    return _value(file, "name")


def _value(file: Path, key: str) -> str | None:
    """Return the value of the line `key: …` of a YAML file; None without one."""
    for line in _lines(file) or []:
        if line.startswith(f"{key}:"):
            return line.removeprefix(f"{key}:").partition("#")[0].strip().strip("'\"")
    return None


@cache
def _component_docstrings(group: str) -> dict[str, str]:
    """First docstring lines of the classes of a group by the name it is chosen by.

    Read from the source, where a dict of the group's name (`SAMPLERS`) gives names to classes: importing the components
    would load torch, which takes longer. Only files whose text names what is looked for are parsed.
    """
    texts = _sources()
    table, classes, docstrings = f"{group.upper()}S", dict[str, str](), dict[str, str]()
    for source, text in texts.items():
        classes |= table_of_names(source, table) if f"{table}:" in text or f"{table} =" in text else {}
    heads = tuple(f"class {name}" for name in classes.values())
    for source, text in texts.items():
        docstrings |= class_docstrings(source) if any(head in text for head in heads) else {}
    return {name: docstrings.get(cls, "") for name, cls in classes.items()}


@cache
def _sources() -> dict[Path, str]:
    """The text of every Python file of the package."""
    return {file: file.read_text(encoding="utf-8") for file in Path(str(kanpinn.__file__)).parent.rglob("*.py")}
