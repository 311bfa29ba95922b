"""Options declared once: a dataclass field with its default, its range and one line of help; and their checks."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import numbers
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from kanpinn.errors import DECIMAL, UserError, invalid, shown, unknown_choice, unknown_key

T = TypeVar("T")

_OPTION = "option"
"""Key of a field's metadata."""

_MOST_PARTS = 1000  # layers, levels, stages, terms
_WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    bool: ("true or false", "true or false each"),
    str: ("text", "texts"),
    type(None): ("null", "nulls"),
}


def decimal(text: str) -> float:
    """Return the finite number that a text of plain decimal digits spells; NaN for any other text."""
    return float(text) if DECIMAL.fullmatch(text) and math.isfinite(float(text)) else math.nan


@dataclasses.dataclass(frozen=True)
class Option:
    """Range and help of one option; the range holds for every number in a list or a mapping.

    Attributes:
        help: One line that explains it.
        at_least: Smallest value.
        above: Number below all values.
        at_most: Largest value.
        below: Number above all values.
        one_of: All values of a text.
    """

    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: tuple[str, ...] = ()

    def check(self, annotation: Any, value: Any, key: str) -> None:
        """Refuse a value of the annotated type that is outside the range, or has too many parts; raises UserError."""
        if isinstance(value, Mapping | list | tuple) and len(value) > _MOST_PARTS:
            raise UserError(f"{key}: {len(value):,} values; expected at most {_MOST_PARTS:,}.")
        if isinstance(value, Mapping):
            item = next(get_args(part)[1] for part in _parts(annotation) if _is_mapping(part))
            for name, entry in value.items():
                self.check(item, entry, f"{key}.{name}")
        elif any(map(self._outside, value if isinstance(value, list | tuple) else [value])):
            wrong = self.one_of and not isinstance(value, list | tuple)
            raise unknown_choice(key, value, self.one_of) if wrong else invalid(key, value, expected(annotation, self))

    def _outside(self, value: Any) -> bool:
        if isinstance(value, str):
            return bool(self.one_of) and value not in self.one_of
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (
            (self.at_least is not None and value < self.at_least)
            or (self.above is not None and value <= self.above)
            or (self.at_most is not None and value > self.at_most)
            or (self.below is not None and value >= self.below)
        )

    def range(self) -> str:
        """The range in words, such as "from 0 to below 1"."""
        low, high = (
            next((bound for bound in pair if bound is not None), None)
            for pair in ((self.at_least, self.above), (self.at_most, self.below))
        )
        to = "" if high is None else f"{'below ' if self.at_most is None else ''}{high:.15g}"
        if low is None:
            return "" if high is None else f"of at most {to}" if self.at_most is not None else to
        if high is None:
            return f"{'above' if self.at_least is None else 'of at least'} {low:.15g}"
        if self.at_least is not None:
            return f"from {low:.15g} to {to}"
        return f"between {low:.15g} and {high:.15g}" if self.at_most is None else f"above {low:.15g} and up to {to}"


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    factory: Callable[[], Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: Collection[str] = (),
) -> Any:
    """Declare a field of a dataclass of options.

    Args:
        default: Its default, a copy of it if it is a list or a dict; none for an option that must be given.
        help: One line that explains it.
        factory: Makes the default, if that is another dataclass of options.
        at_least: Smallest value.
        above: Number below all values.
        at_most: Largest value.
        below: Number above all values.
        one_of: All values of a text.
    """
    metadata = {_OPTION: Option(help, at_least, above, at_most, below, tuple(one_of))}
    if isinstance(default, list | dict):
        factory = functools.partial(copy.deepcopy, default)
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Options:
    """Dataclass of options: type and range of each value are checked when an instance is made."""

    key: ClassVar[str] = ""
    """Dotted key of its mapping in a config."""

    def __post_init__(self) -> None:
        prefix = f"{self.key}." if self.key else ""
        hints = type_hints(type(self))
        for name, declared in declared_options(type(self)).items():
            value = conform(hints[name], getattr(self, name), f"{prefix}{name}")
            declared.check(hints[name], value, f"{prefix}{name}")
            object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Refuse values that are right one by one and wrong together; raises UserError."""


@functools.cache
def type_hints(cls: type[Any]) -> dict[str, Any]:
    """Types of a dataclass's fields by name; `Any` where an annotation names what only its function knows."""
    try:
        return get_type_hints(cls)
    except NameError:
        known = {field.name: field.type for field in dataclasses.fields(cls)}
        simple = {"int": int, "float": float, "bool": bool, "str": str}
        return {name: simple.get(kind, Any) if isinstance(kind, str) else kind for name, kind in known.items()}


