"""Problems as text: a domain, equations and conditions of a YAML file, made into a `Problem`; nothing in it is run."""

from __future__ import annotations

import ast
import keyword
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass, replace
from typing import Any

from torch import Tensor

from kanpinn import geometry
from kanpinn.errors import KanpinnWarning, UserError, invalid, nearest, unknown_choice, unknown_key
from kanpinn.geometry import Box, Coordinates, Points, Region
from kanpinn.pde.condition import Condition
from kanpinn.pde.formulas import Formula, formula, is_equation, number
from kanpinn.pde.grammar import TAKEN, Names
from kanpinn.pde.integral import Integral
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem

WORDS = (
    *("domain", "unknowns", "depends", "equations", "conditions"),
    *("reference", "periodic", "positive", "equation", "labels", "kind"),
)
"""Keys of a problem as text that are not coefficients."""

CONDITION = ("on", "equation", "periodic", "where")
INTEGRAL = ("integral", "equals", "over", "at")

REGIONS = ("Ball", "Box", "Disk", "Ellipse", "Mesh", "Polygon")
_REGION_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Sub: operator.sub,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.Mult: operator.mul,
}


def text_problem(name: str, given: Mapping[str, Any]) -> Problem:
    """Make a problem of text.

    Args:
        name: Its name.
        given: By key: the domain, as text or intervals by coordinate; `unknowns`; `equations` by name; `conditions` by
            name, each with `on` and `equation`, or `periodic`; perhaps `reference` and `depends` by unknown,
            `periodic` and `labels`; every other key is a coefficient, a number.

    Raises:
        UserError: If a part is missing, unknown, or does not parse; the place in the text is named.
    """
    numbers = _numbers(given)
    unknowns = tuple(map(str, _list(given.get("unknowns", ["u"]))))
    domain = _domain(given["domain"], numbers)
    depends = _depends(given.get("depends") or {}, unknowns, domain)
    names = Names(domain.names, unknowns, tuple(numbers), depends=depends)
    _check_meanings(names)
    reference = _reference(given.get("reference") or {}, names)
    names = replace(names, solution={key: one.expression for key, one in reference.items()})
    equations = _formulas(given["equations"], names, "problem.equations")
    build, derivatives = _conditions(given.get("conditions") or {}, names, domain, equations)
    wrapped = [one["periodic"] for one in (given.get("conditions") or {}).values() if "periodic" in one]
    periodic = tuple(dict.fromkeys(map(str, [*_list(given.get("periodic", [])), *wrapped])))

    def values(problem: Problem) -> dict[str, float]:
        return {key: getattr(problem, key) for key in numbers}

    def residual(self: Problem, p: Point) -> Any:
        return _unnamed({key: one(p, values(self)) for key, one in equations.items()})

    def conditions(self: Problem) -> list[Condition | Integral]:
        return build(values(self))

    def known(self: Problem, p: Coordinates) -> dict[str, Tensor] | None:
        return {key: one(p, values(self)) for key, one in reference.items()} or None

    def post_init(self: Problem) -> None:
        Problem.__post_init__(self)
        self.adapt(domain=_domain(given["domain"], values(self)))

    body = {
        "__doc__": f"{name}: a problem as text.",
        "__module__": __name__,
        "__post_init__": post_init,
        "text": dict(given),
        "domain": domain,
        "unknowns": unknowns,
        "depends": names.depends,
        "derivatives": tuple(sorted(derivatives)),
        "periodic": periodic,
        "positive": tuple(map(str, _list(given.get("positive", [])))),
        "equation": str(given.get("equation") or "; ".join(map(str, _texts(given["equations"]).values()))),
        "kind": str(given.get("kind", "")),
        "labels": {key: tuple(map(str, _list(value))) for key, value in (given.get("labels") or {}).items()},
        "residual": residual,
        "conditions": conditions,
        "reference": known,
    }
    typed = [(key, float, field(default=value)) for key, value in numbers.items()]
    return make_dataclass(name, typed, bases=(Problem,), namespace=body, frozen=True)()


def _numbers(given: Mapping[str, Any]) -> dict[str, float]:
    """Return the coefficients; raises UserError for what is none, and where domain or equations are missing."""
    numbers = {key: value for key, value in given.items() if key not in WORDS}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            if nearest(key, WORDS):
                raise unknown_key(f"problem.{key}", value, WORDS)
            raise invalid(
                f"problem.{key}", value, f"a number, as of every coefficient; other keys are {', '.join(WORDS)}"
            )
    for key in ("domain", "equations"):
        if not given.get(key):
            raise UserError(f"problem.{key}: missing; a problem as text needs domain and equations")
    return numbers


