"""Problems as text: a domain, equations and conditions of a YAML file, made into a `Problem`; nothing in it is run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, make_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kanpinn.errors import UserError, caution, invalid, nearest, unknown_choice, unknown_key
from kanpinn.geometry import Box, Coordinates, Interface, Points, Region
from kanpinn.pde.condition import Condition
from kanpinn.pde.formula_values import value as valued
from kanpinn.pde.formulas import Formula, formula, number, sides_of
from kanpinn.pde.grammar import Names, check_meanings
from kanpinn.pde.integral import Integral
from kanpinn.pde.point import Point
from kanpinn.pde.problem import Problem
from kanpinn.pde.text_jumps import warn_of_jumps
from kanpinn.pde.text_regions import check_overlap, region_in

WORDS = (
    *("domain", "unknowns", "depends", "equations", "conditions", "inputs"),
    *("reference", "periodic", "positive", "equation", "labels", "kind", "regions"),
)
"""Keys of a problem as text that are not coefficients."""

READ = ("domain", "equations", "conditions", "inputs", "reference", "regions")
"""Keys of which the texts may name coefficients."""

CONDITION = ("on", "equation", "continuous", "periodic", "where")
INTEGRAL = ("integral", "equals", "over", "at")


def text_problem(name: str, given: Mapping[str, Any]) -> Problem:
    """Make a problem of text.

    Args:
        name: Its name.
        given: By key: the domain, as text or intervals by coordinate; `unknowns`; `equations` by name; `conditions` by
            name, each with `on` and `equation` or `continuous`, or `periodic`; perhaps `reference` and `depends` by
            unknown, `inputs` of the network beside the coordinates, `periodic`, `regions` by name and `labels`; every
            other key is a coefficient, a number.

    Raises:
        UserError: If a part is missing, unknown, or does not parse; the place in the text is named.
    """
    numbers = _numbers(given)
    unknowns = tuple(map(str, _list(given.get("unknowns", ["u"]))))
    domain = region_in(given["domain"], numbers)
    inner = _inner(given.get("regions") or {})
    depends = _depends(given.get("depends") or {}, unknowns, domain)
    names = Names(domain.names, unknowns, tuple(numbers), depends=depends, regions=tuple(inner))
    check_meanings(names)
    reference = _reference(given.get("reference") or {}, names)
    names = replace(names, solution={key: one.expression for key, one in reference.items()})
    equations = _formulas(given["equations"], names, "problem.equations")
    inputs = [formula(str(f), replace(names, unknowns=()), "problem.inputs") for f in _list(given.get("inputs") or [])]
    build, derivatives = _conditions(given.get("conditions") or {}, names, domain, equations)
    if not any("continuous" in one for one in (given.get("conditions") or {}).values()):
        warn_of_jumps(_texts(given["equations"]), names, "problem.equations")

    def values(problem: Problem) -> dict[str, Any]:
        found = {key: getattr(problem, key) for key in numbers}
        return found | {key: region_in(one, found, f"problem.regions.{key}") for key, one in inner.items()}

    def residual(self: Problem, p: Point) -> Any:
        return _unnamed({key: one(p, values(self)) for key, one in equations.items()})

    def known(self: Problem, p: Coordinates) -> dict[str, Tensor] | None:
        return {key: one(p, values(self)) for key, one in reference.items()} or None

    def post_init(self: Problem) -> None:
        Problem.__post_init__(self)
        self.adapt(domain=region_in(given["domain"], values(self)))
        check_overlap({key: values(self)[key] for key in inner}, self.domain)

    body = {
        "__doc__": f"{name}: a problem as text.",
        "__module__": __name__,
        "__post_init__": post_init,
        "domain": domain,
        "unknowns": unknowns,
        "depends": names.depends,
        "derivatives": tuple(sorted(derivatives)),
        "residual": residual,
        "conditions": lambda self: build(values(self)),
        "reference": known,
        **({"inputs": lambda self, p: [one(p, values(self)) for one in inputs]} if inputs else {}),
        **_declared(given),
        **_split(unknowns, [one for one in inner if _is_split(given.get("conditions") or {}, one)], values),
    }
    typed = [(key, float, field(default=value)) for key, value in numbers.items()]
    problem = make_dataclass(name, typed, bases=(Problem,), namespace=body, frozen=True)()
    _warn_of_unused(given, numbers)
    return problem


def _warn_of_unused(given: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
    """Warn of coefficients that no text names."""
    said = {word for key in READ for word in re.findall(r"\w+", str(given.get(key)))}
    for key in sorted(numbers.keys() - said):
        text = "neither equations nor conditions nor domain name it; it has no effect"
        caution(f"problem.{key}={numbers[key]:g}: {text}")


def _declared(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a problem that stand in its text."""
    labels = given.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise invalid(
            "problem.labels", labels, "a name and a unit by coordinate or unknown, such as {x: [position, m]}"
        )
    for one in _list(given.get("positive", [])):
        if one in WORDS or one not in given:
            raise unknown_choice("problem.positive", one, [key for key in given if key not in WORDS])
    wrapped = [one["periodic"] for one in (given.get("conditions") or {}).values() if "periodic" in one]
    return {
        "text": dict(given),
        "periodic": tuple(dict.fromkeys(map(str, [*_list(given.get("periodic", [])), *wrapped]))),
        "positive": tuple(map(str, _list(given.get("positive", [])))),
        "equation": str(given.get("equation") or "; ".join(map(str, _texts(given["equations"]).values()))),
        "kind": str(given.get("kind", "")),
        "labels": {key: tuple(map(str, _list(value))) for key, value in labels.items()},
    }


