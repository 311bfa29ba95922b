"""Names and texts of a problem that a run's files hold: told apart, of letters and lengths that every file takes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from kanpinn.errors import UserError
from kanpinn.io.schema import SOLUTION
from kanpinn.least_squares.points import INTERIOR
from kanpinn.pde import Condition, Point, Problem

LONGEST = 64
"""Letters of the longest name; files are called by it, with words around it, in up to 255 bytes."""


def check_names(who: str, problem: Problem, conditions: Sequence[Condition]) -> None:
    """Refuse names and texts that a solution file cannot hold, or not beside its own; raises UserError."""
    for unknown in problem.unknowns:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", unknown):
            raise UserError(f"{who}: unknown {unknown!r} must be letters and digits")
    for condition in conditions:
        if not isinstance(condition.name, str) or not re.fullmatch(r"\w+", condition.name):
            raise UserError(f"{who}: condition name {condition.name!r} must be letters, digits and underscores")
    names = {
        "coordinate": problem.domain.names,
        "unknown": problem.unknowns,
        "condition": (INTERIOR, *(condition.name for condition in conditions)),
    }
    for kind, called in names.items():
        for name in called:
            if len(name) > LONGEST:
                raise UserError(
                    f"{who}: {kind} {name[:20]}…: a name of {len(name)} letters; expected at most {LONGEST}"
                )
            if kind != "condition" and hasattr(Point, name):
                raise UserError(f"{who}: {kind} {name}: p.{name} has a meaning already; choose another name")
    alike = [pair for pair in itertools.combinations(problem.unknowns, 2) if pair[0].lower() == pair[1].lower()]
    if alike:  # also one name twice
        raise UserError(
            f"{who}: unknowns {' and '.join(alike[0])} differ in capitals at most; figures are called by them"
        )
    _check_places(who, names)
    _check_texts(who, problem)


def check_equations(who: str, equations: Sequence[object]) -> None:
    """Refuse names of equations that a solution file cannot hold; raises UserError."""
    for name in equations:
        fits = isinstance(name, str) and name.isprintable() and "/" not in name and name.strip(". ")
        if not (fits and len(str(name)) <= LONGEST and name == str(name).strip()):
            raise UserError(
                f"{who}: equation {str(name)[:LONGEST]!r}: expected a name of up to {LONGEST} letters, without slashes"
            )


def _check_places(who: str, names: Mapping[str, Sequence[str]]) -> None:
    """Refuse two names that the schema of a solution file gives the same place."""
    places: dict[str, str] = {}
    for item in SOLUTION:
        kinds = re.findall(r"<(.*?)>", item.path)
        if not set(kinds) <= set(names):
            continue
        for values in itertools.product(*(names[kind] for kind in kinds)):
            path = item.path
            for kind, value in zip(kinds, values, strict=True):
                path = path.replace(f"<{kind}>", value)
            if path in places:
                called = " ".join([*kinds[-1:], f"'{values[-1]}'"]) if kinds else places[path]
                raise UserError(f"{who}: {called}: the name {path[1:]} is taken in solution.h5; choose another one")
            places[path] = " ".join([*kinds[-1:], f"'{values[-1]}'"]) if kinds else "the file's own"


def _check_texts(who: str, problem: Problem) -> None:
    """Refuse an equation or labels that are no text of letters, or labels of what is not there."""
    known, labels = (*problem.domain.names, *problem.unknowns), problem.labels
    texts = {"equation": problem.equation}
    if not isinstance(labels, Mapping):
        raise UserError(f'{who}: labels must be a mapping such as {{"x": ("position", "m")}}, not {labels!r}')
    for name, label in labels.items():
        if name not in known or not isinstance(label, tuple | list) or len(label) != 2:
            expected = f'a pair such as ("position", "m") for one of {", ".join(known)}'
            raise UserError(f"{who}: labels: {name!r}: {label!r}: expected {expected}")
        texts |= {f"long name of {name}": label[0], f"unit of {name}": label[1]}
    for kind, text in texts.items():
        if not isinstance(text, str) or not "".join(text.split()).isprintable():
            raise UserError(f"{who}: {kind}: {text!r}: expected a text without control characters")