def _depends(given: Any, unknowns: tuple[str, ...], domain: Region) -> dict[str, tuple[str, ...]]:
    """Read the coordinates of unknowns that do not depend on all; raises UserError."""
    if not isinstance(given, Mapping):
        raise invalid("problem.depends", given, "coordinates by unknown, such as {a: [x, y]}")
    for name, own in given.items():
        if name not in unknowns:
            raise unknown_key(f"problem.depends.{name}", own, unknowns)
        for one in _list(own):
            if one not in domain.names:
                raise unknown_choice(f"problem.depends.{name}", one, domain.names)
    return {str(name): tuple(map(str, _list(own))) for name, own in given.items()}


def _check_meanings(names: Names) -> None:
    """Refuse a name that is none, or stands for two things; raises UserError."""
    seen: set[str] = set()
    kinds = {"coordinate": names.coordinates, "unknown": names.unknowns, "coefficient": names.coefficients}
    for kind, several in kinds.items():
        for one in several:
            head, _, tail = one.partition("_")
            if not re.fullmatch(r"[^\W\d]\w*", one) or keyword.iskeyword(one):
                advice = f"; {one}_ would do" if keyword.iskeyword(one) and kind == "coefficient" else ""
                raise invalid(f"problem: {kind}", one, f"letters and digits, a letter first, no word of Python{advice}")
            if one in TAKEN and (one, kind) != ("d", "coefficient"):
                raise invalid(
                    f"problem: {kind}", one, "another name, as formulas have a function or number of this one"
                )
            if one in seen:
                raise UserError(f"problem: the name {one} has two meanings")
            if (
                kind == "coefficient"
                and tail
                and (head in names.unknowns or (head, tail in names.coordinates) == ("n", True))
            ):
                raise UserError(f"problem: the name {one} has two meanings: a coefficient, and a derivative or normal")
            if kind == "coefficient" and hasattr(Problem, one):
                raise invalid(f"problem: {kind}", one, "another name, as every problem has something of this one")
            seen.add(one)


