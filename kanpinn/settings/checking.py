"""Strict checks of plain config values against the annotated fields of a dataclass, one clear line per mistake."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kanpinn.errors import UserError, invalid, unknown_choice

T = TypeVar("T")

_WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    bool: ("true or false", "true or false each"),
    str: ("text", "texts"),
    type(None): ("null", "nulls"),
}


def shown(value: Any) -> str:
    """A value as it is written in a config: null, true, [5,5]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(shown(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    return str(value)


def nearest(key: str, valid: Iterable[str], others: Iterable[str] = ()) -> str | None:
    """The full dotted key most like `key`.

    Args:
        key: The full dotted key the user gave.
        valid: Last parts that would have been valid in its place.
        others: Full dotted keys elsewhere, for a key written in the wrong place; they count a little less.

    Returns:
        The nearest key, or None if none is alike.
    """
    prefix, dot, last = key.rpartition(".")
    scored = [(_likeness(last, name), f"{prefix}{dot}{name}") for name in valid]
    scored += [(0.95 * _likeness(last, other.rpartition(".")[2]), other) for other in others if other != key]
    score, best = max(scored, default=(0.0, ""))
    return best if score >= 0.6 else None


def _likeness(word: str, other: str) -> float:
    return difflib.SequenceMatcher(None, word.lower(), other.lower()).ratio()


def unknown_key(key: str, value: Any, valid: Iterable[str], others: Iterable[str] = ()) -> UserError:
    """Build the error for a key that does not exist, nearest valid one first.

    Args:
        key: The full dotted key the user gave.
        value: Its value.
        valid: The keys that would have been valid in its place, without the dotted prefix.
        others: Full dotted keys elsewhere in the config, for a key written in the wrong place.

    Returns:
        The error, to be raised by the caller.
    """
    prefix = key.rpartition(".")[0]
    names = sorted(valid)
    hint = nearest(key, names, others)
    advice = f" Did you mean '{hint}'?" if hint else ""
    listed = f" Valid keys{' of ' + prefix if prefix else ''}: {', '.join(names)}." if names else ""
    return UserError(f"{key}={shown(value)[:80]}: unknown key.{advice}{listed}")


def build(cls: type[T], values: Mapping[str, Any], key: str) -> T:
    """Make a dataclass of config values, each checked against its field's annotation.

    Args:
        cls: The dataclass; its own `__post_init__` checks ranges.
        values: Plain values by field name.
        key: The dotted key of the mapping, "" for the top level; names the place in messages.

    Returns:
        The instance, whole numbers turned into floats and lists into tuples where the annotation asks for it.

    Raises:
        UserError: If a key is unknown or missing, or a value has the wrong type or range.
    """
    prefix = f"{key}." if key else ""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in fields:
            raise unknown_key(f"{prefix}{name}", value, fields)
    hints = get_type_hints(cls)
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
    """Check one value against an annotation.

    Args:
        annotation: The type wanted; unions, literals, lists, tuples, mappings and dataclasses are followed inside.
        value: The plain value.
        key: Its full dotted key, for messages.

    Returns:
        The value, in the type asked for.

    Raises:
        UserError: If the value does not fit.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or isinstance(annotation, TypeVar):
        return value
    if origin in (Union, types.UnionType):
        return _conform_union(annotation, value, key)
    if origin is Literal:
        if isinstance(value, str | int | None) and any(value == c and type(value) is type(c) for c in arguments):
            return value
        raise unknown_choice(key, shown(value), (shown(choice) for choice in arguments))
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if not isinstance(value, Mapping):
            raise invalid(key, shown(value), describe(annotation))
        return build(annotation, value, key)
    if _is_sequence(annotation):
        return _conform_sequence(annotation, value, key)
    if _is_mapping(annotation):
        if not isinstance(value, Mapping):
            raise invalid(key, shown(value), describe(annotation))
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
    raise explained or invalid(key, shown(value), describe(annotation))


def _conform_sequence(annotation: Any, value: Any, key: str) -> Any:
    arguments = get_args(annotation)
    if not isinstance(value, list | tuple):
        raise invalid(key, shown(value), describe(annotation))
    is_tuple = (get_origin(annotation) or annotation) is tuple
    if is_tuple and arguments and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise invalid(key, shown(value), f"a list of {len(arguments)} values")
        parts = list(arguments)
    else:
        parts = [arguments[0] if arguments else Any] * len(value)
    try:
        items = [conform(part, item, key) for part, item in zip(parts, value, strict=True)]
    except UserError as error:
        raise invalid(key, shown(value), describe(annotation)) from error
    return tuple(items) if is_tuple else items


def _conform_scalar(annotation: Any, value: Any, key: str) -> Any:
    fits = isinstance(value, annotation) if isinstance(annotation, type) else True
    if annotation in (int, float) and isinstance(value, bool):
        fits = False
    elif annotation is float and isinstance(value, int) and abs(value) < 2**63:
        value, fits = float(value), True
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise invalid(key, shown(value), f"{describe(annotation)} between -2^63 and 2^63")
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise invalid(key, shown(value), describe(annotation))
    return value