@functools.cache
def declared_options(cls: type[Any]) -> dict[str, Option]:
    """The options of a dataclass by name."""
    return {field.name: field.metadata[_OPTION] for field in dataclasses.fields(cls) if _OPTION in field.metadata}


def expected(annotation: Any, declared: Option) -> str:
    """Type and range of an option in words, such as "null or a number above 0"."""
    parts, words = _parts(annotation), []
    for part in sorted(parts, key=lambda part: part is not type(None)):
        items = get_args(part)
        if part is str and declared.one_of:
            words.append("one of " + ", ".join(declared.one_of))
        elif part in (int, float) and declared.range():
            words.append(f"{'a whole number' if part is int else 'a number'} {declared.range()}")
        elif (_is_sequence(part) or _is_mapping(part)) and items and items[-1] in parts:
            words.append("a list of them" if _is_sequence(part) else "a mapping of names to them")
        elif (_is_sequence(part) or _is_mapping(part)) and items and items[-1] in (int, float) and declared.range():
            numbers = f"{describe(items[-1], many=True).removeprefix('finite ')} {declared.range()}"
            words.append(f"a list of {numbers}" if _is_sequence(part) else f"a mapping of names to {numbers}")
        else:
            words.append(describe(part))
    return " or ".join(words)


def _parts(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def explained(cls: type[Any], key: str) -> Iterator[tuple[str, str, str]]:
    """Yield the dotted key, type and range in words, and help of each option, those of options within it included."""
    for name, declared in declared_options(cls).items():
        full, hint = f"{key}.{name}" if key else name, type_hints(cls)[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from explained(hint, full)
        else:
            yield full, expected(hint, declared), declared.help


def build(cls: type[T], values: Mapping[str, Any], key: str) -> T:
    """Make a dataclass of config values, each checked against its field's annotation.

    Args:
        cls: The dataclass; `Options` checks ranges itself.
        values: Plain values by field name.
        key: The dotted key of the mapping, "" for the top level; names the place in messages.

    Returns:
        The instance, whole numbers turned into floats and lists into tuples where the annotation asks for it.

    Raises:
        UserError: If a key is unknown or missing, or a value has the wrong type or range.
    """
    prefix = f"{key}." if key else ""
    fields = {field.name: field for field in dataclasses.fields(cast(Any, cls)) if field.init}
    for name, value in values.items():
        if name not in fields:
            raise unknown_key(f"{prefix}{name}", value, fields)
    hints = type_hints(cls)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"{prefix}{name}: missing; expected {describe(hints[name])}.")
    arguments = {name: conform(hints[name], value, f"{prefix}{name}") for name, value in values.items()}
    try:
        return cls(**arguments)
    except UserError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{key}: {' '.join(str(error).split())}") from error


def describe(annotation: Any, many: bool = False) -> str:
    """An annotation in words, such as "a list of whole numbers or null"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part, many) for part in arguments)
    if origin is Literal:
        return "one of " + ", ".join(shown(choice) for choice in arguments)
    if _is_sequence(annotation):
        items = [part for part in arguments if part is not Ellipsis]
        return ("lists" if many else "a list") + (f" of {describe(items[0], many=True)}" if items else "")
    if _is_mapping(annotation) or dataclasses.is_dataclass(annotation):
        return "mappings" if many else "a mapping of keys to values"
    if annotation is Any:
        return "values" if many else "a value"
    if annotation in _WORDS:
        return _WORDS[annotation][many]
    return getattr(annotation, "__name__", str(annotation))


def conform(annotation: Any, value: Any, key: str) -> Any:
    """Return a plain value in the type that an annotation asks for, whatever it holds inside.

    Unions, literals, lists, tuples, mappings and dataclasses are followed inside.

    Raises:
        UserError: If the value does not fit; names its full dotted key.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or isinstance(annotation, TypeVar):
        return value
    if origin in (Union, types.UnionType):
        return _conform_union(annotation, value, key)
    if origin is Literal:
        if isinstance(value, str | int | None) and any(value == c and type(value) is type(c) for c in arguments):
            return value
        raise unknown_choice(key, value, (shown(choice) for choice in arguments))
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if isinstance(value, annotation):
            return value
        if not isinstance(value, Mapping):
            raise invalid(key, value, describe(annotation))
        return build(annotation, value, key)
    if _is_sequence(annotation):
        return _conform_sequence(annotation, value, key)
    if _is_mapping(annotation):
        if not isinstance(value, Mapping):
            raise invalid(key, value, describe(annotation))
        item = arguments[1] if len(arguments) == 2 else Any
        return {str(name): conform(item, entry, f"{key}.{name}") for name, entry in value.items()}
    return _conform_scalar(annotation, value, key)


def _is_sequence(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Sequence) and kind is not str


def _is_mapping(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _conform_union(annotation: Any, value: Any, key: str) -> Any:
    """Take the first part of a union that fits; a part of the value's own kind explains why none does."""
    explained: UserError | None = None
    for part in get_args(annotation):
        try:
            return conform(part, value, key)
        except UserError as error:
            same_kind = (_is_sequence(part) and isinstance(value, list | tuple)) or (
                isinstance(value, Mapping) and (_is_mapping(part) or dataclasses.is_dataclass(part))
            )
            if same_kind or get_origin(part) is Literal:
                explained = explained or error
    raise explained or _wrong(annotation, value, key)


def _conform_sequence(annotation: Any, value: Any, key: str) -> Any:
    arguments = get_args(annotation)
    if not isinstance(value, list | tuple):
        raise invalid(key, value, describe(annotation))
    is_tuple = (get_origin(annotation) or annotation) is tuple
    if is_tuple and arguments and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise invalid(key, value, f"a list of {len(arguments)} values")
        parts = list(arguments)
    else:
        parts = [arguments[0] if arguments else Any] * len(value)
    try:
        items = [conform(part, item, key) for part, item in zip(parts, value, strict=True)]
    except UserError as error:
        raise _wrong(annotation, value, key) from error
    return tuple(items) if is_tuple else items


def _conform_scalar(annotation: Any, value: Any, key: str) -> Any:
    if annotation not in (int, float):
        if not isinstance(annotation, type) or isinstance(value, annotation):
            return value
        raise invalid(key, value, describe(annotation))
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):  # numpy's too
        if not -(2**63) <= int(value) < 2**63:
            raise invalid(key, value, f"{describe(annotation)} between -2^63 and 2^63")
        return annotation(int(value))
    if annotation is float and isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise _wrong(annotation, value, key)


def _wrong(annotation: Any, value: Any, key: str) -> UserError:
    """The error of a value of the wrong type; numbers in quotes are shown with them."""
    words = describe(annotation)
    quoted = [item for item in (value if isinstance(value, list | tuple) else [value]) if isinstance(item, str)]
    if "number" in words and any(map(DECIMAL.fullmatch, quoted)):
        return invalid(
            key,
            value if isinstance(value, list | tuple) else f"'{value}'",
            f"{words}; a number in quotes is text, write it without them",
        )
    return invalid(key, value, words)