def _reference(given: Mapping[str, Any], names: Names) -> dict[str, Formula]:
    """Read the formulas of the solution, by unknown; raises UserError for other names."""
    for one in given:
        if one not in names.unknowns:
            raise unknown_key(f"problem.reference.{one}", given[one], names.unknowns)
    return _formulas(given, Names(names.coordinates, (), names.coefficients), "problem.reference")


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _texts(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {"": given}


def _unnamed(found: dict[str, Tensor]) -> Any:
    """Return the only value, where it has no name."""
    return found[""] if list(found) == [""] else found


def _formulas(given: Any, names: Names, where: str) -> dict[str, Formula]:
    """Read formulas by name; a single text has the name "" and so does not count as one of several."""
    found = {}
    for key, text in _texts(given).items():
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            raise invalid(f"{where}.{key}".rstrip("."), text, "a formula as text")
        key_of = f"{where}.{key}".rstrip(".")
        found[str(key)] = formula(str(text), names, key_of)
        if names.unknowns and not is_equation(str(text)):
            warnings.warn(f"{key_of}={text}: has no '='; it is taken for {text} = 0", KanpinnWarning, stacklevel=2)
    return found


def _conditions(
    given: Any, names: Names, domain: Region, equations: Mapping[str, Formula]
) -> tuple[Callable[[Mapping[str, float]], list[Condition | Integral]], set[str]]:
    """Return what makes the conditions of coefficients, and the derivatives that they and the equations use."""
    if not isinstance(given, Mapping):
        raise invalid("problem.conditions", given, "conditions by name, each with on and equation")
    derivatives = {one for part in equations.values() for one in part.derivatives}
    makers: list[Callable[[Mapping[str, float]], Condition | Integral]] = []
    for name, one in given.items():
        where = f"problem.conditions.{name}"
        if not isinstance(one, Mapping):
            raise invalid(where, one, "on and equation, as in {on: boundary, equation: 'u = 0'}")
        keys = INTEGRAL if "integral" in one else (*CONDITION, INTEGRAL[0])
        for key, value in one.items():
            if key not in keys:
                raise unknown_key(f"{where}.{key}", value, keys)
        if "integral" in one:
            makers.append(_integral(str(name), one, names, derivatives))
            continue
        if "periodic" in one:
            makers.append(_periodic(str(name), str(one["periodic"]), names, derivatives))
            continue
        for key in ("on", "equation"):
            if key not in one:
                raise UserError(f"{where}.{key}: missing; a condition needs on and equation, or periodic")
        parts = _formulas(one["equation"], names, f"{where}.equation")
        derivatives |= {found for part in parts.values() for found in part.derivatives}
        makers.append(_maker(str(name), _support(one["on"], domain, where), parts, _part(one, names, where)))
    return lambda coefficients: [make(coefficients) for make in makers], derivatives


def _integral(
    name: str, given: Mapping[str, Any], names: Names, derivatives: set[str]
) -> Callable[[Mapping[str, float]], Integral]:
    """Return what makes an integral condition, of `integral`, `equals`, `over` and `at`."""
    where = f"problem.conditions.{name}"
    integrand = formula(str(given["integral"]), names, f"{where}.integral")
    known = Names(names.coordinates, (), names.coefficients)
    equals = formula(str(given.get("equals", 0)), known, f"{where}.equals")
    over = tuple(map(str, _list(given["over"]))) if "over" in given else None
    at = [number(one, {}, f"{where}.at") for one in _list(given["at"])] if "at" in given else None
    derivatives |= integrand.derivatives

    def make(coefficients: Mapping[str, float]) -> Integral:
        return Integral(name, lambda p: integrand(p, coefficients), lambda p: equals(p, coefficients), over, at)

    return make


def _maker(
    name: str, on: Any, parts: Mapping[str, Formula], where: Formula | None
) -> Callable[[Mapping[str, float]], Condition]:
    def make(coefficients: Mapping[str, float]) -> Condition:
        def residual(p: Point) -> Any:
            return _unnamed({key: part(p, coefficients) for key, part in parts.items()})

        def part(p: Coordinates) -> Tensor:
            assert where is not None
            return where(p, coefficients) > 0

        return Condition(name, on, residual, where=part if where else None)

    return make


def _part(given: Mapping[str, Any], names: Names, where: str) -> Formula | None:
    """Read the part of its support that a condition holds on, a comparison, as 1 there and 0 elsewhere."""
    if "where" not in given:
        return None
    return formula(f"where({given['where']}, 1, 0)", Names(names.coordinates, (), names.coefficients), f"{where}.where")


def _support(on: Any, domain: Region, where: str) -> Any:
    """Return pieces by name, or points from a mapping of coordinates to numbers."""
    if isinstance(on, Mapping):
        for key in on:
            if key not in domain.names:
                raise unknown_choice(f"{where}.on", key, domain.names)
        return Points(**{key: on[key] for key in domain.names if key in on})
    return tuple(map(str, _list(on)))


def _periodic(
    name: str, coordinate: str, names: Names, derivatives: set[str]
) -> Callable[[Mapping[str, float]], Condition]:
    """Return what makes a condition of periodicity: of each unknown, and of its derivatives below the highest one."""
    if coordinate not in names.coordinates:
        raise unknown_choice(f"problem.conditions.{name}.periodic", coordinate, names.coordinates)
    highest = max((one.split("_").count(coordinate) for one in derivatives), default=1)
    compared = ["_".join([unknown] + [coordinate] * k) for unknown in names.unknowns for k in range(max(highest, 1))]

    def residual(p: Point, q: Point) -> dict[str, Tensor]:
        return {one: getattr(p, one) - getattr(q, one) for one in compared}

    return lambda _: Condition(name, f"{coordinate}-", residual, periodic=coordinate)


def _domain(given: Any, coefficients: Mapping[str, Any]) -> Region:
    """Make a region of intervals by coordinate, or of text such as "Disk(radius=R) - Box(x=[0, 1], y=[0, 1])"."""
    if isinstance(given, Mapping):
        ends = {}
        for key, interval in given.items():
            if len(_list(interval)) != 2:
                raise invalid(f"problem.domain.{key}", interval, "two numbers, such as [0, 1]")
            ends[str(key)] = tuple(number(end, coefficients, f"problem.domain.{key}") for end in interval)
        return Box(**ends)
    try:
        tree = ast.parse(str(given).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = getattr(error, "offset", 1) or 1
        raise UserError(f"problem.domain={given!r}: letter {at}: is no region here, such as Disk(radius=1)") from None
    return _region(tree, str(given).strip(), coefficients)


def _region(node: ast.AST, text: str, coefficients: Mapping[str, Any]) -> Region:
    """Make the region that a part of the tree stands for."""
    if isinstance(node, ast.BinOp) and type(node.op) in _REGION_OPERATORS:
        sides = (_region(side, text, coefficients) for side in (node.left, node.right))
        return _REGION_OPERATORS[type(node.op)](*sides)
    source = ast.get_source_segment(text, node) or ""
    where = f"problem.domain={text!r}: letter {getattr(node, 'col_offset', 0) + 1}"
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise UserError(f"{where}: {source[:40]}: is no region; write them as Disk(radius=1), joined by -, &, |, *")
    if node.func.id not in REGIONS:
        raise UserError(f"{where}: {unknown_choice('region', node.func.id, REGIONS)}")
    plain = [_plain(one, text, coefficients) for one in node.args]
    named = {str(one.arg): _plain(one.value, text, coefficients) for one in node.keywords}
    try:
        return getattr(geometry, node.func.id)(*plain, **named)
    except TypeError as error:
        advice = "; write them by name, such as x=[0, 1]" if "positional" in str(error) else ""
        raise UserError(f"{where}: {source[:40]}: {str(error).partition('__init__() ')[2] or error}{advice}") from None


def _plain(node: ast.AST, text: str, coefficients: Mapping[str, Any]) -> Any:
    """Return the text, list or number that a part of the tree stands for."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(one, text, coefficients) for one in node.elts]
    value = number(ast.get_source_segment(text, node) or "", coefficients, "problem.domain")
    return int(value) if math.isfinite(value) and value == int(value) and abs(value) < 2**53 else value