def _split(
    unknowns: Sequence[str], regions: Sequence[str], values: Callable[[Problem], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return outputs and form of unknowns with outputs of their own in each of some regions; nothing without one."""
    if not regions:
        return {}

    def ansatz(self: Problem, p: Coordinates, raw: Coordinates) -> dict[str, Any]:
        found, known = {one: getattr(raw, one) for one in unknowns}, values(self)
        for key in regions:
            within = known[key].inside(p)
            found = {one: torch.where(within, getattr(raw, one + key), other) for one, other in found.items()}
        return found

    return {"ansatz": ansatz, "outputs": (*unknowns, *(one + key for key in regions for one in unknowns))}


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


def _inner(given: Any) -> dict[str, Any]:
    """Read the texts of regions inside the domain, by name; raises UserError."""
    if not isinstance(given, Mapping):
        raise invalid("problem.regions", given, "regions by name, such as {core: 'Disk(radius=0.5)'}")
    return {str(name): one for name, one in given.items()}


def _is_split(conditions: Mapping[str, Any], region: str) -> bool:
    """Tell whether a condition says what is continuous over the boundary of a region."""
    return any("continuous" in one and region in _list(one.get("on")) for one in conditions.values())


def _reference(given: Mapping[str, Any], names: Names) -> dict[str, Formula]:
    """Read the formulas of the solution, by unknown; raises UserError for other names."""
    for one in given:
        if one not in names.unknowns:
            raise unknown_key(f"problem.reference.{one}", given[one], names.unknowns)
    return _formulas(given, replace(names, unknowns=()), "problem.reference")


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _texts(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {"": given}


def _unnamed(found: dict[str, Tensor]) -> Any:
    """Return the only value, where it has no name."""
    return found[""] if list(found) == [""] else found


def _formulas(given: Any, names: Names, where: str, *, equations: bool = True) -> dict[str, Formula]:
    """Read formulas by name; a single text has the name "" and so does not count as one of several."""
    found = {}
    for key, text in _texts(given).items():
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            raise invalid(f"{where}.{key}".rstrip("."), text, "a formula as text")
        key_of = f"{where}.{key}".rstrip(".")
        found[str(key)] = formula(str(text), names, key_of)
        parts = [found[str(key)].expression, *(one.integrand for _, one in found[str(key)].integrals)]
        if equations and names.unknowns and not names.hold(parts):
            raise UserError(f"{key_of}={text}: holds no unknown; they are {', '.join(names.unknowns)}")
        if equations and names.unknowns and len(sides_of(str(text))) == 1:
            caution(f"{key_of}={text}: has no '='; it is taken for {text} = 0")
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
        keys = INTEGRAL if "integral" in one else ("periodic",) if "periodic" in one else (*CONDITION, INTEGRAL[0])
        for key, value in one.items():
            if key not in keys:
                raise unknown_key(f"{where}.{key}", value, keys)
        if "integral" in one:
            makers.append(_integral(str(name), one, names, derivatives))
            continue
        if "periodic" in one:
            makers.append(_periodic(str(name), str(one["periodic"]), names, derivatives, domain))
            continue
        what = "continuous" if "continuous" in one else "equation"
        for key in ("on", what):
            if key not in one:
                raise UserError(f"{where}.{key}: missing; a condition needs on and equation, or periodic")
        parts = _formulas(one[what], names, f"{where}.{what}", equations=what == "equation")
        derivatives |= {found for part in parts.values() for found in part.derivatives}
        on = _support(one["on"], domain, where)
        if what == "continuous" and not all(name in names.regions or "=" in name for name in on):
            raise invalid(f"{where}.on", one["on"], "regions inside the domain, or planes such as 'x=0.5', by name")
        make = _both_sides if what == "continuous" else _maker
        makers.append(make(str(name), on, parts, _part(one, names, where)))
    return lambda coefficients: [make(coefficients) for make in makers], derivatives


def _integral(
    name: str, given: Mapping[str, Any], names: Names, derivatives: set[str]
) -> Callable[[Mapping[str, float]], Integral]:
    """Return what makes an integral condition, of `integral`, `equals`, `over` and `at`."""
    where = f"problem.conditions.{name}"
    f = formula(str(given["integral"]), names, f"{where}.integral")
    equals = formula(str(given.get("equals", 0)), replace(names, unknowns=(), regions=()), f"{where}.equals").expression
    over = tuple(map(str, _list(given["over"]))) if "over" in given else None
    left = [one for one in names.coordinates if over and set(over) <= set(names.coordinates) and one not in over]
    for one in sorted({*names.coordinates}.difference(left).intersection(map(str, equals.free_symbols))):
        what = f"a formula of {', '.join(left) or 'coefficients'}, as {one} is integrated over"
        raise invalid(f"{where}.equals", given["equals"], what)
    at = [number(one, {}, f"{where}.at") for one in _list(given["at"])] if "at" in given else None
    derivatives |= f.derivatives

    def make(coefficients: Mapping[str, float]) -> Integral:
        return Integral(name, lambda p: f(p, coefficients), lambda p: valued(equals, p, coefficients, {}), over, at)

    return make


def _maker(
    name: str, on: Any, parts: Mapping[str, Formula], where: Formula | None
) -> Callable[[Mapping[str, Any]], Condition]:
    def make(coefficients: Mapping[str, Any]) -> Condition:
        def residual(p: Point) -> Any:
            return _unnamed({key: part(p, coefficients) for key, part in parts.items()})

        supports = tuple(coefficients.get(one, one) for one in on) if isinstance(on, tuple) else on
        return Condition(name, supports, residual, where=_rule(where, coefficients))

    return make


def _both_sides(
    name: str, on: Any, parts: Mapping[str, Formula], where: Formula | None
) -> Callable[[Mapping[str, Any]], Condition]:
    """Return what makes a condition that its formulas have one value on both sides, along one normal."""

    def make(coefficients: Mapping[str, Any]) -> Condition:
        def residual(p: Point, q: Point) -> Any:
            q = q.turned()
            return _unnamed({key: part(p, coefficients) - part(q, coefficients) for key, part in parts.items()})

        supports = tuple(Interface(coefficients[one]) if one in coefficients else one for one in on)
        return Condition(name, supports, residual, where=_rule(where, coefficients))

    return make


def _rule(where: Formula | None, coefficients: Mapping[str, Any]) -> Callable[[Coordinates], Tensor] | None:
    return None if where is None else lambda p: where(p, coefficients) > 0


def _part(given: Mapping[str, Any], names: Names, where: str) -> Formula | None:
    """Read the part of its support that a condition holds on, a comparison, as 1 there and 0 elsewhere."""
    if "where" not in given:
        return None
    return formula(f"where({given['where']}, 1, 0)", replace(names, unknowns=()), f"{where}.where")


def _support(on: Any, domain: Region, where: str) -> Any:
    """Return pieces by name, or points from a mapping of coordinates to numbers, those left out free."""
    if isinstance(on, Mapping):
        for key in on:
            if key not in domain.names:
                raise unknown_choice(f"{where}.on", key, domain.names)
        points = Points(**{key: on[key] for key in domain.names if key in on})
        rest = {key: domain.interval(key) for key in domain.names if key not in on}
        return points * Box(**rest) if rest else points
    return tuple(map(str, _list(on)))


def _periodic(
    name: str, coordinate: str, names: Names, derivatives: set[str], domain: Region
) -> Callable[[Mapping[str, float]], Condition]:
    """Return what makes a condition of periodicity: of each unknown, and of its derivatives below the highest one."""
    if coordinate not in names.coordinates:
        raise unknown_choice(f"problem.conditions.{name}.periodic", coordinate, names.coordinates)
    highest = max((one.split("_").count(coordinate) for one in derivatives), default=1)
    compared = ["_".join([unknown] + [coordinate] * k) for unknown in names.unknowns for k in range(max(highest, 1))]

    def residual(p: Point, q: Point) -> dict[str, Tensor]:
        return {one: getattr(p, one) - getattr(q, one) for one in compared}

    faces = (one for one, piece in domain.pieces.items() if piece.across is not None)
    face = next((one for one in faces if one.endswith(f".{coordinate}-")), f"{coordinate}-")  # of a box with a name
    return lambda _: Condition(name, face, residual, periodic=coordinate)
